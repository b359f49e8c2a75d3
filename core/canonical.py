# ruff: noqa: S608, ISC004 - statements are made from the names of our own tables and columns
"""What a table holds, as a digest that is the same on SQLite and PostgreSQL.

Each engine turns its values into text by itself, so that a fault of the program that moved them
cannot hide in both digests.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    String,
    Table,
    TypeDecorator,
)
from sqlalchemy.types import TypeEngine

# For each kind of column: its text on SQLite and on PostgreSQL, NULL staying NULL.
_TEXTS: dict[type[TypeEngine[Any]], tuple[str, str]] = {
    Boolean: (
        "CASE WHEN {0} IS NULL THEN NULL WHEN {0} = 1 THEN 't' WHEN {0} = 0 THEN 'f' "
        "ELSE quote({0}) END",
        "CASE WHEN {0} THEN 't' WHEN NOT {0} THEN 'f' END",
    ),
    Integer: ("CAST({0} AS TEXT)", "CAST({0} AS text)"),
    String: ("{0}", "{0}"),
    Date: ("{0}", "to_char({0}, 'YYYY-MM-DD')"),
    DateTime: ("{0}", "to_char({0} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"),
    LargeBinary: (
        "CASE WHEN {0} IS NULL THEN NULL ELSE lower(hex({0})) END",
        "encode({0}, 'hex')",
    ),
    JSON: ("CAST({0} AS TEXT)", "CAST({0} AS text)"),
}


@dataclass(frozen=True, slots=True)
class Digest:
    """How many rows a table has, and a hash over all of them in the order of their keys."""

    rows: int
    sha256: str


def kind_of(column: Column[Any]) -> type[TypeEngine[Any]]:
    """Which of the known kinds a column is of. Raises TypeError for one that is not known here."""
    kind = column.type
    if isinstance(kind, TypeDecorator):
        kind = kind.impl_instance
    for known in _TEXTS:
        if isinstance(kind, known):
            return known
    raise TypeError(f"{column} has a type without a canonical text: {kind!r}")


def key_order(table: Table, dialect: str) -> str:
    """The columns of the primary key to order by, in an order that both engines share.

    They name their table: PostgreSQL would take a bare name for the text selected under it.
    """
    collation = ' COLLATE "C"' if dialect == "postgresql" else ""
    return ", ".join(
        f'"{table.name}"."{column.name}"' + (collation if kind_of(column) is String else "")
        for column in table.primary_key
    )


def digest(connection: Connection, table: Table) -> Digest:
    """The digest of what `table` holds, read in the transaction of `connection`."""
    dialect = connection.dialect.name
    place = ("sqlite", "postgresql").index(dialect)
    texts = ", ".join(
        _TEXTS[kind_of(column)][place].format(f'"{column.name}"') for column in table.columns
    )
    statement = f'SELECT {texts} FROM "{table.name}" ORDER BY {key_order(table, dialect)}'
    cursor: Any = connection.connection.cursor()
    try:
        if dialect == "sqlite":
            cursor.execute(statement)
            return _hash(cursor)
        # psycopg's own: rows as text, as they come
        with cursor.copy(f"COPY ({statement}) TO STDOUT") as copied:
            return _hash(copied.rows())
    finally:
        cursor.close()


def _hash(rows: Iterable[Iterable[str | None]]) -> Digest:
    count, sha256 = 0, hashlib.sha256()
    encode = json.JSONEncoder(ensure_ascii=True).encode
    for row in rows:
        sha256.update(encode(tuple(row)).encode() + b"\n")
        count += 1
    return Digest(count, sha256.hexdigest())
