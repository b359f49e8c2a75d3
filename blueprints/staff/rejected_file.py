"""The file of refused rows, which can be mended and imported again."""

from __future__ import annotations

import csv
import fcntl
import filecmp
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from blueprints.staff.errors import ImportImpossible
from blueprints.staff.import_reader import BYTE_ORDER_MARK, REFUSAL_COLUMNS, Refusal


class Standing(Protocol):
    """A record as it stands in a file."""

    @property
    def line(self) -> int: ...
    @property
    def cells(self) -> Sequence[str]: ...


class RejectedFile:
    """FILE.csv.rejected.csv: the refused rows as they stood, with line, column and reason in front.

    It is written beside its place and put there whole at the end. What an earlier run left there
    (somebody may be mending it) is kept as `….old` unless it is the same.
    """

    def __init__(self, source: Path, columns: Sequence[str]) -> None:
        self.path = source.with_name(f"{source.name}.rejected.csv")
        self._part = self.path.with_name(f"{self.path.name}.part")
        self._count = 0
        try:
            descriptor = os.open(self._part, os.O_RDWR | os.O_CREAT, 0o600)
            self._file = os.fdopen(descriptor, "r+b")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise ImportImpossible(f"{source.name} is being imported by another command") from None
        except OSError as error:
            raise ImportImpossible(
                f"{self._part} cannot be written ({error.strerror}): refused rows go there"
            ) from None
        self._file.truncate()
        self._file.write(BYTE_ORDER_MARK)
        self._put((*REFUSAL_COLUMNS, *columns))

    def _put(self, cells: Sequence[str]) -> None:
        text = io.StringIO()
        csv.writer(text).writerow(cells)
        # The bytes of a cell that is not UTF-8 come back as they were.
        self._file.write(text.getvalue().encode("utf-8", "surrogateescape"))

    def add(self, record: Standing, refusal: Refusal) -> None:
        self._count += 1
        self._put((str(record.line), refusal.column, refusal.reason, *record.cells))

    def finish(self) -> Path | None:
        """Put the file in its place; None when no row was refused and there is none."""
        self._file.flush()
        os.fsync(self._file.fileno())
        is_same = (
            self._count > 0
            and self.path.exists()
            and filecmp.cmp(self._part, self.path, shallow=False)
        )
        if self.path.exists() and not is_same:
            self.path.replace(self.path.with_name(f"{self.path.name}.old"))
        if self._count:
            self._part.replace(self.path)
        else:
            self._part.unlink()
        self._file.close()
        return self.path if self._count else None

    def abandon(self) -> None:
        """Leave nothing behind: the run did not come to its end."""
        if not self._file.closed:
            self._part.unlink(missing_ok=True)
            self._file.close()
