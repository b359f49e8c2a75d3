"""Reads of the pages opened most, compiled once.

Through SQLAlchemy a select of one row costs several times what the database needs for it: the
statement is built, looked up, wrapped in a transaction that reads nothing else. A `Prepared` keeps
the text and the conversions of its columns for each engine and hands the values to the driver, on
the request's own reading connection (`core.db.reader`).
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any, NamedTuple

from sqlalchemy import BindParameter, Select
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import visitors

from core.db import db, forget_reader, reader

# Called with the text of each statement that runs: tests count them.
watchers: list[Callable[[str], None]] = []


class _Compiled(NamedTuple):
    text: str
    # Names of the values in the order of the text's marks; None when it names them itself.
    order: tuple[str, ...] | None
    constants: dict[str, Any]
    to_driver: dict[str, Callable[[Any], Any]]
    from_driver: tuple[tuple[int, Callable[[Any], Any]], ...]
    row: Callable[[Any], Any]


class Prepared:
    """A select with `bindparam`s, run in autocommit. Rows are named tuples of its columns."""

    def __init__(self, statement: Select[*tuple[Any, ...]]) -> None:
        self._statement = statement
        self._compiled: dict[str, _Compiled] = {}

    def _compile(self, dialect: Dialect) -> _Compiled:
        asked = {
            found.key
            for found in visitors.iterate(self._statement)
            if isinstance(found, BindParameter) and found.required
        }
        # Lists of constants are written out here, once.
        made = self._statement.compile(dialect=dialect)
        expanded = made.construct_expanded_state(dict.fromkeys(asked))
        to_driver: dict[str, Any] = dict(expanded.processors)
        constants = {
            name: to_driver[name](value) if name in to_driver else value
            for name, value in expanded.parameters.items()
            if name not in asked
        }
        columns = list(self._statement.selected_columns)
        from_driver = []
        for place, column in enumerate(columns):
            kind = column.type.dialect_impl(dialect)
            convert = kind.result_processor(dialect, None)
            if convert is not None:
                from_driver.append((place, convert))
        row = namedtuple("Row", [str(column.key) for column in columns])  # type: ignore[misc]  # noqa: PYI024 - made of the columns
        order = expanded.positiontup if dialect.positional else None
        return _Compiled(
            expanded.statement,
            tuple(order) if order is not None else None,
            constants,
            to_driver,
            tuple(from_driver),
            row._make,
        )

    def all(self, **values: Any) -> list[Any]:
        """Every row. Raises sqlalchemy's DBAPIError as any other statement does."""
        dialect = db.engine.dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = self._compile(dialect)
        for watch in watchers:
            watch(compiled.text)
        given = compiled.constants | values
        for name in values:
            convert = compiled.to_driver.get(name)
            if convert is not None:
                given[name] = convert(given[name])
        arguments = given if compiled.order is None else [given[name] for name in compiled.order]
        rows = _run(compiled.text, arguments, dialect)
        if compiled.from_driver:
            rows = [_converted(row, compiled.from_driver) for row in rows]
        return [compiled.row(row) for row in rows]

    def find(self, **values: Any) -> Any | None:
        """The first row, or None."""
        rows = self.all(**values)
        return rows[0] if rows else None

    def one(self, **values: Any) -> Any:
        """The first row. Raises LookupError when there is none."""
        rows = self.all(**values)
        if not rows:
            raise LookupError("no row, where one was expected")
        return rows[0]


def _run(text: str, arguments: Any, dialect: Dialect) -> list[Any]:
    connection = None
    try:
        connection = reader()
        cursor = connection.cursor()
        try:
            cursor.execute(text, arguments)
            return list(cursor.fetchall())
        finally:
            cursor.close()
    except dialect.loaded_dbapi.Error as error:
        is_gone = dialect.is_disconnect(error, connection, None)
        forget_reader(is_gone=is_gone)
        raise DBAPIError.instance(
            text, None, error, dialect.loaded_dbapi.Error, True, is_gone, dialect
        ) from error


def _converted(row: Any, conversions: tuple[tuple[int, Callable[[Any], Any]], ...]) -> list[Any]:
    values = list(row)
    for place, convert in conversions:
        values[place] = convert(values[place])
    return values
