"""Migrations that are killed at any step, run twice at once, or meet a schema of later (bar 74)."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from core.db import db
from core.migrate import _config, upgrade
from core.settings import ROOT
from models import Base
from tests import outside, pg
from tests.conftest import Portal

KILLS = 12

LATER = '''
"""A later build's"""
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    with op.batch_alter_table("journal_entries", recreate="auto") as batch:
        batch.add_column(sa.Column("memo", sa.String(20), nullable=False, server_default=""))
        batch.alter_column("description", type_=sa.String(300))
    with op.batch_alter_table("invoices") as batch:
        batch.add_column(sa.Column("note", sa.String(20), nullable=True))
        batch.create_check_constraint("note", "note <> ''")
    op.execute("UPDATE accounts SET revision = revision + 1")
'''


@pytest.fixture
def empty_url(engine_kind: str, tmp_path: Path) -> Iterator[str]:
    if engine_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    outside.need("postgresql")
    server = pg.server()
    yield server.create("empty")
    server.drop("empty")


def config_for(url: str, scripts: Path = ROOT / "migrations") -> Config:
    config = Config()
    config.set_main_option("script_location", str(scripts))
    config.set_main_option("sqlalchemy.url", url.replace("%", "%%"))
    return config


def start_child(config: Config, kill_at: int | None = None) -> int:
    """Migrate in another process, killed before its `kill_at`th statement; its process id."""
    pid = os.fork()
    if pid:
        return pid
    statements = 0

    def count(*_arguments: Any) -> None:
        nonlocal statements
        statements += 1
        if statements == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    try:
        event.listen(Engine, "before_cursor_execute", count)
        command.upgrade(config, "head")
        os._exit(0)
    finally:
        os._exit(1)


def wait_for(pid: int) -> int:
    """The exit code of a child, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def migrate_in_a_child(config: Config, kill_at: int | None = None) -> int:
    return wait_for(start_child(config, kill_at))


def tables(url: str) -> set[str]:
    engine = create_engine(url, poolclass=NullPool)
    return set(inspect(engine).get_table_names())


def some_points(up_to: int) -> list[int]:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    return random.Random(seed).sample(range(3, up_to), KILLS)


def test_first_migration_killed_at_any_step_leaves_nothing_and_can_be_run_again(
    empty_url: str,
) -> None:
    config = config_for(empty_url)
    for point in some_points(80):
        assert migrate_in_a_child(config, point) == -signal.SIGKILL
        assert tables(empty_url) == set()
    assert migrate_in_a_child(config) == 0
    assert tables(empty_url) == {*Base.metadata.tables, "alembic_version"}
    command.check(config)


def test_two_that_migrate_at_once_both_succeed(empty_url: str) -> None:
    config = config_for(empty_url)
    children = [start_child(config) for _ in range(3)]
    assert [wait_for(pid) for pid in children] == [0, 0, 0]
    command.check(config)


@pytest.fixture
def later(tmp_path: Path) -> Path:
    """The migrations of a build of later, which rebuilds tables that hold data."""
    scripts = tmp_path / "migrations"
    shutil.copytree(ROOT / "migrations", scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "0002_later.py").write_text(LATER)
    return scripts


def content(portal: Portal) -> list[Any]:
    queries = (
        "SELECT id, key, account_id, line_count FROM journal_entries ORDER BY id",
        "SELECT entry_id, position, amount_minor FROM journal_lines ORDER BY 1, 2",
        "SELECT id, number, total_minor FROM invoices ORDER BY id",
        "SELECT id, revision FROM accounts ORDER BY id",
    )
    return [portal.rows(query) for query in queries]


def refuses(portal: Portal, sql: str) -> bool:
    with portal.app.app_context(), db.engine.connect() as connection:
        try:
            connection.execute(text(sql))
        except DBAPIError as error:
            return "append-only" in str(error.orig)
    return False


def test_later_migration_over_data_killed_at_any_step_finishes_or_rolls_back(
    portal: Portal, later: Path
) -> None:
    config = config_for(portal.settings.database_url, later)
    before = content(portal)
    with portal.app.app_context():
        db.engine.dispose()
    for point in some_points(18):
        # PostgreSQL rebuilds nothing and is through in fewer statements than some of the points.
        code = migrate_in_a_child(config, point)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        assert content(portal) == before
        assert refuses(portal, "UPDATE journal_entries SET line_count = 2")
    else:
        assert migrate_in_a_child(config) == 0
    assert content(portal)[:3] == before[:3]
    assert portal.rows("SELECT version_num FROM alembic_version") == [("0002",)]
    for table in ("journal_entries", "journal_lines", "invoices", "allocations"):
        assert refuses(portal, f"DELETE FROM {table}"), table


def test_this_build_runs_on_the_schema_of_a_later_one(portal: Portal, later: Path) -> None:
    with portal.app.app_context():
        db.engine.dispose()
        assert migrate_in_a_child(config_for(portal.settings.database_url, later)) == 0
        upgrade(portal.settings)
    alice = portal.visitor("alice")
    assert alice.submit(alice.get(portal.path()), "/pay").status == 303


def test_database_of_a_build_is_left_as_it_is(ctx: Portal) -> None:
    before = ctx.rows("SELECT version_num FROM alembic_version")
    upgrade(ctx.settings)
    assert ctx.rows("SELECT version_num FROM alembic_version") == before
    command.check(_config(ctx.settings))
