"""What the gateway has moved of a payment without us: chargebacks, returned debits, refunds made
elsewhere or sent back. It is learnt from the gateway and booked once for each reference."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import payments, refunding, reversing
from core import clock, ids
from core.db import db, unit_of_work
from core.isp import current_isp
from gateways.payments.base import GatewayState, PaymentGateway, RefundTruth, ReversalTruth
from gateways.payments.errors import GatewayError
from models import (
    GatewayNotice,
    Payment,
    PaymentReversal,
    PaymentState,
    ReversalKind,
    ReversalState,
)

log = logging.getLogger("lastmile.payments")


def learn(payment_id: int, gateway: PaymentGateway, notice_id: str | None = None) -> int:
    """Book what the payment's bank has moved since, once each; how many were new.

    `notice_id` is stored in the same transaction as its effect. When the gateway does not answer it
    is asked again later. Refunds that are under way are asked about too, and first: what failed of
    those that had arrived is told from what the books have.
    """
    row = db.session.execute(
        select(Payment.key, Payment.account_id).where(Payment.id == payment_id)
    ).one()
    refunding.finish(payment_id, gateway)
    try:
        reversals = gateway.list_reversals(row.key)
        refunds = gateway.list_refunds(row.key)
    except GatewayError as failure:
        log.warning("what a bank took back is not known yet", extra={"reason": str(failure)})
        _look_again(payment_id, row.account_id)
        return 0
    current_isp()

    def work(session: Session) -> int:
        if notice_id is not None and session.get(GatewayNotice, (gateway.name, notice_id)) is None:
            session.add(
                GatewayNotice(gateway=gateway.name, event_id=notice_id, received_at=clock.now())
            )
            session.flush()
        payment = session.get_one(Payment, payment_id)
        payment.ask_at = payment.claimed_until_at = None
        return _take_over(session, payment, gateway.name, reversals, refunds)

    return unit_of_work(work, row.account_id)


def _look_again(payment_id: int, account_id: int) -> None:
    def work(session: Session) -> None:
        payment = session.get_one(Payment, payment_id)
        wait = payments.ask_after(PaymentState.UNKNOWN, payment.ask_count)
        payment.ask_at = clock.now() + (wait or timedelta(days=1))
        payment.ask_count += 1
        payment.claimed_until_at = None

    unit_of_work(work, account_id)


def _take_over(
    session: Session,
    payment: Payment,
    gateway_name: str,
    reversals: Sequence[ReversalTruth],
    refunds: Sequence[RefundTruth],
) -> int:
    """Write and book what has moved money and is not known: what the bank took back or gave again,
    refunds that were not made here, and those in our books that were sent back."""
    ours = session.scalars(
        select(PaymentReversal).where(PaymentReversal.payment_id == payment.id)
    ).all()
    known = {reversal.key for reversal in ours}
    moved = [
        _Moved(
            f"{gateway_name}:{truth.reference}",
            ReversalKind(truth.kind),
            truth,
            truth.reason,
            min(truth.happened_at, clock.now()),
        )
        for truth in reversals
        if truth.state is GatewayState.SUCCEEDED
    ]
    moved += _moves_of_refunds(gateway_name, ours, refunds)
    new: list[PaymentReversal] = []
    for each in moved:
        truth = each.truth
        if each.key in known:
            continue
        if truth.currency != payment.currency or truth.amount_minor <= 0:
            log.critical("a reversal is not of our payment", extra={"payment": payment.public_id})
            continue
        new.append(
            PaymentReversal(
                public_id=ids.public_id(),
                key=each.key,
                kind=each.kind.value,
                payment_id=payment.id,
                account_id=payment.account_id,
                amount_minor=truth.amount_minor,
                currency=truth.currency,
                # It is booked within this unit of work; a row that succeeded has its entry.
                state=ReversalState.PROCESSING.value,
                reason=each.reason[:300],
                gateway_reference=str(truth.reference)[:120],
                created_at=each.happened_at,
            )
        )
    session.add_all(new)
    session.flush()
    reversing.book(session, new)
    return len(new)


@dataclass(frozen=True, slots=True)
class _Moved:
    """Something that has moved money at the gateway, and the key under which it is booked."""

    key: str
    kind: ReversalKind
    truth: ReversalTruth | RefundTruth
    reason: str
    happened_at: datetime


def _moves_of_refunds(
    gateway_name: str, ours: Sequence[PaymentReversal], refunds: Sequence[RefundTruth]
) -> list[_Moved]:
    """What of the gateway's refunds our books do not have: one made at its own desk, or by us
    before a restore, and a failure of one that they have as given back. While one of ours is under
    way it cannot be told from those that were made elsewhere."""
    made = {
        reversal.gateway_reference: reversal
        for reversal in ours
        if reversal.kind == ReversalKind.REFUND
    }
    is_under_way = any(
        reversal.kind == ReversalKind.REFUND and reversal.state in reversing.UNDER_WAY
        for reversal in ours
    )
    found: list[_Moved] = []
    for truth in refunds:
        key = f"{gateway_name}:{truth.reference}"
        known = made.get(truth.reference)
        if known is None:
            if truth.state is GatewayState.SUCCEEDED and not is_under_way:
                why = "Found at the payment service"
                found.append(_Moved(key, ReversalKind.REFUND, truth, why, clock.now()))
        elif known.state == ReversalState.SUCCEEDED and _has_failed(truth):
            kind, why = ReversalKind.REFUND_FAILED, truth.decline_reason
            found.append(_Moved(f"{key}/failed", kind, truth, why, clock.now()))
    return found


def _has_failed(refund: RefundTruth) -> bool:
    return refund.state.is_final and refund.state is not GatewayState.SUCCEEDED
