"""Payments: from the button to the ledger, exactly once.

The row with its key is committed before the gateway hears of it. Afterwards the return page, the
gateway's notice and the worker all come to `settle`, which asks the gateway for the truth and
writes one entry. A time-out is `unknown`, never `declined`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, Update, bindparam, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from blueprints.billing import ledger
from blueprints.billing.errors import (
    AmountChanged,
    AmountOutOfBounds,
    GatewaySaysNo,
    GatewaySilent,
    InvoiceNotFound,
    NoGateway,
    NothingToPay,
    PaymentNotFound,
    PaymentUnderWay,
    TruthMismatch,
)
from core import activity, clock, due_work, form_keys, ids, outbox
from core.db import db, total, unit_of_work
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.money import Money, format_money
from gateways.payments.base import GatewayState, PaymentGateway, StartOrder, Truth
from gateways.payments.errors import (
    KEY_REUSED,
    GatewayError,
    GatewayRefused,
    GatewayTimeout,
    GatewayUnknownKey,
)
from models import (
    ENDED,
    UNDER_WAY,
    Account,
    Contact,
    ContactKind,
    Customer,
    EntryKind,
    GatewayNotice,
    HoldReason,
    Invoice,
    InvoiceBalance,
    Line,
    LineHold,
    Membership,
    Payment,
    PaymentState,
    Role,
)

log = logging.getLogger("lastmile.payments")

MINIMUM_MINOR = 100
MAXIMUM_MINOR = 1_000_000

# How long the worker waits before each question about a payment that has not ended (bar 54): soon
# while somebody may be looking, at 5 minutes and 1 hour, three hours apart so that the end is known
# within a day although the gateway is away for hours again and again, then daily. One whose
# customer is at the gateway's page is left alone for the first seconds.
_ASK_UNKNOWN = tuple(
    timedelta(seconds=seconds) for seconds in (5, 15, 60, 220, 3300, *[10_800] * 7, 3600)
)
_ASK_SENT = tuple(
    timedelta(seconds=seconds) for seconds in (20, 40, 240, 1500, 3600, 21_600, 39_600)
)
_ASK_PROCESSING = tuple(timedelta(seconds=seconds) for seconds in (15, 60, 300, 3600))
_DAILY = timedelta(days=1)
# A gateway that never saw the key may still get it from a start of ours that is on its way.
_START_GRACE = timedelta(seconds=60)
# One that has answered a start and later denies it is not believed for half a day.
_DENIAL_GRACE = timedelta(hours=12)
# Gateways keep idempotency keys for a day; after that a start could make a second payment.
_RESEND_WITHIN = timedelta(hours=23)

_ENDS = {
    GatewayState.DECLINED: PaymentState.DECLINED,
    GatewayState.EXPIRED: PaymentState.EXPIRED,
    GatewayState.CANCELLED: PaymentState.CANCELLED,
}


class Choice(StrEnum):
    """What the customer chose to pay."""

    BALANCE = "balance"
    INVOICE = "invoice"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Order:
    """A wish to pay. `amount_minor` counts for `Choice.OTHER`, `invoice_public_id` for INVOICE.

    `shown_minor` is what the page said would be paid for BALANCE and INVOICE; it is compared with
    what is owed now and never used as the amount.
    """

    account_id: int
    customer_id: int | None
    choice: Choice
    amount_minor: int | None = None
    invoice_public_id: str | None = None
    shown_minor: int | None = None


@dataclass(frozen=True, slots=True)
class NewPayment:
    """A payment row to create; `key` is unique for good and is the gateway's key too."""

    key: str
    account_id: int
    customer_id: int | None
    invoice_id: int | None
    amount_minor: int


@dataclass(frozen=True, slots=True)
class OnItsWay:
    """A payment as the start leaves it: where its page is and, when known, the hosted page."""

    payment_id: int
    public_id: str
    hosted_url: str | None


def ask_after(state: PaymentState, ask_count: int) -> timedelta | None:
    """How long to wait before the question after `ask_count`; None when there is nothing to ask."""
    if state in ENDED:
        return None
    steps = {PaymentState.SENT: _ASK_SENT, PaymentState.PROCESSING: _ASK_PROCESSING}.get(
        state, _ASK_UNKNOWN
    )
    return steps[ask_count] if ask_count < len(steps) else _DAILY


# Starting -----------------------------------------------------------------------------------


