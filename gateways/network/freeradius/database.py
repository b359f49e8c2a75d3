"""A database of FreeRADIUS: SQLite, MySQL or MariaDB, or PostgreSQL, whichever schema it has.

Times are told as seconds since 1970 whatever the column holds: FreeRADIUS itself hands over such
seconds, which MySQL turns into the local time of the session's zone, and it is MySQL that turns
them back here, in the same zone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Integer,
    TableClause,
    cast,
    column,
    create_engine,
    extract,
    func,
    inspect,
    select,
    table,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, NoSuchTableError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.types import TIMESTAMP

from gateways.network.errors import GatewayRefused, GatewayTimeout

CONNECT_SECONDS = 5
ANSWER_SECONDS = 20
LONGEST_REASON = 160


Columns = dict[str, ColumnElement[Any]]


def columns_of(found: TableClause) -> Columns:
    """The columns of a table by their names in lower case: MySQL tells them as they were written,
    and old schemas wrote AcctStartTime."""
    return {each.name.lower(): each for each in found.c}


class _Theirs(sqlite3.Connection):
    """A connection to a file that is not the portal's, whose settings are left as they are."""

    is_theirs = True


class Database:
    """The database at `url`. `name` is what people call it: "the database to read from"."""

    def __init__(self, url: str, name: str, *, is_written: bool) -> None:
        self.name = name
        self.url = make_url(url)
        self.engine = _make_engine(self.url, is_written=is_written)
        self._tables: dict[str, TableClause] = {}

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection. Raises GatewayTimeout with what was wrong."""
        with self._told(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection with one transaction, which is committed at the end of the block."""
        with self._told(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def trying(self) -> Iterator[Connection]:
        """A connection with one transaction, which is taken back at the end of the block."""
        with self._told(), self.engine.connect() as connection:
            transaction = connection.begin()
            try:
                yield connection
            finally:
                transaction.rollback()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise GatewayTimeout(f"{self.name}: {reason_of(error)}") from error

    def table(self, connection: Connection, name: str) -> TableClause:
        """The table with the columns it has. Raises GatewayRefused
        where it is not there or may not be seen."""
        if name not in self._tables:
            found = self.find_table(connection, name)
            if found is None:
                raise GatewayRefused(
                    f"{self.name}: there is no table {name}, or {self.url.username} may not see it"
                )
            self._tables[name] = found
        return self._tables[name]

    def find_table(self, connection: Connection, name: str) -> TableClause | None:
        """The same, asked anew; None where it is not there."""
        if self.dialect == "sqlite":
            # SQLAlchemy stumbles over FreeRADIUS' int(12), and no type is needed.
            asked = text("SELECT name FROM pragma_table_info(:name)")
            names = list(connection.execute(asked, {"name": name}).scalars())
        else:
            try:
                names = [str(each["name"]) for each in inspect(connection).get_columns(name)]
            except NoSuchTableError:
                names = []
        # Without types: SQLite's times are numbers here, whatever their columns are called.
        return table(name, *map(column, names)) if names else None

    def seconds(self, of: Any) -> Any:
        """The expression for a time as seconds since 1970."""
        if self.dialect == "sqlite":
            # Of text, which FreeRADIUS never writes, somebody else's UTC is made.
            return func.iif(func.typeof(of) == "text", cast(func.strftime("%s", of), Integer), of)
        if self.dialect == "mysql":
            return func.unix_timestamp(of)
        return extract("epoch", cast(of, TIMESTAMP(timezone=True)))

    def moment(self, seconds: float) -> Any:
        """The reverse: what a time column is compared with."""
        if self.dialect == "sqlite":
            return seconds
        return (func.from_unixtime if self.dialect == "mysql" else func.to_timestamp)(seconds)

    def now(self, connection: Connection) -> float:
        """Its clock."""
        if self.dialect == "sqlite":
            asked = select(cast(func.strftime("%s", "now"), Integer))
        else:
            asked = select(self.seconds(func.now()))
        return float(connection.execute(asked).scalar_one())


def reason_of(error: SQLAlchemyError) -> str:
    """What a database said, in one line."""
    said = error.orig if isinstance(error, DBAPIError) else error
    lines = [line.strip() for line in str(said).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:LONGEST_REASON]


def _make_engine(url: URL, *, is_written: bool) -> Engine:
    if url.drivername == "sqlite":
        path = f"file:{quote(url.database or '')}?mode={'rw' if is_written else 'ro'}"
        # A file that is not there is a mistake, and not to be made.
        return create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(
                path, uri=True, timeout=CONNECT_SECONDS, factory=_Theirs
            ),
            poolclass=NullPool,
        )
    limits: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS}
    if url.drivername == "mysql+pymysql":
        limits |= {"read_timeout": ANSWER_SECONDS, "write_timeout": ANSWER_SECONDS}
    else:
        limits["options"] = f"-c statement_timeout={ANSWER_SECONDS}s -c lock_timeout=5s"
    return create_engine(url, connect_args=limits, pool_size=1, pool_pre_ping=True)
