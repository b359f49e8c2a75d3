"""What the lines of an account carried, and when their customer is told of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from blueprints.billing.periods import Span, period_of
from blueprints.dashboard.usage.errors import LineNotFound
from blueprints.lines import accounting
from blueprints.lines.allowances import deciding
from blueprints.lines.allowances.rules import USUAL_PERCENTS, percents_of, spend
from blueprints.lines.allowances.standing import (
    Standing,
    is_in_use,
    list_standings,
    list_top_ups,
    rule_of,
)
from blueprints.lines.reading import NETWORK
from blueprints.lines.spreading import HOUR, start_of_day
from core import clock, form_keys
from core.db import db
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.money import Money
from models import Account, Line, OverRule, Plan, Subscription, UsageDay, UsageSession, UsageSource

MONTHS = 13
SESSIONS_SHOWN = 30
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class LineChoice:
    """A line whose usage can be looked at."""

    line_id: int
    public_id: str
    username: str
    is_closed: bool


@dataclass(frozen=True, slots=True)
class Carried:
    """Bytes on a day, in an hour or in a month; `first_on` or `from_at` says which."""

    up_bytes: int
    down_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.up_bytes + self.down_bytes


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is included in a bill period; without a limit `included_bytes` is None. It `is_share`
    where the plan has begun within the period: each plan includes its share by days."""

    plan_name: str
    included_bytes: int | None
    rule: OverRule | None = None
    overage: Money | None = None
    overage_bytes: int = 0
    slow_down_kbps: int | None = None
    has_top_up: bool = False
    is_share: bool = False


@dataclass(frozen=True, slots=True)
class TopUpLeft:
    """What is left of data that was bought, until and with `expires_on`."""

    left_bytes: int
    expires_on: date


@dataclass(frozen=True, slots=True)
class Period:
    """A bill period of a line so far. `days` has each day until today; `expected_bytes` is what it
    will be at its end when the days to come are like those that were. `counted_bytes` counts
    against what is included."""

    span: Span
    days: tuple[tuple[date, Carried], ...]
    used: Carried
    allowance: Allowance | None
    days_left: int
    expected_bytes: int | None
    counted_bytes: int
    top_ups: tuple[TopUpLeft, ...] = ()

    @property
    def left_bytes(self) -> int | None:
        """What is left of what is included, negative beyond it; None without a limit."""
        if self.allowance is None or self.allowance.included_bytes is None:
            return None
        return self.allowance.included_bytes - self.counted_bytes


@dataclass(frozen=True, slots=True)
class AsOf:
    """The moment up to which everything is counted; None where nothing was ever reported. With
    `is_behind` the network cannot be read at the moment."""

    at: datetime | None
    is_behind: bool


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for a line: its bill period and the day that begins one, what its plan includes,
    and how far it is counted."""

    span: Span
    bill_day: int
    allowance: Allowance | None
    as_of: AsOf


@dataclass(frozen=True, slots=True)
class SessionView:
    started_at: datetime
    ended_at: datetime | None
    seconds: int
    up_bytes: int
    down_bytes: int
    address: str
    device: str


@dataclass(frozen=True, slots=True)
class SessionList:
    """A page of sessions, the newest first."""

    sessions: tuple[SessionView, ...]
    page: int
    page_count: int


def list_lines(account_id: int) -> list[LineChoice]:
    """The account's lines, those that still run first."""
    rows = db.session.execute(
        select(Line.id, Line.public_id, Line.username, Line.is_closed)
        .where(Line.account_id == account_id)
        .order_by(Line.is_closed, Line.id)
    )
    return [LineChoice(*row) for row in rows]


def get_line(lines: Sequence[LineChoice], public_id: str | None) -> LineChoice | None:
    """The one of an account's lines with this id, or the first; None where there is none. Raises
    LineNotFound."""
    if public_id is None:
        return lines[0] if lines else None
    for line in lines:
        if line.public_id == public_id:
            return line
    raise LineNotFound


