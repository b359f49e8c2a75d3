"""Giving a payment back: refunds by staff.

A refund is committed under its own key before the gateway hears of it, like a payment. What came
without a gateway staff hand back themselves, and it is booked at once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from flask import current_app
from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import booking, payments, reversing
from blueprints.billing.errors import (
    NoGateway,
    PaymentNotFound,
    RefundRefused,
    ReversalNotFound,
    SamePerson,
    TooMuchBack,
)
from blueprints.billing.reversing import BY_HAND, CAME_TO_NOTHING, UNDER_WAY
from core import clock, due_work, ids, revisions
from core.db import db, total, unit_of_work
from core.form_keys import KeyReused
from core.isp import current_isp
from core.money import Money, format_money
from gateways.payments.base import GatewayState, PaymentGateway, RefundTruth
from gateways.payments.errors import (
    GatewayError,
    GatewayRefused,
    GatewayUnknownKey,
)
from models import (
    Payment,
    PaymentReversal,
    PaymentState,
    ReversalKind,
    ReversalState,
)

log = logging.getLogger("lastmile.payments")

# Gateways keep idempotency keys for a day; after that a refund is reconciled, not sent again.
_RESEND_WITHIN = timedelta(hours=23)
_ALONE_WITHIN = timedelta(days=1)
"""What one member of staff gives back to an account within this counts together."""
_NEVER_ARRIVED = "The payment service never received it."


def can_go_back(state: str, came_by: str) -> bool:
    """Whether a payment in `state` that came by this gateway, or without one, can be given back:
    by the gateway of today, or by hand. A voucher cannot; it was never money of the customer's."""
    gateway = _gateway()
    ways = BY_HAND if gateway is None else BY_HAND | {gateway.name}
    return state == PaymentState.SUCCEEDED and came_by in ways


def ask_refund(
    account_id: int, payment_public_id: str, amount_minor: int, reason: str, staff_id: int, key: str
) -> str:
    """Give back `amount_minor` of a payment, at once or, over the ISP's limit, when a second member
    of staff approves; the refund's public id.

    `key` is that of the form (`ArrivedKey.intent`): the same again finds the same refund. Raises
    PaymentNotFound, NoGateway, RefundRefused, TooMuchBack, KeyReused before anything is stored.
    """
    reason = reason[:300]
    gateway = _gateway()

    def work(session: Session) -> tuple[int | None, str]:
        payment = session.scalar(
            select(Payment).where(
                Payment.account_id == account_id, Payment.public_id == payment_public_id
            )
        )
        if payment is None:
            raise PaymentNotFound
        known = session.scalar(select(PaymentReversal).where(PaymentReversal.key == key))
        if known is not None:
            asked = (known.payment_id, known.amount_minor, known.reason)
            if asked != (payment.id, amount_minor, reason):
                raise KeyReused
            return None, known.public_id
        if gateway is None and payment.gateway not in booking.WITHOUT_GATEWAY:
            raise NoGateway
        if not can_go_back(payment.state, payment.gateway):
            raise RefundRefused
        left = reversing.left_minor(session, payment.id)
        if not 0 < amount_minor <= left:
            raise TooMuchBack(
                format_money(Money(max(left, 0), payment.currency), current_isp().language)
            )
        alone_minor = _given_alone_minor(session, account_id, staff_id)
        limit_minor = current_isp().billing_rules.refund_limit_minor
        needs_two = alone_minor + amount_minor > limit_minor
        reversal = PaymentReversal(
            public_id=ids.public_id(),
            key=key,
            kind=ReversalKind.REFUND.value,
            payment_id=payment.id,
            account_id=account_id,
            amount_minor=amount_minor,
            currency=payment.currency,
            state=(ReversalState.ASKED if needs_two else ReversalState.CREATED).value,
            reason=reason,
            asked_by_id=staff_id,
            created_at=clock.now(),
        )
        session.add(reversal)
        session.flush()
        if not needs_two:
            _begin(session, reversal, payment)
        revisions.raise_account(session, account_id)
        return reversal.id, reversal.public_id

    current_isp()  # read now: asking within the unit would take a second connection meanwhile
    new_id, public_id = unit_of_work(work, account_id)
    if new_id is not None:
        _carry_out_now(new_id)
    return public_id


