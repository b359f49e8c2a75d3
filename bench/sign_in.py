"""Signing in under load (bar 83), and pages and customers while somebody guesses (bars 5 and 83).

Against the portal as it is served, with two web processes. The client stands where a proxy would,
so that each request can come from an address of its own.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlencode

from bench import calibration, dataset, serving
from bench.asking import Told, percentile, request, steadily
from bench.report import Bar, Result, Table
from core.settings import ROOT

FOLDER = ROOT / "build" / "bench-sign-in"
PORTAL_PORT = 8393
HOST = f"127.0.0.1:{PORTAL_PORT}"
PASSWORD = "quiet-lantern-orbit-47"
CUSTOMERS = 400
SECONDS = {"small": 8, "full": 40}
SIGN_INS, WRONG, PAGES, KNOWN = 15, 200, 20, 1

_PREPARE = """
import json, sys
from bench.sign_in import add_customers
from app import create_app
from core.settings import read_settings
settings = read_settings()
with create_app(settings).app_context():
    print("CUSTOMERS " + json.dumps(add_customers(settings.data)))
"""


def add_customers(folder: Path) -> list[str]:
    """Give accounts whose only owner is the bench's another one; the public ids of the accounts.

    The customers are `bench0`, `bench1`, … and have one password.
    """
    from sqlalchemy import select
    from sqlalchemy.orm import Session

    from core import clock, passwords
    from core.db import db, unit_of_work
    from models import Account, Customer, Membership, Role

    owned = (
        select(Membership.account_id)
        .join(Customer, Customer.id == Membership.customer_id)
        .where(Customer.sign_in_key.not_like("owner-%"))
    )
    accounts = db.session.execute(
        select(Account.id, Account.public_id)
        .where(Account.id.not_in(owned))
        .order_by(Account.id)
        .limit(CUSTOMERS)
    ).all()
    known = passwords.hash_password(folder, PASSWORD)

    def work(session: Session) -> None:
        for number, account in enumerate(accounts):
            customer = Customer(
                public_id=f"bench{number}customer",
                sign_in_id=f"bench{number}",
                sign_in_key=f"bench{number}",
                email_key=f"bench{number}@example.net",
                name=f"Customer {number}",
                password_hash=known,
                created_at=clock.now(),
            )
            session.add(customer)
            session.flush()
            session.add(
                Membership(customer_id=customer.id, account_id=account.id, role=Role.OWNER.value)
            )

    unit_of_work(work)
    return [account.public_id for account in accounts]


def prepare() -> list[str]:
    """Make the portal's data in `FOLDER` anew from the bench's demo; the accounts' public ids."""
    demo = dataset.demo()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    with (
        closing(sqlite3.connect(demo.database)) as source,
        closing(sqlite3.connect(FOLDER / "lastmile.db")) as copy,
    ):
        source.backup(copy)
    made = _run(_PREPARE, environment())
    found: list[str] = json.loads(made.split("CUSTOMERS ", 1)[1])
    return found


def environment() -> dict[str, str]:
    """Of the portal that is measured."""
    served = dataset.Dataset(FOLDER, 0, 0).environment(PORTAL_PORT, 2)
    return served | {"LASTMILE_PROXY_COUNT": "1"}


def _run(code: str, env: dict[str, str]) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, check=True, capture_output=True, text=True
    ).stdout


def address(number: int) -> str:
    """An address that nobody else has."""
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def sign_in(name: str, password: str, come_from: str, cookies: str = "here=1") -> bytes:
    """The sign-in form as a browser sends it."""
    headers = {"Cookie": cookies, "X-Forwarded-For": come_from}
    body = urlencode({"sign_in_id": name, "password": password})
    return request("POST", "/sign-in", HOST, headers, body)


def cookies_of(told: Told) -> dict[str, str]:
    """The cookies that an answer set."""
    lines = [line for line in told.head.split("\r\n") if line.lower().startswith("set-cookie:")]
    pairs = (line.partition(":")[2].split(";")[0].strip().partition("=") for line in lines)
    return {name: value for name, _, value in pairs}


async def _sign_ins(seconds: float) -> list[Told]:
    return await steadily(
        PORTAL_PORT,
        SIGN_INS,
        seconds,
        lambda number: sign_in(f"bench{number % CUSTOMERS}", PASSWORD, address(number)),
    )


