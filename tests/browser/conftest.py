"""A portal as `python app.py` serves it, with worker and sandbox bank, and Chromium to meet it.

The portal is at http://127.0.0.1:PORT and the sandbox at http://localhost:PORT+1, which a browser
takes for another site. One process runs a group of these tests (`tests/groups.py`) against one
portal; each test that pays takes a customer of its own. The portal is met through a line that is as
good as none until a test asks for a thin one (`thin`).
"""

from __future__ import annotations

import email
import email.policy
import hashlib
import json
import secrets
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

from core.settings import ROOT
from gateways.payments.sandbox.control import SandboxControl
from gateways.payments.sandbox.secrets import SandboxSecrets
from tests import outside, processes
from tests.browser import town
from tests.test_serve import environment, free_ports
from tests.thin_line import BITS_PER_SECOND, ROUND_TRIP_SECONDS, ThinLine, thin_line
from tests.world import PASSWORD, STAFF

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE: ViewportSize = {"width": 320, "height": 640}
DESK: ViewportSize = {"width": 1280, "height": 800}
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)


@dataclass
class Town:
    """The served portal and what a test must know of it."""

    port: int
    bank_port: int
    line: ThinLine
    data: Path
    public_ids: dict[str, str]
    welcome: str
    welcome_dead: str
    bank: SandboxControl
    _unused: Iterator[str] = field(default_factory=lambda: iter(town._payers()))
    _callers: Iterator[str] = field(default_factory=lambda: iter(town.PHONES))
    _unregistered: Iterator[str] = field(default_factory=lambda: iter(town.MOVERS))

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def bank_origin(self) -> str:
        return f"http://localhost:{self.bank_port}"

    def path(self, rest: str = "", account: str = "alice") -> str:
        return f"/a/{self.public_ids[account]}/{rest}"

    def new_payer(self) -> str:
        """A customer with a bill to pay whom no other test uses."""
        return next(self._unused)

    def new_caller(self) -> str:
        """A customer with a phone on file, `town.PHONES`, whom no other test uses."""
        return next(self._callers)

    def new_mover(self) -> str:
        """Somebody with an account and no online access, whom no other test uses."""
        return next(self._unregistered)

    def wait_for_letter(self, recipient: str, words: str) -> str:
        """The text of the newest message to `recipient` that holds `words`, once it has come."""
        end = time.monotonic() + 30
        while time.monotonic() < end:
            for _path, mail in self._letters_to(recipient):
                body = mail.get_body(("plain",))
                text = str(body.get_content()) if body is not None else ""
                if words in text:
                    return text
            time.sleep(0.1)
        raise AssertionError(f"no message to {recipient} holds {words!r}")

    def forget_letters(self, recipient: str) -> None:
        """So that the next one waited for is not one of before."""
        for path, _mail in list(self._letters_to(recipient)):
            path.unlink()

    def _letters_to(self, recipient: str) -> Iterator[tuple[Path, EmailMessage]]:
        """The newest first."""
        paths = (self.data / "mailbox").glob("*.eml")
        for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            mail = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            if mail["To"] == recipient:
                yield path, mail

    def one(self, sql: str, *values: Any) -> Any:
        """The only column of the only row."""
        with closing(sqlite3.connect(self.data / "lastmile.db")) as connection:
            [[value]] = connection.execute(sql, values).fetchall()
            return value


@contextmanager
def running_town(data: Path, port: int, public_url: str, **settings: str) -> Iterator[None]:
    """The town of the tests, served at `port` under `public_url` until the end of the block."""
    more = {
        "LASTMILE_DEMO": "1",
        "LASTMILE_SHARED_NETWORKS": "127.0.0.0/8",
        "LASTMILE_PUBLIC_URL": public_url,
        **settings,
    }
    path = data / "served.log"
    with path.open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.browser.town"],
            cwd=ROOT,
            env=environment(data, port, **more),
            stdout=log,
            stderr=log,
        )
        try:
            _wait_for(f"http://{urlsplit(public_url).hostname}:{port}/health", path, process)
            yield
        finally:
            processes.end(process)


