"""The message that a bill is ready: to whom, by which channel, with which facts."""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import partial

import pytest
from sqlalchemy import select

from blueprints.billing import bill_messages, bill_run
from blueprints.billing.errors import InvoiceNotFound
from core import clock, postman
from core.db import db, reading, unit_of_work
from models import Message
from tests.conftest import Portal, Queries

JULY = date(2026, 7, 1)


def run_july() -> bill_run.Outcome:
    with clock.set_to(datetime(2026, 7, 1, 20, tzinfo=UTC)):
        return bill_run.run(bill_run.read_frame(JULY))


def queued(ctx: Portal, name: str = "alice") -> list[tuple[str, str]]:
    return [
        (channel, recipient)
        for channel, recipient in ctx.rows(
            "SELECT channel, recipient FROM messages WHERE kind = 'bill_ready'"
            " AND account_id = :id ORDER BY id",
            id=ctx.world.accounts[name],
        )
    ]


def choose(ctx: Portal, name: str, channel: str, *, is_on: bool) -> None:
    ctx.execute(
        "INSERT INTO message_choices (customer_id, topic, channel, is_on)"
        " VALUES (:id, 'bills', :channel, :is_on)",
        id=ctx.world.customers[name],
        channel=channel,
        is_on=is_on,
    )


def add_contact(ctx: Portal, kind: str, value: str, **whose: int) -> None:
    [(column, owner)] = whose.items()
    ctx.execute(
        f"INSERT INTO contacts ({column}, kind, value, since_on)"
        " VALUES (:owner, :kind, :value, '2026-01-01')",
        owner=owner,
        kind=kind,
        value=value,
    )


def test_holder_and_payers_are_told_by_e_mail(ctx: Portal) -> None:
    add_contact(ctx, "email", "bob@example.org", customer_id=ctx.world.customers["bob"])
    add_contact(ctx, "email", "vera@example.org", customer_id=ctx.world.customers["vera"])
    run_july()
    assert queued(ctx) == [("email", "alice@example.net"), ("email", "bob@example.org")]


def test_channels_are_those_that_were_chosen(ctx: Portal) -> None:
    choose(ctx, "alice", "email", is_on=False)
    choose(ctx, "alice", "text", is_on=True)
    choose(ctx, "mallory", "email", is_on=False)
    add_contact(ctx, "phone", "+15415550123", account_id=ctx.world.accounts["alice"])
    run_july()
    assert queued(ctx)[0] == ("text", "+15415550123")
    assert ("email", "alice@example.net") not in queued(ctx)
    assert queued(ctx, "mallory") == []


def test_account_that_nobody_uses_online_is_told_too(ctx: Portal) -> None:
    ctx.execute("DELETE FROM memberships WHERE account_id = :id", id=ctx.world.accounts["mallory"])
    run_july()
    assert queued(ctx, "mallory") == [("email", "mallory@example.net")]


def test_message_says_amount_day_and_where(ctx: Portal) -> None:
    run_july()
    [message] = (
        db.session.query(Message)
        .where(
            Message.account_id == ctx.world.accounts["alice"],
            Message.kind == "bill_ready",
            Message.recipient == "alice@example.net",
        )
        .all()
    )
    number, public_id = ctx.rows(
        "SELECT number, public_id FROM invoices WHERE account_id = :id ORDER BY id DESC LIMIT 1",
        id=ctx.world.accounts["alice"],
    )[0]
    made = postman.compose(message, "http://127.0.0.1:8000")
    assert made.subject == "Your bill from Pinecrest Broadband: $105.56, due Jul 15, 2026"
    assert f"Your bill {number} for account 1001 is ready" in made.text
    assert f"http://127.0.0.1:8000/a/aliceaccount00/billing/invoices/{public_id}" in made.text
    assert "credit has paid" not in made.text
    message.channel = "text"
    assert f"bill {number}" in postman.compose(message, "http://127.0.0.1:8000").text
    db.session.rollback()


def test_what_credit_has_paid_is_said(ctx: Portal) -> None:
    run_july()
    messages = db.session.query(Message).where(
        Message.account_id == ctx.world.accounts["rich"], Message.kind == "bill_ready"
    )
    bodies = [postman.compose(message, "http://127.0.0.1:8000").text for message in messages]
    assert any("Your credit has paid a part of it." in body for body in bodies)


def test_run_of_many_takes_as_many_statements_as_one(ctx: Portal, queries: Queries) -> None:
    invoice_ids = [row[0] for row in ctx.rows("SELECT id FROM invoices WHERE kind = 'invoice'")]
    counts = []
    for some in (invoice_ids[:1], invoice_ids):
        queries.statements.clear()
        with queries:
            unit_of_work(lambda session, some=some: bill_messages.tell(session, some))  # type: ignore[misc]
        counts.append(queries.count)
    assert counts[0] == counts[1]


def test_staff_send_it_again(ctx: Portal) -> None:
    run_july()
    [invoice_id] = ctx.rows(
        "SELECT id FROM invoices WHERE account_id = :id ORDER BY id DESC LIMIT 1",
        id=ctx.world.accounts["alice"],
    )[0]
    assert unit_of_work(lambda session: bill_messages.resend(session, invoice_id)) == 2
    assert queued(ctx).count(("email", "alice@example.net")) == 2
    with pytest.raises(InvoiceNotFound):
        unit_of_work(lambda session: bill_messages.resend(session, 999_999))


def test_bill_sent_again_says_how_it_stands_now(ctx: Portal) -> None:
    paid, open_ = (
        ctx.one(
            "SELECT i.id FROM invoices i JOIN invoice_balances b ON b.invoice_id = i.id"
            f" WHERE i.account_id = :id AND b.open_minor {how} 0 ORDER BY i.id LIMIT 1",
            id=ctx.world.accounts["alice"],
        )
        for how in ("=", ">")
    )
    for invoice_id in (paid, open_):
        with reading() as session:
            assert ("email", "alice@example.net") in bill_messages.list_recipients(
                session, invoice_id
            )
        unit_of_work(partial(bill_messages.resend, invoice_id=invoice_id))
    found = db.session.scalars(
        select(Message)
        .where(Message.kind == "bill_ready", Message.recipient == "alice@example.net")
        .order_by(Message.id)
    )
    texts = [postman.compose(each, "https://portal.example").text for each in found]
    assert "It is paid" in texts[0]
    assert "It is paid" not in texts[1]
    assert "credit has paid" not in " ".join(texts)
