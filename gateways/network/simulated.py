"""The demo's network: lines as rows of an SQLite file of its own, changed at once.

It connects nobody. Any number of processes may use the file.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from gateways.network.base import NetworkGateway, NetworkState
from gateways.network.errors import GatewayRefused, GatewayTimeout

MAX_NAME_LENGTH = 253
"""As long as RADIUS lets a user name be (RFC 2865, 5.1)."""
_WAIT_SECONDS = 5.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS lines (
    username TEXT PRIMARY KEY,
    state TEXT NOT NULL CHECK (state IN ('open', 'held', 'closed'))
) WITHOUT ROWID
"""
_SET = (
    "INSERT INTO lines (username, state) VALUES (?, ?)"
    " ON CONFLICT (username) DO UPDATE SET state = excluded.state"
)


class SimulatedNetwork(NetworkGateway):
    """The lines in the file `path`, which is made when it is not there."""

    title = "Simulated network"

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as connection:
            connection.execute(_SCHEMA)
        path.chmod(0o600)

    def set_state(self, username: str, state: NetworkState) -> None:
        """See NetworkGateway."""
        self.set_states([(username, state)])

    def set_states(self, wanted: Iterable[tuple[str, NetworkState]]) -> None:
        """The same for many lines, all or none."""
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

    def forget(self) -> None:
        """Know no line any more."""
        with self._open() as connection:
            connection.execute("DELETE FROM lines")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = sqlite3.connect(self._path, timeout=_WAIT_SECONDS)
            with closing(connection), connection:
                yield connection
        except sqlite3.Error as error:
            raise GatewayTimeout(f"the simulated network: {error}") from error
