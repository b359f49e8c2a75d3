"""Disputes: opened, written on, decided, withdrawn; what rests meanwhile."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import select

from blueprints.billing import adjusting
from blueprints.billing.disputes import service
from blueprints.billing.disputes.errors import (
    DisputedBefore,
    DisputeNotFound,
    DisputeOver,
    LineNotDisputable,
    WaitsForApproval,
)
from blueprints.billing.disputes.service import Writer
from blueprints.billing.dunning.reading import disputed_minor
from blueprints.billing.errors import InvoiceNotFound
from core import isp, postman
from core.db import db, reading
from core.throttle import TooManyAttempts
from gateways.messages.base import OutgoingMessage
from models import Invoice, Message
from tests.billing.conftest import Till
from tests.conftest import Portal, together

CARD = "4111 1111 1111 1111"


def latest(ctx: Portal, name: str = "alice") -> str:
    return str(
        ctx.one(
            "SELECT public_id FROM invoices WHERE account_id = :id AND kind = 'invoice'"
            " ORDER BY id DESC LIMIT 1",
            id=ctx.world.accounts[name],
        )
    )


def position(ctx: Portal, ledger: str = "revenue:tv", name: str = "alice") -> int:
    return int(
        ctx.one(
            "SELECT position FROM invoice_lines l JOIN invoices i ON i.id = l.invoice_id"
            " WHERE i.public_id = :id AND l.ledger = :ledger",
            id=latest(ctx, name),
            ledger=ledger,
        )
    )


def begin(ctx: Portal, till: Till, ledger: str = "revenue:tv", **more: Any) -> str:
    """Dispute alice's latest bill; the dispute's public id."""
    name = more.get("name", "alice")
    return service.open_dispute(
        ctx.world.accounts[name],
        more.get("invoice", latest(ctx, name)),
        more.get("place", position(ctx, ledger, name)),
        more.get("text", "It did not work."),
        ctx.world.customers[name],
        more.get("key", till.key(name, "/dispute")),
        "{id}",
        ctx.settings.secret,
    )


def resting(ctx: Portal) -> dict[int, int]:
    with reading() as session:
        found = disputed_minor(session, list(ctx.world.accounts.values()))
        owners = {
            invoice_id: session.get_one(Invoice, invoice_id).account_id for invoice_id in found
        }
    return {owners[invoice_id]: minor for invoice_id, minor in found.items() if minor}


def state(ctx: Portal, public_id: str) -> str:
    return str(ctx.one("SELECT state FROM disputes WHERE public_id = :id", id=public_id))


def decide(ctx: Portal, till: Till, public_id: str, what: Any = service.grant) -> str:
    staff_id = ctx.world.customers["ben"]
    return str(what(public_id, "We looked.", staff_id, till.key("ben", "/decide"), "/there"))


def test_disputed_line_rests_with_its_taxes(ctx: Portal, till: Till) -> None:
    alice = ctx.world.accounts["alice"]
    begin(ctx, till)
    assert resting(ctx) == {alice: 1_900 + 119}
    begin(ctx, till, "revenue:phone")
    assert resting(ctx)[alice] > 2_019


def test_no_more_rests_than_is_open(ctx: Portal, till: Till) -> None:
    paid = str(
        ctx.one(
            "SELECT public_id FROM invoices WHERE account_id = :id ORDER BY id LIMIT 1",
            id=ctx.world.accounts["alice"],
        )
    )
    begin(ctx, till, invoice=paid)
    assert resting(ctx) == {}


def test_line_is_disputed_once_at_a_time(portal: Portal, ctx: Portal, till: Till) -> None:
    keys = [till.key("alice", "/dispute") for _ in range(8)]

    def press(number: int) -> str:
        with portal.app.app_context():
            return begin(portal, till, key=keys[number])

    outcomes = together(8, press)
    [public_id] = [outcome for outcome in outcomes if isinstance(outcome, str)]
    assert {getattr(each, "public_id", public_id) for each in outcomes} == {public_id}
    key = till.key("alice", "/dispute")
    with pytest.raises(DisputedBefore):
        begin(ctx, till, key=key)


def test_granted_dispute_gives_the_line_back_at_once(ctx: Portal, till: Till) -> None:
    owed = ctx.one("SELECT balance_minor FROM accounts WHERE number = '1001'")
    public_id = begin(ctx, till)
    assert decide(ctx, till, public_id) == "/there"
    assert state(ctx, public_id) == "granted"
    assert ctx.one("SELECT balance_minor FROM accounts WHERE number = '1001'") == owed - 2_019
    assert resting(ctx) == {}
    thread = service.get(public_id, ctx.world.accounts["alice"])
    assert thread.credit_note == "CN-2026-000001"
    assert [post.is_staff for post in thread.posts] == [False, True]
    for what in (service.grant, service.refuse):
        with pytest.raises(DisputeOver):
            decide(ctx, till, public_id, what)
    with pytest.raises(LineNotDisputable):
        begin(ctx, till)


def test_above_the_limit_a_second_member_decides(ctx: Portal, till: Till) -> None:
    rules = {"adjustment_limit_minor": 100}
    _set_rules(ctx, rules)
    public_id = begin(ctx, till)
    decide(ctx, till, public_id)
    assert state(ctx, public_id) == "open"
    assert service.get(public_id).row.is_waiting
    assert resting(ctx)
    with pytest.raises(WaitsForApproval):
        decide(ctx, till, public_id, service.refuse)
    with pytest.raises(WaitsForApproval):
        service.withdraw(
            ctx.world.accounts["alice"], public_id, till.key("alice", "/withdraw"), "/there"
        )
    adjustment = str(ctx.one("SELECT public_id FROM adjustments"))
    adjusting.refuse(adjustment, ctx.world.customers["ada"])
    assert not service.get(public_id).row.is_waiting
    decide(ctx, till, public_id)
    adjusting.approve(
        str(ctx.one("SELECT public_id FROM adjustments WHERE state = 'asked'")),
        ctx.world.customers["ada"],
    )
    assert state(ctx, public_id) == "granted"


def _set_rules(ctx: Portal, rules: dict[str, int]) -> None:
    ctx.execute(
        "UPDATE isp SET billing_rules = :rules, revision = revision + 1", rules=json.dumps(rules)
    )
    isp.forget()


def test_refused_dispute_leaves_the_bill(ctx: Portal, till: Till) -> None:
    public_id = begin(ctx, till)
    decide(ctx, till, public_id, service.refuse)
    assert (state(ctx, public_id), resting(ctx)) == ("refused", {})
    assert begin(ctx, till) != public_id


def test_customer_withdraws(ctx: Portal, till: Till) -> None:
    public_id = begin(ctx, till)
    key = till.key("alice", "/withdraw")
    for _ in range(2):
        assert service.withdraw(ctx.world.accounts["alice"], public_id, key, "/there") == "/there"
    assert (state(ctx, public_id), resting(ctx)) == ("withdrawn", {})


def test_both_sides_write_and_card_numbers_are_masked(ctx: Portal, till: Till) -> None:
    alice = ctx.world.accounts["alice"]
    public_id = begin(ctx, till, text=f"I paid with {CARD}.")
    for writer in (Writer(ctx.world.customers["alice"]), Writer(ctx.world.customers["ben"], True)):
        service.write(
            alice, public_id, f"Again {CARD}", writer, till.key("x"), "/there", ctx.settings.secret
        )
    posts = service.get(public_id, alice).posts
    assert [post.is_staff for post in posts] == [False, False, True]
    assert all("1111 1111" not in post.body and post.body.count("•") == 12 for post in posts)


def test_nobody_writes_without_end(ctx: Portal, till: Till) -> None:
    alice = ctx.world.accounts["alice"]
    public_id = begin(ctx, till)
    writer = Writer(ctx.world.customers["alice"])
    secret = ctx.settings.secret
    for _ in range(14):
        service.write(alice, public_id, "Well?", writer, till.key("x"), "/there", secret)
    with pytest.raises(TooManyAttempts):
        service.write(alice, public_id, "Well?", writer, till.key("x"), "/there", secret)


def test_what_is_not_ones_own_or_no_charge_is_refused(ctx: Portal, till: Till) -> None:
    hers = latest(ctx, "mallory")
    with pytest.raises(InvoiceNotFound):
        begin(ctx, till, invoice=hers)
    with pytest.raises(LineNotDisputable):
        begin(ctx, till, place=99)
    with pytest.raises(LineNotDisputable):
        begin(ctx, till, "tax:STATE")
    theirs = begin(ctx, till, name="mallory")
    with pytest.raises(DisputeNotFound):
        service.get(theirs, ctx.world.accounts["alice"])
    with pytest.raises(DisputeNotFound):
        decide(ctx, till, "nothing")


# The pages ----------------------------------------------------------------------------------------


def test_dispute_from_the_bill_to_the_decision(portal: Portal, ctx: Portal) -> None:
    alice, ben = portal.visitor("alice"), portal.visitor("ben")
    bill = alice.get(portal.path(f"billing/invoices/{latest(ctx)}"))
    [link] = bill.select("a[href$='/dispute']")
    page = alice.get(link.get("href"))
    assert alice.submit(page, "/dispute").status == 422
    chosen = str(position(ctx))
    out = alice.submit(page, "/dispute", line=chosen, text=f"No TV in May.\nCard {CARD}")
    thread = alice.get(out.location)
    assert "We have it" in thread.text
    assert "•••• •••• •••• 1111" in thread.text
    assert "In dispute" in alice.get(portal.path("billing/invoices/")).text
    assert alice.submit(thread, thread.form("")[0][-20:], text="Still none.").status == 303

    listed = ben.get("/staff/disputes")
    assert "$20.19" in listed.text
    [link] = listed.select("a[href^='/staff/disputes/']")
    page = ben.get(link.get("href"))
    assert "Still none." in page.text
    assert ben.submit(page, link.get("href"), what="grant").status == 422
    out = ben.submit(page, link.get("href"), what="grant", text="You are right.")
    assert "The credit note is made" in ben.get(out.location).text
    over = ben.get("/staff/disputes")
    assert "Nobody disputes a bill" in over.text
    assert link.get("href") in [each.get("href") for each in over.select("main a")]
    money = ben.get(f"/staff/accounts/{portal.world.public_ids['alice']}/money")
    assert link.get("href") in [each.get("href") for each in money.select("a")]
    thread = alice.get(thread.response.request.path)
    assert "Given back" in thread.text
    assert "You are right." in thread.text
    assert "Ben" not in thread.text
    assert "Given back" in alice.get(portal.path("billing/disputes/")).text
    assert "In dispute" not in alice.get(portal.path("billing/invoices/")).text


def test_only_who_pays_and_who_decides_sees_it(portal: Portal, ctx: Portal, till: Till) -> None:
    public_id = begin(ctx, till)
    path = portal.path(f"billing/disputes/{public_id}")
    for name, status in (("bob", 200), ("vera", 403), ("theo", 403), ("mallory", 404)):
        assert portal.visitor(name).get(path).status == status
    assert portal.visitor("sue").get(f"/staff/disputes/{public_id}").status == 403


# Messages -------------------------------------------------------------------------------------


def letters(ctx: Portal) -> list[OutgoingMessage]:
    found = db.session.scalars(
        select(Message).where(Message.kind == "dispute").order_by(Message.id)
    )
    return [postman.compose(each, "https://portal.example") for each in found]


def test_answer_and_decision_are_told_in_the_customers_language(ctx: Portal, till: Till) -> None:
    ctx.execute("UPDATE customers SET language = 'es' WHERE sign_in_id = 'alice'")
    public_id = begin(ctx, till)
    alice, staff = ctx.world.accounts["alice"], ctx.world.customers["ben"]
    for writer in (service.Writer(staff, is_staff=True), service.Writer(1)):
        service.write(
            *(alice, public_id, "4111 1111 1111 1111", writer),
            *(till.key("x", f"/{writer.is_staff}"), "/there", ctx.settings.secret),
        )
    decide(ctx, till, public_id, service.refuse)
    answered, refused = letters(ctx)
    assert answered.recipient == "alice@example.net"
    assert "ha respondido" in answered.subject
    assert f"/a/{ctx.world.public_ids['alice']}/billing/disputes/{public_id}" in answered.text
    assert "4111" not in answered.text
    assert "sigue como está" in refused.text


def test_granted_dispute_is_told_with_what_it_gives_back(ctx: Portal, till: Till) -> None:
    decide(ctx, till, begin(ctx, till))
    [letter] = letters(ctx)
    assert "You were right" in letter.text
    assert "$20.19" in letter.subject


def test_one_that_a_second_member_approves_is_told_then(ctx: Portal, till: Till) -> None:
    _set_rules(ctx, {"adjustment_limit_minor": 100})
    decide(ctx, till, begin(ctx, till))
    assert letters(ctx) == []
    adjusting.approve(str(ctx.one("SELECT public_id FROM adjustments")), ctx.world.customers["ada"])
    assert len(letters(ctx)) == 1


def test_who_has_left_the_account_or_wants_no_mail_is_not_told(ctx: Portal, till: Till) -> None:
    first, second = begin(ctx, till), begin(ctx, till, "revenue:phone")
    ctx.execute(
        "INSERT INTO message_choices (customer_id, topic, channel, is_on)"
        " VALUES (:id, 'bills', 'email', :no)",
        id=ctx.world.customers["alice"],
        no=False,
    )
    decide(ctx, till, first, service.refuse)
    ctx.execute("DELETE FROM message_choices")
    ctx.execute("DELETE FROM memberships WHERE customer_id = :id", id=ctx.world.customers["alice"])
    staff_id = ctx.world.customers["ben"]
    service.refuse(second, "We looked.", staff_id, till.key("ben", "/other"), "/there")
    assert letters(ctx) == []
