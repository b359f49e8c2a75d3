"""How much lines have used of what is included in their bill period, read for many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, true
from sqlalchemy.orm import Session

from blueprints.billing.periods import Span, period_of
from blueprints.lines.allowances.rules import Count, KnownTopUp, Mark, percents_of
from core import clock
from core.db import total
from core.isp import current_isp
from models import (
    Account,
    Line,
    OverRule,
    Plan,
    PlanKind,
    Subscription,
    TopUp,
    TopUpUse,
    UsageDay,
    UsageMark,
)

LONGEST_PERIOD = timedelta(days=32)


@dataclass(frozen=True, slots=True)
class Standing:
    """A line whose plan includes so much in the bill period `span`, of which so much is used.

    `rule` says what happens beyond it, None: nothing. The line is limited until the day before
    `limited_until_on` already, where that is not None, to `limited_kbps` or, None, held.
    """

    line_id: int
    account_id: int
    public_id: str
    username: str
    language: str
    percents: tuple[int, ...]
    limited_until_on: date | None
    limited_kbps: int | None
    subscription_id: int
    count: Count
    plan_name: str
    rule: OverRule | None
    overage_minor: int
    overage_bytes: int
    slow_down_kbps: int | None
    slow_up_kbps: int | None

    @property
    def span(self) -> Span:
        return self.count.span

    @property
    def included_bytes(self) -> int:
        return self.count.included_bytes

    @property
    def used_bytes(self) -> int:
        return self.count.used_bytes

    @property
    def over_bytes(self) -> int:
        return self.count.over_bytes

    @property
    def percent(self) -> int:
        """How much of what is included is used."""
        return self.used_bytes * 100 // max(1, self.included_bytes)


@dataclass(frozen=True, slots=True)
class Counted:
    """A line and what it has carried with the plan in use, None: with none."""

    line_id: int
    subscription_id: int | None
    count: Count


def rule_of(over_rule: str, overage_minor: int | None) -> OverRule | None:
    """What a plan does with whoever uses more: a plan that names a price charges it, unless it says
    otherwise."""
    if over_rule:
        return OverRule(over_rule)
    return OverRule.CHARGE if overage_minor else None


def is_in_use(line_id: Any, account_id: Any, day: date) -> ColumnElement[bool]:
    """Whether a subscription is to the internet plan of a line on a day: its own one, or one of the
    account's that names no line. Both ids may be columns."""
    return and_(
        Subscription.account_id == account_id,
        or_(Subscription.line_id == line_id, Subscription.line_id.is_(None)),
        Subscription.started_on <= day,
        or_(Subscription.ended_on.is_(None), Subscription.ended_on > day),
        Subscription.plan_id.in_(select(Plan.id).where(Plan.kind == PlanKind.INTERNET.value)),
    )


def list_standings(
    session: Session,
    line_ids: Sequence[int],
    on: date,
    *,
    with_closed: bool = False,
    carried: Mapping[int, int] | None = None,
) -> list[Standing]:
    """Of these lines those that run and whose plan on that day has a limit, in two queries;
    `with_closed`: those as well that do not run any more. `carried`: what each has in the bill
    period, where that is known."""
    found = _count(session, line_ids, on, with_closed=with_closed, carried=carried)
    return [
        Standing(
            line_id=row.id,
            account_id=row.account_id,
            public_id=row.public_id,
            username=row.username,
            language=row.language,
            percents=percents_of(row.alert_percents),
            limited_until_on=row.limited_until_on,
            limited_kbps=row.limited_kbps,
            subscription_id=row.subscription_id,
            count=count,
            plan_name=row.name,
            rule=rule_of(row.over_rule, row.overage_minor),
            overage_minor=row.overage_minor or 0,
            overage_bytes=row.overage_bytes or 0,
            slow_down_kbps=row.slow_down_kbps,
            slow_up_kbps=row.slow_up_kbps,
        )
        for row, count in found
        if count.plan_bytes is not None
    ]


def list_counted(session: Session, account_id: int, on: date) -> list[Counted]:
    """What each line of an account that runs has carried, whether or not its plan has a limit."""
    line_ids = session.scalars(select(Line.id).where(Line.account_id == account_id)).all()
    return [
        Counted(row.id, row.subscription_id, count)
        for row, count in _count(session, line_ids, on, with_closed=False)
    ]


