# ruff: noqa: S608 - statements are made from the names of our own tables and columns
"""The PostgreSQL database that a copy goes to: what it holds, how far the copy is, its rules.

How far it is stands in a schema of its own, `lastmile_copy`, and moves in the transaction of the
rows themselves, so a copy that was killed goes on behind the last row that is there.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import psycopg
from psycopg import sql
from sqlalchemy import Connection, Engine, Table, create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from blueprints.staff.errors import CopyImpossible, CopyInterrupted, RowRefused
from core.canonical import Digest, digest
from core.migrate import create_schema, find_head, find_revision
from core.schema import create_triggers
from core.settings import Settings
from models import Base, Isp

LOCK = 4712
LOCK_SECONDS = 15.0
Key = tuple[Any, ...]

_MARKER = """
CREATE SCHEMA IF NOT EXISTS lastmile_copy;
CREATE TABLE IF NOT EXISTS lastmile_copy.copies (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    source text NOT NULL, state text NOT NULL,
    begun_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz);
CREATE TABLE IF NOT EXISTS lastmile_copy.progress (
    table_name text PRIMARY KEY, row_count bigint NOT NULL, last_key text, is_done boolean NOT NULL)
"""

# What a schema asks of its rows, as the engine itself describes it.
_RULES = {
    "column": """SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod)
        || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
        AND a.attnum > 0 AND NOT a.attisdropped""",
    "constraint": """SELECT c.relname, k.conname, pg_get_constraintdef(k.oid)
        || CASE WHEN k.convalidated THEN '' ELSE ' (not validated)' END
        FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        WHERE k.connamespace = current_schema()::regnamespace""",
    "index": """SELECT tablename, indexname, indexdef FROM pg_indexes
        WHERE schemaname = current_schema()""",
    "trigger": """SELECT c.relname, t.tgname, pg_get_triggerdef(t.oid) || ' ' || t.tgenabled::text
        FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = current_schema()::regnamespace
        AND (NOT t.tgisinternal OR t.tgenabled <> 'O')""",
    "function": """SELECT '', proname, prosrc FROM pg_proc
        WHERE pronamespace = current_schema()::regnamespace""",
}


@dataclass(slots=True)
class Progress:
    """How much of a table is copied: rows so far, and the key of the last one."""

    row_count: int = 0
    last_key: Key | None = None
    is_done: bool = False


def shown(url: str) -> str:
    """The address as DATABASE_URL has it, without its password."""
    parsed = make_url(url).set(drivername="postgresql")
    hidden = {name: "***" for name in parsed.query if "password" in name}
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True)


def has_password(url: str) -> bool:
    parsed: URL = make_url(url)
    return parsed.password is not None or any("password" in name for name in parsed.query)


@contextmanager
def open_target(url: str) -> Iterator[Target]:
    """The database at `url`, held against other copies.

    Raises CopyImpossible when it cannot be reached or another copy goes there, CopyInterrupted when
    it goes away within the block.
    """
    engine = create_engine(
        url, poolclass=NullPool, hide_parameters=True, connect_args={"connect_timeout": 5}
    )
    try:
        held = engine.connect()
    except OperationalError as error:
        raise CopyImpossible(f"the database cannot be reached: {_first_line(error)}") from None
    try:
        connection = cast("psycopg.Connection[Any]", held.connection.driver_connection)
        connection.autocommit = True
        _lock(connection)
        yield Target(engine, connection)
    except (psycopg.OperationalError, psycopg.InterfaceError) as error:
        raise CopyInterrupted(_first_line(error)) from None
    except DBAPIError as error:
        if isinstance(error.orig, (psycopg.OperationalError, psycopg.InterfaceError)):
            raise CopyInterrupted(_first_line(error)) from None
        if isinstance(error.orig, psycopg.errors.InsufficientPrivilege):
            raise CopyImpossible(_first_line(error)) from None
        raise
    except psycopg.errors.InsufficientPrivilege as error:
        raise CopyImpossible(_first_line(error)) from None
    finally:
        held.invalidate()  # the lock goes with the connection
        held.close()
        engine.dispose()


def _first_line(error: BaseException) -> str:
    cause = error.orig if isinstance(error, DBAPIError) else error
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]


def _lock(connection: psycopg.Connection[Any]) -> None:
    # The server notices with some delay that a copy was killed, and keeps its lock until then.
    end = time.monotonic() + LOCK_SECONDS
    while True:
        row = connection.execute("SELECT pg_try_advisory_lock(%s)", (LOCK,)).fetchone()
        if row is not None and row[0]:
            break
        if time.monotonic() > end:
            raise CopyImpossible("another copy into this database is running")
        time.sleep(0.2)
    for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
        connection.execute(sql.SQL("SET {} = 0").format(sql.Identifier(setting)))
    connection.execute("SET client_encoding = 'UTF8'")


class Target:
    """A PostgreSQL database that nobody else copies into, reached past the ORM."""

    def __init__(self, engine: Engine, connection: psycopg.Connection[Any]) -> None:
        self.engine = engine
        self._connection = connection

    def _rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self._connection.execute(query.encode(), values or None).fetchall()

    def prepare(self, settings: Settings, source: str, state: str) -> datetime | None:
        """Make an empty database ready for the copy of `source`, or find it begun.

        Returns when the copy was finished, None while it is not. `state` says what the source held
        when the copy began. Raises CopyImpossible for a database that is neither empty nor this
        copy, unfinished.
        """
        [(encoding,)] = self._rows("SHOW server_encoding")
        if encoding != "UTF8":
            raise CopyImpossible(
                f"the database's encoding is {encoding}: make one WITH ENCODING 'UTF8'"
            )
        marker = self._find_marker()
        if marker is None:
            self._check_empty(settings)
        else:
            finished_at = _check_marker(marker, source, state)
            if finished_at is not None:
                return finished_at
        found, head = find_revision(self.engine), find_head()
        if found not in (None, head):
            raise CopyImpossible(
                f"the database's schema is revision {found}, this build's is {head}: "
                "give the copy an empty database"
            )
        if marker is None:
            with self._connection.transaction():
                self._connection.execute(_MARKER)
                self._connection.execute(
                    "INSERT INTO lastmile_copy.copies (source, state) VALUES (%s, %s)",
                    (source, state),
                )
        if found is None:
            create_schema(self.engine.url.render_as_string(hide_password=False))
        return None

    def is_begun(self) -> bool:
        """Whether a copy, of whatever portal, has begun here."""
        return self._find_marker() is not None

    def _find_marker(self) -> tuple[Any, ...] | None:
        [(name,)] = self._rows("SELECT to_regclass('lastmile_copy.copies')::text")
        if name is None:
            return None
        rows = self._rows("SELECT source, state, finished_at FROM lastmile_copy.copies")
        return rows[0] if rows else None

    def _check_empty(self, settings: Settings) -> None:
        found = {
            name
            for (name,) in self._rows(
                "SELECT relname::text FROM pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f') "
                "AND relnamespace = current_schema()::regnamespace"
            )
        }
        foreign = found - set(Base.metadata.tables) - {"alembic_version"}
        if foreign:
            raise CopyImpossible(
                f"the database is not empty: it holds {min(foreign)}, which is none of the "
                "portal's tables. Give the copy a database of its own"
            )
        if Isp.__tablename__ in found:
            for (is_demo,) in self._rows("SELECT is_demo FROM isp"):
                if is_demo != settings.is_demo:
                    raise CopyImpossible(
                        "the database is not empty: it belongs to "
                        + ("the demo" if is_demo else "a real deployment")
                    )
        for name in sorted(found - {"alembic_version"}):
            if self._rows(f'SELECT 1 FROM "{name}" LIMIT 1'):
                raise CopyImpossible(
                    f"the database is not empty: there are rows in {name}, and they are not of an "
                    "unfinished copy"
                )

    # Rows

    def progress(self, table: Table) -> Progress:
        """How far the copy of `table` is."""
        rows = self._rows(
            "SELECT row_count, last_key, is_done FROM lastmile_copy.progress WHERE table_name = %s",
            (table.name,),
        )
        if not rows:
            return Progress()
        [(row_count, last_key, is_done)] = rows
        return Progress(row_count, decode_key(last_key) if last_key else None, is_done)

    def add(self, table: Table, rows: Sequence[Sequence[Any]], to: Progress) -> None:
        """Add `rows` (texts, in the order of the table's columns) and note `to`, in one
        transaction. Raises RowRefused when PostgreSQL does not take a row."""
        columns = sql.SQL(", ").join(sql.Identifier(column.name) for column in table.columns)
        statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table.name), columns)
        try:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                if rows:
                    with cursor.copy(statement) as copy:
                        for row in rows:
                            copy.write_row(row)
                cursor.execute(
                    "INSERT INTO lastmile_copy.progress VALUES (%s, %s, %s, %s) "
                    "ON CONFLICT (table_name) DO UPDATE SET row_count = EXCLUDED.row_count, "
                    "last_key = EXCLUDED.last_key, is_done = EXCLUDED.is_done",
                    (
                        table.name,
                        to.row_count,
                        encode_key(to.last_key) if to.last_key is not None else None,
                        to.is_done,
                    ),
                )
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise _name_row(table, rows, error) from None

    def set_sequences(self) -> None:
        """Have every sequence go on behind the largest id."""
        for table in Base.metadata.sorted_tables:
            column = table.autoincrement_column
            if column is not None:
                self._rows(
                    "SELECT setval(pg_get_serial_sequence(quote_ident(%s), %s), "
                    f'(SELECT coalesce(max("{column.name}"), 0) + 1 FROM "{table.name}"), false)',
                    (table.name, column.name),
                )

    def analyze(self) -> None:
        """Have the planner know the tables before the first page asks for one."""
        self._connection.execute("ANALYZE")

    def finish(self) -> None:
        """Note that the copy is complete and was found equal."""
        self._connection.execute("UPDATE lastmile_copy.copies SET finished_at = now()")

    # Checks

    def digest(self, table: Table) -> Digest:
        """The digest of what the target's `table` holds."""
        with self.engine.connect() as connection:
            return digest(connection, table)

    def find_rule_faults(self) -> list[str]:
        """A sentence for each column, constraint, index, trigger or function that is not as this
        build's models and `core/schema.py` make it, and each sequence that is behind."""
        with self.engine.connect() as connection:
            found = _rules(connection)
            connection.rollback()
            # Made beside it in a transaction that is rolled back: nobody ever sees it.
            connection.exec_driver_sql("CREATE SCHEMA lastmile_expected")
            connection.exec_driver_sql("SET LOCAL search_path TO lastmile_expected")
            Base.metadata.create_all(connection, checkfirst=False)
            create_triggers(connection)
            expected = _rules(connection)
            connection.rollback()
        faults = [f"missing: {' '.join(rule)}" for rule in sorted(expected - found)]
        faults += [f"not of this build: {' '.join(rule)}" for rule in sorted(found - expected)]
        return faults + list(self._find_late_sequences())

    def _find_late_sequences(self) -> Iterator[str]:
        for table in Base.metadata.sorted_tables:
            column = table.autoincrement_column
            if column is None:
                continue
            [(name,)] = self._rows(
                "SELECT pg_get_serial_sequence(quote_ident(%s), %s)", (table.name, column.name)
            )
            if name is None:
                yield f"{table.name}: {column.name} has no sequence"
                continue
            [(largest, upcoming)] = self._rows(
                f'SELECT (SELECT coalesce(max("{column.name}"), 0) FROM "{table.name}"), '
                f"(SELECT last_value + is_called::int FROM {name})"
            )
            if upcoming <= largest:
                yield f"{table.name}: its next {column.name} would be {upcoming}, not a new one"


def _check_marker(marker: tuple[Any, ...], source: str, state: str) -> datetime | None:
    found_source, found_state, finished_at = marker
    if found_source != source:
        raise CopyImpossible(
            "the database holds the copy of another portal: give this one an empty database"
        )
    if finished_at is None and found_state != state:
        raise CopyImpossible(
            "the database holds a copy of this portal that was begun earlier, and the portal has "
            "been in use since: give the copy a new, empty database"
        )
    return cast("datetime | None", finished_at)


def _rules(connection: Connection) -> set[tuple[str, ...]]:
    schema = connection.exec_driver_sql("SELECT current_schema()").scalar_one()
    prefix = re.compile(rf'\b"?{re.escape(schema)}"?\.')
    return {
        (kind, *(prefix.sub("", part) for part in row))
        for kind, query in _RULES.items()
        for row in connection.exec_driver_sql(query)
        if row[0] != "alembic_version"
    }


def key_of(table: Table, row: Sequence[Any]) -> Key:
    """The primary key in a row that has the table's columns in their order."""
    return tuple(row[list(table.columns).index(column)] for column in table.primary_key)


def encode_key(key: Key) -> str:
    return json.dumps([{"hex": part.hex()} if isinstance(part, bytes) else part for part in key])


def decode_key(text: str) -> Key:
    return tuple(
        bytes.fromhex(part["hex"]) if isinstance(part, dict) else part for part in json.loads(text)
    )


def describe_key(table: Table, key: Key) -> str:
    """A row's key in words: `id 17`, `entry_id 17, position 2`."""
    return ", ".join(
        f"{column.name} {part.hex() if isinstance(part, bytes) else part}"
        for column, part in zip(table.primary_key, key, strict=True)
    )


_WHY = {
    "22001": "is longer than PostgreSQL's column allows",
    "22003": "is a number outside the range of PostgreSQL's column",
}


def _name_row(
    table: Table, rows: Sequence[Sequence[Any]], error: psycopg.DataError | psycopg.IntegrityError
) -> RowRefused:
    """Which row it was; the value itself is not repeated (bar 77)."""
    context = re.search(r"COPY \w+, line (\d+)(?:, column (\w+))?", error.diag.context or "")
    if context is not None:
        where = describe_key(table, key_of(table, rows[int(context[1]) - 1]))
    else:
        first, last = (describe_key(table, key_of(table, rows[place])) for place in (0, -1))
        where = f"a row between {first} and {last}"
    if isinstance(error, psycopg.IntegrityError):
        name = error.diag.constraint_name
        why = f"breaks {name}" if name else (error.diag.message_primary or "breaks a rule")
    else:
        why = _WHY.get(error.sqlstate or "", f"is not a value PostgreSQL takes ({error.sqlstate})")
    column = context[2] if context is not None else None
    return RowRefused(table.name, where, column, why)
