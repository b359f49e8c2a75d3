"""Which messages go by which channel."""

from __future__ import annotations

from core.topics import CHANNELS, USUAL, Topic
from gateways.payments.sandbox.store import Decision
from tests.conftest import Portal
from tests.dashboard.told import announced, letters
from tests.page import Page, Visitor


def choose(visitor: Visitor, **boxes: bool) -> Page:
    """Tick or clear boxes of the form and send it."""
    action, values = visitor.get("/settings/messages").form("/messages")
    values |= {name: "y" for name, is_on in boxes.items() if is_on}
    for name, is_on in boxes.items():
        if not is_on:
            values.pop(name, None)
    return visitor.post(action, values)


def add_phone(portal: Portal) -> None:
    portal.execute(
        "INSERT INTO contacts (account_id, kind, value, since_on)"
        " VALUES (:id, 'phone', '+15415215901', '2025-01-01')",
        id=portal.world.accounts["alice"],
    )


def pay(portal: Portal, alice: Visitor) -> None:
    alice.submit(alice.get(portal.path()), "/pay")
    [(public_id, key)] = portal.rows("SELECT public_id, key FROM payments WHERE state = 'sent'")
    portal.bank.decide(key, Decision.PAY)
    alice.get(f"/pay/{public_id}/return")


def test_table_of_what_is_usual_is_whole() -> None:
    assert set(USUAL) == {(topic, channel) for topic in Topic for channel in CHANNELS}


def test_choice_is_kept_and_shown(portal: Portal) -> None:
    alice = portal.visitor("alice")
    done = choose(alice, bills_email=False, usage_text=True)
    assert done.location == "/settings/?done=messages"
    _, values = alice.get("/settings/messages").form("/messages")
    assert "bills_email" not in values
    assert values["usage_text"] == "y"
    assert portal.one("SELECT count(*) FROM message_choices") == 2
    choose(alice, bills_email=True, usage_text=False)
    assert portal.one("SELECT count(*) FROM message_choices") == 0
    assert announced(portal, "messages_chosen") == ["alice@example.net"] * 2


def test_security_cannot_be_turned_off(portal: Portal) -> None:
    alice = portal.visitor("alice")
    page = choose(alice, security_email=False, security_text=False, bills_email=False)
    assert page.status == 422
    assert "at least one way" in page.text
    assert "bills_email" not in page.form("/messages")[1]
    assert portal.one("SELECT count(*) FROM message_choices") == 0


def test_security_by_text_alone_still_reaches_who_has_no_phone(portal: Portal) -> None:
    alice = portal.visitor("alice")
    choose(alice, security_email=False, security_text=True)
    choose(alice)
    assert announced(portal, "messages_chosen") == ["alice@example.net"] * 2
    add_phone(portal)
    choose(alice)
    assert announced(portal, "messages_chosen")[2:] == ["+15415215901"]


def test_receipts_follow_the_choice_of_who_paid(portal: Portal) -> None:
    add_phone(portal)
    alice = portal.visitor("alice")
    choose(alice, payments_email=False, payments_text=True)
    pay(portal, alice)
    assert [to for to, _ in letters(portal, "receipt")][-1:] == ["+15415215901"]
    newest = "SELECT channel FROM messages WHERE kind = 'receipt' ORDER BY id DESC LIMIT 1"
    assert portal.one(newest) == "text"


def test_no_receipt_for_who_wants_none(portal: Portal) -> None:
    alice = portal.visitor("alice")
    before = len(letters(portal, "receipt"))
    choose(alice, payments_email=False)
    pay(portal, alice)
    assert len(letters(portal, "receipt")) == before
