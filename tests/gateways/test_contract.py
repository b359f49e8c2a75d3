"""What every payment gateway does alike: saved methods, charges, refunds and what comes back."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateways.payments.base import (
    ChargeOrder,
    GatewayState,
    MethodOrder,
    MethodTruth,
    StartOrder,
)
from gateways.payments.errors import GatewayRefused, GatewayTimeout, GatewayUnknownKey
from gateways.payments.sandbox.client import SandboxInProcess
from gateways.payments.sandbox.faults import Fault
from gateways.payments.sandbox.methods import Behaviour
from gateways.payments.sandbox.store import Reversing, SandboxStore
from tests.gateways.desks import Desk, SandboxDesk, StripeDesk, state_in_time
from tests.gateways.fake_stripe import fake_stripe

_numbers = itertools.count(1)


@pytest.fixture(params=["sandbox", "sandbox in process", "stripe"])
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    if request.param == "sandbox":
        sandbox = request.getfixturevalue("sandbox")
        yield SandboxDesk(
            sandbox.gateway,
            sandbox.control,
            lambda fault: sandbox.control.set_next_faults([Fault(fault)]),
        )
    elif request.param == "stripe":
        with fake_stripe() as fake:
            yield StripeDesk(fake)
    else:
        store = SandboxStore(tmp_path / "bank.db", debit_seconds=0.2)
        yield SandboxDesk(SandboxInProcess(store), store, lambda _fault: None)
        store.close()


def to_save(**changes: Any) -> MethodOrder:
    number = next(_numbers)
    fields: dict[str, Any] = {
        "key": f"method-{number}",
        "return_url": f"http://127.0.0.1:8000/methods/{number}/return",
        "customer_reference": f"account-{number}",
        "gateway_customer": None,
        "language": "en",
    }
    return MethodOrder(**{**fields, **changes})


def saved(desk: Desk, kind: str = "card", **changes: Any) -> MethodTruth:
    order = to_save(**changes)
    desk.gateway.save_method(order)
    desk.save(order.key, kind)
    return desk.gateway.ask_method(order.key)


def to_charge(method: MethodTruth, **changes: Any) -> ChargeOrder:
    number = next(_numbers)
    assert method.reference is not None
    fields: dict[str, Any] = {
        "key": f"charge-{number}",
        "amount_minor": 4_250,
        "currency": "USD",
        "description": f"Account {number}",
        "method_reference": method.reference,
        "gateway_customer": method.gateway_customer,
        "customer_reference": method.customer_reference,
        "language": "en",
        "return_url": f"http://127.0.0.1:8000/pay/{number}/return",
    }
    return ChargeOrder(**{**fields, **changes})


def paid(desk: Desk) -> StartOrder:
    number = next(_numbers)
    order = StartOrder(
        key=f"contract-{number}",
        amount_minor=6_567,
        currency="USD",
        description=f"Account {number}",
        return_url=f"http://127.0.0.1:8000/pay/{number}/return",
        customer_reference=f"account-{number}",
        language="en",
    )
    desk.gateway.start(order)
    desk.pay(order.key)
    return order


# Saving ---------------------------------------------------------------------------------------


def test_a_method_is_saved_on_a_hosted_page(desk: Desk) -> None:
    order = to_save()
    started = desk.gateway.save_method(order)
    assert started.hosted_url.startswith(f"{desk.gateway.origin}/")
    before = desk.gateway.ask_method(order.key)
    assert (before.state, before.reference) == (GatewayState.PENDING, None)
    desk.save(order.key, "card")
    method = desk.gateway.ask_method(order.key)
    assert (method.state, method.kind) == (GatewayState.SUCCEEDED, "card")
    assert method.title == "Visa ending 4242"
    assert method.reference
    assert method.gateway_customer
    assert method.customer_reference == order.customer_reference
    assert method.expires_on is not None
    assert method.expires_on > datetime.now(UTC).date()
    assert (method.expires_on + timedelta(days=1)).day == 1


def test_a_bank_account_can_be_saved_too(desk: Desk) -> None:
    method = saved(desk, "bank")
    assert (method.state, method.kind) == (GatewayState.SUCCEEDED, "bank")
    assert method.title == "Bank account ending 6789"
    assert method.expires_on is None


def test_the_same_order_gives_the_same_page(desk: Desk) -> None:
    order = to_save()
    assert desk.gateway.save_method(order) == desk.gateway.save_method(order)
    with pytest.raises(GatewayRefused, match="key reused"):
        desk.gateway.save_method(replace(order, customer_reference="other"))


def test_a_second_method_stays_with_its_customer(desk: Desk) -> None:
    first = saved(desk)
    second = saved(
        desk,
        customer_reference=first.customer_reference,
        gateway_customer=first.gateway_customer,
    )
    assert second.gateway_customer == first.gateway_customer
    assert second.reference != first.reference


def test_a_bank_can_refuse_to_save(desk: Desk) -> None:
    order = to_save()
    desk.gateway.save_method(order)
    desk.refuse(order.key)
    truth = desk.gateway.ask_method(order.key)
    assert truth.state in (GatewayState.DECLINED, GatewayState.PENDING)
    assert truth.reference is None


def test_an_unknown_method_is_unknown(desk: Desk) -> None:
    with pytest.raises(GatewayUnknownKey):
        desk.gateway.ask_method("method-never-seen")


def test_a_forgotten_method_is_gone_for_good(desk: Desk) -> None:
    method = saved(desk)
    assert method.reference is not None
    for _ in range(2):
        desk.gateway.forget_method(method.reference)
    with pytest.raises(GatewayRefused, match="no method"):
        desk.gateway.charge(to_charge(method))


# Charging -------------------------------------------------------------------------------------


def test_a_card_is_charged_at_once_and_once(desk: Desk) -> None:
    method = saved(desk)
    order = to_charge(method)
    truth = desk.gateway.charge(order)
    assert (truth.state, truth.amount_minor, truth.currency) == (
        GatewayState.SUCCEEDED,
        4_250,
        "USD",
    )
    assert truth.customer_reference == order.customer_reference
    assert (truth.method, truth.hosted_url) == ("Visa ending 4242", "")
    assert desk.gateway.charge(order).reference == truth.reference
    assert desk.gateway.ask(order.key).reference == truth.reference
    assert desk.gateway.ask(order.key).state is GatewayState.SUCCEEDED


@pytest.mark.parametrize("change", [{"amount_minor": 1}, {"description": "other"}])
def test_a_charge_with_other_content_is_refused(desk: Desk, change: dict[str, Any]) -> None:
    order = to_charge(saved(desk))
    desk.gateway.charge(order)
    with pytest.raises(GatewayRefused, match="key reused"):
        desk.gateway.charge(replace(order, **change))
    assert desk.gateway.ask(order.key).amount_minor == order.amount_minor


def test_twenty_charges_at_once_take_the_money_once(desk: Desk) -> None:
    order = to_charge(saved(desk))

    def charge(_: int) -> str | None:
        for _attempt in range(50):
            try:
                return desk.gateway.charge(order).reference
            except GatewayTimeout:
                continue
        raise AssertionError("it never answers")

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(charge, range(20)))) == 1
    listed = [each for each in desk.gateway.list_since(_long_ago()) if each.key == order.key]
    assert len(listed) == 1


def test_a_card_that_declines_says_why(desk: Desk) -> None:
    method = saved(desk)
    assert method.reference is not None
    desk.let(method.reference, Behaviour.DECLINES)
    order = to_charge(method)
    truth = desk.gateway.charge(order)
    assert truth.state is GatewayState.DECLINED
    assert truth.decline_reason
    assert desk.gateway.ask(order.key).state is GatewayState.DECLINED


def test_an_expired_card_is_declined_and_says_when(desk: Desk) -> None:
    order = to_save()
    desk.gateway.save_method(order)
    desk.save(order.key, "card")
    method = desk.gateway.ask_method(order.key)
    assert method.reference is not None
    desk.let(method.reference, Behaviour.EXPIRES)
    again = desk.gateway.ask_method(order.key)
    assert again.expires_on is not None
    assert again.expires_on < datetime.now(UTC).date()
    assert desk.gateway.charge(to_charge(method)).state is GatewayState.DECLINED


def test_a_charge_may_wait_for_its_customer(desk: Desk) -> None:
    method = saved(desk)
    assert method.reference is not None
    desk.let(method.reference, Behaviour.CONFIRMS)
    order = to_charge(method)
    truth = desk.gateway.charge(order)
    assert truth.state is GatewayState.PENDING
    assert truth.hosted_url.startswith(f"{desk.gateway.origin}/")
    assert desk.gateway.ask(order.key).hosted_url == truth.hosted_url
    desk.confirm(order.key)
    after = desk.gateway.ask(order.key)
    assert (after.state, after.hosted_url) == (GatewayState.SUCCEEDED, "")


def test_a_charge_that_waits_can_be_cancelled(desk: Desk) -> None:
    method = saved(desk)
    assert method.reference is not None
    desk.let(method.reference, Behaviour.CONFIRMS)
    order = to_charge(method)
    desk.gateway.charge(order)
    assert desk.gateway.cancel(order.key).state is GatewayState.CANCELLED
    after = desk.gateway.ask(order.key)
    assert after.state in (GatewayState.CANCELLED, GatewayState.EXPIRED)
    assert after.hosted_url == ""


def test_a_bank_debit_is_on_its_way_first(desk: Desk) -> None:
    order = to_charge(saved(desk, "bank"))
    truth = desk.gateway.charge(order)
    assert truth.state is GatewayState.PROCESSING
    assert truth.method == "Bank account ending 6789"
    assert state_in_time(desk.gateway, order.key, GatewayState.SUCCEEDED)


def test_a_bank_debit_may_fail_later(desk: Desk) -> None:
    method = saved(desk, "bank")
    assert method.reference is not None
    desk.let(method.reference, Behaviour.DECLINES)
    order = to_charge(method)
    assert desk.gateway.charge(order).state is GatewayState.PROCESSING
    assert state_in_time(desk.gateway, order.key, GatewayState.DECLINED)


def test_nobody_elses_method_is_charged(desk: Desk) -> None:
    method = saved(desk)
    with pytest.raises(GatewayRefused, match="no method"):
        desk.gateway.charge(replace(to_charge(method), method_reference="pm_never"))


over_a_line = pytest.mark.parametrize("desk", ["sandbox", "stripe"], indirect=True)
"""Nothing is lost in process."""


@over_a_line
def test_a_lost_answer_leaves_one_charge(desk: Desk) -> None:
    order = to_charge(saved(desk))
    desk.lose_answer()
    with pytest.raises(GatewayTimeout):
        desk.gateway.charge(order)
    truth = desk.gateway.ask(order.key)
    assert truth.state is GatewayState.SUCCEEDED
    assert desk.gateway.charge(order).reference == truth.reference


@over_a_line
def test_a_lost_question_leaves_none(desk: Desk) -> None:
    order = to_charge(saved(desk))
    desk.lose_question()
    with pytest.raises(GatewayTimeout):
        desk.gateway.charge(order)
    with pytest.raises(GatewayUnknownKey):
        desk.gateway.ask(order.key)


# What goes back -------------------------------------------------------------------------------


def test_a_refund_can_be_asked_for(desk: Desk) -> None:
    order = paid(desk)
    with pytest.raises(GatewayUnknownKey):
        desk.gateway.ask_refund(order.key, f"{order.key}-back")
    made = desk.gateway.refund(order.key, f"{order.key}-back", 567)
    assert made.state is GatewayState.SUCCEEDED
    assert desk.gateway.ask_refund(order.key, f"{order.key}-back") == made
    assert desk.gateway.refund(order.key, f"{order.key}-back", 567) == made
    with pytest.raises(GatewayRefused, match="too much"):
        desk.gateway.refund(order.key, f"{order.key}-more", 6_001)
    listed = {each.key: each for each in desk.gateway.list_since(_long_ago())}
    assert listed[order.key].refunded_minor == 567


def test_a_payment_is_charged_back_and_won(desk: Desk) -> None:
    order = paid(desk)
    assert desk.gateway.list_reversals(order.key) == []
    desk.reverse(order.key, Reversing.CHARGEBACK)
    [back] = desk.gateway.list_reversals(order.key)
    assert (back.kind, back.amount_minor, back.currency, back.state) == (
        "chargeback",
        6_567,
        "USD",
        GatewayState.SUCCEEDED,
    )
    assert abs(back.happened_at - datetime.now(UTC)) < timedelta(minutes=1)
    desk.reverse(order.key, Reversing.CHARGEBACK_WON)
    first, won = desk.gateway.list_reversals(order.key)
    assert first == back
    assert (won.kind, won.amount_minor) == ("chargeback_won", 6_567)
    assert won.reference != back.reference


def test_a_debit_is_returned(desk: Desk) -> None:
    order = to_charge(saved(desk, "bank"))
    desk.gateway.charge(order)
    assert state_in_time(desk.gateway, order.key, GatewayState.SUCCEEDED)
    desk.reverse(order.key, Reversing.RETURN)
    [returned] = desk.gateway.list_reversals(order.key)
    assert (returned.kind, returned.amount_minor) == ("return", order.amount_minor)
    listed = {each.key: each for each in desk.gateway.list_since(_long_ago())}
    assert listed[order.key].reversed_minor == order.amount_minor


def test_a_refund_that_had_arrived_is_sent_back(desk: Desk) -> None:
    order = paid(desk)
    assert desk.gateway.list_refunds(order.key) == []
    kept = desk.gateway.refund(order.key, f"{order.key}-kept", 67)
    made = desk.gateway.refund(order.key, f"{order.key}-back", 500)
    desk.reverse(order.key, Reversing.REFUND_FAILED)
    failed = desk.gateway.ask_refund(order.key, f"{order.key}-back")
    assert (failed.state, failed.reference) == (GatewayState.DECLINED, made.reference)
    assert failed.decline_reason
    listed = {refund.reference: refund for refund in desk.gateway.list_refunds(order.key)}
    assert listed == {kept.reference: kept, made.reference: failed}
    assert desk.gateway.list_reversals(order.key) == []
    [whole] = [each for each in desk.gateway.list_since(_long_ago()) if each.key == order.key]
    assert whole.refunded_minor == 67


def test_nothing_of_an_unknown_payment_came_back(desk: Desk) -> None:
    for asked in (desk.gateway.list_reversals, desk.gateway.list_refunds):
        with pytest.raises(GatewayUnknownKey):
            asked("never-seen")


def _long_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)
