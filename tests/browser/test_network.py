"""A real FreeRADIUS behind the portal, met with a browser: who is held pays and has the speed back,
and what packets tell is on the usage page to the byte."""

from __future__ import annotations

import re
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from app import create_app
from blueprints.lines.allowances.watching import Watching
from blueprints.lines.reading import Reading
from blueprints.lines.syncing import Syncing
from core import worker
from core.radius_settings import NasSettings, RadiusSettings
from core.settings import read_settings
from gateways.network.freeradius.gateway import FreeradiusNetwork
from tests import outside, pg
from tests.browser.conftest import PHONE, Town, Visitor, met_town
from tests.real import radius

NAME = "behind"
USERNAME = f"ppp-{NAME}"
FULL, HELD = "300000k/300000k", "1000k/1000k"
PATIENCE_SECONDS = 60
UP, DOWN = 123_456_789, 987_654_321


@dataclass
class Network:
    """The town, the ISP's FreeRADIUS, and the access server that carries the line."""

    town: Town
    isp: radius.Isp
    nas: radius.AccessServer

    def wait_for_told(self, count: int) -> list[tuple[str, str]]:
        """Kind and speed of what the access server was told, once there is so much of it."""
        wait_until(lambda: len(self.nas.got()) >= count)
        return [(told[""], told["Mikrotik-Rate-Limit"]) for told in self.nas.got()]


@pytest.fixture
def folder() -> Iterator[Callable[[str], Path]]:
    """Makes folders that FreeRADIUS, which is somebody else, may use."""
    made: list[Path] = []

    def make(name: str) -> Path:
        made.append(Path(tempfile.mkdtemp(prefix=f"lastmile-{name}-", dir=pg.FOLDERS)))
        return made[-1]

    yield make
    for path in made:
        shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def network(folder: Callable[[str], Path], tmp_path: Path) -> Iterator[Network]:
    outside.need("freeradius")
    where = folder("radius")
    database = radius.make_sqlite(where)
    database.execute(
        "INSERT INTO radcheck (username, attribute, op, value)"
        " VALUES (:name, 'Cleartext-Password', ':=', 'pw')",
        name=USERNAME,
    )
    with radius.isp(where, database) as isp, radius.access_server(folder("nas")) as nas:
        isp.account("Start", USERNAME, "S1", Framed_IP_Address="100.64.0.9")
        with met_town(tmp_path, LASTMILE_NETWORK_GATEWAY="") as town:
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
            with a_worker_for(town, FreeradiusNetwork(settings, timedelta(seconds=1))):
                yield Network(town, isp, nas)


@contextmanager
def a_worker_for(town: Town, gateway: FreeradiusNetwork) -> Iterator[None]:
    """Those duties of the worker that meet the network. A demo's own worker, which serves the town,
    meets none: the subscribers of a demo are made up."""
    with closing(sqlite3.connect(town.data / "lastmile.db", timeout=10)) as portal:
        # The town is at rest, so that what it shows stays: from now on it reads.
        portal.execute("UPDATE usage_sources SET due_at = '2026-01-01 00:00:00.000000'")
        portal.commit()
    environment = {"LASTMILE_DEMO": "1", "LASTMILE_NETWORK_GATEWAY": "", "PORT": str(town.port)}
    app = create_app(read_settings({"LASTMILE_DATA": str(town.data)} | environment))
    duties = (Syncing(gateway), Reading(gateway), Watching())
    is_over = threading.Event()

    def work() -> None:
        clockwork = worker.first_clockwork()
        with app.app_context():
            while not is_over.wait(0.1):
                worker.turn(app, duties, clockwork)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    is_over.set()
    thread.join()
    gateway.source.engine.dispose()
    gateway.target.engine.dispose()


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


def carried(page: Page, town: Town) -> tuple[int, int]:
    """Bytes up and down in the file of the usage page."""
    answer = page.request.get(town.origin + town.path("usage/csv", NAME))
    rows = [row.split(",") for row in answer.text().splitlines()[1:]]
    return sum(int(row[1]) for row in rows), sum(int(row[2]) for row in rows)


def test_who_is_held_pays_on_a_phone_without_script_and_has_the_speed_back(
    network: Network, chromium: Browser
) -> None:
    town = network.town
    assert network.wait_for_told(1) == [("CoA-Request", HELD)]
    assert network.isp.ask(USERNAME, "pw")["Mikrotik-Rate-Limit"] == HELD
    context = chromium.new_context(viewport=PHONE, java_script_enabled=False, locale="en-US")
    visitor = Visitor(town, context, context.new_page(), [])
    page = visitor.sign_in(NAME)
    expect(page.get_by_text("Your internet is off: a bill is unpaid")).to_be_visible()
    page.get_by_role("button", name="Pay $").click()
    page.wait_for_url(town.bank_origin + "/pay/**")
    assert network.wait_for_told(2)[1:] == [("CoA-Request", FULL)]  # so that the bank is in reach
    page.get_by_role("button", name=re.compile("^Pay")).click()
    expect(page.get_by_role("heading", name="Paid. Thank you.")).to_be_visible()
    assert network.isp.ask(USERNAME, "pw")["Mikrotik-Rate-Limit"] == FULL
    visitor.open(town.path(account=NAME))
    expect(page.get_by_text("Your internet is off")).not_to_be_visible()

    network.isp.account(
        "Interim-Update",
        USERNAME,
        "S1",
        Acct_Session_Time=600,
        Acct_Input_Octets=UP,
        Acct_Output_Octets=DOWN,
    )
    visitor.open(town.path("usage/", NAME))
    wait_until(lambda: carried(page, town) == (UP, DOWN))
    page.reload()
    expect(page.get_by_text("1.1 GB").first).to_be_visible()
    context.close()
