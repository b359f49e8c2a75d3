"""The bill run over all accounts on SQLite, while people look at their pages (bar 87).

Everybody's next period is billed at once: a run of the day on which the last of them begins. It is
added up first, as staff see it, and its total accepted, should it stand out.
"""

from __future__ import annotations

import re
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

from sqlalchemy import create_engine, text

from bench import bulk, calibration, client, dataset, load, serving
from bench.bulk import Took
from bench.client import Measured
from bench.report import Bar, Result, Table

ACCOUNTS = {"small": 4_000, "full": 50_000}
OWNERS = {"small": 100, "full": 1_000}
PROCESSES = 2
RATE = 20
SLICE_SECONDS = 5
SECONDS = 120 / 50_000  # for each account
PEAK_BYTES = 300_000_000
PAGES_P95_MS = 300
_RUN = (*bulk.FLASK, "billing", "run")


def run(size: str) -> Result:
    """Seconds and memory of a run, and how long pages took meanwhile."""
    many = dataset.make(ACCOUNTS[size])
    with dataset.used(many) as data:
        owners = dataset.open_sessions(data, OWNERS[size], is_own_device=False)
        day = _last_day(data.database)
        as_of = ["--as-of", day.isoformat()]
        with serving.portal(data, PROCESSES) as portal:
            pages = load.requests(portal.port, owners)
            client.open_loop(portal.port, pages, 50, 0, count=2 * len(load.MIX))
            before = client.open_loop(portal.port, pages, RATE, SLICE_SECONDS)
            added_up = bulk.timed([*_RUN, *as_of, "--dry-run"], data.environment())
            accepted = ["--accept-total", _total(added_up.said)]
            with ThreadPoolExecutor(1) as pool:
                command = [*_RUN, *as_of, "--ahead", *accepted]
                billed: Future[Took] = pool.submit(bulk.timed, command, data.environment())
                slices = [client.open_loop(portal.port, pages, RATE, SLICE_SECONDS)]
                while not billed.done():
                    slices.append(client.open_loop(portal.port, pages, RATE, SLICE_SECONDS))
            took = billed.result()
        again = bulk.timed([*_RUN, *as_of, "--ahead"], data.environment())
        verified = bulk.timed([*bulk.FLASK, "ledger", "verify"], data.environment())
    issued = _issued(took.said)
    return _result(many.accounts, issued, [before, *slices], added_up, took, again, verified)


def _result(
    accounts: int,
    issued: int,
    pages: list[Measured],
    added_up: Took,
    took: Took,
    again: Took,
    verified: Took,
) -> Result:
    before, *meanwhile = pages
    latencies = sorted(each for measured in meanwhile for each in measured.latencies)
    wrong = sum(measured.wrong for measured in meanwhile)
    factor = calibration.factor()
    p95_ms = 1000 * client.share(latencies, 0.95)
    rows = [
        bulk.row_of(
            f"adding up what {accounts:,} accounts owe next", accounts, "accounts", added_up
        ),
        bulk.row_of(f"the run: {issued:,} bills, with their messages", issued, "bills", took),
        bulk.row_of("the same run again, nothing to bill", accounts, "accounts", again),
        bulk.row_of("`flask ledger verify` afterwards", accounts, "accounts", verified),
    ]
    shares = [
        [
            what,
            f"{len(found):,}",
            *(f"{1000 * client.share(found, part):.1f}" for part in (0.5, 0.95, 0.99, 1)),
        ]
        for what, found in (("before", before.latencies), ("during the run", latencies))
    ]
    return Result(
        [
            Table("", ("what", "seconds", "a second", "peak memory"), rows),
            Table(
                f"{RATE} pages a second meanwhile: {wrong} errors",
                ("when", "requests", "median", "p95", "p99", "longest"),
                shares,
                f"{PROCESSES} web processes and the worker, which sends the messages, on the same "
                "cores. Milliseconds from the moment for which a request was planned.",
            ),
        ],
        [
            Bar(
                f"{issued:,} bills, calibrated", took.seconds / factor, SECONDS * issued, unit=" s"
            ),
            Bar("memory of the run", took.peak_bytes / 1e6, PEAK_BYTES / 1e6, unit=" MB"),
            Bar("pages during the run: errors", wrong, 0),
            Bar("pages during the run: p95, calibrated", p95_ms / factor, PAGES_P95_MS, unit=" ms"),
            Bar("bills issued", issued, 0.9 * accounts, at_least=True),
            Bar("bills of the run made again", _issued(again.said), 0),
        ],
    )


def _last_day(database: Path) -> date:
    """The day on which the last active account's next period begins."""
    engine = create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT max(billed_through_on) FROM accounts WHERE status = 'active'")
        ).scalar_one()
    engine.dispose()
    return date.fromisoformat(found) + timedelta(days=1)


def _total(said: str) -> str:
    """The total of a run that was added up."""
    found = re.search(r"subscriptions, (\S+) in all", said)
    if found is None:
        raise RuntimeError(f"no total in: {said[-500:]}")
    return found[1]


def _issued(said: str) -> int:
    found = re.search(r"([0-9]+) invoices issued", said)
    if found is None:
        raise RuntimeError(f"no count in: {said[-500:]}")
    return int(found[1])
