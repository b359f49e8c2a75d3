"""Chromium on a thin line: 50 kbit/s, half a second there and back; from nothing to the receipt.

The line is a relay below the browser (tests/thin_line.py), so that connections, headers and what
competes for the line cost what they cost. The portal is the demo, with a year of data.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, sync_playwright

from bench import calibration, dataset, serving
from bench.report import Bar, Result, Table
from core.settings import ROOT
from demo import DEMO_CUSTOMERS
from tests.test_budgets import Wire
from tests.thin_line import (
    BITS_PER_SECOND,
    HEADER_BYTES,
    PACKET_BYTES,
    ROUND_TRIP_SECONDS,
    Count,
    Request,
    ThinLine,
    thin_line,
)

PORTAL_PORT = 8397
TYPING_SECONDS = 8
BALANCE = "sign in → balance readable"
RUNS = {"small": 1, "full": 3}
PASSWORDS = {customer.sign_in_id: customer.password for customer in DEMO_CUSTOMERS}
PAYER, OWNER, WARMER = "maria.lopez", "omar.haddad", "grace.kim"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE: ViewportSize = {"width": 360, "height": 640}

# Notes when that has been painted for which a person came: the first field, or the page's heart.
_WATCH = """
(() => {
  const wanted = "input[name=sign_in_id], .due__amount, .outcome, main table";
  const look = () => requestAnimationFrame(() => {
    if (!document.querySelector(wanted)?.getClientRects().length) return look();
    requestAnimationFrame(() => noteReadable(performance.timeOrigin + performance.now()));
  });
  look();
})()
"""
_SERVE = "from core.serve import run as do"
_DO = "; from core.settings import read_settings; do(read_settings())"


@dataclass
class Step:
    """A part of the journey: how long a person waited, and what the line carried meanwhile."""

    what: str
    seconds: float
    requests: list[Request]
    count: Count

    def cells(self) -> list[str]:
        lasted = f"{self.seconds:.1f}" if self.seconds else ""
        figures = (self.count.received, self.count.wire_received, self.count.wire_sent)
        return [
            self.what,
            lasted,
            str(len(self.requests)),
            str(self.count.connections),
            *(f"{figure:,}" for figure in figures),
        ]


@dataclass
class Journey:
    """A browser that has never been here, and the steps it took."""

    line: ThinLine
    entrance: int
    page: Page
    steps: list[Step] = field(default_factory=list)
    noted: list[float] = field(default_factory=list)
    """When pages became readable, in ms on the browser's clock."""

    def __post_init__(self) -> None:
        self._seen, self._counted = len(self.line.requests), copy(self.line.counts[self.entrance])
        self.page.expose_function("noteReadable", self._note)

    def _note(self, at: float) -> None:
        self.noted.append(at)

    def step(self, what: str, seconds: float = 0.0) -> None:
        """What the line carried since the last step makes the step `what`."""
        count, before = copy(self.line.counts[self.entrance]), self._counted
        since = {name: value - getattr(before, name) for name, value in vars(count).items()}
        self.steps.append(Step(what, seconds, self.line.requests[self._seen :], Count(**since)))
        self._seen, self._counted = len(self.line.requests), count

    def open(self, path: str) -> float:
        """Open a page of the portal; the seconds until it was readable."""
        self.page.goto(f"http://127.0.0.1:{self.entrance}{path}", wait_until="commit")
        return self.readable_at() - float(self.page.evaluate("performance.timeOrigin")) / 1000

    def press(self, button: str, leads_to: str) -> float:
        """Press a button; the seconds until the page at an address with `leads_to` was readable."""
        began = time.time()
        self.page.get_by_role("button", name=button).first.click(no_wait_after=True)
        self.page.wait_for_url(f"**{leads_to}**", wait_until="commit")
        return self.readable_at() - began

    def readable_at(self) -> float:
        for _ in range(3_000):
            if self.noted:
                return self.noted.pop() / 1000
            self.page.wait_for_timeout(20)
        raise RuntimeError(f"{self.page.url} did not become readable")

    def fill(self, name: str, *, is_own_device: bool = False) -> None:
        self.page.get_by_label("ID or e-mail").fill(name)
        self.page.get_by_label("Password", exact=True).fill(PASSWORDS[name])
        self.page.get_by_label("my own device").set_checked(is_own_device)

    def settle(self) -> None:
        """Wait until nothing comes any more."""
        while True:
            received = self.line.counts[self.entrance].received
            self.page.wait_for_timeout(2_500)
            if self.line.counts[self.entrance].received == received:
                return


