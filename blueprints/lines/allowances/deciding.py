"""What is done about how much a line has used: whom it is told, what it costs, what is limited.

Everything is done once, as the keys of its rows say: a threshold for each line and period, a block
for each line, period and number. A report that comes late or twice does nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any

from flask_babel import force_locale
from flask_babel import gettext as _
from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.orm import Session

from blueprints.billing import adjusting
from blueprints.lines import holding
from blueprints.lines.allowances.rules import blocks_of, crossed, spend
from blueprints.lines.allowances.standing import Standing, list_standings, list_top_ups
from core import activity, addressees, clock, outbox, revisions
from core.isp import current_isp
from core.topics import Topic
from core.units import format_data
from models import Charge, HoldReason, Line, OverRule, PlanKind, TopUpUse, UsageAlert, UsageBlock

KIND = "usage_alert"
LATE_DAYS = 1
"""So long after a period's end reports of it still come (bar 62)."""


def decide(session: Session, line_id: int, today: date, *, is_told: bool = True) -> None:
    """Do what follows from what a line has used, within the running unit of work over its
    account."""
    standings = list_standings(session, [line_id], today)
    if not standings:
        lift(session, line_id)
        return
    [standing] = standings
    if (today - standing.span.from_on).days <= LATE_DAYS:
        before_on = standing.span.from_on - timedelta(days=1)
        for before in list_standings(session, [line_id], before_on):
            _rest, news = _settle(session, before, before_on)
            _tell(session, before, news, is_told=is_told)
    rest_bytes, news = _settle(session, standing, today)
    if standing.rule not in (OverRule.SLOW, OverRule.STOP) or not rest_bytes:
        lift(session, line_id)
    else:
        news = _limit(session, standing)
    _tell(session, standing, _note_crossed(session, standing) | news, is_told=is_told)


# What is used beyond ---------------------------------------------------------------------------


def _settle(session: Session, standing: Standing, last_on: date) -> tuple[int, dict[str, Any]]:
    """Take what is beyond from the top-ups, and charge the rest where the plan's rule says so; how
    much no top-up covers, and the facts of what was charged."""
    period_on = standing.span.from_on
    top_ups = list_top_ups(session, standing.line_id, period_on)
    uses, rest = spend(top_ups, standing.over_bytes, period_on, last_on)
    if uses != {
        each.top_up_id: each.uses[period_on] for each in top_ups if each.uses.get(period_on)
    }:
        _write_uses(session, [each.top_up_id for each in top_ups], uses, period_on)
    if standing.rule is OverRule.CHARGE and rest:
        return rest, _charge(session, standing, rest)
    return rest, {}


def _write_uses(
    session: Session, top_up_ids: Sequence[int], uses: Mapping[int, int], period_on: date
) -> None:
    session.execute(
        delete(TopUpUse).where(TopUpUse.top_up_id.in_(top_up_ids), TopUpUse.period_on == period_on)
    )
    if uses:
        session.execute(
            insert(TopUpUse),
            [
                {"top_up_id": top_up_id, "period_on": period_on, "used_bytes": used}
                for top_up_id, used in uses.items()
            ],
        )


def _charge(session: Session, standing: Standing, rest_bytes: int) -> dict[str, Any]:
    """Charge the blocks that are begun and were not charged yet, as one charge."""
    if not standing.overage_minor:
        return {}
    period_on = standing.span.from_on
    charged = (
        session.scalar(
            select(func.max(UsageBlock.number)).where(
                UsageBlock.line_id == standing.line_id, UsageBlock.period_on == period_on
            )
        )
        or 0
    )
    most = adjusting.MAXIMUM_MINOR // standing.overage_minor
    count = min(blocks_of(rest_bytes, standing.overage_bytes) - charged, most)
    if count <= 0:
        return {}
    amount_minor, data_bytes = count * standing.overage_minor, count * standing.overage_bytes
    charge_id = add_charge(
        session,
        standing.account_id,
        amount_minor,
        _description(standing, data_bytes),
        f"{standing.username} {period_on}: {charged + 1}-{charged + count}",
    )
    session.execute(
        insert(UsageBlock),
        [
            {
                "line_id": standing.line_id,
                "period_on": period_on,
                "number": charged + number,
                "charge_id": charge_id,
            }
            for number in range(1, count + 1)
        ],
    )
    return {
        "what": "charged",
        "amount_minor": amount_minor,
        "currency": current_isp().currency,
        "data_bytes": data_bytes,
    }


def add_charge(
    session: Session, account_id: int, amount_minor: int, description: str, reason: str
) -> int:
    """Let a charge for data join the next bill; its id."""
    new = adjusting.NewCharge(
        account_id, amount_minor, description[:200], reason, PlanKind.INTERNET.value, None
    )
    public_id = adjusting.add_charge(session, new)
    return session.scalars(select(Charge.id).where(Charge.public_id == public_id)).one()