def start(
    order: Order,
    key: ArrivedKey,
    path_of_payment: str,
    gateway: PaymentGateway | None,
    return_url: str,
) -> OnItsWay:
    """Start the payment, or find the one that an earlier arrival of `key` started.

    `path_of_payment` and `return_url` contain `{id}` for the payment's public id. Raises
    PaymentUnderWay, AmountOutOfBounds, NothingToPay, InvoiceNotFound, NoGateway, KeyReused before
    anything is stored; GatewaySaysNo when the gateway refuses and GatewaySilent when it does not
    answer, both with the payment stored.
    """
    if gateway is None:
        raise NoGateway

    def work(session: Session) -> int:
        if form_keys.find_result(session, key) is not None:
            return session.execute(select(Payment.id).where(Payment.key == key.intent)).scalar_one()
        amount_minor, invoice_id = _amount_of(session, order)
        under_way = session.scalar(
            select(Payment.public_id).where(
                Payment.account_id == order.account_id, Payment.state.in_(UNDER_WAY)
            )
        )
        if under_way is not None:
            raise PaymentUnderWay(under_way)
        new = NewPayment(key.intent, order.account_id, order.customer_id, invoice_id, amount_minor)
        [(payment_id, public_id)] = create(session, [new], gateway.name)
        form_keys.consume(session, key, path_of_payment.format(id=public_id))
        return payment_id

    return send(unit_of_work(work, order.account_id), gateway, return_url)


