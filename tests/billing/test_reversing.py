"""Refunds, chargebacks and returned debits: once each, never more than is left, and the books
add up after every one (the fixture verifies them after each test)."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import charging, refunding, reversing, settling, taken_back
from blueprints.billing.errors import (
    PaymentNotFound,
    RefundRefused,
    ReversalNotFound,
    SamePerson,
    TooMuchBack,
)
from blueprints.billing.starting import Choice
from blueprints.billing.verify import find_faults
from core import clock, ids, postman
from core.db import db, reading, unit_of_work
from core.form_keys import KeyReused
from gateways.payments.errors import GatewayRefused
from gateways.payments.sandbox.methods import Saving
from gateways.payments.sandbox.store import Decision, Reversing
from gateways.payments.signatures import signature_header
from models import Message, Payment, PaymentReversal
from tests.billing.conftest import Till
from tests.billing.test_charging import commit, save
from tests.billing.test_machine import survived
from tests.conftest import Portal, together


def pay(till: Till, choice: Choice = Choice.BALANCE, **order: Any) -> Payment:
    """A payment of alice's that has arrived."""
    till.start(choice=choice, key=till.key(f"pay-{ids.public_id()}"), **order)
    payment_id = till.latest_id()
    till.portal.bank.decide(str(till.latest("key")), Decision.PAY)
    assert till.settle() == "succeeded"
    db.session.expire_all()
    return db.session.execute(select(Payment).where(Payment.id == payment_id)).scalar_one()


def refund(till: Till, payment: Payment, amount_minor: int, key: str = "") -> str:
    world = till.portal.world
    return refunding.ask_refund(
        world.accounts["alice"],
        payment.public_id,
        amount_minor,
        "Went wrong",
        world.customers["ben"],
        key or f"refund-{ids.public_id()}",
    )


def state_of(till: Till, public_id: str) -> str:
    return str(
        till.portal.one("SELECT state FROM payment_reversals WHERE public_id = :id", id=public_id)
    )


def balance(till: Till) -> int:
    return int(till.portal.one("SELECT balance_minor FROM accounts WHERE number = '1001'"))


def open_minor(till: Till) -> int:
    return int(
        till.portal.one(
            "SELECT coalesce(sum(open_minor), 0) FROM invoice_balances WHERE account_id = :id",
            id=till.portal.world.accounts["alice"],
        )
    )


def books_add_up() -> None:
    with reading() as session:
        assert list(find_faults(session)) == []


# Refunds --------------------------------------------------------------------------------------


def test_a_refund_gives_back_and_opens_what_was_settled(till: Till) -> None:
    payment = pay(till)
    assert (balance(till), open_minor(till)) == (0, 0)
    public_id = refund(till, payment, 5_000)
    assert state_of(till, public_id) == "succeeded"
    assert (balance(till), open_minor(till)) == (5_000, 5_000)
    assert till.portal.bank.list_after(0, 99)[-1].refunded_minor == 5_000
    [(kind, lines)] = till.portal.rows(
        "SELECT kind, line_count FROM journal_entries WHERE key = :key", key=f"reversal:{public_id}"
    )
    assert (kind, lines) == ("refund", 2)
    books_add_up()


def test_a_refund_uses_credit_that_settled_nothing_first(till: Till) -> None:
    pay(till)
    payment = pay(till, Choice.OTHER, amount_minor=3_000)
    assert balance(till) == -3_000
    refund(till, payment, 2_000)
    assert (balance(till), open_minor(till)) == (-1_000, 0)
    books_add_up()


def test_the_same_key_refunds_once(till: Till) -> None:
    payment = pay(till)
    assert refund(till, payment, 500, "k") == refund(till, payment, 500, "k")
    with pytest.raises(KeyReused):
        refund(till, payment, 501, "k")
    assert balance(till) == 500


def test_never_more_than_is_left(till: Till) -> None:
    payment = pay(till, Choice.OTHER, amount_minor=9_000)
    refund(till, payment, 6_000)
    for amount_minor in (3_001, 0, -1):
        with pytest.raises(TooMuchBack) as refused:
            refund(till, payment, amount_minor)
    assert refused.value.left == "$30.00"
    refund(till, payment, 3_000)
    with pytest.raises(TooMuchBack):
        refund(till, payment, 1)


