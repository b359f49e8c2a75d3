"""The demo's routers: one at the end of each line, of which some are switched off.

What a router is follows from the name of its line; the names of its Wi-Fi and when it was started
anew are rows of an SQLite file. It connects nobody, so that no password is needed, nor kept.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zlib import crc32

from core import clock
from core.findings import Finding, Level
from gateways.network.base import KnownLines
from gateways.network.equipment import (
    ConnectedDevice,
    Equipment,
    EquipmentGateway,
    Outcome,
    WifiChange,
    WifiNetwork,
)
from gateways.network.errors import GatewayAway, GatewayRefused

MODELS = ("AVM FRITZ!Box 7530", "TP-Link Archer C7", "ZTE F670L", "Huawei HG8245H")
_DEVICES = (
    *("Pixel-7", "iPhone", "Living-room-TV", "Galaxy-Tab", "PlayStation-5", "Brother-HL-L2350DW"),
    *("ThinkPad", "MacBook-Air", "Kitchen-radio", "", "Nest-thermostat", "Switch"),
)
REPORTS_EVERY = timedelta(minutes=5)
STARTS_FOR = timedelta(seconds=90)
_SILENT_FOR = timedelta(days=2)
_WAIT_SECONDS = 3.0
_SCHEMA = (
    """
CREATE TABLE IF NOT EXISTS wifi (
    username TEXT,
    key TEXT,
    name TEXT NOT NULL,
    PRIMARY KEY (username, key)
) WITHOUT ROWID
""",
    """
CREATE TABLE IF NOT EXISTS restarts (
    username TEXT PRIMARY KEY,
    at REAL NOT NULL
) WITHOUT ROWID
""",
)


class SimulatedEquipment(EquipmentGateway):
    """The routers in the file `path`, which is made when it is not there."""

    title = "Simulated routers"

    def __init__(self, path: Path, now: Callable[[], datetime] = clock.now) -> None:
        self._path = path
        self._now = now
        with self._open() as connection:
            for statement in _SCHEMA:
                connection.execute(statement)
        path.chmod(0o600)

    def read(self, username: str) -> Equipment:
        """See EquipmentGateway."""
        number, now = crc32(username.encode()), self._now()
        with self._open() as connection:
            names = dict(
                connection.execute("SELECT key, name FROM wifi WHERE username = ?", (username,))
            )
            row = connection.execute(
                "SELECT at FROM restarts WHERE username = ?", (username,)
            ).fetchone()
        restarted_at = datetime.fromtimestamp(row[0], UTC) if row else None
        is_starting = restarted_at is not None and now < restarted_at + STARTS_FOR
        if is_silent(username):
            heard_at = now - _SILENT_FOR
        else:
            heard_at = now - timedelta(seconds=number % int(REPORTS_EVERY.total_seconds()))
        usual = f"Pinecrest-{number % 0x10000:04X}"
        return Equipment(
            model=MODELS[number % len(MODELS)],
            heard_at=restarted_at if is_starting else heard_at,
            is_online=not is_starting and not is_silent(username),
            networks=tuple(
                WifiNetwork(key, names.get(key, usual), band)
                for key, band in (("0", "2.4"), ("1", "5"))
            ),
            devices=tuple(_devices(username)),
            devices_at=heard_at,
        )

    def restart(self, username: str) -> Outcome:
        """See EquipmentGateway."""
        if is_silent(username):
            return Outcome.QUEUED
        with self._open() as connection:
            connection.execute(
                "INSERT INTO restarts VALUES (?, ?)"
                " ON CONFLICT (username) DO UPDATE SET at = excluded.at",
                (username, self._now().timestamp()),
            )
        return Outcome.DONE

    def change_wifi(self, username: str, change: WifiChange) -> Outcome:
        """See EquipmentGateway."""
        if not change.keys or not set(change.keys) <= {"0", "1"}:
            raise GatewayRefused("the router has no such network")
        if is_silent(username):
            return Outcome.QUEUED
        with self._open() as connection:
            connection.executemany(
                "INSERT INTO wifi VALUES (?, ?, ?)"
                " ON CONFLICT (username, key) DO UPDATE SET name = excluded.name",
                [(username, key, change.name) for key in change.keys],
            )
        return Outcome.DONE

    def refresh(self, username: str) -> Outcome:
        """See EquipmentGateway."""
        return Outcome.QUEUED if is_silent(username) else Outcome.DONE

    def check(self, _known_lines: KnownLines) -> Iterator[Finding]:
        """See EquipmentGateway."""
        yield Finding("reach", Level.OK, f"{self.title}: they are made up and lack nothing.")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self._path, timeout=_WAIT_SECONDS)
            with closing(connection), connection:
                yield connection
        except sqlite3.Error as error:
            raise GatewayAway(f"the simulated routers: {error}") from error


def is_silent(username: str) -> bool:
    """Whether the router of a line is switched off: one of nine is."""
    return crc32(username.encode()) % 9 == 0


def _devices(username: str) -> Iterator[ConnectedDevice]:
    number = crc32(username.encode())
    for place, name in enumerate(_DEVICES):
        if number >> place & 1:
            mac = crc32(f"{username} {place}".encode())
            yield ConnectedDevice(
                name,
                f"02:00:{mac >> 24 & 255:02x}:{mac >> 16 & 255:02x}:{mac >> 8 & 255:02x}"
                f":{mac & 255:02x}",
            )
