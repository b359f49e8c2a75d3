"""What is owed, by how long it is overdue."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

from flask_babel import gettext as _
from sqlalchemy import func, select

from blueprints.billing import ledger
from blueprints.staff.reports.report import Report, money_chart, share_words
from core.db import db, total
from core.downloads import Cell
from core.isp import current_isp
from core.money import Money
from models import (
    Allocation,
    Invoice,
    InvoiceBalance,
    InvoiceKind,
    JournalEntry,
    JournalLine,
)

_EDGES = (0, 30, 60, 90)


def aged(_first_on: date, last_on: date) -> Report:
    """What was open at the end of `last_on`, by days overdue then. With credit not used taken off
    it is what the books say is owed."""
    currency = current_isp().currency
    open_of = _open_by_due_day(last_on)
    buckets = [0] * (len(_EDGES) + 1)
    for due_on, minor in open_of.items():
        days = (last_on - due_on).days
        buckets[sum(days > edge for edge in _EDGES)] += minor
    in_all = sum(buckets)
    books = db.session.execute(
        select(total(JournalLine.amount_minor))
        .join(JournalEntry, JournalEntry.id == JournalLine.entry_id)
        .where(JournalLine.ledger == ledger.RECEIVABLE, JournalEntry.booked_on <= last_on)
    ).scalar_one()
    names = [
        _("Not due yet"),
        *(
            _("%(first)s to %(last)s days", first=low + 1, last=high)
            for low, high in pairwise(_EDGES)
        ),
        _("More than %(count)s days", count=_EDGES[-1]),
    ]
    rows: list[tuple[Cell, ...]] = [
        (name, Money(minor, currency), share_words(minor, in_all))
        for name, minor in zip(names, buckets, strict=True)
    ]
    rows.append((_("Credit not used"), Money(books - in_all, currency), ""))
    return Report(
        (_("Overdue"), _("Open"), _("Share")),
        tuple(rows),
        money_chart(
            [_("Open")], ["0", "1-30", "31-60", "61-90", "90+"], [[b] for b in buckets], currency
        ),
        (_("Owed in all"), Money(books, currency), ""),
    )


def _open_by_due_day(day: date) -> dict[date, int]:
    """What was open of invoices at the end of `day`, by when they were due, in two queries."""
    is_invoice = Invoice.kind != InvoiceKind.CREDIT_NOTE.value
    newest_on = db.session.scalar(select(func.max(JournalEntry.booked_on)))
    if newest_on is None or newest_on <= day:
        # Nothing has happened since: the derived table knows it.
        still_open = db.session.execute(
            select(Invoice.due_on, total(InvoiceBalance.open_minor))
            .join(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
            .where(InvoiceBalance.settled_at.is_(None))
            .group_by(Invoice.due_on)
        )
        return dict(still_open.all())
    issued = db.session.execute(
        select(Invoice.due_on, total(Invoice.total_minor))
        .where(Invoice.issued_on <= day, is_invoice)
        .group_by(Invoice.due_on)
    )
    found = dict(issued.all())
    settled = db.session.execute(
        select(Invoice.due_on, total(Allocation.amount_minor))
        .join(Invoice, Invoice.id == Allocation.invoice_id)
        .join(JournalEntry, JournalEntry.id == Allocation.entry_id)
        .where(Invoice.issued_on <= day, JournalEntry.booked_on <= day)
        .group_by(Invoice.due_on)
    )
    for due_on, minor in settled:
        found[due_on] = found.get(due_on, 0) - minor
    return found
