"""Web processes and worker killed with SIGKILL at random points of paying.

A customer presses, waits, presses again, as on a bad line; the portal's processes die under them
and are started again by what watches over them. Afterwards the books add up, equal the bank's, and
nothing that was acknowledged is gone.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest

from core.settings import ROOT
from gateways.outbound import OutboundError
from gateways.payments.base import GatewayState
from gateways.payments.sandbox.control import SandboxControl
from gateways.payments.sandbox.secrets import SandboxSecrets
from gateways.payments.sandbox.store import Decision
from tests import pg, processes, repeats
from tests.test_serve import environment, free_ports
from tests.world import PASSWORD

KILLS = repeats.sized(8, 20, 40)
"""Each takes seconds; the many kills are those of `test_kill_at_writes.py`."""
SERVE = "from core.serve import run; from core.settings import read_settings; run(read_settings())"
SERVE_WEB = SERVE.replace("read_settings())", "read_settings(), has_worker=False)")
PATIENCE_SECONDS = 60


QUERY = """
import json
from sqlalchemy import text
from app import create_app
from core.db import db
with create_app().app_context():
    rows = db.session.execute(text("SELECT key, public_id, amount_minor, state FROM payments"))
    print(json.dumps([list(row) for row in rows]))
"""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Redirects are answers like others here."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


class Customer:
    """A browser on a bad line: whatever gets no answer is sent again."""

    def __init__(self, origin: str, trust: ssl.SSLContext | None = None) -> None:
        self.origin = origin
        self.failures = 0
        """How often there was no answer, or one that says 5xx."""
        self._jar = CookieJar()
        handlers = [urllib.request.HTTPCookieProcessor(self._jar), _Stay()]
        if trust is not None:
            handlers.append(urllib.request.HTTPSHandler(context=trust))
        self._opener = urllib.request.build_opener(*handlers)

    def send(self, path: str, values: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Status, location and text; sent again until there is an answer that is not 5xx."""
        body = urllib.parse.urlencode(values).encode() if values is not None else None
        end = time.monotonic() + PATIENCE_SECONDS
        last = ""
        while time.monotonic() < end:
            try:
                status, location, text = self._ask(path, body)
                if status < 500:
                    return status, location, text
                last = f"{status} {text}"
            except (OSError, HTTPException) as error:
                last = repr(error)  # the connection broke, or nobody listens at the moment
            self.failures += 1
            time.sleep(0.1)
        raise AssertionError(f"no answer from {path}; the last: {last[-2000:]}")

    def _ask(self, path: str, body: bytes | None) -> tuple[int, str, str]:
        """The same, asked once; a whole answer or OSError, HTTPException."""
        try:
            with self._opener.open(self.origin + path, body, timeout=10) as answer:
                return answer.status, "", answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get("Location", ""), error.read().decode()

    def cookies(self) -> str:
        """The header that its browser sends."""
        return "; ".join(f"{cookie.name}={cookie.value}" for cookie in self._jar)

    def sign_in(self, name: str) -> str:
        """The path of the customer's account."""
        self.send("/sign-in")
        while True:
            status, location, text = self.send(
                "/sign-in", {"sign_in_id": name, "password": PASSWORD}
            )
            if status == 303:
                return location
            assert status in (403, 429), (status, text)
            time.sleep(1)


class Machine:
    """The portal with its worker and its bank; what is killed is started again on the same data.

    `more` goes into its environment. `beside` makes it a second machine with web processes only, on
    the database, the secret and the bank of that one."""

    def __init__(
        self, data: Path, database_url: str, beside: Machine | None = None, **more: str
    ) -> None:
        self.port = free_ports()
        self.data = data
        more = {"LASTMILE_DEMO": "1", "LASTMILE_LOG": "events"} | more
        more = {"LASTMILE_SHARED_NETWORKS": "127.0.0.0/8"} | more
        if database_url:
            more["DATABASE_URL"] = database_url
        self.host = "localhost" if "LASTMILE_PUBLIC_URL" in more else "127.0.0.1"
        self.bank_port = self.port + 1
        if beside is not None:
            self.bank_port = beside.bank_port
            more["LASTMILE_SANDBOX_PORT"] = str(self.bank_port)
            data.mkdir()
            for name in ("secret", "sandbox-secret"):
                shutil.copy(beside.data / name, data / name)
        self.env = environment(data, self.port, **more)
        self._log = data / "served.log"
        self._again = ("-c", SERVE if beside is None else SERVE_WEB)
        self.process = self._start(*(self._again if beside else ("-m", "tests.browser.town")))

    @property
    def origin(self) -> str:
        return f"http://{self.host}:{self.port}"

    def bank(self) -> SandboxControl:
        secrets = SandboxSecrets.read_or_create(self.data / "sandbox-secret")
        return SandboxControl(f"http://localhost:{self.bank_port}", secrets)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self._log.open("a") as log:
            process = subprocess.Popen(
                [sys.executable, *arguments], cwd=ROOT, env=self.env, stdout=log, stderr=log
            )
        with processes.killed_unless_up(process):
            for origin in (self.origin, f"http://localhost:{self.bank_port}"):
                wait_until_up(f"{origin}/health", process, self._log)
        return process

    def kill(self) -> None:
        """End all of its processes without a warning."""
        processes.kill(self.process)

    def start_again(self) -> None:
        self.process = self._start(*self._again)

    def kill_and_start_again(self) -> None:
        self.kill()
        self.start_again()

    def log(self) -> str:
        return self._log.read_text()

    def reload(self) -> None:
        """Exchange the code and the settings that it runs with; back when that is done."""
        before = self.log().count('"reloaded"')
        self.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + PATIENCE_SECONDS
        while self.log().count('"reloaded"') == before:
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < end, self.log()
            time.sleep(0.05)

    def stop(self) -> None:
        processes.end(self.process, 40)


