"""Migrations that are killed at any step, run twice at once, or meet a schema of later (bar 74)."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, event, inspect, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from core.db import db
from core.migrate import _config, known_revisions, upgrade
from core.settings import ROOT
from models import Base
from tests import outside, pg, repeats
from tests.conftest import Portal
from tests.faults.disk import OK, Disk, under

LATER = '''
"""A later build's"""
import sqlalchemy as sa
from alembic import op

revision = "later"
down_revision = "{head}"


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


def start_child(config: Config, kill_at: int | None = None, disk: Disk | None = None) -> int:
    """Migrate in another process, killed before its `kill_at`th statement, or with `disk` before
    its `kill_at`th write to it; its process id."""
    pid = os.fork()
    if pid:
        return pid
    steps = 0

    def step(*_arguments: Any) -> int:
        nonlocal steps
        steps += 1
        if steps == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return OK

    try:
        if disk is None:
            event.listen(Engine, "before_cursor_execute", step)
        else:
            disk.before = step
        command.upgrade(config, "head")
        os._exit(0)
    finally:
        os._exit(1)


def wait_for(pid: int) -> int:
    """The exit code of a child, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def migrate_in_a_child(config: Config, kill_at: int | None = None, disk: Disk | None = None) -> int:
    return wait_for(start_child(config, kill_at, disk))


def tables(url: str) -> set[str]:
    engine = create_engine(url, poolclass=NullPool)
    return set(inspect(engine).get_table_names())


def some_points(url: str, first: int, up_to: int) -> list[int]:
    """Steps to be killed at: all of them as soon as the repeats reach. Fewer on PostgreSQL, where
    the process that dies is not the one that writes."""
    kills = repeats.REPEATS if url.startswith("sqlite") else max(5, repeats.REPEATS // 5)
    points = range(first, up_to)
    return repeats.dice().sample(points, min(kills, len(points)))


def test_first_migration_killed_at_any_step_leaves_nothing_and_can_be_run_again(
    empty_url: str,
) -> None:
    config = config_for(empty_url)
    for point in some_points(empty_url, 3, 80):
        assert migrate_in_a_child(config, point) == -signal.SIGKILL
        assert tables(empty_url) == set()
    assert migrate_in_a_child(config) == 0
    assert tables(empty_url) == {*Base.metadata.tables, "alembic_version"}
    command.check(config)


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_first_migration_killed_at_any_write_is_there_whole_or_not_at_all(
    empty_url: str, tmp_path: Path
) -> None:
    config = config_for(empty_url)
    file = tmp_path / "empty.db"
    whole = {*Base.metadata.tables, "alembic_version"}
    with under(file) as disk:
        for point in some_points(empty_url, 1, 250):
            code = migrate_in_a_child(config, point, disk)
            found = tables(empty_url)
            assert found in ((set(), whole) if code else (whole,)), (point, code)
            if found:
                command.check(config)
                for end in ("", "-wal", "-shm", "-journal"):
                    file.with_name(file.name + end).unlink(missing_ok=True)
    assert migrate_in_a_child(config) == 0
    assert tables(empty_url) == whole


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
    (scripts / "versions" / "later.py").write_text(LATER.format(head=known_revisions()[0]))
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
    for point in some_points(portal.settings.database_url, 3, 18):
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
    assert portal.rows("SELECT version_num FROM alembic_version") == [("later",)]
    for table in ("journal_entries", "journal_lines", "invoices", "allocations"):
        assert refuses(portal, f"DELETE FROM {table}"), table


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_later_migration_killed_at_any_write_finishes_or_rolls_back(
    portal: Portal, later: Path
) -> None:
    config = config_for(portal.settings.database_url, later)
    before = content(portal)
    with portal.app.app_context():
        db.engine.dispose()
    with under(portal.settings.data / "lastmile.db") as disk:
        for point in sorted(some_points(portal.settings.database_url, 1, 200)):
            code = migrate_in_a_child(config, point, disk)
            assert portal.rows("PRAGMA integrity_check") == [("ok",)]
            assert content(portal)[:3] == before[:3]
            assert refuses(portal, "UPDATE journal_entries SET line_count = 2")
            is_later = portal.rows("SELECT version_num FROM alembic_version") == [("later",)]
            assert (content(portal)[3] == before[3]) is not is_later
            with portal.app.app_context():
                db.engine.dispose()
            if is_later or code == 0:
                break
    assert migrate_in_a_child(config) == 0
    assert portal.rows("SELECT version_num FROM alembic_version") == [("later",)]


def shape(url: str) -> dict[str, dict[str, tuple[bool, bool]]]:
    """Table, column: may it be NULL, and does the database fill it in."""
    engine = create_engine(url, poolclass=NullPool)
    inspector = inspect(engine)
    found = {
        table: {
            column["name"]: (
                bool(column["nullable"]),
                column["default"] is not None or bool(column.get("autoincrement") is True),
            )
            for column in inspector.get_columns(table)
        }
        for table in inspector.get_table_names()
    }
    engine.dispose()
    return found


def stops_the_build_before(
    before: dict[str, dict[str, tuple[bool, bool]]], after: dict[str, dict[str, tuple[bool, bool]]]
) -> list[str]:
    """What a migration did that keeps the build before it from reading or writing (bar 74)."""
    wrong = [f"{table} is gone" for table in before.keys() - after.keys()]
    for table in before.keys() & after.keys():
        wrong += [f"{table}.{name} is gone" for name in before[table].keys() - after[table].keys()]
        for name, (is_nullable, is_filled) in after[table].items():
            was_nullable = before[table][name][0] if name in before[table] else True
            if was_nullable and not is_nullable and not is_filled:
                wrong.append(f"{table}.{name} must be given, which the build before does not do")
    return sorted(wrong)


def steps_of(url: str, scripts: Path) -> Iterator[tuple[str, list[str]]]:
    """Every migration after the first, run one by one, with what stops the build before it."""
    config = config_for(url, scripts)
    revisions = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()]
    before = None
    for revision in reversed(revisions):
        command.upgrade(config, revision)
        after = shape(url)
        if before is not None:
            yield revision, stops_the_build_before(before, after)
        before = after


def test_each_migration_leaves_the_build_before_it_running(empty_url: str) -> None:
    for revision, wrong in steps_of(empty_url, ROOT / "migrations"):
        assert wrong == [], revision


def test_migration_that_stops_the_build_before_it_is_found(empty_url: str, later: Path) -> None:
    later_file = later / "versions" / "later.py"
    later_file.write_text(
        later_file.read_text()
        .replace(', nullable=False, server_default="")', ", nullable=False)")
        .replace('batch.alter_column("description", type_=sa.String(300))', "pass")
        .replace('"note", sa.String(20)', '"hint", sa.String(20)')
        .replace("note <> ''", "hint <> ''")
        + '    op.drop_column("isp", "support_phone")\n'
    )
    *_earlier, last = steps_of(empty_url, later)
    assert last == (
        "later",
        [
            "isp.support_phone is gone",
            "journal_entries.memo must be given, which the build before does not do",
        ],
    )


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
    command.check(_config(ctx.settings.database_url))
