"""What an account owes and what became of it, as its pages show it. Reads only.

Every list takes one query whatever its length; names of columns come with Core selects, since
these are the pages people open most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import (
    BindParameter,
    Row,
    Select,
    and_,
    bindparam,
    case,
    extract,
    func,
    literal,
    select,
)
from sqlalchemy.orm import aliased

from blueprints.billing import booking, ledger
from blueprints.billing.errors import InvoiceNotFound, PaymentNotFound
from blueprints.billing.payments import MAXIMUM_MINOR, MINIMUM_MINOR
from core import clock
from core.db import db, total
from core.isp import current_isp
from core.money import Money
from core.prepared import Prepared
from models import (
    UNDER_WAY,
    Account,
    Allocation,
    AutopayMandate,
    Invoice,
    InvoiceBalance,
    InvoiceKind,
    InvoiceLine,
    InvoiceLineKind,
    JournalEntry,
    JournalLine,
    Payment,
    PaymentMethod,
    PaymentReversal,
    PaymentState,
    PlannedPayment,
    PlannedState,
    ReversalState,
)

PER_PAGE = 12
LATEST = 5
PLANNED = (PlannedState.WAITING, PlannedState.ASKING, PlannedState.TAKING)
ENDED_FOR_THEM = ("method_removed", "method_expired", "method_moved", "failed")
"""Why autopay ended without the customer: a page says so until it is on again."""


@dataclass(frozen=True, slots=True)
class OpenPayment:
    public_id: str
    amount: Money
    state: str


@dataclass(frozen=True, slots=True)
class Ahead:
    """The payment that is planned next: by autopay, as scheduled, or an instalment, from `method`
    unless it is paid by hand."""

    public_id: str
    kind: str
    state: str
    amount: Money
    due_on: date
    method: str
    failure: str


@dataclass(frozen=True, slots=True)
class Due:
    """What an account owes now. `due` is what is left to pay after payments on their way; `ahead`
    what is planned next; `autopay_ended` says why autopay ended without the customer, if it did."""

    balance: Money
    due: Money
    due_on: date | None
    is_overdue: bool
    credit: Money | None
    in_progress: Money | None
    open_payment: OpenPayment | None
    is_without_bills: bool
    ahead: Ahead | None
    autopay_ended: str

    def as_fields(self) -> dict[str, Any]:
        """The fields of this class by name, for a page that has more."""
        return {field.name: getattr(self, field.name) for field in fields(Due)}


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


@dataclass(frozen=True, slots=True)
class PaymentRow:
    public_id: str
    amount: Money
    state: str
    created_at: datetime
    method: str


def words_of_method(gateway: str, method: str) -> str:
    """With what something was paid; of a gateway its own words, which may be missing."""
    if gateway == booking.COUNTER:
        return _("Cash") if method == booking.CASH else _("Cheque")
    if gateway == booking.BANK:
        return _("Bank transfer")
    return _("Voucher") if gateway == booking.VOUCHER else method


@dataclass(frozen=True, slots=True)
class Part:
    """One thing that the balance is made of."""

    label: str
    amount: Money
    due_on: date | None
    invoice_public_id: str | None


def _due_query() -> Select[*tuple[Any, ...]]:
    account_id: BindParameter[int] = bindparam("account_id")
    oldest_due = (
        select(func.min(Invoice.due_on))
        .join(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
        .where(InvoiceBalance.account_id == account_id, InvoiceBalance.settled_at.is_(None))
        .scalar_subquery()
    )
    debit = aliased(Payment)
    processing = (
        select(total(debit.amount_minor))
        .where(debit.account_id == account_id, debit.state == PaymentState.PROCESSING.value)
        .scalar_subquery()
    )
    next_planned = (
        select(PlannedPayment.id)
        .where(
            PlannedPayment.account_id == account_id,
            PlannedPayment.state.in_([state.value for state in PLANNED]),
        )
        .order_by(PlannedPayment.due_on, PlannedPayment.id)
        .limit(1)
        .scalar_subquery()
    )
    last_mandate = (
        select(func.max(AutopayMandate.id))
        .where(AutopayMandate.account_id == account_id)
        .scalar_subquery()
    )
    return (
        select(
            Account.balance_minor,
            Account.currency,
            oldest_due.label("due_on"),
            processing.label("processing_minor"),
            select(Invoice.id).where(Invoice.account_id == account_id).exists().label("has_bills"),
            Payment.public_id,
            Payment.amount_minor,
            Payment.state,
            PlannedPayment.public_id.label("ahead_public_id"),
            PlannedPayment.kind.label("ahead_kind"),
            PlannedPayment.state.label("ahead_state"),
            PlannedPayment.amount_minor.label("ahead_minor"),
            PlannedPayment.due_on.label("ahead_on"),
            PlannedPayment.failure.label("ahead_failure"),
            PaymentMethod.title.label("ahead_title"),
            AutopayMandate.ended_because,
        )
        .outerjoin(
            Payment,
            and_(
                Payment.account_id == Account.id,
                Payment.state.in_([state.value for state in UNDER_WAY]),
            ),
        )
        .outerjoin(PlannedPayment, PlannedPayment.id == next_planned)
        .outerjoin(PaymentMethod, PaymentMethod.id == PlannedPayment.method_id)
        .outerjoin(AutopayMandate, AutopayMandate.id == last_mandate)
        .where(Account.id == account_id)
    )


_DUE = Prepared(_due_query())


def find_due(account_id: int) -> Due:
    """What the account owes, in one query."""
    row = _DUE.one(account_id=account_id)
    currency = row.currency
    due_minor = max(row.balance_minor - row.processing_minor, 0)
    due_on = row.due_on if due_minor else None
    return Due(
        balance=Money(row.balance_minor, currency),
        due=Money(due_minor, currency),
        due_on=due_on,
        is_overdue=due_on is not None and due_on < clock.today(current_isp().timezone),
        credit=Money(-row.balance_minor, currency) if row.balance_minor < 0 else None,
        in_progress=Money(row.processing_minor, currency) if row.processing_minor else None,
        open_payment=OpenPayment(row.public_id, Money(row.amount_minor, currency), row.state)
        if row.public_id
        else None,
        is_without_bills=not row.has_bills,
        ahead=Ahead(
            row.ahead_public_id,
            row.ahead_kind,
            row.ahead_state,
            Money(row.ahead_minor, currency),
            row.ahead_on,
            row.ahead_title or "",
            row.ahead_failure,
        )
        if row.ahead_public_id
        else None,
        autopay_ended=row.ended_because if row.ended_because in ENDED_FOR_THEM else "",
    )


_INVOICE_COLUMNS = (
    Invoice.public_id,
    Invoice.number,
    Invoice.kind,
    Invoice.issued_on,
    Invoice.due_on,
    Invoice.total_minor,
    Invoice.currency,
    func.coalesce(InvoiceBalance.open_minor, 0).label("open_minor"),
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
    rows: Sequence[Row[str, str, str, date, date, int, str, int]],
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
        )
        for row in rows
    ]


def list_latest_invoices(account_id: int) -> list[InvoiceRow]:
    rows = db.session.execute(
        select(*_INVOICE_COLUMNS)
        .outerjoin(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
        .where(Invoice.account_id == account_id)
        .order_by(Invoice.issued_on.desc(), Invoice.id.desc())
        .limit(LATEST)
    ).all()
    return _invoice_rows(rows)


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


def list_parts(account_id: int, balance: Money) -> list[Part]:
    """What the balance is made of: open invoices, less credit not used. Sums to `balance`."""
    rows = db.session.execute(
        select(
            Invoice.public_id,
            Invoice.number,
            Invoice.kind,
            Invoice.due_on,
            InvoiceBalance.open_minor,
        )
        .join(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
        .where(InvoiceBalance.account_id == account_id, InvoiceBalance.settled_at.is_(None))
        .order_by(Invoice.due_on, Invoice.id)
    ).all()
    parts = [
        Part(
            _("Balance brought forward")
            if row.kind == "opening"
            else _("Invoice %(number)s", number=row.number),
            Money(row.open_minor, balance.currency),
            row.due_on,
            row.public_id,
        )
        for row in rows
    ]
    rest = balance.amount_minor - sum(part.amount.amount_minor for part in parts)
    if rest:
        label = _("Credit not used yet") if rest < 0 else _("Taken back from payments")
        parts.append(Part(label, Money(rest, balance.currency), None, None))
    return parts


def list_payments(
    account_id: int, page: int, per_page: int = PER_PAGE
) -> tuple[list[PaymentRow], int, int]:
    """One page of the account's payments, newest first, with the page's number and their count."""
    count = db.session.scalar(
        select(func.count()).select_from(Payment).where(Payment.account_id == account_id)
    )
    page_count = max(1, -(-int(count or 0) // per_page))
    page = min(page, page_count)
    return list_some_payments(account_id, per_page, (page - 1) * per_page), page, page_count


def list_some_payments(account_id: int, limit: int, offset: int = 0) -> list[PaymentRow]:
    rows = db.session.execute(
        select(
            Payment.public_id,
            Payment.amount_minor,
            Payment.currency,
            Payment.state,
            Payment.created_at,
            Payment.gateway,
            Payment.method,
        )
        .where(Payment.account_id == account_id)
        .order_by(Payment.created_at.desc(), Payment.id.desc())
        .limit(limit)
        .offset(offset)
    ).all()
    return [
        PaymentRow(
            row.public_id,
            Money(row.amount_minor, row.currency),
            row.state,
            row.created_at,
            words_of_method(row.gateway, row.method),
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class ReversalRow:
    """What went back of a payment, or came again (`chargeback_won`)."""

    kind: str
    amount: Money
    state: str
    at: datetime


@dataclass(frozen=True, slots=True)
class PaymentDetail:
    public_id: str
    amount: Money
    state: str
    created_at: datetime
    ended_at: datetime | None
    method: str
    decline_reason: str
    invoice_number: str | None
    invoice_public_id: str | None
    receipt_number: str | None
    balance_after: Money | None
    is_polling: bool
    revision: int
    poll_seconds: int
    can_continue: bool
    can_cancel: bool
    reversals: list[ReversalRow]


_POLLED = (PaymentState.CREATED, PaymentState.SENT, PaymentState.UNKNOWN, PaymentState.PROCESSING)


def get_payment(account_id: int, public_id: str, *, can_pay: bool) -> PaymentDetail:
    """A payment as its own page shows it. Raises PaymentNotFound."""
    after = (
        select(total(JournalLine.amount_minor))
        .where(
            JournalLine.account_id == account_id,
            JournalLine.ledger == ledger.RECEIVABLE,
            JournalLine.entry_id <= Payment.entry_id,
        )
        .scalar_subquery()
    )
    row = db.session.execute(
        select(
            Payment.id,
            Payment.public_id,
            Payment.amount_minor,
            Payment.currency,
            Payment.state,
            Payment.created_at,
            Payment.ended_at,
            Payment.gateway,
            Payment.method,
            Payment.decline_reason,
            Payment.revision,
            Payment.entry_id,
            Payment.ask_count,
            Payment.hosted_url,
            Invoice.number,
            Invoice.public_id.label("invoice_public_id"),
            after.label("after_minor"),
        )
        .outerjoin(Invoice, Invoice.id == Payment.invoice_id)
        .where(Payment.account_id == account_id, Payment.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise PaymentNotFound
    state = PaymentState(row.state)
    is_succeeded = state is PaymentState.SUCCEEDED
    return PaymentDetail(
        public_id=row.public_id,
        amount=Money(row.amount_minor, row.currency),
        state=row.state,
        created_at=row.created_at,
        ended_at=row.ended_at,
        method=words_of_method(row.gateway, row.method),
        decline_reason=row.decline_reason,
        invoice_number=row.number,
        invoice_public_id=row.invoice_public_id,
        receipt_number=f"R-{row.entry_id:07d}" if is_succeeded else None,
        balance_after=Money(row.after_minor, row.currency) if is_succeeded else None,
        is_polling=state in _POLLED,
        revision=row.revision,
        # Quick while an answer is likely, slower when nothing happens (DESIGN §4).
        poll_seconds=3 if row.ask_count < 3 else 10 if row.ask_count < 5 else 60,
        can_continue=can_pay and state in (PaymentState.CREATED, PaymentState.SENT),
        can_cancel=can_pay and state in UNDER_WAY,
        reversals=_list_reversals(row.id, row.currency) if is_succeeded else [],
    )


def _list_reversals(payment_id: int, currency: str) -> list[ReversalRow]:
    """What the customer is shown: not what staff have still to decide, or what came to nothing."""
    rows = db.session.execute(
        select(
            PaymentReversal.kind,
            PaymentReversal.amount_minor,
            PaymentReversal.state,
            func.coalesce(PaymentReversal.ended_at, PaymentReversal.created_at).label("at"),
        )
        .where(
            PaymentReversal.payment_id == payment_id,
            PaymentReversal.state.not_in(
                [
                    ReversalState.ASKED.value,
                    ReversalState.REFUSED.value,
                    ReversalState.DECLINED.value,
                ]
            ),
        )
        .order_by(PaymentReversal.id)
    )
    return [
        ReversalRow(row.kind, Money(row.amount_minor, currency), row.state, row.at) for row in rows
    ]


@dataclass(frozen=True, slots=True)
class PayableInvoice:
    number: str
    public_id: str
    open: Money


@dataclass(frozen=True, slots=True)
class PayPage:
    due: Money
    balance: Money
    invoice: PayableInvoice | None
    credit_note: bool
    minimum: Money
    maximum: Money
    gateway_name: str


def find_pay_page(account_id: int, invoice_public_id: str | None, gateway_name: str) -> PayPage:
    """What can be paid. Raises InvoiceNotFound for an invoice of somebody else."""
    due = find_due(account_id)
    invoice = None
    if invoice_public_id:
        row = db.session.execute(
            select(Invoice.number, Invoice.public_id, InvoiceBalance.open_minor)
            .join(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
            .where(Invoice.account_id == account_id, Invoice.public_id == invoice_public_id)
        ).one_or_none()
        if row is None:
            raise InvoiceNotFound
        if row.open_minor:
            invoice = PayableInvoice(
                row.number, row.public_id, Money(row.open_minor, due.due.currency)
            )
    currency = due.due.currency
    return PayPage(
        due=due.due,
        balance=due.balance,
        invoice=invoice,
        credit_note=True,
        minimum=Money(MINIMUM_MINOR, currency),
        maximum=Money(MAXIMUM_MINOR, currency),
        gateway_name=gateway_name,
    )
