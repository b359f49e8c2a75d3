# ruff: noqa: ISC004 - statements stand in several pieces
"""Everything moves from SQLite to PostgreSQL: what comes over, refusals, kills."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.pool import NullPool

from app import create_app
from blueprints.staff import copying
from blueprints.staff.copy_target import Target, shown
from core import clock, in_use, worker
from core.db import WriterQueue, db, writer_queue
from core.migrate import create_schema
from models import Base
from tests import outside, pg
from tests.conftest import Portal, _settings
from tests.page import Visitor
from tests.repeats import REPEATS, dice

KILLS = max(8, REPEATS // 2)


@dataclass
class Move:
    """The portal on SQLite, and an empty PostgreSQL database to move to."""

    portal: Portal
    url: str

    def run(self, *more: str, to: str | None = None) -> Any:
        arguments = ["data", "copy", "--to", to or self.url, *more]
        return self.portal.app.test_cli_runner().invoke(args=arguments)

    def refused(self, to: str | None = None) -> str:
        """What the command says when it refuses."""
        result = self.run(to=to)
        assert result.exit_code == 1, result.output
        last: str = result.stderr.splitlines()[-1]
        assert last.startswith("Error: ")
        return last

    def target(self, sql: str) -> list[tuple[Any, ...]]:
        with pg.server().connect("moved") as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def renew(self, template: str | None = None) -> None:
        """The target anew: without a template it has no table."""
        pg.server().drop("moved")
        pg.server().create("moved", template)


@pytest.fixture
def engine_kind() -> str:
    return "sqlite"


@pytest.fixture(scope="module")
def server() -> pg.PgServer:
    """With `migrated`, a database that has the schema and no row."""
    outside.need("postgresql")
    server = pg.server()
    settings = _settings(Path("/"), server.create("migrated"))
    create_schema(settings.database_url)
    return server


@pytest.fixture
def move(portal: Portal, server: pg.PgServer) -> Iterator[Move]:
    yield Move(portal, server.create("moved", template="migrated"))
    server.drop("moved")


@pytest.fixture
def copied(move: Move, server: pg.PgServer, monkeypatch: pytest.MonkeyPatch) -> Move:
    """All rows are there, and nothing is compared yet."""
    with server.connect() as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = 'copied'").fetchone()
    if found:
        move.renew("copied")
    else:
        interrupt(move, monkeypatch)
        server.create("copied", template="moved")
    return move


def content(url: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table as Python sees it."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return {
            table.name: [
                tuple(row)
                for row in connection.execute(select(table).order_by(*table.primary_key)).all()
            ]
            for table in Base.metadata.sorted_tables
        }


def both_sides_are_equal(move: Move) -> bool:
    ours, theirs = content(move.portal.settings.database_url), content(move.url)
    for name, rows in ours.items():
        assert sorted(map(repr, theirs[name])) == sorted(map(repr, rows)), name
    return True


# It works ------------------------------------------------------------------------------------


def test_everything_comes_over_and_people_go_on_where_they_were(move: Move) -> None:
    portal = move.portal
    move.renew()
    alice = portal.visitor("alice")
    before = content(portal.settings.database_url)
    result = move.run()
    assert result.exit_code == 0, result.output
    assert "Both sides are equal, the books add up" in result.stdout
    assert "stays as it is and is no longer used" in result.stdout
    assert content(portal.settings.database_url) == before
    assert both_sides_are_equal(move)

    app = create_app(replace(portal.settings, database_url=move.url))
    app.extensions["payment_gateway"] = portal.gateway
    there = Visitor(app)
    there.client._cookies = alice.client._cookies
    page = there.get(portal.path())
    assert page.status == 200
    assert there.submit(page, "/pay").status == 303  # new rows get new ids
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


def test_odd_values_come_over_as_they_are(move: Move) -> None:
    portal = move.portal
    for number, (name, address) in enumerate(
        [
            ("tab\tnewline\nreturn\rbackslash\\N \\. end", "null"),
            ("Zoë 🐐 عربى ﷽", None),
            ("", '{"a": [1, 2.50, "\\u0000", "\\ud83d\\ude00"],  "b":null}'),
            ("'; DROP TABLE accounts; --", "[]"),
            ("\\.", "5"),
        ]
    ):
        portal.execute(
            "INSERT INTO contacts (account_id, kind, value, address, since_on)"
            " VALUES (:id, 'phone', :value, :address, '0001-01-01')",
            id=portal.world.accounts["rich"],
            value=f"{name}{number}",
            address=address,
        )
    portal.execute(
        "INSERT INTO sign_in_attempts (subject, network, state, tried_at)"
        " VALUES (x'00ff5c2e0a', '::1', 'passed', '9999-12-31 23:59:59.999999')"
    )
    portal.execute(f"INSERT INTO counters (name, next_value) VALUES ('most', {2**63 - 1})")
    portal.execute(f"INSERT INTO counters (name, next_value) VALUES ('Least', {-(2**63)})")
    portal.execute("UPDATE plans SET is_offered = false WHERE id = 2")
    assert move.run("--batch-rows", "1").exit_code == 0
    assert both_sides_are_equal(move)
    assert move.target(
        "SELECT count(*) FROM contacts WHERE address IS NULL AND kind = 'phone'"
    ) == [(1,)]
    assert move.target("SELECT address::text FROM contacts WHERE value LIKE 'tab%'") == [("null",)]
    assert move.target("SELECT subject FROM sign_in_attempts ORDER BY id DESC LIMIT 1") == [
        (b"\x00\xff\\.\n",)
    ]


def test_copy_that_is_finished_is_not_touched_again(move: Move) -> None:
    assert move.run().exit_code == 0
    move.target("UPDATE accounts SET revision = 77 WHERE number = '1001'")
    again = move.run()
    assert again.exit_code == 0
    assert "was copied there and found equal on" in again.stdout
    assert move.target("SELECT revision FROM accounts WHERE number = '1001'") == [(77,)]


def test_password_is_not_shown(move: Move) -> None:
    url = "postgresql+psycopg://portal:sesame@db.example.net:5433/lastmile"
    assert shown(url) == "postgresql://portal:***@db.example.net:5433/lastmile"
    assert "sesame" not in shown("postgresql+psycopg://db.example.net/lastmile?password=sesame")
    result = move.run(to=move.url.replace("lastmile@/", "lastmile:sesame@/"))
    assert result.exit_code == 0, result.output
    assert "sesame" not in result.output
    assert "with its password in place of ***" in result.output


# It refuses ----------------------------------------------------------------------------------


def test_portal_in_use_is_not_copied(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    path = move.portal.settings.data / "lastmile.db"
    program = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT 1 FROM isp')"
    )
    program += "; print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as user:
        assert user.stdout is not None
        user.stdout.readline()
        assert f"(process {user.pid}). End the portal and its worker first" in move.refused()
        user.communicate("")
    with move.portal.app.app_context():
        monkeypatch.setattr(writer_queue(db.engine), "wait_seconds", 0.05)
    with WriterQueue(move.portal.settings.data).turn():
        assert "somebody is writing" in move.refused()
    assert move.run().exit_code == 0


def test_worker_that_beats_is_noticed_and_one_that_ended_is_waited_for(
    ctx: Portal, tick: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    assert in_use.wait_for_silence(heard.append)
    worker.beat()
    tick(seconds=20)
    looks = 0

    def passes(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        tick(seconds=5)
        if looks == 3:
            worker.beat()

    monkeypatch.setattr("core.in_use.time.sleep", passes)
    assert not in_use.wait_for_silence(heard.append)
    assert looks == 3
    assert in_use.wait_for_silence(heard.append)
    assert looks > 12
    assert "The worker was alive 20 s ago" in heard[0]
    assert in_use.last_beat_age() == timedelta(seconds=60)


def test_running_worker_is_not_copied_from(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "wait_for_silence", lambda _tell: False)
    assert "a worker is running. End the portal" in move.refused()


@pytest.mark.parametrize(
    ("prepared", "message"),
    [
        ("CREATE TABLE bookings (id int)", "it holds bookings, which is none of the portal's"),
        ("CREATE TABLE isp (is_demo bool); INSERT INTO isp VALUES (false)", "a real deployment"),
        ("CREATE TABLE areas (code text); INSERT INTO areas VALUES ('a')", "rows in areas"),
        ("CREATE TABLE alembic_version (version_num text);"
         "INSERT INTO alembic_version VALUES ('9999')", "revision 9999, this build's is"),
    ],
)  # fmt: skip
def test_database_that_is_not_empty_is_refused_and_left_alone(
    move: Move, prepared: str, message: str
) -> None:
    move.renew()
    move.target(prepared)
    named = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relname !~ '^(pg|sql)_'"
    before = move.target(named)
    assert message in move.refused()
    assert move.target(named) == before


def test_targets_that_make_no_sense_are_refused(move: Move, tmp_path: Path) -> None:
    assert "must be the address of a PostgreSQL" in move.refused(f"sqlite:///{tmp_path}/a.db")
    assert "--to must start with" in move.refused("mysql://a/b")
    assert "cannot be reached" in move.refused(move.url.replace("moved", "nowhere"))
    server = pg.server()
    with server.connect() as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    assert "encoding is LATIN1" in move.refused(server.url("latin"))
    server.drop("latin")


def test_second_copy_at_once_is_refused(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blueprints.staff.copy_target.LOCK_SECONDS", 0.0)
    with pg.server().connect("moved") as other:
        other.execute("SELECT pg_advisory_lock(4712)")
        assert "another copy into this database is running" in move.refused()


def interrupt(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a copy and lose the target in its middle."""
    with monkeypatch.context() as patch:
        patch.setattr(Target, "set_sequences", lambda _self: _lose())
        assert move.run().exit_code == 4


