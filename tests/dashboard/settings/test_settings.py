"""Name, language, time zone and password."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core import clock
from tests.conftest import Portal
from tests.dashboard.told import announced, events
from tests.page import FRAGMENT, Visitor
from tests.world import PASSWORD

NEW = "amber-violin-thursday-9"


def test_every_signed_in_page_leads_to_the_settings(portal: Portal) -> None:
    alice = portal.visitor("alice")
    for path in (portal.path(), portal.path("billing/"), "/accounts", "/settings/", "/help"):
        assert [link.get("href") for link in alice.get(path).select(".side a.mine")] == [
            "/settings/"
        ]


def test_index_shows_what_is_set_and_leads_to_each_page(portal: Portal) -> None:
    page = portal.visitor("alice").get("/settings/")
    assert "English" in page.text
    assert "That of Pinecrest Broadband" in page.text
    links = [link.get("href") for link in page.select("main a")]
    for path in ("name", "language", "time-zone", "password"):
        assert f"/settings/{path}" in links
        assert portal.visitor("alice").get(f"/settings/{path}").status == 200


def test_new_name_stands_on_every_page(portal: Portal) -> None:
    alice = portal.visitor("alice")
    done = alice.submit(alice.get("/settings/name"), "/name", name="  Alice Ann ")
    assert done.location == "/settings/?done=name"
    assert "Alice Ann" in alice.get(done.location).text
    assert portal.one("SELECT name FROM customers WHERE id = 1") == "Alice Ann"
    assert events(portal) == ["name_changed"]


@pytest.mark.parametrize("typed", ["", "   ", "a\tb", "x" * 201])
def test_name_that_is_none_is_refused_and_kept_in_the_form(portal: Portal, typed: str) -> None:
    alice = portal.visitor("alice")
    page = alice.submit(alice.get("/settings/name"), "/name", name=typed)
    assert page.status == 422
    assert page.select("[role=alert] a[href='#name']")
    assert page.form("/name")[1]["name"] == typed.strip()
    assert portal.one("SELECT name FROM customers WHERE id = 1") == "Alice"


def test_chosen_language_counts_at_once_and_in_messages(portal: Portal) -> None:
    alice = portal.visitor("alice")
    done = alice.submit(alice.get("/settings/language"), "/language", language="fr")
    assert alice.get(done.location).tree.get("lang") == "fr"
    assert portal.one("SELECT language FROM customers WHERE id = 1") == "fr"
    refused = alice.submit(alice.get("/settings/language"), "/language", language="xx")
    assert refused.status == 422


def test_times_are_shown_in_the_chosen_zone(portal: Portal) -> None:
    alice = portal.visitor("alice", own_device="y")
    before = alice.get(portal.path()).text
    assert "12:00" in before.replace(" ", " ")
    page = alice.get("/settings/time-zone?region=Europe")
    assert alice.submit(page, "/time-zone", time_zone="Europe/Madrid").status == 303
    assert "9:00" in alice.get(portal.path()).text  # 19:00 UTC in summer
    assert "Europe/Madrid" in alice.get("/settings/").text
    back = alice.get("/settings/time-zone")
    action, values = back.form("/time-zone")
    assert alice.post(action, values | {"time_zone": ""}).status == 303
    assert portal.one("SELECT timezone FROM customers WHERE id = 1") is None


@pytest.mark.parametrize("zone", ["Mars/Base", "../etc/passwd", "America/", "UTC0", "x" * 300])
def test_zone_that_there_is_not_is_refused(portal: Portal, zone: str) -> None:
    alice = portal.visitor("alice")
    page = alice.submit(alice.get("/settings/time-zone"), "/time-zone", time_zone=zone)
    assert page.status == 422
    assert portal.one("SELECT timezone FROM customers WHERE id = 1") is None


# Password ---------------------------------------------------------------------------------------


def change(visitor: Visitor, to: str = NEW) -> None:
    done = visitor.submit(visitor.get("/settings/password"), "/password", password=to)
    assert done.location == "/settings/?done=password"


def test_new_password_counts_and_the_old_one_does_not(portal: Portal) -> None:
    alice = portal.visitor("alice")
    change(alice)
    assert alice.get("/settings/").status == 200
    assert portal.visitor().sign_in("alice", NEW).status == 303
    assert portal.visitor().sign_in("alice", PASSWORD).status == 422


def test_new_password_ends_all_other_sessions_and_is_announced(portal: Portal) -> None:
    alice, elsewhere = portal.visitor("alice"), portal.visitor("alice")
    change(alice)
    assert elsewhere.get(portal.path()).location.startswith("/sign-in")
    assert events(portal) == ["password_changed"]
    assert announced(portal, "password_changed") == ["alice@example.net"]
    assert NEW not in str(portal.rows("SELECT facts FROM messages"))


def test_new_password_ends_recoveries_and_links(portal: Portal) -> None:
    alice = portal.visitor("alice")
    for table, columns, values in (
        (
            "flows",
            "kind, step, csrf_secret, subject, facts",
            "'recover', 'code', :token, :token, '{}'",
        ),
        ("one_time_links", "purpose", "'reset'"),
    ):
        portal.execute(
            f"INSERT INTO {table} (token_hash, customer_id, created_at, expires_at, {columns})"
            f" VALUES (:token, 1, :now, :then, {values})",
            token=b"t" * 32,
            now=clock.now().replace(tzinfo=None),
            then=(clock.now() + timedelta(hours=1)).replace(tzinfo=None),
        )
    change(alice)
    for table in ("flows", "one_time_links"):
        assert portal.one(f"SELECT count(*) FROM {table} WHERE ended_at IS NULL") == 0


@pytest.mark.parametrize("weak", ["short", "password123", "alice@example.net", "pinecrest-1001"])
def test_weak_password_is_refused_with_its_reason(portal: Portal, weak: str) -> None:
    alice = portal.visitor("alice")
    page = alice.submit(alice.get("/settings/password"), "/password", password=weak)
    assert page.status == 422
    assert page.select("#password-error")
    assert weak not in page.response.text.replace('value="alice"', "")


def test_hint_says_what_the_isp_requires(portal: Portal) -> None:
    alice = portal.visitor("alice")
    assert "a long phrase" in alice.get("/settings/password").text
    portal.execute("UPDATE isp SET requires_mixed_password = true, revision = revision + 1")
    assert "a long phrase" not in alice.get("/settings/password").text


def test_password_is_asked_for_before_it_is_changed(portal: Portal, tick: object) -> None:
    alice = portal.visitor("alice")
    tick(minutes=11)  # type: ignore[operator]
    asked = alice.get("/settings/password")
    assert asked.location == "/confirm?next=%2Fsettings%2Fpassword"
    page = alice.submit(alice.get(asked.location), "/confirm", password=PASSWORD)
    assert page.location == "/settings/password"
    change(alice)


def test_form_sent_twice_counts_once(portal: Portal) -> None:
    alice = portal.visitor("alice")
    page = alice.get("/settings/password")
    for _ in range(2):
        done = alice.submit(page, "/password", password=NEW)
        assert done.location == "/settings/?done=password"
    assert events(portal) == ["password_changed"]
    assert len(announced(portal, "password_changed")) == 1


def test_line_beneath_the_field_judges_what_is_being_typed(portal: Portal) -> None:
    alice = portal.visitor("alice")
    _action, values = alice.get("/settings/password").form("/password")
    for typed, says in (("alice-alice-alice", "Leave out your name"), (NEW, "hard to guess")):
        line = alice.post(
            "/settings/password/strength", values | {"password": typed}, headers=FRAGMENT
        )
        assert says in line.text
        assert len(line.response.data) < 300
