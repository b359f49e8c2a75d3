"""A PostgreSQL database that is put back after each test, by those of its tables that changed.

A new copy of the world costs more than most tests: hundreds of files, and sessions that know
nothing of the tables yet. Which tables changed is told by their rows' `xmin`, the number of the
transaction that wrote each, and by how many there are; nothing that is committed leaves both alone.
"""

from __future__ import annotations

import atexit
from collections.abc import Collection

import psycopg
from psycopg import sql

from tests.pg import PgServer

Marks = dict[str, tuple[int, int]]
"""By table: how many rows, and the newest that wrote one."""

# Whatever changes the shape of a database writes into one of these.
_CATALOG = ("pg_class", "pg_attribute", "pg_constraint", "pg_trigger", "pg_proc", "pg_depend")
_MOST_TURNS = 100  # the dead rows that stay behind are read past; then a new copy is quicker
_MOST_ROWS = 5_000
_OTHERS = """
    SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND backend_type = 'client backend'
"""


class Kept:
    """The database `name`, made from the database `template` and put back to that."""

    def __init__(self, server: PgServer, name: str, template: str) -> None:
        self._server, self._name, self._template = server, name, template
        self._connection: psycopg.Connection | None = None
        self._rows: dict[str, bytes] = {}
        atexit.register(self.leave)
        self._renew()

    def put_back(self) -> None:
        """As it was when it was made. Nobody else may use it meanwhile; who is connected is cut
        off."""
        self._turns += 1
        try:
            is_back = self._turns < _MOST_TURNS and self._put_back_rows()
        except psycopg.Error:  # the server was away, or a test has left a lock
            is_back = False
        if not is_back:
            self._renew()

    def changed(self, tables: Collection[str]) -> set[str]:
        """Those of the tables that are not as they were."""
        try:
            now = self._read_marks(tables)
        except psycopg.Error:
            return set(tables)
        return {table for table, mark in now.items() if mark != self._marks[table]}

    def leave(self) -> None:
        """Close the connection that this keeps; it is opened again when there is need."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> psycopg.Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self._server.connect(self._name)
            self._connection.prepare_threshold = 1
            self._connection.execute("SET session_replication_role = replica")  # fire no trigger
            self._connection.execute("SET lock_timeout = '2s'")
        return self._connection

    def _renew(self) -> None:
        self.leave()
        self._server.drop(self._name)
        self._server.create(self._name, template=self._template)
        self._turns = 0
        rows = self._connected().execute(
            "SELECT relname, relkind FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'S') ORDER BY oid"
        )
        kinds: dict[str, str] = dict(rows.fetchall())
        self._tables = [name for name, kind in kinds.items() if kind == "r"]
        if not self._rows:
            self._rows = {table: self._copy_out(table) for table in self._tables}
        self._sequences = self._read_sequences([n for n, kind in kinds.items() if kind == "S"])
        self._shape = self._read_marks(_CATALOG)
        self._marks = self._read_marks(self._tables)

    def _copy_out(self, table: str) -> bytes:
        statement = sql.SQL("COPY {} TO STDOUT (FORMAT BINARY)").format(sql.Identifier(table))
        with self._connected().cursor() as cursor, cursor.copy(statement) as copy:
            return b"".join(map(bytes, copy))

    def _read_sequences(self, names: list[str]) -> sql.Composed:
        """The statement that sets all sequences to where they are."""
        each = sql.SQL("SELECT last_value, is_called FROM {}")
        places = []
        for name in names:
            [place] = self._connected().execute(each.format(sql.Identifier(name))).fetchall()
            places.append(sql.SQL("setval({}, {}, {})").format(sql.Literal(name), *place))
        return sql.SQL("SELECT {}").format(sql.SQL(", ").join(places))

    def _read_marks(self, tables: Collection[str]) -> Marks:
        each = sql.SQL("SELECT {}, count(*), max(xmin::text::bigint) FROM {}")
        statement = sql.SQL(" UNION ALL ").join(
            each.format(sql.Literal(table), sql.Identifier(table)) for table in tables
        )
        found = self._connected().execute(statement).fetchall()
        return {table: (count, newest or 0) for table, count, newest in found}

    def _put_back_rows(self) -> bool:
        connection = self._connected()
        connection.execute(_OTHERS)
        if self._read_marks(_CATALOG) != self._shape:
            return False
        now = self._read_marks(self._tables)
        if sum(count for count, _newest in now.values()) > _MOST_ROWS:
            return False
        changed = {table for table, mark in now.items() if mark != self._marks[table]}
        with connection.transaction():
            for table in changed:
                name = sql.Identifier(table)
                connection.execute(sql.SQL("DELETE FROM {}").format(name))
                statement = sql.SQL("COPY {} FROM STDIN (FORMAT BINARY)").format(name)
                with connection.cursor() as cursor, cursor.copy(statement) as copy:
                    copy.write(self._rows[table])
            connection.execute(self._sequences)
        self._marks |= self._read_marks(changed) if changed else {}
        return True
