"""The calls of an account, month by month."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from sqlalchemy import case, func, select

from core.db import db, total
from core.downloads import Cell
from core.isp import current_isp
from core.money import Money
from core.phones import format_phone
from models import CallRecord, Charge, PhoneNumber

PER_PAGE = 50
_CHARGED = case((Charge.cancelled_at.is_not(None), 0), else_=CallRecord.amount_minor)
"""What a call costs: nothing where staff have taken its charge back."""
HEADER = ("started_at", "number", "direction", "other", "seconds", "amount", "currency")


@dataclass(frozen=True, slots=True)
class CallView:
    """A call; `started_at` is in the ISP's zone, `number` ours, `other` empty where hidden."""

    number: str
    is_out: bool
    other: str
    started_at: datetime
    length: str
    amount: Money


@dataclass(frozen=True, slots=True)
class CallsPage:
    """The calls of a month, the newest first, `PER_PAGE` at once, and what they come to."""

    months: list[date]
    month: date
    calls: list[CallView]
    page: int
    page_count: int
    count: int
    out_count: int
    length: str
    amount: Money


def length_of(seconds: int) -> str:
    """The length of a call like `4:05`, or `1:02:09`."""
    hours, minutes = seconds // 3600, seconds // 60 % 60
    start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{start}:{seconds % 60:02}"


def list_months(account_id: int) -> list[date]:
    """The months in which there were calls, the newest first."""
    return list(
        db.session.scalars(
            select(CallRecord.month_on)
            .where(CallRecord.account_id == account_id)
            .distinct()
            .order_by(CallRecord.month_on.desc())
        )
    )


def find_calls(account_id: int, months: list[date], month: date, page: int) -> CallsPage:
    """The calls of the month, in two queries."""
    of_month = (CallRecord.account_id == account_id, CallRecord.month_on == month)
    sums = db.session.execute(
        select(
            func.count(CallRecord.id).label("call_count"),
            total(case((CallRecord.is_out, 1), else_=0)).label("out_count"),
            total(CallRecord.seconds).label("seconds"),
            total(_CHARGED).label("amount_minor"),
        )
        .outerjoin(Charge, Charge.id == CallRecord.charge_id)
        .where(*of_month)
    ).one()
    currency, zone = current_isp().currency, ZoneInfo(current_isp().timezone)
    page_count = max(1, -(-sums.call_count // PER_PAGE))
    page = min(max(page, 1), page_count)
    rows = db.session.execute(
        select(CallRecord, PhoneNumber.number, _CHARGED)
        .join(PhoneNumber, PhoneNumber.id == CallRecord.number_id)
        .outerjoin(Charge, Charge.id == CallRecord.charge_id)
        .where(*of_month)
        .order_by(CallRecord.started_at.desc(), CallRecord.id.desc())
        .limit(PER_PAGE)
        .offset((page - 1) * PER_PAGE)
    )
    return CallsPage(
        months,
        month,
        [
            CallView(
                number,
                call.is_out,
                call.other,
                call.started_at.astimezone(zone),
                length_of(call.seconds),
                Money(amount_minor, currency),
            )
            for call, number, amount_minor in rows
        ],
        page,
        page_count,
        sums.call_count,
        sums.out_count,
        length_of(sums.seconds),
        Money(sums.amount_minor, currency),
    )


def rows_of(account_id: int, month: date) -> Iterator[tuple[Cell, ...]]:
    """A row for each call of the month, the oldest first, for a spreadsheet."""
    currency, zone = current_isp().currency, ZoneInfo(current_isp().timezone)
    rows = db.session.execute(
        select(CallRecord, PhoneNumber.number, _CHARGED)
        .join(PhoneNumber, PhoneNumber.id == CallRecord.number_id)
        .outerjoin(Charge, Charge.id == CallRecord.charge_id)
        .where(CallRecord.account_id == account_id, CallRecord.month_on == month)
        .order_by(CallRecord.started_at, CallRecord.id)
    )
    for call, number, amount_minor in rows:
        yield (
            call.started_at.astimezone(zone).isoformat(),
            format_phone(number),
            "out" if call.is_out else "in",
            format_phone(call.other),
            call.seconds,
            Money(amount_minor, currency),
            currency,
        )
