"""Money taken from a saved method, exactly once, whatever becomes of the answers (bars 53-58)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import charging, payments, settling
from core import clock, ids
from core.db import db, unit_of_work
from gateways.payments.base import MethodOrder
from gateways.payments.sandbox.methods import Behaviour, Saving
from gateways.payments.sandbox.store import Decision
from models import Payment, PaymentMethod, PaymentState
from tests.billing.conftest import Till


def save(till: Till, saving: Saving = Saving.CARD, name: str = "alice") -> int:
    """A method of this customer, saved at the bank and known here; its id."""
    world = till.portal.world
    key = f"method-{ids.public_id()}"
    order = MethodOrder(key, "http://127.0.0.1:8000/back", world.public_ids[name], None, "en")
    till.gateway.save_method(order)
    truth = till.portal.bank.choose_method(key, saving)

    def work(session: Session) -> int:
        method = PaymentMethod(
            public_id=ids.public_id(),
            key=key,
            account_id=world.accounts[name],
            customer_id=world.customers[name],
            gateway=till.gateway.name,
            gateway_reference=truth.reference,
            kind=truth.kind,
            title=truth.title,
            expires_on=truth.expires_on,
            state="usable",
            created_at=clock.now(),
        )
        session.add(method)
        session.flush()
        return method.id

    return unit_of_work(work, world.accounts[name])


def commit(till: Till, method_id: int, amount_minor: int = 4_250, name: str = "alice") -> int:
    """A payment from this method as autopay would commit it; its id."""
    world = till.portal.world
    account_id = world.accounts[name]
    new = payments.NewPayment(
        f"auto-{ids.public_id()}",
        account_id,
        world.customers[name],
        None,
        amount_minor,
        method_id=method_id,
    )
    [(payment_id, _)] = unit_of_work(
        lambda session: payments.create(session, [new], till.gateway.name), account_id
    )
    return payment_id


def row(payment_id: int) -> Payment:
    db.session.expire_all()
    return db.session.execute(select(Payment).where(Payment.id == payment_id)).scalar_one()


def at_the_bank(till: Till) -> int:
    """What the bank has taken of alice's charges, in minor units."""
    books = till.portal.bank.list_after(0, 100)
    return sum(
        booked.payment.amount_minor
        for booked in books
        if booked.payment.is_charge and booked.payment.state == "succeeded"
    )


def test_a_card_is_charged_and_booked_once(till: Till) -> None:
    payment_id = commit(till, save(till))
    for _ in range(3):
        assert charging.charge(payment_id, till.gateway) is PaymentState.SUCCEEDED
    assert till.entry_count() == 1
    assert row(payment_id).method == "Visa ending 4242"
    assert till.gateway.calls.count("charge") == 1
    assert at_the_bank(till) == 4_250


def test_a_card_that_declines_says_why(till: Till) -> None:
    payment_id = commit(till, save(till, Saving.DECLINING))
    assert charging.charge(payment_id, till.gateway) is PaymentState.DECLINED
    assert "not enough money" in row(payment_id).decline_reason
    assert till.entry_count() == 0


def test_a_charge_may_wait_for_its_customer(till: Till) -> None:
    payment_id = commit(till, save(till, Saving.CHECKED))
    assert charging.charge(payment_id, till.gateway) is PaymentState.SENT
    payment = row(payment_id)
    assert str(payment.hosted_url).startswith(f"{till.gateway.origin}/pay/")
    till.portal.bank.decide(payment.key, Decision.CONFIRM)
    assert settling.settle(payment_id, till.gateway) is PaymentState.SUCCEEDED
    assert till.entry_count() == 1


def test_a_debit_is_on_its_way_and_arrives(till: Till) -> None:
    payment_id = commit(till, save(till, Saving.BANK))
    assert charging.charge(payment_id, till.gateway) is PaymentState.PROCESSING
    clock_now = clock.now()
    with clock.set_to(clock_now + timedelta(minutes=1)):
        assert settling.settle(payment_id, till.gateway) is PaymentState.SUCCEEDED


