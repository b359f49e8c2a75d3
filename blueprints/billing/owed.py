"""What an account owes now, and what it is made of. Reads only.

One query whatever there is: these are the figures of the pages people open most.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import date
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import BindParameter, Select, and_, bindparam, func, select
from sqlalchemy.orm import aliased

from blueprints.billing import gateway_words
from core import clock
from core.db import total
from core.isp import current_isp
from core.money import Money
from core.prepared import Prepared
from models import (
    UNDER_WAY,
    Account,
    AutopayMandate,
    Invoice,
    InvoiceBalance,
    Payment,
    PaymentMethod,
    PaymentState,
    PlannedPayment,
    PlannedState,
)

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
            gateway_words.translate(row.ahead_title or ""),
            row.ahead_failure,
        )
        if row.ahead_public_id
        else None,
        autopay_ended=row.ended_because if row.ended_because in ENDED_FOR_THEM else "",
    )


_PARTS = Prepared(
    select(
        Invoice.public_id,
        Invoice.number,
        Invoice.kind,
        Invoice.due_on,
        InvoiceBalance.open_minor,
    )
    .join(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
    .where(
        InvoiceBalance.account_id == bindparam("account_id"),
        InvoiceBalance.settled_at.is_(None),
    )
    .order_by(Invoice.due_on, Invoice.id)
)


def list_parts(account_id: int, balance: Money) -> list[Part]:
    """What the balance is made of: open invoices, less credit not used. Sums to `balance`."""
    rows = _PARTS.all(account_id=account_id)
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
