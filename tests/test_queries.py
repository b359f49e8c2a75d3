"""At most six queries for any page, the same for one row and for a hundred (bar 75)."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import insert
from sqlalchemy.orm import Session

from core import clock, ids
from core.db import unit_of_work
from models import Account, Activity, Membership, Payment, PaymentState, Plan, Subscription
from tests import crawl, world
from tests.conftest import Portal, Queries
from tests.page import FRAGMENT

MOST = 6
MANY = 100


def add_many(portal: Portal) -> None:
    """A hundred payments, events, subscriptions, accounts, calls; forty invoices; for alice."""
    account_id, customer_id = portal.world.accounts["alice"], portal.world.customers["alice"]
    now = clock.now()

    def work(session: Session) -> None:
        session.execute(
            insert(Payment),
            [
                {
                    "public_id": ids.public_id(), "key": f"many-{number}", "account_id": account_id,
                    "amount_minor": 100, "currency": "USD", "gateway": "sandbox",
                    "state": PaymentState.CANCELLED.value, "created_at": now, "ended_at": now,
                }
                for number in range(MANY)
            ],
        )  # fmt: skip
        session.execute(
            insert(Activity),
            [
                {
                    "account_id": account_id, "customer_id": None, "kind": "line_held", "facts": {},
                    "happened_at": now, "salt": b"s" * 16, "digest": b"d" * 32,
                }
                for _ in range(MANY)
            ],
        )  # fmt: skip
        plan_ids = range(100, 100 + MANY)
        session.execute(
            insert(Plan),
            [
                {"id": number, "code": f"P{number}", "kind": "option", "name": f"Option {number}",
                 "price_minor": 100}
                for number in plan_ids
            ],
        )  # fmt: skip
        session.execute(
            insert(Subscription),
            [
                {"public_id": ids.public_id(), "account_id": account_id, "plan_id": number,
                 "started_on": date(2026, 6, 2)}
                for number in plan_ids
            ],
        )  # fmt: skip
        added = [
            Account(
                public_id=ids.public_id(), number=f"9{number:05d}", name="One of many",
                area_code="PINE", bill_day=1, opened_on=date(2026, 6, 1), currency="USD",
            )
            for number in range(MANY)
        ]  # fmt: skip
        session.add_all(added)
        session.flush()
        session.add_all(
            Membership(customer_id=customer_id, account_id=account.id, role="owner")
            for account in added
        )

    unit_of_work(work)
    portal.execute("DELETE FROM call_records")
    portal.execute("DELETE FROM call_imports")
    portal.execute("DELETE FROM charges WHERE description = 'Calls'")
    unit_of_work(lambda session: crawl.add_calls(session, portal.world, MANY))
    portal.execute("DELETE FROM usage_days")
    portal.execute("DELETE FROM usage_sessions")
    portal.execute("DELETE FROM usage_sources")
    portal.execute("DELETE FROM nases")
    unit_of_work(lambda session: crawl.add_usage(session, ("alice",), days=400))
    for step in range(40):
        day = clock.month_step(date(2026, 7, 1), step, 1)
        with clock.set_to(datetime(day.year, day.month, 1, 20, tzinfo=UTC)):
            world.issue_month(portal.world, ("alice",), day)


def count_all(portal: Portal, who: str) -> dict[str, int]:
    """The queries of each page and fragment, once what a process keeps has been read."""
    visitor = portal.visitor(who)
    paths = crawl.list_gets(portal)
    counts = {}
    for endpoint, path in paths.items():
        for kind, headers in (("page", {}), ("fragment", FRAGMENT)):
            crawl.send(visitor, "GET", path, headers=headers)
            with Queries(portal.app) as queries:
                answer = crawl.send(visitor, "GET", path, headers=headers)
            assert answer.status_code < 500
            counts[f"{endpoint} {kind}"] = queries.count
    return counts


@pytest.mark.parametrize("who", ["alice", "theo"])
def test_every_page_takes_at_most_six_queries(portal: Portal, who: str) -> None:
    crawl.prepare(portal)
    counts = count_all(portal, who)
    assert {name: count for name, count in counts.items() if count > MOST} == {}


def test_hundred_rows_take_as_many_queries_as_one(portal: Portal) -> None:
    crawl.prepare(portal)
    few = count_all(portal, "alice")
    with portal.app.app_context():
        add_many(portal)
    many = count_all(portal, "alice")
    assert {name: (few[name], many[name]) for name in few if many[name] > few[name]} == {}


def test_page_that_is_kept_takes_one_query(portal: Portal) -> None:
    alice = portal.visitor("alice", own_device="y")
    held = {"If-None-Match": crawl.send(alice, "GET", portal.path()).headers["ETag"]}
    with Queries(portal.app) as queries:
        assert crawl.send(alice, "GET", portal.path(), headers=held).status_code == 304
    assert queries.count == 1


def test_constant_page_and_static_file_cost_no_session(portal: Portal) -> None:
    visitor = portal.visitor()
    crawl.send(visitor, "GET", "/sign-in")
    with Queries(portal.app) as queries:
        crawl.send(visitor, "GET", "/sign-in")
    assert queries.count == 1  # the ISP's revision
    alice = portal.visitor("alice")
    [style] = alice.get(portal.path()).select("link[rel=stylesheet]")
    with Queries(portal.app) as queries:
        assert crawl.send(alice, "GET", style.get("href")).status_code == 200
    assert not [text for text in queries.statements if "sessions" in text]


def test_last_use_is_written_at_most_every_five_minutes_and_never_by_a_poll(
    portal: Portal, tick: object
) -> None:
    alice = portal.visitor("alice")
    path = crawl.addresses(portal)["billing.payment_detail"]
    with clock.set_to(clock.now() + timedelta(minutes=6)):
        with Queries(portal.app) as queries:
            crawl.send(alice, "GET", f"{path}?since=99")
        assert not [text for text in queries.statements if text.startswith("UPDATE")]
        with Queries(portal.app) as queries:
            crawl.send(alice, "GET", path)
            crawl.send(alice, "GET", path)
        assert len([text for text in queries.statements if text.startswith("UPDATE")]) == 1