async def _attacked(
    seconds: float,
    guess: Callable[[int], bytes],
    homes: list[tuple[str, str]],
    devices: list[tuple[str, str]],
) -> tuple[list[Told], list[Told], list[Told]]:
    """What became of guesses, of pages, and of customers who sign in on a device of before."""

    def page(number: int) -> bytes:
        path, cookies = homes[number // 2 % len(homes)] if number % 2 else ("/sign-in", "")
        return request("GET", path, HOST, {"Cookie": cookies, "X-Forwarded-For": "10.200.0.1"})

    def known(number: int) -> bytes:
        name, cookies = devices[number % len(devices)]
        return sign_in(name, PASSWORD, "10.201.0.1", cookies)

    guesses, pages, customers = await asyncio.gather(
        steadily(PORTAL_PORT, WRONG, seconds, guess),
        steadily(PORTAL_PORT, PAGES, seconds, page),
        steadily(PORTAL_PORT, KNOWN, seconds, known),
    )
    return guesses, pages, customers


ATTACKS: dict[str, Callable[[int], bytes]] = {
    "one address, many names": lambda number: sign_in(
        f"nobody{number}", "wrong-lantern-orbit", "192.0.2.1"
    ),
    "many addresses, one name": lambda number: sign_in(
        "bench399", "wrong-lantern-orbit", address((1 << 20) + number)
    ),
    "many addresses, many names": lambda number: sign_in(
        f"somebody{number}", "wrong-lantern-orbit", address((1 << 21) + number)
    ),
}


def _warming_up(number: int) -> bytes:
    return sign_in(f"anybody{number}", "wrong-lantern-orbit", "198.51.100.1")


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:,.0f} ms"


def run(size: str) -> Result:
    """Times at 15 sign-ins a second, and under 200 wrong ones a second of three kinds."""
    seconds = SECONDS[size]
    accounts = prepare()
    slow = calibration.factor()
    with serving.running_portal(environment(), PORTAL_PORT):
        asyncio.run(_sign_ins(2))  # every process has made its pages
        signed_in = asyncio.run(_sign_ins(seconds))
        good = [told for told in signed_in if told.status == 303]
        homes, devices = [], []
        for number, told in enumerate(signed_in[: min(20, len(accounts))]):
            if told.status == 303:
                kept = cookies_of(told)
                homes.append((f"/a/{accounts[number]}/", f"session={kept['session']}"))
                devices.append((f"bench{number}", f"here=1; device={kept['device']}"))
        # And the pages that say no, for which each template is read once.
        asyncio.run(_attacked(2, _warming_up, homes, devices))
        times = [told.seconds for told in good]
        rows = [
            [
                "15 sign-ins a second", str(len(signed_in)), _milliseconds(percentile(times, 0.5)),
                _milliseconds(percentile(times, 0.95)), "", "",
            ]
        ]  # fmt: skip
        bars = [
            Bar("sign-ins that were let in", len(good) / len(signed_in), 1.0, at_least=True),
            Bar(
                "15 sign-ins a second, p95", percentile(times, 0.95) * 1000 / slow, 250, unit=" ms"
            ),
        ]
        for name, guess in ATTACKS.items():
            found = asyncio.run(_attacked(seconds, guess, homes, devices))
            row, more = _judge(name, found, slow)
            rows.append(row)
            bars += more
    note = (
        "Each for itself. Refused is every guess whose password was not looked at (429, 503). A "
        "known device is one on which its customer had signed in before the guessing began."
    )
    header = ("load", "requests", "half within", "95 % within", "refusals, 95 %", "known devices")
    return Result([Table("", header, rows, note)], bars)


def _judge(
    name: str, found: tuple[list[Told], list[Told], list[Told]], slow: float
) -> tuple[list[str], list[Bar]]:
    guesses, pages, customers = found
    refused = [told.seconds for told in guesses if told.status in (429, 503)]
    shown = [told.seconds for told in pages if told.status == 200]
    let_in = [told for told in customers if told.status == 303]
    row = [
        f"pages under 200 guesses a second: {name}", str(len(guesses)),
        _milliseconds(percentile(shown, 0.5)), _milliseconds(percentile(shown, 0.95)),
        _milliseconds(percentile(refused, 0.95)), f"{len(let_in)} of {len(customers)}",
    ]  # fmt: skip
    wrong = [told for told in guesses if told.status not in (422, 429, 503)]
    return row, [
        Bar(f"{name}: pages, p95", percentile(shown, 0.95) * 1000 / slow, 300, unit=" ms"),
        Bar(f"{name}: refusals, p95", percentile(refused, 0.95) * 1000 / slow, 20, unit=" ms"),
        Bar(f"{name}: pages not shown", len(pages) - len(shown), 0),
        Bar(f"{name}: guesses answered otherwise", len(wrong), 0),
        Bar(f"{name}: known devices let in", len(let_in) / len(customers), 1.0, at_least=True),
    ]