@pytest.fixture(scope="package")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    with met_town(tmp_path_factory.mktemp("browser")) as met:
        yield met


@contextmanager
def met_town(data: Path, **settings: str) -> Iterator[Town]:
    """A town that is served from `data`, behind a line that is as good as none."""
    port = free_ports()
    bank = f"http://localhost:{port + 1}"
    with thin_line(None, 0) as line:
        entrance = line.listen(port)
        with running_town(data, port, f"http://127.0.0.1:{entrance}", **settings):
            _wait_for(f"{bank}/health", data / "served.log")
            facts = json.loads((data / "town.json").read_text())
            shared = SandboxSecrets.read_or_create(data / "sandbox-secret")
            yield Town(entrance, port + 1, line, data, bank=SandboxControl(bank, shared), **facts)


@pytest.fixture
def thin(served: Town) -> Iterator[ThinLine]:
    """The line to the portal, thin for the length of a test."""
    served.line.set_speed(BITS_PER_SECOND, ROUND_TRIP_SECONDS)
    yield served.line
    served.line.set_speed(None, 0)
    served.line.lose = None


def _wait_for(address: str, log: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process is None or process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"{address} did not come up: {log.read_text()}")


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    # Until its end Playwright keeps an event loop in this thread: it ends with the last test here.
    program = outside.need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(program), args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Visitor:
    """One person's browser window and what it complained about."""

    town: Town
    context: BrowserContext
    page: Page
    errors: list[str]

    def open(self, path: str) -> Page:
        """Open a path of the portal, and be there: after redirects, with scripts started."""
        self.page.goto(self.town.origin + path)
        return self.page

    def become_staff(self, name: str) -> Page:
        """Take over the session of a staff member, as after the second factor."""
        token, now = secrets.token_urlsafe(32), datetime.now(UTC).replace(tzinfo=None)
        values = (
            hashlib.sha256(token.encode()).digest(),
            *(str(now),) * 2,
            str(now + timedelta(hours=1)),
            name,
        )
        with closing(sqlite3.connect(self.town.data / "lastmile.db", timeout=10)) as database:
            database.execute(
                "UPDATE sessions SET token_hash = ?, last_used_at = ?, password_at = ?,"
                " expires_at = ?, ended_at = NULL WHERE id = (SELECT min(sessions.id) FROM sessions"
                " JOIN customers ON customers.id = customer_id"
                " WHERE is_staff AND sign_in_key = ?)",
                values,
            )
            database.commit()
        self.context.add_cookies(
            [{"name": "session", "value": token, "url": self.town.origin, "httpOnly": True}]
        )
        return self.open("/staff/")

    def sign_in(self, name: str, *, is_own_device: bool = False) -> Page:
        if name in STAFF:
            return self.become_staff(name)
        page = self.open("/sign-in")
        page.get_by_label("ID or e-mail").fill(name)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_label("my own device").set_checked(is_own_device)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url("**/a/**" if name != "waiting" else "**/accounts")
        return page


NewVisitor = Callable[..., Visitor]


@pytest.fixture
def new_visitor(served: Town, chromium: Browser) -> Iterator[NewVisitor]:
    """`new_visitor(name=None, **options)` opens a window; with a name it is signed in."""
    contexts: list[BrowserContext] = []

    def open_window(name: str | None = None, **options: Any) -> Visitor:
        options = {"viewport": PHONE, "locale": "en-US", "reduced_motion": "reduce"} | options
        context = chromium.new_context(**options)
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        visitor = Visitor(served, context, page, [])
        page.on(
            "console",
            lambda said: visitor.errors.append(said.text) if said.type == "error" else None,
        )
        page.on("pageerror", lambda error: visitor.errors.append(str(error)))
        if name is not None:
            visitor.sign_in(name)
        return visitor

    yield open_window
    for context in contexts:
        context.close()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They are marked by their folder."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)
