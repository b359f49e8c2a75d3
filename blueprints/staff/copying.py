# ruff: noqa: S608 - statements are made from the names of our own tables and columns
"""Moving everything from SQLite to PostgreSQL: table by table, in batches, compared on both sides.

The source is read under one unchanging view while its writers' queue is held, so nothing can be
written to it meanwhile. The target's triggers and constraints stay on: lines are copied in the
order of their positions, as they were inserted, so the target checks each entry again.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    String,
    Table,
    func,
    select,
)
from sqlalchemy.orm import Session

from blueprints.billing.verify import find_faults
from blueprints.staff.copy_target import (
    Progress,
    Target,
    describe_key,
    has_password,
    key_of,
    open_target,
    shown,
)
from blueprints.staff.errors import CopyImpossible, RowRefused
from core.canonical import Digest, digest, kind_of
from core.db import DatabaseBusy, db, reading, words_of_missing, writer_queue
from core.in_use import find_processes, wait_for_silence
from core.migrate import find_head, find_revision
from core.settings import Settings, check_database_url
from models import Account, Base, Isp, WorkerBeat

BATCH_ROWS = 10_000
STOP = (
    "End the portal and its worker first (systemctl stop lastmile-portal, or Ctrl-C where it "
    "runs), then run this again"
)

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class TableCheck:
    """What each side holds of one table, each by its own computation."""

    name: str
    source: Digest
    target: Digest

    @property
    def is_equal(self) -> bool:
        return self.source == self.target


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What was found when both sides were compared; `checks` is empty for a copy that had been
    finished before, which is not touched again."""

    checks: tuple[TableCheck, ...]
    faults: tuple[str, ...]
    target_shown: str
    needs_password: bool
    source: Path

    @property
    def is_equal(self) -> bool:
        return not self.faults and all(check.is_equal for check in self.checks)


def run(settings: Settings, to: str, tell: Tell, batch_rows: int = BATCH_ROWS) -> CopyResult:
    """Copy the SQLite database of `settings` into the PostgreSQL database at `to`, and compare.

    `tell` hears a line for each step. Raises CopyImpossible, RowRefused, CopyInterrupted,
    SettingsError.
    """
    url = check_database_url(to.strip(), "--to")
    if not url.startswith("postgresql"):
        raise CopyImpossible("--to must be the address of a PostgreSQL database: postgresql://…")
    path = _check_source(settings, tell)
    with _held(), reading() as session:
        connection = session.connection()
        source, state = _describe(connection)
        with open_target(url) as target:
            if not target.is_begun():
                _check_books(session)
            finished_at = target.prepare(settings, source, state)
            result = CopyResult((), (), shown(url), has_password(url), path)
            if finished_at is not None:
                tell(f"This portal was copied there and found equal on {finished_at:%Y-%m-%d}.")
                return result
            for table in Base.metadata.sorted_tables:
                _copy(connection, table, target, batch_rows, tell)
            target.set_sequences()
            target.analyze()
            tell("Comparing both sides…")
            checks = tuple(
                TableCheck(table.name, digest(connection, table), target.digest(table))
                for table in Base.metadata.sorted_tables
            )
            target_faults = target.find_rule_faults()
            with reading(target.engine) as copied:
                target_faults += find_faults(copied)
            result = CopyResult(checks, tuple(target_faults), shown(url), has_password(url), path)
            if result.is_equal:
                target.finish()
            return result


# The source ----------------------------------------------------------------------------------


def _check_source(settings: Settings, tell: Tell) -> Path:
    """The SQLite file, once it is one that can be copied and that nobody uses."""
    from app import WrongDatabase, check_database

    if not settings.is_sqlite:
        raise CopyImpossible("DATABASE_URL is PostgreSQL already: there is no SQLite file to copy")
    path = Path(str(db.engine.url.database)).resolve()
    if not path.is_file():
        raise CopyImpossible(words_of_missing(path))
    found, head = find_revision(db.engine), find_head()
    if found != head:
        raise CopyImpossible(
            f"the database's schema is revision {found or 'none'}, this build's is {head}: "
            "start the portal once with this build, so that it is migrated"
        )
    try:
        check_database(settings)
    except WrongDatabase as error:
        raise CopyImpossible(str(error)) from None
    if db.session.scalar(select(Isp.id)) is None:
        raise CopyImpossible("this portal is not set up yet: there is nothing to copy")
    db.session.close()
    users = find_processes(path)
    if users:
        names = ", ".join(f"{user.name} (process {user.pid})" for user in users)
        raise CopyImpossible(f"the portal is in use by {names}. {STOP}")
    if not wait_for_silence(tell):
        raise CopyImpossible(f"a worker is running. {STOP}")
    return path


@contextmanager
def _held() -> Iterator[None]:
    """Hold the right to write: whoever else wants it is told that the portal is busy."""
    try:
        with writer_queue(db.engine).turn():
            yield
    except DatabaseBusy:
        raise CopyImpossible(f"somebody is writing to the portal's database. {STOP}") from None


