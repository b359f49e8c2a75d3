"""The network's accounting taken in by the worker, while people look at their pages (bar 85).

The records are rows of the `radacct` of a FreeRADIUS, in the schema that it comes with on SQLite:
a session that runs on every line, then a report of each of them, and then a backlog of sessions
that ended while nobody read.
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from bench import calibration, client, dataset, load, processes, serving
from bench.client import Asked, Measured, asked
from bench.dataset import Dataset, SignedInOwner
from bench.report import Bar, Result, Table

ACCOUNTS = {"small": 4_000, "full": 50_000}
BACKLOG = {"small": 40_000, "full": 1_000_000}
OWNERS = {"small": 100, "full": 1_000}
PROCESSES = 2
RATE = 20
SLICE_SECONDS = 5
LEAST_A_SECOND = 2_000
BACKLOG_SECONDS = 600 / 1_000_000  # for each record
PAGES_P95_MS = 300
MOST_GROWTH = 1.1
SCHEMA = Path("/etc/freeradius/3.0/mods-config/sql/main/sqlite/schema.sql")
PATIENCE_SECONDS = 1_800
SESSION_SECONDS = 4_000
_ENDED_WITHIN = 80_000  # seconds; what ended more than 25 hours ago is not looked for
_ADD = (
    "INSERT INTO radacct (acctsessionid, acctuniqueid, username, nasipaddress, acctstarttime, "
    "acctupdatetime, acctstoptime, acctsessiontime, acctinputoctets, acctoutputoctets, "
    "callingstationid, acctterminatecause, framedipaddress) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_SETTINGS = '[nas."10.0.0.0/8"]\ntype = "mikrotik"\nsecret = "a-secret-of-the-bench"\n'


@dataclass(slots=True)
class Part:
    """So many records, how long the worker had them in hand, and the memory it had."""

    what: str
    count: int
    seconds: float = 0.0
    memory: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.count / self.seconds

    @property
    def peak_bytes(self) -> int:
        return max(self.memory, default=0)

    def cells(self) -> list[str]:
        memory = f"{self.peak_bytes / 1e6:,.0f} MB"
        return [self.what, f"{self.count:,}", f"{self.seconds:,.1f}", f"{self.rate:,.0f}", memory]


def run(size: str) -> Result:
    """Records a second, memory of the worker, and how long pages took meanwhile."""
    if not SCHEMA.exists():
        raise RuntimeError(f"{SCHEMA} is missing: install freeradius for its schema")
    many = dataset.make(ACCOUNTS[size])
    with dataset.used(many) as data:
        owners = dataset.open_sessions(data, OWNERS[size], is_own_device=False)
        lines = _open_lines(data.database)
        radius = _make_radius(data.data, lines)
        before = _carried(data.database)
        port = serving.free_port()
        with serving.running_portal(_environment(data, port), port) as portal:
            starts = Part("sessions that run, heard of for the first time", len(lines))
            _watch(portal.pid, data.database, starts)
            reports = Part("the next report of each", len(lines))
            _report_all(radius)
            _watch(portal.pid, data.database, reports)
            pages = _pages(port, owners)
            client.open_loop(port, pages, 50, 0, count=2 * len(load.MIX))
            backlog = Part("a backlog of sessions that ended", BACKLOG[size])
            _add_backlog(radius, lines, backlog.count)
            with ThreadPoolExecutor(1) as pool:
                done: Future[None] = pool.submit(_watch, portal.pid, data.database, backlog)
                slices = [client.open_loop(port, pages, RATE, SLICE_SECONDS)]
                while not done.done():
                    slices.append(client.open_loop(port, pages, RATE, SLICE_SECONDS))
            done.result()
        told, counted = _told(radius), _carried(data.database) - before
    return _result(len(lines), [starts, reports, backlog], slices, told - counted)


def _result(lines: int, parts: list[Part], slices: list[Measured], uncounted: int) -> Result:
    latencies = sorted(each for measured in slices for each in measured.latencies)
    wrong = sum(measured.wrong for measured in slices)
    factor = calibration.factor()
    _, reports, backlog = parts
    half = len(backlog.memory) // 2
    growth = max(backlog.memory[half:]) / max(backlog.memory[:half])
    shares = [f"{1000 * client.share(latencies, part):.1f}" for part in (0.5, 0.95, 0.99, 1)]
    return Result(
        [
            Table(
                "",
                ("records", "count", "seconds", "a second", "worker's peak memory"),
                [part.cells() for part in parts],
                f"{lines:,} lines on SQLite, {PROCESSES} web processes and the worker.",
            ),
            Table(
                f"{RATE} pages a second during the backlog: {wrong} errors",
                ("requests", "median", "p95", "p99", "longest"),
                [[f"{len(latencies):,}", *shares]],
                "Home, bills and data use. Milliseconds from the moment for which a request was "
                "planned.",
            ),
        ],
        [
            Bar(
                "reports a second, calibrated",
                reports.rate * factor,
                LEAST_A_SECOND,
                at_least=True,
            ),
            Bar(
                f"a backlog of {backlog.count:,}, calibrated",
                backlog.seconds / factor,
                BACKLOG_SECONDS * backlog.count,
                unit=" s",
            ),
            Bar("pages during the backlog: errors", wrong, 0),
            Bar(
                "pages during the backlog: p95, calibrated",
                1000 * client.share(latencies, 0.95) / factor,
                PAGES_P95_MS,
                unit=" ms",
            ),
            Bar("worker's memory, second half of the backlog to the first", growth, MOST_GROWTH),
            Bar("bytes told and not counted", abs(uncounted), 0),
        ],
    )


def _environment(data: Dataset, port: int) -> dict[str, str]:
    """As of a real ISP: a demo tells no network of its subscribers."""
    with closing(sqlite3.connect(data.database)) as connection:
        connection.execute("UPDATE isp SET is_demo = 0")
        connection.commit()
    environment = dict(data.environment(port, PROCESSES))
    del environment["LASTMILE_DEMO"]
    radius = f"sqlite:///{data.data / 'radius.db'}"
    return environment | {
        "LASTMILE_NETWORK_GATEWAY": "freeradius",
        "LASTMILE_RADIUS_READ_URL": radius,
        "LASTMILE_RADIUS_WRITE_URL": radius,
        "LASTMILE_RADIUS_FILE": str(data.data / "radius.toml"),
    }


def _pages(port: int, owners: list[SignedInOwner]) -> list[Asked]:
    """The mix of pages of the load, and as often that of data use."""
    found = []
    for page, owner in zip(load.requests(port, owners), owners * len(load.MIX), strict=True):
        cookie = {"Cookie": f"session={owner.token}"}
        found += [page, asked(port, f"{owner.home}usage/", cookie, least_bytes=500, name="usage")]
    return found


# The network's side --------------------------------------------------------------------------


def _make_radius(folder: Path, lines: list[str]) -> Path:
    settings = folder / "radius.toml"
    settings.write_text(_SETTINGS)
    settings.chmod(0o600)
    path = folder / "radius.db"
    now = int(time.time())
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA.read_text())
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executemany(_ADD, _running(lines, now))
        connection.commit()
    return path


def _running(lines: list[str], now: int) -> Iterator[tuple[object, ...]]:
    for number, username in enumerate(lines):
        yield _row(f"r{number}", username, now - 3_600, now - 300, None)


def _add_backlog(path: Path, lines: list[str], count: int) -> None:
    dice = random.Random(count)
    now = int(time.time())

    def ended() -> Iterator[tuple[object, ...]]:
        for number in range(count):
            stop = now - dice.randrange(_ENDED_WITHIN)
            username = lines[number % len(lines)]
            yield _row(f"e{number}", username, stop - dice.randrange(SESSION_SECONDS), stop, stop)

    with closing(sqlite3.connect(path)) as connection:
        connection.executemany(_ADD, ended())
        connection.commit()


def _row(
    name: str, username: str, start: int, updated: int, stop: int | None
) -> tuple[object, ...]:
    seconds = updated - start
    up, down = 9_000 * seconds, 100_000 * seconds
    cause = "User-Request" if stop else ""
    nas, device = "10.0.0.1", "02:00:5E:10:00:01"
    return (
        *(name, name, username, nas, start, updated, stop, seconds, up, down),
        *(device, cause, "198.51.100.7"),
    )


def _report_all(path: Path) -> None:
    """Have every session that runs report once more, 300 seconds later."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "UPDATE radacct SET acctupdatetime = acctupdatetime + 300, acctsessiontime = "
            "acctsessiontime + 300, acctinputoctets = acctinputoctets + 2700000, "
            "acctoutputoctets = acctoutputoctets + 30000000 WHERE acctstoptime IS NULL"
        )
        connection.commit()