def find_terms(account_id: int, line_id: int, today: date) -> Terms:
    """What holds for a line on a day, and up to when its usage is counted, in one query."""
    running_at = (
        select(func.min(UsageSession.counted_at))
        .where(UsageSession.line_id == line_id, UsageSession.ended_at.is_(None))
        .scalar_subquery()
    )
    row = db.session.execute(
        select(
            Account.bill_day,
            Plan.name,
            Plan.data_included_bytes,
            Plan.over_rule,
            Plan.overage_minor,
            Plan.overage_bytes,
            Plan.slow_down_kbps,
            Plan.top_up_bytes,
            UsageSource.read_at,
            UsageSource.failure,
            running_at.label("running_at"),
        )
        .select_from(Account)
        .outerjoin(
            Subscription,
            is_in_use(line_id, Account.id, today),
        )
        .outerjoin(Plan, Plan.id == Subscription.plan_id)
        .outerjoin(UsageSource, UsageSource.name == NETWORK)
        .where(Account.id == account_id)
        .order_by(Subscription.line_id.is_(None), Subscription.id.desc())
        .limit(1)
    ).one()
    as_of = AsOf(None, is_behind=bool(row.failure))
    if row.read_at is not None:
        as_of = replace(as_of, at=min(row.read_at, row.running_at or row.read_at))
    return Terms(period_of(today, row.bill_day), row.bill_day, _allowance_of(row), as_of)


def _allowance_of(row: Any) -> Allowance | None:
    if row.name is None:
        return None
    return Allowance(
        row.name,
        row.data_included_bytes,
        rule_of(row.over_rule, row.overage_minor),
        Money(row.overage_minor or 0, current_isp().currency),
        row.overage_bytes or 0,
        row.slow_down_kbps,
        has_top_up=bool(row.top_up_bytes),
    )


def find_period(line_id: int, terms: Terms, today: date) -> Period:
    """The bill period in which `today` lies."""
    span = terms.span
    found = _days(line_id, span.from_on, today)
    days = tuple((day, found.get(day, Carried(0, 0))) for day in _until(span.from_on, today))
    used = _sum(carried for _day, carried in days)
    known = {line_id: used.total_bytes}
    standings = list_standings(db.session(), [line_id], today, with_closed=True, carried=known)
    allowance, counted = terms.allowance, used.total_bytes
    top_ups: tuple[TopUpLeft, ...] = ()
    if standings and allowance is not None:
        [standing] = standings
        allowance = replace(
            allowance,
            included_bytes=standing.included_bytes,
            is_share=standing.count.mark.began_on > span.from_on,
        )
        counted = standing.used_bytes
        top_ups = _top_ups_left(standing, today)
    return Period(
        span,
        days,
        used,
        allowance,
        (span.until_on - today).days,
        _expect(span, days, used),
        counted,
        top_ups,
    )


def find_earlier(line_id: int, span: Span) -> Period:
    """A bill period that is over: what its days carried."""
    found = _days(line_id, span.from_on, span.last_on)
    days = tuple((day, found.get(day, Carried(0, 0))) for day in _until(span.from_on, span.last_on))
    used = _sum(carried for _day, carried in days)
    return Period(span, days, used, None, 0, None, used.total_bytes)


def _top_ups_left(standing: Standing, today: date) -> tuple[TopUpLeft, ...]:
    """The top-ups that can still be used, with what is left of them once what is used is
    settled."""
    session, period_on = db.session(), standing.span.from_on
    known = list_top_ups(session, standing.line_id, period_on)
    if not known:
        return ()
    blocks_bytes = deciding.find_blocks_bytes(session, standing.line_id, period_on)
    uses, _rest = spend(known, deciding.open_of(standing, blocks_bytes, known), today)
    return tuple(
        TopUpLeft(each.left_bytes - uses.get(each.top_up_id, 0), each.expires_on)
        for each in known
        if each.expires_on >= today and (each.left_bytes or period_on in each.uses)
    )


