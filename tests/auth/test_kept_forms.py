"""A form posted after the session ran out waits for its owner (bar 39)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core import clock, kept_forms, sessions
from core.db import unit_of_work
from tests import crawl
from tests.conftest import Portal
from tests.page import Page, Visitor
from tests.world import PASSWORD

Tick = Callable[..., None]
TYPED = {"choice": "other", "amount": "12.34"}


@pytest.fixture
def visitor(portal: Portal, tick: Tick) -> Visitor:
    """Alice, whose session ran out over the pay form, which she then sent."""
    visitor = portal.visitor("alice")
    page = visitor.get(portal.path("billing/pay"))
    tick(hours=2)
    page = visitor.submit(page, "/billing/pay", **TYPED, password="sesame-77", code="sesame-77")
    assert page.status == 303
    assert page.location.startswith("/sign-in?")
    assert "done=expired" in page.location
    return visitor


def shown(page: Page) -> dict[str, str]:
    _, values = page.form("/billing/pay")
    return {name: values[name] for name in TYPED}


def pays_nothing(portal: Portal) -> bool:
    return bool(portal.one("SELECT count(*) FROM payments WHERE state <> 'succeeded'") == 0)


def test_next_sign_in_leads_to_the_filled_form_and_sends_nothing(
    portal: Portal, visitor: Visitor
) -> None:
    page = visitor.sign_in("alice")
    assert page.location == portal.path("billing/pay")
    page = visitor.get(page.location)
    assert shown(page) == TYPED
    assert pays_nothing(portal)
    assert visitor.submit(page, "/billing/pay").status == 303
    assert not pays_nothing(portal)


def test_form_waits_also_when_sign_in_was_to_lead_elsewhere(
    portal: Portal, visitor: Visitor
) -> None:
    page = visitor.sign_in("alice", next=portal.path("billing/invoices/"))
    assert page.location == portal.path("billing/pay")


def test_form_waits_through_a_wrong_password(portal: Portal, visitor: Visitor, tick: Tick) -> None:
    assert visitor.sign_in("alice", "wrong-lantern-orbit").status == 422
    tick(minutes=1)
    assert shown(visitor.get(visitor.sign_in("alice").location)) == TYPED


def test_form_that_was_sent_is_not_shown_again(portal: Portal, visitor: Visitor) -> None:
    page = visitor.get(visitor.sign_in("alice").location)
    assert visitor.submit(page, "/billing/pay", amount="0").status == 422
    page = visitor.get(portal.path("billing/pay"))
    assert shown(page) != TYPED
    assert portal.one("SELECT count(*) FROM sessions WHERE kept_form IS NOT NULL") == 0


def test_another_customer_sees_nothing_of_it_and_ends_it(portal: Portal, visitor: Visitor) -> None:
    page = visitor.sign_in("bob")  # who may pay on the same account
    assert page.location == portal.path()
    assert shown(visitor.get(portal.path("billing/pay"))) != TYPED
    assert portal.one("SELECT count(*) FROM sessions WHERE kept_form IS NOT NULL") == 0
    assert visitor.sign_in("alice").location == portal.path()


def test_another_browser_of_the_customer_sees_nothing_of_it(
    portal: Portal, visitor: Visitor
) -> None:
    other = portal.visitor("alice")
    assert shown(other.get(portal.path("billing/pay"))) != TYPED


def test_form_waits_an_hour(portal: Portal, visitor: Visitor, tick: Tick) -> None:
    tick(minutes=60)
    assert visitor.sign_in("alice").location == portal.path()
    assert shown(visitor.get(portal.path("billing/pay"))) != TYPED


def test_form_waits_an_hour_after_sign_in_too(portal: Portal, visitor: Visitor, tick: Tick) -> None:
    tick(minutes=59)
    visitor.sign_in("alice")
    assert shown(visitor.get(portal.path("billing/pay"))) == TYPED
    tick(minutes=1)
    assert shown(visitor.get(portal.path("billing/pay"))) != TYPED


def test_form_of_the_past_hour_is_deleted(portal: Portal, visitor: Visitor, tick: Tick) -> None:
    tick(minutes=60)
    with portal.app.app_context():
        unit_of_work(lambda session: sessions.delete_old(session, clock.now()))
    assert portal.one("SELECT count(*) FROM sessions WHERE kept_form IS NOT NULL") == 0


def test_form_is_kept_encrypted_and_without_what_is_secret(
    portal: Portal, visitor: Visitor
) -> None:
    stored = repr(crawl.dump(portal.app))
    assert "12.34" not in stored
    assert "sesame-77" not in stored
    sealed = bytes(portal.one("SELECT kept_form FROM sessions WHERE kept_form IS NOT NULL"))
    kept = kept_forms._open(portal.settings.secret, sealed)
    assert kept is not None
    assert kept.values.keys() == {"choice", "amount", "invoice", "shown_balance"}
    assert kept_forms._open(b"another" * 10, sealed) is None


def test_form_under_a_changed_secret_is_nothing(portal: Portal, visitor: Visitor) -> None:
    portal.execute("UPDATE sessions SET kept_form = :kept", kept=b"no token of ours")
    assert visitor.sign_in("alice").location == portal.path()
    assert visitor.get(portal.path("billing/pay")).status == 200


def test_sign_out_drops_the_form(portal: Portal, visitor: Visitor) -> None:
    visitor.post("/sign-out")
    assert portal.one("SELECT count(*) FROM sessions WHERE kept_form IS NOT NULL") == 0


def test_invoice_asked_for_is_not_mixed_with_the_form_that_waits(
    portal: Portal, visitor: Visitor
) -> None:
    visitor.sign_in("alice")
    [invoice] = portal.rows(
        "SELECT public_id FROM invoices WHERE account_id = :id ORDER BY id DESC LIMIT 1",
        id=portal.world.accounts["alice"],
    )
    assert shown(visitor.get(portal.path("billing/pay"), invoice=invoice[0])) != TYPED


def test_role_taken_away_meanwhile_counts(portal: Portal, visitor: Visitor) -> None:
    portal.execute(
        "UPDATE memberships SET role = 'viewer' WHERE customer_id = :who",
        who=portal.world.customers["alice"],
    )
    page = visitor.sign_in("alice")
    assert visitor.get(page.location).status == 403


@pytest.mark.parametrize(
    "reason",
    [
        "UPDATE sessions SET ended_at = created_at",
        "UPDATE customers SET is_disabled = true",
        "UPDATE customers SET session_generation = 5",
    ],
)
def test_session_that_was_ended_keeps_nothing(portal: Portal, reason: str) -> None:
    visitor = portal.visitor("alice")
    page = visitor.get(portal.path("billing/pay"))
    portal.execute(reason)
    assert visitor.submit(page, "/billing/pay", **TYPED).status == 303
    assert portal.one("SELECT count(*) FROM sessions WHERE kept_form IS NOT NULL") == 0


def test_form_too_long_to_be_ours_is_not_kept(portal: Portal, tick: Tick) -> None:
    visitor = portal.visitor("alice")
    page = visitor.get(portal.path("billing/pay"))
    tick(hours=2)
    visitor.submit(page, "/billing/pay", choice="other", amount="1" * 30_000)
    assert portal.one("SELECT count(*) FROM sessions WHERE kept_form IS NOT NULL") == 0


def test_passwords_of_expired_visitors_are_never_kept(portal: Portal, tick: Tick) -> None:
    visitor = portal.visitor("alice")
    tick(hours=2)
    visitor.sign_in("alice", PASSWORD + "!")
    assert portal.one("SELECT count(*) FROM sessions WHERE kept_form IS NOT NULL") == 0


def test_form_waits_also_when_the_answer_to_the_password_is_lost(
    portal: Portal, tick: Tick
) -> None:
    path = "/settings/contacts/add/email"
    alice = portal.visitor("alice")
    page = alice.get(path)
    tick(minutes=11)
    confirm = alice.get(alice.submit(page, path, value="new@example.org").location)
    before = alice.cookies()["session"]
    assert alice.submit(confirm, "/confirm", password=PASSWORD).location == path
    assert alice.cookies()["session"] != before
    alice.client.set_cookie("session", before, domain="127.0.0.1")  # it never arrived
    assert alice.get("/settings/").location.startswith("/sign-in")
    signed_in = alice.sign_in("alice")
    assert signed_in.location == path
    assert alice.get(path).form(path)[1]["value"] == "new@example.org"
