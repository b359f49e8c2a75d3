"""MariaDB, where most databases of FreeRADIUS are, with the schema that FreeRADIUS comes with, in a
time zone of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import create_engine

from core import clock
from core.findings import Level
from gateways.network.base import NetworkState, Report, ReportKind, Setting
from gateways.network.freeradius import accounting
from tests import outside, pg, processes
from tests.gateways.freeradius.conftest import Connect, FakeNas, Radius
from tests.gateways.freeradius.test_reading import began, scan

SCHEMA = Path("/etc/freeradius/3.0/mods-config/sql/main/mysql/schema.sql")
START_SECONDS = 60
LINE = "ppp-alice"


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    """A server of its own, which listens on this socket alone."""
    program = outside.need("mariadb")
    outside.need("freeradius")
    folder = Path(tempfile.mkdtemp(prefix="lastmile-maria-", dir=pg.FOLDERS))
    path = folder / "socket"
    command = [str(program), "--no-defaults", f"--datadir={folder / 'data'}"]
    command += [f"--user={pwd.getpwuid(os.geteuid()).pw_name}"]  # root only where that is said
    command += [f"--socket={path}", "--skip-networking"]
    command += [f"--pid-file={folder / 'pid'}", f"--tmpdir={folder}", "--default-time-zone=+02:00"]
    command += ["--skip-grant-tables", "--innodb-flush-log-at-trx-commit=0"]
    command += ["--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M"]
    try:
        (folder / "data").mkdir()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            _wait(path, process, folder / "log")
            yield path
        finally:
            processes.kill(process)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(path: Path, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"MariaDB did not start: {log.read_text(errors='replace')[-2000:]}")


@pytest.fixture
def bare(server: Path) -> Iterator[Radius]:
    where = f"unix_socket={quote(str(server))}"
    engine = create_engine(f"mysql+pymysql://root@localhost/?{where}")
    lines = SCHEMA.read_text().splitlines()
    schema = "\n".join(line for line in lines if not line.startswith("#"))
    made = Radius(f"mysql+pymysql://root@localhost/radius?{where}")
    with engine.begin() as connection:
        for statement in (
            "DROP DATABASE IF EXISTS radius;\nCREATE DATABASE radius;\nUSE radius;\n" + schema
        ).split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    engine.dispose()
    yield made
    made.engine.dispose()


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "REST", 0)


def write(radius: Radius, name: str, start: datetime, seconds: int, **more: Any) -> None:
    """Write a session as FreeRADIUS does."""
    row: dict[str, Any] = {
        "acctuniqueid": name,
        "acctsessionid": name,
        "username": LINE,
        "nasipaddress": "10.0.0.1",
        "acctsessiontime": seconds,
    } | more
    times = {"acctstarttime": start, "acctupdatetime": start + timedelta(seconds=seconds)}
    if "acctterminatecause" in row:
        times["acctstoptime"] = times["acctupdatetime"]
    values = [f":{key}" for key in row] + [f"FROM_UNIXTIME(:{key})" for key in times]
    seconds_of = {key: int(at.timestamp()) for key, at in times.items()}
    radius.execute(
        f"INSERT INTO radacct ({', '.join(row | times)}) VALUES ({', '.join(values)})",
        **row,
        **seconds_of,
    )


def test_sessions_are_read_whatever_the_zone(bare: Radius, connect: Connect) -> None:
    start, network = began(0.1), connect()
    counters = {"acctinputoctets": 7, "acctoutputoctets": 2**32 + 1}
    write(bare, "s1", start, 600, **counters, framedipaddress="100.64.0.9")
    write(bare, "s2", start, 300, acctterminatecause="Lost-Carrier", acctinputoctets=-1)
    found, cursor = scan(network)
    at = start + timedelta(seconds=600)
    assert found[0] == Report(
        ReportKind.INTERIM, "10.0.0.1", at, "s1", LINE, 600, 7, 2**32 + 1, True, "100.64.0.9"
    )
    assert (found[1].kind, found[1].at) == (ReportKind.STOP, start + timedelta(seconds=300))
    assert (found[1].cause, len(found)) == ("Lost-Carrier", 2)
    assert scan(network, cursor)[0] == []


def test_long_scan_comes_in_parts(
    bare: Radius, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "ROWS", 3)
    for number in range(7):
        write(bare, f"r{number}", began(0.2), 5)
        write(bare, f"e{number}", began(0.2), 5 + number // 4, acctterminatecause="Lost-Carrier")
    sessions = sorted(each.session for each in scan(connect())[0])
    assert sessions == sorted(f"{kind}{number}" for kind in "er" for number in range(7))


def test_line_is_held_closed_and_opened(bare: Radius, connect: Connect, nas: FakeNas) -> None:
    write(bare, "s1", began(0.1), 600)
    network = connect()
    done: Setting | None = None
    for state in (NetworkState.OPEN, NetworkState.HELD, NetworkState.CLOSED, NetworkState.OPEN):
        wanted = Setting(state, 100_000, 20_000)
        network.set_line(LINE, wanted, done)
        done = wanted
        assert network.read_state(LINE) is state
        sent = len(nas.got)
        network.set_line(LINE, wanted, done)
        assert len(nas.got) == sent, "the same again is nothing"
    assert nas.kinds() == ["coa", "disconnect", "coa"]
    assert bare.rows("SELECT attribute, op, value FROM radreply ORDER BY attribute") == [
        ("Mikrotik-Address-List", ":=", "lastmile-open"),
        ("Mikrotik-Rate-Limit", ":=", "20000k/100000k"),
    ]
    assert bare.rows("SELECT * FROM radcheck") == bare.rows("SELECT * FROM radusergroup") == []


def test_check_finds_nothing_wrong(bare: Radius, connect: Connect, nas: FakeNas) -> None:
    nas.answer = lambda _kind, _told: 503
    write(bare, "s1", began(0.01), 600)
    bare.execute(
        "INSERT INTO radgroupreply (groupname, attribute, op, value)"
        " VALUES ('walled-garden', 'Framed-Pool', ':=', 'garden')"
    )
    with clock.set_to(datetime.now(UTC)):
        found = list(connect().check(set))
    assert [each for each in found if each.level is not Level.OK] == []
    assert bare.rows("SELECT * FROM radreply") == []
