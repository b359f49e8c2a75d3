"""What an invoice says and costs, month by month."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy.orm import Session

from blueprints.billing.drafting import draft_next
from blueprints.billing.invoicing import issue
from core import clock
from core.db import unit_of_work
from core.money import round_half_away, tax_on
from tests.conftest import Portal, together
from tests.world import issue_month


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"),
    [(1, 2, 1), (-1, 2, -1), (3, 2, 2), (-3, 2, -2), (1, 3, 0), (2, 3, 1), (0, 7, 0)],
)
def test_halves_are_rounded_away_from_zero(numerator: int, denominator: int, rounded: int) -> None:
    assert round_half_away(numerator, denominator) == rounded


def test_tax_is_rounded_once_on_the_sum() -> None:
    assert tax_on(1900 + 700, 625) == 163


@pytest.mark.parametrize(
    ("start", "anchor", "following"),
    [
        (date(2026, 1, 31), 31, date(2026, 2, 28)),
        (date(2026, 2, 28), 31, date(2026, 3, 31)),
        (date(2028, 1, 30), 30, date(2028, 2, 29)),
        (date(2026, 12, 15), 15, date(2027, 1, 15)),
    ],
)
def test_month_is_a_calendar_step(start: date, anchor: int, following: date) -> None:
    assert clock.month_step(start, 1, anchor) == following


def test_month_is_invoiced_once_even_by_two_at_once(portal: Portal) -> None:
    def issue(_number: int) -> int:
        with (
            portal.app.app_context(),
            clock.set_to(datetime(2026, 7, 1, 20, tzinfo=UTC)),
        ):
            return len(issue_month(portal.world, ("alice", "mallory"), date(2026, 7, 1)))

    results = together(4, issue)
    issued = portal.rows(
        "SELECT account_id, count(*) FROM invoices WHERE period_from = '2026-07-01' GROUP BY 1"
    )
    assert sorted(count for _, count in issued) == [1, 1], results


def test_numbers_of_a_year_have_no_gap(portal: Portal) -> None:
    numbers = [number for (number,) in portal.rows("SELECT number FROM invoices ORDER BY id")]
    assert numbers == [f"2026-{n:06d}" for n in range(1, len(numbers) + 1)]


def test_credit_applies_when_an_invoice_is_issued(ctx: Portal) -> None:
    with clock.set_to(datetime(2026, 6, 3, 20, tzinfo=UTC)):
        issue_month(ctx.world, ("rich",), date(2026, 6, 3))
    [(total, open_), *_later] = ctx.rows(
        "SELECT total_minor, open_minor FROM invoices i JOIN invoice_balances b"
        " ON b.invoice_id = i.id WHERE i.account_id = :id ORDER BY i.id",
        id=ctx.world.accounts["rich"],
    )
    assert total - open_ == 5000


def test_numbers_have_no_gap_though_many_issue_at_once_and_some_fail(portal: Portal) -> None:
    """Six months for each account, one month after the other, by three that start again."""
    names = ("alice", "mallory", "rich")

    def issue_months(number: int) -> int:
        name, issued = names[number % 3], 0
        with portal.app.app_context():
            for month in range(7, 13):
                with clock.set_to(datetime(2026, month, 1, 20, tzinfo=UTC)):
                    issued += len(issue_month(portal.world, (name,), date(2026, month, 1)))
                    if month % 2:
                        with pytest.raises(ZeroDivisionError):
                            unit_of_work(lambda session: _issue_and_fail(session, portal, name))
        return issued

    assert together(3, issue_months) == [6, 6, 6]
    numbers = [number for (number,) in portal.rows("SELECT number FROM invoices ORDER BY number")]
    assert numbers == [f"2026-{n:06d}" for n in range(1, 8 + 18 + 1)]


def _issue_and_fail(session: Session, portal: Portal, name: str) -> None:
    account_id = portal.world.accounts[name]
    issue(session, draft_next(session, [account_id], date(2027, 12, 1), 14), "USD")
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("bill_day", "billed_through", "periods"),
    [
        (31, date(2027, 12, 30), ["2027-12-31", "2028-01-31", "2028-02-29", "2028-03-31"]),
        (29, date(2026, 1, 28), ["2026-01-29", "2026-02-28", "2026-03-29", "2026-04-29"]),
        (1, date(2026, 11, 30), ["2026-12-01", "2027-01-01", "2027-02-01", "2027-03-01"]),
    ],
)
def test_months_follow_each_other_without_gap_or_overlap(
    ctx: Portal, bill_day: int, billed_through: date, periods: list[str]
) -> None:
    ctx.execute(
        "UPDATE accounts SET bill_day = :day, billed_through_on = :through WHERE number = '3003'",
        day=bill_day,
        through=billed_through,
    )
    ctx.execute(
        "UPDATE subscriptions SET billed_until_on = :until WHERE account_id = :id",
        until=billed_through + timedelta(days=1),
        id=ctx.world.accounts["rich"],
    )
    last, rich = date.fromisoformat(periods[-1]), ctx.world.accounts["rich"]
    unit_of_work(lambda session: issue(session, draft_next(session, [rich], last, 14), "USD"), rich)
    rows = ctx.rows(
        "SELECT period_from, period_to FROM invoices WHERE account_id = :id ORDER BY period_from",
        id=ctx.world.accounts["rich"],
    )
    starts = [date.fromisoformat(str(start)) for start, _ in rows]
    ends = [date.fromisoformat(str(end)) for _, end in rows]
    assert [str(start) for start in starts] == periods
    assert [end + timedelta(days=1) for end in ends[:-1]] == starts[1:]


def test_invoice_is_frozen_whatever_becomes_of_plan_and_address(ctx: Portal) -> None:
    what = "SELECT bill_name, total_minor FROM invoices ORDER BY id"
    before = ctx.rows(what)
    lines = ctx.rows("SELECT description, amount_minor FROM invoice_lines ORDER BY 1, 2")
    ctx.execute("UPDATE plans SET price_minor = price_minor * 2, name = 'renamed'")
    ctx.execute("UPDATE accounts SET name = 'renamed'")
    ctx.execute("UPDATE taxes SET name = 'renamed'")
    assert ctx.rows(what) == before
    assert ctx.rows("SELECT description, amount_minor FROM invoice_lines ORDER BY 1, 2") == lines
