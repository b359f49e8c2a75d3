"""The demo's network: lines as rows of an SQLite file of its own, changed at once.

It connects nobody. Any number of processes may use the file. What its lines carry follows from
their names and the hour alone (`simulated_traffic.py`), and is reported as a NAS would.
"""

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zlib import crc32

from core import clock
from core.findings import Finding, Level
from gateways.network.base import (
    Accounting,
    KnownLines,
    NetworkGateway,
    NetworkState,
    Report,
    ReportKind,
    Setting,
)
from gateways.network.errors import GatewayRefused, GatewayTimeout
from gateways.network.simulated_traffic import carried

MAX_NAME_LENGTH = 253
"""As long as RADIUS lets a user name be (RFC 2865, 5.1)."""
_WAIT_SECONDS = 5.0
_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS lines (
    username TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('open', 'held', 'closed'))
) WITHOUT ROWID
""",
    """
CREATE TABLE IF NOT EXISTS running (
    username TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    started_at REAL NOT NULL,
    reported_at REAL NOT NULL,
    report_at REAL NOT NULL,
    up_bytes INTEGER NOT NULL,
    down_bytes INTEGER NOT NULL
) WITHOUT ROWID
""",
    "CREATE INDEX IF NOT EXISTS running_due ON running (report_at)",
    """
