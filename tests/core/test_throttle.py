"""Limits on guessing, as the service counts them (bars 5 and 7)."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_network

import pytest
from sqlalchemy import text

from core import clock, throttle
from core.db import db, unit_of_work
from core.throttle import TooManyAttempts, network_of, subject_of
from tests.conftest import Portal, together

pytestmark = pytest.mark.usefixtures("ctx")

HERE = "192.0.2.1"


def subject(name: str) -> bytes:
    return subject_of(b"k" * 64, name)


def begin(
    name: str = "alice", address: str = HERE, *, shared: str = "", is_known_device: bool = False
) -> throttle.Attempt:
    networks = [ip_network(shared)] if shared else []
    return throttle.begin(subject(name), address, networks, is_known_device=is_known_device)


def fail(name: str = "alice", address: str = HERE, *, is_known_device: bool = False) -> None:
    throttle.end(begin(name, address, is_known_device=is_known_device), has_passed=False)


def waits(name: str = "alice", address: str = HERE, **more: object) -> int:
    """Seconds until the next try, 0 when there may be one now (which is then counted)."""
    try:
        begin(name, address, **more)  # type: ignore[arg-type]
    except TooManyAttempts as refused:
        return refused.retry_after_seconds
    return 0


# One account ---------------------------------------------------------------------------------


def test_delay_doubles_from_a_second_to_fifteen_minutes(tick: Callable[..., None]) -> None:
    for seconds in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900):
        fail()
        tick(seconds=seconds - 0.5)
        assert waits() == 1
        tick(seconds=0.5)


def test_right_password_forgives_the_failures_before_it(tick: Callable[..., None]) -> None:
    for _ in range(5):
        fail()
        tick(minutes=1)
    throttle.end(begin(), has_passed=True)
    fail()
    assert waits() == 1


def test_ten_tries_that_are_still_being_checked_are_all_there_are(
    tick: Callable[..., None],
) -> None:
    for _ in range(10):
        begin()
        tick(seconds=10)
    assert waits() == 300 - 100
    tick(seconds=200)
    assert waits() == 0
    assert waits() == 10


def test_refused_tries_do_not_count(tick: Callable[..., None]) -> None:
    fail()
    for _ in range(50):
        assert waits() == 1
    tick(seconds=1)
    assert waits() == 0


def test_withdrawn_try_does_not_count() -> None:
    for _ in range(30):
        throttle.withdraw(begin())
    assert waits() == 0


def test_limits_are_of_one_account() -> None:
    fail("alice")
    assert waits("bob") == 0


def test_id_is_the_same_however_it_is_written() -> None:
    assert subject("Alice") == subject(" alice ") != subject("bob")


def test_table_names_nobody(ctx: Portal) -> None:
    fail("alice@example.net")
    [row] = ctx.rows("SELECT * FROM sign_in_attempts")
    assert "alice" not in repr(row)
    assert subject_of(b"other" * 20, "alice") != subject("alice")


# Two names of one customer -------------------------------------------------------------------


def checked(name: str, other: str, address: str = HERE) -> bool | None:
    """Whether the password of a try may be looked at; None when the try is refused."""
    try:
        return throttle.begin(
            subject(name), address, (), is_known_device=False, twin=subject(other)
        ).may_be_checked
    except TooManyAttempts:
        return None


def test_two_names_of_a_customer_get_ten_passwords_checked_together() -> None:
    by_id = [checked("alice", "alice@example.net") for _ in range(11)]
    by_mail = [checked("alice@example.net", "alice") for _ in range(11)]
    assert by_id == [True] * 10 + [None]
    assert by_mail == [False] * 10 + [None]


def test_what_is_refused_follows_from_each_name_alone(tick: Callable[..., None]) -> None:
    # The same answers for two names of one customer as for two names of nobody.
    def answers(name: str, other: str, twin: str) -> list[bool]:
        found = []
        for number in range(14):
            for each, of in ((name, twin), (other, name if twin == other else "x" + other)):
                found.append(checked(each, of, f"192.0.2.{number}") is not None)
            tick(seconds=7 * number)
        return found

    assert answers("alice", "alice@x", "alice@x") == answers("zoe", "zoe@x", "xzoe")


def test_other_name_is_checked_again_after_the_window(tick: Callable[..., None]) -> None:
    for _ in range(10):
        checked("alice", "alice@example.net")
    tick(seconds=299)
    assert checked("alice@example.net", "alice") is False
    tick(seconds=1)
    assert checked("alice@example.net", "alice") is True


def test_of_forty_tries_under_two_names_at_once_ten_are_checked(ctx: Portal) -> None:
    names = ("alice", "alice@example.net")

    def work(number: int) -> bool | None:
        with ctx.app.app_context():
            return checked(names[number % 2], names[1 - number % 2], f"192.0.2.{number}")

    results = together(40, work)
    assert results.count(True) == 10
    assert results.count(False) == 10


# One address ---------------------------------------------------------------------------------


def test_address_may_try_ten_accounts_in_five_minutes(tick: Callable[..., None]) -> None:
    for number in range(10):
        fail(f"customer-{number}")
        tick(seconds=2)
    assert waits("customer-11") == 280
    assert waits("customer-0") == 0  # one of the ten
    tick(seconds=282)
    assert waits("customer-11") == 0


def test_another_address_is_not_concerned() -> None:
    for number in range(10):
        fail(f"customer-{number}")
    assert waits("customer-11") > 0
    assert waits("customer-11", "192.0.2.2") == 0


def test_accounts_that_were_signed_in_to_do_not_count() -> None:
    for number in range(30):
        throttle.end(begin(f"customer-{number}"), has_passed=True)
    assert waits("customer-31") == 0


def test_ipv6_counts_by_64(tick: Callable[..., None]) -> None:
    for number in range(10):
        fail(f"customer-{number}", f"2001:db8:1:2::{number:x}")
    assert waits("customer-11", "2001:db8:1:2:ffff::1") > 0
    assert waits("customer-11", "2001:db8:1:3::1") == 0


@pytest.mark.parametrize(
    ("shared", "address"), [("100.64.0.0/10", "100.64.7.7"), ("2001:db8::/32", "2001:db8:9::1")]
)
def test_shared_network_may_try_two_hundred(shared: str, address: str) -> None:
    network, now = network_of(address), clock.now()

    def work(session) -> None:
        for number in range(199):
            session.execute(
                text(
                    "INSERT INTO sign_in_attempts (subject, network, state, tried_at) "
                    "VALUES (:subject, :network, 'failed', :now)"
                ).bindparams(subject=subject(f"c-{number}"), network=network, now=now)
            )

    unit_of_work(work)
    assert waits("one-more", address) > 0  # it would be, were it not shared
    assert waits("customer-200", address, shared=shared) == 0
    assert waits("customer-201", address, shared=shared) == 300
    assert waits("customer-201", "198.51.100.1", shared=shared) == 0


def test_known_device_is_not_held_up_by_its_network() -> None:
    for number in range(10):
        fail(f"customer-{number}")
    assert waits("alice\0device") > 0
    assert waits("alice\0device", is_known_device=True) == 0


def test_known_device_has_limits_too() -> None:
    fail("alice\0device", is_known_device=True)
    assert waits("alice\0device", is_known_device=True) == 1


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("192.0.2", "unknown"),
        ("' OR 1=1", "unknown"),
    ],
)
def test_network_of_an_address(address: str, network: str) -> None:
    assert network_of(address) == network


def test_address_that_makes_no_sense_is_limited_as_one() -> None:
    for number in range(10):
        fail(f"customer-{number}", "")
    assert waits("customer-11", "nonsense", shared="0.0.0.0/0") > 0


# Together ------------------------------------------------------------------------------------


def test_of_fifty_tries_at_once_ten_pass(ctx: Portal) -> None:
    def work(_number: int) -> throttle.Attempt:
        with ctx.app.app_context():
            return begin(address=f"192.0.2.{_number}")

    results = together(50, work)
    assert sum(isinstance(each, throttle.Attempt) for each in results) == 10
    assert sum(isinstance(each, TooManyAttempts) for each in results) == 40


def test_of_thirty_accounts_tried_at_once_ten_pass(ctx: Portal) -> None:
    def work(number: int) -> throttle.Attempt:
        with ctx.app.app_context():
            return begin(f"customer-{number}")

    results = together(30, work)
    assert sum(isinstance(each, throttle.Attempt) for each in results) == 10
    assert sum(isinstance(each, TooManyAttempts) for each in results) == 20


def test_old_tries_are_deleted_when_no_limit_looks_at_them(tick: Callable[..., None]) -> None:
    fail()
    tick(days=2)
    assert unit_of_work(lambda session: throttle.delete_old(session, clock.now())) == 0
    tick(seconds=1)
    assert unit_of_work(lambda session: throttle.delete_old(session, clock.now())) == 1
    assert db.session.scalar(text("SELECT count(*) FROM sign_in_attempts")) == 0
