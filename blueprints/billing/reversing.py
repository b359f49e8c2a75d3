"""Money of a payment that went back, or came again: what is left of it, and how that is booked.

A refund, a chargeback or a returned debit opens again what the payment had settled, so that the
customer owes it. What comes again (a chargeback that was won, a refund that a bank sent back) is
booked by an entry of its own, the other way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, case, select
from sqlalchemy.orm import Session

from blueprints.billing import booking, ledger, telling
from blueprints.billing.dunning import releasing
from core import activity, clock
from core.db import total
from core.isp import current_isp
from models import (
    COMES_AGAIN,
    EntryKind,
    Payment,
    PaymentReversal,
    ReversalKind,
    ReversalState,
)

BY_HAND = frozenset({booking.COUNTER, booking.BANK})
"""What stands in the place of a gateway's name where staff hand the money back."""
UNDER_WAY = (ReversalState.CREATED, ReversalState.UNKNOWN, ReversalState.PROCESSING)
CAME_TO_NOTHING = (ReversalState.DECLINED.value, ReversalState.REFUSED.value)
_ENTRY_KINDS = {
    ReversalKind.REFUND: EntryKind.REFUND,
    ReversalKind.CHARGEBACK: EntryKind.CHARGEBACK,
    ReversalKind.CHARGEBACK_WON: EntryKind.CHARGEBACK,
    ReversalKind.RETURN: EntryKind.RETURN,
    ReversalKind.REFUND_FAILED: EntryKind.REFUND,
}
_WORDS = {
    ReversalKind.REFUND: "Refund",
    ReversalKind.CHARGEBACK: "Chargeback",
    ReversalKind.CHARGEBACK_WON: "Chargeback won",
    ReversalKind.RETURN: "Returned debit",
    ReversalKind.REFUND_FAILED: "Refund sent back",
}
EVENTS = {
    ReversalKind.REFUND: "payment_refunded",
    ReversalKind.CHARGEBACK: "payment_charged_back",
    ReversalKind.CHARGEBACK_WON: "chargeback_won",
    ReversalKind.RETURN: "payment_returned",
    ReversalKind.REFUND_FAILED: "refund_failed",
}


_COMES_AGAIN = PaymentReversal.kind.in_([kind.value for kind in COMES_AGAIN])
_GONE_MINOR = case(
    (_COMES_AGAIN, -PaymentReversal.amount_minor), else_=PaymentReversal.amount_minor
)
LEFT_MINOR: ColumnElement[int] = Payment.amount_minor - (
    select(total(_GONE_MINOR))
    .where(
        PaymentReversal.payment_id == Payment.id,
        PaymentReversal.state.not_in(CAME_TO_NOTHING),
    )
    .scalar_subquery()
)
"""What of a payment has not gone back and is not about to, in minor units."""


def left_minor(session: Session, payment_id: int) -> int:
    """The same of one payment."""
    return int(session.execute(select(LEFT_MINOR).where(Payment.id == payment_id)).scalar_one())


@dataclass(frozen=True, slots=True)
class WentBack:
    """What our books have given and lost of a payment, in minor units; `is_under_way`: a refund of
    ours has not ended."""

    refunded_minor: int
    reversed_minor: int
    is_under_way: bool


def went_back(session: Session, payment_id: int, before: datetime | None = None) -> WentBack:
    """What went back of a payment by our books, with `before` what had until then."""
    refunded = reversed_ = 0
    is_under_way = False
    rows = session.execute(
        select(
            PaymentReversal.kind,
            PaymentReversal.state,
            PaymentReversal.amount_minor,
            PaymentReversal.ended_at,
        ).where(PaymentReversal.payment_id == payment_id)
    )
    for row in rows:
        is_under_way = is_under_way or row.state in UNDER_WAY
        if row.state != ReversalState.SUCCEEDED or (before is not None and row.ended_at >= before):
            continue
        minor = -row.amount_minor if row.kind in COMES_AGAIN else row.amount_minor
        if row.kind in (ReversalKind.REFUND, ReversalKind.REFUND_FAILED):
            refunded += minor
        else:
            reversed_ += minor
    return WentBack(refunded, reversed_, is_under_way)


# Booking --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Paid:
    payment: Payment
    reversal: PaymentReversal

    @property
    def is_back(self) -> bool:
        """Whether the money comes to us again."""
        return self.reversal.kind in COMES_AGAIN


def book(session: Session, reversals: Sequence[PaymentReversal]) -> None:
    """Post the entries of `reversals`, open what the payments had settled, tell the customers;
    within the running unit of work over their accounts."""
    isp = current_isp()
    now = clock.now()
    for reversal in reversals:
        paid = _Paid(session.get_one(Payment, reversal.payment_id), reversal)
        sign = 1 if paid.is_back else -1
        kind = ReversalKind(reversal.kind)
        [entry_id] = ledger.post(
            session,
            [
                ledger.Posting(
                    key=f"reversal:{reversal.public_id}",
                    kind=_ENTRY_KINDS[kind],
                    account_id=reversal.account_id,
                    booked_on=clock.day_of(now, isp.timezone),
                    description=_WORDS[kind],
                    lines=(
                        (booking.ledger_of(paid.payment), sign * reversal.amount_minor),
                        (ledger.RECEIVABLE, -sign * reversal.amount_minor),
                    ),
                )
            ],
            isp.currency,
        )
        if paid.is_back:
            credit = ledger.Credit(
                reversal.account_id, entry_id, reversal.amount_minor, paid.payment.invoice_id
            )
            ledger.allocate(session, [credit], now)
        else:
            debit = ledger.Debit(
                reversal.account_id, entry_id, reversal.amount_minor, paid.payment.entry_id
            )
            ledger.reopen(session, debit, now)
        reversal.state = ReversalState.SUCCEEDED.value
        reversal.entry_id = entry_id
        reversal.ended_at = now
        reversal.ask_at = reversal.claimed_until_at = None
        paid.payment.revision += 1
        session.flush()
        _tell(session, paid, now)
        if paid.is_back:
            releasing.lift_unpaid(session, [reversal.account_id], clock.day_of(now, isp.timezone))


def _tell(session: Session, paid: _Paid, now: datetime) -> None:
    reversal = paid.reversal
    kind = EVENTS[ReversalKind(reversal.kind)]
    facts = {
        "amount_minor": reversal.amount_minor,
        "currency": reversal.currency,
        "payment": paid.payment.public_id,
    }
    activity.record(
        session,
        [
            activity.Event(
                kind,
                now,
                account_id=reversal.account_id,
                customer_id=paid.payment.customer_id,
                facts=facts,
            )
        ],
    )
    customer_id = paid.payment.customer_id or telling.find_owner(session, reversal.account_id)
    if customer_id is not None:
        by = booking.ledger_of(paid.payment) if paid.payment.gateway in BY_HAND else ""
        telling.tell(
            session,
            "payment_reversed",
            reversal.account_id,
            customer_id,
            {**facts, "how": reversal.kind, "by": by},
        )
    if reversal.kind == ReversalKind.REFUND_FAILED:
        telling.tell_of_failed_refund(session, reversal)
