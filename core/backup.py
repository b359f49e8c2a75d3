"""Backups while the portal runs: one file that shows one moment, verified before it has its name.

The database alone is in it. The secret is not (a new one is made where it is missing: pages that
are open then have to be loaded again), nor is the environment. Nobody who writes waits for it: on
SQLite one read transaction copies the pages, on PostgreSQL one snapshot is shared with pg_dump.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, func, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from core import backup_file, clock, pg_programs, sole_use
from core.backup_file import BackupFailed, BadBackup, Manifest, NoPlace
from core.db import words_of_missing
from core.migrate import current_revision
from core.pg_programs import PgProgramFailed
from core.settings import Settings
from models import Base, Isp

Faults = Callable[[Session], Iterable[str]]
"""What does not add up in the books, a sentence each; a blueprint knows how to find it."""

NAME = "lastmile-"
SUFFIX = ".backup"
_STAMP = "%Y%m%dT%H%M%SZ"
REPLACED_SCHEMA = "lastmile_replaced_"
_SHOWN_FAULTS = 20
# What stays free on the disk whatever a backup takes, so that the portal can go on writing.
_RESERVE_BYTES = 64_000_000
_NO_ROOM = "there is not enough room"


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that has its name."""

    path: Path
    manifest: Manifest
    size_bytes: int


def dated_name(instant: datetime) -> str:
    """The name of a nightly backup, which sorts by its time."""
    return f"{NAME}{instant.astimezone(UTC).strftime(_STAMP)}{SUFFIX}"


def database_file(settings: Settings) -> Path:
    """The SQLite file of a deployment."""
    return Path(str(make_url(settings.database_url).database))


def make(settings: Settings, target: Path, find_faults: Faults) -> Made:
    """Make a backup at `target`, which must not exist yet.

    Raises BackupFailed, and then `target` does not exist and nothing else has changed. Books that
    do not add up are copied all the same and the manifest says so.
    """
    folder = target.parent
    if target.exists():
        raise NoPlace(f"{target} is there already: choose another name")
    if not folder.is_dir():
        raise NoPlace(f"there is no folder {folder}: make it, or name another file")
    try:
        _check_room(settings, folder)
        with backup_file.workshop(folder) as workshop:
            draft = workshop / "backup"
            copy = _copy_sqlite if settings.is_sqlite else _copy_postgresql
            manifest = copy(settings, workshop, find_faults)
            backup_file.write(draft, workshop / "copy", manifest)
            (workshop / "copy").unlink()
            backup_file.check(draft)
            backup_file.own_like(draft, folder)
            # The folder is asked once more: renaming would replace what came in the meantime.
            if target.exists():
                raise NoPlace(f"{target} is there already: choose another name")
            draft.rename(target)
        backup_file.sync_folder(folder)
    except BadBackup as error:
        raise BackupFailed(f"what was written is not what was read back: {error}") from error
    except PgProgramFailed as error:
        raise BackupFailed(str(error)) from error
    except OSError as error:
        raise BackupFailed(f"{folder} cannot be written: {error.strerror}") from error
    except (sqlite3.Error, SQLAlchemyError) as error:
        raise BackupFailed(_reason(error)) from error
    return Made(target, manifest, target.stat().st_size)