def _told(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        [found] = connection.execute(
            "SELECT sum(acctinputoctets + acctoutputoctets) FROM radacct"
        ).fetchone()
    return int(found)


# The portal's side ---------------------------------------------------------------------------


def _open_lines(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        rows = connection.execute("SELECT username FROM lines WHERE NOT is_closed ORDER BY id")
        return [username for (username,) in rows]


def _carried(database: Path) -> int:
    with closing(sqlite3.connect(database)) as connection:
        [found] = connection.execute("SELECT sum(up_bytes + down_bytes) FROM usage_days").fetchone()
    return int(found)


def _watch(supervisor: int, database: Path, part: Part) -> None:
    """Wait until the worker has taken in a part; its time begins when the worker has begun.

    Raises RuntimeError when that takes too long.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    with closing(sqlite3.connect(database, check_same_thread=False)) as connection:
        known = last = _at(connection)
        worker, began = _find_worker(supervisor), None
        looked_at = changed_at = time.monotonic()
        while looked_at < end:
            now, found = time.monotonic(), _at(connection)
            if began is None and found.taken != known.taken:
                began = looked_at
            if found.taken != last.taken:
                last, changed_at = found, now
            looked_at = now
            if began is not None:
                part.memory.append(_resident(worker))
                if found.is_through and now - changed_at > 1:
                    part.seconds = changed_at - began
                    return
            time.sleep(0.1)
    raise RuntimeError(f"{part.what}: not taken in after {PATIENCE_SECONDS} seconds")


@dataclass(frozen=True, slots=True)
class _At:
    """How far the worker is: the last session it wrote and when it heard of a NAS last, and whether
    no scan is under way."""

    taken: tuple[int, str]
    is_through: bool


def _at(connection: sqlite3.Connection) -> _At:
    [session] = connection.execute("SELECT coalesce(max(id), 0) FROM usage_sessions").fetchone()
    [heard_at] = connection.execute("SELECT coalesce(max(heard_at), '') FROM nases").fetchone()
    row = connection.execute("SELECT cursor FROM usage_sources WHERE name = 'network'").fetchone()
    # [since, began, is_at_ended, after]: nothing is under way when `began` is null.
    is_through = row is not None and ", null, false, []]" in row[0]
    return _At((session, heard_at), is_through)


def _find_worker(supervisor: int) -> int:
    return next(use.pid for use in processes.uses(supervisor) if use.role == "worker")


def _resident(pid: int) -> int:
    """Bytes; the cheap account, since it is looked at many times a second."""
    pages = int((processes.PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
