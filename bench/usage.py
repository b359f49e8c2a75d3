"""Data use of many lines: how much room it takes, and whether its page is as fast as of a few.

Every line gets 13 months of days, the last 35 of them with their hours, in the demo and in the many
accounts alike: only how many lines there are differs.
"""

from __future__ import annotations

import json
import random
import sqlite3
import statistics
from collections.abc import Iterator
from contextlib import ExitStack, closing
from datetime import datetime, timedelta
from pathlib import Path

from bench import dataset, serving
from bench.client import Asked, ask, asked
from bench.dataset import SignedInOwner
from bench.pressing import press, tool
from bench.report import Bar, Result, Table

ACCOUNTS = {"small": 4_000, "full": 50_000}
SESSIONS = {"small": 200, "full": 1_000}
ROUNDS = {"small": 3, "full": 9}
SECONDS = {"small": 1, "full": 3}
DAYS, DAYS_WITH_HOURS = 396, 35
KINDS = 97  # of lines, each with another history
MOST_BYTES = 3e9 / 50_000  # for each line
MOST_DIFFERENT = 0.10


def run(size: str) -> Result:
    """Bytes of the history of a line, and the median of its page at both sizes."""
    with ExitStack() as stack:
        sets, owners, found = {}, {}, {}
        for name, source in (("demo", dataset.demo()), ("many", dataset.make(ACCOUNTS[size]))):
            data = sets[name] = stack.enter_context(dataset.used(source))
            found[name] = _fill(data.database)
            owners[name] = dataset.open_sessions(data, SESSIONS[size], is_own_device=False)
        portals = {
            name: stack.enter_context(serving.portal(data, remembers=False))
            for name, data in sets.items()
        }
        pages = {name: _pages(portal.port, owners[name]) for name, portal in portals.items()}
        medians: dict[str, list[float]] = {name: [] for name in sets}
        for number in range(ROUNDS[size]):
            for name in sets if number % 2 else reversed(sets):
                pressed = press(portals[name].port, pages[name], SECONDS[size], connections=1)
                medians[name].append(pressed.median_seconds)
    return _result(size, found, medians)


def _result(
    size: str, found: dict[str, tuple[int, int, int]], medians: dict[str, list[float]]
) -> Result:
    slower = statistics.median(
        many / demo for many, demo in zip(medians["many"], medians["demo"], strict=True)
    )
    rows = [
        [
            f"{lines:,}",
            f"{days:,}",
            f"{taken / 1e6:,.0f} MB",
            f"{taken / lines:,.0f}",
            f"{1000 * statistics.median(medians[name]):.2f} ms",
        ]
        for name, (lines, days, taken) in found.items()
    ]
    lines, _, taken = found["many"]
    note = (
        f"{tool()} on the same cores, one connection, in turn {ROUNDS[size]} times "
        f"{SECONDS[size]} s, medians; hundreds of owners in turn, and no page is remembered. Apart "
        f"by {slower - 1:+.3f}, the median of the rounds."
    )
    header = ("lines", "days kept", "room on SQLite", "bytes a line", "page of data use, median")
    return Result(
        [Table("", header, rows, note)],
        [
            Bar(
                f"room of {lines:,} lines' data use",
                taken / 1e6,
                MOST_BYTES * lines / 1e6,
                unit=" MB",
            ),
            Bar("median of many lines, apart from the demo's", abs(slower - 1), MOST_DIFFERENT),
        ],
    )


def _pages(port: int, owners: list[SignedInOwner]) -> list[Asked]:
    """The page of data use of each owner, each looked at first: a chart must be on it."""
    found = []
    for owner in owners:
        request = asked(port, f"{owner.home}usage/", {"Cookie": f"session={owner.token}"})
        answer = ask(port, request)
        if answer.status == 200 and len(answer.body) > 1_000:
            found.append(Asked(request.raw, 200, 1_000, request.name))
    if len(found) < len(owners) // 2:
        raise RuntimeError(f"of {len(owners)} accounts {len(found)} have a page of data use")
    return found


def _fill(database: Path) -> tuple[int, int, int]:
    """Give every line its history; how many lines and days there are, and the room they take."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -500000")
        connection.execute("DELETE FROM usage_days")
        before = _used(connection)
        connection.execute(
            "CREATE TEMP TABLE kinds (kind INT, day_on TEXT, up INT, down INT, hours TEXT, "
            "PRIMARY KEY (kind, day_on)) WITHOUT ROWID"
        )
        connection.executemany("INSERT INTO kinds VALUES (?,?,?,?,?)", _kinds())
        connection.execute(
            "INSERT INTO usage_days (line_id, day_on, up_bytes, down_bytes, hours) "
            "SELECT lines.id, day_on, up, down, hours FROM lines CROSS JOIN kinds "
            "ON kind = lines.id % ? ORDER BY lines.id, day_on",
            (KINDS,),
        )
        connection.commit()
        [lines] = connection.execute("SELECT count(*) FROM lines").fetchone()
        [days] = connection.execute("SELECT count(*) FROM usage_days").fetchone()
        taken = _used(connection) - before
        connection.execute("PRAGMA journal_mode = WAL")
    return lines, days, taken


def _kinds() -> Iterator[tuple[int, str, int, int, str | None]]:
    dice = random.Random(KINDS)
    today = datetime.now().astimezone().date()
    for kind in range(KINDS):
        for ago in range(DAYS):
            hours = [dice.randrange(2_000_000_000) >> dice.randrange(12) for _ in range(48)]
            up, down = sum(hours[::2]) // 8, sum(hours[1::2])
            kept = json.dumps(hours) if ago < DAYS_WITH_HOURS else None
            yield kind, (today - timedelta(days=ago)).isoformat(), up, down, kept


def _used(connection: sqlite3.Connection) -> int:
    values = [
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    ]
    return int((values[0] - values[1]) * values[2])
