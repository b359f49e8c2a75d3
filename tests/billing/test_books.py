"""The books: what the database refuses, what verify finds, what an accountant's tool says."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from beancount import loader
from beancount.core import data, realization
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from blueprints.billing import ledger
from core.db import db, unit_of_work
from models import EntryKind
from tests.conftest import Portal

FROZEN = ("journal_entries", "journal_lines", "invoices", "invoice_lines", "allocations")


def refused(portal: Portal, sql: str) -> str:
    with portal.app.app_context(), pytest.raises(DBAPIError) as error, db.engine.connect() as one:
        one.execute(text(sql))
    return str(error.value.orig)


@pytest.mark.parametrize("table", FROZEN)
def test_database_refuses_to_change_or_delete_what_is_booked(portal: Portal, table: str) -> None:
    before = portal.rows(f"SELECT * FROM {table}")
    column = "line_count" if table in ("journal_entries", "invoices") else "amount_minor"
    assert "append-only" in refused(portal, f"UPDATE {table} SET {column} = {column}")
    assert "append-only" in refused(portal, f"DELETE FROM {table}")
    assert portal.rows(f"SELECT * FROM {table}") == before


@pytest.mark.parametrize("table", FROZEN)
def test_database_refuses_to_replace_or_truncate_what_is_booked(portal: Portal, table: str) -> None:
    if portal.settings.is_sqlite:
        sql = f"INSERT OR REPLACE INTO {table} SELECT * FROM {table} LIMIT 1"
    else:
        sql = f"TRUNCATE {table} CASCADE"
    assert "append-only" in refused(portal, sql)


@pytest.mark.parametrize(
    ("positions", "why"),
    [
        ([(1, 500), (2, -400)], "do not add up"),
        ([(2, 0)], ""),
        ([(3, 500)], "outside"),
        ([(0, 500)], "outside"),
    ],
)
def test_database_refuses_lines_that_do_not_complete_their_entry(
    portal: Portal, positions: list[tuple[int, int]], why: str
) -> None:
    head = (
        "INSERT INTO journal_entries"
        " (id, key, kind, account_id, booked_on, description, line_count, created_at)"
        " VALUES (9999, 'odd', 'adjustment', 1, '2026-06-01', 'odd', 2, '2026-06-01')"
    )
    line = (
        "INSERT INTO journal_lines (entry_id, position, ledger, amount_minor, currency)"
        " VALUES (9999, {}, 'revenue:tv', {}, 'USD')"
    )
    with portal.app.app_context(), db.engine.connect() as one:
        one.exec_driver_sql("BEGIN")
        one.execute(text(head))
        for position, amount in positions[:-1]:
            one.execute(text(line.format(position, amount)))
        with pytest.raises(DBAPIError) as error:
            one.execute(text(line.format(*positions[-1])))
        one.exec_driver_sql("ROLLBACK")
    assert why in str(error.value.orig)


def test_posting_that_does_not_sum_to_zero_is_refused_before_anything_is_written(
    ctx: Portal,
) -> None:
    odd = ledger.Posting(
        "odd", EntryKind.ADJUSTMENT, 1, date(2026, 6, 1), "odd",
        ((ledger.RECEIVABLE, 100), ("revenue:tv", -99)),
    )  # fmt: skip
    with pytest.raises(ledger.UnbalancedPosting):
        unit_of_work(lambda session: ledger.post(session, [odd], "USD"), 1)
    assert ctx.one("SELECT count(*) FROM journal_entries WHERE key = 'odd'") == 0


def verify(portal: Portal) -> tuple[int, str]:
    result = portal.app.test_cli_runner().invoke(args=["ledger", "verify"])
    return result.exit_code, result.output


def test_verify_is_content_with_the_world(portal: Portal) -> None:
    assert verify(portal) == (0, "The books add up.\n")


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("UPDATE accounts SET balance_minor = balance_minor + 1 WHERE number = '1001'", "1001"),
        (
            "UPDATE invoice_balances SET open_minor = open_minor + 1 WHERE settled_at IS NULL",
            "open",
        ),
        (
            "UPDATE payments SET state = 'declined', entry_id = NULL WHERE key = 'world-3'",
            "payment",
        ),
    ],
)
def test_verify_names_the_row_that_does_not_add_up(portal: Portal, sql: str, named: str) -> None:
    before = portal.rows("SELECT id, state, entry_id FROM payments WHERE key = 'world-3'")
    balances = portal.rows("SELECT id, balance_minor FROM accounts")
    open_ = portal.rows("SELECT invoice_id, open_minor FROM invoice_balances")
    portal.execute(sql)
    code, output = verify(portal)
    assert code == 1
    assert named in output
    # Put back, since every test ends with books that add up.
    for row_id, state, entry_id in before:
        portal.execute(
            "UPDATE payments SET state = :state, entry_id = :entry WHERE id = :id",
            id=row_id, state=state, entry=entry_id,
        )  # fmt: skip
    for row_id, minor in balances:
        portal.execute("UPDATE accounts SET balance_minor = :m WHERE id = :id", id=row_id, m=minor)
    for row_id, minor in open_:
        portal.execute(
            "UPDATE invoice_balances SET open_minor = :m WHERE invoice_id = :id", id=row_id, m=minor
        )


def test_bean_check_accepts_the_export_with_equal_balances(portal: Portal, tmp_path: Path) -> None:
    file = tmp_path / "books.beancount"
    result = portal.app.test_cli_runner().invoke(
        args=["ledger", "export", "--format", "beancount", "--output", str(file)]
    )
    assert result.exit_code == 0, result.output
    entries, errors, _options = loader.load_file(str(file))
    assert errors == []
    assert any(isinstance(entry, data.Balance) for entry in entries)
    root = realization.realize(entries)
    for number, minor in portal.rows("SELECT number, balance_minor FROM accounts"):
        account = realization.get(root, f"Assets:Receivable:A{number}")
        found = account.balance.get_currency_units("USD").number if account is not None else 0
        assert found == Decimal(minor) / 100, number
