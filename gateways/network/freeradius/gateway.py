"""The gateway: tables first and committed, then the sessions that run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import literal, select

from core.findings import Finding
from core.radius_settings import Means, RadiusSettings
from gateways.network.base import Accounting, KnownLines, NetworkGateway, NetworkState, Setting
from gateways.network.errors import GatewayRefused, NetworkError
from gateways.network.freeradius import checking
from gateways.network.freeradius.accounting import Reader, plain
from gateways.network.freeradius.attributes import attributes_of
from gateways.network.freeradius.coa import Caller, Running
from gateways.network.freeradius.database import Database, columns_of
from gateways.network.freeradius.tables import Tables

MOST_SESSIONS = 8
"""Of one line, the newest: more are left over from sessions whose end was never reported."""
MOST_SECONDS = 6.0
"""How long sessions of one line are told of a change once one could not be."""


class FreeradiusNetwork(NetworkGateway):
    """The network behind a FreeRADIUS. An open line that is brought to it for the first time is not
    disturbed: the tables count from its next session on. Connecting a network so ends no session.
    """

    title = "FreeRADIUS"

    def __init__(
        self, settings: RadiusSettings, read_every: timedelta = timedelta(seconds=30)
    ) -> None:
        self.settings = settings
        self.read_every = read_every
        self.source = Database(settings.read_url, "the database to read from", is_written=False)
        self.target = Database(settings.write_url, "the database to write to", is_written=True)
        self.caller = Caller(settings.dictionary)
        self._tables = Tables(self.target, settings)
        self._reader = Reader(self.source, self._is_swapped)

    def set_line(self, username: str, wanted: Setting, confirmed: Setting | None) -> None:
        """See NetworkGateway."""
        is_changed = self._tables.bring(username, wanted)
        if not is_changed and confirmed == wanted:
            return
        if confirmed is None and wanted.state is NetworkState.OPEN:
            return
        is_state = confirmed is None or confirmed == wanted or confirmed.state != wanted.state
        failures: list[NetworkError] = []
        until = time.monotonic() + MOST_SECONDS
        for session in self.list_running(username):
            if failures and time.monotonic() > until:
                break  # the others when it is tried again: the worker has more to do
            try:
                self._tell(session, wanted, is_state=is_state)
            except NetworkError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def read_state(self, username: str) -> NetworkState | None:
        """See NetworkGateway."""
        return self._tables.read_state(username)

    def read_accounting(self, cursor: str) -> Accounting:
        """See NetworkGateway."""
        return self._reader.read(cursor)

    def check(self, known_lines: KnownLines) -> Iterator[Finding]:
        """See NetworkGateway."""
        return checking.examine(self, known_lines)

    def list_running(self, username: str) -> list[Running]:
        """The sessions of a line that have not ended, the newest first."""
        with self.source.reading() as connection:
            columns = columns_of(self.source.table(connection, "radacct"))
            query = (
                select(
                    columns["nasipaddress"].label("nas"),
                    columns["acctsessionid"].label("session_id"),
                    columns.get("framedipaddress", literal("")).label("address"),
                )
                .where(columns["username"] == username, columns["acctstoptime"].is_(None))
                .order_by(columns["radacctid"].desc())
                .limit(MOST_SESSIONS)
            )
            return [
                Running(plain(row.nas), str(row.session_id), username, plain(row.address))
                for row in connection.execute(query)
            ]

    def _tell(self, session: Running, wanted: Setting, *, is_state: bool) -> None:
        nas = self.settings.find_nas(session.nas)
        if nas is None:
            raise GatewayRefused(
                f"a session runs on {session.nas}, of which the settings know no secret"
            )
        kind = self.settings.types[nas.type]
        means = kind.hold_by if is_state else kind.change_by
        if wanted.state is NetworkState.CLOSED and means is not Means.NOTHING:
            means = Means.DISCONNECT
        if means is Means.COA:
            attributes = attributes_of(kind, wanted, self.settings.hold)
            self.caller.change(nas, session, attributes)
        elif means is Means.DISCONNECT:
            self.caller.disconnect(nas, session)

    def _is_swapped(self, name: str) -> bool:
        nas = self.settings.find_nas(name)
        return nas is not None and nas.is_swapped
