"""`flask ledger verify` names every row that was broken behind the triggers' back; the export."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from beancount import loader

from core.db import db
from core.schema import create_triggers, drop_triggers
from tests.conftest import Base, Portal

Break = Callable[..., tuple[int, str]]


@pytest.fixture
def broken(portal: Portal, base: Base) -> Iterator[Break]:
    """`broken(sql, …)` runs statements with the triggers gone; what verify then says. The database
    is made anew at the end, since after each test the books must add up."""

    def breaks(*statements: str) -> tuple[int, str]:
        with portal.app.app_context(), db.engine.connect() as connection:
            if portal.settings.is_sqlite:
                drop_triggers(connection)
                connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
            else:
                connection.exec_driver_sql("SET session_replication_role = replica")
            for statement in statements:
                assert connection.exec_driver_sql(statement).rowcount > 0, statement
            if portal.settings.is_sqlite:
                create_triggers(connection)
            connection.invalidate()
        result = portal.app.test_cli_runner().invoke(args=["ledger", "verify"])
        return result.exit_code, result.output

    yield breaks
    base.reset()


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        (("UPDATE journal_lines SET amount_minor = amount_minor + 1 WHERE entry_id = {entry}"
         " AND position = 1"), ["entry invoice:2026-000001", "currency USD", "account 1001",
                               "invoice 2026-000001"]),
        ("DELETE FROM journal_lines WHERE entry_id = {entry} AND position = 2",
         ["entry invoice:2026-000001"]),
        ("DELETE FROM journal_lines WHERE entry_id = {entry}", ["entry invoice:2026-000001"]),
        (("UPDATE invoice_lines SET amount_minor = amount_minor + 1 WHERE invoice_id = {invoice}"
         " AND position = 1"), ["invoice 2026-000001"]),
        ("UPDATE invoices SET total_minor = total_minor + 1 WHERE id = {invoice}",
         ["invoice 2026-000001"]),
        ("UPDATE invoices SET entry_id = NULL WHERE id = {invoice}", ["invoice 2026-000001"]),
        ("UPDATE allocations SET amount_minor = amount_minor + 1 WHERE invoice_id = {invoice}",
         ["invoice 2026-000001", "entry payment:"]),
        ("UPDATE allocations SET invoice_id = {theirs} WHERE invoice_id = {invoice}",
         ["invoice 2026-000002 of another account"]),
        ("DELETE FROM invoice_balances WHERE invoice_id = {invoice}", ["invoice 2026-000001"]),
        ("DELETE FROM payments WHERE key = 'world-3'", ["entry payment:"]),
        ("UPDATE payments SET amount_minor = amount_minor - 1 WHERE key = 'world-3'", ["payment "]),
        ("UPDATE payments SET state = 'declined', entry_id = NULL WHERE key = 'world-3'",
         ["payment "]),
        ("UPDATE accounts SET balance_minor = balance_minor - 1 WHERE number = '3003'",
         ["account 3003"]),
        ("UPDATE counters SET next_value = next_value + 1", ["invoices of 2026"]),
    ],
)  # fmt: skip
def test_verify_names_what_was_broken(
    portal: Portal, broken: Break, sql: str, named: list[str]
) -> None:
    [(invoice, entry)] = portal.rows(
        "SELECT id, entry_id FROM invoices WHERE number = '2026-000001'"
    )
    theirs = portal.one("SELECT id FROM invoices WHERE number = '2026-000002'")
    code, output = broken(sql.format(invoice=invoice, entry=entry, theirs=theirs))
    assert code == 1
    for name in named:
        assert name in output, output
    assert "The books do not add up" in output


def export(portal: Portal, folder: Path) -> tuple[str, list[Any]]:
    file = folder / "books.beancount"
    result = portal.app.test_cli_runner().invoke(args=["ledger", "export", "--output", str(file)])
    assert result.exit_code == 0, result.output
    _entries, errors, _options = loader.load_file(str(file))
    return file.read_text(), errors


def test_accounts_that_differ_only_in_signs_stay_apart_in_the_export(
    portal: Portal, tmp_path: Path
) -> None:
    portal.execute("UPDATE accounts SET number = 'ä/1' WHERE number = '1001'")
    portal.execute("UPDATE accounts SET number = 'ö.1' WHERE number = '2002'")
    text, errors = export(portal, tmp_path)
    assert errors == []
    assert "Assets:Receivable:A1 " in text
    assert "Assets:Receivable:A1-2 " in text


def test_quotation_marks_stay_inside_their_text(portal: Portal, tmp_path: Path) -> None:
    with portal.app.app_context(), db.engine.connect() as connection:
        connection.exec_driver_sql(
            "INSERT INTO journal_entries (id, key, kind, account_id, booked_on, description,"
            " line_count, created_at) VALUES (990, 'a\"b\\c', 'adjustment', 1, '2026-06-01', '', 2,"
            " '2026-06-01 00:00:00')"
        )
        for position, minor in ((1, 5), (2, -5)):
            connection.exec_driver_sql(
                "INSERT INTO journal_lines (entry_id, position, ledger, amount_minor, currency)"
                f" VALUES (990, {position}, 'revenue:x', {minor}, 'USD')"
            )
    _text, errors = export(portal, tmp_path)
    assert errors == []


def test_bean_check_finds_a_balance_that_is_one_cent_off(
    portal: Portal, broken: Break, tmp_path: Path
) -> None:
    broken("UPDATE accounts SET balance_minor = balance_minor + 1 WHERE number = '1001'")
    _text, errors = export(portal, tmp_path)
    assert len(errors) == 1
    assert "Balance failed" in str(errors[0])