def _amount_of(session: Session, order: Order) -> tuple[int, int | None]:
    account = session.execute(
        select(Account.balance_minor, Account.currency).where(Account.id == order.account_id)
    ).one()
    if order.choice is Choice.OTHER:
        amount_minor = order.amount_minor or 0
        if not MINIMUM_MINOR <= amount_minor <= MAXIMUM_MINOR:
            language = current_isp().language
            raise AmountOutOfBounds(
                format_money(Money(MINIMUM_MINOR, account.currency), language),
                format_money(Money(MAXIMUM_MINOR, account.currency), language),
            )
        return amount_minor, None
    if order.choice is Choice.BALANCE:
        due_minor = account.balance_minor - processing_minor(session, order.account_id)
        if due_minor <= 0:
            raise NothingToPay
        _check_shown(order, due_minor, account.currency)
        return due_minor, None
    invoice = session.execute(
        select(Invoice.id, InvoiceBalance.open_minor)
        .join(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
        .where(Invoice.account_id == order.account_id, Invoice.public_id == order.invoice_public_id)
    ).one_or_none()
    if invoice is None:
        raise InvoiceNotFound
    open_minor = min(
        invoice.open_minor, account.balance_minor - processing_minor(session, order.account_id)
    )
    if open_minor <= 0:
        raise NothingToPay
    _check_shown(order, open_minor, account.currency)
    return open_minor, invoice.id


def _check_shown(order: Order, amount_minor: int, currency: str) -> None:
    """Nobody is sent to pay another sum than the button said."""
    if order.shown_minor not in (None, amount_minor):
        raise AmountChanged(format_money(Money(amount_minor, currency), current_isp().language))


def processing_minor(session: Session, account_id: int) -> int:
    """What bank debits of the account have under way, in minor units."""
    return session.execute(
        select(total(Payment.amount_minor)).where(
            Payment.account_id == account_id, Payment.state == PaymentState.PROCESSING
        )
    ).scalar_one()


def create(
    session: Session, payments: Sequence[NewPayment], gateway_name: str
) -> list[tuple[int, str]]:
    """Write payments in state `created`; returns (id, public id) in order.

    A second payment under way on an account, or a key used before, raises IntegrityError.
    """
    now = clock.now()
    currency = current_isp().currency
    rows = session.execute(
        insert(Payment).returning(Payment.id, Payment.public_id, sort_by_parameter_order=True),
        [
            {
                "public_id": ids.public_id(),
                "key": payment.key,
                "account_id": payment.account_id,
                "customer_id": payment.customer_id,
                "invoice_id": payment.invoice_id,
                "amount_minor": payment.amount_minor,
                "currency": currency,
                "state": PaymentState.CREATED.value,
                "gateway": gateway_name,
                "created_at": now,
                "ask_at": now + _START_GRACE,
                "ask_count": 0,
            }
            for payment in payments
        ],
    )
    _touch(session, [payment.account_id for payment in payments])
    return [(row.id, row.public_id) for row in rows]


# Statements that every posting runs are built once: building one costs more than running it, and
# on SQLite all other writers wait meanwhile.
_TOUCH = (
    update(Account)
    .where(Account.id.in_(bindparam("touched", expanding=True)))
    .values(revision=Account.revision + 1)
)


def _touch(session: Session, account_ids: Sequence[int]) -> None:
    """Every change of a payment changes its account's pages: kept copies of them are outdated."""
    if account_ids:
        session.connection().execute(_TOUCH, {"touched": account_ids})


def _change(
    session: Session, payment_id: int, conditions: Sequence[ColumnElement[bool]], **values: Any
) -> None:
    """Change a payment for which the conditions still hold."""
    account_id = session.scalar(
        update(Payment)
        .where(Payment.id == payment_id, *conditions)
        .values(revision=Payment.revision + 1, **values)
        .returning(Payment.account_id)
    )
    if account_id is not None:
        _touch(session, [account_id])


def send(payment_id: int, gateway: PaymentGateway, return_url: str) -> OnItsWay:
    """Ask the gateway for the hosted page of a payment that may already have one.

    Idempotent by the payment's key, so any number of copies end at the same page; after a day the
    payment is reconciled instead. Raises GatewaySaysNo when the gateway refuses, GatewaySilent
    when it does not answer.
    """
    payment = db.session.execute(
        select(
            Payment.public_id,
            Payment.account_id,
            Payment.state,
            Payment.hosted_url,
            Payment.key,
            Payment.amount_minor,
            Payment.currency,
            Payment.created_at,
            Account.public_id.label("account_public_id"),
            Account.number,
            Account.language,
        )
        .join(Account, Account.id == Payment.account_id)
        .where(Payment.id == payment_id)
    ).one()
    if payment.hosted_url is not None or payment.state not in UNDER_WAY:
        is_open = payment.state in UNDER_WAY
        return OnItsWay(payment_id, payment.public_id, payment.hosted_url if is_open else None)
    if clock.now() - payment.created_at >= _RESEND_WITHIN:
        settle(payment_id, gateway)
        return OnItsWay(payment_id, payment.public_id, None)
    order = StartOrder(
        key=payment.key,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        description=f"{current_isp().name} {payment.number}",
        return_url=return_url.format(id=payment.public_id),
        customer_reference=payment.account_public_id,
        language=payment.language,
    )
    try:
        started = gateway.start(order)
    except GatewayTimeout:
        _mark_unknown(payment_id, payment.account_id)
        raise GatewaySilent(payment.public_id) from None
    except GatewayRefused as refusal:
        if refusal.code == KEY_REUSED:
            # It is there in other words, say in another language, since an answer was lost: nobody
            # was given its page, so it is taken back where it is, for the customer to start anew.
            _withdraw(payment_id, payment.account_id, payment.key, gateway)
            return OnItsWay(payment_id, payment.public_id, None)
        _end(payment_id, payment.account_id, PaymentState.DECLINED, refusal.customer_message)
        raise GatewaySaysNo(refusal.customer_message, payment.public_id) from refusal

    def work(session: Session) -> tuple[str, str | None]:
        _change(
            session,
            payment_id,
            (Payment.state.in_(UNDER_WAY), Payment.hosted_url.is_(None)),
            state=PaymentState.SENT.value,
            gateway_reference=started.reference,
            hosted_url=started.hosted_url,
            ask_count=1,
            ask_at=clock.now() + _ASK_SENT[0],
        )
        row = session.execute(
            select(Payment.state, Payment.hosted_url).where(Payment.id == payment_id)
        ).one()
        return row.state, row.hosted_url

    state, hosted_url = unit_of_work(work, payment.account_id)
    if state in UNDER_WAY:
        return OnItsWay(payment_id, payment.public_id, hosted_url)
    if hosted_url is None:
        _withdraw(payment_id, payment.account_id, payment.key, gateway)
    return OnItsWay(payment_id, payment.public_id, None)


def _withdraw(payment_id: int, account_id: int, key: str, gateway: PaymentGateway) -> None:
    """Take back a start that arrived after its payment had ended here.

    Nobody was given its page, so no money can move on it, whether or not this succeeds.
    """
    try:
        truth = gateway.cancel(key)
    except GatewayError as failure:
        log.warning("a late start could not be withdrawn", extra={"reason": str(failure)})
    else:
        _apply_one(payment_id, account_id, truth, gateway.name, None)


def resume(account_id: int, public_id: str, gateway: PaymentGateway, return_url: str) -> OnItsWay:
    """Go on with a payment that was started. Raises PaymentNotFound and what `send` raises."""
    payment_id = db.session.scalar(
        select(Payment.id).where(Payment.account_id == account_id, Payment.public_id == public_id)
    )
    if payment_id is None:
        raise PaymentNotFound
    return send(payment_id, gateway, return_url)


def _mark_unknown(payment_id: int, account_id: int) -> None:
    def work(session: Session) -> None:
        _change(
            session,
            payment_id,
            (Payment.state.in_((PaymentState.CREATED, PaymentState.SENT)),),
            state=PaymentState.UNKNOWN.value,
            ask_count=1,
            ask_at=clock.now() + _ASK_UNKNOWN[0],
        )

    unit_of_work(work, account_id)


def _end(payment_id: int, account_id: int, state: PaymentState, reason: str = "") -> None:
    """End a payment that is known to have moved no money."""

    def work(session: Session) -> None:
        _change(
            session,
            payment_id,
            (Payment.state.in_(UNDER_WAY),),
            state=state.value,
            decline_reason=reason[:300],
            ended_at=clock.now(),
            ask_at=None,
            claimed_until_at=None,
        )

    unit_of_work(work, account_id)


# Coming back from the gateway ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Returned:
    """A payment whose browser comes back from the gateway."""

    payment_id: int
    account_id: int
    account_public_id: str
    amount: Money
    state: PaymentState


def find_for_return(public_id: str) -> Returned:
    """The payment of a return address, whoever asks. Raises PaymentNotFound."""
    row = db.session.execute(
        select(
            Payment.id,
            Payment.account_id,
            Account.public_id,
            Payment.amount_minor,
            Payment.currency,
            Payment.state,
        )
        .join(Account, Account.id == Payment.account_id)
        .where(Payment.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise PaymentNotFound
    return Returned(
        row.id,
        row.account_id,
        row.public_id,
        Money(row.amount_minor, row.currency),
        PaymentState(row.state),
    )


def may_see(customer_id: int, account_id: int) -> bool:
    """Whether the customer may see the account's money."""
    role = db.session.scalar(
        select(Membership.role).where(
            Membership.customer_id == customer_id, Membership.account_id == account_id
        )
    )
    return role is not None and role != Role.TECHNICAL


# Learning the truth -------------------------------------------------------------------------


_FIND_TO_SETTLE = select(Payment.key, Payment.account_id, Payment.state).where(
    Payment.id == bindparam("payment")
)
_FIND_TO_APPLY = (
    select(Payment, Account.public_id)
    .join(Account, Account.id == Payment.account_id)
    .where(Payment.id.in_(bindparam("payments", expanding=True)))
)


def settle(payment_id: int, gateway: PaymentGateway, notice_id: str | None = None) -> PaymentState:
    """Ask the gateway where the payment stands and make our books say the same, once.

    `notice_id` is stored in the same transaction as its effect. When the gateway does not answer,
    the payment becomes or stays unknown and is asked about later. Returns the state afterwards.
    """
    row = db.session.execute(_FIND_TO_SETTLE, {"payment": payment_id}).one()
    if row.state == PaymentState.SUCCEEDED and notice_id is None:
        return PaymentState.SUCCEEDED
    try:
        truth = gateway.ask(row.key)
    except GatewayUnknownKey:
        return _ask_later(payment_id, row.account_id, is_denied=True)
    except GatewayError:
        return _ask_later(payment_id, row.account_id, is_announced=notice_id is not None)
    return _apply_one(payment_id, row.account_id, truth, gateway.name, notice_id)


def cancel(account_id: int, public_id: str, gateway: PaymentGateway) -> PaymentState:
    """Cancel a payment under way; the gateway's answer decides, "already paid" included.

    Raises PaymentNotFound. Returns the state afterwards.
    """
    row = db.session.execute(
        select(Payment.id, Payment.key, Payment.state, Payment.hosted_url).where(
            Payment.account_id == account_id, Payment.public_id == public_id
        )
    ).one_or_none()
    if row is None:
        raise PaymentNotFound
    if row.state not in UNDER_WAY:
        return PaymentState(row.state)
    try:
        truth = gateway.cancel(row.key)
    except GatewayUnknownKey:
        # A start still on its way brings nobody to its page any more: see `_withdraw`.
        if row.hosted_url is None:
            _end(row.id, account_id, PaymentState.CANCELLED)
        else:
            _mark_unknown(row.id, account_id)
        return _state_of(row.id)
    except GatewayError:
        _mark_unknown(row.id, account_id)
        return _state_of(row.id)
    return _apply_one(row.id, account_id, truth, gateway.name, None)


def _state_of(payment_id: int) -> PaymentState:
    return PaymentState(
        db.session.execute(select(Payment.state).where(Payment.id == payment_id)).scalar_one()
    )


def _apply_one(
    payment_id: int, account_id: int, truth: Truth, gateway_name: str, notice_id: str | None
) -> PaymentState:
    current_isp()  # read now: asking within the unit would take a second connection meanwhile

    def work(session: Session) -> PaymentState:
        if notice_id is not None:
            seen = session.get(GatewayNotice, (gateway_name, notice_id))
            if seen is None:
                session.add(
                    GatewayNotice(gateway=gateway_name, event_id=notice_id, received_at=clock.now())
                )
                session.flush()
        return apply(session, [(payment_id, truth)])[0]

    try:
        return unit_of_work(work, account_id)
    except TruthMismatch as mismatch:
        log.critical("gateway truth differs from our intent", extra={"payment": str(mismatch)})
        return _ask_later(payment_id, account_id)


def _ask_later(
    payment_id: int, account_id: int, *, is_denied: bool = False, is_announced: bool = False
) -> PaymentState:
    """Note that the gateway did not say where the payment stands, and when to ask again.

    `is_denied`: it says that it never saw the payment, which ends one under way when no start of
    ours can still arrive. `is_announced`: a notice says that there is news, so that even a payment
    that has ended here is asked about once more.
    """

    def work(session: Session) -> PaymentState:
        payment = session.get_one(Payment, payment_id)
        state = PaymentState(payment.state)
        is_known = payment.hosted_url is not None or payment.gateway_reference is not None
        grace = _DENIAL_GRACE if is_known else _START_GRACE
        if is_denied and state in UNDER_WAY and clock.now() - payment.created_at >= grace:
            _move(payment, PaymentState.EXPIRED)
        elif state in (PaymentState.CREATED, PaymentState.SENT):
            _move(payment, PaymentState.UNKNOWN)
        elif state in ENDED and not is_denied and (is_announced or payment.ask_at is not None):
            _ask_once_more(payment)
        else:
            _schedule(payment)
        if payment.state != state:
            _touch(session, [account_id])
        return PaymentState(payment.state)

    return unit_of_work(work, account_id)


def _move(payment: Payment, state: PaymentState) -> None:
    """Put the payment into another state, whose questions begin anew."""
    payment.state = state.value
    payment.revision += 1
    payment.ask_count = 0
    payment.ask_at = None
    payment.ended_at = clock.now() if state in ENDED else None
    _schedule(payment)


def _ask_once_more(payment: Payment) -> None:
    """Plan a question about a payment that has ended here, until the gateway answers one."""
    if payment.state != PaymentState.SUCCEEDED:
        wait = ask_after(PaymentState.UNKNOWN, payment.ask_count)
        payment.ask_at = clock.now() + (wait or _DAILY)
        payment.ask_count += 1
        payment.claimed_until_at = None


def _schedule(payment: Payment) -> None:
    """Plan the next question, unless one is planned: somebody who asks in between moves nothing."""
    now = clock.now()
    if payment.state in ENDED:
        if payment.ask_at is not None:
            payment.ask_at = payment.claimed_until_at = None
        return
    if payment.ask_at is not None and payment.ask_at > now:
        return
    wait = ask_after(PaymentState(payment.state), payment.ask_count)
    payment.ask_at = None if wait is None else now + wait
    payment.ask_count += 1
    payment.claimed_until_at = None


def apply(
    session: Session,
    truths: Sequence[tuple[int, Truth]],
    paid_at: Mapping[int, datetime] | None = None,
) -> list[PaymentState]:
    """Make our payments say what the gateway says, within the running unit of work.

    Money that arrived is booked whatever we believed before; everything else ends only a payment
    that has not ended. `paid_at` has the payments, by id, that arrived at another time than now.
    Raises TruthMismatch when amount, currency or customer is not our own intent. Returns the states
    afterwards, in order.
    """
    rows = {
        payment.id: (payment, account_public_id)
        for payment, account_public_id in session.execute(
            _FIND_TO_APPLY, {"payments": [payment_id for payment_id, _ in truths]}
        )
    }
    received: list[tuple[Payment, Truth]] = []
    for payment_id, truth in truths:
        payment, account_public_id = rows[payment_id]
        ours = (payment.amount_minor, payment.currency, account_public_id)
        if ours != (truth.amount_minor, truth.currency, truth.customer_reference):
            raise TruthMismatch(payment.public_id)
        _take_over(payment, truth, received)
    # Asked before booking, which writes them; what is booked moves its account's balance.
    changed = [payment.account_id for payment, _ in rows.values() if payment in session.dirty]
    if received:
        _book(session, received, paid_at or {})
    session.flush()
    _touch(session, changed)
    return [PaymentState(rows[payment_id][0].state) for payment_id, _ in truths]


def _take_over(payment: Payment, truth: Truth, received: list[tuple[Payment, Truth]]) -> None:
    state = PaymentState(payment.state)
    if truth.state is GatewayState.SUCCEEDED:
        if state is not PaymentState.SUCCEEDED and all(payment is not seen for seen, _ in received):
            received.append((payment, truth))
        return
    wanted = _wanted(state, truth.state)
    if wanted is not state:
        _move(payment, wanted)
    else:
        _schedule(payment)
    if state in ENDED and wanted is state:
        return
    payment.gateway_reference = truth.reference or payment.gateway_reference
    payment.method = truth.method[:120] or payment.method
    payment.decline_reason = truth.decline_reason[:300]


def _wanted(state: PaymentState, theirs: GatewayState) -> PaymentState:
    """The state that follows from what the gateway says, when that is not success.

    What has ended stays ended, but for money on its way for a payment that was given up here; a
    debit that the bank has begun does not become a page to be filled in again.
    """
    if theirs is GatewayState.PROCESSING:
        is_given_up = state in (PaymentState.EXPIRED, PaymentState.CANCELLED)
        return state if state in ENDED and not is_given_up else PaymentState.PROCESSING
    if state in ENDED:
        return state
    if theirs is GatewayState.PENDING:
        return state if state is PaymentState.PROCESSING else PaymentState.SENT
    return _ENDS[theirs]


def _book(
    session: Session,
    received: Sequence[tuple[Payment, Truth]],
    paid_at: Mapping[int, datetime],
) -> None:
    """Post the entries of payments that have arrived, settle invoices, lift holds, tell people."""
    now = clock.now()
    isp = current_isp()
    today = clock.today(isp.timezone)
    arrived_at = {payment.id: paid_at.get(payment.id, now) for payment, _ in received}
    entry_ids = ledger.post(
        session,
        [
            ledger.Posting(
                key=f"payment:{payment.public_id}",
                kind=EntryKind.PAYMENT,
                account_id=payment.account_id,
                booked_on=clock.day_of(arrived_at[payment.id], isp.timezone),
                description="Payment",
                lines=(
                    (f"gateway:{payment.gateway}", payment.amount_minor),
                    (ledger.RECEIVABLE, -payment.amount_minor),
                ),
            )
            for payment, _ in received
        ],
        isp.currency,
    )
    for (payment, truth), entry_id in zip(received, entry_ids, strict=True):
        payment.state = PaymentState.SUCCEEDED.value
        payment.entry_id = entry_id
        payment.revision += 1
        payment.gateway_reference = truth.reference or payment.gateway_reference
        payment.method = truth.method[:120]
        payment.decline_reason = ""
        payment.ended_at = arrived_at[payment.id]
        payment.ask_at = None
        payment.claimed_until_at = None
    session.flush()
    ledger.allocate(
        session,
        [
            ledger.Credit(payment.account_id, entry_id, payment.amount_minor, payment.invoice_id)
            for (payment, _), entry_id in zip(received, entry_ids, strict=True)
        ],
        now,
    )
    account_ids = sorted({payment.account_id for payment, _ in received})
    _lift_unpaid_holds(session, account_ids, today, now)
    activity.record(
        session,
        [
            activity.Event(
                "payment_received",
                arrived_at[payment.id],
                account_id=payment.account_id,
                customer_id=payment.customer_id,
                facts={
                    "amount_minor": payment.amount_minor,
                    "currency": payment.currency,
                    "payment": payment.public_id,
                },
            )
            for payment, _ in received
        ],
    )
    _queue_receipts(session, [payment for payment, _ in received])


def _lifting() -> Update:
    overdue = (
        select(InvoiceBalance.account_id)
        .join(Invoice, Invoice.id == InvoiceBalance.invoice_id)
        .where(
            InvoiceBalance.account_id.in_(bindparam("accounts", expanding=True)),
            InvoiceBalance.settled_at.is_(None),
            Invoice.due_on < bindparam("today"),
        )
    )
    lines = select(Line.id).where(
        Line.account_id.in_(bindparam("accounts", expanding=True)), Line.account_id.not_in(overdue)
    )
    return (
        update(LineHold)
        .where(
            LineHold.line_id.in_(lines),
            LineHold.reason == HoldReason.UNPAID.value,
            LineHold.released_at.is_(None),
        )
        .values(released_at=bindparam("now"))
    )


_LIFT_UNPAID_HOLDS = _lifting()


def _lift_unpaid_holds(
    session: Session, account_ids: Sequence[int], today: date, now: datetime
) -> None:
    """Release holds for `unpaid` of accounts that owe nothing overdue any more (DESIGN §3)."""
    session.connection().execute(
        _LIFT_UNPAID_HOLDS, {"accounts": account_ids, "today": today, "now": now}
    )


def _finding_addressees() -> Select[int, Any, str, str]:
    oldest = (
        select(Contact.value)
        .where(
            Contact.account_id == Payment.account_id,
            Contact.kind == ContactKind.EMAIL,
            Contact.ended_on.is_(None),
        )
        .order_by(Contact.since_on, Contact.id)
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(
            Payment.id,
            func.coalesce(oldest, Customer.email_key).label("address"),
            Customer.language,
            Account.number,
        )
        .join(Customer, Customer.id == Payment.customer_id)
        .join(Account, Account.id == Payment.account_id)
        .where(Payment.id.in_(bindparam("payments", expanding=True)))
    )


_FIND_ADDRESSEES = _finding_addressees()


def _queue_receipts(session: Session, payments: Sequence[Payment]) -> None:
    """One receipt by e-mail for each payment somebody made while signed in."""
    with_customer = [payment for payment in payments if payment.customer_id is not None]
    if not with_customer:
        return
    addressees = {
        row.id: row
        for row in session.connection().execute(
            _FIND_ADDRESSEES, {"payments": [payment.id for payment in with_customer]}
        )
    }
    outbox.queue(
        session,
        [
            outbox.Letter(
                "receipt",
                addressees[payment.id].address,
                addressees[payment.id].language,
                account_id=payment.account_id,
                customer_id=payment.customer_id,
                facts={
                    "amount_minor": payment.amount_minor,
                    "currency": payment.currency,
                    "payment": payment.public_id,
                    "account_number": addressees[payment.id].number,
                },
            )
            for payment in with_customer
            if addressees[payment.id].address
        ],
    )


def take_notice(gateway: PaymentGateway, event_id: str, key: str | None) -> bool:
    """Let a believed notice have its effect, once. False when it names no payment of ours."""
    if db.session.get(GatewayNotice, (gateway.name, event_id)) is not None:
        return True
    payment_id = db.session.scalar(
        select(Payment.id).where(Payment.key == key, Payment.gateway == gateway.name)
    )
    if payment_id is None:
        return False
    try:
        settle(payment_id, gateway, event_id)
    except IntegrityError:
        # A copy of the notice was faster with the event id; its effect is ours.
        if db.session.get(GatewayNotice, (gateway.name, event_id)) is None:
            raise
    return True


# The worker's part --------------------------------------------------------------------------


def ask_due(gateway: PaymentGateway | None) -> int:
    """Ask the gateway about payments whose time has come; returns how many."""
    if gateway is None:
        return 0

    def ask(payment_id: int) -> None:
        try:
            settle(payment_id, gateway)
        except Exception:
            # The claim runs out by itself; one bad payment must not hold up the others.
            log.exception("a payment could not be settled", extra={"payment_id": payment_id})

    return due_work.do(Payment, Payment.ask_at, ask)