def test_two_refunds_at_once_do_not_both_take_the_rest(till: Till) -> None:
    """Bar 58."""
    payment = pay(till, Choice.OTHER, amount_minor=9_000)

    def ask(number: int) -> bool:
        with till.portal.app.app_context():
            try:
                refund(till, payment, 6_000, f"at-once-{number}")
            except TooMuchBack:
                return False
            finally:
                db.session.remove()
            return True

    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(copy_context().run, ask, number) for number in range(6)]
        assert sorted(future.result() for future in futures) == [False] * 5 + [True]
    assert till.portal.bank.list_after(0, 99)[-1].refunded_minor == 6_000


def test_over_the_limit_a_second_person_approves(till: Till) -> None:
    world = till.portal.world
    payment = pay(till)
    public_id = refund(till, payment, 10_001)
    assert state_of(till, public_id) == "asked"
    assert "refund" not in till.gateway.calls
    with pytest.raises(SamePerson):
        refunding.approve(public_id, world.customers["ben"])
    refunding.approve(public_id, world.customers["ada"])
    assert state_of(till, public_id) == "succeeded"
    refunding.approve(public_id, world.customers["sue"])
    assert till.gateway.calls.count("refund") == 1
    with pytest.raises(TooMuchBack):  # what is asked for is kept back
        refund(till, payment, payment.amount_minor - 10_000)


def test_what_is_refused_is_free_again(till: Till) -> None:
    payment = pay(till)
    public_id = refund(till, payment, payment.amount_minor)
    with pytest.raises(TooMuchBack):
        refund(till, payment, 1)
    refunding.refuse(public_id, till.portal.world.customers["ada"])
    assert state_of(till, public_id) == "refused"
    refund(till, payment, 1)
    with pytest.raises(ReversalNotFound):
        refunding.refuse("nothing", 1)


def test_only_what_arrived_through_the_gateway(till: Till) -> None:
    till.start()
    under_way = str(till.latest("public_id"))
    world = till.portal.world
    for public_id, wanted in ((under_way, RefundRefused), ("nothing", PaymentNotFound)):
        with pytest.raises(wanted):
            refunding.ask_refund(
                world.accounts["alice"], public_id, 1, "", world.customers["ben"], f"k{public_id}"
            )
    till.settle()


@pytest.mark.parametrize("lost", ["before", "after"])
def test_silence_is_unknown_and_ends_once(till: Till, lost: str) -> None:
    payment = pay(till)
    till.gateway.loses = lambda call: lost if call == "refund" else None
    public_id = refund(till, payment, 700)
    assert state_of(till, public_id) == "unknown"
    assert balance(till) == 0
    till.gateway.loses = lambda _call: None
    with clock.set_to(clock.now() + timedelta(minutes=1)):
        assert refunding.ask_due(till.gateway) == 1
    assert state_of(till, public_id) == "succeeded"
    assert till.portal.bank.list_after(0, 99)[-1].refunded_minor == 700
    assert balance(till) == 700


def test_one_that_never_arrives_ends_after_a_day(till: Till) -> None:
    payment = pay(till)
    till.gateway.loses = lambda call: "before" if call == "refund" else None
    public_id = refund(till, payment, 700)
    start = clock.now()
    for hour in range(1, 26):
        with clock.set_to(start + timedelta(hours=hour)):
            refunding.ask_due(till.gateway)
    assert state_of(till, public_id) == "declined"
    assert balance(till) == 0
    till.gateway.loses = lambda _call: None
    refund(till, payment, 700)


def test_a_gateway_that_refuses_ends_it(till: Till) -> None:
    payment = pay(till)
    till.gateway.refund(payment.key, "by-hand", payment.amount_minor)
    public_id = refund(till, payment, 700)
    assert state_of(till, public_id) == "declined"
    assert balance(till) == 0


# Refunds that come back ------------------------------------------------------------------------


def kinds(till: Till) -> list[tuple[str, str]]:
    return [
        (kind, state)
        for kind, state in till.portal.rows("SELECT kind, state FROM payment_reversals ORDER BY id")
    ]


GIVEN, BACK = ("refund", "succeeded"), ("refund_failed", "succeeded")


