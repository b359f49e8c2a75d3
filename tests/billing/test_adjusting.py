"""Credits of staff: at once, or after a second member approved; one-off charges."""

from __future__ import annotations

from datetime import date, timedelta
from functools import partial
from typing import Any

import pytest

from blueprints.billing import adjusting
from blueprints.billing.errors import (
    CreditRefused,
    DecidedBefore,
    InvoiceNotFound,
    SamePerson,
)
from core import clock
from core.db import unit_of_work
from core.errors import NotFound
from models import Adjustment
from tests.conftest import Portal, together
from tests.world import issue_month

LIMIT = 10_000


def ask(ctx: Portal, amount_minor: int = 500, by: str = "ben", **more: Any) -> tuple[str, str]:
    """Public id and state of a credit for alice."""
    wish = adjusting.Wish(
        more.pop("account_id", ctx.world.accounts["alice"]),
        "A day without internet",
        ctx.world.customers[by],
        more.pop("key", f"credit-{amount_minor}-{more}"),
        amount_minor,
        **more,
    )

    def work(session: Any) -> tuple[str, str]:
        adjustment: Adjustment = adjusting.ask_credit(session, wish)
        return adjustment.public_id, adjustment.state

    return unit_of_work(work, wish.account_id)


def balance(ctx: Portal, name: str = "alice") -> int:
    return int(
        ctx.one("SELECT balance_minor FROM accounts WHERE id = :id", id=ctx.world.accounts[name])
    )


def invoice(ctx: Portal, name: str = "alice") -> int:
    return int(
        ctx.one(
            "SELECT max(i.id) FROM invoices i WHERE i.account_id = :id",
            id=ctx.world.accounts[name],
        )
    )


def test_small_credit_is_booked_at_once_and_settles(ctx: Portal) -> None:
    owed = balance(ctx)
    assert ask(ctx)[1] == "booked"
    assert balance(ctx) == owed - 500
    assert ctx.one("SELECT sum(amount_minor) FROM journal_lines WHERE ledger = 'adjustment'") == 500
    assert ctx.one("SELECT count(*) FROM activity WHERE kind = 'credit_given'") == 1


def test_what_one_member_gives_within_a_day_counts_together(ctx: Portal) -> None:
    owed = balance(ctx)
    assert [ask(ctx, 2_000, key=f"slice-{number}")[1] for number in range(3)] == [
        "booked", "booked", "asked",
    ]  # fmt: skip
    assert balance(ctx) == owed - 4_000
    assert ask(ctx, 1_000, key="small")[1] == "booked"  # what waits does not count
    assert ask(ctx, 1, key="cent")[1] == "asked"
    assert ask(ctx, 2_000, "ada")[1] == "booked"
    bob = ask(ctx, 2_000, account_id=ctx.world.accounts["mallory"], key="other")
    assert bob[1] == "booked"
    with clock.set_to(clock.now() + timedelta(days=1, seconds=1)):
        assert ask(ctx, 2_000, key="tomorrow")[1] == "booked"


def test_credit_above_the_limit_waits_for_somebody_else(ctx: Portal) -> None:
    owed = balance(ctx)
    public_id, state = ask(ctx, LIMIT + 1)
    assert (state, balance(ctx)) == ("asked", owed)
    with pytest.raises(SamePerson):
        adjusting.approve(public_id, ctx.world.customers["ben"])
    adjusting.approve(public_id, ctx.world.customers["ada"])
    adjusting.approve(public_id, ctx.world.customers["ada"])  # pressed again: it stays so
    assert balance(ctx) == owed - LIMIT - 1
    for decide, name in ((adjusting.refuse, "ada"), (adjusting.approve, "sue")):
        with pytest.raises(DecidedBefore):
            decide(public_id, ctx.world.customers[name])