def _expect(span: Span, days: Sequence[tuple[date, Carried]], used: Carried) -> int | None:
    """By the days that are over; nothing on the first day of a period, of which nothing follows."""
    over = len(days) - 1
    if not over:
        return None
    before_today = used.total_bytes - days[-1][1].total_bytes
    return max(used.total_bytes, before_today * span.days // over)


def _until(from_on: date, last_on: date) -> Iterator[date]:
    for number in range((last_on - from_on).days + 1):
        yield from_on + number * _DAY


def _days(line_id: int, from_on: date, last_on: date) -> dict[date, Carried]:
    rows = db.session.execute(
        select(UsageDay.day_on, UsageDay.up_bytes, UsageDay.down_bytes).where(
            UsageDay.line_id == line_id, UsageDay.day_on >= from_on, UsageDay.day_on <= last_on
        )
    )
    return {row.day_on: Carried(row.up_bytes, row.down_bytes) for row in rows}


def _sum(parts: Iterator[Carried]) -> Carried:
    up = down = 0
    for part in parts:
        up, down = up + part.up_bytes, down + part.down_bytes
    return Carried(up, down)


def list_hours(line_id: int, day_on: date) -> list[tuple[datetime, Carried]]:
    """Each hour of a day by when it began, to the last that anything came in; empty where the
    hours are not kept any more."""
    begins_at = start_of_day(day_on, current_isp().timezone)
    return [
        (begins_at + number * HOUR, Carried(up, down))
        for number, (up, down) in enumerate(accounting.list_hours(line_id, day_on))
    ]


def list_months(line_id: int, today: date) -> list[tuple[date, Carried]]:
    """The calendar months that are kept, the newest first, from the first that anything is known
    of."""
    first_on = clock.month_step(today.replace(day=1), 1 - MONTHS, 1)
    months = [clock.month_step(first_on, number, 1) for number in range(MONTHS)]
    sums: dict[date, list[int]] = {}
    for day, carried in _days(line_id, first_on, today).items():
        of_month = sums.setdefault(day.replace(day=1), [0, 0])
        of_month[0] += carried.up_bytes
        of_month[1] += carried.down_bytes
    known = [month for month in months if month >= min(sums, default=today)]
    return [(month, Carried(*sums.get(month, (0, 0)))) for month in reversed(known)]


def list_days(line_id: int, from_on: date, last_on: date) -> list[tuple[date, Carried]]:
    """Each day of the span of which anything is known, in order."""
    return sorted(_days(line_id, from_on, last_on).items())


def list_sessions(line_id: int, page: int) -> SessionList:
    """A page of the line's sessions, the newest first; one beyond the last is the last."""
    count = db.session.execute(
        select(func.count(UsageSession.id)).where(UsageSession.line_id == line_id)
    ).scalar_one()
    page_count = max(1, -(-count // SESSIONS_SHOWN))
    page = min(max(page, 1), page_count)
    rows = db.session.execute(
        select(
            UsageSession.started_at,
            UsageSession.ended_at,
            UsageSession.counted_seconds,
            UsageSession.up_bytes,
            UsageSession.down_bytes,
            UsageSession.address,
            UsageSession.device,
        )
        .where(UsageSession.line_id == line_id)
        .order_by(UsageSession.started_at.desc(), UsageSession.id.desc())
        .limit(SESSIONS_SHOWN)
        .offset((page - 1) * SESSIONS_SHOWN)
    )
    sessions = tuple(
        SessionView(
            row.started_at,
            row.ended_at,
            max(row.counted_seconds, 0),
            row.up_bytes,
            row.down_bytes,
            row.address,
            mask(row.device),
        )
        for row in rows
    )
    return SessionList(sessions, page, page_count)


def find_percents(line_id: int) -> tuple[int, ...]:
    """The thresholds at which the line's customer is told."""
    chosen = db.session.scalar(select(Line.alert_percents).where(Line.id == line_id))
    return percents_of(chosen)


def choose_percents(
    account_id: int, line_id: int, percents: tuple[int, ...], path: str, key: ArrivedKey
) -> str:
    """Have the line's customer told at these thresholds; `path` is where that is shown."""

    def work(session: Session) -> str:
        chosen = None if percents == USUAL_PERCENTS else list(percents)
        session.execute(
            update(Line)
            .where(Line.id == line_id, Line.account_id == account_id)
            .values(alert_percents=chosen)
        )
        return path

    return form_keys.once(key, work, account_id)


def mask(device: str) -> str:
    """A device's address with all but its end hidden: enough to know one's own router by."""
    return f"…{device[-5:]}" if len(device) > 5 else device