CREATE TABLE IF NOT EXISTS reports (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    username TEXT NOT NULL,
    kind TEXT NOT NULL,
    at REAL NOT NULL,
    session TEXT NOT NULL,
    seconds INTEGER NOT NULL,
    up_bytes INTEGER NOT NULL,
    down_bytes INTEGER NOT NULL
)
""",
)
NAS = "pop1.pinecrest.example"
REPORT_EVERY = timedelta(minutes=15)
_AT_ONCE = 500
_REPORTS_KEPT = timedelta(days=2)
_SET = (
    "INSERT INTO lines (username, state) VALUES (?, ?)"
    " ON CONFLICT (username) DO UPDATE SET state = excluded.state"
)


class SimulatedNetwork(NetworkGateway):
    """The lines in the file `path`, which is made when it is not there."""

    title = "Simulated network"
    read_every = timedelta(seconds=5)

    def __init__(self, path: Path, now: Callable[[], datetime] = clock.now) -> None:
        self._path = path
        self._now = now
        with self._open() as connection:
            for statement in _SCHEMA:
                connection.execute(statement)
        path.chmod(0o600)

    def set_line(self, username: str, wanted: Setting, _confirmed: Setting | None) -> None:
        """See NetworkGateway. Every line of the demo is as fast as it is."""
        self.set_states([(username, wanted.state)])

    def set_states(self, wanted: Iterable[tuple[str, NetworkState]]) -> None:
        """Bring many lines to their states, all or none."""
        rows = [(username, state.value) for username, state in wanted]
        for username, _state in rows:
            if not username or len(username.encode()) > MAX_NAME_LENGTH:
                raise GatewayRefused(f"no line can be named {username!r}")
        with self._open() as connection:
            connection.executemany(_SET, rows)

    def read_state(self, username: str) -> NetworkState | None:
        """See NetworkGateway."""
        with self._open() as connection:
            row = connection.execute(
                "SELECT state FROM lines WHERE username = ?", (username,)
            ).fetchone()
        return NetworkState(row[0]) if row is not None else None

    def read_accounting(self, cursor: str) -> Accounting:
        """See NetworkGateway. What is due to be reported by now is, first."""
        since = int(cursor or 0)
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            now = self._now()
            _begin_and_end(connection, now)
            _report(connection, now)
            connection.execute(
                "DELETE FROM reports WHERE at < ?", ((now - _REPORTS_KEPT).timestamp(),)
            )
            rows = connection.execute(
                "SELECT id, username, kind, at, session, seconds, up_bytes, down_bytes"
                " FROM reports WHERE id > ? ORDER BY id LIMIT ?",
                (since, _AT_ONCE),
            ).fetchall()
        last = rows[-1][0] if rows else since
        return Accounting(tuple(map(_as_report, rows)), str(last), len(rows) == _AT_ONCE)

    def check(self, _known_lines: KnownLines) -> Iterator[Finding]:
        """See NetworkGateway."""
        yield Finding("network", Level.OK, f"{self.title}: it connects nobody and lacks nothing.")

    def forget(self) -> None:
        """Know no line any more."""
        with self._open() as connection:
            for table in ("lines", "running", "reports"):
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - names of our own

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self._path, timeout=_WAIT_SECONDS)
            with closing(connection), connection:
                yield connection
        except sqlite3.Error as error:
            raise GatewayTimeout(f"the simulated network: {error}") from error


_NOTE = (
    "INSERT INTO reports (username, kind, at, session, seconds, up_bytes, down_bytes)"
    " VALUES (?, ?, ?, ?, ?, ?, ?)"
)


def _begin_and_end(connection: sqlite3.Connection, now: datetime) -> None:
    """Begin a session on each line that was opened, end those of lines that are open no more, and
    of some that have run for days, as access servers do."""
    opened = connection.execute(
        "SELECT username FROM lines WHERE state = 'open'"
        " AND username NOT IN (SELECT username FROM running)"
    ).fetchall()
    at = now.timestamp()
    for (username,) in opened:
        session = f"{crc32(f'{username} {at}'.encode()):08X}"
        # Spread over the interval, so that all do not report in the same second.
        first_at = at + crc32(username.encode()) % int(REPORT_EVERY.total_seconds())
        connection.execute(
            "INSERT INTO running VALUES (?, ?, ?, ?, ?, 0, 0)",
            (username, session, at, at, first_at),
        )
        connection.execute(_NOTE, (username, ReportKind.START.value, at, session, 0, 0, 0))
    ended = connection.execute(
        "SELECT r.* FROM running r JOIN lines l USING (username) WHERE l.state <> 'open'"
        " OR r.started_at < ? - 86400 * (2 + unicode(r.session) % 7)",
        (at,),
    ).fetchall()
    for row in ended:
        _carry(connection, row, now, ReportKind.STOP)
        connection.execute("DELETE FROM running WHERE username = ?", (row[0],))


def _report(connection: sqlite3.Connection, now: datetime) -> None:
    due = connection.execute(
        "SELECT * FROM running WHERE report_at <= ? ORDER BY report_at", (now.timestamp(),)
    ).fetchall()
    for row in due:
        _carry(connection, row, now, ReportKind.INTERIM)


def _carry(
    connection: sqlite3.Connection, row: tuple[Any, ...], now: datetime, kind: ReportKind
) -> None:
    username, session, started_at, reported_at, _report_at, up_bytes, down_bytes = row
    up, down = carried(username, datetime.fromtimestamp(reported_at, UTC), now)
    at = now.timestamp()
    up_bytes, down_bytes = up_bytes + up, down_bytes + down
    connection.execute(
        "UPDATE running SET reported_at = ?, report_at = ?, up_bytes = ?, down_bytes = ?"
        " WHERE username = ?",
        (at, at + REPORT_EVERY.total_seconds(), up_bytes, down_bytes, username),
    )
    seconds = int(at - started_at)
    connection.execute(_NOTE, (username, kind.value, at, session, seconds, up_bytes, down_bytes))


def _as_report(row: tuple[Any, ...]) -> Report:
    _id, username, kind, at, session, seconds, up_bytes, down_bytes = row
    return Report(
        ReportKind(kind),
        NAS,
        datetime.fromtimestamp(at, UTC),
        session,
        username,
        seconds,
        up_bytes,
        down_bytes,
        has_gigawords=True,
        address=address_of(username),
        device=device_of(username),
        cause="User-Request" if kind == ReportKind.STOP else "",
    )


def address_of(username: str) -> str:
    """The address that a line is given, from those that carriers share out (RFC 6598)."""
    number = crc32(username.encode())
    return f"100.{64 + number % 64}.{number // 64 % 256}.{number // 16384 % 254 + 1}"


def device_of(username: str) -> str:
    """The address of the device at the end of a line."""
    number = crc32(username.encode())
    return f"02:00:5e:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
