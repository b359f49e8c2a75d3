"""Copying accounts in bulk: nothing is forgotten, nothing is shared, and the books add up."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, Table, create_engine, text
from sqlalchemy.orm import Session

from bench import dataset
from blueprints.billing import settling, starting
from blueprints.billing.verify import find_faults
from core import activity, form_keys
from core.db import db
from gateways.payments.sandbox.store import Decision
from models import Base
from tests.conftest import Portal

on_sqlite = pytest.mark.parametrize("engine_kind", ["sqlite"], indirect=True)


def _with(*columns: Column[object]) -> MetaData:
    """The portal's tables and one more that hangs on an account."""
    metadata = MetaData()
    for table in Base.metadata.tables.values():
        table.to_metadata(metadata)
    account: Column[int] = Column("account_id", ForeignKey("accounts.id"))
    Table("tickets", metadata, Column("id", Integer, primary_key=True), account, *columns)
    return metadata


def _pay(portal: Portal) -> None:
    key = form_keys.check(
        portal.settings.secret, "alice", form_keys.mint(portal.settings.secret, "alice"), "/", {}
    )
    order = starting.Order(
        portal.world.accounts["alice"],
        portal.world.customers["alice"],
        starting.Choice.OTHER,
        amount_minor=500,
    )
    way = starting.start(order, key, "/{id}", portal.gateway, "http://127.0.0.1:8000/{id}")
    portal.bank.decide(key.intent, Decision.PAY)
    settling.settle(way.payment_id, portal.gateway)


@on_sqlite
def test_three_times_the_accounts_still_add_up(ctx: Portal, tmp_path: Path) -> None:
    _pay(ctx)
    with db.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = tmp_path / "lastmile.db"
    shutil.copyfile(ctx.settings.data / "lastmile.db", copy)
    dataset.copy_accounts(copy, 3)
    engine = create_engine(f"sqlite:///{copy}")
    with engine.connect() as connection, Session(connection) as session:
        for table in dataset.RULES:
            wanted = 3 * ctx.one(f"SELECT count(*) FROM {table}")
            assert session.scalar(text(f"SELECT count(*) FROM {table}")) == wanted, table
        assert list(find_faults(session)) == []
        rows = session.execute(
            text(
                "SELECT a.salt, a.facts, a.digest, p.account_id = a.account_id FROM activity a "
                "JOIN payments p ON p.public_id = json_extract(a.facts, '$.payment')"
            )
        ).all()
        received = "SELECT count(*) FROM activity WHERE kind = 'payment_received'"
        assert len(rows) == 3 * ctx.one(received) > 0
        for salt, facts, digest, is_own in rows:
            assert is_own
            assert activity.digest_of(salt, json.loads(facts)) == digest
        refused = "DELETE FROM journal_entries"
        with pytest.raises(Exception, match="append-only"):
            session.execute(text(refused))
    engine.dispose()


@on_sqlite
def test_each_account_without_an_owner_is_given_one(ctx: Portal, tmp_path: Path) -> None:
    db.session.execute(text("DELETE FROM memberships WHERE account_id = 1"))
    with db.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    copy = tmp_path / "lastmile.db"
    shutil.copyfile(ctx.settings.data / "lastmile.db", copy)
    dataset.add_owners(copy, "a hash")
    engine = create_engine(f"sqlite:///{copy}")
    with engine.connect() as connection:
        owners = connection.execute(
            text(
                "SELECT c.sign_in_id, a.number, count(*) FROM memberships m "
                "JOIN customers c ON c.id = m.customer_id JOIN accounts a ON a.id = m.account_id "
                "WHERE m.role = 'owner' GROUP BY a.id ORDER BY a.id"
            )
        ).all()
    engine.dispose()
    assert len(owners) == ctx.one("SELECT count(*) FROM accounts")
    assert owners[0].sign_in_id == f"owner-{owners[0].number}"


def test_a_table_that_hangs_on_accounts_needs_a_rule() -> None:
    with pytest.raises(dataset.NoRule, match="tickets"):
        dataset.plan(_with())


def test_a_unique_column_needs_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(dataset.RULES, "tickets", {})
    with pytest.raises(dataset.NoRule, match="would share number"):
        dataset.plan(_with(Column("number", String, unique=True)))
