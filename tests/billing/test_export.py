"""The journal for the bookkeeping: what it sums to is what the books say, in every form and of any
days."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from beancount import loader
from beancount.core import data, realization

from blueprints.billing import export as books
from core.db import reading
from tests import crawl
from tests.conftest import Portal
from tests.page import BASE

on_sqlite = pytest.mark.parametrize("engine_kind", ["sqlite"])


def export(portal: Portal, *arguments: str) -> str:
    result = portal.app.test_cli_runner().invoke(args=["ledger", "export", *arguments])
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(portal: Portal, *arguments: str) -> str:
    result = portal.app.test_cli_runner().invoke(args=["ledger", "export", *arguments])
    assert result.exit_code == 1
    return result.output


def as_rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def sums(rows: list[dict[str, str]], by: str) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for row in rows:
        amount = Decimal(row["debit"] or 0) - Decimal(row["credit"] or 0)
        found[row[by]] = found.get(row[by], Decimal(0)) + amount
    return found


def ledgers(portal: Portal, until: str = "2026-12-31") -> dict[str, Decimal]:
    return {
        name: Decimal(minor) / 100
        for name, minor in portal.rows(
            "SELECT l.ledger, sum(l.amount_minor) FROM journal_lines l JOIN journal_entries e"
            " ON e.id = l.entry_id WHERE e.booked_on <= :until GROUP BY l.ledger",
            until=until,
        )
    }


def test_csv_is_the_books_line_by_line(portal: Portal) -> None:
    rows = as_rows(export(portal, "--format", "csv"))
    assert len(rows) == portal.one("SELECT count(*) FROM journal_lines")
    assert sums(rows, "ledger") == ledgers(portal)
    assert sum(sums(rows, "entry").values()) == 0
    assert not any(sums(rows, "entry").values())
    assert {row["account"] for row in rows if row["ledger"] == "receivable"} == {
        "1001", "2002", "3003",
    }  # fmt: skip
    assert all(row["code"] == row["ledger"] for row in rows)


def test_spans_that_follow_each_other_are_the_whole(portal: Portal) -> None:
    whole = as_rows(export(portal, "--format", "csv"))
    parts = as_rows(export(portal, "--format", "csv", "--to", "2026-04-08"))
    parts += as_rows(export(portal, "--format", "csv", "--from", "2026-04-09"))
    assert parts == whole


def test_codes_come_from_a_file_or_the_catalog(portal: Portal, tmp_path: Path) -> None:
    codes = tmp_path / "codes.csv"
    codes.write_text("ledger,code\nreceivable,1200\nrevenue:tv,4010\nrevenue:*,4000\n")
    rows = as_rows(export(portal, "--format", "csv", "--map", str(codes)))
    assert {row["ledger"]: row["code"] for row in rows if row["ledger"][:3] == "rev"} == {
        "revenue:internet": "4000",
        "revenue:phone": "4000",
        "revenue:tv": "4010",
    }
    assert sums(rows, "code")["1200"] == ledgers(portal)["receivable"]
    portal.execute(
        """UPDATE isp SET billing_rules = '{"journal_codes": {"tax:*": "2300"}}',"""
        " revision = revision + 1"
    )
    rows = as_rows(export(portal, "--format", "csv"))
    assert {row["code"] for row in rows if row["ledger"].startswith("tax:")} == {"2300"}


@on_sqlite
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("receivable", "line 1 must be"),
        ("receivable,1200,more", "line 1 must be"),
        ("a,1\n\na,2", "line 3 names a a second time"),
    ],
)
def test_map_that_is_none_is_refused(portal: Portal, tmp_path: Path, text: str, said: str) -> None:
    codes = tmp_path / "codes.csv"
    codes.write_text(text)
    assert said in refused(portal, "--format", "csv", "--map", str(codes))


@on_sqlite
def test_code_that_is_no_beancount_account_is_refused(portal: Portal, tmp_path: Path) -> None:
    codes = tmp_path / "codes.csv"
    codes.write_text("revenue:tv,4010\n")
    assert "4010 is no beancount account" in refused(portal, "--map", str(codes))
    assert "--to is before --from" in refused(portal, "--from", "2026-05-02", "--to", "2026-05-01")


def checked(tmp_path: Path, text: str) -> Any:
    """The entries, once bean-check has accepted the file."""
    file = tmp_path / "books.beancount"
    file.write_text(text)
    program = Path(sys.executable).with_name("bean-check")
    done = subprocess.run(
        [program, str(file)], check=False, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    entries, errors, _options = loader.load_file(str(file))
    assert errors == []
    return entries


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (None, None),
        ("2026-04-01", "2026-05-31"),
        ("2026-04-02", "2026-04-02"),
        (None, "2026-03-31"),
        ("2026-06-01", None),
        ("2026-06-19", "2026-12-31"),
    ],
)
def test_bean_check_accepts_any_days(
    portal: Portal, tmp_path: Path, first: str | None, last: str | None
) -> None:
    span = [*(("--from", first) if first else ()), *(("--to", last) if last else ())]
    entries = checked(tmp_path, export(portal, *span))
    assert any(isinstance(entry, data.Balance) for entry in entries)
    root = realization.realize(entries)
    end = last or "2026-12-31"
    for number, minor in portal.rows(
        "SELECT a.number, sum(l.amount_minor) FROM journal_lines l JOIN journal_entries e"
        " ON e.id = l.entry_id JOIN accounts a ON a.id = l.account_id WHERE e.booked_on <= :end"
        " GROUP BY a.number",
        end=end,
    ):
        account = realization.get(root, f"Assets:Receivable:A{number}")
        found = account.balance.get_currency_units("USD").number if account is not None else 0
        assert found == Decimal(minor) / 100, number


def test_bean_check_accepts_accounts_of_a_map(portal: Portal, tmp_path: Path) -> None:
    codes = tmp_path / "codes.csv"
    codes.write_text("receivable,Assets:Customers\nrevenue:*,Income:Sales\ntax:*,Liabilities:Tax\n")
    entries = checked(tmp_path, export(portal, "--map", str(codes), "--from", "2026-05-01"))
    names = {entry.account for entry in entries if isinstance(entry, data.Open)}
    assert names == {
        "Assets:Customers", "Income:Sales", "Liabilities:Tax", "Assets:Gateway:Sandbox",
        "Equity:Opening",
    }  # fmt: skip


@on_sqlite
def test_days_before_the_first_entry_are_an_empty_file(portal: Portal, tmp_path: Path) -> None:
    assert export(portal, "--to", "2020-01-01") == "; no entry until then\n"
    assert as_rows(export(portal, "--format", "csv", "--to", "2020-01-01")) == []


# The page ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("file_format", ["csv", "beancount"])
def test_page_gives_what_the_command_gives_and_notes_it(portal: Portal, file_format: str) -> None:
    ben = portal.visitor("ben")
    page = ben.get("/staff/reports/journal?from=2026-04-01&to=2026-05-31")
    assert "postings" in page.text
    [link] = page.select(f"a[href*='/journal/{file_format}?']")
    answer = ben.client.get(link.get("href"), base_url=BASE)
    assert answer.status_code == 200
    span = ("--from", "2026-04-01", "--to", "2026-05-31", "--format", file_format)
    assert answer.data.decode("utf-8-sig").splitlines() == export(portal, *span).splitlines()
    assert portal.rows("SELECT purpose FROM data_accesses") == [
        ("journal 2026-04-01 to 2026-05-31",)
    ]
    assert (
        portal.one(
            "SELECT count(*) FROM activity WHERE kind = 'ledger_exported' AND customer_id = :id",
            id=portal.world.customers["ben"],
        )
        == 1
    )


@on_sqlite
def test_page_gives_no_more_than_a_request_may_gather(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    from blueprints.staff.reports import journal

    monkeypatch.setattr(journal, "MOST_POSTINGS", 10)
    ben = portal.visitor("ben")
    differs = crawl.watch(portal.app)
    for path in ("journal", "journal/csv"):
        page = ben.get(f"/staff/reports/{path}?from=2026-03-01&to=2026-06-20")
        assert page.status == 422
        assert "more than the 10 that a page gives" in page.text
    assert differs() == set()
    assert ben.get("/staff/reports/journal?to=never").status == 422
    assert ben.get("/staff/reports/journal/pdf").status == 404


@on_sqlite
def test_file_asks_for_the_password_once_more(portal: Portal, tick: Any) -> None:
    ben = portal.visitor("ben")
    tick(minutes=15)
    out = ben.get("/staff/reports/journal/csv?from=2026-04-01&to=2026-05-31")
    assert out.location.startswith("/confirm?next=")
    assert portal.visitor("sue").get("/staff/reports/journal").status == 403


def test_postings_are_counted_as_they_are_given(ctx: Portal) -> None:
    days = books.Days(date(2026, 4, 1), date(2026, 4, 1) + timedelta(days=40))
    with reading() as session:
        given = list(books.postings(session, days, books.Codes()))
        assert books.count_postings(session, days) == len(given) > 0