def test_a_refund_that_comes_back_is_booked_once_and_owed_again(till: Till) -> None:
    pay(till)
    payment = pay(till, Choice.OTHER, amount_minor=9_000)
    assert balance(till) == -9_000
    public_id = refund(till, payment, 5_000)
    assert balance(till) == -4_000
    till.portal.bank.reverse(payment.key, Reversing.REFUND_FAILED)
    for event in ("evt_1", "evt_2", "evt_1"):
        notice(till.portal, payment.key, event)
        assert kinds(till) == [GIVEN, BACK]
        assert balance(till) == -9_000
    books_add_up()
    [(key, reference)] = till.portal.rows(
        "SELECT key, gateway_reference FROM payment_reversals WHERE kind = 'refund_failed'"
    )
    assert key == f"sandbox:{reference}/failed"
    assert reference == till.portal.one(
        "SELECT gateway_reference FROM payment_reversals WHERE public_id = :id", id=public_id
    )
    assert reversing.left_minor(db.session(), payment.id) == 9_000
    assert state_of(till, refund(till, payment, 5_000)) == "succeeded"
    assert balance(till) == -4_000


def test_what_comes_back_settles_again_what_the_refund_had_opened(till: Till) -> None:
    payment = pay(till)
    refund(till, payment, 5_000)
    assert open_minor(till) == 5_000
    till.portal.bank.reverse(payment.key, Reversing.REFUND_FAILED)
    notice(till.portal, payment.key, "evt_back")
    assert (balance(till), open_minor(till)) == (0, 0)


@pytest.mark.parametrize("lost", ["before", "after", "dies"])
@pytest.mark.parametrize("call", ["refund", "list_refunds", "list_reversals", "ask_refund"])
def test_lost_words_change_nothing_about_what_came_back(till: Till, call: str, lost: str) -> None:
    """Whether it was in the books when it came back or not: what they say of it is zero."""
    payment = pay(till)
    payment_id, key = payment.id, payment.key
    till.gateway.loses = lambda made: lost if made == call else None
    with survived():
        refund(till, payment, 700)
    with suppress(GatewayRefused):
        till.portal.bank.reverse(key, Reversing.REFUND_FAILED)
    with survived():
        taken_back.learn(payment_id, till.gateway, "evt_back")
    till.gateway.loses = lambda _call: None
    for hour in range(1, 30):
        with clock.set_to(clock.now() + timedelta(hours=hour)):
            refunding.ask_due(till.gateway)
            settling.ask_due(till.gateway)
    taken_back.learn(payment_id, till.gateway)
    went = reversing.went_back(db.session(), payment_id)
    theirs = till.portal.bank.list_after(0, 99)[-1].refunded_minor
    assert (went.refunded_minor, went.is_under_way) == (theirs, False)
    books_add_up()


def test_one_that_failed_before_it_arrived_is_declined_and_not_booked(till: Till) -> None:
    payment = pay(till)
    till.gateway.loses = lambda call: "after" if call == "refund" else None
    refund(till, payment, 700)
    till.gateway.loses = lambda _call: None
    till.portal.bank.reverse(payment.key, Reversing.REFUND_FAILED)
    notice(till.portal, payment.key, "evt_back")
    assert kinds(till) == [("refund", "declined")]
    assert balance(till) == 0


def test_one_made_at_the_gateways_own_desk_is_booked_and_comes_back_too(till: Till) -> None:
    payment = pay(till)
    till.portal.bank.refund(payment.key, "by-hand", 567)
    notice(till.portal, payment.key, "evt_made")
    assert (kinds(till), balance(till)) == ([GIVEN], 567)
    till.portal.bank.reverse(payment.key, Reversing.REFUND_FAILED)
    till.portal.bank.refund(payment.key, "by-hand-again", 567)
    for event in ("evt_back", "evt_again"):
        notice(till.portal, payment.key, event)
    assert (sorted(kinds(till)), balance(till)) == ([GIVEN, GIVEN, BACK], 567)


def test_notices_at_once_book_it_once(till: Till) -> None:
    payment = pay(till)
    refund(till, payment, 700)
    till.portal.bank.reverse(payment.key, Reversing.REFUND_FAILED)
    together(6, lambda number: notice(till.portal, payment.key, f"evt_{number}"))
    notice(till.portal, payment.key, "evt_last")
    assert (kinds(till), balance(till)) == ([GIVEN, BACK], 0)


