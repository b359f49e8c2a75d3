"""The bank's books in process: time, batches and repetition."""

from datetime import timedelta

import pytest

from gateways.payments.base import ChargeOrder, GatewayState, MethodOrder
from gateways.payments.errors import GatewayRefused, GatewayUnknownKey
from gateways.payments.sandbox.books import NOTICE_PAUSES_SECONDS
from gateways.payments.sandbox.client import SandboxInProcess
from gateways.payments.sandbox.faults import Fault, FaultPlan, Faults
from gateways.payments.sandbox.methods import Behaviour, Saving
from gateways.payments.sandbox.secrets import SandboxSecrets
from gateways.payments.sandbox.store import Decision, Reversing, SandboxStore


@pytest.fixture
def open_store(tmp_path, fake_clock):
    stores = []

    def open_one(name="sandbox.db", **options) -> SandboxStore:
        store = SandboxStore(tmp_path / name, clock=fake_clock, **options)
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        store.close()


@pytest.fixture
def store(open_store):
    return open_store()


def test_the_gateway_in_process_behaves_like_the_one_over_http(store, order):
    gateway = SandboxInProcess(store)
    started = gateway.start(order)
    assert started.hosted_url.startswith(f"{gateway.origin}/pay/")
    store.decide(order.key, Decision.PAY)
    assert gateway.cancel(order.key).state is GatewayState.SUCCEEDED
    assert gateway.refund(order.key, "refund", 100).amount_minor == 100
    assert gateway.ask(order.key).reference == started.reference


def test_an_open_page_expires_after_thirty_minutes(store, order, fake_clock):
    store.start(order)
    fake_clock.now += timedelta(minutes=29, seconds=59)
    assert store.ask(order.key).state is GatewayState.PENDING
    fake_clock.now += timedelta(seconds=1)
    assert store.settle_due() == 1
    assert store.decide(order.key, Decision.PAY).state is GatewayState.EXPIRED
    assert [notice.type for notice in store.list_due_notices(9)] == ["payment.expired"]


def test_a_late_answer_does_not_expire(store, order, fake_clock):
    store.start(order)
    fake_clock.now += timedelta(minutes=29, seconds=59)
    assert store.decide(order.key, Decision.LATE).state is GatewayState.PENDING
    fake_clock.now += timedelta(seconds=19)
    assert store.ask(order.key).state is GatewayState.PENDING
    fake_clock.now += timedelta(seconds=1)
    assert store.ask(order.key).state is GatewayState.SUCCEEDED


def test_cancelling_a_late_answer_finds_it_paid(store, order):
    store.start(order)
    store.decide(order.key, Decision.LATE)
    assert store.cancel(order.key).state is GatewayState.SUCCEEDED


def test_a_bank_debit_under_way_cannot_be_cancelled(store, order, fake_clock):
    store.start(order)
    store.decide(order.key, Decision.DEBIT)
    assert store.cancel(order.key).state is GatewayState.PROCESSING
    fake_clock.now += timedelta(days=1)
    assert store.cancel(order.key).state is GatewayState.SUCCEEDED


def test_a_batch_is_kept_whole_or_not_at_all(store, make_order):
    first, second = make_order(), make_order()

    def break_off() -> None:
        with store.batch():
            store.start(first)
            store.decide(first.key, Decision.PAY)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    with pytest.raises(GatewayUnknownKey):
        store.ask(first.key)
    with store.batch():
        store.start(second)
        with pytest.raises(GatewayRefused):
            store.refund(second.key, "refund", 1)
        store.decide(second.key, Decision.PAY)
    assert store.ask(second.key).state is GatewayState.SUCCEEDED


def test_two_stores_with_one_salt_give_the_same_references(open_store, order):
    one, two = open_store("one.db", salt="seed"), open_store("two.db", salt="seed")
    assert one.start(order) == two.start(order)
    assert open_store("three.db").start(order) != one.start(order)


def test_a_store_opened_again_knows_everything(open_store, order):
    first = open_store()
    started = first.start(order)
    first.decide(order.key, Decision.PAY)
    first.close()
    again = open_store()
    assert again.start(order) == started
    assert again.ask(order.key).state is GatewayState.SUCCEEDED
    assert again.count_waiting_notices() == 1


def test_a_history_queues_no_notices(open_store, order):
    store = open_store(has_notices=False)
    store.start(order)
    store.decide(order.key, Decision.TWICE)
    assert store.count_waiting_notices() == 0


