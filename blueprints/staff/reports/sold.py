"""What was sold: by plan and area, and the tax on it."""

from __future__ import annotations

from collections import defaultdict
from datetime import date

from flask_babel import gettext as _
from sqlalchemy import case, select

from blueprints.billing import adjusting
from blueprints.staff.reports.report import MOST_SERIES, Report, Spans, by_span, money_chart
from core.db import db, total
from core.downloads import Cell
from core.isp import current_isp
from core.money import Money
from models import (
    Account,
    Area,
    Invoice,
    InvoiceKind,
    InvoiceLine,
    InvoiceLineKind,
    JournalEntry,
    JournalLine,
    Plan,
    Subscription,
    Tax,
)

_PREFIX = "tax:"


def revenue(first_on: date, last_on: date) -> Report:
    """What bills of these days charge before tax, less what they and credit notes give back: a row
    for each plan, a column for each area. Credits that staff gave have a row of their own."""
    currency = current_isp().currency
    is_given_back = Invoice.kind == InvoiceKind.CREDIT_NOTE.value
    amount = case((is_given_back, -InvoiceLine.amount_minor), else_=InvoiceLine.amount_minor)
    rows = db.session.execute(
        select(Subscription.plan_id, Account.area_code, total(amount).label("minor"))
        .select_from(Invoice)
        .join(InvoiceLine, InvoiceLine.invoice_id == Invoice.id)
        .join(Account, Account.id == Invoice.account_id)
        .outerjoin(Subscription, Subscription.id == InvoiceLine.subscription_id)
        .where(
            Invoice.issued_on >= first_on,
            Invoice.issued_on <= last_on,
            Invoice.kind != InvoiceKind.OPENING.value,
            InvoiceLine.kind.in_([InvoiceLineKind.CHARGE.value, InvoiceLineKind.CREDIT.value]),
        )
        .group_by(Subscription.plan_id, Account.area_code)
    ).all()
    found: defaultdict[tuple[str, str], int] = defaultdict(int)
    plans = {row.id: row.name for row in db.session.execute(select(Plan.id, Plan.name))}
    areas = {row.code: row.name for row in db.session.execute(select(Area.code, Area.name))}
    other, nowhere = _("One-off and other"), _("No area")
    for row in rows:
        found[plans.get(row.plan_id, other), areas.get(row.area_code, nowhere)] += row.minor
    given = db.session.execute(
        select(Account.area_code, (-total(JournalLine.amount_minor)).label("minor"))
        .select_from(JournalLine)
        .join(JournalEntry, JournalEntry.id == JournalLine.entry_id)
        .join(Account, Account.id == JournalEntry.account_id)
        .where(
            JournalEntry.booked_on >= first_on,
            JournalEntry.booked_on <= last_on,
            JournalLine.ledger == adjusting.LEDGER,
        )
        .group_by(Account.area_code)
    )
    for credit in given:
        found[_("Credits by staff"), areas.get(credit.area_code, nowhere)] += credit.minor
    in_areas = sorted({area for _plan, area in found})
    sold = {plan for plan, _area in found}
    of_plan = {plan: [found[plan, area] for area in in_areas] for plan in sold}
    names = sorted(of_plan, key=lambda plan: (-sum(of_plan[plan]), plan))
    sums = [sum(column) for column in zip(*of_plan.values(), strict=True)]
    drawn = names[:MOST_SERIES]
    rest = names[MOST_SERIES:]
    values = [
        [
            *(found[plan, area] for plan in drawn),
            *([sum(found[plan, area] for plan in rest)] if rest else []),
        ]
        for area in in_areas
    ]

    def row_of(name: str, amounts: list[int]) -> tuple[Cell, ...]:
        return (name, *(Money(minor, currency) for minor in (*amounts, sum(amounts))))

    return Report(
        (_("Plan"), *in_areas, _("Total")),
        tuple(row_of(name, of_plan[name]) for name in names),
        money_chart([*drawn, *([_("Others")] if rest else [])], in_areas, values, currency),
        row_of(_("Total"), sums),
    )


def tax(first_on: date, last_on: date) -> Report:
    """The tax that the books say is owed to the authorities for these days, by tax."""
    rows = db.session.execute(
        select(
            JournalEntry.booked_on,
            JournalLine.ledger,
            (-total(JournalLine.amount_minor)).label("minor"),
        )
        .join(JournalLine, JournalLine.entry_id == JournalEntry.id)
        .where(
            JournalEntry.booked_on >= first_on,
            JournalEntry.booked_on <= last_on,
            JournalLine.ledger.startswith(_PREFIX),
        )
        .group_by(JournalEntry.booked_on, JournalLine.ledger)
    ).all()
    taxes = db.session.execute(select(Tax.code, Tax.name).order_by(Tax.code))
    words = {tax.code: tax.name for tax in taxes}
    for row in rows:
        words.setdefault(row.ledger.removeprefix(_PREFIX), row.ledger.removeprefix(_PREFIX))
    return by_span(
        Spans(first_on, last_on),
        [(row.booked_on, row.ledger.removeprefix(_PREFIX), row.minor) for row in rows],
        words,
        current_isp().currency,
    )
