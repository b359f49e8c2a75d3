"""A line held for what is unpaid opens for a quarter of an hour when its customer presses Pay."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateways.network.base import NetworkState
from models import HoldReason
from tests.conftest import Portal
from tests.lines.conftest import Street
from tests.page import Page


def press_pay(street: Street) -> Page:
    alice = street.portal.visitor("alice")
    return alice.submit(alice.get(street.portal.path()), "/pay", choice="balance")


def give_up(street: Street) -> None:
    """End the payment that is under way, so that another can be begun."""
    street.portal.execute(
        "UPDATE payments SET state = 'cancelled', ask_at = NULL WHERE state = 'sent'"
    )


@pytest.fixture
def held(street: Street) -> Street:
    street.hold()
    street.sync()
    assert street.reached() is NetworkState.HELD
    return street


def home(portal: Portal) -> str:
    return portal.visitor("alice").get(portal.path()).text


def test_pressing_pay_opens_the_line_for_fifteen_minutes(
    held: Street, tick: Callable[..., None]
) -> None:
    assert "Pressing Pay opens it for fifteen minutes" in home(held.portal)
    assert press_pay(held).status == 303
    held.sync()
    assert held.reached() is NetworkState.OPEN
    assert "Your internet is open until 12:15 PM, so that you can pay" in home(held.portal).replace(
        "\u202f", " "
    )
    tick(minutes=14)
    assert held.sync() == 0
    tick(minutes=1)
    assert held.sync() == 1
    assert held.reached() is NetworkState.HELD
    assert "Your internet is open until" not in home(held.portal)
    assert held.portal.one("SELECT count(*) FROM messages WHERE kind = 'line_open'") == 0


def test_line_opens_twice_a_day_and_again_the_next(held: Street, tick: Callable[..., None]) -> None:
    for opened in (NetworkState.OPEN, NetworkState.OPEN, NetworkState.HELD):
        press_pay(held)
        held.sync()
        assert held.reached() is opened
        give_up(held)
        tick(minutes=20)
        held.sync()
    assert "Pressing Pay opens" not in home(held.portal)
    tick(hours=12)  # past midnight at the ISP
    press_pay(held)
    held.sync()
    assert held.reached() is NetworkState.OPEN


def test_going_on_with_a_payment_opens_it_too(held: Street, tick: Callable[..., None]) -> None:
    press_pay(held)
    tick(minutes=20)
    held.sync()
    held.sync()
    alice = held.portal.visitor("alice")
    [(public_id,)] = held.portal.rows("SELECT public_id FROM payments WHERE state = 'sent'")
    page = alice.get(held.portal.path(f"billing/payments/{public_id}"))
    alice.submit(page, "/continue")
    held.sync()
    assert held.reached() is NetworkState.OPEN


def test_form_that_arrives_twice_opens_once(held: Street) -> None:
    alice = held.portal.visitor("alice")
    page = alice.get(held.portal.path())
    for _time in range(2):
        alice.submit(page, "/pay", choice="balance")
    assert held.portal.one("SELECT count(*) FROM line_openings") == 1


@pytest.mark.parametrize("reason", [HoldReason.ABUSE, HoldReason.STAFF])
def test_line_that_is_held_for_more_stays_off(street: Street, reason: HoldReason) -> None:
    street.hold()
    street.hold(reason)
    street.sync()
    assert "Pressing Pay opens" not in home(street.portal)
    press_pay(street)
    street.sync()
    assert street.reached() is NetworkState.HELD


def test_line_that_is_open_to_pay_is_closed_at_once_for_another_reason(held: Street) -> None:
    press_pay(held)
    held.sync()
    assert held.reached() is NetworkState.OPEN
    held.hold(HoldReason.ABUSE)
    assert held.sync() == 1
    assert held.reached() is NetworkState.HELD


def test_line_that_is_not_held_needs_no_opening(street: Street) -> None:
    press_pay(street)
    assert street.portal.one("SELECT count(*) FROM line_openings") == 0


def test_paying_while_it_is_open_leaves_it_open_and_says_so(
    held: Street, tick: Callable[..., None]
) -> None:
    press_pay(held)
    held.sync()
    held.release()
    held.sync()
    tick(minutes=20)
    held.sync()
    assert held.reached() is NetworkState.OPEN
    assert held.portal.one("SELECT count(*) FROM messages WHERE kind = 'line_open'") == 1
    assert "Your line is open again" in home(held.portal)
