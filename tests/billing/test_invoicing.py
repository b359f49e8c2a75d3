"""What an invoice says and costs, month by month."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from blueprints.billing.invoicing import BilledSubscription, TaxRule, compute_lines
from core import clock
from core.money import round_half_away, tax_on
from models import InvoiceLineKind
from tests.conftest import Portal, together
from tests.world import issue_month

TAXES = (
    TaxRule("STATE", "State tax", 625, None, ("tv", "phone"), date(2020, 1, 1), None),
    TaxRule("E911", "911 fee", None, 125, ("phone",), None, None),
    TaxRule("OLD", "Old tax", 1000, None, ("tv",), None, date(2024, 12, 31)),
)


def of(kind: str, price: int, intro: int | None = None, months: int | None = None):
    return BilledSubscription(1, kind, kind, price, intro, months, date(2026, 1, 31))


@pytest.mark.parametrize(
    ("subscriptions", "charges", "taxes"),
    [
        ([of("internet", 6500)], 6500, 0),
        ([of("tv", 1900)], 1900, 119),
        ([of("phone", 1800)], 1800, 113 + 125),
        ([of("phone", 1800), of("phone", 1800)], 3600, 225 + 250),
        ([of("tv", 1900), of("tv", 700), of("phone", 1800)], 4400, 275 + 125),
        ([of("option", 0)], 0, 0),
    ],
)
def test_charges_and_taxes_of_a_month(subscriptions, charges: int, taxes: int) -> None:
    lines = compute_lines(subscriptions, TAXES, date(2026, 2, 1), date(2026, 2, 28))
    assert sum(row.amount_minor for row in lines if row.kind == InvoiceLineKind.CHARGE) == charges
    assert sum(row.amount_minor for row in lines if row.kind == InvoiceLineKind.TAX) == taxes


@pytest.mark.parametrize(
    ("day", "price"),
    [(date(2026, 1, 31), 4900), (date(2026, 7, 30), 4900), (date(2026, 7, 31), 6500)],
)
def test_introductory_price_runs_for_its_months(day: date, price: int) -> None:
    assert of("internet", 6500, 4900, 6).price_on(day) == price


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
    [(total, open_)] = ctx.rows(
        "SELECT total_minor, open_minor FROM invoices i JOIN invoice_balances b"
        " ON b.invoice_id = i.id WHERE i.account_id = :id",
        id=ctx.world.accounts["rich"],
    )
    assert total - open_ == 5000
