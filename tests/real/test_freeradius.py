"""The portal and a real FreeRADIUS: who is held pays and gets the speed back; what packets tell is
on the usage page to the byte."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import update
from werkzeug.serving import make_server

from blueprints.lines.reading import Reading
from blueprints.lines.syncing import Syncing
from core import clock, worker
from core.db import unit_of_work
from core.findings import Level
from core.radius_settings import NasSettings, RadiusSettings
from core.settings import ROOT
from gateways.network.base import NetworkState, Setting
from gateways.network.freeradius import accounting
from gateways.network.freeradius.gateway import FreeradiusNetwork
from gateways.payments.sandbox.store import Decision
from models import HoldReason, Line
from tests import crawl, outside, pg
from tests.billing.dunning.conftest import Dunning
from tests.conftest import Portal
from tests.lines.conftest import Street
from tests.real import radius
from tests.test_serve import free_ports

GROUP = "walled-garden"
DOCS = ROOT / "docs" / "freeradius.md"
FULL, HELD = "300000k/300000k", "1000k/1000k"


@dataclass
class Town:
    """An ISP with its FreeRADIUS, an access server, and the portal that is connected to them."""

    portal: Portal
    database: radius.Database
    isp: radius.Isp
    nas: radius.AccessServer
    network: FreeradiusNetwork
    sync: Syncing

    def turn(self) -> None:
        """One round of a worker that syncs lines."""
        worker.turn(self.portal.app, (self.sync,), worker.first_clockwork())

    def new(self, seen: int) -> list[dict[str, str]]:
        """What the access server was told after the first `seen`."""
        return self.nas.got()[seen:]

    def failure(self, name: str) -> str:
        return str(
            self.portal.one(
                "SELECT sync_failure FROM lines WHERE username = :name", name=f"ppp-{name}"
            )
        )


@pytest.fixture
def folder() -> Iterator[Callable[[str], Path]]:
    """Makes folders that somebody else may be given, as those of pytest may not."""
    made: list[Path] = []

    def make(name: str) -> Path:
        made.append(Path(tempfile.mkdtemp(prefix=f"lastmile-{name}-", dir=pg.FOLDERS)))
        return made[-1]

    yield make
    for path in made:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def database(engine_kind: str, folder: Callable[[str], Path]) -> Iterator[radius.Database]:
    """On the engine that the portal has in this test."""
    outside.need("freeradius")
    if engine_kind == "sqlite":
        yield radius.make_sqlite(folder("radius"))
        return
    outside.need("postgresql")
    with radius.made_postgresql(f"radius_{int(time.time())}") as made:
        yield made


@pytest.fixture
def town(ctx: Portal, database: radius.Database, folder: Callable[[str], Path]) -> Iterator[Town]:
    for name in ("alice", "mallory", "rich"):
        database.execute(
            "INSERT INTO radcheck (username, attribute, op, value)"
            " VALUES (:name, 'Cleartext-Password', ':=', 'pw')",
            name=f"ppp-{name}",
        )
    database.execute(
        "INSERT INTO radgroupreply (groupname, attribute, op, value)"
        " VALUES (:group, 'Framed-Pool', ':=', 'garden')",
        group=GROUP,
    )
    path = Path(database.engine.url.database or "")
    where = path.parent if database.dialect == "sqlite" else folder("isp")
    with radius.isp(where, database) as isp, radius.access_server(folder("nas")) as nas:
        settings = RadiusSettings(
            database.url,
            database.url,
            nases=(
                NasSettings(
                    radius.NAS,
                    ip_network(radius.NAS),
                    "mikrotik",
                    radius.SECRET.encode(),
                    port=nas.port,
                ),
            ),
        )
        network = FreeradiusNetwork(settings)
        town = Town(ctx, database, isp, nas, network, Syncing(network))
        town.turn()
        yield town
        network.source.engine.dispose()
        network.target.engine.dispose()


def test_who_is_overdue_is_held_pays_and_gets_the_speed_back(town: Town) -> None:
    portal, dunning = town.portal, Dunning(town.portal)
    assert town.isp.ask("ppp-alice", "pw")["Mikrotik-Rate-Limit"] == FULL
    town.isp.account("Start", "ppp-alice", "S1", Framed_IP_Address="100.64.0.9")
    assert town.nas.got() == []  # connecting a network disturbs nobody
    with dunning.on(date(2026, 6, 20)):
        dunning.run()
    with dunning.on(date(2026, 6, 29)):
        dunning.run()
        town.turn()
        [told] = town.nas.got()
        assert (told[""], told["Mikrotik-Rate-Limit"]) == ("CoA-Request", HELD)
        assert told["Mikrotik-Address-List"] == "lastmile-held"
        assert (told["Acct-Session-Id"], told["Framed-IP-Address"]) == ("S1", "100.64.0.9")
        assert told["Event-Timestamp"]
        assert len(told["Message-Authenticator"]) == 34
        answer = town.isp.ask("ppp-alice", "pw")
        assert (answer["Mikrotik-Rate-Limit"], answer["Framed-Pool"]) == (HELD, "garden")
        assert town.network.read_state("ppp-alice") is NetworkState.HELD
        alice = portal.visitor("alice", own_device="y")
        home = alice.get(portal.path())
        assert "Your internet is off: a bill is unpaid" in home.text
        alice.submit(home, "/pay", choice="balance")
        town.turn()
        assert [each["Mikrotik-Rate-Limit"] for each in town.new(1)] == [FULL]  # so she can pay
        [(key, public_id)] = portal.rows("SELECT key, public_id FROM payments WHERE state = 'sent'")
        # She takes longer than the line is open for, and it is held again meanwhile.
        with clock.set_to(clock.now() + timedelta(minutes=20)):
            town.turn()
            assert [each["Mikrotik-Rate-Limit"] for each in town.new(2)] == [HELD]
            portal.bank.decide(key, Decision.PAY)
            back = alice.get(f"/pay/{public_id}/return")
            assert "Paid. Thank you." in alice.get(back.location).text
            town.turn()
            [told] = town.new(3)
            assert (told[""], told["Mikrotik-Rate-Limit"]) == ("CoA-Request", FULL)
            assert told["Mikrotik-Address-List"] == "lastmile-open"
            answer = town.isp.ask("ppp-alice", "pw")
            assert answer["Mikrotik-Rate-Limit"] == FULL
            assert "Framed-Pool" not in answer
            assert "Your line is open again" in alice.get(portal.path()).text


def test_new_speed_is_told_once_and_the_same_again_never(town: Town) -> None:
    town.isp.account("Start", "ppp-alice", "S1")
    set_line(town, down_kbps=50_000, up_kbps=5_000)
    town.turn()
    assert [each["Mikrotik-Rate-Limit"] for each in town.nas.got()] == ["5000k/50000k"]
    before = tables(town)
    set_line(town)
    town.turn()
    assert len(town.nas.got()) == 1
    assert tables(town) == before


def test_session_that_cannot_be_changed_is_ended(town: Town) -> None:
    town.isp.account("Start", "ppp-mallory", "S2")
    Street(town.portal, None, town.sync).hold(HoldReason.ABUSE, "mallory")  # type: ignore[arg-type]
    town.turn()
    assert [each[""] for each in town.nas.got()] == ["CoA-Request", "Disconnect-Request"]
    assert town.nas.got()[1]["Acct-Session-Id"] == "S2"
    assert town.failure("mallory") == ""


def test_why_an_access_server_refuses_is_kept_with_the_line(town: Town) -> None:
    town.isp.account("Start", "ppp-rich", "S3")
    Street(town.portal, None, town.sync).hold(HoldReason.ABUSE, "rich")  # type: ignore[arg-type]
    town.turn()
    assert town.failure("rich") == (
        "127.0.0.1 refused the CoA: Administratively-Prohibited; "
        "127.0.0.1 refused the Disconnect: Administratively-Prohibited"
    )
    # The tables hold what is wanted: the next session is held, whatever became of this one.
    assert town.isp.ask("ppp-rich", "pw")["Mikrotik-Address-List"] == "lastmile-held"


def test_closed_line_is_refused_and_its_session_ended(town: Town) -> None:
    town.isp.account("Start", "ppp-alice", "S1")
    set_line(town, is_closed=True, wanted_state="closed")
    town.turn()
    assert town.isp.ask("ppp-alice", "pw") == {"": "reject"}
    assert [each[""] for each in town.nas.got()] == ["Disconnect-Request"]
    set_line(town, is_closed=False, wanted_state="open")
    town.turn()
    assert town.isp.ask("ppp-alice", "pw")["Mikrotik-Rate-Limit"] == FULL


def test_usage_sent_as_packets_is_on_the_page_to_the_byte(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "REST", 0)
    up, down = 123_456_789, 7 * 2**32 + 987_654_321
    now = datetime.now(UTC)
    with clock.set_to(now):
        reading = Reading(town.network)
        began = int(now.timestamp()) - 1800
        town.isp.account("Start", "ppp-alice", "S1", at=began)
        counters = {"Acct_Input_Octets": 1_000, "Acct_Output_Octets": 2_000}
        town.isp.account(
            "Interim-Update", "ppp-alice", "S1", at=began + 600, Acct_Session_Time=600, **counters
        )
        reading()
        assert total(town) == (1_000, 2_000)
        for _ in range(2):  # the second is the first one again
            town.isp.account(
                "Stop",
                "ppp-alice",
                "S1",
                Acct_Session_Time=1800,
                Acct_Input_Octets=up,
                Acct_Output_Octets=down - 7 * 2**32,
                Acct_Output_Gigawords=7,
                Framed_IP_Address="100.64.0.9",
                Calling_Station_Id='"02:00:5e:01:02:03"',
                Acct_Terminate_Cause="User-Request",
            )
    with clock.set_to(now + timedelta(minutes=2)):
        for _ in range(3):
            reading()
        assert total(town) == (up, down)
        [(cause,)] = town.portal.rows("SELECT cause FROM usage_sessions WHERE ended_at IS NOT NULL")
        assert cause == "User-Request"
        alice = town.portal.visitor("alice")
        assert alice.get(town.portal.path("usage/")).status == 200
        days = alice.get(town.portal.path("usage/csv"))
        sums = [row.split(",")[1:] for row in days.response.text.splitlines()[1:]]
        assert [sum(int(row[place]) for row in sums) for place in range(3)] == [up, down, up + down]


def test_rights_that_the_docs_grant_are_enough(town: Town) -> None:
    town.isp.account("Start", "ppp-alice", "S1")
    url = town.database.url
    is_postgresql = town.database.dialect == "postgresql"
    if is_postgresql:
        [grants] = re.findall(r"```sql\n(.*?)```", DOCS.read_text(), re.DOTALL)
        for statement in grants.replace("lastmile", "portal").split(";\n"):
            if statement.strip():
                town.database.execute(statement)
        portal = town.database.engine.url.set(username="portal", password="x")
        url = portal.render_as_string(hide_password=False)
    settings = replace(town.network.settings, read_url=url, write_url=url)
    network = FreeradiusNetwork(settings)
    try:
        with clock.set_to(datetime.now(UTC)):
            found = list(network.check(set))
        network.read_accounting("")
        network.set_line("ppp-alice", Setting(NetworkState.HELD), None)
    finally:
        network.source.engine.dispose()
        network.target.engine.dispose()
        if is_postgresql:
            town.database.execute("DROP OWNED BY portal")
            town.database.execute("DROP ROLE portal")
    assert [each for each in found if each.level is not Level.OK] == []
    assert found[-1].words == "127.0.0.1 answers CoA (Session-Context-Not-Found)."
    assert town.nas.got()[-1]["Mikrotik-Address-List"] == "lastmile-held"


def total(town: Town) -> tuple[int, int]:
    """What the days of alice's line hold."""
    [(up, down)] = town.portal.rows(
        "SELECT coalesce(sum(u.up_bytes), 0), coalesce(sum(u.down_bytes), 0) FROM usage_days u"
        " JOIN lines ON lines.id = line_id WHERE username = 'ppp-alice'"
    )
    return int(up), int(down)


