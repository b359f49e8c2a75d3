"""Payments posted by several processes at once, on both databases, and notices of the gateway.

A posting is what `settling.settle` does once the gateway says that money has arrived: entry, lines,
balance, allocation, activity and receipt in one unit of work. The gateway answers at once here, so
that our part alone is measured; the notices go over HTTP to the served portal, which asks the
sandbox. Latencies count from the moment for which a posting or a notice was planned.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import func, select, update

from bench import calibration, client, dataset, disk, pg, serving
from bench.client import asked, share
from bench.report import Bar, Result, Table
from blueprints.billing import payments, settling
from blueprints.billing.verify import find_faults
from core import clock, ids
from core.db import db, reading, unit_of_work
from core.settings import ROOT, Settings
from gateways.payments.base import (
    GatewayState,
    StartOrder,
    Truth,
)
from gateways.payments.sandbox.client import SandboxInProcess
from gateways.payments.sandbox.notices import SIGNATURE_HEADER
from gateways.payments.sandbox.secrets import SandboxSecrets
from gateways.payments.sandbox.store import Decision, SandboxStore
from gateways.payments.signatures import signature_header
from models import UNDER_WAY, Account, AccountStatus, Payment, PaymentState

# As a deployment has them: two web processes with several threads, and the worker.
THREADS = (4, 4, 1)
RATE = 200
PLANNED = {"small": 800, "full": 2_400}  # postings at RATE, on each database
FASTEST = {"small": 800, "full": 2_400}  # postings as fast as they go
NOTICES_RATE = 50
NOTICES = {"small": 500, "full": 3_000}
BURST = {"small": 500, "full": 5_000}
BURST_SECONDS = 120 / 5_000  # for each notice of a burst
ACCOUNTS = {"small": 1, "full": 12_000}
BATCH = 100
# Below so many writes that last in a second the disk sets the pace, not the code.
REFERENCE_SYNCS = 1_000


class Paid(SandboxInProcess):
    """A gateway at which everything has been paid; a payment's key tells what it is about."""

    def __init__(self) -> None:
        super().__init__(SandboxStore(":memory:"))

    def ask(self, key: str) -> Truth:
        _, account, amount, _ = key.split(":")
        return Truth(
            f"ref {key}",
            GatewayState.SUCCEEDED,
            int(amount),
            "USD",
            account,
            "Card ending 4242",
            "",
        )


def prepare(settings: Settings, count: int) -> list[tuple[int, str]]:
    """Payments of `count` accounts that are under way, as (id, key). Raises RuntimeError."""
    from app import create_app

    app = create_app(settings)
    made = []
    with app.app_context():
        busy = select(Payment.account_id).where(Payment.state.in_(UNDER_WAY))
        accounts = db.session.execute(
            select(Account.id, Account.public_id)
            .where(Account.status == AccountStatus.ACTIVE.value, Account.id.not_in(busy))
            .order_by(Account.id)
            .limit(count)
        ).all()
        if len(accounts) < count:
            raise RuntimeError(f"{count} accounts are needed, there are {len(accounts)}")
        for first in range(0, count, BATCH):
            batch = accounts[first : first + BATCH]
            news = [
                payments.NewPayment(
                    f"bench:{account.public_id}:{4_500 + number % 700}:{ids.public_id()}",
                    account.id,
                    None,
                    None,
                    4_500 + number % 700,
                )
                for number, account in enumerate(batch, first)
            ]
            created = unit_of_work(
                partial(payments.create, payments=news, gateway_name=Paid.name),
                *(account.id for account in batch),
            )
            made += [(row[0], new.key) for row, new in zip(created, news, strict=True)]
        unit_of_work(  # the worker is not to ask about them meanwhile
            lambda session: session.execute(
                update(Payment)
                .where(Payment.key.like("bench:%"))
                .values(ask_at=clock.now() + timedelta(days=1))
            )
        )
        db.session.remove()
        db.engine.dispose()
    return made


# One process that posts ----------------------------------------------------------------------


