"""Credit notes: what they give back, of which invoice, and never more than there is."""

from __future__ import annotations

from typing import Any

import pytest

from blueprints.billing import invoicing
from blueprints.billing.crediting import draft_credit_note, list_creditable
from blueprints.billing.errors import CreditRefused, InvoiceNotFound
from core.db import reading, unit_of_work
from tests.conftest import Portal, together


def latest(ctx: Portal, name: str) -> tuple[int, int, int]:
    """Id, total and open amount of the account's newest invoice."""
    [row] = ctx.rows(
        "SELECT i.id, i.total_minor, b.open_minor FROM invoices i JOIN invoice_balances b"
        " ON b.invoice_id = i.id WHERE i.account_id = :id ORDER BY i.id DESC LIMIT 1",
        id=ctx.world.accounts[name],
    )
    return row


def credit(invoice_id: int, amounts: dict[int, int] | None = None) -> None:
    unit_of_work(
        lambda session: invoicing.issue(
            session, [draft_credit_note(session, invoice_id, amounts)], "USD"
        )
    )


def balance(ctx: Portal, name: str) -> int:
    return int(
        ctx.one("SELECT balance_minor FROM accounts WHERE id = :id", id=ctx.world.accounts[name])
    )


def test_whole_open_invoice_is_given_back_and_settled(ctx: Portal) -> None:
    invoice_id, total, open_ = latest(ctx, "mallory")
    assert open_ == total
    owed = balance(ctx, "mallory")
    credit(invoice_id)
    assert latest(ctx, "mallory") == (invoice_id, total, 0)
    assert balance(ctx, "mallory") == owed - total
    with pytest.raises(CreditRefused):
        credit(invoice_id)


def test_part_takes_its_tax_with_it(ctx: Portal) -> None:
    invoice_id, *_rest = latest(ctx, "mallory")
    with reading() as session:
        lines = list_creditable(session, invoice_id)
    [tv] = [line for line in lines if line.ledger == "revenue:tv"]
    credit(invoice_id, {tv.position: 1000})
    given = ctx.rows(
        "SELECT l.ledger, l.amount_minor FROM invoice_lines l JOIN invoices i"
        " ON i.id = l.invoice_id WHERE i.corrects_id = :id ORDER BY l.position",
        id=invoice_id,
    )
    assert given == [("revenue:tv", 1000), ("tax:STATE", 63)]
    with reading() as session:
        [left] = [
            line.left_minor
            for line in list_creditable(session, invoice_id)
            if line.position == tv.position
        ]
    assert left == tv.amount_minor - 1000
    with pytest.raises(CreditRefused):
        credit(invoice_id, {tv.position: left + 1})


def test_credit_of_a_paid_invoice_stays_on_the_account(ctx: Portal) -> None:
    [(invoice_id, total)] = ctx.rows(
        "SELECT i.id, i.total_minor FROM invoices i JOIN invoice_balances b ON b.invoice_id = i.id"
        " WHERE i.account_id = :id AND b.open_minor = 0 ORDER BY i.id LIMIT 1",
        id=ctx.world.accounts["alice"],
    )
    owed = balance(ctx, "alice")
    credit(invoice_id)
    # It settles what else is open.
    assert balance(ctx, "alice") == owed - total


@pytest.mark.parametrize("amounts", [{99: 1}, {1: 0}, {1: -5}, {}])
def test_what_cannot_be_given_back_is_refused(ctx: Portal, amounts: dict[int, int]) -> None:
    invoice_id, *_rest = latest(ctx, "mallory")
    with pytest.raises(CreditRefused):
        credit(invoice_id, amounts)


def test_credit_note_is_not_credited(ctx: Portal) -> None:
    invoice_id, *_rest = latest(ctx, "mallory")
    credit(invoice_id)
    note = ctx.one("SELECT id FROM invoices WHERE corrects_id = :id", id=invoice_id)
    with pytest.raises(InvoiceNotFound):
        credit(note)


def test_two_at_once_give_back_once(portal: Portal) -> None:
    with portal.app.app_context():
        invoice_id, total, _open = latest(portal, "mallory")
        owed = balance(portal, "mallory")
    account_id = portal.world.accounts["mallory"]

    def one(_number: int) -> Any:
        with portal.app.app_context():
            return unit_of_work(
                lambda session: invoicing.issue(
                    session, [draft_credit_note(session, invoice_id)], "USD"
                ),
                account_id,
            )

    results = together(4, one)
    assert sum(isinstance(result, CreditRefused) for result in results) == 3
    with portal.app.app_context():
        assert balance(portal, "mallory") == owed - total


def test_customer_sees_what_was_given_back(portal: Portal) -> None:
    with portal.app.app_context():
        invoice_id, *_rest = latest(portal, "mallory")
        credit(invoice_id)
    mallory = portal.visitor("mallory")
    bills = mallory.get(portal.path("billing/invoices/", "mallory"))
    assert "CN-2026-000001" in bills.text
    assert "Credit note" in bills.text
    public_id = portal.one("SELECT public_id FROM invoices WHERE kind = 'credit'")
    page = mallory.get(portal.path(f"billing/invoices/{public_id}", "mallory"))
    assert page.status == 200
    assert "It corrects an earlier bill" in page.text
    assert "Pay this invoice" not in page.text
    assert "Credit note of" in mallory.get("/activity").text