def _lose() -> None:
    raise psycopg.OperationalError("the connection is lost")


def test_unfinished_copy_of_another_portal_or_another_moment_is_refused(copied: Move) -> None:
    move = copied
    move.portal.execute("UPDATE isp SET name = 'Elmgrove'")
    assert "the copy of another portal" in move.refused()
    move.portal.execute("UPDATE isp SET name = 'Pinecrest Broadband'")
    with move.portal.app.app_context(), clock.set_to(clock.now() - timedelta(hours=1)):
        worker.beat()
    assert "has been in use since" in move.refused()
    move.renew()
    assert move.run().exit_code == 0


def test_copy_whose_target_went_away_goes_on(move: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(move, monkeypatch)
    result = move.run()
    assert result.exit_code == 0
    assert "payments: 2 rows are there" in result.stdout
    assert both_sides_are_equal(move)


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE customers SET name = 'a' || char(0) WHERE sign_in_id = 'bob'",
         "table customers, id 2: its name holds a character with code 0"),
        ("UPDATE customers SET name = CAST(x'ff41' AS TEXT) WHERE sign_in_id = 'bob'",
         "table customers, id 2: its name is not text in UTF-8"),
        ("UPDATE customers SET language = 'more than ten' WHERE sign_in_id = 'bob'",
         "table customers, id 2: its language is longer than"),
        ("UPDATE customers SET is_disabled = 2 WHERE sign_in_id = 'bob'",
         "table customers, id 2: its is_disabled is neither true nor false"),
        ("UPDATE customers SET revision = 'many' WHERE sign_in_id = 'bob'",
         "table customers, id 2: its revision is not a whole number"),
        ("UPDATE customers SET created_at = '2026-01-01' WHERE sign_in_id = 'bob'",
         "table customers, id 2: its created_at is not an instant"),
        ("UPDATE accounts SET opened_on = '2026-02-30' WHERE number = '1001'",
         "table accounts, id 1: its opened_on is not a day"),
        ("UPDATE plans SET intro_months = 3000000000 WHERE id = 2",
         "table plans, id 2: its intro_months is a number outside the range"),
        ("UPDATE contacts SET address = '{' WHERE id = 2",
         "table contacts, id 2: its address is not a value PostgreSQL takes"),
        ("UPDATE customers SET sign_in_key = x'00' WHERE sign_in_id = 'bob'",
         "table customers, id 2: its sign_in_key is not text"),
    ],
)  # fmt: skip
def test_row_that_postgresql_would_not_take_is_named(move: Move, sql: str, message: str) -> None:
    move.portal.execute(sql)
    assert message in move.refused()