def _reason(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return f"the database cannot be copied: {str(cause).splitlines()[0]}"


def database_bytes(settings: Settings) -> int:
    """How large the database is, 0 where there is none yet. Raises OSError, SQLAlchemyError."""
    if settings.is_sqlite:
        path = database_file(settings)
        if not path.exists():
            return 0
        wal = path.with_name(path.name + "-wal")
        return path.stat().st_size + (wal.stat().st_size if wal.exists() else 0)
    engine = create_engine(settings.database_url, poolclass=NullPool)
    with engine.connect() as connection:
        return int(connection.execute(select(_pg_size())).scalar_one())


def _pg_size() -> Any:
    return func.pg_database_size(func.current_database())


def _check_room(settings: Settings, folder: Path) -> None:
    """Refuse before the disk is full: it may be the one that the database is on."""
    if settings.is_sqlite and not database_file(settings).exists():
        raise BackupFailed(words_of_missing(database_file(settings)))
    size = database_bytes(settings)
    # The copy as it is and the archive, until the copy goes.
    needed = size * 3 // 2 if settings.is_sqlite else size
    free = shutil.disk_usage(folder).free
    if free < needed + _RESERVE_BYTES:
        raise BackupFailed(
            f"{_NO_ROOM} in {folder}: {free // 1_000_000} MB are free, "
            f"{(needed + _RESERVE_BYTES) // 1_000_000} MB are needed"
        )


def _copy_sqlite(settings: Settings, workshop: Path, find_faults: Faults) -> Manifest:
    path, copy = database_file(settings), workshop / "copy"
    sole_use.hold(path)
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    made_at = clock.now()
    with (
        contextlib.closing(sqlite3.connect(path, timeout=5)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        # In one step: a single read transaction, which WAL lets writers pass. Several steps would
        # begin anew whenever somebody writes in between.
        source.backup(target, pages=-1)
    check_file(copy)
    engine = engine_of_file(copy)
    with engine.connect() as connection, Session(connection, autoflush=False) as session:
        facts = _facts(session, find_faults)
        revision = current_revision(connection)
    make_single_file(copy)
    size, digest = backup_file.fingerprint(copy)
    return _manifest("sqlite", made_at, revision, facts, size, digest)


def engine_of_file(path: Path) -> Engine:
    """An engine over an SQLite file that is not the deployment's database."""
    return create_engine(f"sqlite:///{path}", poolclass=NullPool)


def check_file(path: Path) -> None:
    """Read all of an SQLite file. Raises sqlite3.DatabaseError with what is damaged in it."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        [found] = connection.execute("PRAGMA integrity_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(f"it is damaged ({found.splitlines()[0]})")
        broken = connection.execute("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise sqlite3.DatabaseError(f"a row of {broken[0]} points nowhere")


def make_single_file(path: Path) -> None:
    """Fold SQLite's journal files into the database file, which then stands alone.

    Raises sqlite3.OperationalError while anybody is connected to it.
    """
    with contextlib.closing(sqlite3.connect(path, timeout=0)) as connection:
        [mode] = connection.execute("PRAGMA journal_mode = DELETE").fetchone()
        if mode != "delete":
            raise sqlite3.OperationalError("the database is locked")


def _copy_postgresql(settings: Settings, workshop: Path, find_faults: Faults) -> Manifest:
    """pg_dump and the check of the books look at the same snapshot, so that what was checked is
    what is in the file; then the file is read to its end and its rows are counted."""
    copy = workshop / "copy"
    engine = create_engine(
        settings.database_url, poolclass=NullPool, isolation_level="REPEATABLE READ"
    )
    options = {"postgresql_readonly": True}
    with engine.connect().execution_options(**options) as connection:
        made_at = clock.now()
        snapshot = connection.execute(select(func.pg_export_snapshot())).scalar_one()
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        pg_programs.dump(settings.database_url, copy, snapshot, f"{REPLACED_SCHEMA}*")
        with Session(connection, autoflush=False) as session:
            facts = _facts(session, find_faults)
        revision = current_revision(connection)
    dumped = pg_programs.count_rows(copy)
    for table, count in facts.rows.items():
        if dumped.get(table) != count:
            raise BackupFailed(
                f"pg_dump wrote {dumped.get(table, 0)} of {count} rows of the table {table}"
            )
    size, digest = backup_file.fingerprint(copy)
    return _manifest("postgresql", made_at, revision, facts, size, digest)


@dataclass(frozen=True, slots=True)
class _Facts:
    isp_name: str
    is_demo: bool
    rows: dict[str, int]
    faults: list[str]


def _facts(session: Session, find_faults: Faults) -> _Facts:
    isp = session.execute(select(Isp.name, Isp.is_demo)).one_or_none()
    if isp is None:
        raise BackupFailed("the database holds no ISP yet, there is nothing to keep: flask setup")
    return _Facts(isp.name, isp.is_demo, count_rows(session), find_some(session, find_faults))


def count_rows(session: Session) -> dict[str, int]:
    """How many rows each table of the portal has; an older schema lacks some of them."""
    there = set(inspect(session.connection()).get_table_names())
    return {
        table.name: session.execute(select(func.count()).select_from(table)).scalar_one()
        for table in Base.metadata.sorted_tables
        if table.name in there
    }


def find_some(session: Session, find_faults: Faults) -> list[str]:
    """The first sentences about books that do not add up."""
    return list(islice(find_faults(session), _SHOWN_FAULTS))


def _manifest(
    engine: str, made_at: datetime, revision: str | None, facts: _Facts, size: int, digest: str
) -> Manifest:
    return Manifest(
        engine=engine,
        made_at=made_at,
        is_demo=facts.is_demo,
        revision=revision or "",
        isp_name=facts.isp_name,
        rows=facts.rows,
        faults=facts.faults,
        database_bytes=size,
        database_sha256=digest,
    )


# The folder of the nightly backups -----------------------------------------------------------


def list_backups(folder: Path) -> list[tuple[datetime, Path]]:
    """The nightly backups in `folder` with the time in their names, the newest first."""
    found = []
    for path in folder.glob(f"{NAME}*{SUFFIX}"):
        with contextlib.suppress(ValueError):
            stamp = path.name.removeprefix(NAME).removesuffix(SUFFIX)
            found.append((datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC), path))
    return sorted(found, reverse=True)


def find_last_good(folder: Path) -> tuple[datetime, Path] | None:
    """The newest nightly backup that can be opened and whose books added up."""
    for made_at, path in list_backups(folder):
        with contextlib.suppress(BadBackup):
            if backup_file.read_manifest(path).is_good:
                return made_at, path
    return None


def make_nightly(settings: Settings, find_faults: Faults) -> Made:
    """Make a backup under a dated name in the folder of backups, then drop what is too old or too
    many. Raises BackupFailed, and then every backup that was there is still there."""
    folder = settings.backups
    if folder is None:
        raise NoPlace("there is no folder for backups: set LASTMILE_BACKUPS or name a file")
    try:
        if not folder.exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            backup_file.own_like(folder, settings.data)
    except OSError as error:
        raise BackupFailed(f"the folder {folder} cannot be made: {error.strerror}") from error
    made = make(settings, folder / dated_name(clock.now()), find_faults)
    drop_old(settings, made.path)
    return made


def drop_old(settings: Settings, newest: Path) -> list[Path]:
    """Drop nightly backups that are older than the days or beyond the count of the settings.

    `newest` and the last good one stay. Returns what went.
    """
    folder = newest.parent
    last_good = find_last_good(folder)
    kept = {newest, last_good[1] if last_good is not None else newest}
    oldest = clock.now() - timedelta(days=settings.backup_keep_days)
    dropped = []
    for place, (made_at, path) in enumerate(list_backups(folder)):
        is_wanted = place < settings.backup_keep_count and made_at >= oldest
        if not is_wanted and path not in kept:
            path.unlink(missing_ok=True)
            dropped.append(path)
    return dropped
