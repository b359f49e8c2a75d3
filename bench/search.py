"""How long staff wait for the accounts that fit to three typed letters, on both databases.

A whole request in this process, as the page asks while somebody types: session and role, the
search, the note of whose names were shown, the part of the page that is swapped in.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from bench import calibration, dataset, pg
from bench.asking import percentile
from bench.report import Bar, Result, Table
from core.settings import Settings
from models import Account, Customer, SearchTerm, StaffMember, StaffRole

ACCOUNTS = {"small": 4_000, "full": 50_000}
SEARCHES = {"small": 150, "full": 600}
LIMIT_SECONDS = 0.1
COMMON = ("exa", "own", "pin", "541", "net", "ppp", "103")
"""Beginnings that nearly every account has: the worst case."""
SEED = 4
_FRAGMENT = {"HX-Request": "true", "HX-Request-Type": "partial"}


def _become_staff(session: Session) -> str:
    """The cookie's token of a support member who is made for this."""
    from core import clock, ids
    from core.sessions import open_session_row

    customer = Customer(
        public_id=ids.public_id(),
        sign_in_id="bench.staff",
        sign_in_key="bench.staff",
        name="Bench",
        password_hash="",
        created_at=clock.now(),
    )
    session.add(customer)
    session.flush()
    session.add(
        StaffMember(customer_id=customer.id, role=StaffRole.SUPPORT.value, added_at=clock.now())
    )
    return open_session_row(
        session,
        customer,
        is_own_device=False,
        address="127.0.0.1",
        user_agent="bench",
        replaces_token=None,
        is_staff=True,
        has_second_factor=True,
    )


def _beginnings(session: Session, count: int) -> list[str]:
    """Three letters each: of words that some accounts have, of pairs of them, and the common."""
    dice = random.Random(SEED)
    ids = session.scalars(select(Account.id)).all()
    chosen = dice.choices(ids, k=count)
    rows = session.execute(
        select(SearchTerm.account_id, SearchTerm.term).where(
            SearchTerm.account_id.in_(chosen), func.length(SearchTerm.term) >= 3
        )
    )
    words: dict[int, list[str]] = {}
    for account_id, term in rows:
        words.setdefault(account_id, []).append(term[:3])
    found = list(COMMON)
    for number, account_id in enumerate(chosen):
        of_account = sorted(words[account_id])
        typed = dice.choice(of_account)
        if number % 4 == 0:
            typed += f" {dice.choice(of_account)}"
        found.append(typed)
    return found


def _measure(settings: Settings, count: int) -> tuple[list[float], list[float]]:
    """Seconds of each search, and of those for the common beginnings alone."""
    from app import create_app
    from core.db import db, unit_of_work

    app = create_app(settings)
    with app.app_context():
        token = unit_of_work(_become_staff)
        typed = _beginnings(db.session(), count)
        db.session.remove()
    client = app.test_client()
    client.set_cookie("session", token, domain=settings.public_host)

    def search(letters: str) -> float:
        began = time.perf_counter()
        answer = client.get(
            "/staff/", query_string={"q": letters}, base_url=settings.public_url, headers=_FRAGMENT
        )
        seconds = time.perf_counter() - began
        if answer.status_code != 200 or b"<li>" not in answer.data:
            raise RuntimeError(f"{letters}: {answer.status_code}, nothing found")
        return seconds

    search(typed[0])  # templates are compiled
    found = [search(letters) for letters in typed]
    with app.app_context():
        db.session.remove()
        db.engine.dispose()
    return found, found[: len(COMMON)]


def run(size: str) -> Result:
    """Median, p95 and worst of the searches on each database that is here."""
    data = dataset.make(ACCOUNTS[size])
    rows, bars = [], []
    with ExitStack() as stack:
        places: dict[str, Callable[[], Settings]] = {
            "SQLite": lambda: stack.enter_context(dataset.used(data)).settings()
        }
        if pg.is_here():
            places["PostgreSQL"] = lambda: replace(
                data.settings(), database_url=stack.enter_context(pg.server_with(data))
            )
        for name, place in places.items():
            seconds, common = _measure(place(), SEARCHES[size])
            factor = calibration.factor()
            p95 = percentile(seconds, 0.95)
            rows.append(
                [
                    name,
                    f"{percentile(seconds, 0.5) * 1000:.1f} ms",
                    f"{p95 * 1000:.1f} ms",
                    f"{max(seconds) * 1000:.1f} ms",
                    f"{max(common) * 1000:.1f} ms",
                ]
            )
            bars.append(Bar(f"p95 on {name}, calibrated", p95 / factor, LIMIT_SECONDS, unit=" s"))
    note = (
        f"{data.accounts:,} accounts, {SEARCHES[size]} searches of three letters, a quarter of "
        "them with three letters of another word; the last column is the slowest of beginnings "
        "that nearly every account has."
    )
    header = ("database", "median", "p95", "slowest", "slowest of the common")
    return Result([Table("", header, rows, note)], bars)
