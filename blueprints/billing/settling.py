"""Learning how a payment ended, exactly once.

The return page, the gateway's notice and the worker all come to `settle`, which asks the gateway
for the truth and makes our books say the same.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import bindparam, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from blueprints.billing import booking, payments, taken_back
from blueprints.billing.dunning import releasing
from blueprints.billing.errors import (
    PaymentNotFound,
    TruthMismatch,
)
from core import clock, due_work
from core.db import db, unit_of_work
from core.isp import current_isp
from gateways.payments.base import GatewayState, Notice, PaymentGateway, Truth
from gateways.payments.errors import (
    GatewayError,
    GatewayUnknownKey,
)
from models import (
    ENDED,
    UNDER_WAY,
    Account,
    GatewayNotice,
    Payment,
    PaymentState,
)

log = logging.getLogger("lastmile.payments")

_ENDS = {
    GatewayState.DECLINED: PaymentState.DECLINED,
    GatewayState.EXPIRED: PaymentState.EXPIRED,
    GatewayState.CANCELLED: PaymentState.CANCELLED,
}

_FIND_TO_SETTLE = select(
    Payment.key, Payment.account_id, Payment.state, Payment.ask_at, Payment.gateway
).where(Payment.id == bindparam("payment"))
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
    if row.gateway != gateway.name:
        return PaymentState(row.state)  # only the one that it was begun with knows
    if row.state == PaymentState.SUCCEEDED:
        # What there is to ask is whether its bank has taken something back.
        if notice_id is not None or row.ask_at is not None:
            taken_back.learn(payment_id, gateway, notice_id)
        return PaymentState.SUCCEEDED
    try:
        truth = gateway.ask(row.key)
    except GatewayUnknownKey:
        return _ask_later(payment_id, row.account_id, is_denied=True)
    except GatewayError:
        return _ask_later(payment_id, row.account_id, is_announced=notice_id is not None)
    return apply_one(payment_id, row.account_id, truth, gateway.name, notice_id)


def cancel(account_id: int, public_id: str, gateway: PaymentGateway) -> PaymentState:
    """Cancel a payment under way; the gateway's answer decides, "already paid" included.

    Raises PaymentNotFound. Returns the state afterwards.
    """
    row = db.session.execute(
        select(
            Payment.id,
            Payment.key,
            Payment.state,
            Payment.hosted_url,
            Payment.method_id,
            Payment.created_at,
            Payment.gateway,
        ).where(Payment.account_id == account_id, Payment.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise PaymentNotFound
    if row.state not in UNDER_WAY or row.gateway != gateway.name:
        return PaymentState(row.state)
    try:
        truth = gateway.cancel(row.key)
    except GatewayUnknownKey:
        # A start still on its way brings nobody to its page any more: see `_withdraw`. A charge
        # still on its way takes money.
        may_arrive = clock.now() - row.created_at < payments.START_GRACE
        if row.hosted_url is None and not (row.method_id is not None and may_arrive):
            payments.end(row.id, account_id, PaymentState.CANCELLED)
        else:
            payments.mark_unknown(row.id, account_id)
        return _state_of(row.id)
    except GatewayError:
        payments.mark_unknown(row.id, account_id)
        return _state_of(row.id)
    return apply_one(row.id, account_id, truth, gateway.name, None)


def _state_of(payment_id: int) -> PaymentState:
    return PaymentState(
        db.session.execute(select(Payment.state).where(Payment.id == payment_id)).scalar_one()
    )


def apply_one(
    payment_id: int, account_id: int, truth: Truth, gateway_name: str, notice_id: str | None
) -> PaymentState:
    """`apply` for one payment in a unit of work of its own, with the notice that told of it.

    A truth that is not of our intent is logged, and asked for again later.
    """
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
        grace = payments.DENIAL_GRACE if is_known else payments.START_GRACE
        if is_denied and state in UNDER_WAY and clock.now() - payment.created_at >= grace:
            payments.move(payment, PaymentState.EXPIRED)
        elif state in (PaymentState.CREATED, PaymentState.SENT):
            payments.move(payment, PaymentState.UNKNOWN)
        elif state in ENDED and not is_denied and (is_announced or payment.ask_at is not None):
            payments.ask_once_more(payment)
        else:
            payments.schedule(payment)
        if payment.state != state:
            payments.touch(session, [account_id])
        return PaymentState(payment.state)

    return unit_of_work(work, account_id)


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
        booking.book(session, received, paid_at or {})
    session.flush()
    begun = {row.account_id for row, _ in rows.values() if row.state == PaymentState.PROCESSING}
    if begun:
        # What is on its way rests: whoever has paid all by debit need not wait for the bank.
        releasing.lift_unpaid(session, sorted(begun), clock.today(current_isp().timezone))
    payments.touch(session, changed)
    payments.wake_planned(session, [payment for payment, _ in rows.values()])
    return [PaymentState(rows[payment_id][0].state) for payment_id, _ in truths]


def _take_over(payment: Payment, truth: Truth, received: list[tuple[Payment, Truth]]) -> None:
    state = PaymentState(payment.state)
    if truth.state is GatewayState.SUCCEEDED:
        if state is not PaymentState.SUCCEEDED and all(payment is not seen for seen, _ in received):
            received.append((payment, truth))
        return
    wanted = _wanted(state, truth.state)
    if wanted is not state:
        payments.move(payment, wanted)
    else:
        payments.schedule(payment)
    if state in ENDED and wanted is state:
        return
    payment.gateway_reference = truth.reference or payment.gateway_reference
    payment.method = truth.method[:120] or payment.method
    payment.hosted_url = truth.hosted_url or payment.hosted_url
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


def take_notice(gateway: PaymentGateway, notice: Notice) -> bool:
    """Let a believed notice have its effect, once. False when it names no payment of ours, by our
    key or by the gateway's reference."""
    event_id = notice.event_id
    if db.session.get(GatewayNotice, (gateway.name, event_id)) is not None:
        return True
    named = (
        Payment.key == notice.key
        if notice.key is not None
        else Payment.gateway_reference == notice.reference
    )
    payment_id = db.session.scalar(
        select(Payment.id).where(named, Payment.gateway == gateway.name).limit(1)
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

    return due_work.do(
        Payment,
        Payment.ask_at,
        lambda payment_id: settle(payment_id, gateway),
        Payment.gateway == gateway.name,
    )