def wait_until_up(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)


def hidden(text: str, action_ends: str) -> dict[str, str]:
    """The hidden values of the form that posts to a path ending so."""
    [form] = re.findall(rf'<form[^>]*action="[^"]*{action_ends}"[^>]*>.*?</form>', text, re.DOTALL)
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    server = pg.server()
    url = server.create("killed")
    yield url
    server.drop("killed")


@pytest.mark.real
def test_machine_that_does_not_come_up_leaves_nothing_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.faults.test_kill.PATIENCE_SECONDS", 0.5)

    def running() -> list[Path]:
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                found += [path] if bytes(tmp_path) in path.read_bytes() else []
        return found

    with pytest.raises(AssertionError):
        Machine(tmp_path, "")
    assert running() == []


@pytest.mark.real
@pytest.mark.timeout(1200)
def test_portal_killed_while_people_pay_loses_and_doubles_nothing(
    tmp_path: Path, database_url: str
) -> None:
    kills = KILLS if not database_url else KILLS // 4
    dice = repeats.dice()
    acknowledged: list[str] = []
    machine = Machine(tmp_path, database_url)
    try:
        bank = machine.bank()
        for number in range(1, kills + 1):
            customer = Customer(machine.origin)
            killer = threading.Timer(dice.uniform(0, 0.3), machine.kill_and_start_again)
            home = customer.sign_in(f"payer{number:02}")
            killer.start()
            acknowledged.append(pay(customer, home, bank))
            killer.join()
        check_books(bank, machine.env, acknowledged)
    finally:
        machine.stop()


def pay(customer: Customer, home: str, bank: SandboxControl, page: str = "") -> str:
    """Pay the balance with a form that is sent until it is answered; the payment's public id, once
    its receipt was shown. `page` holds the form when it was loaded before. What died before the
    bank had heard of it ends unpaid, and is started again as its page says."""
    page = page or customer.send(home)[2]
    status, location, text = customer.send(f"{home}billing/pay", hidden(page, "/pay"))
    assert status == 303, text
    _status, _location, page = customer.send(f"{home}billing/payments/")
    public_id: str = re.findall(r"/billing/payments/([0-9a-z]{16})", page)[0]  # the newest is first
    if location.startswith("/"):
        # The bank's answer was lost with the process that asked: it can be asked again.
        _status, _location, page = customer.send(f"{home}billing/payments/{public_id}")
        if "/continue" in page:
            customer.send(f"{home}billing/payments/{public_id}/continue", hidden(page, "/continue"))
    # What the bank never heard of is given up after a minute.
    end = time.monotonic() + 60 + PATIENCE_SECONDS
    while time.monotonic() < end:
        decide(bank)  # each time: it may hear of the payment only now
        _status, receipt, _text = customer.send(f"/pay/{public_id}/return")
        shown = customer.send(receipt)[2]
        if "Paid. Thank you." in shown:
            return public_id
        if "Timed out: nothing was paid" in shown:
            return pay(customer, home, bank)
        time.sleep(0.5)
    raise AssertionError(f"{public_id} was paid at the bank and never arrived: {shown}")


def decide(bank: SandboxControl) -> None:
    """Pay what is open at the bank, which may just be starting again."""
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        with contextlib.suppress(OutboundError, RuntimeError):
            open_keys = [row.key for row in bank.list_books() if not row.state.is_final]
            for key in open_keys:
                bank.decide(key, Decision.PAY)
            return
        time.sleep(0.2)
    raise AssertionError("the bank did not come up again")


def check_books(bank: SandboxControl, env: dict[str, str], acknowledged: list[str]) -> None:
    flask = [sys.executable, "-m", "flask", "--app", "app"]
    verified = subprocess.run(
        [*flask, "ledger", "verify"], cwd=ROOT, env=env, capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stderr
    answer = subprocess.run(
        [sys.executable, "-c", QUERY], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    ours = {key: (amount, state) for key, _id, amount, state in json.loads(answer.stdout)}
    succeeded = {row[1] for row in json.loads(answer.stdout) if row[3] == "succeeded"}
    books = bank.list_books()
    assert len(books) == len(acknowledged)
    for row in books:
        assert row.state is GatewayState.SUCCEEDED
        assert ours[row.key] == (row.amount_minor, "succeeded")
    assert set(acknowledged) <= succeeded