def with_typing(journey: Journey) -> None:
    """Sign in at the pace of a person, then pay and see the receipt."""
    journey.step("sign-in page readable", journey.open("/sign-in"))
    began = time.monotonic()
    journey.fill(PAYER)
    journey.page.wait_for_timeout(1000 * (TYPING_SECONDS - time.monotonic() + began))
    journey.step(f"the {TYPING_SECONDS} s of typing")
    journey.step(BALANCE, journey.press("Sign in", "/a/"))
    journey.settle()
    journey.step("after the balance")
    began = time.time()
    journey.page.get_by_role("button", name="Pay $").click()
    journey.page.wait_for_url(re.compile("^http://localhost"))
    journey.step("pay → the bank's page", time.time() - began)
    journey.step("from the bank → receipt readable", journey.press("Pay", "/payments/"))
    journey.settle()
    journey.step("after the receipt")


def without_typing(journey: Journey) -> None:
    """Sign in as fast as a password manager."""
    journey.step("sign-in page readable", journey.open("/sign-in"))
    journey.fill(PAYER)
    journey.step(BALANCE, journey.press("Sign in", "/a/"))
    journey.settle()
    journey.step("after the balance")


def own_device(journey: Journey) -> None:
    """On a device declared own, look at the bills and come back to a page that has not changed."""
    journey.open("/sign-in")
    journey.fill(OWNER, is_own_device=True)
    journey.press("Sign in", "/a/")
    journey.settle()
    for what in ("bills, first time", "home again, unchanged", "bills again, unchanged"):
        journey.step("")
        began = time.time()
        name = "Home" if "home" in what else "Bills"
        journey.page.get_by_role("link", name=name, exact=True).click()
        title = "Your account" if name == "Home" else "Bills"
        journey.page.get_by_role("heading", level=1, name=title).wait_for()
        lasted = time.time() - began
        journey.settle()
        journey.step(what, lasted)
    journey.steps[:] = [step for step in journey.steps if step.seconds]


@contextmanager
def _portal(entrance: int) -> Iterator[None]:
    """The demo, served from a copy of its data, so that the same bills wait each time."""
    env = os.environ | {
        "LASTMILE_DEMO": "1",
        "PORT": str(PORTAL_PORT),
        "LASTMILE_PROCESSES": "1",
        "LASTMILE_PUBLIC_URL": f"http://127.0.0.1:{entrance}",
    }
    serving.require_free(PORTAL_PORT, PORTAL_PORT + 1)
    with tempfile.TemporaryDirectory() as folder:
        data = shutil.copytree(dataset.demo().data, Path(folder) / "demo")
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE + _DO],
            cwd=ROOT,
            env=env | {"LASTMILE_DATA": str(data)},
            stdout=subprocess.DEVNULL,
        )
        try:
            for port in (PORTAL_PORT, PORTAL_PORT + 1):
                _wait_for(port)
            _warm_up()
            yield
        finally:
            process.terminate()
            process.wait(20)


def _warm_up() -> None:
    """Sign somebody in beside the line: what a process does once in its life is not measured."""
    wire = Wire(PORTAL_PORT)
    page = wire.get("/sign-in").page
    form = {"sign_in_id": WARMER, "password": PASSWORDS[WARMER]}
    page = wire.get(wire.post("/sign-in", form).header("Location")).page
    for address in page.xpath("//link[@rel='stylesheet']/@href | //script/@src"):
        wire.get(address)


def _wait_for(port: int) -> None:
    host = "127.0.0.1" if port == PORTAL_PORT else "localhost"
    for _ in range(300):
        with suppress(OSError), urllib.request.urlopen(f"http://{host}:{port}/health", timeout=5):
            return
        time.sleep(0.1)
    raise RuntimeError(f"nothing answers on port {port}")


def travel(
    line: ThinLine, entrance: int, browser: Browser, take: Callable[[Journey], None]
) -> Journey:
    """Take a journey in a browser that has never been here."""
    context: BrowserContext = browser.new_context(viewport=PHONE, locale="en-US")
    context.set_default_timeout(30_000)
    context.add_init_script(_WATCH)
    try:
        journey = Journey(line, entrance, context.new_page())
        take(journey)
        return journey
    finally:
        context.close()


def _until_balance(journey: Journey) -> list[Step]:
    places = [place for place, step in enumerate(journey.steps) if step.what == BALANCE]
    return journey.steps[: places[0] + 1]


def _wire(steps: list[Step]) -> int:
    return sum(step.count.wire_sent + step.count.wire_received for step in steps)


