"""How much of what is planned is really due. Everything here runs inside a unit of work."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import ColumnElement, ScalarSelect, and_, or_, select
from sqlalchemy.orm import Session

from blueprints.billing.dunning.reading import disputed_minor
from core.db import total
from models import (
    Account,
    Arrangement,
    ArrangementState,
    Invoice,
    InvoiceBalance,
    JournalEntry,
    Payment,
    PaymentState,
    PlannedKind,
    PlannedPayment,
    PlannedState,
)


def due_minor(session: Session, account_id: int) -> int:
    """What the account owes, less what bank debits have under way; never below zero."""
    row = session.execute(
        select(Account.balance_minor, processing_of(account_id).label("processing_minor")).where(
            Account.id == account_id
        )
    ).one()
    return max(0, int(row.balance_minor - row.processing_minor))


def processing_of(account_id: int) -> ScalarSelect[int]:
    """What bank debits of the account have under way, as a part of a query."""
    return (
        select(total(Payment.amount_minor))
        .where(Payment.account_id == account_id, Payment.state == PaymentState.PROCESSING.value)
        .scalar_subquery()
    )


# What an arrangement covers ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Covered:
    """What is left of the debt that an arrangement is about.

    `open_minor`: what is open of the bills there were; `left_minor`: the same without what is on
    its way from a bank or in dispute.
    """

    open_minor: int
    left_minor: int


def _is_covered(since: ColumnElement[datetime] | datetime) -> ColumnElement[bool]:
    return Invoice.entry_id.in_(
        select(JournalEntry.id).where(
            JournalEntry.account_id == Invoice.account_id, JournalEntry.created_at <= since
        )
    )


def covered(session: Session, account_id: int, since: datetime) -> Covered:
    """What is left of the account's bills that were issued until `since`."""
    unpaid = (
        select(total(InvoiceBalance.open_minor))
        .join(Invoice, Invoice.id == InvoiceBalance.invoice_id)
        .where(
            InvoiceBalance.account_id == account_id,
            InvoiceBalance.settled_at.is_(None),
            _is_covered(since),
        )
        .scalar_subquery()
    )
    on_its_way = (
        select(total(Payment.amount_minor))
        .outerjoin(Invoice, Invoice.id == Payment.invoice_id)
        .where(
            Payment.account_id == account_id,
            Payment.state == PaymentState.PROCESSING.value,
            or_(Payment.invoice_id.is_(None), _is_covered(since)),
        )
        .scalar_subquery()
    )
    open_minor, processing_minor = session.execute(select(unpaid, on_its_way)).one()
    disputed = disputed_minor(session, [account_id], _is_covered(since))
    left_minor = open_minor - processing_minor - sum(disputed.values())
    return Covered(open_minor, max(0, left_minor))


def instalment_minor(session: Session, planned: PlannedPayment) -> int:
    """What an arrangement still asks for until and with the day of this instalment."""
    arrangement = session.get_one(Arrangement, planned.arrangement_id)
    left_minor = covered(session, planned.account_id, arrangement.created_at).left_minor
    later_minor = sum(
        session.scalars(
            select(PlannedPayment.amount_minor).where(
                PlannedPayment.arrangement_id == arrangement.id,
                PlannedPayment.due_on > planned.due_on,
            )
        )
    )
    return max(0, left_minor - later_minor)


# What is planned --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Ahead:
    """What is due on an account, and what of it the customer's plans are to bring."""

    due_minor: int
    scheduled_minor: int
    arranged_since: datetime | None
    arranged_minor: int


def _ahead(
    session: Session, account_id: int, until: date | None = None, but: str | None = None
) -> _Ahead:
    """Scheduled payments count that are due `until` then, apart from the one called `but`."""
    which = [
        PlannedPayment.account_id == account_id,
        PlannedPayment.kind == PlannedKind.SCHEDULED.value,
        PlannedPayment.state == PlannedState.WAITING.value,
    ]
    if until is not None:
        which.append(PlannedPayment.due_on <= until)
    if but is not None:
        which.append(PlannedPayment.public_id != but)
    scheduled = select(total(PlannedPayment.amount_minor)).where(and_(*which)).scalar_subquery()
    since = (
        select(Arrangement.created_at)
        .where(
            Arrangement.account_id == account_id,
            Arrangement.state == ArrangementState.STANDING.value,
        )
        .scalar_subquery()
    )
    row = session.execute(
        select(
            Account.balance_minor,
            processing_of(account_id).label("processing_minor"),
            scheduled.label("scheduled_minor"),
            since.label("since"),
        ).where(Account.id == account_id)
    ).one()
    return _Ahead(
        max(0, row.balance_minor - row.processing_minor),
        row.scheduled_minor,
        row.since,
        0 if row.since is None else covered(session, account_id, row.since).left_minor,
    )


def to_plan_minor(session: Session, account_id: int, *, but: str | None = None) -> int:
    """What is due and nothing that the customer planned is to bring, apart from the scheduled
    payment whose public id is `but`."""
    ahead = _ahead(session, account_id, but=but)
    return max(0, ahead.due_minor - ahead.scheduled_minor - ahead.arranged_minor)


def autopay_minor(session: Session, account_id: int, invoice_id: int) -> int:
    """What autopay may take for an invoice: what is open of it and due, less what is scheduled
    until its due day, what an arrangement is to bring and what is in dispute; nothing for a bill
    that an arrangement covers."""
    invoice = session.execute(
        select(Invoice.due_on, InvoiceBalance.open_minor, JournalEntry.created_at)
        .join(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
        .join(JournalEntry, JournalEntry.id == Invoice.entry_id)
        .where(Invoice.id == invoice_id)
    ).one()
    ahead = _ahead(session, account_id, until=invoice.due_on)
    if ahead.arranged_since is not None and invoice.created_at <= ahead.arranged_since:
        return 0
    disputed = disputed_minor(session, [account_id])
    left_minor = ahead.due_minor - ahead.scheduled_minor - ahead.arranged_minor
    left_minor -= sum(disputed.values())
    return max(0, min(int(invoice.open_minor) - disputed.get(invoice_id, 0), left_minor))