def post(order: Mapping[str, Any]) -> list[float]:
    """Post the payments of `order` as planned; the seconds each took. Run in its own process."""
    from app import create_app
    from core.settings import read_settings

    settings = replace(read_settings(), database_url=order["url"])
    app = create_app(settings)
    todo: list[tuple[int, float]] = list(zip(order["ids"], order["planned"], strict=True))
    took: list[float] = []
    lock = threading.Lock()
    gateway = Paid()
    with app.app_context():
        db.session.scalar(select(func.count()).select_from(Account))
        db.session.remove()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    began = float(sys.stdin.readline())

    def work() -> None:
        while True:
            with lock:
                if not todo:
                    return
                payment_id, after = todo.pop(0)
            planned = began + after
            if (pause := planned - time.time()) > 0:
                time.sleep(pause)
            started = planned if order["is_planned"] else time.time()
            with app.app_context():
                state = settling.settle(payment_id, gateway)
            if state is not PaymentState.SUCCEEDED:
                raise RuntimeError(f"payment {payment_id} is {state}")
            with lock:
                took.append(time.time() - started)

    threads = [threading.Thread(target=work) for _ in range(order["threads"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return took


_POST = """
import json, sys
from bench.postings import post
order = json.loads(sys.stdin.readline())
print(json.dumps(post(order)))
"""


def _post_together(
    data: dataset.Dataset, url: str, payment_ids: Sequence[int], rate: float | None
) -> tuple[float, list[float]]:
    """Postings a second and sorted seconds of each, by processes that begin at one moment."""
    whole = sum(THREADS)
    crews = []
    for number, threads in enumerate(THREADS):
        seats = [seat for seat in range(whole) if _crew_of(seat) == number]
        mine = [place for place in range(len(payment_ids)) if place % whole in seats]
        process = subprocess.Popen(
            [sys.executable, "-c", _POST],
            cwd=ROOT,
            env=data.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        order = {
            "url": url,
            "ids": [payment_ids[place] for place in mine],
            "planned": [place / rate if rate else 0.0 for place in mine],
            "is_planned": rate is not None,
            "threads": threads,
        }
        assert process.stdin is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        crews.append(process)
    for process in crews:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("a process that posts did not start")
    began = time.time() + 0.3
    for process in crews:
        assert process.stdin is not None
        process.stdin.write(f"{began}\n")
        process.stdin.flush()
    took: list[float] = []
    for process in crews:
        assert process.stdout is not None
        took += json.loads(process.stdout.read())
        process.wait()
    seconds = time.time() - began
    if len(took) != len(payment_ids):
        raise RuntimeError(f"{len(took)} of {len(payment_ids)} were posted")
    return len(took) / seconds, sorted(took)


def _crew_of(seat: int) -> int:
    for number, threads in enumerate(THREADS):
        if seat < threads:
            return number
        seat -= threads
    raise ValueError(seat)


def _check_books(settings: Settings, payment_ids: Sequence[int]) -> None:
    """Raise RuntimeError unless all of them were booked once and the books add up."""
    from app import create_app

    with create_app(settings).app_context():
        with reading() as session:
            booked = session.scalar(
                select(func.count())
                .select_from(Payment)
                .where(
                    Payment.key.like("bench:%"),
                    Payment.state == PaymentState.SUCCEEDED.value,
                )
            )
            faults = list(find_faults(session))
        db.session.remove()
        db.engine.dispose()
    if booked != len(payment_ids) or faults:
        raise RuntimeError(f"{booked} of {len(payment_ids)} are booked; {faults[:3]}")


def _measure(name: str, data: dataset.Dataset, url: str, size: str) -> tuple[list[str], list[Bar]]:
    settings = replace(data.settings(), database_url=url)
    syncs = disk.syncs_per_second(data.data)
    factor = max(calibration.factor(), REFERENCE_SYNCS / syncs)
    made = [payment_id for payment_id, _ in prepare(settings, PLANNED[size] + FASTEST[size])]
    _, planned = _post_together(data, url, made[: PLANNED[size]], RATE)
    rate, fastest = _post_together(data, url, made[PLANNED[size] :], None)
    _check_books(settings, made)
    row = [
        name,
        f"{syncs:,.0f}",
        *(f"{1000 * share(planned, part):.1f} ms" for part in (0.5, 0.95, 0.99)),
        f"{rate:,.0f}",
        f"{1000 * share(fastest, 0.99):.1f} ms",
    ]
    return row, [
        Bar(f"{name}: postings a second, calibrated", rate * factor, RATE, at_least=True),
        Bar(
            f"{name}: p99 at {RATE} a second, calibrated",
            1000 * share(planned, 0.99) / factor,
            100,
            unit=" ms",
        ),
    ]


def run(size: str) -> Result:
    """Postings on SQLite and, where it is installed, PostgreSQL; then notices over HTTP."""
    source = dataset.make(ACCOUNTS[size])
    rows, bars = [], []
    with dataset.used(source) as data:
        row, found = _measure("SQLite", data, f"sqlite:///{data.database}", size)
        rows.append(row)
        bars += found
    note = ""
    if pg.is_here():
        with pg.server_with(dataset.demo()) as url, dataset.used(dataset.demo()) as data:
            row, found = _measure("PostgreSQL", data, url, "small")
            rows.append(row)
            bars += found
    else:
        note = " PostgreSQL's server is not installed."
    header = ("database", "disk", "median", "p95", "p99", "most a second", "p99 then")
    title = f"Payments posted at {RATE} a second, and as fast as they go"
    note = (
        f"{len(THREADS)} processes with {', '.join(map(str, THREADS))} threads; every commit is "
        f"made to last (`synchronous=FULL`, `fsync=on`). Disk: how many writes it made last in a "
        f"second, just before; no database commits more often.{note} Afterwards every payment is "
        f"booked once and the books add up."
    )
    table, more = _notices(source, size)
    return Result([Table(title, header, rows, note), table], bars + more)


# Notices -------------------------------------------------------------------------------------


def at_the_bank(data: dataset.Dataset, keys: Sequence[str]) -> list[bytes]:
    """Have the sandbox know the payments of `keys` as paid; the body of a notice for each."""
    bodies = []
    with ExitStack() as stack:
        bank = SandboxStore(data.data / "sandbox.db", has_notices=False)
        stack.callback(bank.close)
        gateway = SandboxInProcess(bank)
        with bank.batch():
            for key in keys:
                _, account, amount, _ = key.split(":")
                started = gateway.start(
                    StartOrder(
                        key, int(amount), "USD", "Bench", "http://127.0.0.1:1/", account, "en"
                    )
                )
                bank.decide(key, Decision.PAY)
                fields = {
                    "id": ids.public_id(),
                    "type": "payment.succeeded",
                    "key": key,
                    "reference": started.reference,
                }
                bodies.append(json.dumps(fields).encode())
    return bodies


def signed_notice(port: int, body: bytes, secrets: Sequence[str]) -> client.Asked:
    """The request that brings a notice, signed now; it is believed for five minutes."""
    headers = {
        "Content-Type": "application/json",
        SIGNATURE_HEADER: signature_header(body, secrets[:1], datetime.now(UTC)),
    }
    return asked(
        port, "/webhooks/payments/sandbox", headers, method="POST", body=body, name="notice"
    )


def _notices(source: dataset.Dataset, size: str) -> tuple[Table, list[Bar]]:
    """Acknowledgements at a fixed rate, then of a burst, by the served portal (bar 84)."""
    count = NOTICES[size] + BURST[size]
    with dataset.used(source) as data, ExitStack() as stack:
        made = prepare(data.settings(), count)
        bodies = at_the_bank(data, [key for _, key in made])
        secrets = SandboxSecrets.read_or_create(data.data / "sandbox-secret").notice_secrets
        portal = stack.enter_context(serving.portal(data, 2))

        def signed(some: Sequence[bytes]) -> list[client.Asked]:
            return [signed_notice(portal.port, body, secrets) for body in some]

        steady = client.open_loop(
            portal.port,
            signed(bodies[: NOTICES[size]]),
            NOTICES_RATE,
            0,
            count=NOTICES[size],
        )
        burst = client.open_loop(
            portal.port,
            signed(bodies[NOTICES[size] :]),
            100_000,
            0,
            count=BURST[size],
            threads=16,
        )
        stack.close()
        _check_books(data.settings(), [payment_id for payment_id, _ in made])
    factor = calibration.factor()
    rows = [
        [
            f"{NOTICES_RATE} a second",
            f"{NOTICES[size]:,}",
            *(f"{1000 * steady.part(part):.1f} ms" for part in (0.5, 0.95, 0.99)),
            f"{steady.seconds:.1f} s",
        ],
        [
            "all at once",
            f"{BURST[size]:,}",
            *(f"{1000 * burst.part(part):,.0f} ms" for part in (0.5, 0.95, 0.99)),
            f"{burst.seconds:.1f} s",
        ],
    ]
    header = ("notices", "count", "median", "p95", "p99", "all done after")
    note = "Two web processes; each notice is believed, the sandbox asked, the payment booked."
    return Table("Notices of the gateway, acknowledged over HTTP", header, rows, note), [
        Bar("notices: wrong answers", steady.wrong + burst.wrong, 0),
        Bar(
            f"notices: p99 at {NOTICES_RATE} a second, calibrated",
            1000 * steady.part(0.99) / factor,
            500,
            unit=" ms",
        ),
        Bar(
            f"notices: a burst of {BURST[size]:,}, calibrated",
            burst.seconds / factor,
            BURST[size] * BURST_SECONDS,
            unit=" s",
        ),
    ]
