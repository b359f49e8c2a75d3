"""Pages while slow clients hold connections open at the nginx sample (bar 88).

Each of them has begun a header or a body and sends no more; when nginx drops one, another comes.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

from bench import calibration
from bench.report import Bar, Result, Table
from tests.faults.test_kill import Customer, Machine
from tests.real import nginx
from tests.test_serve import free_ports

SLOW = 500
SECONDS = {"small": 6, "full": 30}
PER_SECOND = 20
BEGUN = (
    b"GET /help HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
    b"POST /sign-in HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nsign_in_id=",
)


class Crowd:
    """Slow clients, kept at their number until the end of the block."""

    def __init__(self, proxy: nginx.Proxy, count: int) -> None:
        self._proxy = proxy
        self._trust = proxy.trust()
        self._end = threading.Event()
        self._there = [self._come(number) for number in range(count)]
        self._keeper = threading.Thread(target=self._keep)
        self.came_again = 0

    def _come(self, number: int) -> ssl.SSLSocket:
        made = socket.create_connection(("127.0.0.1", self._proxy.port), 20)
        slow = self._trust.wrap_socket(made, server_hostname=nginx.NAME)
        slow.sendall(BEGUN[number % 2])
        slow.settimeout(0)
        return slow

    def _keep(self) -> None:
        while not self._end.wait(0.5):
            for number, slow in enumerate(self._there):
                try:
                    slow.recv(4096)
                except (ssl.SSLWantReadError, BlockingIOError):
                    continue  # still there
                except OSError:
                    pass
                slow.close()
                with contextlib.suppress(OSError):
                    self._there[number] = self._come(number)
                    self.came_again += 1

    def __enter__(self) -> Self:
        self._keeper.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._end.set()
        self._keeper.join()
        for slow in self._there:
            slow.close()


def run(size: str) -> Result:
    """p95 of pages over TLS, without and with the crowd."""
    with tempfile.TemporaryDirectory(prefix="lastmile-slow-") as folder:
        data = Path(folder)
        port = free_ports()
        url = f"https://{nginx.NAME}:{port}"
        machine = Machine(data, "", LASTMILE_PUBLIC_URL=url, LASTMILE_PROXY_COUNT="1")
        try:
            node = f"127.0.0.1:{machine.port}"
            with nginx.running(data / "nginx", [node], (port, port + 1)) as proxy:
                return _measure(proxy, SECONDS[size])
        finally:
            machine.stop()


def _measure(proxy: nginx.Proxy, seconds: int) -> Result:
    reader = Customer(proxy.origin, proxy.trust())
    home = reader.sign_in("payer01")
    alone, failed_alone = _times(proxy, home, reader.cookies(), seconds)
    with Crowd(proxy, SLOW) as crowd:
        beside, failed_beside = _times(proxy, home, reader.cookies(), seconds)
        came_again = crowd.came_again
    rows = [
        ("no slow client", *_row(alone, failed_alone)),
        (f"{SLOW} slow clients", *_row(beside, failed_beside)),
    ]
    table = Table(
        "Pages through nginx",
        ("beside", "median", "p95", "slowest", "asked", "not answered"),
        rows,
        f"{PER_SECOND} pages a second, sign-in page and dashboard in turn, over TLS. nginx dropped "
        f"{came_again} slow clients meanwhile, and as many came again.",
    )
    return Result(
        [table],
        [
            Bar(
                f"p95 beside {SLOW} slow clients",
                1000 * _p95(beside) / calibration.factor(),
                300,
                unit=" ms",
            ),
            Bar("pages not answered", failed_alone + failed_beside, 0),
        ],
    )


def _row(times: list[float], failed: int) -> tuple[str, ...]:
    figures = (statistics.median(times), _p95(times), max(times))
    return (*(f"{1000 * seconds:.0f} ms" for seconds in figures), str(len(times)), str(failed))


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def _times(proxy: nginx.Proxy, home: str, cookies: str, seconds: int) -> tuple[list[float], int]:
    """Seconds of each page asked for at a steady rate, and how many got no proper answer."""
    times: list[float] = []
    failed = 0
    began = time.monotonic()
    for number in range(seconds * PER_SECOND):
        time.sleep(max(0.0, began + number / PER_SECOND - time.monotonic()))
        asked = time.monotonic()
        try:
            said = proxy.ask("GET", ("/sign-in", home)[number % 2], headers={"Cookie": cookies})
            failed += said.status != 200
        except OSError:
            failed += 1
        times.append(time.monotonic() - asked)
    return times, failed
