"""An account's money as staff read it: every entry with the balance after it, what is open, what
waits for the next bill. Each look is noted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import case, func, literal, select, union_all
from sqlalchemy.orm import Session, aliased

from blueprints.billing import gateway_words
from blueprints.billing.disputes import service as disputes
from blueprints.billing.disputes.service import DisputeRow
from blueprints.billing.owed import Due, Part, find_due, list_parts
from blueprints.billing.payment_pages import PaymentRow, list_some_payments, words_of_method
from core import clock, data_access
from core.data_access import Reader
from core.db import db, total, unit_of_work
from core.errors import NotFound
from core.isp import current_isp
from core.money import Money
from models import (
    Account,
    Adjustment,
    AdjustmentState,
    Charge,
    Customer,
    EntryKind,
    Invoice,
    JournalEntry,
    JournalLine,
    Payment,
    PaymentReversal,
    PaymentState,
    ReversalState,
)

PER_PAGE = 20
PAYMENTS_SHOWN = 6
FIELDS = ("name", "number", "balance", "bills")


@dataclass(frozen=True, slots=True)
class Head:
    """Whose money it is."""

    account_id: int
    public_id: str
    number: str
    name: str
    language: str
    status: str
    balance: Money

    @property
    def currency(self) -> str:
        return self.balance.currency


@dataclass(frozen=True, slots=True)
class Row:
    """One entry: what it charges or credits, and the balance after it. Its payment is also the one
    that a refund has given back."""

    booked_on: date
    what: str
    note: str
    charge: Money | None
    credit: Money | None
    balance: Money
    invoice_public_id: str | None
    payment_public_id: str | None


@dataclass(frozen=True, slots=True)
class ChargeRow:
    public_id: str
    description: str
    reason: str
    amount: Money


@dataclass(frozen=True, slots=True)
class WaitingRow:
    """A credit or refund of the account that a second member of staff has to approve."""

    amount: Money
    reason: str
    asked_by: str


@dataclass(frozen=True, slots=True)
class Statement:
    """The money page of an account."""

    head: Head
    due: Due
    open: list[Part]
    rows: list[Row]
    page: int
    page_count: int
    payments: list[PaymentRow]
    charges: list[ChargeRow]
    waiting: list[WaitingRow]
    disputes: list[DisputeRow]


def open_account(public_id: str, reader: Reader, *more_fields: str) -> Head:
    """The account, whose look is noted before it is read. Raises NotFound."""
    fields = (*FIELDS, *more_fields)
    account_id = unit_of_work(
        lambda session: data_access.note_page(session, reader, fields, public_id)
    )
    return _head(db.session(), account_id)


def _head(session: Session, account_id: int) -> Head:
    row = session.execute(
        select(
            Account.public_id,
            Account.number,
            Account.name,
            Account.language,
            Account.status,
            Account.balance_minor,
            Account.currency,
        ).where(Account.id == account_id)
    ).one()
    balance = Money(row.balance_minor, row.currency)
    return Head(account_id, row.public_id, row.number, row.name, row.language, row.status, balance)


def find_id(public_id: str) -> int:
    """The account of a form that was sent. Raises NotFound."""
    found = db.session.scalar(select(Account.id).where(Account.public_id == public_id))
    if found is None:
        raise NotFound
    return found


def read(public_id: str, page: int, reader: Reader) -> Statement:
    """One page of the statement, the newest entries first; a page beyond the last gives the last.
    Raises NotFound."""
    head = open_account(public_id, reader)
    session = db.session()
    rows, count = _rows(session, head, page)
    if not rows and page > 1:
        page = max(1, -(-_count(session, head) // PER_PAGE))
        rows, count = _rows(session, head, page)
    charges, waiting = _pending(session, head)
    return Statement(
        head,
        find_due(head.account_id),
        [part for part in list_parts(head.account_id, head.balance) if part.invoice_public_id],
        rows,
        page,
        max(1, -(-count // PER_PAGE)),
        list_some_payments(head.account_id, PAYMENTS_SHOWN),
        charges,
        waiting,
        disputes.list_of_account(head.account_id),
    )


def _count(session: Session, head: Head) -> int:
    return session.execute(
        select(func.count())
        .select_from(JournalLine)
        .where(JournalLine.account_id == head.account_id)
    ).scalar_one()


def _rows(session: Session, head: Head, page: int) -> tuple[list[Row], int]:
    """The entries of a page, and how many there are in all; 0 beyond the last page."""
    after = (
        select(
            JournalLine.entry_id,
            JournalLine.amount_minor,
            func.sum(JournalLine.amount_minor)
            .over(order_by=(JournalLine.entry_id, JournalLine.position))
            .label("after_minor"),
            func.count().over().label("count"),
        )
        .where(JournalLine.account_id == head.account_id)
        .subquery()
    )
    gave_back = aliased(Payment)
    rows = session.execute(
        select(
            JournalEntry.booked_on,
            JournalEntry.kind,
            JournalEntry.description,
            after.c.amount_minor,
            after.c.after_minor,
            after.c.count,
            Invoice.number,
            Invoice.public_id.label("invoice_public_id"),
            Payment.public_id.label("payment_public_id"),
            Payment.gateway,
            Payment.method,
            Payment.note,
            func.coalesce(Adjustment.reason, PaymentReversal.reason).label("reason"),
            gave_back.public_id.label("gave_back_public_id"),
        )
        .join(after, after.c.entry_id == JournalEntry.id)
        .outerjoin(Invoice, Invoice.entry_id == JournalEntry.id)
        .outerjoin(Payment, Payment.entry_id == JournalEntry.id)
        .outerjoin(Adjustment, Adjustment.entry_id == JournalEntry.id)
        .outerjoin(PaymentReversal, PaymentReversal.entry_id == JournalEntry.id)
        .outerjoin(gave_back, gave_back.id == PaymentReversal.payment_id)
        .order_by(after.c.entry_id.desc())
        .limit(PER_PAGE)
        .offset((page - 1) * PER_PAGE)
    ).all()
    shown = [
        Row(
            row.booked_on,
            _what(row),
            _note(row),
            Money(row.amount_minor, head.currency) if row.amount_minor > 0 else None,
            Money(-row.amount_minor, head.currency) if row.amount_minor < 0 else None,
            Money(int(row.after_minor), head.currency),
            row.invoice_public_id,
            row.payment_public_id or row.gave_back_public_id,
        )
        for row in rows
    ]
    return shown, int(rows[0][5]) if rows else 0


def _note(row: Any) -> str:
    """What staff wrote about it, why a refund came back, or the account that credit went to or came
    from."""
    if row.kind == EntryKind.TRANSFER:
        return str(row.description).rsplit(" ", 1)[-1]
    if row.kind == EntryKind.REFUND and row.amount_minor < 0:
        return gateway_words.translate(row.reason)
    return row.reason or row.note or ""


def _what(row: Any) -> str:
    """An entry in words."""
    if row.payment_public_id is not None:
        method = words_of_method(row.gateway, row.method)
        return _("Payment: %(method)s", method=method) if method else _("Payment")
    if row.kind == EntryKind.INVOICE:
        return _("Invoice %(number)s", number=row.number)
    if row.kind == EntryKind.CREDIT_NOTE:
        return _("Credit note %(number)s", number=row.number or "")
    words = {
        EntryKind.OPENING: _("Balance brought forward"),
        EntryKind.ADJUSTMENT: _("Credit"),
        EntryKind.REVERSAL: _("Correction"),
        EntryKind.REFUND: _("Refund") if row.amount_minor > 0 else _("Refund that came back"),
        EntryKind.CHARGEBACK: _("Chargeback"),
        EntryKind.RETURN: _("Returned debit"),
        EntryKind.TRANSFER: _("Credit moved out") if row.amount_minor > 0 else _("Credit moved in"),
    }
    return words.get(EntryKind(row.kind), str(row.description))


def _pending(session: Session, head: Head) -> tuple[list[ChargeRow], list[WaitingRow]]:
    """What waits for the next bill, and what for a second member of staff, in one query."""
    charges = select(
        literal(True).label("is_charge"),
        Charge.public_id,
        Charge.description,
        Charge.reason,
        case((Charge.is_credit, -Charge.amount_minor), else_=Charge.amount_minor).label("minor"),
        Charge.created_at,
        Charge.added_by_id.label("by_id"),
    ).where(
        Charge.account_id == head.account_id,
        Charge.invoice_id.is_(None),
        Charge.cancelled_at.is_(None),
    )
    credited, refunded = (
        select(
            literal(False),
            table.public_id,
            literal(""),
            table.reason,
            table.amount_minor,
            table.created_at,
            table.asked_by_id,
        ).where(table.account_id == head.account_id, table.state == asked)
        for table, asked in (
            (Adjustment, AdjustmentState.ASKED.value),
            (PaymentReversal, ReversalState.ASKED.value),
        )
    )
    all_of_it = union_all(charges, credited, refunded).subquery()
    rows = session.execute(
        select(all_of_it, Customer.name)
        .outerjoin(Customer, Customer.id == all_of_it.c.by_id)
        .order_by(all_of_it.c.created_at, all_of_it.c.public_id)
    ).all()
    return (
        [
            ChargeRow(row.public_id, row.description, row.reason, Money(row.minor, head.currency))
            for row in rows
            if row.is_charge
        ],
        [
            WaitingRow(Money(row.minor, head.currency), row.reason, row.name or "")
            for row in rows
            if not row.is_charge
        ],
    )


# A receipt ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Receipt:
    """What stands on the paper that whoever pays at the counter takes home."""

    head: Head
    number: str
    amount: Money
    gateway: str
    method: str
    note: str
    paid_on: date
    taken_by: str
    balance_after: Money

    @property
    def paid_with(self) -> str:
        """With what it was paid, in the language of whoever asks."""
        return words_of_method(self.gateway, self.method)


def find_receipt(account_public_id: str, payment_public_id: str, reader: Reader) -> Receipt:
    """The receipt of a payment that has arrived; the look is noted. Raises NotFound."""
    head = open_account(account_public_id, reader)
    line = aliased(JournalLine)
    after = (
        select(total(line.amount_minor))
        .where(line.account_id == head.account_id, line.entry_id <= Payment.entry_id)
        .scalar_subquery()
    )
    row = db.session.execute(
        select(
            Payment.entry_id,
            Payment.amount_minor,
            Payment.gateway,
            Payment.method,
            Payment.note,
            Payment.ended_at,
            Customer.name,
            after.label("after_minor"),
        )
        .outerjoin(Customer, Customer.id == Payment.taken_by_id)
        .where(
            Payment.account_id == head.account_id,
            Payment.public_id == payment_public_id,
            Payment.state == PaymentState.SUCCEEDED.value,
        )
    ).one_or_none()
    if row is None:
        raise NotFound
    return Receipt(
        head,
        f"R-{row.entry_id:07d}",
        Money(row.amount_minor, head.currency),
        row.gateway,
        row.method,
        row.note,
        clock.day_of(row.ended_at, current_isp().timezone),
        row.name or "",
        Money(row.after_minor, head.currency),
    )
