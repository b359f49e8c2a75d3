"""What the database refuses whoever asks: tools without our settings, lines too many or too few."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core import activity
from core.db import db
from core.schema import APPEND_ONLY
from tests.conftest import Portal

INVOICE = (
    "INSERT INTO invoices (id, public_id, number, kind, account_id, issued_on, due_on, period_from,"
    " period_to, bill_name, bill_address, total_minor, tax_minor, currency, line_count)"
    " VALUES (99, 'odd', 'odd', 'opening', 1, '2026-06-01', '2026-06-01', '2026-06-01',"
    " '2026-06-01', 'x', '[]', 300, 0, 'USD', 2)"
)
LINE = (
    "INSERT INTO invoice_lines (invoice_id, position, kind, ledger, description, quantity,"
    " amount_minor) VALUES ({invoice}, {position}, 'charge', 'revenue:tv', 'x', 1, {minor})"
)


def attempt(portal: Portal, *statements: str) -> str:
    """The last statement's refusal, in a transaction that leaves nothing; "" when it is taken."""
    with portal.app.app_context(), db.engine.connect() as connection:
        connection.exec_driver_sql("BEGIN")
        try:
            for statement in statements[:-1]:
                connection.execute(text(statement))
            connection.execute(text(statements[-1]))
        except DBAPIError as error:
            return str(error.orig)
        finally:
            connection.exec_driver_sql("ROLLBACK")
    return ""


def line(position: int, minor: int, invoice: int | str = 99) -> str:
    return LINE.format(invoice=invoice, position=position, minor=minor)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([(1, 100), (2, 200)], ""),
        ([(1, 100), (2, 201)], "do not add up"),
        ([(2, 300)], "do not add up"),
        ([(1, 300), (3, 1)], "outside"),
        ([(0, 300)], "outside"),
        ([(1, 100), (2, 200), (3, 1)], "outside"),
    ],
)
def test_lines_complete_their_invoice_or_are_refused(
    portal: Portal, lines: list[tuple[int, int]], why: str
) -> None:
    refusal = attempt(portal, INVOICE, *[line(*each) for each in lines])
    assert why in refusal
    assert bool(refusal) == bool(why)


def test_issued_invoice_takes_no_further_line(portal: Portal) -> None:
    [(invoice, count)] = portal.rows("SELECT id, line_count FROM invoices ORDER BY id LIMIT 1")
    assert "outside" in attempt(portal, line(count + 1, 1, invoice))


def columns(portal: Portal, table: str) -> str:
    with portal.app.app_context():
        return ", ".join(db.metadata.tables[table].columns.keys())


@pytest.fixture
def noticed(portal: Portal) -> Portal:
    """With a row in every append-only table."""
    portal.execute("INSERT INTO gateway_notices VALUES ('sandbox', 'event', '2026-06-01 00:00:00')")
    with portal.app.app_context():
        assert activity.seal() > 0
    for table in APPEND_ONLY:
        assert portal.one(f"SELECT count(*) FROM {table}") > 0, table
    return portal


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_no_tool_replaces_a_row_of_an_sqlite_file(noticed: Portal, table: str) -> None:
    """Such as the sqlite3 shell, which leaves recursive triggers off."""
    connection = sqlite3.connect(noticed.settings.database_url.removeprefix("sqlite:///"))
    before = connection.execute(f"SELECT * FROM {table}").fetchall()
    for sql in (
        f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}",
        f"REPLACE INTO {table} SELECT * FROM {table}",
        f"UPDATE OR REPLACE {table} SET rowid = rowid",
        f"DELETE FROM {table}",
    ):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(sql)
    connection.rollback()
    assert connection.execute(f"SELECT * FROM {table}").fetchall() == before
    connection.close()


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("table", "new_id", "unique"),
    [
        ("journal_entries", {"id": 990}, "key"),
        ("invoices", {"id": 991, "public_id": "p", "entry_id": None, "kind": "opening"}, "number"),
        ("invoices", {"id": 992, "number": "n", "entry_id": None, "kind": "opening"}, "public_id"),
        ("invoices", {"id": 993, "number": "n", "public_id": "p", "entry_id": None}, "month"),
        ("invoices", {"id": 994, "number": "n", "public_id": "p", "kind": "opening"}, "entry_id"),
    ],
)
def test_no_tool_replaces_a_row_by_another_of_its_unique_values(
    portal: Portal, table: str, new_id: dict[str, Any], unique: str
) -> None:
    connection = sqlite3.connect(portal.settings.database_url.removeprefix("sqlite:///"))
    connection.row_factory = sqlite3.Row
    [row] = connection.execute(f"SELECT * FROM {table} ORDER BY id LIMIT 1").fetchall()
    values = dict(row) | new_id
    names, marks = ", ".join(values), ", ".join(["?"] * len(values))
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute(
            f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})", [*values.values()]
        )
    connection.close()


@pytest.mark.parametrize("engine_kind", ["postgresql"])
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_postgresql_refuses_to_update_by_conflict_or_to_truncate(
    noticed: Portal, table: str
) -> None:
    names = columns(noticed, table)
    first = names.split(", ", maxsplit=1)[0]
    with noticed.app.app_context():
        key = ", ".join(db.metadata.tables[table].primary_key.columns.keys())
    assert "append-only" in attempt(
        noticed,
        f"INSERT INTO {table} ({names}) SELECT {names} FROM {table} LIMIT 1"
        f" ON CONFLICT ({key}) DO UPDATE SET {first} = excluded.{first}",
    )
    assert "append-only" in attempt(noticed, f"TRUNCATE {table} CASCADE")


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE payments SET state = 'succeeded' WHERE entry_id IS NULL OR 1 = 1",
        "UPDATE payments SET entry_id = NULL",
        "UPDATE payments SET amount_minor = 0",
        "UPDATE invoice_balances SET open_minor = -1",
        "UPDATE invoice_balances SET settled_at = NULL WHERE open_minor = 0",
    ],
)
def test_payments_and_open_amounts_cannot_contradict_themselves(portal: Portal, sql: str) -> None:
    if "OR 1 = 1" in sql:
        portal.execute(
            "INSERT INTO payments (public_id, key, account_id, amount_minor, currency, state,"
            " revision, gateway, method, decline_reason, created_at, ask_count)"
            " VALUES ('odd', 'odd', 1, 1, 'USD', 'declined', 1, 'sandbox', '', '',"
            " '2026-06-01 00:00:00', 0)"
        )
    assert "ck_" in attempt(portal, sql).lower() or "check" in attempt(portal, sql).lower()


def test_account_has_one_payment_under_way(portal: Portal) -> None:
    head = (
        "INSERT INTO payments (public_id, key, account_id, amount_minor, currency, state, revision,"
        " gateway, method, decline_reason, created_at, ask_count)"
        " VALUES ('{0}', '{0}', 1, 1, 'USD', '{1}', 1, 'x', '', '', '2026-06-01 00:00:00', 0)"
    )
    for state in ("created", "sent", "unknown"):
        refusal = attempt(portal, head.format("a", "sent"), head.format("b", state))
        assert "unique" in refusal.lower()
    assert attempt(portal, head.format("a", "sent"), head.format("b", "processing")) == ""
