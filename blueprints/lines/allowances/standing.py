"""How much lines have used of what is included in their bill period, read for many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select
from sqlalchemy.orm import Session

from blueprints.billing.periods import Span, period_of
from blueprints.lines.allowances.rules import KnownTopUp, percents_of
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
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A line whose plan includes so much in the bill period `span`, of which so much is used.

    `rule` says what happens beyond it, None: nothing. The line is limited until the day before
    `limited_until_on` already, where that is not None.
    """

    line_id: int
    account_id: int
    public_id: str
    username: str
    language: str
    percents: tuple[int, ...]
    limited_until_on: date | None
    span: Span
    plan_name: str
    included_bytes: int
    used_bytes: int
    rule: OverRule | None
    overage_minor: int
    overage_bytes: int
    slow_down_kbps: int | None
    slow_up_kbps: int | None

    @property
    def over_bytes(self) -> int:
        return max(0, self.used_bytes - self.included_bytes)


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


def list_standings(session: Session, line_ids: Sequence[int], on: date) -> list[Standing]:
    """Of these lines those that run and whose plan on that day has a limit, in two queries. What
    was used before the plan began does not count against it."""
    rows = session.connection().execute(
        select(
            Line.id,
            Line.account_id,
            Line.public_id,
            Line.username,
            Line.alert_percents,
            Line.limited_until_on,
            Account.bill_day,
            Account.language,
            Plan.name,
            Plan.data_included_bytes,
            Plan.over_rule,
            Plan.overage_minor,
            Plan.overage_bytes,
            Plan.slow_down_kbps,
            Plan.slow_up_kbps,
            Subscription.started_on,
        )
        .join(Account, Account.id == Line.account_id)
        .join(Subscription, is_in_use(Line.id, Line.account_id, on))
        .join(Plan, Plan.id == Subscription.plan_id)
        .where(Line.id.in_(line_ids), Line.is_closed.is_(False))
        .order_by(Line.id, Subscription.line_id.is_(None), Subscription.id.desc())
    )
    first: dict[int, Any] = {}
    for row in rows:
        first.setdefault(row.id, row)
    limited = [row for row in first.values() if row.data_included_bytes is not None]
    spans = {row.id: period_of(on, row.bill_day) for row in limited}
    counted = {
        row.id: replace(spans[row.id], from_on=min(max(spans[row.id].from_on, row.started_on), on))
        for row in limited
    }
    used = _used(session, counted)
    return [
        Standing(
            line_id=row.id,
            account_id=row.account_id,
            public_id=row.public_id,
            username=row.username,
            language=row.language,
            percents=percents_of(row.alert_percents),
            limited_until_on=row.limited_until_on,
            span=spans[row.id],
            plan_name=row.name,
            included_bytes=row.data_included_bytes,
            used_bytes=used.get(row.id, 0),
            rule=rule_of(row.over_rule, row.overage_minor),
            overage_minor=row.overage_minor or 0,
            overage_bytes=row.overage_bytes or 0,
            slow_down_kbps=row.slow_down_kbps,
            slow_up_kbps=row.slow_up_kbps,
        )
        for row in limited
    ]


def _used(session: Session, spans: dict[int, Span]) -> dict[int, int]:
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
        select(UsageDay.line_id, total(UsageDay.up_bytes + UsageDay.down_bytes).label("used_bytes"))
        .where(fits)
        .group_by(UsageDay.line_id)
    )
    return {row.line_id: row.used_bytes for row in rows}


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
