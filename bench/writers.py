"""How long writers wait for each other, and how long each keeps the others waiting.

On SQLite. Eight processes pay as fast as they can, each payment three units of work (bar 72). Then,
alone, units are timed from their BEGIN to their COMMIT while people pay, an export is imported and
the demo is built (bar 67).
"""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

from flask import Flask

import core.db
from bench import calibration
from bench.report import Bar, Result, Table
from core.settings import ROOT, read_settings

WRITERS = 8
SECONDS = {"small": 5.0, "full": 60.0}
PAYMENTS = {"small": 200, "full": 1_000}
DEMO_ROWS = {"small": 200, "full": None}
EXPORT, CATALOG = ROOT / "demo" / "customers_export.csv", ROOT / "demo" / "catalog.toml"
WORST_WAIT_SECONDS = 2.0
LONGEST_UNIT_MS = 50.0
RETURN_URL = "http://127.0.0.1:8000/pay/{id}/return"


def run(size: str) -> Result:
    folder = Path(tempfile.mkdtemp(prefix="lastmile-bench-"))
    try:
        app = _portal(folder / "imported")
        with _timed_units() as importing:
            _import(app)
        with _timed_units() as paying:
            _pay(app, _accounts(app), PAYMENTS[size], [])
        result = _wait_for_each_other(app, SECONDS[size])
        with _timed_units() as building:
            _build_demo(_portal(folder / "demo"), folder, DEMO_ROWS[size])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    units = {"paying": paying, "importing": importing, "building the demo": building}
    rows = [[what, f"{len(took):,}", *_percentiles(took)] for what, took in units.items()]
    header = ("while", "units of work", "median ms", "p99 ms", "longest ms")
    result.tables.append(Table("From BEGIN to COMMIT", header, rows))
    result.bars += [
        Bar(
            f"a unit of work while {what}, p99",
            1000 * _share(took, 0.99) / calibration.factor(),
            LONGEST_UNIT_MS,
            unit=" ms",
        )
        for what, took in units.items()
    ]
    return result


def _portal(data: Path) -> Flask:
    from app import create_app
    from core.migrate import upgrade

    settings = read_settings({"LASTMILE_DATA": str(data), "LASTMILE_DEMO": "1"})
    app = create_app(settings)
    with app.app_context():
        upgrade(settings)
    return app


@contextmanager
def _timed_units() -> Iterator[list[float]]:
    """The seconds of every unit of work inside, without the wait for its turn."""
    took: list[float] = []
    once = core.db._once

    def timed(*arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return once(*arguments)
        finally:
            took.append(time.perf_counter() - began)

    with patch.object(core.db, "_once", timed):
        yield took


def _share(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _percentiles(took: list[float]) -> list[str]:
    return [f"{1000 * _share(took, share):.1f}" for share in (0.5, 0.99, 1.0)]


def _import(app: Flask) -> None:
    from blueprints.staff import catalog, importing

    with app.app_context():
        catalog.load(CATALOG)
        importing.run(_copy_of_export(Path(app.config["PORTAL"].data), None))


def _copy_of_export(folder: Path, rows: int | None) -> Path:
    """The demo's export, or its first rows, where the file of refused rows may lie beside it."""
    path = folder / "export.csv"
    lines = EXPORT.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines if rows is None else lines[: rows + 1]))
    return path


def _accounts(app: Flask) -> list[int]:
    from sqlalchemy import select

    from models import Account

    with app.app_context():
        return list(core.db.db.session.scalars(select(Account.id).order_by(Account.id)))


def _pay(app: Flask, accounts: list[int], count: int, waits: list[float]) -> int:
    """Pay `count` times, each on the next account; the payments that were acknowledged."""
    end = iter(range(count))
    return _pay_until(app, accounts, lambda: next(end, None) is None, waits)


def _pay_until(
    app: Flask, accounts: list[int], is_over: Callable[[], bool], waits: list[float]
) -> int:
    from blueprints.billing import settling, starting
    from core import form_keys
    from gateways.payments.sandbox.client import SandboxInProcess
    from gateways.payments.sandbox.store import Decision, SandboxStore

    secret = app.config["PORTAL"].secret
    store = SandboxStore(":memory:", has_notices=False)
    gateway = SandboxInProcess(store)
    done = 0
    with app.app_context():
        while not is_over():
            account_id = accounts[done % len(accounts)]
            key = form_keys.check(secret, "bench", form_keys.mint(secret, "bench"), "/pay", {})
            order = starting.Order(account_id, None, starting.Choice.OTHER, 500)
            began = time.perf_counter()
            begun = starting.start(order, key, "/payments/{id}", gateway, RETURN_URL)
            waits.append((time.perf_counter() - began) / 2)
            store.decide(key.intent, Decision.PAY)
            began = time.perf_counter()
            settling.settle(begun.payment_id, gateway)
            waits.append(time.perf_counter() - began)
            done += 1
        core.db.db.session.remove()
        core.db.db.engine.dispose()
    store.close()
    return done


def _wait_for_each_other(app: Flask, seconds: float) -> Result:
    """Let eight processes pay on accounts of their own; what they waited, and what is stored."""
    accounts = _accounts(app)
    random.Random(72).shuffle(accounts)
    before = _stored(app)
    forks = get_context("fork")
    answers = forks.SimpleQueue()

    def write(number: int) -> None:
        end, waits = time.monotonic() + seconds, [0.0]
        problem, done = "", 0
        try:
            done = _pay_until(app, accounts[number::WRITERS], lambda: time.monotonic() > end, waits)
        except Exception as error:  # noqa: BLE001 - counted, and told in the table
            problem = repr(error)
        answers.put((done, max(waits), problem))

    writers = [forks.Process(target=write, args=(number,)) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    found = [answers.get() for _ in writers]
    for writer in writers:
        writer.join()
    done = sum(count for count, _wait, _problem in found)
    worst = max(wait for _count, wait, _problem in found)
    problems = [problem for _count, _wait, problem in found if problem]
    lost = done - (_stored(app) - before)
    table = Table(
        f"{WRITERS} writing processes, {seconds:.0f} s",
        ("payments", "payments a second", "worst wait for a unit and its turn, ms"),
        [[f"{done:,}", f"{done / seconds:,.0f}", f"{1000 * worst:,.0f}"]],
        "; ".join(problems),
    )
    bars = [
        Bar("worst wait of a writer", worst / calibration.factor(), WORST_WAIT_SECONDS, unit=" s"),
        Bar("writers that found the database locked or failed", len(problems), 0),
        Bar("acknowledged payments that are not stored", lost, 0),
    ]
    return Result([table], bars)


def _stored(app: Flask) -> int:
    """Payments with their entry; nobody holds a connection afterwards, so that we can fork."""
    from sqlalchemy import func, select

    from models import JournalEntry, Payment

    with app.app_context():
        count = core.db.db.session.scalar(
            select(func.count()).select_from(Payment).join(JournalEntry)
        )
        core.db.db.session.remove()
        core.db.db.engine.dispose()
    return int(count or 0)


def _build_demo(app: Flask, folder: Path, rows: int | None) -> None:
    from demo.build import build

    with app.app_context():
        build(export=_copy_of_export(folder, rows))
