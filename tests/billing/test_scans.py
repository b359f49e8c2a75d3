"""What runs by itself looks at the accounts it is about, however many others there are.

SQLite knows nothing of how many rows there are unless it is told, so that it plans here what it
plans for fifty thousand accounts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event

from blueprints.billing import bill_run, ledger, settling
from blueprints.billing.methods import settling as methods
from blueprints.billing.planned import foreseeing
from blueprints.staff.reports import paid
from core import clock
from core.db import db, unit_of_work
from gateways.payments.base import Notice
from tests import crawl
from tests.billing.test_bill_run import JULY, at, run
from tests.conftest import Portal, Queries

on_sqlite = pytest.mark.parametrize("engine_kind", ["sqlite"])

GROWING = {
    "accounts", "activity", "adjustments", "allocations", "arrangements", "charges", "contacts",
    "customers", "dunning_steps", "invoice_balances", "invoice_lines", "invoices",
    "journal_entries", "journal_lines", "line_holds", "lines", "memberships", "message_choices",
    "messages", "moves", "payment_methods", "payment_reversals", "payments", "planned_payments",
    "pauses", "plan_changes", "subscriptions", "top_up_uses", "top_ups", "usage_alerts",
    "usage_blocks", "usage_days", "usage_sessions",
}  # fmt: skip


class Plans:
    """How SQLite goes about what ran: the tables that grow of which it read every row."""

    def __init__(self) -> None:
        self.scanned: set[str] = set()

    def note(
        self, connection: Connection, _cursor: Any, statement: str, given: Any, *_rest: Any
    ) -> None:
        if not statement.startswith(("SELECT", "UPDATE", "DELETE")):
            return
        driver: Any = connection.connection.driver_connection
        many = [given] if not isinstance(given, list) else given
        steps = driver.execute(f"EXPLAIN QUERY PLAN {statement}", many[0]).fetchall()
        for *_ids, words in steps:
            kind, table, *how = words.split()
            if kind == "SCAN" and table in GROWING and not how:
                self.scanned.add(table)


@pytest.fixture
def plans(ctx: Portal) -> Iterator[Plans]:
    found = Plans()
    event.listen(db.engine, "before_cursor_execute", found.note)
    yield found
    event.remove(db.engine, "before_cursor_execute", found.note)


@on_sqlite
def test_issuing_reads_the_accounts_of_a_batch_alone(
    ctx: Portal, plans: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    due = bill_run.list_due(db.session(), JULY)
    monkeypatch.setattr(bill_run, "list_due", lambda *_: due)
    plans.scanned.clear()
    assert run(JULY).invoices > 0
    unit_of_work(lambda session: ledger.list_unused_credits(session, due))
    assert plans.scanned == set()


@on_sqlite
def test_payment_of_a_notice_is_found_by_its_reference(portal: Portal, plans: Plans) -> None:
    notice = Notice("event-1", "reference-1", None)
    assert not settling.take_notice(portal.gateway, notice)
    assert not methods.take_notice(portal.gateway, notice)
    assert plans.scanned == set()


@on_sqlite
def test_what_is_planned_and_over_is_not_looked_at_each_minute(
    portal: Portal, plans: Plans
) -> None:
    crawl.prepare(portal)
    plans.scanned.clear()
    foreseeing.look_after_ends()
    assert plans.scanned == set()


@on_sqlite
def test_declined_payments_are_found_by_their_day(portal: Portal, plans: Plans) -> None:
    with clock.set_to(at(JULY)):
        paid.failed(JULY - timedelta(days=30), date(2026, 7, 1))
    assert plans.scanned == set()


# Pages ------------------------------------------------------------------------------------------


@on_sqlite
@pytest.mark.parametrize("name", ["alice", "theo"])
def test_no_page_of_a_customer_reads_all_rows_of_a_table_that_grows(
    portal: Portal, name: str
) -> None:
    crawl.prepare(portal)
    visitor = portal.visitor(name)
    said: dict[str, str] = {}
    with Queries(portal.app) as queries:
        for endpoint, path in crawl.list_gets(portal).items():
            before = len(queries.statements)
            crawl.send(visitor, "GET", path)
            said |= dict.fromkeys(queries.statements[before:], endpoint)
    scanned = set()
    with portal.app.app_context(), db.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        for statement, endpoint in said.items():
            if not statement.startswith("SELECT"):
                continue
            given = [None] * statement.count("?")
            for *_ids, words in driver.execute(f"EXPLAIN QUERY PLAN {statement}", given):
                kind, table, *how = words.split()
                # A search without an index goes through the rows for the least or the greatest.
                is_all = kind in ("SCAN", "SEARCH") and "INDEX" not in how and "KEY" not in how
                if is_all and re.sub(r"_\d+$", "", table) in GROWING:
                    scanned.add((endpoint, table))
    assert scanned == set()
