"""What happened, and "This wasn't me" (bars 25, 31 and 33)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core import activity, clock, postman
from core.db import db, unit_of_work
from models import Message
from tests import crawl, factors
from tests.conftest import Portal
from tests.dashboard.told import announced, letters
from tests.page import FRAGMENT, Page, Visitor


def last_sign_in(visitor: Visitor) -> str:
    links = visitor.get("/activity?kind=sign-in").select("main a[href*='/not-me/']")
    return str(links[0].get("href"))


def report(portal: Portal, visitor: Visitor) -> Page:
    path = last_sign_in(visitor)
    return visitor.submit(visitor.get(path), path)


def test_events_stand_in_words_with_device_and_address(portal: Portal) -> None:
    visitor = Visitor(portal.app)
    visitor.client.environ_base["HTTP_USER_AGENT"] = "Mozilla/5.0 (Windows NT 10.0) Firefox/120"
    visitor.sign_in("alice")
    page = visitor.get("/activity")
    assert "Signed in" in page.text
    assert "Firefox on Windows" in page.text
    assert "127.0.0.1" in page.text
    assert "Payment of $105.56 received" in page.text
    assert "Account 1001" in page.text


@pytest.mark.parametrize(
    ("kind", "shown", "hidden"),
    [
        ("money", "Payment of", "Signed in"),
        ("sign-in", "Signed in", "Payment of"),
        ("changes", "Name changed", "Signed in"),
        ("staff", "Nothing of this kind", "Signed in"),
    ],
)
def test_list_is_filtered_by_kind(portal: Portal, kind: str, shown: str, hidden: str) -> None:
    crawl.prepare(portal)
    rows = portal.visitor("alice").get(f"/activity?kind={kind}", headers=FRAGMENT)
    assert shown in rows.text
    assert hidden not in rows.text.replace("Signing in", "")


def test_role_decides_which_events_of_an_account_are_seen(portal: Portal) -> None:
    assert "Payment of" in portal.visitor("vera").get("/activity").text
    theo = portal.visitor("theo").get("/activity")
    assert "Payment of" not in theo.text
    assert "$" not in theo.text
    mallory = portal.visitor("mallory").get("/activity?kind=money")
    assert "Account 1001" not in mallory.text


def test_what_happens_to_contacts_is_read_by_the_owner_alone(portal: Portal) -> None:
    account_id, alice = portal.world.accounts["alice"], portal.world.customers["alice"]
    event = activity.Event("contact_added", clock.now(), account_id=account_id, customer_id=alice)
    with portal.app.app_context():
        unit_of_work(lambda session: activity.record(session, [event]))
    portal.app.extensions["remembered"].forget()
    for who in ("alice", "bob", "vera", "theo"):
        visitor = portal.visitor(who)
        for path in (portal.path(), "/activity"):
            assert ("way to reach you" in visitor.get(path).text) == (who == "alice"), (who, path)


def test_removed_membership_hides_the_account_with_the_next_request(portal: Portal) -> None:
    bob = portal.visitor("bob")
    assert "Payment of" in bob.get("/activity").text
    portal.execute("DELETE FROM memberships WHERE customer_id = 2")
    assert "Payment of" not in bob.get("/activity").text


def test_nobody_sees_the_sign_ins_of_others_on_the_account(portal: Portal) -> None:
    bob, alice = portal.visitor("bob"), portal.visitor("alice")
    assert len(alice.get("/activity?kind=sign-in").select("main .rows li")) == 1
    assert bob.get(last_sign_in(alice)).status in (200, 404)
    assert len(bob.get("/activity?kind=sign-in").select("main .rows li")) == 1


# This wasn't me -----------------------------------------------------------------------------------


def test_page_says_what_will_happen_and_changes_nothing(portal: Portal) -> None:
    alice = portal.visitor("alice")
    path = last_sign_in(alice)
    differs = crawl.watch(portal.app)
    page = alice.get(path)
    assert "signed out everywhere" in page.text
    assert differs() == set()


def test_report_ends_all_sessions_and_disables_the_password(portal: Portal) -> None:
    alice, other = portal.visitor("alice"), portal.visitor("alice")
    assert report(portal, alice).location == "/sign-in?done=not-me"
    for visitor in (alice, other):
        assert visitor.get(portal.path()).location.startswith("/sign-in")
    assert portal.one("SELECT password_disabled_at IS NOT NULL FROM customers WHERE id = 1")
    assert announced(portal, "not_me_reported") == ["alice@example.net"]


@pytest.mark.parametrize("channel", ["email", "text"])
def test_message_with_the_link_says_what_was_closed(portal: Portal, channel: str) -> None:
    if channel == "text":
        factors.give_phone(portal, "alice")
        portal.execute("UPDATE contacts SET ended_on = '2026-01-01' WHERE kind = 'email'")
    report(portal, portal.visitor("alice"))
    with portal.app.app_context():
        message = db.session.query(Message).filter_by(kind="reported_link").one()
        sent = postman.compose(message, portal.settings.public_url)
    assert (message.channel, "/recover/link/" in sent.text) == (channel, True)
    assert "opens nothing" in sent.text
    assert "nothing changes" not in sent.text
    assert letters(portal, "recover_link") == []


def test_isp_is_told_once_however_often_it_is_pressed(portal: Portal) -> None:
    alice = portal.visitor("alice")
    path = last_sign_in(alice)
    page = alice.get(path)
    cookie = alice.cookies()["session"]
    for _ in range(3):
        alice.submit(page, path)
        alice.client.set_cookie("session", cookie, domain="127.0.0.1")
    [(recipient, facts)] = letters(portal, "not_me")
    assert recipient == "help@pinecrest.example"
    assert (facts["sign_in_id"], facts["event"]) == ("alice", "signed_in")
    assert portal.one("SELECT count(*) FROM activity WHERE kind = 'not_me_reported'") == 1


@pytest.mark.parametrize(("days", "counts"), [(-1, True), (1, False)])
def test_factor_that_was_confirmed_since_counts_no_more(
    portal: Portal, days: int, counts: bool
) -> None:
    alice = portal.visitor("alice")
    portal.execute(
        "INSERT INTO factors (public_id, customer_id, kind, name, created_at, confirmed_at)"
        " VALUES ('f', 1, 'totp', '', :at, :at)",
        at=(clock.now() + timedelta(days=days)).replace(tzinfo=None),
    )
    report(portal, alice)
    assert bool(portal.one("SELECT confirmed_at IS NOT NULL FROM factors")) is counts


def test_event_of_another_is_no_event(portal: Portal) -> None:
    crawl.prepare(portal)
    mallory = portal.visitor("mallory")
    path = crawl.addresses(portal, "alice")["activity.not_me"]
    for address in (path, *(f"/activity/not-me/{stamp}" for stamp in ("0", "x", "9" * 40))):
        assert mallory.get(address).status == 404
    guard = crawl.token_of(mallory)
    differs = crawl.watch(portal.app)
    assert mallory.post(path, guard).status == 404
    assert differs() == set()