def test_refused_credit_is_never_booked(ctx: Portal) -> None:
    owed = balance(ctx)
    public_id, _state = ask(ctx, LIMIT + 1)
    adjusting.refuse(public_id, ctx.world.customers["ada"])
    adjusting.refuse(public_id, ctx.world.customers["ada"])
    with pytest.raises(DecidedBefore):
        adjusting.approve(public_id, ctx.world.customers["ada"])
    assert balance(ctx) == owed
    with pytest.raises(NotFound):
        adjusting.approve("nothing", ctx.world.customers["ada"])


def test_two_approvals_at_once_book_once(portal: Portal, ctx: Portal) -> None:
    owed = balance(ctx)
    public_id, _state = ask(ctx, LIMIT + 1)

    def press(number: int) -> None:
        with portal.app.app_context():
            adjusting.approve(public_id, portal.world.customers[("ada", "sue")[number % 2]])

    outcomes = together(6, press)
    assert sum(outcome is None for outcome in outcomes) == 3
    assert balance(ctx) == owed - LIMIT - 1


def test_credit_note_over_a_line_takes_its_taxes_along(ctx: Portal) -> None:
    [(position, minor)] = ctx.rows(
        "SELECT position, amount_minor FROM invoice_lines WHERE invoice_id = :id"
        " AND ledger = 'revenue:tv'",
        id=invoice(ctx),
    )
    owed = balance(ctx)
    assert ask(ctx, 0, invoice_id=invoice(ctx), amounts={position: minor})[1] == "booked"
    tax = round(minor * 0.0625 + 0.01)
    assert balance(ctx) == owed - minor - tax
    assert ctx.one("SELECT amount_minor FROM adjustments") == minor + tax


def test_credit_note_that_is_not_left_any_more_is_refused_at_approval(ctx: Portal) -> None:
    public_id, state = ask(ctx, 0, invoice_id=invoice(ctx))
    assert state == "asked"
    [position] = ctx.rows(
        "SELECT position FROM invoice_lines WHERE invoice_id = :id AND ledger = 'revenue:tv'",
        id=invoice(ctx),
    )[0]
    ask(ctx, 0, key="part", invoice_id=invoice(ctx), amounts={position: 100})
    with pytest.raises(CreditRefused):
        adjusting.approve(public_id, ctx.world.customers["ada"])
    assert ctx.one("SELECT state FROM adjustments WHERE public_id = :id", id=public_id) == "asked"


def test_invoice_of_somebody_else_is_refused(ctx: Portal) -> None:
    with pytest.raises(InvoiceNotFound):
        ask(ctx, 0, invoice_id=invoice(ctx, "mallory"))


@pytest.mark.parametrize("amount_minor", [0, -5, adjusting.MAXIMUM_MINOR + 1])
def test_amounts_that_no_credit_has_are_refused(ctx: Portal, amount_minor: int) -> None:
    with pytest.raises(CreditRefused):
        ask(ctx, amount_minor)


def test_charge_joins_the_next_bill_once(ctx: Portal) -> None:
    alice = ctx.world.accounts["alice"]
    new = adjusting.NewCharge(alice, 4_000, "Visit", "Router moved", "", ctx.world.customers["ben"])
    first = unit_of_work(lambda session: adjusting.add_charge(session, new), alice)
    second = unit_of_work(lambda session: adjusting.add_charge(session, new), alice)
    unit_of_work(lambda session: adjusting.cancel_charge(session, alice, second), alice)
    issue_month(ctx.world, ("alice",), date(2026, 7, 1))
    assert ctx.rows("SELECT amount_minor FROM invoice_lines WHERE description = 'Visit'") == [
        (4_000,)
    ]
    mallory = ctx.world.accounts["mallory"]
    for account_id, public_id, why in (
        (alice, first, DecidedBefore),
        (alice, second, DecidedBefore),
        (mallory, first, NotFound),
    ):
        with pytest.raises(why):
            unit_of_work(
                partial(adjusting.cancel_charge, account_id=account_id, public_id=public_id)
            )
