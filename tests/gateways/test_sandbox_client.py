"""The portal's side of the sandbox over real HTTP: idempotency, refusals and faults."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from gateways.outbound import AllowedOrigin, OutboundClient
from gateways.payments.base import GatewayState
from gateways.payments.errors import (
    GatewayError,
    GatewayRefused,
    GatewayTimeout,
    GatewayUnknownKey,
)
from gateways.payments.sandbox.client import SandboxGateway
from gateways.payments.sandbox.faults import Fault, FaultPlan
from gateways.payments.sandbox.secrets import SandboxSecrets
from gateways.payments.sandbox.store import Decision


def is_known(gateway, key) -> bool:
    try:
        gateway.ask(key)
    except GatewayUnknownKey:
        return False
    return True


def test_start_leads_to_a_page_at_the_gateways_origin(sandbox, order):
    started = sandbox.gateway.start(order)
    assert sandbox.gateway.origin == sandbox.url
    assert started.hosted_url.startswith(f"{sandbox.gateway.origin}/pay/")
    assert sandbox.gateway.ask(order.key).reference == started.reference


def test_the_same_start_again_gives_the_same_answer(sandbox, order):
    assert sandbox.gateway.start(order) == sandbox.gateway.start(order)


def test_fifty_starts_at_once_make_one_payment(sandbox, order):
    with ThreadPoolExecutor(16) as pool:
        answers = set(pool.map(lambda _: sandbox.gateway.start(order), range(50)))
    assert len(answers) == 1
    assert [book.key for book in sandbox.control.list_books()].count(order.key) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"amount_minor": 1},
        {"currency": "EUR"},
        {"description": "other"},
        {"return_url": "http://127.0.0.1/other"},
        {"customer_reference": "other"},
        {"language": "de"},
    ],
)
def test_the_same_key_with_other_content_is_refused(sandbox, order, change):
    sandbox.gateway.start(order)
    with pytest.raises(GatewayRefused, match="key reused"):
        sandbox.gateway.start(replace(order, **change))
    assert sandbox.gateway.ask(order.key).amount_minor == order.amount_minor


@pytest.mark.parametrize(
    "change",
    [
        {"amount_minor": 0},
        {"amount_minor": -5},
        {"amount_minor": 10**12},
        {"currency": "usd"},
        {"return_url": "javascript:alert(1)"},
        {"return_url": "http://a;b/"},
        {"return_url": "/relative"},
        {"return_url": "http://[::1"},
        {"description": "x" * 501},
        {"key": "with space"},
    ],
)
def test_an_impossible_order_is_refused(sandbox, make_order, change):
    with pytest.raises(GatewayRefused, match="bad request"):
        sandbox.gateway.start(make_order(**change))


def test_asking_for_a_key_that_was_never_seen(sandbox):
    for call in (sandbox.gateway.ask, sandbox.gateway.cancel):
        with pytest.raises(GatewayUnknownKey):
            call("never-seen/?&=key")
    with pytest.raises(GatewayUnknownKey):
        sandbox.gateway.refund("never-seen", "refund", 1)


def test_cancel_ends_an_open_payment_once(sandbox, order):
    url = sandbox.gateway.start(order).hosted_url
    assert sandbox.gateway.cancel(order.key).state is GatewayState.CANCELLED
    assert sandbox.gateway.cancel(order.key).state is GatewayState.CANCELLED
    sandbox.choose(url, "pay")
    assert sandbox.gateway.ask(order.key).state is GatewayState.CANCELLED


def test_cancel_of_a_paid_payment_says_so(sandbox, order):
    sandbox.gateway.start(order)
    sandbox.control.decide(order.key, Decision.PAY)
    assert sandbox.gateway.cancel(order.key).state is GatewayState.SUCCEEDED


def test_refunds_are_made_once_and_never_exceed_the_payment(sandbox, order):
    sandbox.gateway.start(order)
    with pytest.raises(GatewayRefused, match="not paid"):
        sandbox.gateway.refund(order.key, f"{order.key}-early", 100)
    sandbox.control.decide(order.key, Decision.PAY)
    refund = sandbox.gateway.refund(order.key, f"{order.key}-a", 6000)
    assert refund == sandbox.gateway.refund(order.key, f"{order.key}-a", 6000)
    assert (refund.state, refund.amount_minor) == (GatewayState.SUCCEEDED, 6000)
    with pytest.raises(GatewayRefused, match="key reused"):
        sandbox.gateway.refund(order.key, f"{order.key}-a", 5000)
    with pytest.raises(GatewayRefused, match="too much"):
        sandbox.gateway.refund(order.key, f"{order.key}-b", 568)
    sandbox.gateway.refund(order.key, f"{order.key}-c", 567)
    book = next(book for book in sandbox.control.list_books() if book.key == order.key)
    assert book.refunded_minor == order.amount_minor


def test_two_refunds_at_once_cannot_both_take_the_rest(sandbox, order):
    sandbox.gateway.start(order)
    sandbox.control.decide(order.key, Decision.PAY)

    def refund(number: int) -> bool:
        try:
            sandbox.gateway.refund(order.key, f"{order.key}-{number}", 4000)
        except GatewayRefused:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(refund, range(8))) == {True: 1, False: 7}


@pytest.mark.parametrize(
    ("fault", "is_accepted"),
    [
        (Fault.DROP_BEFORE, False),
        (Fault.DROP_AFTER, True),
        (Fault.CUT_BODY, True),
        (Fault.ERROR_500, False),
        (Fault.ERROR_500_AFTER, True),
        (Fault.CONFLICT_409, False),
    ],
)
def test_a_fault_leaves_the_outcome_open_until_asked(sandbox, order, fault, is_accepted):
    sandbox.control.set_next_faults([fault])
    with pytest.raises(GatewayTimeout):
        sandbox.gateway.start(order)
    assert is_known(sandbox.gateway, order.key) == is_accepted
    assert sandbox.gateway.start(order).hosted_url
    assert [book.key for book in sandbox.control.list_books()].count(order.key) == 1


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.HANG_BEFORE])
def test_a_call_that_hangs_is_given_up(sandbox, order, fault):
    hasty = OutboundClient(
        [AllowedOrigin.from_url(sandbox.url, is_loopback_demo=True)], total_seconds=0.5
    )
    sandbox.control.set_next_faults([fault], hang_seconds=60)
    with pytest.raises(GatewayTimeout):
        SandboxGateway(sandbox.url, sandbox.secrets, outbound=hasty).start(order)
    assert is_known(sandbox.gateway, order.key) == (fault is Fault.HANG)
    assert sandbox.gateway.start(order).hosted_url


def test_a_wrong_api_key_is_no_answer_about_the_payment(sandbox, order):
    sandbox.gateway.start(order)
    stranger = SandboxGateway(sandbox.url, SandboxSecrets.of(["x" * 40]))
    for call in (lambda: stranger.start(order), lambda: stranger.ask(order.key)):
        with pytest.raises(GatewayTimeout, match="401"):
            call()


def test_a_server_that_is_not_there_was_sent_nothing(sandbox, order):
    with pytest.raises(GatewayTimeout) as timeout:
        SandboxGateway("http://localhost:1", sandbox.secrets).start(order)
    assert not timeout.value.was_sent


def test_a_seeded_storm_of_faults_ends_with_equal_books(sandbox, make_order):
    """Bar 55 in small: whatever goes wrong, asking and repeating end in 0 or 1 charges each."""
    kinds = tuple(fault for fault in Fault if "hang" not in fault)
    calls = ("start", "ask", "cancel", "refund")
    sandbox.control.set_fault_plan(FaultPlan(seed=7, rate=0.4, kinds=kinds, calls=calls))
    orders = [make_order(amount_minor=100 + number) for number in range(120)]

    def insist(call, *arguments):
        for _ in range(60):
            try:
                return call(*arguments)
            except GatewayTimeout:
                continue
        raise AssertionError("the storm never ends")

    def pay(number: int) -> tuple[GatewayState, int]:
        order = orders[number]
        insist(sandbox.gateway.start, order)
        if number % 3 == 0:
            return insist(sandbox.gateway.cancel, order.key).state, 0
        sandbox.control.decide(order.key, Decision.PAY)
        if number % 3 == 1:
            insist(sandbox.gateway.refund, order.key, f"{order.key}-back", 50)
        return insist(sandbox.gateway.ask, order.key).state, 50 if number % 3 == 1 else 0

    with ThreadPoolExecutor(8) as pool:
        ours = list(pool.map(pay, range(len(orders))))
    books = {book.key: book for book in sandbox.control.list_books()}
    theirs = [(books[order.key].state, books[order.key].refunded_minor) for order in orders]
    assert ours == theirs
    assert Counter(state for state, _ in ours) == {
        GatewayState.CANCELLED: 40,
        GatewayState.SUCCEEDED: 80,
    }


def test_faults_that_make_no_sense_are_refused(sandbox):
    for fields in ({"next": ["explode"]}, {"plan": {"rate": "much"}}, {"hang_seconds": 10**6}):
        with pytest.raises(RuntimeError, match="422"):
            sandbox.control._call("POST", "/v1/faults", fields)


def test_every_failure_is_a_gateway_error():
    for error in (GatewayTimeout, GatewayRefused, GatewayUnknownKey):
        assert issubclass(error, GatewayError)


def test_list_names_what_was_begun_or_ended_since(sandbox, make_order) -> None:
    old, paid, refunded = make_order(), make_order(), make_order()
    for order in (old, paid, refunded):
        sandbox.gateway.start(order)
    sandbox.control.decide(old.key, Decision.DECLINE)
    began = datetime.now(UTC)
    for order in (paid, refunded):
        sandbox.control.decide(order.key, Decision.PAY)
    sandbox.gateway.refund(refunded.key, "give-back", 100)
    late = make_order()
    sandbox.gateway.start(late)
    listed = {each.key: each for each in sandbox.gateway.list_since(began)}
    assert set(listed) == {paid.key, refunded.key, late.key}
    assert listed[paid.key].truth == sandbox.gateway.ask(paid.key)
    assert listed[paid.key].return_url == paid.return_url
    assert listed[paid.key].created_at < began <= listed[paid.key].changed_at
    assert [listed[key].refunded_minor for key in (paid.key, refunded.key)] == [0, 100]


def test_list_is_read_page_by_page(sandbox, make_order, monkeypatch) -> None:
    began = datetime.now(UTC)
    keys = [make_order().key for _ in range(101)]
    for key in keys:
        sandbox.gateway.start(make_order(key=key))
    assert [each.key for each in sandbox.gateway.list_since(began)] == keys


def test_list_that_does_not_come_is_a_time_out(sandbox) -> None:
    sandbox.control.set_fault_plan(FaultPlan(1, 1.0, (Fault.CUT_BODY,), ("list",)))
    with pytest.raises(GatewayTimeout):
        list(sandbox.gateway.list_since(datetime.now(UTC)))