def _given_alone_minor(session: Session, account_id: int, staff_id: int) -> int:
    """What this member of staff gave back to the account within a day without a second one."""
    not_given = (ReversalState.ASKED.value, *CAME_TO_NOTHING)
    return int(
        session.execute(
            select(total(PaymentReversal.amount_minor)).where(
                PaymentReversal.account_id == account_id,
                PaymentReversal.created_at > clock.now() - _ALONE_WITHIN,
                PaymentReversal.kind == ReversalKind.REFUND.value,
                PaymentReversal.asked_by_id == staff_id,
                PaymentReversal.approved_by_id.is_(None),
                PaymentReversal.state.not_in(not_given),
            )
        ).scalar_one()
    )


def _begin(session: Session, reversal: PaymentReversal, payment: Payment) -> None:
    """Nothing stands in the way of a refund any more: staff hand the money over now, or the
    gateway is asked next."""
    reversal.state = ReversalState.CREATED.value
    if payment.gateway in BY_HAND:
        reversing.book(session, [reversal])
    else:
        reversal.ask_at = clock.now()


def approve(public_id: str, staff_id: int) -> None:
    """Let a refund be made that waits for a second member of staff; one that is approved already
    stays so. Raises ReversalNotFound, SamePerson."""
    _decide(public_id, staff_id, ReversalState.CREATED)


def refuse(public_id: str, staff_id: int) -> None:
    """Let a refund not be made that waits for a second member of staff; whoever asked for it may
    take it back so. Raises ReversalNotFound."""
    _decide(public_id, staff_id, ReversalState.REFUSED)


def _decide(public_id: str, staff_id: int, wanted: ReversalState) -> None:
    row = db.session.execute(
        select(PaymentReversal.id, PaymentReversal.account_id).where(
            PaymentReversal.public_id == public_id,
            PaymentReversal.kind == ReversalKind.REFUND.value,
        )
    ).one_or_none()
    if row is None:
        raise ReversalNotFound

    def work(session: Session) -> bool:
        reversal = session.get_one(PaymentReversal, row.id)
        if reversal.state != ReversalState.ASKED:
            return False
        if wanted is ReversalState.CREATED:
            if reversal.asked_by_id == staff_id:
                raise SamePerson
            reversal.approved_by_id = staff_id
            _begin(session, reversal, session.get_one(Payment, reversal.payment_id))
        else:
            if reversal.asked_by_id != staff_id:
                reversal.approved_by_id = staff_id
            reversal.ended_at = clock.now()
            reversal.state = wanted.value
        revisions.raise_account(session, row.account_id)
        return True

    current_isp()
    if unit_of_work(work, row.account_id):
        _carry_out_now(row.id)


def _gateway() -> PaymentGateway | None:
    gateway: PaymentGateway | None = current_app.extensions["payment_gateway"]
    return gateway


def _carry_out_now(reversal_id: int) -> None:
    """Send what was just committed; what fails is left to the worker."""
    gateway = _gateway()
    if gateway is None:
        return
    try:
        carry_out(reversal_id, gateway)
    except Exception:
        log.exception("a refund is left to the worker", extra={"reversal_id": reversal_id})


def carry_out(reversal_id: int, gateway: PaymentGateway) -> ReversalState:
    """Send a refund that was committed, or ask about one that may have been sent; the state
    afterwards. Safe to repeat."""
    row = db.session.execute(
        select(
            PaymentReversal.key,
            PaymentReversal.state,
            PaymentReversal.amount_minor,
            PaymentReversal.account_id,
            PaymentReversal.created_at,
            PaymentReversal.ask_count,
            Payment.key.label("payment_key"),
        )
        .join(Payment, Payment.id == PaymentReversal.payment_id)
        .where(PaymentReversal.id == reversal_id)
    ).one()
    state = ReversalState(row.state)
    if state not in UNDER_WAY:
        return state
    is_stale = clock.now() - row.created_at >= _RESEND_WITHIN
    try:
        if row.ask_count == 0:
            truth = gateway.refund(row.payment_key, row.key, row.amount_minor)
        else:
            truth = _asked_or_sent(gateway, row, is_stale=is_stale)
    except GatewayRefused as refusal:
        return _end(reversal_id, row.account_id, refusal.customer_message)
    except GatewayUnknownKey:
        if is_stale:
            return _end(reversal_id, row.account_id, _NEVER_ARRIVED)
        return _ask_later(reversal_id, row.account_id)
    except GatewayError:
        return _ask_later(reversal_id, row.account_id)
    return _apply(reversal_id, row.account_id, truth)


