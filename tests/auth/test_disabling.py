"""A hundred failures in a row switch a password off until recovery lifts that (bar 5)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from blueprints.auth import disabling, service
from blueprints.auth.errors import SignInRefused
from blueprints.auth.service import Browser, SignInRules
from core.db import unit_of_work
from tests.conftest import Portal, together
from tests.factors import told
from tests.page import Visitor

WRONG = "wrong-lantern-orbit-47"
FAILED = "SELECT failed_in_a_row FROM customers WHERE sign_in_id = 'alice'"
DISABLED = "SELECT password_disabled_at FROM customers WHERE sign_in_id = 'alice'"


def fail(portal: Portal, tick: Callable[..., None], times: int) -> Visitor:
    visitor = portal.visitor()
    for _ in range(times):
        assert visitor.sign_in("alice", WRONG).status == 422
        tick(minutes=15)
    return visitor


def test_hundred_failures_in_a_row_switch_the_password_off(
    portal: Portal, tick: Callable[..., None]
) -> None:
    phone = portal.visitor("alice")
    phone.submit(phone.get(portal.path()), "/sign-out")
    portal.execute("UPDATE customers SET failed_in_a_row = 90 WHERE sign_in_id = 'alice'")
    fail(portal, tick, 9)
    assert portal.one(DISABLED) is None
    assert told(portal) == []
    visitor = fail(portal, tick, 1)
    assert told(portal) == [("alice@example.net", "password_disabled")]
    wrong = visitor.sign_in("alice", WRONG).response
    tick(minutes=15)
    right = visitor.sign_in("alice").response
    assert (right.status_code, right.data) == (wrong.status_code, wrong.data)
    assert phone.sign_in("alice").status == 422  # from a device seen before too
    assert told(portal) == [("alice@example.net", "password_disabled")]
    kinds = "SELECT count(*) FROM activity WHERE kind = 'password_disabled'"
    assert portal.one(kinds) == 1


def test_right_password_begins_to_count_anew(portal: Portal, tick: Callable[..., None]) -> None:
    portal.execute("UPDATE customers SET failed_in_a_row = 98 WHERE sign_in_id = 'alice'")
    visitor = fail(portal, tick, 1)
    assert visitor.sign_in("alice").status == 303
    assert portal.one(FAILED) == 0
    fail(portal, tick, 1)
    assert portal.one(FAILED) == 1


def test_failures_of_all_names_and_at_the_step_up_count(
    portal: Portal, tick: Callable[..., None]
) -> None:
    visitor = portal.visitor("alice")
    for name in ("alice", "alice@example.net"):
        portal.visitor().sign_in(name, WRONG)
        tick(minutes=15)
    visitor.submit(visitor.get("/confirm"), "/confirm", password=WRONG)
    assert portal.one(FAILED) == 3


def test_tries_that_are_not_looked_at_do_not_count(portal: Portal) -> None:
    visitor = portal.visitor()
    visitor.sign_in("alice", WRONG)
    assert visitor.sign_in("alice", WRONG).status == 429
    assert portal.one(FAILED) == 1


def test_failures_at_once_are_counted_one_by_one(portal: Portal) -> None:
    customer_id = portal.world.customers["alice"]

    def one(_number: int) -> None:
        with portal.app.app_context():
            unit_of_work(disabling.counting(customer_id, is_right=False))

    assert together(50, one) == [None] * 50
    assert portal.one(FAILED) == 50
    together(50, one)
    assert portal.one(DISABLED) is not None
    assert told(portal) == [("alice@example.net", "password_disabled")]


def test_step_up_takes_no_password_that_is_switched_off(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    portal.execute("UPDATE customers SET password_disabled_at = '2026-06-20 19:00:00'")
    page = visitor.get("/confirm")
    assert visitor.submit(page, "/confirm", password="quiet-lantern-orbit-47").status == 422


def test_lifting_lets_the_password_count_again(portal: Portal) -> None:
    customer_id = portal.world.customers["alice"]
    with portal.app.app_context():
        for _ in range(100):
            unit_of_work(disabling.counting(customer_id, is_right=False))
        assert portal.visitor().sign_in("alice").status == 422
        unit_of_work(lambda session: disabling.lift(session, customer_id))
    assert portal.one(FAILED) == 0
    assert portal.visitor().sign_in("alice@example.net").status == 303


def test_page_that_asks_to_wait_offers_recovery(portal: Portal) -> None:
    visitor = portal.visitor()
    visitor.sign_in("alice", WRONG)
    page = visitor.sign_in("alice", WRONG)
    assert page.status == 429
    assert page.select("a[href='/recover']")


def test_password_that_was_found_right_just_before_opens_nothing_once_disabled(
    portal: Portal,
) -> None:
    """Looking at a password takes a while, in which its owner may close everything."""
    settings = portal.settings
    rules = SignInRules(settings.secret, settings.data, ())
    customer_id, browser = portal.world.customers["alice"], Browser("127.0.0.1", "", None, None)
    portal.execute("UPDATE customers SET password_disabled_at = created_at")
    with portal.app.app_context(), pytest.raises(SignInRefused):
        service.open_for(customer_id, browser, rules)
    assert portal.one("SELECT count(*) FROM sessions") == 0
