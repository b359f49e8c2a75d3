"""Sessions as rows: how long they last, when they are dead, what they cost (bars 25-27)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import clock, sessions
from core.db import unit_of_work
from core.sessions import RowSessions, cookies_of
from tests.auth.conftest import refuse_updates
from tests.conftest import Portal, Queries
from tests.page import FRAGMENT, Visitor

Tick = Callable[..., None]


def is_in(portal: Portal, visitor: Visitor) -> bool:
    page = visitor.get(portal.path())
    assert page.status in (200, 303)
    assert page.status == 200 or page.location.startswith("/sign-in")
    return page.status == 200


def payment_path(portal: Portal) -> str:
    public_id = portal.rows("SELECT public_id FROM payments ORDER BY id")[0][0]
    return portal.path(f"billing/payments/{public_id}")


def poll(portal: Portal, visitor: Visitor) -> int:
    return visitor.get(payment_path(portal) + "?since=-1", headers=FRAGMENT).status


# How long ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ticked", "idle"), [({}, timedelta(hours=1)), ({"own_device": "y"}, timedelta(days=14))]
)
def test_idle_session_ends(
    portal: Portal, tick: Tick, ticked: dict[str, str], idle: timedelta
) -> None:
    visitor = portal.visitor("alice", **ticked)
    tick(seconds=idle.total_seconds() - 1)
    assert is_in(portal, visitor)  # and so is used again
    tick(seconds=idle.total_seconds() - 1)
    assert is_in(portal, visitor)
    tick(seconds=idle.total_seconds())
    assert not is_in(portal, visitor)


@pytest.mark.parametrize(
    ("ticked", "step", "lasts"),
    [
        ({}, timedelta(minutes=50), timedelta(hours=24)),
        ({"own_device": "y"}, timedelta(days=13), timedelta(days=30)),
    ],
)
def test_session_in_use_ends_too(
    portal: Portal, tick: Tick, ticked: dict[str, str], step: timedelta, lasts: timedelta
) -> None:
    visitor = portal.visitor("alice", **ticked)
    passed = timedelta(0)
    while passed + step < lasts:
        tick(seconds=step.total_seconds())
        passed += step
        assert is_in(portal, visitor)
    tick(seconds=(lasts - passed).total_seconds() - 1)
    assert is_in(portal, visitor)
    tick(seconds=1)
    assert not is_in(portal, visitor)


def test_polling_does_not_keep_a_session_alive(portal: Portal, tick: Tick) -> None:
    visitor = portal.visitor("alice")
    for _ in range(5):
        tick(minutes=10)
        assert poll(portal, visitor) == 200
    tick(minutes=10)
    assert poll(portal, visitor) == 401
    assert not is_in(portal, visitor)


def test_poll_of_a_session_that_ended_leads_to_sign_in_and_back(portal: Portal, tick: Tick) -> None:
    visitor = portal.visitor("alice")
    tick(hours=1)
    page = visitor.get(payment_path(portal) + "?since=1&x=2", headers=FRAGMENT)
    assert (page.status, page.response.data) == (401, b"")
    leads_to = page.response.headers["HX-Redirect"]
    assert leads_to.startswith("/sign-in?")
    page = visitor.submit(
        visitor.get(leads_to), "/sign-in", sign_in_id="alice", password="quiet-lantern-orbit-47"
    )
    # To the page that polled: the answer to a poll may be nothing at all.
    assert page.location == payment_path(portal) + "?x=2"
    assert visitor.get(page.location).status == 200


def test_last_use_is_written_every_five_minutes_at_most_and_never_by_a_poll(
    portal: Portal, tick: Tick
) -> None:
    def last_used() -> str:
        return str(portal.one("SELECT last_used_at FROM sessions"))

    visitor = portal.visitor("alice")
    begun = last_used()
    tick(minutes=4, seconds=59)
    assert is_in(portal, visitor)
    assert last_used() == begun
    tick(seconds=1)
    poll(portal, visitor)
    assert last_used() == begun
    assert is_in(portal, visitor)
    assert last_used() != begun


def test_page_can_be_read_while_last_use_cannot_be_written(portal: Portal, tick: Tick) -> None:
    visitor = portal.visitor("alice")
    refuse_updates(portal, "sessions")
    tick(minutes=6)
    assert is_in(portal, visitor)


# When it is dead -----------------------------------------------------------------------------

ENDS = {
    "disabled": "UPDATE customers SET is_disabled = true WHERE sign_in_id = 'alice'",
    "all ended": "UPDATE customers SET session_generation = 2 WHERE sign_in_id = 'alice'",
    "ended": "UPDATE sessions SET ended_at = created_at",
    "deleted": "DELETE FROM sessions",
}


@pytest.mark.parametrize("reason", ENDS)
def test_ended_session_is_anonymous_at_once(portal: Portal, reason: str) -> None:
    visitor = portal.visitor("alice", own_device="y")
    kept = visitor.get(portal.path()).response.headers["ETag"]
    assert poll(portal, visitor) == 200
    portal.execute(ENDS[reason])
    assert poll(portal, visitor) == 401
    assert not is_in(portal, visitor)
    assert visitor.get(portal.path(), headers={"If-None-Match": kept}).status == 303
    assert visitor.post(portal.path("billing/pay"), {"choice": "balance"}).status == 303


def test_others_stay_signed_in(portal: Portal) -> None:
    alice, bob = portal.visitor("alice"), portal.visitor("bob")
    portal.execute(ENDS["all ended"])
    assert not is_in(portal, alice)
    assert is_in(portal, bob)


def test_replayed_cookie_of_a_signed_out_session_is_anonymous(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    token = visitor.cookies()["session"]
    visitor.submit(visitor.get(portal.path()), "/sign-out")
    visitor.client.set_cookie("session", token, domain="127.0.0.1")
    assert not is_in(portal, visitor)
    assert poll(portal, visitor) == 401


def test_old_sessions_are_deleted_a_day_after_they_ran_out(portal: Portal, tick: Tick) -> None:
    def delete_old() -> int:
        with portal.app.app_context():
            return unit_of_work(lambda session: sessions.delete_old(session, clock.now()))

    portal.visitor("alice")
    tick(hours=48)
    assert delete_old() == 0
    tick(seconds=1)
    assert delete_old() == 1


# What it costs -------------------------------------------------------------------------------


def test_session_costs_a_file_nothing_and_a_page_one_query(
    portal: Portal, queries: Queries
) -> None:
    visitor = portal.visitor("alice")
    page = visitor.get(portal.path())
    [style] = page.select("link[rel=stylesheet]")
    with queries:
        assert visitor.get(style.get("href")).status == 200
        assert not [each for each in queries.statements if "FROM sessions" in each]
        queries.statements.clear()
        visitor.get(portal.path())
        assert len([each for each in queries.statements if "FROM sessions" in each]) == 1


def test_pages_before_sign_in_store_nothing(portal: Portal, queries: Queries) -> None:
    visitor = portal.visitor()
    with queries:
        for path in ("/sign-in", "/help", "/sign-in?done=expired", "/", portal.path()):
            visitor.get(path)
    assert not [each for each in queries.statements if not each.startswith(("SELECT", "PRAGMA"))]


def test_pages_open_to_everyone_work_while_sessions_cannot_be_read(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    portal.execute("ALTER TABLE sessions RENAME TO away")
    try:
        page = visitor.get(portal.path())
        assert page.status == 503
        assert page.response.headers["Retry-After"]
        assert visitor.get("/help").status == 200
        assert visitor.get("/sign-in").status == 200
    finally:
        portal.execute("ALTER TABLE away RENAME TO sessions")
    assert is_in(portal, visitor)


_PIECES = 'session= a=b ; session abc " = x_session=1 session=tok-1 é session="q" __Host-session=z'
_COOKIE_PIECES = st.sampled_from([*_PIECES.split(), "; ", " ", "\t", "session=; "])


@given(st.lists(_COOKIE_PIECES, max_size=8).map("".join))
def test_cookie_is_read_as_werkzeug_reads_it(header: str) -> None:
    environ = {"HTTP_COOKIE": header}
    reading = RowSessions(is_https=False)
    assert reading._token(environ) == cookies_of(environ).get("session")