def test_loose_rows_are_refused(move: Move) -> None:
    with move.portal.app.app_context(), db.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = OFF")
        connection.execute(text("UPDATE accounts SET area_code = 'GONE' WHERE number = '1001'"))
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
    assert "points to a row of areas that is not there" in move.refused()


def test_books_that_do_not_add_up_are_not_copied(move: Move) -> None:
    move.portal.execute("UPDATE accounts SET balance_minor = balance_minor + 1 WHERE id = 1")
    assert "the books of this database do not add up" in move.refused()
    assert "account 1001" in move.refused()
    move.portal.execute("UPDATE accounts SET balance_minor = balance_minor - 1 WHERE id = 1")


def compare_after(
    copied: Move, monkeypatch: pytest.MonkeyPatch, changes: dict[str, str]
) -> tuple[str, list[str]]:
    """Change the target before it is compared: what is said of it, and the tables that differ."""
    monkeypatch.setattr(Target, "analyze", lambda _self: [copied.target(sql) for sql in changes])
    result = copied.run()
    assert result.exit_code == 3
    assert "The copy is not equal: do not use it" in result.stderr
    assert copied.target("SELECT finished_at FROM lastmile_copy.copies") == [(None,)]
    return result.stderr, [
        line.split()[0] for line in result.stdout.splitlines() if line.endswith("DIFFERS")
    ]