@pytest.mark.parametrize("lost", ["before", "after"])
def test_silence_is_unknown_until_the_bank_is_asked(till: Till, lost: str) -> None:
    payment_id = commit(till, save(till))
    till.gateway.loses = lambda call: lost if call == "charge" else None
    assert charging.charge(payment_id, till.gateway) is PaymentState.UNKNOWN
    assert row(payment_id).ask_at is not None
    till.gateway.loses = lambda _call: None
    # Pressed again it is asked about and not sent again.
    state = charging.charge(payment_id, till.gateway)
    assert state is (PaymentState.SUCCEEDED if lost == "after" else PaymentState.UNKNOWN)
    with clock.set_to(clock.now() + timedelta(minutes=2)):
        settling.ask_due(till.gateway)
        wanted = PaymentState.SUCCEEDED if lost == "after" else PaymentState.EXPIRED
        assert row(payment_id).state == wanted
    assert at_the_bank(till) == (4_250 if lost == "after" else 0)
    assert till.gateway.calls.count("charge") == 1


def test_one_that_was_never_sent_is_not_sent_late(till: Till) -> None:
    payment_id = commit(till, save(till))
    with clock.set_to(clock.now() + timedelta(seconds=40)):
        assert charging.charge(payment_id, till.gateway) is PaymentState.UNKNOWN
    with clock.set_to(clock.now() + timedelta(minutes=2)):
        assert charging.charge(payment_id, till.gateway) is PaymentState.EXPIRED
    assert "charge" not in till.gateway.calls


def test_a_method_that_is_gone_at_the_bank_declines(till: Till) -> None:
    method_id = save(till)
    reference = db.session.scalar(
        select(PaymentMethod.gateway_reference).where(PaymentMethod.id == method_id)
    )
    till.gateway.forget_method(str(reference))
    payment_id = commit(till, method_id)
    assert charging.charge(payment_id, till.gateway) is PaymentState.DECLINED
    assert row(payment_id).decline_reason == "This payment method is no longer there."


def test_another_wording_of_the_same_charge_is_asked_about(till: Till) -> None:
    """An answer was lost, and the account's language has changed since."""
    payment_id = commit(till, save(till))
    till.gateway.loses = lambda call: "after" if call == "charge" else None
    charging.charge(payment_id, till.gateway)
    till.gateway.loses = lambda _call: None
    till.portal.execute("UPDATE accounts SET language = 'es'")
    till.portal.execute("UPDATE payments SET state = 'created' WHERE id = :id", id=payment_id)
    assert charging.charge(payment_id, till.gateway) is PaymentState.SUCCEEDED
    assert at_the_bank(till) == 4_250


def test_cancelling_one_that_may_still_arrive_keeps_it_unknown(till: Till) -> None:
    payment_id = commit(till, save(till))
    account_id = till.portal.world.accounts["alice"]
    public_id = row(payment_id).public_id
    assert settling.cancel(account_id, public_id, till.gateway) is PaymentState.UNKNOWN
    with clock.set_to(clock.now() + timedelta(minutes=2)):
        assert settling.cancel(account_id, public_id, till.gateway) is PaymentState.CANCELLED


def test_a_wrong_amount_at_the_bank_is_not_believed(till: Till) -> None:
    payment_id = commit(till, save(till))
    till.portal.execute("UPDATE payments SET amount_minor = 9999 WHERE id = :id", id=payment_id)
    till.gateway.before = lambda call: (
        till.portal.execute("UPDATE payments SET amount_minor = 4250 WHERE id = :id", id=payment_id)
        if call == "charge"
        else None
    )
    charging.charge(payment_id, till.gateway)
    assert row(payment_id).state == PaymentState.UNKNOWN
    assert till.entry_count() == 0


def test_a_card_that_begins_to_decline_is_told_by_its_payment(till: Till) -> None:
    method_id = save(till)
    reference = db.session.scalar(
        select(PaymentMethod.gateway_reference).where(PaymentMethod.id == method_id)
    )
    till.portal.bank.set_behaviour(str(reference), Behaviour.DECLINES)
    assert charging.charge(commit(till, method_id), till.gateway) is PaymentState.DECLINED
