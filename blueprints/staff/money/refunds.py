"""Payments as staff give them back: what is left of each, and what became of every refund.

Each look is noted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import aliased

from blueprints.billing import booking, refunding, reversing
from blueprints.billing.errors import PaymentNotFound
from blueprints.billing.payment_pages import words_of_method
from blueprints.staff.money import statement
from core.data_access import Reader
from core.db import db
from core.isp import current_isp
from core.money import Money
from models import (
    Customer,
    Invoice,
    Payment,
    PaymentReversal,
    PaymentState,
    ReversalKind,
)

LISTED = 50


@dataclass(frozen=True, slots=True)
class Refundable:
    """A payment that arrived, and what of it can still go back; `by_hand` says as what staff hand
    it back themselves: `cash`, `cheque`, `bank`, empty where the payment service does it."""

    public_id: str
    amount: Money
    left: Money
    created_at: datetime
    method: str
    by_hand: str


@dataclass(frozen=True, slots=True)
class RefundPage:
    """The choice of a payment to give back."""

    head: statement.Head
    payments: list[Refundable]


@dataclass(frozen=True, slots=True)
class Back:
    """A refund, or what a bank took back or sent back, and where it stands; `has_come_back`: it had
    arrived and came back later."""

    kind: str
    amount: Money
    state: str
    reason: str
    decline_reason: str
    asked_by: str
    decided_by: str
    at: datetime
    has_come_back: bool

    @property
    def is_under_way(self) -> bool:
        return self.state in ("created", "unknown", "processing")

    @property
    def came_to_nothing(self) -> bool:
        return self.state in ("declined", "refused")


@dataclass(frozen=True, slots=True)
class PaymentPage:
    """A payment with all that went back of it. `can_go_back`: it came by a way that leads back."""

    head: statement.Head
    public_id: str
    amount: Money
    left: Money
    state: str
    method: str
    by_hand: str
    created_at: datetime
    ended_at: datetime | None
    decline_reason: str
    invoice_number: str | None
    invoice_public_id: str | None
    paid_by: str
    taken_by: str
    note: str
    can_go_back: bool
    backs: list[Back]
    limit: Money
    owed_again: Money | None


def list_refundable(public_id: str, reader: Reader) -> RefundPage:
    """The account's latest payments of which something can go back. Raises NotFound."""
    head = statement.open_account(public_id, reader)
    rows = db.session.execute(
        select(
            Payment.public_id,
            Payment.amount_minor,
            Payment.state,
            Payment.created_at,
            Payment.gateway,
            Payment.method,
            reversing.LEFT_MINOR.label("left_minor"),
        )
        .where(
            Payment.account_id == head.account_id,
            Payment.state == PaymentState.SUCCEEDED.value,
            reversing.LEFT_MINOR > 0,
        )
        .order_by(Payment.created_at.desc(), Payment.id.desc())
        .limit(LISTED)
    )
    return RefundPage(
        head,
        [
            Refundable(
                row.public_id,
                Money(row.amount_minor, head.currency),
                Money(int(row.left_minor), head.currency),
                row.created_at,
                words_of_method(row.gateway, row.method),
                _by_hand(row),
            )
            for row in rows
            if refunding.can_go_back(row.state, row.gateway)
        ],
    )


def _by_hand(row: Any) -> str:
    if row.gateway not in reversing.BY_HAND:
        return ""
    return str(row.method if row.gateway == booking.COUNTER else row.gateway)


def get_payment(public_id: str, payment_public_id: str, reader: Reader) -> PaymentPage:
    """A payment of the account. Raises NotFound."""
    head = statement.open_account(public_id, reader)
    session = db.session()
    payer, taker = aliased(Customer), aliased(Customer)
    row = session.execute(
        select(
            Payment.id,
            Payment.public_id,
            Payment.amount_minor,
            Payment.state,
            Payment.gateway,
            Payment.method,
            Payment.created_at,
            Payment.ended_at,
            Payment.decline_reason,
            Payment.note,
            Invoice.number,
            Invoice.public_id.label("invoice_public_id"),
            payer.name.label("paid_by"),
            taker.name.label("taken_by"),
        )
        .outerjoin(Invoice, Invoice.id == Payment.invoice_id)
        .outerjoin(payer, payer.id == Payment.customer_id)
        .outerjoin(taker, taker.id == Payment.taken_by_id)
        .where(Payment.account_id == head.account_id, Payment.public_id == payment_public_id)
    ).one_or_none()
    if row is None:
        raise PaymentNotFound
    isp = current_isp()
    has_arrived = row.state == PaymentState.SUCCEEDED
    left_minor = reversing.left_minor(session, row.id) if has_arrived else 0
    backs = _backs(row.id, head.currency)
    return PaymentPage(
        head=head,
        public_id=row.public_id,
        amount=Money(row.amount_minor, head.currency),
        left=Money(max(left_minor, 0), head.currency),
        state=row.state,
        method=words_of_method(row.gateway, row.method),
        by_hand=_by_hand(row),
        created_at=row.created_at,
        ended_at=row.ended_at,
        decline_reason=row.decline_reason,
        invoice_number=row.number,
        invoice_public_id=row.invoice_public_id,
        paid_by=row.paid_by or "",
        taken_by=row.taken_by or "",
        note=row.note,
        can_go_back=refunding.can_go_back(row.state, row.gateway),
        backs=backs,
        limit=Money(isp.billing_rules.refund_limit_minor, isp.currency),
        owed_again=_owed_again(backs, left_minor, head.currency),
    )


def _owed_again(backs: list[Back], left_minor: int, currency: str) -> Money | None:
    """What came back of refunds and was not given back again since, as far as it is left; None
    where that is nothing."""
    came_minor = 0
    for back in backs:
        if back.kind == ReversalKind.REFUND_FAILED:
            came_minor += back.amount.amount_minor
        elif back.kind == ReversalKind.REFUND and came_minor and not back.came_to_nothing:
            came_minor = max(0, came_minor - back.amount.amount_minor)
    came_minor = min(came_minor, left_minor)
    return Money(came_minor, currency) if came_minor > 0 else None


def _backs(payment_id: int, currency: str) -> list[Back]:
    asker, decider = aliased(Customer), aliased(Customer)
    rows = db.session.execute(
        select(
            PaymentReversal.kind,
            PaymentReversal.amount_minor,
            PaymentReversal.state,
            PaymentReversal.reason,
            PaymentReversal.decline_reason,
            PaymentReversal.gateway_reference,
            func.coalesce(PaymentReversal.ended_at, PaymentReversal.created_at).label("at"),
            asker.name.label("asked_by"),
            decider.name.label("decided_by"),
        )
        .outerjoin(asker, asker.id == PaymentReversal.asked_by_id)
        .outerjoin(decider, decider.id == PaymentReversal.approved_by_id)
        .where(PaymentReversal.payment_id == payment_id)
        .order_by(PaymentReversal.id)
    ).all()
    came_back = {row.gateway_reference for row in rows if row.kind == ReversalKind.REFUND_FAILED}
    return [
        Back(
            row.kind,
            Money(row.amount_minor, currency),
            row.state,
            row.reason,
            row.decline_reason,
            row.asked_by or "",
            row.decided_by or "",
            row.at,
            has_come_back=row.kind == ReversalKind.REFUND and row.gateway_reference in came_back,
        )
        for row in rows
    ]