def test_every_value_that_differs_is_found(copied: Move, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {
        "UPDATE plans SET is_offered = NOT is_offered WHERE id = 2": "plans",
        "UPDATE customers SET created_at = created_at + interval '1 microsecond' WHERE id = 2":
            "customers",
        "UPDATE accounts SET name = name || '!' WHERE id = 2": "accounts",
        "UPDATE contacts SET address = '{}' WHERE address::text = 'null' OR address IS NULL":
            "contacts",
        "DELETE FROM memberships WHERE customer_id = 2": "memberships",
        "UPDATE subscriptions SET started_on = started_on + 1 WHERE id = 1": "subscriptions",
    }  # fmt: skip
    assert set(compare_after(copied, monkeypatch, changes)[1]) == set(changes.values())


def test_every_rule_that_is_not_in_place_is_found(
    copied: Move, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "ALTER TABLE journal_lines DISABLE TRIGGER journal_lines_complete":
            "missing: trigger journal_lines journal_lines_complete",
        "DROP TRIGGER invoices_no_change ON invoices":
            "missing: trigger invoices invoices_no_change",
        "ALTER TABLE accounts DROP CONSTRAINT ck_accounts_status":
            "missing: constraint accounts ck_accounts_status",
        "ALTER TABLE payments DISABLE TRIGGER ALL": "not of this build: trigger payments RI_",
        "DROP INDEX uq_payments_one_under_way": "missing: index payments uq_payments_one_under_way",
        "ALTER TABLE lines ALTER is_closed DROP NOT NULL": "missing: column lines is_closed",
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN OLD; END $$": "missing: function  refuse_change",
        "SELECT setval('accounts_id_seq', 1)": "accounts: its next id would be 2",
        "UPDATE accounts SET balance_minor = 1 WHERE id = 2": "account 2002: balance 1",
    }  # fmt: skip
    said, _tables = compare_after(copied, monkeypatch, changes)
    for message in changes.values():
        assert message in said


def test_portal_on_postgresql_has_nothing_to_copy(move: Move) -> None:
    app = create_app(replace(move.portal.settings, database_url=move.url))
    result = app.test_cli_runner().invoke(args=["data", "copy", "--to", move.url])
    assert result.exit_code == 1
    assert "PostgreSQL already" in result.stderr
    with app.app_context():
        db.engine.dispose()


# It survives ---------------------------------------------------------------------------------


def start_copying(move: Move, kill_at: int | None = None) -> int:
    """Copy three rows at a time in another process, killed before its `kill_at`th statement at the
    target; its id."""
    with move.portal.app.app_context():
        db.session.remove()
        db.engine.dispose()
    pid = os.fork()
    if pid:
        return pid
    statements = itertools.count(1)
    execute = psycopg.Cursor.execute

    def count(*arguments: Any, **more: Any) -> Any:
        if next(statements) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return execute(*arguments, **more)

    try:
        vars(copying)["find_processes"] = lambda _path: []  # the test holds the writers' files
        setattr(psycopg.Cursor, "execute", count)  # noqa: B010
        with move.portal.app.app_context():
            result = copying.run(move.portal.settings, move.url, lambda _line: None, 3)
        os._exit(0 if result.is_equal else 3)
    finally:
        os._exit(1)


def wait_for(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_copy_killed_at_random_points_goes_on_and_ends_with_the_same_content(move: Move) -> None:
    """Half of the kills come before a statement, half at a moment."""
    chance = dice()
    begun = time.monotonic()
    assert wait_for(start_copying(move)) == 0
    whole = time.monotonic() - begun
    move.renew("migrated")
    kills, rows = 0, []
    while kills < KILLS:
        if chance.random() < 0.5:
            code = wait_for(start_copying(move, chance.randrange(1, 150)))
        else:
            pid = start_copying(move)
            time.sleep(chance.uniform(0, whole / 2))
            os.kill(pid, signal.SIGKILL)
            code = wait_for(pid)
        if code == 0:  # it was faster
            assert both_sides_are_equal(move)
            move.renew("migrated")
            continue
        assert code == -signal.SIGKILL
        kills += 1
        [(has_begun,)] = move.target("SELECT to_regclass('lastmile_copy.progress') IS NOT NULL")
        rows.append(
            move.target("SELECT sum(row_count) FROM lastmile_copy.progress")[0][0]
            if has_begun
            else None
        )
    print("rows after each kill", rows)
    assert any(rows)
    assert wait_for(start_copying(move)) == 0
    assert both_sides_are_equal(move)
