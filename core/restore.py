"""Putting a backup in the place of the database: the whole of it or nothing, whatever happens.

What is restored is checked, upgraded and verified before it becomes the database. On SQLite that is
one rename; on PostgreSQL one transaction. The database that was there is kept under a dated name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import IO, Any, cast

import psycopg
from sqlalchemy import Connection, create_engine, inspect, select, text, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from core import backup_file, clock, erasures, migrate, pg_programs, sole_use
from core.backup import (
    REPLACED_SCHEMA,
    Faults,
    check_file,
    count_rows,
    database_file,
    engine_of_file,
    find_some,
    make_single_file,
)
from core.backup_file import BadBackup, Manifest
from core.erasures import Erase, Listed
from core.pg_programs import PgProgramFailed
from core.settings import Settings
from core.sole_use import DatabaseInUse
from models import Base, Isp, SignInSession

_LEAVING_SECONDS = 3
"""How long whoever is connected to PostgreSQL may take to be gone."""


class RestoreRefused(Exception):
    """The backup was not restored; the database is the one that was there. The text says why."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. `replaced` says where the database that was there is now, None when there
    was none; `lost_rows` how many rows of each table it had more than the restored one, as far as
    it could be read; `erased` how many were erased again, and `doubtful` who may have been erased,
    which nothing could tell any more."""

    manifest: Manifest
    replaced: str | None
    upgraded_from: str | None
    lost_rows: dict[str, int] = field(default_factory=dict)
    erased: int = 0
    doubtful: tuple[str, ...] = ()


def examine(settings: Settings, path: Path, *, with_faults: bool = False) -> Manifest:
    """What would be restored from `path`. Raises RestoreRefused when it must not be; reads only the
    manifest, so damage further on is found when it is restored."""
    try:
        manifest = backup_file.read_manifest(path)
    except BadBackup as error:
        raise RestoreRefused(f"{path}: {error}") from error
    here = "sqlite" if settings.is_sqlite else "postgresql"
    if manifest.engine != here:
        raise RestoreRefused(
            f"{path} is a backup of {_engine_name(manifest.engine)}, and DATABASE_URL names "
            f"{_engine_name(here)}"
        )
    if manifest.is_demo != settings.is_demo:
        raise RestoreRefused(
            f"{path} is a backup of the demo, and this is a real deployment"
            if manifest.is_demo
            else f"{path} is a backup of a real deployment, and LASTMILE_DEMO=1 is set"
        )
    if manifest.revision not in migrate.known_revisions():
        raise RestoreRefused(
            f"{path} was made by a later version of the portal (schema {manifest.revision}): "
            "update the portal first"
        )
    if manifest.faults and not with_faults:
        raise RestoreRefused(
            f"the books in {path} did not add up when it was made ({manifest.faults[0]}): "
            "take an earlier one, or restore it as it is with --with-faults"
        )
    return manifest


def _engine_name(engine: str) -> str:
    return {"sqlite": "SQLite", "postgresql": "PostgreSQL"}.get(engine, engine)


@dataclass(frozen=True, slots=True)
class Rules:
    """What the blueprints know of a database that is restored."""

    find_faults: Faults
    erase: Erase
    with_faults: bool = False


def restore(settings: Settings, path: Path, rules: Rules) -> Restored:
    """Make the backup at `path` the database of this deployment, and erase again what was erased
    since, as the lists beside the backups and beside `path` tell.

    Raises RestoreRefused, and then the database is the one that was there.
    """
    examine(settings, path, with_faults=rules.with_faults)
    put_back = _restore_sqlite if settings.is_sqlite else _restore_postgresql
    with _refused_in_words(path):
        return put_back(settings, path, rules)


def _listed(settings: Settings, path: Path) -> Listed:
    """What was erased until now. Only once nobody else can close an account is that all of it."""
    return erasures.read([*erasures.folders(settings), path.absolute().parent])


def check_unused(settings: Settings, path: Path) -> None:
    """Raises RestoreRefused while anybody is connected to the database, before a person is asked
    whether it shall be replaced by `path`."""
    with _refused_in_words(path):
        if settings.is_sqlite:
            with sole_use.alone(database_file(settings)):
                return
        engine = create_engine(settings.database_url, poolclass=NullPool)
        with engine.connect() as connection:
            _refuse_others(connection)


@contextlib.contextmanager
def _refused_in_words(path: Path) -> Iterator[None]:
    """Turn what stands in the way of a restore into RestoreRefused."""
    try:
        yield
    except BadBackup as error:
        raise RestoreRefused(f"{path}: {error}") from error
    except DatabaseInUse as error:
        raise RestoreRefused(
            f"the database is in use{f' ({error})' if str(error) else ''}: "
            "stop the portal and its worker on every machine, and other commands"
        ) from error
    except PgProgramFailed as error:
        raise RestoreRefused(str(error)) from error
    except OSError as error:
        raise RestoreRefused(f"{error.filename or path}: {error.strerror}") from error
    except (sqlite3.Error, psycopg.Error, SQLAlchemyError) as error:
        cause = getattr(error, "orig", None) or error
        raise RestoreRefused(f"{path}: {str(cause).splitlines()[0]}") from error


def _prepare(
    session: Session, manifest: Manifest, rules: Rules, listed: Listed, seen: Mapping[str, bool]
) -> tuple[int, tuple[str, ...]]:
    """Check what was restored within `session`, whose schema is this build's, and end what must not
    live again: sessions that were ended after the backup was made would be open once more, pages
    that browsers keep would be taken for true, people who were erased would be there again.

    `seen` tells who is in the database that is replaced, and whether erased. Returns how many were
    erased again, and of whom nothing tells whether they were.
    """
    isp = session.execute(select(Isp.is_demo, Isp.revision)).one_or_none()
    if isp is None or isp.is_demo != manifest.is_demo:
        raise RestoreRefused("the database in the backup is not what its manifest says")
    found = count_rows(session)
    for table, wanted in manifest.rows.items():
        if found.get(table) != wanted:
            raise RestoreRefused(
                f"the table {table} has {found.get(table, 0)} of the {wanted} rows in the backup"
            )
    were_erased = {public_id for public_id in listed.doubtful if seen.get(public_id)}
    erased = rules.erase(session, sorted(listed.done | were_erased))
    faults = find_some(session, rules.find_faults)
    if faults and not rules.with_faults:
        raise RestoreRefused(f"the books in the backup do not add up: {faults[0]}")
    session.execute(
        update(SignInSession)
        .where(SignInSession.ended_at.is_(None))
        .values(ended_at=clock.now(), kept_form=None, kept_until_at=None)
    )
    # Accounts and customers come by revisions again that they had when more was in the books:
    # pages that browsers keep from then are outdated by one that the ISP never had.
    never_had = max(isp.revision + 1, int(clock.now().timestamp()))
    session.execute(update(Isp).values(revision=never_had))
    session.flush()
    unknown = listed.doubtful - seen.keys()
    here = _seen_by(session) if unknown else {}
    return erased, tuple(sorted(who for who in unknown if here.get(who) is False))


def _seen_by(session: Session) -> dict[str, bool]:
    return {public_id: bool(gone) for public_id, gone in session.execute(text(erasures.SEEN))}


def _dated(name: str, is_taken: Callable[[str], bool]) -> str:
    """`name` with the time, and with a number where that is taken."""
    dated = f"{name}{clock.now().astimezone(UTC):%Y%m%dT%H%M%SZ}"
    names = (dated if number == 1 else f"{dated}-{number}" for number in count(1))
    return next(name for name in names if not is_taken(name))


def _lost(before: dict[str, int], manifest: Manifest) -> dict[str, int]:
    more = {table: rows - manifest.rows.get(table, 0) for table, rows in before.items()}
    return {table: rows for table, rows in more.items() if rows > 0}


# SQLite --------------------------------------------------------------------------------------


def _restore_sqlite(settings: Settings, path: Path, rules: Rules) -> Restored:
    target = database_file(settings)
    with sole_use.alone(target), backup_file.workshop(target.parent) as workshop:
        listed = _listed(settings, path)
        copy = workshop / "database"
        _check_room(path, workshop)
        manifest = backup_file.extract(path, copy)
        check_file(copy)
        url = f"sqlite:///{copy}"
        engine = engine_of_file(copy)
        with engine.connect() as connection:
            revision = migrate.current_revision(connection)
        is_older = revision != migrate.known_revisions()[0]
        if is_older:
            migrate.upgrade_file(url)
        with engine.connect() as connection, Session(connection, autoflush=False) as session:
            seen = _seen_in(target) if listed.doubtful else {}
            erased, doubtful = _prepare(session, manifest, rules, listed, seen)
            session.commit()
        make_single_file(copy)
        _sync(copy)
        backup_file.own_like(copy, target if target.exists() else target.parent)
        replaced, before = _set_file_aside(target)
        _put_in_place(copy, target)
    return Restored(
        manifest,
        str(replaced) if replaced is not None else None,
        revision if is_older else None,
        _lost(before, manifest),
        erased,
        doubtful,
    )


def _seen_in(target: Path) -> dict[str, bool]:
    """Who is in the database that is replaced, as far as it can be read. Not a byte of it is
    changed: it may be damaged, and is kept as it is."""
    name = f"{target.absolute().as_uri()}?mode=ro"
    with (
        contextlib.suppress(sqlite3.Error),
        contextlib.closing(sqlite3.connect(name, uri=True)) as connection,
    ):
        return {public_id: bool(gone) for public_id, gone in connection.execute(erasures.SEEN)}
    return {}


def _check_room(path: Path, folder: Path) -> None:
    needed = backup_file.read_manifest(path).database_bytes * 11 // 10
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RestoreRefused(
            f"there is not enough room in {folder.parent}: {free // 1_000_000} MB are free, "
            f"{needed // 1_000_000} MB are needed"
        )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _set_file_aside(target: Path) -> tuple[Path | None, dict[str, int]]:
    """Give the database that is there a dated name as well, and say how many rows it has.

    Raises DatabaseInUse. One that is damaged, which may be why it is replaced, stays as it is, with
    what SQLite had not yet put into it.
    """
    if not target.exists():
        return None, {}
    folder = target.parent
    name = _dated(f"{target.name}.replaced-", lambda name: (folder / name).exists())
    wal, kept_wal = _wal_of(target), _wal_of(folder / name)
    if wal.exists():
        # SQLite deletes it when it cannot make sense of the database.
        os.link(wal, kept_wal)
    rows: dict[str, int] = {}
    with (
        contextlib.suppress(SQLAlchemyError),
        engine_of_file(target).connect() as connection,
        Session(connection) as session,
    ):
        rows = count_rows(session)
    try:
        make_single_file(target)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            kept_wal.unlink(missing_ok=True)
            raise DatabaseInUse from error
    else:
        kept_wal.unlink(missing_ok=True)
    os.link(target, folder / name)
    backup_file.sync_folder(folder)
    return folder / name, rows


def _wal_of(database: Path) -> Path:
    return database.with_name(f"{database.name}-wal")


def _put_in_place(copy: Path, target: Path) -> None:
    """Put `copy` at `target`; at each moment either the one or the other is there."""
    # What is left of a damaged database's would be taken for the new one's.
    _wal_of(target).unlink(missing_ok=True)
    target.with_name(f"{target.name}-shm").unlink(missing_ok=True)
    copy.rename(target)
    backup_file.sync_folder(target.parent)


# PostgreSQL ----------------------------------------------------------------------------------


def _restore_postgresql(settings: Settings, path: Path, rules: Rules) -> Restored:
    with backup_file.workshop(settings.data) as workshop:
        _check_room(path, workshop)
        copy = workshop / "dump"
        manifest = backup_file.extract(path, copy)
        engine = create_engine(settings.database_url, poolclass=NullPool)
        with engine.connect() as connection, connection.begin():
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(4711)")  # the migrations'
            _refuse_others(connection)
            with Session(connection) as session:
                before = count_rows(session)
                if "customers" in before:
                    # Whoever comes now waits, and is found in use below.
                    connection.exec_driver_sql("LOCK TABLE customers IN ACCESS EXCLUSIVE MODE")
                listed = _listed(settings, path)
                is_known = listed.doubtful and "customers" in before
                seen = _seen_by(session) if is_known else {}
            replaced = _set_aside(connection)
            with pg_programs.script(copy) as lines:
                _run_script(connection, lines)
            for setting in ("search_path", "check_function_bodies", "row_security"):
                connection.exec_driver_sql(f"RESET {setting}")
            revision = migrate.current_revision(connection)
            is_older = revision != migrate.known_revisions()[0]
            if is_older:
                migrate.upgrade_within(connection)
            with Session(connection, autoflush=False) as session:
                erased, doubtful = _prepare(session, manifest, rules, listed, seen)
                session.flush()
            _refuse_others(connection)
    upgraded_from = revision if is_older else None
    return Restored(manifest, replaced, upgraded_from, _lost(before, manifest), erased, doubtful)


def _refuse_others(connection: Connection) -> None:
    # A server process ends a moment after its client has closed the connection.
    end = time.monotonic() + _LEAVING_SECONDS
    while others := _others(connection):
        if time.monotonic() >= end:
            raise DatabaseInUse("1 connection" if others == 1 else f"{others} connections")
        time.sleep(0.05)


def _others(connection: Connection) -> int:
    # What another role is may be hidden from ours; autovacuum has no role.
    connection.exec_driver_sql("SELECT pg_stat_clear_snapshot()")
    others: int = connection.exec_driver_sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND (backend_type = 'client backend' "
        "OR backend_type IS NULL AND usesysid IS NOT NULL)"
    ).scalar_one()
    return others


def _set_aside(connection: Connection) -> str | None:
    """Move the tables that are there into a schema of their own, with all that belongs to them."""
    there = set(inspect(connection).get_table_names())
    tables = [name for name in (*Base.metadata.tables, "alembic_version") if name in there]
    if not tables:
        return None
    schemas = {name.upper() for name in inspect(connection).get_schema_names()}
    schema = _dated(REPLACED_SCHEMA, lambda name: name.upper() in schemas).lower()
    connection.exec_driver_sql(f'CREATE SCHEMA "{schema}"')
    for name in sorted(there):
        connection.exec_driver_sql(f'ALTER TABLE public."{name}" SET SCHEMA "{schema}"')
    functions = connection.execute(
        text(
            "SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = "
            "'public'::regnamespace AND NOT EXISTS (SELECT 1 FROM pg_depend d "
            "WHERE d.objid = p.oid AND d.deptype = 'e')"
        )
    ).scalars()
    for signature in functions.all():
        connection.exec_driver_sql(f'ALTER FUNCTION {signature} SET SCHEMA "{schema}"')
    return f"schema {schema}"


def _run_script(connection: Connection, lines: IO[bytes]) -> None:
    """Run what pg_restore writes inside the open transaction, so that it counts as a whole."""
    driver = cast("psycopg.Connection[Any]", connection.connection.driver_connection)
    statements: list[bytes] = []
    with driver.cursor() as cursor:
        for line in lines:
            if line.startswith((b"\\restrict", b"\\unrestrict")):
                continue  # words for psql
            if not pg_programs.is_copy(line):
                statements.append(line)
                continue
            cursor.execute(b"".join(statements))
            statements.clear()
            with cursor.copy(line.rstrip().removesuffix(b";")) as rows:
                for chunk in _rows(lines):
                    rows.write(chunk)
        cursor.execute(b"".join(statements))


def _rows(lines: IO[bytes]) -> Iterator[bytes]:
    for line in lines:
        if line == b"\\.\n":
            return
        yield line


def words_of_age(made_at: datetime) -> str:
    """How long ago something happened, in words."""
    minutes = int((clock.now() - made_at).total_seconds()) // 60
    for size, word in ((1440, "days"), (60, "hours")):
        if minutes >= 2 * size:
            return f"{minutes // size} {word}"
    return "1 minute" if minutes == 1 else f"{max(minutes, 0)} minutes"