def _asked_or_sent(gateway: PaymentGateway, row: Any, *, is_stale: bool) -> RefundTruth:
    try:
        return gateway.ask_refund(row.payment_key, row.key)
    except GatewayUnknownKey:
        if is_stale:
            raise
        return gateway.refund(row.payment_key, row.key, row.amount_minor)


def _end(reversal_id: int, account_id: int, reason: str) -> ReversalState:
    def work(session: Session) -> ReversalState:
        reversal = session.get_one(PaymentReversal, reversal_id)
        if reversal.state in UNDER_WAY:
            _decline(reversal, reason)
            revisions.raise_account(session, account_id)
        return ReversalState(reversal.state)

    return unit_of_work(work, account_id)


def _decline(reversal: PaymentReversal, reason: str) -> None:
    reversal.state = ReversalState.DECLINED.value
    reversal.decline_reason = reason[:300]
    reversal.ended_at = clock.now()
    reversal.ask_at = reversal.claimed_until_at = None


def _ask_later(reversal_id: int, account_id: int) -> ReversalState:
    def work(session: Session) -> ReversalState:
        reversal = session.get_one(PaymentReversal, reversal_id)
        if reversal.state == ReversalState.CREATED:
            reversal.state = ReversalState.UNKNOWN.value
        if reversal.state in UNDER_WAY:
            _schedule(reversal)
        return ReversalState(reversal.state)

    return unit_of_work(work, account_id)


def _schedule(reversal: PaymentReversal) -> None:
    wait = payments.ask_after(PaymentState.UNKNOWN, reversal.ask_count)
    reversal.ask_at = clock.now() + (wait or timedelta(days=1))
    reversal.ask_count += 1
    reversal.claimed_until_at = None


def _apply(reversal_id: int, account_id: int, truth: RefundTruth) -> ReversalState:
    current_isp()

    def work(session: Session) -> ReversalState:
        reversal = session.get_one(PaymentReversal, reversal_id)
        if reversal.state not in UNDER_WAY:
            return ReversalState(reversal.state)
        if (truth.amount_minor, truth.currency) != (reversal.amount_minor, reversal.currency):
            log.critical("a refund differs from our intent", extra={"refund": reversal.public_id})
            _schedule(reversal)
            return ReversalState(reversal.state)
        reversal.gateway_reference = truth.reference or reversal.gateway_reference
        if truth.state is GatewayState.SUCCEEDED:
            reversing.book(session, [reversal])
        elif truth.state.is_final:
            _decline(reversal, truth.decline_reason)
            revisions.raise_account(session, account_id)
        else:
            reversal.state = ReversalState.PROCESSING.value
            _schedule(reversal)
        return ReversalState(reversal.state)

    return unit_of_work(work, account_id)


# The worker's part ----------------------------------------------------------------------------


def ask_due(gateway: PaymentGateway | None) -> int:
    """Send and ask about refunds whose time has come; returns how many."""
    if gateway is None:
        return 0

    return due_work.do(
        PaymentReversal,
        PaymentReversal.ask_at,
        lambda reversal_id: carry_out(reversal_id, gateway),
    )


def finish(payment_id: int, gateway: PaymentGateway) -> None:
    """Ask about the payment's refunds that are under way."""
    for reversal_id in _list_under_way(payment_id):
        carry_out(reversal_id, gateway)


def _list_under_way(payment_id: int) -> Sequence[int]:
    return db.session.scalars(
        select(PaymentReversal.id).where(
            PaymentReversal.payment_id == payment_id,
            PaymentReversal.state.in_([state.value for state in UNDER_WAY]),
        )
    ).all()