def _count(
    session: Session,
    line_ids: Sequence[int],
    on: date,
    *,
    with_closed: bool,
    carried: Mapping[int, int] | None = None,
) -> list[tuple[Any, Count]]:
    """Each line with its plan on that day and what it has carried in the bill period, but those
    whose plan another has followed within it by now: they were counted then."""
    rows = session.connection().execute(
        select(
            Line.id,
            Line.account_id,
            Line.public_id,
            Line.username,
            Line.alert_percents,
            Line.limited_until_on,
            Line.slow_down_kbps.label("limited_kbps"),
            Account.bill_day,
            Account.language,
            Plan.name,
            Plan.data_included_bytes,
            Plan.over_rule,
            Plan.overage_minor,
            Plan.overage_bytes,
            Plan.slow_down_kbps,
            Plan.slow_up_kbps,
            Subscription.id.label("subscription_id"),
            Subscription.started_on,
            UsageMark.period_on,
            UsageMark.subscription_id.label("marked_id"),
            *(getattr(UsageMark, each.name) for each in fields(Mark)),
        )
        .select_from(Line)
        .join(Account, Account.id == Line.account_id)
        .outerjoin(Subscription, is_in_use(Line.id, Line.account_id, on))
        .outerjoin(Plan, Plan.id == Subscription.plan_id)
        .outerjoin(
            UsageMark,
            and_(
                UsageMark.line_id == Line.id,
                UsageMark.period_on <= on,
                UsageMark.period_on > on - LONGEST_PERIOD,
            ),
        )
        .where(Line.id.in_(line_ids), true() if with_closed else Line.is_closed.is_(False))
        .order_by(
            Line.id,
            Subscription.line_id.is_(None),
            Subscription.id.desc(),
            UsageMark.period_on.desc(),
        )
    )
    first: dict[int, Any] = {}
    for row in rows:
        first.setdefault(row.id, row)
    spans = {row.id: period_of(on, row.bill_day) for row in first.values()}
    marks = {
        row.id: (row.marked_id, Mark(*(getattr(row, each.name) for each in fields(Mark))))
        for row in first.values()
        if row.period_on == spans[row.id].from_on
    }
    if carried is None:
        carried = _carried(session, spans)
    late = {
        row.id: Span(spans[row.id].from_on, row.started_on)
        for row in first.values()
        if row.started_on is not None
        and spans[row.id].from_on < row.started_on
        and _is_without(marks.get(row.id), row.subscription_id)
    }
    before = _carried(session, late)
    found = []
    for row in first.values():
        span, (of_id, mark) = spans[row.id], marks.get(row.id, (0, None))
        if mark is None or of_id != row.subscription_id:
            if row.subscription_id is not None and row.subscription_id < of_id:
                continue
            began_on = late[row.id].until_on if row.id in late else span.from_on
            earlier = before.get(row.id, 0)
            mark = Mark(began_on, carried_bytes=earlier, free_bytes=earlier)
        count = Count(span, row.data_included_bytes, carried.get(row.id, 0), mark)
        found.append((row, count))
    return found


def _is_without(marked: tuple[int, Mark] | None, subscription_id: int) -> bool:
    return marked is None or marked[0] != subscription_id


def _carried(session: Session, spans: Mapping[int, Span]) -> dict[int, int]:
    """Bytes up and down of each line in its span."""
    of_span: dict[Span, list[int]] = {}
    for line_id, span in spans.items():
        of_span.setdefault(span, []).append(line_id)
    if not of_span:
        return {}
    fits = or_(
        *(
            and_(
                UsageDay.line_id.in_(line_ids),
                UsageDay.day_on >= span.from_on,
                UsageDay.day_on < span.until_on,
            )
            for span, line_ids in of_span.items()
        )
    )
    rows = session.connection().execute(
        select(UsageDay.line_id, total(UsageDay.up_bytes + UsageDay.down_bytes).label("carried"))
        .where(fits)
        .group_by(UsageDay.line_id)
    )
    return {row.line_id: row.carried for row in rows}


def list_top_ups(session: Session, line_id: int, from_on: date) -> list[KnownTopUp]:
    """The line's top-ups that had not expired by `from_on`, the first to expire first."""
    rows = session.execute(
        select(
            TopUp.id,
            TopUp.amount_bytes,
            TopUp.bought_at,
            TopUp.expires_on,
            TopUpUse.period_on,
            TopUpUse.used_bytes,
        )
        .outerjoin(TopUpUse, TopUpUse.top_up_id == TopUp.id)
        .where(TopUp.line_id == line_id, TopUp.expires_on >= from_on)
        .order_by(TopUp.expires_on, TopUp.id)
    )
    timezone = current_isp().timezone
    found: dict[int, KnownTopUp] = {}
    uses: dict[int, dict[date, int]] = {}
    for row in rows:
        of_one = uses.setdefault(row.id, {})
        if row.period_on is not None:
            of_one[row.period_on] = row.used_bytes
        bought_on = clock.day_of(row.bought_at, timezone)
        found[row.id] = KnownTopUp(row.id, row.amount_bytes, bought_on, row.expires_on, of_one)
    return list(found.values())
