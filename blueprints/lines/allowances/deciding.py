"""What is done about how much a line has used: whom it is told, what it costs, what is limited.

Everything is done once, as the keys of its rows say: a threshold for each line and period, a block
for each line, period and number. A report that comes late or twice does nothing again, and what a
top-up or a block covers stays covered, whatever plan is in use by then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from typing import Any

from flask_babel import force_locale
from flask_babel import gettext as _
from sqlalchemy import delete, insert, or_, select, update
from sqlalchemy.orm import Session

from blueprints.billing import adjusting
from blueprints.lines import holding
from blueprints.lines.allowances.rules import KnownTopUp, Mark, blocks_of, crossed, spend
from blueprints.lines.allowances.standing import (
    Counted,
    Standing,
    list_counted,
    list_standings,
    list_top_ups,
)
from core import activity, addressees, clock, outbox, revisions
from core.db import total
from core.isp import current_isp
from core.topics import Topic
from core.units import format_data
from models import (
    Charge,
    HoldReason,
    Line,
    OverRule,
    PlanKind,
    TopUpUse,
    UsageAlert,
    UsageBlock,
    UsageMark,
)

KIND = "usage_alert"
LATE_DAYS = 1
"""So long after a plan or a period has ended reports of it still come (bar 62)."""
LIMITING = (OverRule.SLOW, OverRule.STOP)


def decide(session: Session, line_id: int, today: date, *, is_told: bool = True) -> None:
    """Do what follows from what a line has used, within the running unit of work over its
    account."""
    standing = next(iter(list_standings(session, [line_id], today)), None)
    for before, last_on in _list_ended(session, line_id, standing, today):
        _tell(session, before, _settle(session, before, last_on).news, is_told=is_told)
    if standing is None:
        lift(session, line_id)
        return
    settled = _settle(session, standing, today)
    news = settled.news
    if standing.rule in LIMITING and settled.open_bytes:
        news = _limit(session, standing)
    else:
        lift(session, line_id)
    _tell(session, standing, _note_crossed(session, standing) | news, is_told=is_told)


def _list_ended(
    session: Session, line_id: int, standing: Standing | None, today: date
) -> list[tuple[Standing, date]]:
    """What was in use until a day or two ago, in another period or with another plan, with its
    last day: reports of it may still come, whatever is in use since, and if nothing is."""
    if standing is not None and (today - standing.count.mark.began_on).days > LATE_DAYS:
        return []
    known = {(each.subscription_id, each.span) for each in (standing,) if each is not None}
    ended = []
    for days in range(1, LATE_DAYS + 2):
        on = today - timedelta(days=days)
        for each in list_standings(session, [line_id], on, with_closed=True):
            if (each.subscription_id, each.span) not in known:
                known.add((each.subscription_id, each.span))
                ended.append((each, on))
    return ended


# When plans change -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Left:
    """What a line had carried with the plan that ends."""

    counted: Counted
    covered_bytes: int


def leave(session: Session, account_id: int, on: date) -> list[Left]:
    """Settle what the account's lines have used with the plans that are in use on the day `on`,
    before another begins, within the running unit of work; to be given to `begin`."""
    left = list_counted(session, account_id, on)
    line_ids = [each.line_id for each in left]
    for standing in list_standings(session, line_ids, on):
        _tell(session, standing, _settle(session, standing, on).news, is_told=True)
    return [Left(each, _find_covered_bytes(session, each)) for each in left]


def begin(session: Session, account_id: int, left: Sequence[Left], today: date) -> None:
    """Count from here for the plans that have begun since `leave`, and do what follows."""
    session.flush()
    was = {each.counted.line_id: each for each in left}
    for now in list_counted(session, account_id, today):
        before = was.get(now.line_id)
        if (
            before is not None
            and now.subscription_id is not None
            and now.subscription_id != before.counted.subscription_id
        ):
            if now.count.span == before.counted.count.span:
                count = before.counted.count.follow(
                    now.count.plan_bytes, now.count.mark.began_on, before.covered_bytes
                )
                _write_mark(session, now, count.mark)
            decide(session, now.line_id, today)


def speed_up(session: Session, line_id: int, today: date) -> None:
    """Let what a line that is slowed down used beyond what is included be, before more data is
    bought for it: that is for what comes."""
    for standing in list_standings(session, [line_id], today):
        if standing.rule is not OverRule.SLOW:
            continue
        open_bytes = _settle(session, standing, today).open_bytes
        if open_bytes:
            mark = replace(
                standing.count.mark_on(today),
                over_bytes=standing.over_bytes - open_bytes,
                spared_bytes=standing.count.mark.spared_bytes,
            )
            counted = Counted(line_id, standing.subscription_id, standing.count)
            _write_mark(session, counted, mark)


def _write_mark(session: Session, counted: Counted, mark: Mark) -> None:
    """Let the line be counted anew from `mark`; what is not reached any more may be told again."""
    of_period = {"line_id": counted.line_id, "period_on": counted.count.span.from_on}
    session.execute(
        delete(UsageMark).where(
            *(getattr(UsageMark, name) == value for name, value in of_period.items())
        )
    )
    session.execute(
        insert(UsageMark),
        [of_period | {"subscription_id": counted.subscription_id} | asdict(mark)],
    )
    standings = list_standings(session, [counted.line_id], mark.began_on)
    reached = {percent for each in standings for percent in crossed_of(each)}
    session.execute(
        delete(UsageAlert).where(
            *(getattr(UsageAlert, name) == value for name, value in of_period.items()),
            UsageAlert.percent.not_in(reached),
        )
    )


# What is used beyond ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Settled:
    """How much neither top-ups nor blocks cover, and the facts of what was charged."""

    open_bytes: int
    news: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Blocks:
    """The blocks of a period so far: how many, their bytes, and what was charged for them."""

    count: int
    data_bytes: int
    charged_minor: int


def _settle(session: Session, standing: Standing, last_on: date) -> _Settled:
    """Take what nothing covers yet from the top-ups, and charge the rest where the plan's rule says
    so."""
    period_on = standing.span.from_on
    blocks = _find_blocks(session, standing.line_id, period_on)
    top_ups = list_top_ups(session, standing.line_id, period_on)
    open_bytes = open_of(standing, blocks.data_bytes, top_ups)
    uses, rest = spend(top_ups, open_bytes, last_on)
    if uses:
        _add_uses(session, top_ups, uses, period_on)
    if standing.rule is OverRule.CHARGE and rest:
        return _Settled(rest, _charge(session, standing, rest, blocks))
    return _Settled(rest, {})


def open_of(standing: Standing, blocks_bytes: int, top_ups: Sequence[KnownTopUp]) -> int:
    """How much of what is beyond is covered neither by blocks nor by what was used of top-ups."""
    covered = blocks_bytes + sum(each.uses.get(standing.span.from_on, 0) for each in top_ups)
    if standing.rule is OverRule.CHARGE:
        covered += standing.count.mark.spared_bytes
    return max(0, standing.over_bytes - covered)


def find_blocks_bytes(session: Session, line_id: int, period_on: date) -> int:
    """How much the blocks of a period cover."""
    return _find_blocks(session, line_id, period_on).data_bytes


def _find_blocks(session: Session, line_id: int, period_on: date) -> _Blocks:
    row = session.execute(
        select(
            total(UsageBlock.count),
            total(UsageBlock.data_bytes),
            total(Charge.amount_minor),
        )
        .outerjoin(Charge, Charge.id == UsageBlock.charge_id)
        .where(UsageBlock.line_id == line_id, UsageBlock.period_on == period_on)
    ).one()
    return _Blocks(*row)


def _find_covered_bytes(session: Session, counted: Counted) -> int:
    period_on = counted.count.span.from_on
    top_ups = list_top_ups(session, counted.line_id, period_on)
    used = sum(each.uses.get(period_on, 0) for each in top_ups)
    return used + find_blocks_bytes(session, counted.line_id, period_on)


def _add_uses(
    session: Session, top_ups: Sequence[KnownTopUp], more: Mapping[int, int], period_on: date
) -> None:
    session.execute(
        delete(TopUpUse).where(TopUpUse.top_up_id.in_(more), TopUpUse.period_on == period_on)
    )
    session.execute(
        insert(TopUpUse),
        [
            {
                "top_up_id": each.top_up_id,
                "period_on": period_on,
                "used_bytes": each.uses.get(period_on, 0) + more[each.top_up_id],
            }
            for each in top_ups
            if each.top_up_id in more
        ],
    )


def _charge(
    session: Session, standing: Standing, rest_bytes: int, blocks: _Blocks
) -> dict[str, Any]:
    """Charge the blocks that are begun, as one charge, but no more for a line and period than the
    ISP's rules say: what is beyond is noted for staff."""
    if not standing.overage_minor or not standing.overage_bytes:
        return {}
    most_minor = current_isp().billing_rules.overage_most_minor - blocks.charged_minor
    begun = blocks_of(rest_bytes, standing.overage_bytes)
    count = min(begun, max(0, most_minor) // standing.overage_minor)
    if begun > count:
        _note_uncharged(session, standing, blocks.count + count, begun - count)
    if not count:
        return {}
    amount_minor, data_bytes = count * standing.overage_minor, count * standing.overage_bytes
    charge_id = add_charge(
        session,
        standing.account_id,
        amount_minor,
        _description(standing, data_bytes),
        f"{standing.username} {standing.span.from_on}: {blocks.count + 1}-{blocks.count + count}",
    )
    _add_blocks(session, standing, blocks.count, count, charge_id)
    return {
        "what": "charged",
        "amount_minor": amount_minor,
        "currency": current_isp().currency,
        "data_bytes": data_bytes,
    }


def _note_uncharged(session: Session, standing: Standing, after: int, count: int) -> None:
    """Note blocks that are not charged, with those that were not before."""
    noted = session.scalars(
        update(UsageBlock)
        .where(
            UsageBlock.line_id == standing.line_id,
            UsageBlock.period_on == standing.span.from_on,
            UsageBlock.charge_id.is_(None),
        )
        .values(
            count=UsageBlock.count + count,
            data_bytes=UsageBlock.data_bytes + count * standing.overage_bytes,
        )
        .returning(UsageBlock.number)
    ).all()
    if not noted:
        _add_blocks(session, standing, after, count, None)


def _add_blocks(
    session: Session, standing: Standing, after: int, count: int, charge_id: int | None
) -> None:
    session.execute(
        insert(UsageBlock),
        [
            {
                "line_id": standing.line_id,
                "period_on": standing.span.from_on,
                "number": after + 1,
                "count": count,
                "data_bytes": count * standing.overage_bytes,
                "charge_id": charge_id,
            }
        ],
    )


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
    is_slow = standing.rule is OverRule.SLOW
    wanted_kbps = standing.slow_down_kbps if is_slow else None
    if (standing.limited_until_on, standing.limited_kbps) == (standing.span.until_on, wanted_kbps):
        return {}
    lift(session, standing.line_id)
    values: dict[str, Any] = {"limited_until_on": standing.span.until_on}
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
        facts = {"percent": standing.percent, **news}
        outbox.queue(session, _letters(session, standing, facts))


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
