"""The demo's switch: numbers as rows of an SQLite file of its own, changed at once.

It carries no calls. Any number of processes may use the file.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gateways.voice.base import NumberSettings, VoiceGateway
from gateways.voice.errors import GatewayRefused, GatewayTimeout

_WAIT_SECONDS = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS numbers (
    number TEXT PRIMARY KEY,
    settings TEXT NOT NULL,
    timezone TEXT NOT NULL
) WITHOUT ROWID
"""
_SET = (
    "INSERT INTO numbers (number, settings, timezone) VALUES (?, ?, ?)"
    " ON CONFLICT (number) DO UPDATE SET settings = excluded.settings, timezone = excluded.timezone"
)


class SimulatedVoice(VoiceGateway):
    """The numbers in the file `path`, which is made when it is not there."""

    title = "Simulated switch"

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as connection:
            connection.execute(_SCHEMA)
        path.chmod(0o600)

    def set_number(self, number: str, wanted: NumberSettings, timezone: str) -> None:
        """See VoiceGateway."""
        self.set_numbers([(number, wanted)], timezone)

    def set_numbers(self, wanted: Iterable[tuple[str, NumberSettings]], timezone: str) -> None:
        """Bring many numbers to their settings, all or none."""
        rows = [(number, json.dumps(each.as_facts()), timezone) for number, each in wanted]
        for number, *_rest in rows:
            if not re.fullmatch(r"\+[1-9][0-9]{1,14}", number):
                raise GatewayRefused(f"no number can be {number!r}")
        with self._open() as connection:
            connection.executemany(_SET, rows)

    def read_number(self, number: str) -> NumberSettings | None:
        """See VoiceGateway."""
        with self._open() as connection:
            row = connection.execute(
                "SELECT settings FROM numbers WHERE number = ?", (number,)
            ).fetchone()
        return NumberSettings.of(json.loads(row[0])) if row is not None else None

    def forget(self) -> None:
        """Know no number any more."""
        with self._open() as connection:
            connection.execute("DELETE FROM numbers")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self._path, timeout=_WAIT_SECONDS)
            with closing(connection), connection:
                yield connection
        except sqlite3.Error as error:
            raise GatewayTimeout(f"the simulated switch: {error}") from error
