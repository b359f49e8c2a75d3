"""A database as FreeRADIUS has it, on both engines there are here, and an access server."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from pyrad import packet
from pyrad.dictionary import Dictionary
from sqlalchemy import Engine, create_engine, text

from core.radius_settings import NasSettings, RadiusSettings
from gateways.network.freeradius import coa
from gateways.network.freeradius.gateway import FreeradiusNetwork
from tests import pg

SECRET = b"a-secret-of-loopback"
START = datetime(2026, 6, 20, 8, 0, tzinfo=UTC)
_numbers = itertools.count(1)

_COLUMNS = {
    "radacctid": {"sqlite": "INTEGER PRIMARY KEY", "postgresql": "bigserial PRIMARY KEY"},
    "acctsessionid": {"sqlite": "varchar(64)", "postgresql": "text"},
    "acctuniqueid": {"sqlite": "varchar(32)", "postgresql": "text UNIQUE"},
    "username": {"sqlite": "varchar(64)", "postgresql": "text"},
    "nasipaddress": {"sqlite": "varchar(15)", "postgresql": "inet"},
    "acctstarttime": {"sqlite": "datetime", "postgresql": "timestamptz"},
    "acctupdatetime": {"sqlite": "datetime", "postgresql": "timestamptz"},
    "acctstoptime": {"sqlite": "datetime", "postgresql": "timestamptz"},
    "acctinterval": {"sqlite": "int(12)", "postgresql": "bigint"},
    "acctsessiontime": {"sqlite": "int(12)", "postgresql": "bigint"},
    "acctinputoctets": {"sqlite": "bigint(20)", "postgresql": "bigint"},
    "acctoutputoctets": {"sqlite": "bigint(20)", "postgresql": "bigint"},
    "callingstationid": {"sqlite": "varchar(50)", "postgresql": "text"},
    "acctterminatecause": {"sqlite": "varchar(32)", "postgresql": "text"},
    "framedipaddress": {"sqlite": "varchar(15)", "postgresql": "inet"},
    "framedipv6address": {"sqlite": "varchar(45)", "postgresql": "inet"},
}
_TIMES = ("acctstarttime", "acctupdatetime", "acctstoptime")


@dataclass(slots=True)
class Radius:
    """The database; `url` as the portal is told it."""

    url: str
    engine: Engine = field(init=False)

    def __post_init__(self) -> None:
        self.engine = create_engine(self.url)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def execute(self, sql: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(sql), values)

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql), values)]

    def make(self, without: tuple[str, ...] = ()) -> None:
        """The tables, `radacct` without the columns that old schemas lack."""
        engine = self.engine.dialect.name
        columns = [f"{name} {kind[engine]}" for name, kind in _COLUMNS.items()]
        kept = [each for each in columns if each.split()[0] not in without]
        self.execute(f"CREATE TABLE radacct ({', '.join(kept)})")
        number = "INTEGER PRIMARY KEY" if self.is_sqlite else "serial PRIMARY KEY"
        for name in ("radcheck", "radreply"):
            self.execute(
                f"CREATE TABLE {name} (id {number}, username text, attribute text, op varchar(2),"
                " value text)"
            )
        for name in ("radgroupreply", "radgroupcheck"):
            self.execute(
                f"CREATE TABLE {name} (id {number}, groupname text, attribute text,"
                " op varchar(2), value text)"
            )
        self.execute(
            f"CREATE TABLE radusergroup (id {number}, username text, groupname text, priority int)"
        )

    def _time(self, at: datetime | None) -> Any:
        if at is None or not self.is_sqlite:
            return at
        return int(at.timestamp())

    def session(self, name: str, **values: Any) -> None:
        """Write a row of `radacct`, or change it."""
        row = {key: self._time(value) if key in _TIMES else value for key, value in values.items()}
        if self.rows("SELECT 1 FROM radacct WHERE acctuniqueid = :name", name=name):
            sets = ", ".join(f"{key} = :{key}" for key in row)
            self.execute(f"UPDATE radacct SET {sets} WHERE acctuniqueid = :name", name=name, **row)
            return
        row = {
            "acctuniqueid": name,
            "acctsessionid": name,
            "username": "ppp-alice",
            "nasipaddress": "10.0.0.1",
            "acctstarttime": self._time(START),
            "acctsessiontime": 0,
            "acctinputoctets": 0,
            "acctoutputoctets": 0,
        } | row
        self.execute(
            f"INSERT INTO radacct ({', '.join(row)})"
            f" VALUES ({', '.join(f':{key}' for key in row)})",
            **row,
        )


@dataclass(slots=True)
class FakeNas:
    """An access server: `answer` decides, by what it is told; None: it says nothing."""

    port: int
    got: list[tuple[str, dict[str, list[Any]]]] = field(default_factory=list)
    answer: Callable[[str, dict[str, list[Any]]], str | int | None] = lambda _kind, _told: "ack"

    def kinds(self) -> list[str]:
        return [kind for kind, _told in self.got]


@pytest.fixture
def nas() -> Iterator[FakeNas]:
    dictionary = Dictionary(str(Path(coa.__file__).with_name("dictionary")))
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as listener:
        listener.bind(("127.0.0.1", 0))
        fake = FakeNas(listener.getsockname()[1])
        is_over = threading.Event()
        listener.settimeout(0.1)

        def listen() -> None:
            while not is_over.is_set():
                try:
                    raw, sender = listener.recvfrom(4096)
                except TimeoutError:
                    continue
                request = packet.CoAPacket(secret=SECRET, dict=dictionary, packet=raw)
                assert request.VerifyCoARequest()
                assert request.verify_message_authenticator()
                kind = "coa" if request.code == packet.CoARequest else "disconnect"
                told = {name: request[name] for name in request.keys()}  # noqa: SIM118
                fake.got.append((kind, told))
                said = fake.answer(kind, told)
                if said is None:
                    continue
                reply = request.CreateReply()
                if said != "ack":
                    is_coa = kind == "coa"
                    reply.code = packet.CoANAK if is_coa else packet.DisconnectNAK
                    if isinstance(said, int):
                        reply["Error-Cause"] = said
                listener.sendto(reply.ReplyPacket(), sender)

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield fake
        finally:
            is_over.set()
            thread.join()


@pytest.fixture(params=["sqlite", "postgresql"])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Radius]:
    """The database without its tables."""
    if request.param == "sqlite":
        path = tmp_path / "radius.db"
        path.touch()
        made = Radius(f"sqlite:///{path}")
        yield made
        made.engine.dispose()
        return
    server, name = pg.server(), f"fake_radius_{next(_numbers)}"
    made = Radius(server.create(name))
    yield made
    made.engine.dispose()
    server.drop(name)


@pytest.fixture
def radius(bare: Radius) -> Radius:
    bare.make()
    return bare


Connect = Callable[..., FreeradiusNetwork]


@pytest.fixture
def connect(bare: Radius, nas: FakeNas) -> Iterator[Connect]:
    """Makes the gateway, with further settings."""
    made: list[FreeradiusNetwork] = []

    def make(
        kind: str = "mikrotik", *, is_swapped: bool = False, write_url: str = "", **more: Any
    ) -> FreeradiusNetwork:
        server = NasSettings(
            "10.0.0.0/24",
            ip_network("10.0.0.0/24"),
            kind,
            SECRET,
            "127.0.0.1",
            nas.port,
            is_swapped,
        )
        settings = RadiusSettings(bare.url, write_url or bare.url, **({"nases": (server,)} | more))
        made.append(FreeradiusNetwork(settings))
        return made[-1]

    yield make
    for network in made:
        network.source.engine.dispose()
        network.target.engine.dispose()
