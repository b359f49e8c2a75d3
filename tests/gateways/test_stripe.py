"""Stripe, as our fake of it behaves: what is its own beside what every gateway does alike."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe

from gateways.payments.base import GatewayState
from gateways.payments.errors import (
    GatewayRefused,
    GatewayTimeout,
    GatewayUnknownKey,
    NoticeRejected,
)
from gateways.payments.sandbox.faults import Fault, FaultPlan
from gateways.payments.sandbox.methods import Behaviour
from gateways.payments.sandbox.store import Reversing
from gateways.payments.signatures import MAX_NOTICE_BYTES, signature_header
from gateways.payments.stripe import reading
from tests.gateways.desks import StripeDesk
from tests.gateways.fake_stripe import FakeStripe, fake_stripe
from tests.gateways.test_contract import paid, saved, to_charge, to_save

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def fake() -> Iterator[FakeStripe]:
    with fake_stripe() as served:
        yield served


@pytest.fixture
def desk(fake: FakeStripe) -> StripeDesk:
    return StripeDesk(fake)


# The hosted page ------------------------------------------------------------------------------


def test_a_start_leads_to_checkout_and_its_answer_is_asked_for(
    desk: StripeDesk, make_order
) -> None:
    order = make_order()
    started = desk.gateway.start(order)
    assert started == desk.gateway.start(order)
    assert started.hosted_url.startswith(f"{desk.gateway.origin}/")
    pending = desk.gateway.ask(order.key)
    assert (pending.state, pending.hosted_url) == (GatewayState.PENDING, "")
    assert (pending.amount_minor, pending.currency) == (order.amount_minor, "USD")
    desk.pay(order.key)
    truth = desk.gateway.ask(order.key)
    assert truth.state is GatewayState.SUCCEEDED
    assert truth.customer_reference == order.customer_reference
    assert truth.method == "Visa ending 4242"
    assert truth.gateway_fee_minor == 59
    with pytest.raises(GatewayRefused, match="key reused"):
        desk.gateway.start(replace(order, amount_minor=1))


def test_calls_speak_the_version_of_the_package_and_can_be_repeated(
    fake: FakeStripe, desk: StripeDesk, make_order
) -> None:
    """What ends something is the same when it is done twice; all else has a key of ours."""
    order, method = make_order(), saved(desk)
    desk.gateway.start(order)
    desk.gateway.cancel(order.key)
    charge = to_charge(method)
    desk.gateway.charge(charge)
    desk.gateway.refund(charge.key, "back", 1)
    desk.gateway.forget_method(str(method.reference))
    assert {"customer", "session", "intent", "confirm", "refund"} <= set(fake.calls)
    assert fake.unkeyed <= {"cancel", "forget"}
    assert fake.versions == {stripe.api_version}


def test_a_page_elsewhere_is_not_believed(fake: FakeStripe, desk: StripeDesk, make_order) -> None:
    fake.url = "https://checkout.example.net"
    with pytest.raises(GatewayTimeout, match="own origin"):
        desk.gateway.start(make_order())


def test_cancel_closes_the_page_or_finds_it_paid(desk: StripeDesk, make_order) -> None:
    first, second = make_order(), make_order()
    for order in (first, second):
        desk.gateway.start(order)
    assert desk.gateway.cancel(first.key).state is GatewayState.CANCELLED
    assert desk.gateway.ask(first.key).state is GatewayState.EXPIRED
    desk.pay(second.key)
    assert desk.gateway.cancel(second.key).state is GatewayState.SUCCEEDED
    with pytest.raises(GatewayUnknownKey):
        desk.gateway.cancel("never-seen")


def test_what_was_not_paid_is_not_refunded(desk: StripeDesk, make_order) -> None:
    order = make_order()
    desk.gateway.start(order)
    with pytest.raises(GatewayRefused, match="not paid"):
        desk.gateway.refund(order.key, "back", 1)
    with pytest.raises(GatewayUnknownKey):
        desk.gateway.ask_refund(order.key, "back")
    assert desk.gateway.list_reversals(order.key) == []


# Charging, whatever becomes of the answers -------------------------------------------------------


def test_an_intent_that_was_never_confirmed_is_taken_back(fake: FakeStripe) -> None:
    """The process died, or the line, between making a charge and confirming it."""
    later = datetime.now(UTC) + timedelta(minutes=2)
    desk = StripeDesk(fake)
    order = to_charge(saved(desk))
    fake.charge_call = "confirm"
    fake.faults.set_next([Fault.DROP_BEFORE])
    with pytest.raises(GatewayTimeout):
        desk.gateway.charge(order)
    assert desk.gateway.ask(order.key).state is GatewayState.PENDING
    desk.gateway._now = lambda: later
    assert desk.gateway.ask(order.key).state is GatewayState.CANCELLED
    assert desk.gateway.charge(order).state is GatewayState.CANCELLED
    assert taken(fake) == 0


def test_an_amount_that_stripe_does_not_take_is_no_lost_method(desk: StripeDesk) -> None:
    with pytest.raises(GatewayRefused) as refused:
        desk.gateway.charge(to_charge(saved(desk), amount_minor=49))
    assert refused.value.code == "amount out of bounds"
    assert refused.value.customer_message == "This payment could not be made."


def test_a_charge_that_must_be_confirmed_is_taken_once(fake: FakeStripe, desk: StripeDesk) -> None:
    method = saved(desk)
    assert method.reference is not None
    desk.let(method.reference, Behaviour.CONFIRMS)
    order = to_charge(method)
    first = desk.gateway.charge(order)
    assert first == desk.gateway.charge(order)
    intents = [thing for thing in fake.things.values() if thing["object"] == "payment_intent"]
    assert [intent["status"] for intent in intents] == ["canceled"]
    desk.confirm(order.key)
    assert desk.gateway.charge(order).state is GatewayState.SUCCEEDED
    assert taken(fake) == order.amount_minor
    with pytest.raises(GatewayRefused, match="key reused"):
        desk.gateway.charge(replace(order, amount_minor=1))


@pytest.mark.parametrize(
    ("code", "words"),
    [("insufficient_funds", "not enough money"), ("do_not_honor", "The bank declined the payment")],
)
def test_reasons_are_sentences_of_ours(fake, desk: StripeDesk, monkeypatch, code, words) -> None:
    method = saved(desk)
    desk.let(str(method.reference), Behaviour.DECLINES)
    whole = fake._decline
    monkeypatch.setattr(fake, "_decline", lambda intent, _code: whole(intent, code))
    truth = desk.gateway.charge(to_charge(method))
    assert words in truth.decline_reason


def taken(fake: FakeStripe) -> int:
    return sum(
        thing["amount"]
        for thing in fake.things.values()
        if thing["object"] == "payment_intent" and thing["status"] == "succeeded"
    )


def test_a_seeded_storm_of_faults_takes_each_charge_once_or_not_at_all(fake: FakeStripe) -> None:
    """Bar 55: whatever is lost, asking and repeating end in 0 or 1 charges, equal on both sides."""
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    desk = StripeDesk(fake, total_seconds=0.5)
    methods = [saved(desk, kind) for kind in ("card", "declining", "checked")]
    calls = ("start", "intent", "charge", "ask", "cancel", "refund", "ask_refund")
    fake.faults.set_plan(FaultPlan(seed, 0.3, tuple(Fault), calls))
    fake.faults.hang_seconds = 0.7

    def insist(call: Any, *arguments: Any) -> Any:
        for _ in range(80):
            try:
                return call(*arguments)
            except GatewayTimeout:
                continue
        raise AssertionError("the storm never ends")

    def run(number: int) -> tuple[str, GatewayState, int]:
        order = to_charge(methods[number % 3], amount_minor=1_000 + number)
        truth = insist(desk.gateway.charge, order)
        if truth.state is GatewayState.PENDING and number % 2:
            desk.confirm(order.key)
        elif truth.state is GatewayState.PENDING:
            insist(desk.gateway.cancel, order.key)
        state = insist(desk.gateway.ask, order.key).state
        back = 0
        if state is GatewayState.SUCCEEDED and number % 4 == 1:
            back = insist(desk.gateway.refund, order.key, f"{order.key}-back", 500).amount_minor
        return order.key, state, back

    with ThreadPoolExecutor(8) as pool:
        ours = list(pool.map(run, range(60)))
    fake.faults.set_plan(FaultPlan())
    intents = [thing for thing in fake.things.values() if thing["object"] == "payment_intent"]
    for key, state, back in ours:
        of_key = [each for each in intents if each["metadata"]["lastmile_key"] == key]
        paid_ = [each for each in of_key if each["status"] == "succeeded"]
        assert len(paid_) == (state is GatewayState.SUCCEEDED), (key, of_key)
        refunded = sum(
            thing["amount"]
            for thing in fake.things.values()
            if thing["object"] == "refund" and paid_ and thing["payment_intent"] == paid_[0]["id"]
        )
        assert refunded == back
    assert {state for _, state, _ in ours} >= {GatewayState.SUCCEEDED, GatewayState.DECLINED}


def test_a_wrong_key_is_no_answer_about_the_payment(fake: FakeStripe, make_order) -> None:
    desk = StripeDesk(fake)
    order = make_order()
    desk.gateway.start(order)
    desk.gateway._client._requestor._options.api_key = "sk_test_wrong000"
    for call in (lambda: desk.gateway.start(make_order()), lambda: desk.gateway.ask(order.key)):
        with pytest.raises(GatewayTimeout, match="401"):
            call()


def test_a_note_that_cannot_be_kept_takes_no_money(fake: FakeStripe, monkeypatch) -> None:
    desk = StripeDesk(fake)
    order = to_charge(saved(desk))

    def fails(_key: str, _reference: str) -> None:
        raise GatewayTimeout("the disk is full")

    monkeypatch.setattr(desk.notes, "keep", fails)
    with pytest.raises(GatewayTimeout):
        desk.gateway.charge(order)
    assert taken(fake) == 0
    with pytest.raises(GatewayUnknownKey):
        desk.gateway.ask(order.key)


def test_forgetting_what_was_never_finished_closes_its_page(desk: StripeDesk) -> None:
    order = to_save()
    started = desk.gateway.save_method(order)
    desk.gateway.forget_method(started.reference)
    assert desk.gateway.ask_method(order.key).state is GatewayState.EXPIRED
    second = to_save()
    again = desk.gateway.save_method(second)
    desk.save(second.key, "card")
    desk.gateway.forget_method(again.reference)
    assert desk.gateway.ask_method(second.key).state is GatewayState.CANCELLED


def test_a_method_is_asked_for_by_its_own_reference(desk: StripeDesk) -> None:
    method = saved(desk)
    [key] = [key for key, kept in desk.notes.kept.items() if kept.startswith("cs_")]
    desk.notes.keep(key, str(method.reference))
    assert desk.gateway.ask_method(key) == method
    desk.gateway.forget_method(str(method.reference))
    assert desk.gateway.ask_method(key).state is GatewayState.CANCELLED


# Comparing ------------------------------------------------------------------------------------


def test_list_names_what_changed_of_older_payments(fake: FakeStripe, desk: StripeDesk) -> None:
    old, quiet = paid(desk), paid(desk)
    for thing in fake.things.values():
        thing["created"] -= 10_000
    since = datetime.now(UTC) - timedelta(minutes=1)
    assert list(desk.gateway.list_since(since)) == []
    desk.gateway.refund(old.key, "back", 567)
    [listed] = desk.gateway.list_since(since)
    assert (listed.key, listed.refunded_minor) == (old.key, 567)
    assert listed.return_url == old.return_url
    desk.reverse(quiet.key, Reversing.CHARGEBACK)
    assert {each.key: each.reversed_minor for each in desk.gateway.list_since(since)} == {
        old.key: 0,
        quiet.key: quiet.amount_minor,
    }


def test_list_is_read_page_by_page(fake: FakeStripe, desk: StripeDesk) -> None:
    keys = {paid(desk).key for _ in range(101)}
    since = datetime.now(UTC) - timedelta(hours=1)
    assert {each.key for each in desk.gateway.list_since(since)} == keys


def test_inquiries_move_no_money(fake: FakeStripe, desk: StripeDesk) -> None:
    order = paid(desk)
    fake.dispute(order.key)
    for status in ("warning_needs_response", "warning_closed", "prevented"):
        fake.dispute_of(order.key).update(status=status, balance_transactions=[])
        assert desk.gateway.list_reversals(order.key) == []


def test_money_that_a_dispute_moves_is_read_from_stripes_books(
    fake: FakeStripe, desk: StripeDesk
) -> None:
    order = paid(desk)
    fake.dispute(order.key)
    dispute = fake.dispute_of(order.key)

    def moved() -> list[tuple[str, str, int]]:
        return [
            (each.kind, each.reference, each.amount_minor)
            for each in desk.gateway.list_reversals(order.key)
        ]

    taken = ("chargeback", dispute["id"], order.amount_minor)
    won = ("chargeback_won", f"{dispute['id']}/won", order.amount_minor)
    again = ("chargeback", f"{dispute['id']}/2", order.amount_minor)
    # It was settled before it became a dispute, and the money is gone all the same.
    dispute["status"] = "prevented"
    assert moved() == [taken]
    for status in ("needs_response", "under_review", "lost"):
        dispute["status"] = status
        assert moved() == [taken]
    # The state may be there before the books show the move, and is the same move.
    shown = dispute["balance_transactions"]
    dispute["balance_transactions"] = []
    assert moved() == [taken]
    dispute.update(status="won", balance_transactions=shown)
    assert moved() == [taken, won]
    fake.win(order.key)
    assert moved() == [taken, won]
    fake.appeal(order.key)
    assert moved() == [taken, won, again]
    dispute["status"] = "won"
    fake.win(order.key)
    assert moved()[2:] == [again, ("chargeback_won", f"{dispute['id']}/won/2", order.amount_minor)]


def test_part_of_a_dispute_that_comes_back_is_that_part(fake: FakeStripe, desk: StripeDesk) -> None:
    order = paid(desk)
    fake.dispute(order.key)
    fake.win(order.key)
    moves = fake.dispute_of(order.key)["balance_transactions"]
    moves[0]["amount"] = 300
    assert [each.amount_minor for each in desk.gateway.list_reversals(order.key)][1] == 300
    moves[0]["currency"] = "eur"
    whole = [each.amount_minor for each in desk.gateway.list_reversals(order.key)]
    assert whole == [order.amount_minor] * 2


def test_debit_that_failed_later_is_listed_as_changed(fake: FakeStripe, desk: StripeDesk) -> None:
    order = paid(desk)
    intent = fake.by_key("pi", order.key)
    for thing in fake.things.values():
        thing["created"] -= 10_000
    since = datetime.now(UTC) - timedelta(minutes=1)
    for type_ in ("payment_intent.payment_failed", "refund.failed"):
        fake._event(type_, intent)
        assert [each.key for each in desk.gateway.list_since(since)] == [order.key]
        fake.things = {name: it for name, it in fake.things.items() if it["object"] != "event"}


@pytest.mark.parametrize(
    ("amount_minor", "currency", "theirs"),
    [(1234, "USD", 1234), (500, "JPY", 500), (700, "ISK", 70_000)],
)
def test_amounts_are_counted_as_stripe_counts(amount_minor, currency, theirs) -> None:
    assert reading.to_stripe(amount_minor, currency) == theirs
    assert reading.from_stripe(theirs, currency.lower()) == amount_minor


# Notices (bar 56) ------------------------------------------------------------------------------

SECRETS = ("whsec_now_and_here", "whsec_before_that")


def event(**thing: Any) -> bytes:
    fields = {"object": "payment_intent", "id": "pi_1", "metadata": {}, **thing}
    return json.dumps({"id": "evt_1", "object": "event", "data": {"object": fields}}).encode()


def read(desk: StripeDesk, body: bytes, header: str | None = None, now: datetime = NOW) -> Any:
    header = signature_header(body, SECRETS[:1], NOW) if header is None else header
    return desk.gateway.read_notice(body, {"Stripe-Signature": header}, now)


@pytest.mark.parametrize("secret", SECRETS)
def test_what_stripe_signs_is_believed(desk: StripeDesk, secret: str) -> None:
    body = event(metadata={"lastmile_key": "k"})
    stamp = int(NOW.timestamp())
    header = stripe.WebhookSignature.generate_signature_header(body.decode(), secret, stamp)
    notice = read(desk, body, f"{header},v0=ab")
    assert (notice.event_id, notice.key, notice.reference) == ("evt_1", "k", "pi_1")


def test_ours_is_what_stripes_own_check_believes() -> None:
    body = event()
    header = signature_header(body, SECRETS[:1], datetime.now(UTC))
    assert stripe.WebhookSignature.verify_header(body, header, SECRETS[0], tolerance=300)


@pytest.mark.parametrize(
    ("thing", "key", "reference"),
    [
        ({"object": "checkout.session", "id": "cs_1", "metadata": {"lastmile_key": "k"}},
         "k", "cs_1"),
        ({"object": "charge", "id": "ch_1", "payment_intent": "pi_2"}, None, "pi_2"),
        ({"object": "dispute", "id": "dp_1", "payment_intent": "pi_3"}, None, "pi_3"),
        ({"object": "refund", "id": "re_1", "payment_intent": "pi_4",
          "metadata": {"lastmile_key": "refund"}}, None, "pi_4"),
        ({"object": "payment_method", "id": "pm_1"}, None, "pm_1"),
    ],
)  # fmt: skip
def test_a_notice_names_the_payment_or_the_method(desk, thing, key, reference) -> None:
    notice = read(desk, event(**thing))
    assert (notice.key, notice.reference) == (key, reference)


@pytest.mark.parametrize(
    ("body", "header", "now", "reason"),
    [
        (event(), signature_header(event(), ["whsec_other"], NOW), NOW, "bad signature"),
        (event(), "", NOW, "no signature"),
        (event(), None, NOW + timedelta(seconds=301), "too old"),
        (event(), None, NOW - timedelta(seconds=61), "in the future"),
        (b"x" * (MAX_NOTICE_BYTES + 1), None, NOW, "too large"),
        (b"[]", None, NOW, "unreadable"),
        (b'{"id": "e"}', None, NOW, "unreadable"),
        (b'{"id": 7, "data": {"object": {"object": "charge"}}}', None, NOW, "unreadable"),
    ],
)
def test_what_is_not_believed(desk: StripeDesk, body, header, now, reason) -> None:
    with pytest.raises(NoticeRejected) as rejected:
        read(desk, body, header, now)
    assert rejected.value.reason == reason