def test_whoever_asked_for_it_is_told_and_so_is_the_customer(till: Till) -> None:
    payment = pay(till)
    refund(till, payment, 700)
    till.portal.bank.reverse(payment.key, Reversing.REFUND_FAILED)
    notice(till.portal, payment.key, "evt_back")
    told = db.session.scalars(select(Message).order_by(Message.id)).all()
    to_staff = [each for each in told if each.kind == "refund_failed"]
    assert [each.customer_id for each in to_staff] == [till.portal.world.customers["ben"]]
    letter = postman.compose(to_staff[0], "https://portal.example")
    assert "still owed to the customer" in letter.text
    assert f"/staff/accounts/aliceaccount00/payments/{payment.public_id}" in letter.html
    back = postman.compose(told[-2], "https://portal.example")
    assert "your bank has sent it back to us" in back.text
    alice = till.portal.visitor("alice")
    page = alice.get(till.portal.path(f"billing/payments/{payment.public_id}"))
    assert "Sent back by your bank" in page.text
    assert "$7.00 that we had given back was sent back by the bank" in alice.get("/activity").text
    assert "Refund that came back" in alice.get(till.portal.path("billing/statement")).text


def test_where_nobody_who_asked_is_left_all_who_handle_money_are_told(till: Till) -> None:
    payment = pay(till)
    refund(till, payment, 700)
    world = till.portal.world
    till.portal.execute(
        "UPDATE staff_members SET role = 'support' WHERE customer_id = :id",
        id=world.customers["ben"],
    )
    till.portal.bank.reverse(payment.key, Reversing.REFUND_FAILED)
    notice(till.portal, payment.key, "evt_back")
    told = till.portal.rows("SELECT customer_id FROM messages WHERE kind = 'refund_failed'")
    assert told == [(world.customers["ada"],)]


# Chargebacks and returns -----------------------------------------------------------------------


def notice(portal: Portal, key: str, event: str) -> None:
    body = f'{{"id": "{event}", "key": "{key}", "reference": "r"}}'.encode()
    header = signature_header(body, [portal.notice_secret], clock.now())
    answer = portal.app.test_client().post(
        "/webhooks/payments/sandbox",
        data=body,
        headers={"Sandbox-Signature": header},
        base_url="http://127.0.0.1:8000",
    )
    assert (answer.status_code, answer.text) == (200, "ok\n")


def test_a_chargeback_opens_the_bills_and_winning_settles_them(till: Till) -> None:
    owed = balance(till)
    payment = pay(till)
    till.portal.bank.reverse(payment.key, Reversing.CHARGEBACK)
    for _ in range(3):
        notice(till.portal, payment.key, "evt_back")
    assert (balance(till), open_minor(till)) == (owed, owed)
    books_add_up()
    till.portal.bank.reverse(payment.key, Reversing.CHARGEBACK_WON)
    for _ in range(2):
        notice(till.portal, payment.key, "evt_won")
    assert (balance(till), open_minor(till)) == (0, 0)
    kinds = till.portal.rows("SELECT kind, state FROM payment_reversals ORDER BY id")
    assert kinds == [("chargeback", "succeeded"), ("chargeback_won", "succeeded")]
    told = till.portal.rows("SELECT facts FROM messages WHERE kind = 'payment_reversed'")
    assert len(told) == 2


def test_a_notice_whose_question_is_lost_is_asked_again(till: Till) -> None:
    payment = pay(till)
    till.portal.bank.reverse(payment.key, Reversing.CHARGEBACK)
    till.gateway.loses = lambda call: "after" if call == "list_reversals" else None
    notice(till.portal, payment.key, "evt_back")
    assert balance(till) == 0
    till.gateway.loses = lambda _call: None
    with clock.set_to(clock.now() + timedelta(minutes=1)):
        settling.ask_due(till.gateway)
    assert balance(till) == payment.amount_minor
    assert till.portal.one("SELECT count(*) FROM payments WHERE ask_at IS NOT NULL") == 0


def test_a_debit_is_returned(till: Till) -> None:
    payment_id = commit(till, save(till, Saving.BANK))
    charging.charge(payment_id, till.gateway)
    with clock.set_to(clock.now() + timedelta(minutes=1)):
        settling.settle(payment_id, till.gateway)
        before = balance(till)
        key = str(till.latest("key"))
        till.portal.bank.reverse(key, Reversing.RETURN)
        notice(till.portal, key, "evt_return")
    assert balance(till) == before + 4_250
    assert open_minor(till) == balance(till)


