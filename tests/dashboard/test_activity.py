"""What happened, and "This wasn't me" (bars 25, 31 and 33)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from blueprints.auth import reach, recovery_codes
from core import activity, clock, postman
from core.db import db, unit_of_work
from models import Message
from tests import crawl, factors
from tests.conftest import Portal
from tests.dashboard.told import announced, letters
from tests.page import FRAGMENT, Page, Visitor

NEW = "brisk-harbour-comet-83"


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


FACTORS = "SELECT count(*) FROM factors WHERE confirmed_at IS NOT NULL"
CODES = "SELECT count(*) FROM recovery_codes WHERE confirmed_at IS NOT NULL"


def give_codes(portal: Portal, days: int) -> None:
    """Let alice have a recovery code that was confirmed so many days from now."""
    portal.execute(
        "INSERT INTO recovery_codes (customer_id, code_hash, created_at, confirmed_at)"
        " VALUES (1, :hash, :at, :at)",
        hash=f"{days:032}".encode(),
        at=(clock.now() + timedelta(days=days)).replace(tzinfo=None),
    )


@pytest.mark.parametrize(("days", "counts"), [(-31, True), (-29, False), (1, False)])
def test_factors_and_codes_of_late_count_no_more(portal: Portal, days: int, counts: bool) -> None:
    factors.give_app(portal, "alice")
    before = (clock.now() - timedelta(days=400)).replace(tzinfo=None)
    portal.execute("UPDATE factors SET confirmed_at = :at", at=before)
    for number in range(2):
        portal.execute(
            "INSERT INTO factors (public_id, customer_id, kind, name, created_at, confirmed_at)"
            " VALUES (:id, 1, 'passkey', '', :at, :at)",
            id=f"f{number}",
            at=(clock.now() + timedelta(days=days)).replace(tzinfo=None),
        )
    give_codes(portal, -400)
    give_codes(portal, days)
    report(portal, portal.visitor("alice"))
    assert (portal.one(FACTORS), portal.one(CODES)) == ((3, 2) if counts else (1, 1))


def test_recovery_codes_go_with_the_last_factor(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    give_codes(portal, -400)
    report(portal, portal.visitor("alice"))
    assert (portal.one(FACTORS), portal.one(CODES)) == (0, 0)


@pytest.mark.parametrize("way", ["app", "recovery code"])
def test_what_was_given_at_the_reported_sign_in_counts_no_more(portal: Portal, way: str) -> None:
    factors.give_app(portal, "alice")
    factors.give_email(portal, "alice")
    before = (clock.now() - timedelta(days=400)).replace(tzinfo=None)
    portal.execute("UPDATE factors SET confirmed_at = :at", at=before)
    alice = factors.half_way(portal, "alice")
    if way == "app":
        factors.give_code(alice, factors.app_code())
    else:
        with portal.app.app_context():
            secret = portal.settings.secret
            code = recovery_codes.make(portal.world.customers["alice"], secret).codes[0]
        portal.execute("UPDATE recovery_codes SET confirmed_at = :at", at=before)
        factors.give_code(alice, code, by="recovery")
    give_codes(portal, -400)
    report(portal, alice)
    kinds = portal.rows("SELECT kind FROM factors ORDER BY id")
    if way == "app":
        assert (kinds, portal.one(CODES)) == ([("email",)], 1)
    else:
        assert (kinds, portal.one(CODES)) == ([("totp",), ("email",)], 0)


def test_who_cannot_be_written_to_is_told_to_call_before_and_after(portal: Portal) -> None:
    portal.execute("UPDATE contacts SET since_on = :day", day=clock.now().date())
    portal.execute("UPDATE accounts SET opened_on = '2020-01-01'")
    alice = portal.visitor("alice")
    path = last_sign_in(alice)
    page = alice.get(path)
    phone = page.select("main .notice a[href^='tel:']")
    assert phone
    assert "We write to the contacts" not in page.text
    after = alice.submit(page, path)
    assert after.location == "/sign-in?done=not-me-unreached"
    shown = alice.get(after.location)
    assert "We have written to you" not in shown.text
    assert shown.select(".notice a[href^='tel:']")
    assert letters(portal, "reported_link") == []


def test_who_is_written_to_is_not_told_to_call(portal: Portal) -> None:
    alice = portal.visitor("alice")
    page = alice.get(last_sign_in(alice))
    assert "We write to the contacts" in page.text
    assert "have to call us" not in page.text
    assert "We have written to you" in alice.get(report(portal, alice).location).text


@pytest.mark.parametrize("event", ["not_me_reported", "password_disabled"])
def test_message_leads_who_cannot_sign_in_to_recovery(portal: Portal, event: str) -> None:
    with portal.app.app_context():
        unit_of_work(
            lambda session: reach.announce(session, portal.world.customers["alice"], event)
        )
        message = db.session.query(Message).filter_by(kind="security").one()
        sent = postman.compose(message, portal.settings.public_url)
    for text in (sent.text, sent.html or ""):
        assert "/recover" in text
        assert "sign in and say so" not in text
        assert "nothing to do" not in text
        assert "/activity" not in text


def test_after_recovery_the_second_steps_that_count_are_shown(portal: Portal) -> None:
    factors.give_app(portal, "alice")
    before = (clock.now() - timedelta(days=400)).replace(tzinfo=None)
    portal.execute("UPDATE factors SET confirmed_at = :at, created_at = :at", at=before)
    report(portal, portal.visitor("alice"))
    [(_to, facts)] = letters(portal, "reported_link")
    path, visitor = f"/recover/link/{facts['token']}", portal.visitor()
    form = visitor.get(path)
    for _ in range(2):  # the answer to the first one was lost
        done = visitor.submit(form, path, password=NEW)
        assert done.location.startswith("/sign-in?done=password-reset-check")
    page = visitor.get(done.location)
    assert "which second steps still count" in page.text
    page = visitor.submit(page, "/sign-in", sign_in_id="alice", password=NEW)
    assert page.location == "/sign-in/second-step"
    page = factors.give_code(visitor, factors.app_code())
    assert page.location == "/settings/second-step?done=check"
    shown = visitor.get(page.location)
    assert "remove each that you do not know" in shown.text
    assert f"{before.day}" in shown.text
    assert f"{before.year}" in shown.text


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
