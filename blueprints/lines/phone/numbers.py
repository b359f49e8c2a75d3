"""Which subscription has which number: giving out, taking back, and following a change of plan."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, exists, func, or_, select, update
from sqlalchemy.orm import Session

from blueprints.lines.phone import choosing
from blueprints.lines.phone.errors import NoPhonePlan, NumberNotFound, NumberTaken, NumberUnfit
from core import activity, clock, ids, phones, revisions
from core.isp import current_isp
from gateways.voice.base import Feature, NumberSettings, features_of
from models import PhoneNumber, Plan, PlanChange, PlanChangeState, PlanKind, Subscription


def read(typed: str) -> str:
    """A number as it was typed, in E.164. Raises NumberUnfit."""
    found = phones.find_phone(typed.strip(), phones.default_country(current_isp().timezone))
    if found is None:
        raise NumberUnfit
    return found


def list_without(session: Session, account_id: int) -> list[Subscription]:
    """The phone subscriptions of the account, in use or to come, that have no number yet."""
    rows = session.scalars(
        select(Subscription)
        .join(Plan, Plan.id == Subscription.plan_id)
        .where(Subscription.account_id == account_id, *without_number())
        .order_by(Subscription.id)
    )
    return list(rows)


def without_number() -> tuple[ColumnElement[bool], ...]:
    """That a subscription, with its plan, is to a phone, not over, and has no number; nor gets it
    that of the one it is to follow."""
    followed = select(PlanChange.from_id).where(
        PlanChange.to_id == Subscription.id, PlanChange.state == PlanChangeState.PLANNED.value
    )
    has_number = (
        select(PhoneNumber.id)
        .where(
            or_(
                PhoneNumber.subscription_id == Subscription.id,
                PhoneNumber.subscription_id.in_(followed),
            ),
            PhoneNumber.ended_on.is_(None),
        )
        .exists()
    )
    return (Plan.kind == PlanKind.PHONE.value, choosing.is_had(), ~has_number)


def give(
    session: Session,
    account_id: int,
    subscription_id: int | None,
    number: str,
    on: str = "",
    since: date | None = None,
) -> PhoneNumber:
    """Give a number (E.164) to a phone subscription of the account, or to the first that has none,
    within the running unit of work over the account.

    The names in `on` are of what the switch does for it already. It is had from the day `since` on,
    or from today, but not before the subscription begins or somebody else had it. Raises
    NoPhonePlan, NumberTaken.
    """
    today = clock.today(current_isp().timezone)
    subscription = next(
        (each for each in list_without(session, account_id) if subscription_id in (None, each.id)),
        None,
    )
    if subscription is None:
        raise NoPhonePlan
    _free(session, number)
    last = session.scalar(
        select(func.max(PhoneNumber.ended_on)).where(
            PhoneNumber.number == number, PhoneNumber.ended_on > PhoneNumber.from_on
        )
    )
    settings = NumberSettings(features_of(on.split())).as_facts()
    given = PhoneNumber(
        public_id=ids.public_id(),
        account_id=account_id,
        subscription_id=subscription.id,
        number=number,
        from_on=max(subscription.started_on, since or today, last or date.min),
        wanted=settings,
        reached=_left_at_switch(session, number) or settings,
        sync_failure="",
    )
    plan = session.get_one(Plan, subscription.plan_id)
    choosing.settle(given, features_of(plan.features))
    session.add(given)
    session.flush()
    activity.record(session, [activity.Event("number_given", clock.now(), account_id)])
    revisions.raise_account(session, account_id)
    return given


def _left_at_switch(session: Session, number: str) -> dict[str, Any] | None:
    """What the switch may still do for whoever had the number before; it is told of the new one
    alone from now on. None: nothing."""
    left = None
    for former in session.scalars(
        select(PhoneNumber)
        .where(
            PhoneNumber.number == number,
            PhoneNumber.ended_on.is_not(None),
            PhoneNumber.sync_at.is_not(None) | PhoneNumber.pending_at.is_not(None),
        )
        .order_by(PhoneNumber.id)
    ).all():
        if former.pending_at is not None:
            left = former.reached
        former.pending_at = former.sync_at = former.claimed_until_at = None
        former.sync_failure = ""
    return left


def _free(session: Session, number: str) -> None:
    """See that nobody has the number: where its subscription is over, so is that it has it."""
    row = session.execute(
        select(PhoneNumber, Subscription.ended_on, choosing.is_had())
        .join(Subscription, Subscription.id == PhoneNumber.subscription_id)
        .where(PhoneNumber.number == number, PhoneNumber.ended_on.is_(None))
    ).one_or_none()
    if row is None:
        return
    held, ended_on, is_had = row
    if is_had:
        raise NumberTaken
    _end(held, ended_on)
    session.flush()


def end_over(session: Session, account_ids: Sequence[int]) -> None:
    """Let the accounts have no number any more whose subscription is over, within the running unit
    of work over them. One that is to follow another subscription still waits for that."""
    is_followed = exists().where(
        PlanChange.from_id == Subscription.id,
        PlanChange.to_id.is_not(None),
        PlanChange.state == PlanChangeState.PLANNED.value,
    )
    rows = session.execute(
        select(PhoneNumber, Subscription.ended_on)
        .join(Subscription, Subscription.id == PhoneNumber.subscription_id)
        .where(
            PhoneNumber.account_id.in_(account_ids),
            PhoneNumber.ended_on.is_(None),
            ~choosing.is_had(),
            ~is_followed,
        )
    ).all()
    for held, ended_on in rows:
        _end(held, ended_on)
    session.flush()


def take_back(session: Session, account_id: int, public_id: str) -> None:
    """Let a number be nobody's from today on, within the running unit of work over the account.
    Raises NumberNotFound."""
    held = session.scalars(
        select(PhoneNumber).where(
            PhoneNumber.account_id == account_id,
            PhoneNumber.public_id == public_id,
            PhoneNumber.ended_on.is_(None),
        )
    ).one_or_none()
    if held is None:
        raise NumberNotFound
    _end(held, clock.today(current_isp().timezone))
    activity.record(session, [activity.Event("number_taken_back", clock.now(), account_id)])
    revisions.raise_account(session, account_id)


def _end(held: PhoneNumber, on: date | None) -> None:
    """Let a number be over on a day. Nothing is to be on at the switch for whoever has it next."""
    held.ended_on = max(held.from_on, on or held.from_on)
    held.wanted = NumberSettings().as_facts()
    choosing.settle(held, frozenset())


def carry_over(session: Session, ended_ids: Collection[int]) -> None:
    """Let the numbers of subscriptions that an import of accounts ended go over to the phone plans
    that it began, or be over with them, within the running unit of work."""
    rows = session.execute(
        select(PhoneNumber.account_id, PhoneNumber.subscription_id).where(
            PhoneNumber.subscription_id.in_(ended_ids), PhoneNumber.ended_on.is_(None)
        )
    ).all()
    for account_id, subscription_id in rows:
        begun = [each.id for each in list_without(session, account_id) if each.id not in ended_ids]
        if begun:
            follow(session, subscription_id, begun[0])
    if rows:
        end_over(session, [account_id for account_id, _ in rows])


def follow(session: Session, from_id: int, to_id: int) -> None:
    """Let the number of a subscription go over to the one that follows it, within the running unit
    of work; what that does not include is switched off."""
    plan = session.scalars(
        select(Plan)
        .join(Subscription, Subscription.plan_id == Plan.id)
        .where(Subscription.id == to_id, Plan.kind == PlanKind.PHONE.value)
    ).one_or_none()
    if plan is None:
        return
    moved = session.scalars(
        update(PhoneNumber)
        .where(PhoneNumber.subscription_id == from_id, PhoneNumber.ended_on.is_(None))
        .values(subscription_id=to_id)
        .returning(PhoneNumber.id)
    ).all()
    included: frozenset[Feature] = features_of(plan.features)
    for number_id in moved:
        choosing.settle(session.get_one(PhoneNumber, number_id, populate_existing=True), included)