def tables(town: Town) -> list[list[tuple[object, ...]]]:
    return [
        town.database.rows(f"SELECT * FROM {name} ORDER BY id")
        for name in ("radcheck", "radreply", "radusergroup")
    ]


def set_line(town: Town, **values: object) -> None:
    """Change alice's line and have it synced."""
    unit_of_work(
        lambda session: session.execute(
            update(Line)
            .where(Line.username == "ppp-alice")
            .values({"sync_at": clock.now(), **values})
        )
    )


def test_accounting_posted_by_rlm_rest_is_counted(
    portal: Portal, folder: Callable[[str], Path]
) -> None:
    token, now = "0123456789abcdefghij", datetime.now(UTC)
    outside.need("freeradius")
    database = radius.make_sqlite(where := folder("radius"))
    with (
        crawl.another_app(portal, accounting_token=token) as app,
        clock.set_to(now),
        served(app) as origin,
        radius.isp(where, database, {"url": f"{origin}/accounting/radius", "token": token}) as isp,
    ):
        began = int(now.timestamp()) - 900
        isp.account("Start", "ppp-alice", "S1", at=began)
        counters = {"Acct_Input_Octets": 5_000, "Acct_Output_Octets": 7_000}
        for _ in range(2):
            isp.account(
                "Interim-Update",
                "ppp-alice",
                "S1",
                at=began + 300,
                Acct_Session_Time=300,
                **counters,
            )
        isp.account(
            "Stop",
            "ppp-alice",
            "S1",
            Acct_Session_Time=900,
            Acct_Input_Octets=6_000,
            Acct_Output_Octets=8_000,
            Acct_Output_Gigawords=3,
            Acct_Terminate_Cause="Lost-Carrier",
        )
        isp.account("Start", "ppp-alice", "S2")
        isp.account("Accounting-On", "", "")
    rows = portal.rows(
        "SELECT up_bytes, down_bytes, ended_at IS NOT NULL, cause FROM usage_sessions ORDER BY id"
    )
    assert [tuple(row) for row in rows] == [
        (6_000, 8_000 + 3 * 2**32, True, "Lost-Carrier"),
        (0, 0, True, "NAS-Reboot"),
    ]
    assert portal.rows("SELECT name FROM nases") == [(radius.NAS,)]


@contextmanager
def served(app: Flask) -> Iterator[str]:
    """The application on a port of loopback; its origin."""
    port = free_ports()
    server = make_server("127.0.0.1", port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