def _description(standing: Standing, data_bytes: int) -> str:
    with force_locale(standing.language.replace("-", "_")):
        return _(
            "%(data)s beyond what %(plan)s includes",
            data=format_data(data_bytes, standing.language),
            plan=standing.plan_name,
        )


def _limit(session: Session, standing: Standing) -> dict[str, Any]:
    """Slow the line down or hold it until the period ends; what the network is to do is written
    with it."""
    if standing.limited_until_on == standing.span.until_on:
        return {}
    values: dict[str, Any] = {"limited_until_on": standing.span.until_on}
    is_slow = standing.rule is OverRule.SLOW
    if is_slow:
        values |= {
            "slow_down_kbps": standing.slow_down_kbps,
            "slow_up_kbps": standing.slow_up_kbps,
            "sync_at": clock.now(),
            "sync_count": 0,
        }
    session.execute(update(Line).where(Line.id == standing.line_id).values(**values))
    if is_slow:
        _record(session, "line_slowed", standing.account_id)
        return {"what": "slowed", "slow_down_kbps": standing.slow_down_kbps}
    holding.hold(session, [standing.line_id], HoldReason.USAGE)
    return {"what": "stopped"}


def lift(session: Session, line_id: int) -> None:
    """Let the line be as fast as its plan again, where it was limited."""
    row = session.execute(
        select(Line.account_id, Line.slow_down_kbps).where(
            Line.id == line_id,
            or_(Line.limited_until_on.is_not(None), Line.slow_down_kbps.is_not(None)),
        )
    ).one_or_none()
    if row is None:
        return
    values: dict[str, Any] = {"limited_until_on": None}
    if row.slow_down_kbps is not None:
        values |= {
            "slow_down_kbps": None,
            "slow_up_kbps": None,
            "sync_at": clock.now(),
            "sync_count": 0,
        }
        _record(session, "line_unslowed", row.account_id)
    session.execute(update(Line).where(Line.id == line_id).values(**values))
    holding.release(session, [line_id], HoldReason.USAGE)


def _record(session: Session, kind: str, account_id: int) -> None:
    activity.record(session, [activity.Event(kind, clock.now(), account_id)])
    revisions.raise_account(session, account_id)


# What is told ----------------------------------------------------------------------------------


def crossed_of(standing: Standing) -> set[int]:
    """The thresholds that a line has reached."""
    return set(crossed(standing.percents, standing.used_bytes, standing.included_bytes))


def told_of(session: Session, standings: Sequence[Standing]) -> dict[int, set[int]]:
    """The thresholds of which each line's customer was told in its period."""
    if not standings:
        return {}
    periods = {each.line_id: each.span.from_on for each in standings}
    rows = session.connection().execute(
        select(UsageAlert.line_id, UsageAlert.period_on, UsageAlert.percent).where(
            UsageAlert.line_id.in_(periods), UsageAlert.period_on >= min(periods.values())
        )
    )
    found: dict[int, set[int]] = {}
    for line_id, period_on, percent in rows:
        if period_on == periods[line_id]:
            found.setdefault(line_id, set()).add(percent)
    return found


def _note_crossed(session: Session, standing: Standing) -> dict[str, Any]:
    """Note every threshold that is reached now; of the highest its facts."""
    told = told_of(session, [standing]).get(standing.line_id, set())
    new = sorted(crossed_of(standing) - told)
    if new:
        session.connection().execute(
            insert(UsageAlert),
            [
                {
                    "line_id": standing.line_id,
                    "period_on": standing.span.from_on,
                    "percent": percent,
                    "told_at": clock.now(),
                }
                for percent in new
            ],
        )
        return {"what": "alert", "percent": new[-1]}
    return {}


def _tell(session: Session, standing: Standing, news: Mapping[str, Any], *, is_told: bool) -> None:
    """Tell of the gravest thing that is new, if anything is."""
    if is_told and "what" in news:
        percent = standing.used_bytes * 100 // standing.included_bytes
        outbox.queue(session, _letters(session, standing, {"percent": percent} | dict(news)))


def _letters(session: Session, standing: Standing, news: Mapping[str, Any]) -> list[outbox.Letter]:
    return [
        outbox.Letter(
            KIND,
            each.recipient,
            each.language,
            account_id=each.account_id,
            customer_id=each.customer_id,
            channel=each.channel.value,
            facts={
                **news,
                "used_bytes": standing.used_bytes,
                "included_bytes": standing.included_bytes,
                "plan": standing.plan_name,
                "line": standing.username,
                "line_id": standing.public_id,
                "last_on": standing.span.last_on.isoformat(),
                "account": each.account_public_id,
                "account_number": each.account_number,
            },
        )
        for each in addressees.find(session, [standing.account_id], Topic.USAGE)
    ]