def _describe(connection: Connection) -> tuple[str, str]:
    """Which portal this is, and what it holds at this moment, each as a hash.

    The first says it by public ids, which are random; the second changes with every row that comes
    or goes and with every beat of the worker.
    """
    name = connection.scalar(select(Isp.name))
    accounts = connection.scalars(select(Account.public_id).order_by(Account.id).limit(100)).all()
    held: list[Any] = [str(beat) for beat in connection.scalars(select(WorkerBeat.beat_at))]
    for table in Base.metadata.sorted_tables:
        largest = func.max(next(iter(table.primary_key)))
        row = connection.execute(select(func.count(), largest).select_from(table)).one()
        held.append([table.name, row[0], str(row[1])])
    return _hash([name, *accounts]), _hash(held)


def _hash(facts: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _check_books(session: Session) -> None:
    loose = session.connection().exec_driver_sql("PRAGMA foreign_key_check")
    for table, row, parent, _number in loose:
        raise CopyImpossible(f"row {row} of {table} points to a row of {parent} that is not there")
    for fault in find_faults(session):
        raise CopyImpossible(
            f"the books of this database do not add up, so it is not copied: {fault}"
        )


# Copying -------------------------------------------------------------------------------------


class _NotTaken(Exception):
    """A value that PostgreSQL would not take, or not as the same value."""


_INSTANT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}")


def _boolean(value: Any) -> str:
    if value not in (0, 1):
        raise _NotTaken("is neither true nor false")
    return "t" if value else "f"


def _integer(value: Any) -> int:
    if not isinstance(value, int):
        raise _NotTaken("is not a whole number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _NotTaken("is not text")
    if "\0" in value:
        raise _NotTaken("holds a character with code 0, which PostgreSQL does not store")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _NotTaken("is not text in UTF-8") from None
    return value


def _day(value: Any) -> str:
    try:
        if date.fromisoformat(value).isoformat() == value:
            return str(value)
    except (TypeError, ValueError):
        pass
    raise _NotTaken("is not a day like 2026-01-31")


def _instant(value: Any) -> str:
    if not isinstance(value, str) or not _INSTANT.fullmatch(value):
        raise _NotTaken("is not an instant like 2026-01-31 12:00:00.000000")
    return value + "+00"


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise _NotTaken("is not a string of bytes")
    return value


def _json(value: Any) -> str:
    # SQLite keeps a JSON number as a number.
    return str(value) if isinstance(value, int) else _text(value)


_CONVERTERS: dict[Any, Callable[[Any], Any]] = {
    Boolean: _boolean,
    Integer: _integer,
    String: _text,
    Date: _day,
    DateTime: _instant,
    LargeBinary: _bytes,
    JSON: _json,
}


def _copy(connection: Connection, table: Table, target: Target, size: int, tell: Tell) -> None:
    progress = target.progress(table)
    if progress.is_done:
        tell(f"{table.name}: {progress.row_count:,} rows are there")
        return
    begun, before = time.monotonic(), progress.row_count
    converters = [_CONVERTERS[kind_of(column)] for column in table.columns]
    with closing(_read(connection, table, progress.last_key, size)) as batches:
        for batch in batches:
            rows = [_convert(table, row, converters) for row in batch]
            progress = Progress(
                progress.row_count + len(rows),
                key_of(table, batch[-1]) if batch else progress.last_key,
                is_done=len(batch) < size,
            )
            target.add(table, rows, progress)
    seconds = time.monotonic() - begun
    more = f", going on at {before:,}" if before else ""
    tell(f"{table.name}: {progress.row_count:,} rows in {seconds:.1f} s{more}")


def _convert(
    table: Table, row: Sequence[Any], converters: Sequence[Callable[[Any], Any]]
) -> list[Any]:
    try:
        return [
            None if value is None else convert(value)
            for value, convert in zip(row, converters, strict=True)
        ]
    except _NotTaken:
        where = describe_key(table, key_of(table, row))
        for value, convert, column in zip(row, converters, table.columns, strict=True):
            try:
                _ = None if value is None else convert(value)
            except _NotTaken as why:
                raise RowRefused(table.name, where, column.name, str(why)) from None
        raise


def _read(
    connection: Connection, table: Table, after: Sequence[Any] | None, size: int
) -> Generator[list[tuple[Any, ...]], None, None]:
    """Batches of rows as SQLite holds them, in the order of their keys; the last one is shorter
    than `size`, and may be empty."""
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    key = ", ".join(f'"{column.name}"' for column in table.primary_key)
    marks = ", ".join("?" for _ in table.primary_key)
    where = f"WHERE ({key}) > ({marks})" if after is not None else ""
    driver = cast("sqlite3.Connection", connection.connection.driver_connection)
    # Text that is no UTF-8 is kept as it is, to be named with its row.
    driver.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    try:
        cursor = driver.execute(
            f'SELECT {columns} FROM "{table.name}" {where} ORDER BY {key}', after or ()
        )
        while True:
            batch = cursor.fetchmany(size)
            yield batch
            if len(batch) < size:
                return
    finally:
        driver.text_factory = str
