"""Credits and refunds above their limits, which wait for a second member of staff."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, and_, func, literal, null, or_, select, union_all

from blueprints.billing import adjusting, refunding, reversing
from blueprints.billing.payment_pages import words_of_method
from core import clock, data_access
from core.data_access import Reader
from core.db import db
from core.errors import NotFound
from core.money import Money
from models import (
    Account,
    Adjustment,
    AdjustmentState,
    Customer,
    Invoice,
    Payment,
    PaymentReversal,
    ReversalKind,
    ReversalState,
)

LISTED = 50
CREDIT, REFUND = "credit", "refund"
DECLINED_SHOWN_FOR = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A credit or a refund that waits. `can_approve`: the reader is not the one who asked for it.
    `method` is with what the payment was paid that is to go back."""

    kind: str
    public_id: str
    account_public_id: str
    account_number: str
    account_name: str
    amount: Money
    reason: str
    invoice_number: str | None
    payment_public_id: str | None
    method: str
    asked_by: str
    asked_at: datetime
    can_approve: bool


def list_waiting(reader: Reader) -> list[Waiting]:
    """What waits, the oldest first. The look is noted."""
    return _read(reader)


def get_waiting(public_id: str, reader: Reader) -> Waiting:
    """One of them; the look is noted. Raises NotFound, also when it was decided."""
    found = _read(reader, public_id)
    if not found:
        raise NotFound
    return found[0]


def decide(public_id: str, staff_id: int, *, is_yes: bool) -> str | None:
    """Approve what waits, or refuse it; of a refund the path of its payment, where it is said what
    became of it. Raises NotFound, SamePerson, DecidedBefore, CreditRefused."""
    paid = db.session.execute(
        select(Payment.public_id, Account.public_id.label("account"))
        .join(PaymentReversal, PaymentReversal.payment_id == Payment.id)
        .join(Account, Account.id == Payment.account_id)
        .where(PaymentReversal.public_id == public_id)
    ).one_or_none()
    service: Any = adjusting if paid is None else refunding
    (service.approve if is_yes else service.refuse)(public_id, staff_id)
    return f"/staff/accounts/{paid.account}/payments/{paid.public_id}" if paid is not None else None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A refund that has not arrived: the payment service has it, or has said no lately, or a bank
    sent it back lately."""

    account_public_id: str
    account_number: str
    account_name: str
    payment_public_id: str
    kind: str
    state: str
    amount: Money
    at: datetime


def list_unfinished(reader: Reader) -> list[Unfinished]:
    """Refunds that are under way, and those of the last days that came to nothing or back; the
    newest first. The look is noted."""
    since = clock.now() - DECLINED_SHOWN_FOR
    at = func.coalesce(PaymentReversal.ended_at, PaymentReversal.created_at)
    declined = PaymentReversal.state == ReversalState.DECLINED.value
    is_refund = PaymentReversal.kind == ReversalKind.REFUND.value
    came_back = PaymentReversal.kind == ReversalKind.REFUND_FAILED.value
    under_way = PaymentReversal.state.in_([state.value for state in reversing.UNDER_WAY])
    rows = db.session.execute(
        select(
            Account.id.label("account_id"),
            Account.public_id.label("account_public_id"),
            Account.number,
            Account.name,
            Payment.public_id.label("payment_public_id"),
            PaymentReversal.kind,
            PaymentReversal.state,
            PaymentReversal.amount_minor,
            PaymentReversal.currency,
            at.label("at"),
        )
        .join(Payment, Payment.id == PaymentReversal.payment_id)
        .join(Account, Account.id == PaymentReversal.account_id)
        .where(
            or_(
                and_(is_refund, or_(under_way, and_(declined, at >= since))),
                and_(came_back, at >= since),
            ),
        )
        .order_by(PaymentReversal.id.desc())
        .limit(LISTED)
    ).all()
    account_ids = [row.account_id for row in rows]
    data_access.note_list(reader, ("name", "number"), "refunds", account_ids)
    return [
        Unfinished(
            row.account_public_id,
            row.number,
            row.name,
            row.payment_public_id,
            row.kind,
            row.state,
            Money(row.amount_minor, row.currency),
            row.at,
        )
        for row in rows
    ]


def _credits() -> Select[*tuple[Any, ...]]:
    return (
        select(
            literal(CREDIT).label("kind"),
            Adjustment.public_id,
            Adjustment.account_id,
            Adjustment.amount_minor,
            Adjustment.reason,
            Adjustment.asked_by_id,
            Adjustment.created_at,
            Invoice.number.label("invoice_number"),
            null().label("payment_public_id"),
            null().label("gateway"),
            null().label("method"),
        )
        .outerjoin(Invoice, Invoice.id == Adjustment.invoice_id)
        .where(Adjustment.state == AdjustmentState.ASKED.value)
    )


def _refunds() -> Select[*tuple[Any, ...]]:
    return (
        select(
            literal(REFUND).label("kind"),
            PaymentReversal.public_id,
            PaymentReversal.account_id,
            PaymentReversal.amount_minor,
            PaymentReversal.reason,
            PaymentReversal.asked_by_id,
            PaymentReversal.created_at,
            null().label("invoice_number"),
            Payment.public_id.label("payment_public_id"),
            Payment.gateway,
            Payment.method,
        )
        .join(Payment, Payment.id == PaymentReversal.payment_id)
        .where(PaymentReversal.state == ReversalState.ASKED.value)
    )


def _read(reader: Reader, public_id: str | None = None) -> list[Waiting]:
    asked = union_all(_credits(), _refunds()).subquery()
    wanted = (
        select(
            asked,
            Account.public_id.label("account_public_id"),
            Account.number.label("account_number"),
            Account.name.label("account_name"),
            Account.currency,
            Customer.name.label("asked_by"),
        )
        .join(Account, Account.id == asked.c.account_id)
        .outerjoin(Customer, Customer.id == asked.c.asked_by_id)
        .order_by(asked.c.created_at, asked.c.public_id)
        .limit(LISTED)
    )
    if public_id is not None:
        wanted = wanted.where(asked.c.public_id == public_id)
    rows = db.session.execute(wanted).all()
    account_ids = [row.account_id for row in rows]
    data_access.note_list(reader, ("name", "number"), "approvals", account_ids)
    return [
        Waiting(
            row.kind,
            row.public_id,
            row.account_public_id,
            row.account_number,
            row.account_name,
            Money(row.amount_minor, row.currency),
            row.reason,
            row.invoice_number,
            row.payment_public_id,
            words_of_method(row.gateway or "", row.method or ""),
            row.asked_by or "",
            row.created_at,
            row.asked_by_id != reader.customer_id,
        )
        for row in rows
    ]
