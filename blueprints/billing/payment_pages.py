"""Payments as their pages show them: the list, one of them, what can be paid. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from flask_babel import gettext as _
from sqlalchemy import Integer, bindparam, func, select

from blueprints.billing import booking, gateway_words, ledger
from blueprints.billing.errors import InvoiceNotFound, PaymentNotFound
from blueprints.billing.owed import find_due
from blueprints.billing.payments import MAXIMUM_MINOR, MINIMUM_MINOR
from core.db import db, total
from core.money import Money
from core.prepared import Prepared
from models import (
    UNDER_WAY,
    Invoice,
    InvoiceBalance,
    JournalLine,
    Payment,
    PaymentReversal,
    PaymentState,
    ReversalState,
)

PER_PAGE = 12


@dataclass(frozen=True, slots=True)
class PaymentRow:
    public_id: str
    amount: Money
    state: str
    created_at: datetime
    method: str


def words_of_method(gateway: str, method: str) -> str:
    """With what something was paid; of a gateway its own words, which may be missing. In the
    language of the answer."""
    if gateway == booking.COUNTER:
        return _("Cash") if method == booking.CASH else _("Cheque")
    if gateway == booking.BANK:
        return _("Bank transfer")
    return _("Voucher") if gateway == booking.VOUCHER else gateway_words.translate(method)


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


_SOME_PAYMENTS = Prepared(
    select(
        Payment.public_id,
        Payment.amount_minor,
        Payment.currency,
        Payment.state,
        Payment.created_at,
        Payment.gateway,
        Payment.method,
    )
    .where(Payment.account_id == bindparam("account_id"))
    .order_by(Payment.created_at.desc(), Payment.id.desc())
    .limit(bindparam("most", type_=Integer))
    .offset(bindparam("beyond", type_=Integer))
)


def list_some_payments(account_id: int, limit: int, offset: int = 0) -> list[PaymentRow]:
    rows = _SOME_PAYMENTS.all(account_id=account_id, most=limit, beyond=offset)
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
