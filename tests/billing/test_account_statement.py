"""The statement of account: page, PDF and CSV say what the ledger says."""

from __future__ import annotations

import csv
import io
import re
from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blueprints.billing import account_statement
from core.downloads import cell_text, csv_lines
from core.money import Money
from tests.conftest import Portal
from tests.page import BASE, FRAGMENT

PATH = "billing/statement"


def rows_of(portal: Portal, path: str, name: str = "alice") -> list[list[str]]:
    answer = portal.visitor(name).client.get(portal.path(path, name), base_url=BASE)
    assert answer.status_code == 200
    assert answer.mimetype == "text/csv"
    assert "attachment; filename=" in answer.headers["Content-Disposition"]
    return list(csv.reader(io.StringIO(answer.data.decode("utf-8-sig"))))


def test_page_lists_entries_with_the_balance_after_each(portal: Portal) -> None:
    page = portal.visitor("alice").get(portal.path(PATH))
    assert page.status == 200
    assert "Jun 21, 2025 – Jun 20, 2026" in page.text
    amounts = [cell.text for cell in page.select("td.number bdi")]
    assert amounts[0] == "$211.12"  # after
    assert amounts[-1] == "$0.00"  # before
    assert page.text.count("Payment") >= 2
    assert page.select("main th a[href*='/billing/invoices/']")
    assert page.select("main th a[href*='/billing/payments/']")


def test_statement_is_what_the_ledger_says(ctx: Portal) -> None:
    account_id = ctx.world.accounts["alice"]
    found = account_statement.find_statement(account_id, date(2026, 4, 1), date(2026, 5, 31))
    assert found.opening.amount_minor == 0
    labels = [re.sub(r"\d{4}-\d{6}", "N", entry.label) for entry in found.entries]
    assert labels == ["Invoice N", "Payment", "Invoice N"]
    assert found.charged - found.credited == found.closing
    assert found.entries[-1].balance == found.closing
    ledgers = ctx.one(
        "SELECT sum(l.amount_minor) FROM journal_lines l"
        " JOIN journal_entries e ON e.id = l.entry_id"
        " WHERE l.account_id = :id AND e.booked_on <= '2026-05-31'",
        id=account_id,
    )
    assert found.closing == Money(int(ledgers), "USD")


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(days=st.lists(st.dates(date(2026, 2, 1), date(2026, 7, 1)), min_size=3, max_size=3))
@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_spans_that_follow_each_other_join(ctx: Portal, days: list[date]) -> None:
    """Whatever days a statement is cut at: the balance after one is the balance before the next."""
    first, cut, last = sorted(days)
    account_id = ctx.world.accounts["alice"]
    whole = account_statement.find_statement(account_id, first, last)
    left = account_statement.find_statement(account_id, first, cut)
    right = account_statement.find_statement(account_id, cut + timedelta(days=1), last)
    assert left.closing == right.opening
    assert (left.opening, right.closing) == (whole.opening, whole.closing)
    assert left.entries + right.entries == whole.entries


def test_csv_says_the_same(portal: Portal) -> None:
    header, *rows = rows_of(portal, f"{PATH}/csv?from=2026-03-01&to=2026-06-20")
    assert header == [
        "Date", "What", "Details", "Charged", "Paid or credited", "Balance", "Currency",
    ]  # fmt: skip
    assert rows[0][:2] == ["2026-03-01", "Balance before"]
    assert rows[-1][1:] == ["Balance after", "", "422.24", "211.12", "211.12", "USD"]
    charged = [row[3] for row in rows[1:-1] if row[3]]
    assert charged == ["105.56"] * 4


def test_pdf_is_tagged_small_and_the_same_each_time(portal: Portal) -> None:
    alice = portal.visitor("alice")
    path = portal.path(f"{PATH}/pdf?from=2026-01-01&to=2026-06-20")
    answers = [alice.client.get(path, base_url=BASE) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].data == answers[1].data
    assert answers[0].mimetype == "application/pdf"
    assert b"pdfuaid:part" in answers[0].data or b"/StructTreeRoot" in answers[0].data
    assert len(answers[0].data) <= 60_000
    assert (
        answers[0].headers["Content-Disposition"]
        == "attachment; filename=1001_2026-01-01_2026-06-20.pdf"
    )


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_pdf_of_days_without_entries_is_made_too(portal: Portal) -> None:
    answer = portal.visitor("alice").client.get(
        portal.path(f"{PATH}/pdf?from=2020-01-01&to=2020-01-02"), base_url=BASE
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("kind", ["", "/pdf", "/csv"])
@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("from=yesterday", "Enter the day like 2026-03-31."),
        ("to=31.12.2026", "Enter the day like 2026-03-31."),
        ("from=0001-01-01&to=9999-12-31", "Enter the day like 2026-03-31."),
        ("from=2026-05-02&to=2026-05-01", "The last day is before the first one."),
    ],
)
def test_days_that_are_none_are_answered(portal: Portal, kind: str, query: str, said: str) -> None:
    page = portal.visitor("alice").get(portal.path(f"{PATH}{kind}?{query}"))
    assert page.status == 422
    assert said in page.text
    assert page.select("[aria-invalid=true]")


def test_fragment_is_the_list_alone(portal: Portal) -> None:
    page = portal.visitor("alice").get(portal.path(PATH), headers=FRAGMENT)
    assert page.status == 200
    assert not page.select("h1")
    assert page.select("#statement-rows")


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_only_who_sees_money_sees_it(portal: Portal) -> None:
    for rest in (PATH, f"{PATH}/pdf", f"{PATH}/csv", "billing/spending"):
        path = portal.path(rest)
        assert portal.visitor("vera").client.get(path, base_url=BASE).status_code == 200
        assert portal.visitor("theo").get(path).status == 403
        assert portal.visitor("mallory").get(path).status == 404
        assert portal.visitor().get(path).status == 303


def test_invoice_as_csv_sums_to_its_total(portal: Portal) -> None:
    number, public_id, total = portal.rows(
        "SELECT number, public_id, total_minor FROM invoices WHERE account_id = :id ORDER BY id"
        " LIMIT 1",
        id=portal.world.accounts["alice"],
    )[0]
    header, *rows = rows_of(portal, f"billing/invoices/{public_id}/csv")
    assert header[:4] == ["Number", "Issued", "Due", "What"]
    assert {row[0] for row in rows} == {number}
    assert sum(round(float(row[7]) * 100) for row in rows) == total
    [link] = (
        portal.visitor("alice")
        .get(portal.path(f"billing/invoices/{public_id}"))
        .select("a[href$='/csv']")
    )
    assert "hx-ignore" in link.attrib


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30", "'+49 30"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("\rx", "'\rx"),
        ("-12.50", "-12.50"),
        (Money(-1250, "USD"), "-12.50"),
        (-3, "-3"),
        ("plain", "plain"),
        (None, ""),
        (date(2026, 3, 1), "2026-03-01"),
    ],
)
def test_cells_that_begin_a_formula_are_neutralised(cell: object, text: str) -> None:
    assert cell_text(cell) == text  # type: ignore[arg-type]
    assert list(csv.reader(csv_lines([[cell]]))) == ([[text]] if text else [[""]])  # type: ignore[list-item]