def _own_seconds(journey: Journey) -> float:
    """What the line itself takes of the way to the balance: a round trip for the connection and for
    page, form and balance each, and their bytes."""
    waited = [
        request
        for step in _until_balance(journey)
        for request in step.requests
        if not request.path.startswith("/static/")
    ]
    carried = sum(
        size + HEADER_BYTES * -(-size // PACKET_BYTES)
        for request in waited
        for size in (request.sent, request.received)
    )
    return ROUND_TRIP_SECONDS * (1 + len(waited)) + carried * 8 / BITS_PER_SECOND


def _seconds(journeys: list[Journey]) -> float:
    """Until the balance is readable, in the middle of several journeys; what browser and server add
    to the line's own time is divided by the machine's calibration."""
    found = []
    for journey in journeys:
        own = _own_seconds(journey)
        added = sum(step.seconds for step in _until_balance(journey)) - own
        found.append(own + added / max(1.0, calibration.factor()))
    return statistics.median(found)


def _line_ratio(line: ThinLine, entrance: int) -> float:
    """How long the stylesheet takes on a new connection, as a share of what the line's own figures
    make of it."""
    wire = Wire(entrance)
    [address] = wire.get("/sign-in").page.xpath("//link[@rel='prefetch']/@href")
    began, before = time.monotonic(), copy(line.counts[entrance])
    wire.get(address)
    lasted, count = time.monotonic() - began, line.counts[entrance]
    carried = count.wire_sent - before.wire_sent + count.wire_received - before.wire_received
    return lasted / (2 * ROUND_TRIP_SECONDS + carried * 8 / BITS_PER_SECOND)


def _bars(found: dict[str, list[Journey]], ratio: float) -> list[Bar]:
    typed, quick, own = (found[name] for name in ("typed", "quick", "own"))
    requests = [request for step in typed[0].steps for request in step.requests]
    kept = [step for step in own[0].steps if "unchanged" in step.what]
    size = max(_wire(_until_balance(journey)) for journey in (*typed, *quick))
    return [
        Bar("sign in → balance, all bytes on the wire both ways", size, 35_000),
        Bar(
            f"sign in → balance without the {TYPING_SECONDS} s of typing",
            _seconds(typed),
            4.5,
            unit=" s",
        ),
        Bar("sign in → balance, typed in no time", _seconds(quick), 6, unit=" s"),
        Bar("journey to the receipt, bytes received", sum(r.received for r in requests), 45_000),
        Bar("journey to the receipt, requests", len(requests), 9),
        Bar("a page seen before, on an own device", max(s.count.received for s in kept), 500),
        Bar("the line itself: time taken, as a share of its own figures", ratio, 1.05),
        Bar("the same, at least", ratio, 0.99, at_least=True),
    ]


def _table(title: str, journey: Journey, note: str = "") -> Table:
    header = ("step", "seconds", "requests", "new connections", "bytes of HTTP received")
    return Table(
        title,
        (*header, "on the wire, down", "on the wire, up"),
        [step.cells() for step in journey.steps],
        note,
    )


NOTE = (
    "50 kbit/s each way, 500 ms there and back, plain HTTP/1.1, brotli, Chromium with an empty "
    "profile on a phone's screen; one figure of several is the middle one. Bytes on the wire count "
    "40 for the headers of each packet of 1,460, and the packets of the handshake. Readable means "
    "painted. The bank's page is reached beside the line."
)
TYPED_NOTE = (
    "The line itself takes {own:.1f} s of the way to the balance: a round trip for the connection, "
    "one each for page, form and balance, and the time of their bytes. The rest is browser and "
    "server, and only that is divided by the machine's calibration in the bars."
)
QUICK_NOTE = (
    "The styles and the small script begin with the head of the page, on connections opened while "
    "the page still comes, so that the form finds the first one free: when they stood at its end, "
    "the form waited half a second for a connection of its own. The large script waits until the "
    "line has been quiet for two seconds; a form that is sent sooner keeps it off the line "
    "altogether, and the next page loads it after it is painted. (Prefetched at once, it took a "
    "third of the line from the balance, was cut off by the next page and came twice: 38 kB and "
    "5.4 s.) Nothing asks for /favicon.ico: the icon is in the page."
)


def run(size: str) -> Result:
    """Journeys in Chromium. Raises RuntimeError when there is no Chromium, or a page stays away."""
    program = shutil.which("chromium")
    if program is None:
        raise RuntimeError("chromium is missing: apt-get install chromium")
    takes = {"typed": with_typing, "quick": without_typing, "own": own_device}
    found: dict[str, list[Journey]] = {name: [] for name in takes}
    with thin_line() as line, sync_playwright() as playwright:
        entrance = line.listen(PORTAL_PORT)
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        for _ in range(RUNS[size]):
            with _portal(entrance):
                for name in ("quick", "typed", "own"):
                    found[name].append(travel(line, entrance, browser, takes[name]))
                ratio = _line_ratio(line, entrance)
        browser.close()
    typed = found["typed"][-1]
    tables = [
        _table(
            "At the pace of a person, to the receipt",
            typed,
            TYPED_NOTE.format(own=_own_seconds(typed)),
        ),
        _table("As fast as a password manager", found["quick"][-1], QUICK_NOTE),
        _table("On a device declared own", found["own"][-1]),
    ]
    return Result(tables, _bars(found, ratio), NOTE)
