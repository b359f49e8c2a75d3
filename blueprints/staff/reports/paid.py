"""What was paid: by day and kind, how much of it by itself, and what failed."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, cast
from zoneinfo import ZoneInfo

from flask_babel import gettext as _
from sqlalchemy import case, func, literal_column, select

from blueprints.billing import booking, ledger
from blueprints.staff.reports.report import Report, Spans, by_span, count_chart, share_words
from core import clock
from core.db import db, total
from core.downloads import Cell
from core.isp import current_isp
from core.money import Money
from models import (
    Account,
    AccountStatus,
    AutopayMandate,
    EntryKind,
    JournalEntry,
    JournalLine,
    Payment,
    PaymentState,
    PlannedKind,
    PlannedPayment,
)

_BACK = (EntryKind.REFUND.value, EntryKind.CHARGEBACK.value, EntryKind.RETURN.value)
MOST_REASONS = 20


def payments(first_on: date, last_on: date) -> Report:
    """What arrived, by how it was paid, and what went back."""
    # Cash and cheques are two ledgers: the drawer is counted against its own.
    at_counter = case((Payment.gateway == booking.COUNTER, Payment.method))
    rows = db.session.execute(
        select(
            JournalEntry.booked_on,
            JournalEntry.kind,
            Payment.gateway,
            at_counter.label("at_counter"),
            (-total(JournalLine.amount_minor)).label("minor"),
        )
        .join(JournalLine, JournalLine.entry_id == JournalEntry.id)
        .outerjoin(Payment, Payment.entry_id == JournalEntry.id)
        .where(
            JournalEntry.booked_on >= first_on,
            JournalEntry.booked_on <= last_on,
            JournalEntry.kind.in_([EntryKind.PAYMENT.value, *_BACK]),
            JournalLine.ledger == ledger.RECEIVABLE,
        )
        .group_by(JournalEntry.booked_on, JournalEntry.kind, Payment.gateway, at_counter)
    ).all()
    words = {
        booking.CASH: _("Cash"),
        booking.CHEQUE: _("Cheque"),
        "bank": _("Bank transfer"),
        "voucher": _("Voucher"),
        "": _("Other"),
        "back": _("Went back"),
    }
    online = sorted(
        {row.gateway for row in rows if row.gateway and not row.at_counter} - words.keys()
    )
    words = {name: _("Online (%(gateway)s)", gateway=name) for name in online} | words
    return by_span(
        Spans(first_on, last_on),
        [(row.booked_on, _column(row), row.minor) for row in rows],
        words,
        current_isp().currency,
    )


def _column(row: Any) -> str:
    """The name of the column in which an entry's money is counted."""
    return "back" if row.kind in _BACK else row.at_counter or row.gateway or ""


def autopay(first_on: date, last_on: date) -> Report:
    """How many of the payments that arrived were taken by autopay."""
    rows = db.session.execute(
        select(
            JournalEntry.booked_on,
            func.count().label("payments"),
            func.count(PlannedPayment.id).label("by_itself"),
            total(Payment.amount_minor).label("minor"),
        )
        .join(Payment, Payment.entry_id == JournalEntry.id)
        .outerjoin(
            PlannedPayment,
            (PlannedPayment.id == Payment.planned_id)
            & (PlannedPayment.kind == PlannedKind.AUTOPAY.value),
        )
        .where(JournalEntry.booked_on >= first_on, JournalEntry.booked_on <= last_on)
        .group_by(JournalEntry.booked_on)
    ).all()
    spans = Spans(first_on, last_on)
    found: defaultdict[date, list[int]] = defaultdict(lambda: [0, 0])
    for row in rows:
        found[spans.of(row.booked_on)][0] += row.payments
        found[spans.of(row.booked_on)][1] += row.by_itself
    counts = [found[span] for span in spans.all()]
    active = select(func.count()).where(Account.status == AccountStatus.ACTIVE.value)
    standing = (
        select(func.count())
        .select_from(AutopayMandate)
        .join(Account, Account.id == AutopayMandate.account_id)
        .where(AutopayMandate.ended_at.is_(None), Account.status == AccountStatus.ACTIVE.value)
    )
    accounts, mandates = db.session.execute(
        select(active.scalar_subquery(), standing.scalar_subquery())
    ).one()
    in_all, by_itself = sum(row[0] for row in counts), sum(row[1] for row in counts)
    return Report(
        (spans.column, _("Payments"), _("By autopay"), _("Share")),
        tuple(
            (spans.word(span), *row, share_words(row[1], row[0]))
            for span, row in zip(spans.all(), counts, strict=True)
        ),
        count_chart(
            [_("By autopay"), _("By hand")],
            [spans.letter(span) for span in spans.all()],
            [[row[1], row[0] - row[1]] for row in counts],
        ),
        (_("Total"), in_all, by_itself, share_words(by_itself, in_all)),
        (
            _(
                "Now %(mandates)s of %(accounts)s active accounts are on autopay: %(share)s",
                mandates=mandates,
                accounts=accounts,
                share=share_words(mandates, accounts) or "0 %",
            ),
        ),
    )


def failed(first_on: date, last_on: date) -> Report:
    """Payments that were declined, by the reason that the bank gave."""
    isp = current_isp()
    zone = ZoneInfo(isp.timezone)
    from_at = datetime.combine(first_on, time(), zone).astimezone(UTC)
    until_at = datetime.combine(last_on + timedelta(days=1), time(), zone).astimezone(UTC)
    rows = db.session.execute(
        select(Payment.ended_at, Payment.decline_reason, Payment.amount_minor).where(
            # Written out: an index of these alone serves no value that is bound.
            Payment.state == literal_column(f"'{PaymentState.DECLINED.value}'"),
            Payment.ended_at >= from_at,
            Payment.ended_at < until_at,
        )
    ).all()
    spans = Spans(first_on, last_on)
    counts: defaultdict[date, int] = defaultdict(int)
    of_reason: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for ended_at, reason, minor in rows:
        counts[spans.of(clock.day_of(cast("datetime", ended_at), isp.timezone))] += 1
        of_reason[reason or _("No reason given")][0] += 1
        of_reason[reason or _("No reason given")][1] += minor
    ranked = sorted(of_reason.items(), key=lambda item: (-item[1][0], item[0]))
    named, rest = ranked[:MOST_REASONS], ranked[MOST_REASONS:]
    if rest:
        others = [sum(found[which] for _reason, found in rest) for which in (0, 1)]
        named.append((_("Others"), others))

    def row_of(name: str, count: int, minor: int) -> tuple[Cell, ...]:
        return (name, count, Money(minor, isp.currency))

    return Report(
        (_("Reason"), _("Payments"), _("Amount")),
        tuple(row_of(reason, *found) for reason, found in named),
        count_chart(
            [_("Declined")],
            [spans.letter(span) for span in spans.all()],
            [[counts[span]] for span in spans.all()],
        ),
        row_of(_("Total"), len(rows), sum(row.amount_minor for row in rows)),
    )
