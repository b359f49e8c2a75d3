"""Invoices as their pages show them: lists, and one with what was paid on it. Reads only.

Every list takes one query whatever its length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import Row, and_, bindparam, case, exists, extract, func, literal, select
from sqlalchemy.orm import aliased

from blueprints.billing.errors import InvoiceNotFound
from blueprints.billing.payment_pages import PER_PAGE, words_of_method
from core import clock
from core.db import db
from core.isp import current_isp
from core.money import Money
from core.prepared import Prepared
from models import (
    Allocation,
    Dispute,
    DisputeState,
    Invoice,
    InvoiceBalance,
    InvoiceKind,
    InvoiceLine,
    InvoiceLineKind,
    JournalEntry,
    Payment,
)

LATEST = 5


@dataclass(frozen=True, slots=True)
class InvoiceRow:
    public_id: str
    number: str
    kind: str
    issued_on: date
    due_on: date
    total: Money
    open: Money
    state: str
    is_disputed: bool


_INVOICE_COLUMNS = (
    Invoice.public_id,
    Invoice.number,
    Invoice.kind,
    Invoice.issued_on,
    Invoice.due_on,
    Invoice.total_minor,
    Invoice.currency,
    func.coalesce(InvoiceBalance.open_minor, 0).label("open_minor"),
    exists()
    .where(Dispute.invoice_id == Invoice.id, Dispute.state == DisputeState.OPEN.value)
    .label("is_disputed"),
)


def _invoice_state(kind: str, open_minor: int, due_on: date, today: date) -> str:
    if kind == InvoiceKind.CREDIT_NOTE:
        return "credit"
    if open_minor == 0:
        return "paid"
    return "overdue" if due_on < today else "open"


def _owed(kind: str, minor: int, currency: str) -> Money:
    """An amount of a document as the customer owes it: what a credit note gives is negative."""
    return Money(-minor if kind == InvoiceKind.CREDIT_NOTE else minor, currency)


def _invoice_rows(
    rows: Sequence[Row[str, str, str, date, date, int, str, int, bool]],
) -> list[InvoiceRow]:
    today = clock.today(current_isp().timezone)
    return [
        InvoiceRow(
            row.public_id,
            row.number,
            row.kind,
            row.issued_on,
            row.due_on,
            _owed(row.kind, row.total_minor, row.currency),
            Money(row.open_minor, row.currency),
            _invoice_state(row.kind, row.open_minor, row.due_on, today),
            bool(row.is_disputed),
        )
        for row in rows
    ]


_LATEST_INVOICES = Prepared(
    select(*_INVOICE_COLUMNS)
    .outerjoin(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
    .where(Invoice.account_id == bindparam("account_id"))
    .order_by(Invoice.issued_on.desc(), Invoice.id.desc())
    .limit(LATEST)
)


def list_latest_invoices(account_id: int) -> list[InvoiceRow]:
    return _invoice_rows(_LATEST_INVOICES.all(account_id=account_id))


@dataclass(frozen=True, slots=True)
class InvoicePage:
    invoices: list[InvoiceRow]
    years: list[int]
    year: int | None
    state: str
    page: int
    page_count: int


def list_invoices(account_id: int, year: int | None, state: str, page: int) -> InvoicePage:
    """One page of the account's invoices, newest first. `state` is all, open or paid; a page
    beyond the last gives the last."""
    year_of = extract("year", Invoice.issued_on)
    chosen = (
        select(*_INVOICE_COLUMNS)
        .outerjoin(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
        .where(Invoice.account_id == account_id)
    )
    wanted = []
    if year is not None:
        wanted.append(
            and_(Invoice.issued_on >= date(year, 1, 1), Invoice.issued_on <= date(year, 12, 31))
        )
    if state == "open":
        wanted.append(InvoiceBalance.open_minor > 0)
    elif state == "paid":
        wanted.append(InvoiceBalance.settled_at.is_not(None))
    is_wanted = and_(literal(1) == literal(1), *wanted)
    counts = db.session.execute(
        select(year_of.label("year"), func.sum(case((is_wanted, 1), else_=0)).label("wanted"))
        .select_from(Invoice)
        .outerjoin(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
        .where(Invoice.account_id == account_id)
        .group_by(year_of)
        .order_by(year_of.desc())
    ).all()
    page_count = max(1, -(-int(sum(row.wanted for row in counts)) // PER_PAGE))
    page = min(page, page_count)
    rows = db.session.execute(
        chosen.where(is_wanted)
        .order_by(Invoice.issued_on.desc(), Invoice.id.desc())
        .limit(PER_PAGE)
        .offset((page - 1) * PER_PAGE)
    ).all()
    return InvoicePage(
        _invoice_rows(rows), [int(row.year) for row in counts], year, state, page, page_count
    )


@dataclass(frozen=True, slots=True)
class InvoiceLineRow:
    description: str
    kind: str
    quantity: int
    amount: Money
    period_from: date | None
    period_to: date | None


@dataclass(frozen=True, slots=True)
class AllocationRow:
    label: str
    amount: Money
    on_day: date
    payment_public_id: str | None


@dataclass(frozen=True, slots=True)
class InvoiceDetail:
    public_id: str
    number: str
    kind: str
    issued_on: date
    due_on: date
    period_from: date
    period_to: date
    bill_name: str
    bill_address: list[str]
    lines: list[InvoiceLineRow]
    subtotal: Money
    tax_total: Money
    total: Money
    open: Money
    state: str
    allocations: list[AllocationRow]
    corrects_number: str | None
    corrects_public_id: str | None


def get_invoice(account_id: int, public_id: str) -> InvoiceDetail:
    """The invoice with its lines and what was paid on it. Raises InvoiceNotFound."""
    corrected = aliased(Invoice)
    row = db.session.execute(
        select(
            *_INVOICE_COLUMNS,
            Invoice.id,
            Invoice.period_from,
            Invoice.period_to,
            Invoice.bill_name,
            Invoice.bill_address,
            Invoice.tax_minor,
            corrected.number.label("corrects_number"),
            corrected.public_id.label("corrects_public_id"),
        )
        .outerjoin(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
        .outerjoin(corrected, corrected.id == Invoice.corrects_id)
        .where(Invoice.account_id == account_id, Invoice.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise InvoiceNotFound
    lines = db.session.execute(
        select(
            InvoiceLine.description,
            InvoiceLine.kind,
            InvoiceLine.quantity,
            InvoiceLine.amount_minor,
            InvoiceLine.period_from,
            InvoiceLine.period_to,
        )
        .where(InvoiceLine.invoice_id == row.id)
        .order_by(InvoiceLine.position)
    ).all()
    allocations = db.session.execute(
        select(
            Allocation.amount_minor,
            JournalEntry.booked_on,
            Payment.public_id,
            Payment.gateway,
            Payment.method,
        )
        .join(JournalEntry, JournalEntry.id == Allocation.entry_id)
        .outerjoin(Payment, Payment.entry_id == JournalEntry.id)
        .where(Allocation.invoice_id == row.id)
        .order_by(Allocation.id)
    ).all()
    currency = row.currency
    return InvoiceDetail(
        public_id=row.public_id,
        number=row.number,
        kind=row.kind,
        issued_on=row.issued_on,
        due_on=row.due_on,
        period_from=row.period_from,
        period_to=row.period_to,
        bill_name=row.bill_name,
        bill_address=list(row.bill_address),
        lines=[
            InvoiceLineRow(
                _("Balance brought forward")
                if line.kind == InvoiceLineKind.OPENING
                else line.description,
                line.kind,
                line.quantity,
                _owed(row.kind, line.amount_minor, currency),
                line.period_from,
                line.period_to,
            )
            for line in lines
        ],
        subtotal=_owed(row.kind, row.total_minor - row.tax_minor, currency),
        tax_total=_owed(row.kind, row.tax_minor, currency),
        total=_owed(row.kind, row.total_minor, currency),
        open=Money(row.open_minor, currency),
        state=_invoice_state(
            row.kind, row.open_minor, row.due_on, clock.today(current_isp().timezone)
        ),
        corrects_number=row.corrects_number,
        corrects_public_id=row.corrects_public_id,
        allocations=[
            AllocationRow(
                _allocation_label(paid),
                Money(paid.amount_minor, currency),
                paid.booked_on,
                paid.public_id,
            )
            for paid in allocations
        ],
    )


def _allocation_label(paid: Any) -> str:
    if paid.amount_minor < 0:
        return _("Taken back")
    if not paid.public_id:
        return _("Credit")
    return words_of_method(paid.gateway, paid.method) or _("Payment")
