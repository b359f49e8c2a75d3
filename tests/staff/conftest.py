"""An export to change row by row, and the catalog it belongs to."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from blueprints.staff import catalog, importing
from blueprints.staff.import_reader import COLUMNS
from blueprints.staff.importing import ImportResult
from tests.conftest import Portal

DATA = Path(__file__).parent.parent / "data"
CUT_OVER = date(2026, 6, 1)

GOOD = {
    "account_number": "7001",
    "name": "Zoë Kim",
    "email": "zoe@example.net",
    "phone": "541-521-5901",
    "street": "591 Mill St",
    "city": "Cold Spring",
    "region": "OR",
    "postcode": "97040",
    "country": "us",
    "language": "es",
    "plan_code": "AIR-25",
    "add_on_codes": "TV-BASIC;VOICE-HOME",
    "line_username": "ppp7001",
    "status": "Active",
    "activated_on": "2022-09-04",
    "bill_day": "26",
    "opening_balance": "$65.67",
    "area": "COLD",
}


def row(**changes: str) -> dict[str, str]:
    """A good row; a number of its own brings a username of its own."""
    if "account_number" in changes:
        changes = {"line_username": f"ppp{changes['account_number']}", **changes}
    return GOOD | changes


def as_csv(*rows: dict[str, str]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


@dataclass
class Desk:
    """The staff's desk: a folder with exports, and the database they go into."""

    portal: Portal
    folder: Path

    def take(self, *rows: dict[str, str], **options: Any) -> ImportResult:
        """Import these rows as export.csv."""
        return self.take_file(self.write(*rows), **options)

    def take_file(self, path: Path, **options: Any) -> ImportResult:
        return importing.run(path, **({"cut_over": CUT_OVER} | options))

    def write(self, *rows: dict[str, str]) -> Path:
        path = self.folder / "export.csv"
        path.write_bytes(as_csv(*rows))
        return path

    def refusals(self, *rows: dict[str, str], **options: Any) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        self.take(
            *rows,
            on_refusal=lambda record, refusal: found.append((record.line, refusal.reason)),
            **options,
        )
        return found

    def account(self, number: str = "7001") -> dict[str, Any]:
        [found] = self.portal.rows(
            "SELECT id, name, status, balance_minor, revision, bill_day, opened_on,"
            " billed_through_on, language, area_code FROM accounts WHERE number = :number",
            number=number,
        )
        names = (
            "id", "name", "status", "balance_minor", "revision", "bill_day", "opened_on",
            "billed_through_on", "language", "area_code",
        )  # fmt: skip
        return dict(zip(names, found, strict=True))

    def everything(self) -> dict[str, list[tuple[Any, ...]]]:
        """What the tables hold that an import writes, without ids, to compare two databases."""
        queries = {
            "accounts": "SELECT number, name, status, area_code, language, bill_day, opened_on,"
            " billed_through_on, balance_minor, revision FROM accounts",
            "contacts": "SELECT a.number, c.kind, c.value, c.since_on FROM contacts c"
            " JOIN accounts a ON a.id = c.account_id",
            "lines": "SELECT a.number, l.username, l.is_closed, l.down_kbps, h.reason,"
            " h.released_at IS NULL FROM lines l JOIN accounts a ON a.id = l.account_id"
            " LEFT JOIN line_holds h ON h.line_id = l.id",
            "subscriptions": "SELECT a.number, p.code, s.started_on, s.ended_on,"
            " s.line_id IS NULL FROM subscriptions s JOIN accounts a ON a.id = s.account_id"
            " JOIN plans p ON p.id = s.plan_id",
            "entries": "SELECT key, kind, booked_on FROM journal_entries",
            "postings": "SELECT e.key, l.ledger, l.amount_minor FROM journal_lines l"
            " JOIN journal_entries e ON e.id = l.entry_id",
            "invoices": "SELECT number, kind, due_on, total_minor, bill_name FROM invoices",
        }
        return {name: sorted(self.portal.rows(sql), key=repr) for name, sql in queries.items()}


@pytest.fixture
def ctx(ctx: Portal) -> Portal:
    """The world named its plans' ids itself; PostgreSQL's sequence has to be told."""
    if not ctx.settings.is_sqlite:
        ctx.one("SELECT setval(pg_get_serial_sequence('plans', 'id'), 100)")
    return ctx


@pytest.fixture
def desk(ctx: Portal, tmp_path: Path) -> Desk:
    """The world with Pinecrest's whole catalog."""
    catalog.load(DATA / "catalog.toml")
    return Desk(ctx, tmp_path)


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Path]:
    """The catalog with some of its text replaced."""

    def edit(*replacements: tuple[str, str]) -> Path:
        text = (DATA / "catalog.toml").read_text()
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new, 1)
        path = tmp_path / "catalog.toml"
        path.write_text(text)
        return path

    return edit
