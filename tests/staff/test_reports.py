"""Reports: what they add up is what the books say, as page and as CSV."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from typing import Any

import pytest

from blueprints.billing import invoicing
from blueprints.billing.crediting import draft_credit_note
from blueprints.staff.reports import owed, paid, sold
from blueprints.staff.reports.report import Report, Spans
from blueprints.staff.reports.views import KINDS
from core import clock
from core.db import unit_of_work
from core.money import Money
from tests import world
from tests.conftest import Portal, Queries
from tests.page import BASE

FIRST, LAST = date(2026, 3, 1), date(2026, 6, 20)
on_sqlite = pytest.mark.parametrize("engine_kind", ["sqlite"])


def minor(cell: object) -> int:
    assert isinstance(cell, Money)
    return cell.amount_minor


def column(report: Report, which: int) -> list[Any]:
    return [row[which] for row in report.rows]


def booked(ctx: Portal, which: str, until: str = "2026-06-20") -> int:
    return int(
        ctx.one(
            "SELECT coalesce(sum(l.amount_minor), 0) FROM journal_lines l JOIN journal_entries e"
            " ON e.id = l.entry_id WHERE l.ledger LIKE :which AND e.booked_on <= :until",
            which=which,
            until=until,
        )
    )


def test_receivables_are_those_of_the_books_by_age(ctx: Portal) -> None:
    report = owed.aged(LAST, LAST)
    # alice owes May and June, mallory March to June, each due on the 15th; rich has credit.
    wanted = [0, 2 * 10556, 2 * 10556, 10556, 10556, -5000]
    assert [minor(cell) for cell in column(report, 1)] == wanted
    assert sum(minor(cell) for cell in column(report, 1)) == booked(ctx, "receivable")
    assert minor(report.sums[1]) == booked(ctx, "receivable")
    assert minor(column(report, 1)[-1]) == -5000


@pytest.mark.parametrize("day", [date(2026, 3, 1), date(2026, 4, 30), date(2026, 5, 31)])
def test_receivables_of_a_day_gone_by_are_what_they_were_then(ctx: Portal, day: date) -> None:
    report = owed.aged(day, day)
    assert minor(report.sums[1]) == booked(ctx, "receivable", str(day))
    assert all(minor(cell) >= 0 for cell in column(report, 1)[:-1])


@pytest.mark.parametrize(
    ("day", "months"),
    [
        # Of a bill each, by age; mallory pays none, alice paid March and April on the 9th.
        (date(2026, 3, 15), [1, 0, 0, 0, 0]),
        (date(2026, 3, 16), [0, 1, 0, 0, 0]),
        (date(2026, 4, 14), [1, 1, 0, 0, 0]),
        (date(2026, 4, 15), [1, 0, 1, 0, 0]),
        (date(2026, 6, 13), [2, 2, 1, 1, 0]),
        (date(2026, 6, 14), [2, 2, 1, 0, 1]),
    ],
)
def test_age_is_counted_from_the_due_day(ctx: Portal, day: date, months: list[int]) -> None:
    report = owed.aged(day, day)
    assert [minor(cell) for cell in column(report, 1)[:-1]] == [10556 * count for count in months]


def test_revenue_is_that_of_the_books(ctx: Portal) -> None:
    report = sold.revenue(FIRST, LAST)
    assert column(report, 0) == ["Fiber 300", "Local TV", "Home Voice"]
    assert report.columns[1:] == ("Pinecrest", "Total")
    assert minor(report.sums[-1]) == -booked(ctx, "revenue%")
    assert minor(sold.revenue(date(2026, 3, 1), date(2026, 3, 31)).sums[-1]) == 2 * 10200


def test_what_a_credit_note_gives_back_is_taken_off(ctx: Portal) -> None:
    ctx.execute(
        "UPDATE subscriptions SET ended_on = '2026-06-10' WHERE account_id = :id",
        id=ctx.world.accounts["alice"],
    )
    with clock.set_to(datetime(2026, 7, 1, 20, tzinfo=UTC)):
        world.issue_month(ctx.world, ("alice",), date(2026, 7, 1))
    july = sold.revenue(date(2026, 7, 1), date(2026, 7, 1))
    assert minor(july.sums[-1]) < 0
    assert minor(sold.revenue(FIRST, date(2026, 7, 1)).sums[-1]) == -booked(
        ctx, "revenue%", "2026-07-01"
    )


def test_tax_on_days_given_back_is_that_of_their_bill(ctx: Portal) -> None:
    """Alice ends everything in June and is exempt from July on: what June cost is given back with
    the tax that it was billed with."""
    alice = ctx.world.accounts["alice"]
    ctx.execute("UPDATE subscriptions SET ended_on = '2026-06-01' WHERE account_id = :id", id=alice)
    ctx.execute(
        "INSERT INTO tax_exemptions (account_id, tax_code, from_on, reason)"
        " VALUES (:id, 'STATE',"
        " '2026-07-01', '')",
        id=alice,
    )
    with clock.set_to(datetime(2026, 7, 1, 20, tzinfo=UTC)):
        world.issue_month(ctx.world, ("alice",), date(2026, 7, 1))
    tax = "SELECT tax_minor FROM invoices WHERE account_id = :id ORDER BY id DESC"
    july, june = [row[0] for row in ctx.rows(tax, id=alice)[:2]]
    assert july == june > 0


def test_what_staff_give_back_is_taken_off_its_plan(ctx: Portal) -> None:
    before = {row[0]: row[-1] for row in sold.revenue(FIRST, LAST).rows}
    invoice_id = ctx.one("SELECT max(id) FROM invoices WHERE kind = 'invoice'")
    with clock.set_to(datetime(2026, 6, 20, 19, tzinfo=UTC)):
        unit_of_work(
            lambda session: invoicing.issue(
                session, [draft_credit_note(session, invoice_id, {1: 1000})], "USD"
            )
        )
    after = {row[0]: row[-1] for row in sold.revenue(FIRST, LAST).rows}
    assert after == before | {"Fiber 300": Money(minor(before["Fiber 300"]) - 1000, "USD")}


def test_tax_is_that_of_the_books(ctx: Portal) -> None:
    report = sold.tax(FIRST, LAST)
    assert report.columns == ("Month", "911 fee", "State communications tax", "Total")
    assert minor(report.sums[-1]) == -booked(ctx, "tax:%")
    assert [minor(cell) for cell in column(report, 1)] == [250] * 4


def test_payments_are_those_of_the_books(ctx: Portal) -> None:
    report = paid.payments(FIRST, LAST)
    assert report.columns == ("Month", "Online (sandbox)", "Total")
    assert minor(report.sums[-1]) == booked(ctx, "gateway:%")
    april = paid.payments(date(2026, 4, 1), date(2026, 4, 30))
    assert april.columns[0] == "Day"
    assert len(april.rows) == 30
    assert minor(april.rows[8][-1]) == 10556


def test_cash_and_cheques_stand_apart(portal: Portal) -> None:
    ben = portal.visitor("ben")
    form = f"/staff/accounts/{portal.world.public_ids['alice']}/payments/new"
    for kind, amount in (("cash", "5"), ("cheque", "7"), ("cash", "1")):
        ben.submit(ben.get(form), form, kind=kind, amount=amount)
    with portal.app.test_request_context(base_url="http://127.0.0.1:8000"):
        report = paid.payments(LAST, clock.today("America/Los_Angeles"))
        assert {"Cash", "Cheque"} < set(report.columns)
        sums = dict(zip(report.columns, report.sums, strict=True))
        assert [minor(sums[name]) for name in ("Cash", "Cheque", "Total")] == [600, 700, 1300]


def test_credits_by_staff_stand_in_the_revenue(portal: Portal) -> None:
    ben = portal.visitor("ben")
    form = f"/staff/accounts/{portal.world.public_ids['alice']}/credit"
    ben.submit(ben.get(form), form, amount="7.50", reason="Slow all week")
    with portal.app.test_request_context(base_url="http://127.0.0.1:8000"):
        report = sold.revenue(LAST, clock.today("America/Los_Angeles"))
        [row] = [row for row in report.rows if row[0] == "Credits by staff"]
        assert minor(row[-1]) == -750


def test_autopay_counts_what_came_by_itself(ctx: Portal) -> None:
    report = paid.autopay(FIRST, LAST)
    assert report.sums[1:3] == (2, 0)
    assert report.notes == ("Now 0 of 3 active accounts are on autopay: 0.0%",)


def test_failed_payments_stand_under_their_reason(ctx: Portal) -> None:
    for number, (reason, day) in enumerate(
        [("No funds", "2026-06-01"), ("No funds", "2026-06-02"), ("", "2026-06-03")]
    ):
        ctx.execute(
            "INSERT INTO payments (public_id, key, account_id, amount_minor, currency, state,"
            " revision, gateway, method, decline_reason, created_at, ended_at, ask_count)"
            " VALUES (:id, :id, :account, 500, 'USD', 'declined', 1, 'sandbox', '', :reason,"
            " :day, :day, 0)",
            id=f"declined{number}",
            account=ctx.world.accounts["alice"],
            reason=reason,
            day=f"{day} 12:00:00",
        )
    report = paid.failed(date(2026, 6, 1), date(2026, 6, 30))
    assert [row[:2] for row in report.rows] == [("No funds", 2), ("No reason given", 1)]
    assert minor(report.sums[2]) == 1500


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_every_report_is_page_chart_table_and_file(portal: Portal, kind: str) -> None:
    ben = portal.visitor("ben")
    span = f"from={FIRST}&to={LAST}"
    page = ben.get(f"/staff/reports/{kind}?{span}")
    assert page.status == 200
    rows = page.select("main tbody tr")
    answer = ben.client.get(f"/staff/reports/{kind}/csv?{span}", base_url=BASE)
    header, *lines = csv.reader(io.StringIO(answer.data.decode("utf-8-sig")))
    assert answer.mimetype == "text/csv"
    if not rows:
        assert kind == "failed-payments"
        assert "Nothing in these days" in page.text
        return
    assert [cell.text_content() for cell in page.select("main thead th")] == header
    assert len(lines) == len(rows)
    [chart] = page.select("svg.chart")
    assert chart.get("aria-label")


@on_sqlite
@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
@pytest.mark.parametrize("rest", ["", "/csv"])
def test_days_that_are_none_are_answered(portal: Portal, kind: str, rest: str) -> None:
    page = portal.visitor("ada").get(f"/staff/reports/{kind}{rest}?to=tomorrow")
    assert page.status == 422
    assert "Enter the day like" in page.text


@on_sqlite
def test_report_that_is_none_is_absent(portal: Portal) -> None:
    assert portal.visitor("ben").get("/staff/reports/everything").status == 404


@on_sqlite
@pytest.mark.parametrize("who", ["sue", "tess"])
def test_only_who_bills_reads_them(portal: Portal, who: str) -> None:
    for path in ("/staff/reports/", "/staff/reports/tax", "/staff/reports/tax/csv"):
        assert portal.visitor(who).get(path).status == 403


@on_sqlite
def test_report_takes_few_queries(portal: Portal) -> None:
    ben = portal.visitor("ben")
    for kind in KINDS:
        ben.get(f"/staff/reports/{kind.name}")
        with Queries(portal.app) as queries:
            ben.get(f"/staff/reports/{kind.name}?from={FIRST}&to={LAST}")
        assert queries.count <= 8, kind.name


@pytest.mark.parametrize(
    ("first", "last", "count", "is_daily"),
    [
        (date(2026, 3, 1), date(2026, 3, 1), 1, True),
        (date(2026, 3, 1), date(2026, 5, 1), 62, True),
        (date(2026, 3, 1), date(2026, 5, 2), 3, False),
        (date(2025, 12, 31), date(2026, 12, 1), 13, False),
    ],
)
def test_spans(first: date, last: date, count: int, is_daily: bool) -> None:
    spans = Spans(first, last)
    assert spans.is_daily == is_daily
    assert len(spans.all()) == count
    assert spans.of(last) in spans.all()
