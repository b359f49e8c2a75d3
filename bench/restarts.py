"""How long the portal is away: killed and started again, and exchanged under load (bar 89)."""

from __future__ import annotations

import http.client
import tempfile
import time
from pathlib import Path

from bench import calibration
from bench.report import Bar, Result, Table
from tests.faults.test_kill import Customer, Machine
from tests.real.load import FORM, Client, under_load

TIMES = {"small": 2, "full": 10}
READY_SECONDS = 5
CLIENTS = 6


def run(size: str) -> Result:
    """Seconds until a page is served after SIGKILL, seconds of a reload, and requests lost."""
    with tempfile.TemporaryDirectory(prefix="lastmile-restarts-") as folder:
        machine = Machine(Path(folder), "")
        try:
            return _measure(machine, TIMES[size])
        finally:
            machine.stop()


def _measure(machine: Machine, times: int) -> Result:
    away = []
    for _ in range(times):
        machine.kill()
        began = time.monotonic()
        machine.start_again()
        away.append(time.monotonic() - began)

    def connect() -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", machine.port, timeout=30)

    reader = Customer(machine.origin)
    home = reader.sign_in("payer01")
    signed_in = {"Cookie": reader.cookies()}
    empty = "sign_in_id=&password="
    clients = [
        Client(connect, "POST", "/sign-in", 422, FORM | signed_in, empty)
        if number % 3 == 0
        else Client(connect, "GET", home, 200, signed_in)
        for number in range(CLIENTS)
    ]
    reloads = []
    with under_load(clients) as load:
        for _ in range(times):
            began = time.monotonic()
            machine.reload()
            reloads.append(time.monotonic() - began)
    rows = [
        ("started again after SIGKILL", *_row(away)),
        (f"reload beside {CLIENTS} clients", *_row(reloads)),
    ]
    return Result(
        [
            Table(
                "Until the portal serves",
                ("what", "shortest", "longest", "times"),
                rows,
                f"During the reloads {load.answers:,} requests were answered, a third of them "
                f"forms, and {len(load.faults)} were lost.",
            )
        ],
        [
            Bar("ready after SIGKILL", max(away) / calibration.factor(), READY_SECONDS, unit=" s"),
            Bar("requests lost in reloads", len(load.faults), 0),
        ],
    )


def _row(seconds: list[float]) -> tuple[str, ...]:
    return f"{min(seconds):.1f} s", f"{max(seconds):.1f} s", str(len(seconds))
