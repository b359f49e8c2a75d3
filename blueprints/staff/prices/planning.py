"""Planning another price for a plan, and withdrawing it before its day.

What it means for a subscription is computed wherever it is billed or shown
(`blueprints/billing/prices.py`), so that nothing is written to subscriptions, neither now nor on
the day, and no page that a device keeps changes but with the day. Bills that were made stay as they
are; what one has charged too much for days to come, since the price was withdrawn, the next gives
back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, and_, func, or_, select, update
from sqlalchemy.orm import Session, aliased

from blueprints.billing import prices
from blueprints.billing.prices import Existing, PriceStep
from blueprints.dashboard.plans import kept_labels
from blueprints.staff.prices.errors import (
    DayTooNear,
    NotInFile,
    PlannedAlready,
    PriceNotFound,
    PriceTheSame,
    TooLate,
)
from core import clock, form_keys, ids
from core.db import db
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.money import Money
from models import (
    Customer,
    Isp,
    Plan,
    PlanKind,
    PriceChange,
    PriceChangeState,
    Subscription,
)

LONGEST_AHEAD = timedelta(days=730)
LONGEST_PERIOD = timedelta(days=31)
"""Whoever follows is told before the first bill that may have the new price in it is made."""
HISTORY_SHOWN = 60


@dataclass(frozen=True, slots=True)
class NewPrice:
    """What staff ask for."""

    code: str
    price_minor: int
    from_on: date
    existing: Existing
    by_id: int


@dataclass(frozen=True, slots=True)
class ChangeView:
    """A change of a price, and what became of it."""

    public_id: str
    plan_code: str
    plan_name: str
    from_on: date
    was: Money
    price: Money
    existing: str
    state: str
    planned_by: str
    withdrawn_by: str
    created_at: datetime
    ended_at: datetime | None
    tell_on: date
    told_at: datetime | None
    told_count: int
    unreached_count: int
    can_withdraw: bool
    is_untold: bool


@dataclass(frozen=True, slots=True)
class PricedPlan:
    """A plan with what it costs whoever begins today, how many have it, and what is planned."""

    code: str
    name: str
    kind: str
    is_offered: bool
    is_withdrawn: bool
    price: Money
    subscription_count: int
    planned: ChangeView | None


def first_day(existing: Existing) -> date:
    """The first day from which a price can be planned: those who follow are told before."""
    isp = current_isp()
    days = 1 if existing is Existing.KEEP else max(1, isp.price_notice_days)
    return clock.today(isp.timezone) + timedelta(days=days)


def last_day() -> date:
    return clock.today(current_isp().timezone) + LONGEST_AHEAD


def plan(new: NewPrice, key: ArrivedKey, path: str) -> str:
    """Plan the price; `path`. Raises PriceNotFound, DayTooNear, PriceTheSame, PlannedAlready."""
    first_on, last_on = first_day(new.existing), last_day()
    notice = timedelta(days=current_isp().price_notice_days)

    def work(session: Session) -> str:
        found = _lock(session, new.code)
        if not first_on <= new.from_on <= last_on:
            raise DayTooNear(first_on, last_on)
        if _find_planned(session, found.id) is not None:
            raise PlannedAlready
        was_minor = prices.list_price(found.price_minor, found.price_steps, new.from_on)
        if was_minor == new.price_minor:
            raise PriceTheSame
        today = clock.today(current_isp().timezone)
        change = PriceChange(
            public_id=ids.public_id(),
            plan_id=found.id,
            from_on=new.from_on,
            was_minor=was_minor,
            price_minor=new.price_minor,
            existing=new.existing.value,
            state=PriceChangeState.PLANNED.value,
            planned_by_id=new.by_id,
            created_at=clock.now(),
            tell_on=max(today, new.from_on - max(notice, LONGEST_PERIOD)),
        )
        change.due_at = next_due(change)
        session.add(change)
        step = PriceStep(new.from_on, was_minor, new.price_minor, new.existing)
        found.price_steps = [*(found.price_steps or []), step.stored()]
        return path

    return form_keys.once(key, work)


def withdraw(public_id: str, by_id: int, key: ArrivedKey, path: str) -> str:
    """Let the price stay as it is; `path`. Who was told is told that. Raises PriceNotFound,
    TooLate."""
    current_isp()

    def work(session: Session) -> str:
        code = session.scalar(
            select(Plan.code)
            .join(PriceChange, PriceChange.plan_id == Plan.id)
            .where(PriceChange.public_id == public_id)
        )
        found = _lock(session, code or "")
        change = session.scalars(
            select(PriceChange).where(PriceChange.public_id == public_id).with_for_update()
        ).one()
        if not can_withdraw(change):
            raise TooLate
        change.state = PriceChangeState.WITHDRAWN.value
        change.withdrawn_by_id = by_id
        change.ended_at = clock.now()
        if change.told_at is not None:
            # Whoever began since saw the price when they agreed to the plan.
            change.told_id = session.scalar(select(func.max(Subscription.id))) or 0
        change.due_at = clock.now() if change.told_id else None
        step = step_of(change).stored()
        rest = [each for each in found.price_steps or [] if list(each) != step]
        found.price_steps = rest or None
        return path

    return form_keys.once(key, work)


def offer(code: str, key: ArrivedKey, path: str, *, is_offered: bool) -> str:
    """Let the plan be chosen no longer, or again; `path`. Who has it keeps it. Raises
    PriceNotFound, and NotInFile for one that the catalog file leaves out."""

    def work(session: Session) -> str:
        found = _lock(session, code)
        if is_offered is not (found.withdrawn_at is None):
            found.withdrawn_at = None if is_offered else clock.now()
            found.is_offered = is_offered
            kept_labels.keep(session)
            session.execute(update(Isp).values(revision=Isp.revision + 1))
        elif is_offered and not found.is_offered:
            raise NotInFile
        return path

    return form_keys.once(key, work)


def can_withdraw(change: PriceChange) -> bool:
    """Until the day before."""
    today = clock.today(current_isp().timezone)
    return change.state == PriceChangeState.PLANNED and today < change.from_on


def step_of(change: PriceChange) -> PriceStep:
    """The change as its plan carries it."""
    return PriceStep(
        change.from_on, change.was_minor, change.price_minor, Existing(change.existing)
    )


def next_due(change: PriceChange) -> datetime | None:
    """When the worker has something to do about it next."""
    has_to_tell = change.existing != Existing.KEEP and change.told_at is None
    days = []
    if change.state != PriceChangeState.WITHDRAWN and has_to_tell:
        days.append(change.tell_on)
    if change.state == PriceChangeState.PLANNED:
        days.append(change.from_on)
    if not days:
        return None
    starts = datetime.combine(min(days), time(), ZoneInfo(current_isp().timezone))
    return starts.astimezone(clock.now().tzinfo)


def _lock(session: Session, code: str) -> Plan:
    found = session.scalars(select(Plan).where(Plan.code == code).with_for_update()).one_or_none()
    if found is None:
        raise PriceNotFound
    return found


def _find_planned(session: Session, plan_id: int) -> int | None:
    return session.scalar(
        select(PriceChange.id).where(
            PriceChange.plan_id == plan_id, PriceChange.state == PriceChangeState.PLANNED.value
        )
    )


# Reading -----------------------------------------------------------------------------------------

_planner, _withdrawer = aliased(Customer), aliased(Customer)
_CHANGES = (
    select(
        PriceChange,
        Plan.code,
        Plan.name,
        _planner.name.label("planner"),
        _withdrawer.name.label("withdrawer"),
    )
    .join(Plan, Plan.id == PriceChange.plan_id)
    .outerjoin(_planner, _planner.id == PriceChange.planned_by_id)
    .outerjoin(_withdrawer, _withdrawer.id == PriceChange.withdrawn_by_id)
    .order_by(PriceChange.id.desc())
)


def list_plans() -> list[PricedPlan]:
    """The plans that are offered or still had, by kind and price."""
    today = clock.today(current_isp().timezone)
    counts = (
        select(Subscription.plan_id, func.count().label("count"))
        .where(or_(Subscription.ended_on.is_(None), Subscription.ended_on > today))
        .group_by(Subscription.plan_id)
        .subquery()
    )
    planned = {
        change.plan_code: change
        for change in _list_changes(PriceChange.state == PriceChangeState.PLANNED.value)
    }
    rows = db.session.execute(
        select(Plan, func.coalesce(counts.c.count, 0)).outerjoin(
            counts, counts.c.plan_id == Plan.id
        )
    )
    kinds = list(PlanKind)
    found = [
        PricedPlan(
            each.code,
            each.name,
            each.kind,
            each.is_offered,
            each.withdrawn_at is not None,
            Money(
                prices.list_price(each.price_minor, each.price_steps, today),
                current_isp().currency,
            ),
            count,
            planned.get(each.code),
        )
        for each, count in rows
        if each.is_offered or count or each.withdrawn_at is not None
    ]
    return sorted(
        found,
        key=lambda each: (kinds.index(PlanKind(each.kind)), each.price.amount_minor, each.code),
    )


def get_plan(code: str) -> PricedPlan:
    """Raises PriceNotFound."""
    for each in list_plans():
        if each.code == code:
            return each
    raise PriceNotFound


def list_history(code: str) -> list[ChangeView]:
    """The plan's changes, the newest first."""
    return _list_changes(Plan.code == code)


def get_change(code: str, public_id: str) -> ChangeView:
    """A change of this plan's price. Raises PriceNotFound."""
    found = _list_changes(and_(Plan.code == code, PriceChange.public_id == public_id))
    if not found:
        raise PriceNotFound
    return found[0]


def _list_changes(which: ColumnElement[bool]) -> list[ChangeView]:
    isp = current_isp()
    currency, today = isp.currency, clock.today(isp.timezone)
    return [
        ChangeView(
            change.public_id,
            code,
            name,
            change.from_on,
            Money(change.was_minor, currency),
            Money(change.price_minor, currency),
            change.existing,
            change.state,
            planner or "",
            withdrawer or "",
            change.created_at,
            change.ended_at,
            change.tell_on,
            change.told_at,
            change.told_count,
            change.unreached_count,
            can_withdraw(change),
            change.state != PriceChangeState.WITHDRAWN
            and change.existing != Existing.KEEP
            and change.told_at is None
            and change.tell_on < today,
        )
        for change, code, name, planner, withdrawer in db.session.execute(
            _CHANGES.where(which).limit(HISTORY_SHOWN)
        )
    ]
