"""What an account was billed, by month and kind of service. Reads only."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import date

from flask_babel import gettext as _
from sqlalchemy import select

from core import clock
from core.db import db, total
from core.money import Money
from models import Account, Invoice, InvoiceKind, InvoiceLine, PlanKind

TAXES = "tax"
OTHER = "other"
KINDS = (*(kind.value for kind in PlanKind), OTHER, TAXES)
MONTHS = 12


def kind_words() -> dict[str, str]:
    """Each kind of what is billed in a word."""
    return {
        PlanKind.INTERNET: _("Internet"),
        PlanKind.TV: _("TV"),
        PlanKind.PHONE: _("Phone"),
        PlanKind.EQUIPMENT: _("Equipment"),
        PlanKind.OPTION: _("Options"),
        OTHER: _("Other"),
        TAXES: _("Taxes and fees"),
    }


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month; `parts` are in the order of the kinds."""

    first_on: date
    parts: tuple[Money, ...]
    total: Money


@dataclass(frozen=True, slots=True)
class Spending:
    """Months, the oldest first, by the kinds that occur in them; `sums` are of each kind."""

    kinds: tuple[str, ...]
    months: tuple[Month, ...]
    sums: tuple[Money, ...]
    total: Money


def kind_of(ledger: str) -> str:
    """The kind of service that a line on this account of the books is for."""
    root, _colon, rest = ledger.partition(":")
    if root == "tax":
        return TAXES
    return rest if root == "revenue" and rest in KINDS else OTHER


def find_spending(account_id: int, today: date) -> Spending:
    """The twelve months until and with that of `today`, in two queries. What a credit note gave
    back is taken off in its month."""
    first_on = clock.month_step(today.replace(day=1), 1 - MONTHS, 1)
    currency = db.session.scalar(select(Account.currency).where(Account.id == account_id)) or ""
    rows = db.session.execute(
        select(
            Invoice.issued_on,
            Invoice.kind,
            InvoiceLine.ledger,
            total(InvoiceLine.amount_minor).label("amount_minor"),
        )
        .join(InvoiceLine, InvoiceLine.invoice_id == Invoice.id)
        .where(
            Invoice.account_id == account_id,
            Invoice.issued_on >= first_on,
            Invoice.issued_on <= today,
            Invoice.kind != InvoiceKind.OPENING.value,
        )
        .group_by(Invoice.issued_on, Invoice.kind, InvoiceLine.ledger)
    ).all()
    found: defaultdict[tuple[date, str], int] = defaultdict(int)
    for row in rows:
        sign = -1 if row.kind == InvoiceKind.CREDIT_NOTE else 1
        found[row.issued_on.replace(day=1), kind_of(row.ledger)] += sign * row.amount_minor
    kinds = tuple(kind for kind in KINDS if any(of_kind == kind for _, of_kind in found))

    def money(minor: int) -> Money:
        return Money(minor, currency)

    months = []
    for number in range(MONTHS):
        month_on = clock.month_step(first_on, number, 1)
        parts = [found[month_on, kind] for kind in kinds]
        months.append(Month(month_on, tuple(map(money, parts)), money(sum(parts))))
    sums = [sum(month.parts[which].amount_minor for month in months) for which in range(len(kinds))]
    return Spending(kinds, tuple(months), tuple(map(money, sums)), money(sum(sums)))
