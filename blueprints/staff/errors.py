"""The ways loading, importing and copying can fail; each text is one line for who runs it."""

from __future__ import annotations


class CatalogInvalid(Exception):
    """The catalog file cannot be used, and nothing was written. The text names the key."""


class ImportImpossible(Exception):
    """The export as a whole cannot be imported: unreadable, wrong columns, or no ISP yet."""


class CopyImpossible(Exception):
    """The copy cannot begin or go on, because of the source or the target. The text says why."""


class RowRefused(CopyImpossible):
    """PostgreSQL would not take a row as it is."""

    def __init__(self, table: str, where: str, column: str | None, why: str) -> None:
        subject = f"its {column}" if column else "it"
        super().__init__(f"table {table}, {where}: {subject} {why}")
        self.table, self.where, self.column = table, where, column


class CopyInterrupted(Exception):
    """The target went away. What was committed is there, and the next run goes on behind it."""
