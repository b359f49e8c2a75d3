"""A sandbox bank as a program of its own, a portal that hears its notices, and orders to pay."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import urllib3

from gateways.payments.base import StartOrder
from gateways.payments.sandbox.client import SandboxGateway
from gateways.payments.sandbox.control import SandboxControl
from gateways.payments.sandbox.faults import FaultPlan
from gateways.payments.sandbox.secrets import SandboxSecrets
from tests import processes

ROOT = Path(__file__).parents[2]
_numbers = itertools.count(1)


def eventually(is_true: Callable[[], bool], seconds: float = 20) -> bool:
    """Whether it becomes true; the limit only ends a test that would fail anyway."""
    end = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@dataclass
class FakePortal:
    """Where notices arrive; `status` is what it answers."""

    url: str = ""
    status: int = 200
    heard: list[tuple[bytes, dict[str, str]]] = field(default_factory=list)

    def notices_of(self, key: str) -> list[dict[str, str]]:
        """The notices about one payment, in the order they came."""
        bodies = [json.loads(body) for body, _ in list(self.heard)]
        return [body for body in bodies if body["key"] == key]


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a small HTTP server on a free loopback port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextlib.contextmanager
def fake_portal() -> Iterator[FakePortal]:
    """A portal that keeps every notice it gets."""
    portal = FakePortal()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/webhooks/payments/sandbox":
                portal.heard.append((body, dict(self.headers)))
            self.send_response(portal.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args) -> None:
            pass

    with serving(Handler) as url:
        portal.url = url
        yield portal


def sandbox_command(folder: Path, portal_url: str, *more: str) -> list[str]:
    """How the sandbox is started; the later of two equal options counts."""
    return [
        *(sys.executable, "-m", "gateways.payments.sandbox.server", "--port", "0"),
        *("--data", str(folder / "sandbox.db"), "--secret-file", str(folder / "secret")),
        *("--portal", portal_url, "--merchant", "Pinecrest Broadband"),
        *("--late-seconds", "0.3", "--debit-seconds", "0.3", *more),
    ]


@contextlib.contextmanager
def running_sandbox(folder: Path, portal_url: str, *more: str) -> Iterator[str]:
    """The address of a sandbox program that ends with the block."""
    environment = {**os.environ, "LASTMILE_DEMO": "1"}
    command = sandbox_command(folder, portal_url, *more)
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield address_said_by(process)
        finally:
            processes.end(process)
    assert process.returncode == 0


def address_said_by(process: subprocess.Popen[bytes]) -> str:
    """The address in the one line that the sandbox prints once it listens."""
    assert process.stdout is not None
    return process.stdout.readline().decode().split()[-1]


@dataclass
class Sandbox:
    """A running sandbox with all its handles."""

    url: str
    gateway: SandboxGateway
    control: SandboxControl
    secrets: SandboxSecrets
    portal: FakePortal
    browser: urllib3.PoolManager

    def get(self, url: str, **headers: str) -> urllib3.BaseHTTPResponse:
        """Open a page as a browser without JavaScript, without following a redirect."""
        return self.browser.request("GET", url, headers=headers, redirect=False)

    def choose(self, url: str, choice: str, **fields: str) -> urllib3.BaseHTTPResponse:
        """Press a button of the hosted page."""
        form = {"choice": choice, **fields}
        return self.browser.request(
            "POST", url, fields=form, encode_multipart=False, redirect=False
        )


@pytest.fixture(scope="session")
def shared_sandbox(tmp_path_factory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("sandbox")
    secrets = SandboxSecrets.read_or_create(folder / "secret")
    with (
        fake_portal() as portal,
        running_sandbox(folder, portal.url) as url,
        urllib3.PoolManager(num_pools=2, maxsize=10) as browser,
    ):
        gateway, control = SandboxGateway(url, secrets), SandboxControl(url, secrets)
        yield Sandbox(url, gateway, control, secrets, portal, browser)


@pytest.fixture
def sandbox(shared_sandbox) -> Iterator[Sandbox]:
    """The running sandbox without faults; its payments of other tests have other keys."""
    yield shared_sandbox
    shared_sandbox.control.set_fault_plan(FaultPlan())
    shared_sandbox.portal.status = 200


@pytest.fixture
def make_order():
    def make(**changes) -> StartOrder:
        number = next(_numbers)
        fields: dict[str, Any] = {
            "key": f"key-{number}",
            "amount_minor": 6567,
            "currency": "USD",
            "description": f"Account PB-{number}",
            "return_url": f"http://127.0.0.1:8000/pay/{number}/return",
            "customer_reference": f"PB-{number}",
            "language": "en",
        }
        fields.update(changes)
        return StartOrder(**fields)

    return make


@pytest.fixture
def order(make_order):
    return make_order()


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def fake_clock() -> FakeClock:
    return FakeClock()