def test_a_refund_and_then_a_chargeback_of_the_rest(till: Till) -> None:
    payment = pay(till)
    refund(till, payment, 1_000)
    till.portal.bank.reverse(payment.key, Reversing.CHARGEBACK)
    notice(till.portal, payment.key, "evt_back")
    assert balance(till) == open_minor(till) == payment.amount_minor
    with pytest.raises(TooMuchBack):
        refund(till, payment, 1)


def test_what_no_bill_is_left_for_is_owed_beside_them(till: Till) -> None:
    """Paid ahead, spent on later bills that others paid too, and taken back: the account owes it
    although every bill is as open as it can be."""
    portal = till.portal
    rich = portal.world.accounts["rich"]
    till.start("rich", Choice.OTHER, key=till.key("rich"), amount_minor=4_000)
    payment = db.session.execute(select(Payment).where(Payment.id == till.latest_id())).scalar_one()
    portal.bank.decide(payment.key, Decision.PAY)
    till.settle()

    def book(session: Session, public_id: str) -> None:
        found = session.scalars(
            select(PaymentReversal).where(PaymentReversal.public_id == public_id)
        ).one()
        reversing.book(session, [found])

    for number in (1, 2, 3):  # more comes back than ever was there: three claims of one payment
        portal.execute(
            "INSERT INTO payment_reversals (public_id, key, kind, payment_id, account_id,"
            " amount_minor, currency, state, reason, decline_reason, created_at, ask_count)"
            " VALUES (:id, :id, 'chargeback', :payment, :account, 4000, 'USD', 'processing', '',"
            " '', '2026-06-20 19:00:00', 0)",
            id=f"odd{number}", payment=payment.id, account=rich,
        )  # fmt: skip
        unit_of_work(partial(book, public_id=f"odd{number}"), rich)
        books_add_up()
    assert portal.one("SELECT balance_minor FROM accounts WHERE id = :id", id=rich) == 3_000
    till.start("rich", Choice.BALANCE, key=till.key("rich again"))
    portal.bank.decide(str(till.latest("key")), Decision.PAY)
    till.settle()
    assert portal.one("SELECT balance_minor FROM accounts WHERE id = :id", id=rich) == 0


def test_the_customer_sees_what_went_back(till: Till) -> None:
    payment = pay(till)
    refund(till, payment, 1_234)
    alice = till.portal.visitor("alice")
    page = alice.get(till.portal.path(f"billing/payments/{payment.public_id}"))
    assert "Given back" in page.text
    assert "$12.34" in page.text
    assert "$12.34 of a payment given back" in alice.get("/activity").text


@pytest.mark.parametrize("seed", range(3))
def test_any_order_of_events_leaves_the_books_right(till: Till, seed: int) -> None:
    """Payments, refunds, chargebacks, wins and returns at random: after each the books add up."""
    dice = random.Random(seed)
    payments_: list[Payment] = []
    for step in range(25):
        choice = dice.choice(("pay", "refund", "back", "won", "failed", "pay"))
        if choice == "pay" or not payments_:
            payments_.append(pay(till, Choice.OTHER, amount_minor=dice.randrange(100, 9_000)))
        elif choice == "refund":
            payment = dice.choice(payments_)
            try:
                refund(till, payment, dice.randrange(1, 3_000), f"step-{seed}-{step}")
            except TooMuchBack:
                continue
        else:
            payment = dice.choice(payments_)
            kind = {
                "back": Reversing.CHARGEBACK,
                "won": Reversing.CHARGEBACK_WON,
                "failed": Reversing.REFUND_FAILED,
            }[choice]
            try:
                till.portal.bank.reverse(payment.key, kind)
            except GatewayRefused:
                continue
            taken_back.learn(payment.id, till.gateway)
        books_add_up()
    theirs = sum(
        booked.payment.amount_minor - booked.refunded_minor - booked.reversed_minor
        for booked in till.portal.bank.list_after(0, 999)
        if booked.payment.state == "succeeded"
    )
    ours = till.portal.one(
        "SELECT sum(l.amount_minor) FROM journal_lines l JOIN journal_entries e"
        " ON e.id = l.entry_id LEFT JOIN payments p ON p.entry_id = e.id"
        " WHERE l.ledger = 'gateway:sandbox' AND coalesce(p.key, '') NOT LIKE 'world-%'"
    )
    assert theirs == ours
