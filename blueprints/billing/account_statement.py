"""The statement of an account for any days: what was owed before them, every entry with what was
owed after it, what is owed after the last. Reads only; what the ledger says is what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import Row, select
from sqlalchemy.orm import aliased

from blueprints.billing import ledger, statements
from blueprints.billing.payment_pages import words_of_method
from core import pdf
from core.db import db, total
from core.downloads import Cell
from core.money import Money
from core.words import format_day
from models import (
    Account,
    Adjustment,
    EntryKind,
    Invoice,
    JournalEntry,
    JournalLine,
    Payment,
    PaymentReversal,
)


@dataclass(frozen=True, slots=True)
class StatementEntry:
    """One entry: `amount` is positive where the account owes more by it. At most one of the public
    ids is there: the page that tells more of it."""

    on_day: date
    label: str
    detail: str
    amount: Money
    balance: Money
    invoice_public_id: str | None
    payment_public_id: str | None


@dataclass(frozen=True, slots=True)
class AccountStatement:
    """What happened from `from_on` until and with `to_on`, the oldest first. `charged` and
    `credited` are the sums of what the account owes more, and less, by it; both positive."""

    account_number: str
    account_name: str
    from_on: date
    to_on: date
    opening: Money
    closing: Money
    charged: Money
    credited: Money
    entries: tuple[StatementEntry, ...]


def find_statement(account_id: int, from_on: date, to_on: date) -> AccountStatement:
    """The statement, in two queries whatever its length."""
    before = (
        select(total(JournalLine.amount_minor))
        .join(JournalEntry, JournalEntry.id == JournalLine.entry_id)
        .where(
            JournalLine.account_id == account_id,
            JournalLine.ledger == ledger.RECEIVABLE,
            JournalEntry.booked_on < from_on,
        )
        .scalar_subquery()
    )
    account = db.session.execute(
        select(Account.number, Account.name, Account.currency, before.label("before_minor")).where(
            Account.id == account_id
        )
    ).one()
    rows = _rows(account_id, from_on, to_on)
    currency, balance_minor = account.currency, account.before_minor
    entries = []
    for row in rows:
        balance_minor += row.amount_minor
        label, detail = _words(row)
        entries.append(
            StatementEntry(
                row.booked_on,
                label,
                detail,
                Money(row.amount_minor, currency),
                Money(balance_minor, currency),
                row.invoice_public_id,
                row.payment_public_id or row.reversed_public_id,
            )
        )
    amounts = [row.amount_minor for row in rows]
    return AccountStatement(
        account.number,
        account.name,
        from_on,
        to_on,
        Money(account.before_minor, currency),
        Money(balance_minor, currency),
        Money(sum(amount for amount in amounts if amount > 0), currency),
        Money(-sum(amount for amount in amounts if amount < 0), currency),
        tuple(entries),
    )


def _rows(account_id: int, from_on: date, to_on: date) -> list[Row[Any]]:
    reversed_ = aliased(Payment)
    return list(
        db.session.execute(
            select(
                JournalEntry.kind,
                JournalEntry.booked_on,
                JournalLine.amount_minor,
                Invoice.number,
                Invoice.public_id.label("invoice_public_id"),
                Payment.gateway,
                Payment.method,
                Payment.public_id.label("payment_public_id"),
                reversed_.public_id.label("reversed_public_id"),
                Adjustment.is_credit,
            )
            .join(JournalEntry, JournalEntry.id == JournalLine.entry_id)
            .outerjoin(Invoice, Invoice.entry_id == JournalEntry.id)
            .outerjoin(Payment, Payment.entry_id == JournalEntry.id)
            .outerjoin(PaymentReversal, PaymentReversal.entry_id == JournalEntry.id)
            .outerjoin(reversed_, reversed_.id == PaymentReversal.payment_id)
            .outerjoin(Adjustment, Adjustment.entry_id == JournalEntry.id)
            .where(
                JournalLine.account_id == account_id,
                JournalLine.ledger == ledger.RECEIVABLE,
                JournalEntry.booked_on >= from_on,
                JournalEntry.booked_on <= to_on,
            )
            .order_by(JournalEntry.booked_on, JournalEntry.id, JournalLine.position)
        )
    )


def _words(row: Row[Any]) -> tuple[str, str]:
    """What an entry is, and more about it where there is more."""
    if row.kind == EntryKind.INVOICE:
        return _("Invoice %(number)s", number=row.number), ""
    if row.kind == EntryKind.CREDIT_NOTE:
        return _("Credit note %(number)s", number=row.number), ""
    if row.kind == EntryKind.PAYMENT:
        return _("Payment"), words_of_method(row.gateway or "", row.method or "")
    if row.kind == EntryKind.ADJUSTMENT:
        return (_("Credit from us") if row.amount_minor < 0 else _("Charge")), ""
    words = {
        EntryKind.OPENING: _("Balance brought forward"),
        EntryKind.REFUND: _("Refund") if row.amount_minor > 0 else _("Refund that came back"),
        EntryKind.CHARGEBACK: _("Payment taken back by the bank"),
        EntryKind.RETURN: _("Bank debit returned"),
        EntryKind.TRANSFER: _("Moved between accounts"),
    }
    return words.get(EntryKind(row.kind), _("Correction")), ""


# As files --------------------------------------------------------------------------------------


def header() -> tuple[str, ...]:
    """The columns of the statement as CSV."""
    return (
        _("Date"),
        _("What"),
        _("Details"),
        _("Charged"),
        _("Paid or credited"),
        _("Balance"),
        _("Currency"),
    )


def rows_of(statement: AccountStatement) -> list[tuple[Cell, ...]]:
    """The statement as rows of a CSV file, the balance before and after among them."""
    currency = statement.opening.currency
    nothing: tuple[Cell, ...] = (None, None, None)
    rows: list[tuple[Cell, ...]] = [
        (statement.from_on, _("Balance before"), *nothing, statement.opening, currency)
    ]
    for entry in statement.entries:
        charged, credited = _sides(entry.amount)
        rows.append(
            (entry.on_day, entry.label, entry.detail, charged, credited, entry.balance, currency)
        )
    sums = (None, statement.charged, statement.credited)
    rows.append((statement.to_on, _("Balance after"), *sums, statement.closing, currency))
    return rows


def _sides(amount: Money) -> tuple[Money | None, Money | None]:
    """The amount in the column of what is charged, or of what is paid or credited."""
    return (amount, None) if amount.amount_minor > 0 else (None, -amount)


def make_pdf(statement: AccountStatement) -> bytes:
    """The statement as PDF/UA-1, the same bytes for the same entries. Raises PdfFailed."""
    day = statement.to_on
    return pdf.make(
        "account.typ", _facts(statement), datetime(day.year, day.month, day.day, tzinfo=UTC)
    )


def _facts(statement: AccountStatement) -> dict[str, Any]:
    def words(amount: Money | None) -> str:
        return "" if amount is None else statements.money_words(amount)

    span = f"{format_day(statement.from_on)} – {format_day(statement.to_on)}"
    day = statement.to_on
    facts = [
        [_("Account"), statement.account_number],
        [_("Period"), span],
    ]
    return statements.frame(statement.closing.currency) | {
        "title": _("Statement of account"),
        "number": statement.account_number,
        "date": [day.year, day.month, day.day],
        "facts": facts,
        "billed_to": [statement.account_name],
        "columns": [
            _("Date"),
            _("What"),
            _("Charged"),
            _("Paid or credited"),
            _("Balance"),
        ],
        "opening": [_("Balance before"), words(statement.opening)],
        "lines": [
            [
                format_day(entry.on_day),
                entry.label,
                entry.detail,
                *(words(side) for side in _sides(entry.amount)),
                words(entry.balance),
            ]
            for entry in statement.entries
        ],
        "sums": [_("Total"), words(statement.charged), words(statement.credited)],
        "closing": [_("Balance after"), words(statement.closing)],
        "nothing": _("Nothing happened in these days."),
    }