def test_a_notice_is_given_up_after_its_last_pause(store, order, fake_clock):
    store.start(order)
    store.decide(order.key, Decision.PAY)
    attempts = 0
    while store.count_waiting_notices():
        for notice in store.list_due_notices(9):
            store.mark_notice(notice, is_delivered=False)
            attempts += 1
        fake_clock.now += timedelta(seconds=1) if attempts < 3 else timedelta(hours=1)
    assert attempts == len(NOTICE_PAUSES_SECONDS) + 1


def test_faults_follow_from_seed_call_key_and_attempt():
    def draw(seed: int) -> list[Fault | None]:
        faults = Faults()
        faults.set_plan(FaultPlan(seed=seed, rate=0.5))
        return [faults.take("start", f"key-{number // 2}") for number in range(200)]

    assert draw(1) == draw(1) != draw(2)
    assert set(draw(1)) == {None, *Fault}
    assert 70 < sum(fault is not None for fault in draw(1)) < 130


def test_secrets_are_made_once_and_rotated_line_by_line(tmp_path):
    path = tmp_path / "secret"
    first = SandboxSecrets.read_or_create(path)
    assert SandboxSecrets.read_or_create(path) == first
    assert path.stat().st_mode & 0o077 == 0
    path.write_text("n" * 32 + "\n" + path.read_text())
    rotated = SandboxSecrets.read_or_create(path)
    assert rotated.notice_secrets[1:] == first.notice_secrets
    assert rotated.api_keys[0] != first.api_keys[0]
    with pytest.raises(ValueError, match="32 characters"):
        SandboxSecrets.of(["short"])


def test_a_page_that_saves_a_method_expires(store, fake_clock):
    order = MethodOrder("m", "http://127.0.0.1:8000/back", "account", None, "en")
    store.save_method(order)
    fake_clock.now += timedelta(minutes=30)
    assert store.ask_method("m").state is GatewayState.EXPIRED
    assert store.choose_method("m", Saving.CARD).state is GatewayState.EXPIRED


def test_a_charge_that_nobody_confirms_expires_after_a_day(store, fake_clock):
    store.save_method(MethodOrder("m", "http://127.0.0.1:8000/back", "account", None, "en"))
    method = store.choose_method("m", Saving.CHECKED)
    charge = ChargeOrder(
        *("c", 4250, "USD", "Account", method.reference, method.gateway_customer),
        *("account", "en", "http://127.0.0.1:8000/back"),
    )
    assert store.charge(charge).state is GatewayState.PENDING
    # The choices of somebody who pays for the first time are not theirs.
    assert store.decide("c", Decision.LATE).state is GatewayState.PENDING
    fake_clock.now += timedelta(hours=23, minutes=59)
    assert store.ask("c").state is GatewayState.PENDING
    fake_clock.now += timedelta(minutes=1)
    assert store.ask("c").state is GatewayState.EXPIRED


def test_each_change_of_a_method_is_told(store):
    store.save_method(MethodOrder("m", "http://127.0.0.1:8000/back", "account", None, "en"))
    method = store.choose_method("m", Saving.CARD)
    store.set_behaviour(method.reference, Behaviour.EXPIRES)
    told = [(notice.type, notice.key) for notice in store.list_due_notices(9)]
    assert told == [("method.succeeded", "m"), ("method.expires", "m")]


def test_what_a_bank_takes_back_is_told_and_has_its_turn(store, order, make_order):
    store.start(order)
    for kind in Reversing:
        with pytest.raises(GatewayRefused, match="cannot happen"):
            store.reverse(order.key, kind)
    store.decide(order.key, Decision.PAY)
    with pytest.raises(GatewayRefused, match="cannot happen"):
        store.reverse(order.key, Reversing.RETURN)  # a card's payment is not returned
    store.refund(order.key, "part", 1000)
    store.reverse(order.key, Reversing.CHARGEBACK)
    assert store.list_reversals(order.key)[0].amount_minor == order.amount_minor - 1000
    with pytest.raises(GatewayRefused, match="too much"):
        store.refund(order.key, "more", 1)
    with pytest.raises(GatewayRefused, match="cannot happen"):
        store.reverse(order.key, Reversing.CHARGEBACK)
    store.reverse(order.key, Reversing.CHARGEBACK_WON)
    assert store.refund(order.key, "more", 1).state is GatewayState.SUCCEEDED
    told = [notice.type for notice in store.list_due_notices(9)]
    assert told == ["payment.succeeded", "payment.chargeback", "payment.chargeback_won"]
