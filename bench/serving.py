"""Programs to measure: the bare reference and the portal, both under the portal's own server."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import brotli

from bench import client, processes
from bench.client import Asked, asked
from bench.dataset import Dataset, SignedInOwner
from core.settings import ROOT

START_SECONDS = 60
STOP_SECONDS = 30
_PORTAL = (
    "from core.serve import run; from core.settings import read_settings; run(read_settings())"
)


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers on 127.0.0.1:`port`; `pid` started all of its processes."""

    port: int
    pid: int

    def web_uses(self) -> list[processes.Use]:
        return [use for use in processes.uses(self.pid) if use.role == "web"]


def free_port() -> int:
    """A port that nobody listens on, and nobody on the next one either (the sandbox's)."""
    for _ in range(100):
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            with suppress(OSError, OverflowError):
                second.bind(("127.0.0.1", port + 1))
                return port
    raise RuntimeError("no two ports in a row are free")


class PortTaken(RuntimeError):
    """Somebody listens where the server that is measured shall."""


def require_free(*ports: int) -> None:
    """Raise PortTaken when somebody listens: their answers would be measured, not ours."""
    for port in ports:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                raise PortTaken(
                    f"another server listens on port {port} of 127.0.0.1 already: end it first"
                )


@contextmanager
def _running(
    arguments: Sequence[str], environment: Mapping[str, str], port: int, path: str
) -> Iterator[Served]:
    require_free(port)
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            with (
                suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5),
            ):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nothing answers at 127.0.0.1:{port}{path}")
            time.sleep(0.1)
        yield Served(port, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def bare(count: int = 1) -> Iterator[Served]:
    """The reference with `count` processes."""
    port = free_port()
    with _running(["-m", "bench.bare", str(port), str(count)], os.environ, port, "/") as served:
        yield served


@contextmanager
def portal(data: Dataset, count: int = 1, *, remembers: bool = True) -> Iterator[Served]:
    """The portal over `data` with `count` web processes, its worker and its sandbox; one that
    remembers no page makes each anew."""
    port = free_port()
    environment = dict(data.environment(port, count))
    if not remembers:
        environment["LASTMILE_REMEMBERED_PAGES"] = "0"
    with running_portal(environment, port) as served:
        yield served


@contextmanager
def running_portal(environment: Mapping[str, str], port: int) -> Iterator[Served]:
    """The portal as `environment` describes it, on `port`."""
    with _running(["-c", _PORTAL], environment, port, "/health") as served:
        yield served


# What to ask ---------------------------------------------------------------------------------


def bare_requests(served: Served) -> list[Asked]:
    return [asked(served.port, "/", least_bytes=4096)]


def sign_in_requests(served: Served) -> list[Asked]:
    page = client.ask(served.port, asked(served.port, "/sign-in"))
    return [asked(served.port, "/sign-in", least_bytes=len(page.body))]


@dataclass(frozen=True, slots=True)
class Homes:
    """Dashboards to ask for: anew, and as a browser asks that holds each of them."""

    whole: list[Asked]
    unchanged: list[Asked]


def homes(served: Served, owners: Sequence[SignedInOwner]) -> Homes:
    """The dashboard of each owner, each looked at first: it must be that account's.

    Raises RuntimeError when it is not.
    """
    found, lengths = [], []
    for owner in owners:
        cookie = {"Cookie": f"session={owner.token}"}
        page = client.ask(served.port, asked(served.port, owner.home, cookie))
        if page.status != 200 or owner.number.encode() not in brotli.decompress(page.body):
            raise RuntimeError(f"{owner.home} is not the dashboard of {owner.number}")
        lengths.append(len(page.body))
        found.append((owner.home, cookie, _header(page.head, b"etag")))
    least = int(min(lengths) * 0.8)  # tokens differ from answer to answer, and compress differently
    return Homes(
        [asked(served.port, path, sent, least_bytes=least) for path, sent, _ in found],
        [
            asked(served.port, path, sent | {"If-None-Match": tag}, status=304)
            for path, sent, tag in found
        ],
    )


def _header(head: bytes, name: bytes) -> str:
    for line in head.split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip().decode()
    raise RuntimeError(f"an answer without {name.decode()}")
