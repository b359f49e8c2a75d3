"""Which subscription has which number: giving out, taking back, and following a change of plan."""

from __future__ import annotations

from datetime import date

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from blueprints.lines.phone import choosing
from blueprints.lines.phone.errors import NoPhonePlan, NumberNotFound, NumberTaken, NumberUnfit
from core import activity, clock, ids, phones, revisions
from core.isp import current_isp
from gateways.voice.base import Feature, NumberSettings, features_of
from models import PhoneNumber, Plan, PlanKind, Subscription


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
    """That a subscription, with its plan, is to a phone, not over, and has no number."""
    today = clock.today(current_isp().timezone)
    has_number = (
        select(PhoneNumber.id)
        .where(PhoneNumber.subscription_id == Subscription.id, PhoneNumber.ended_on.is_(None))
        .exists()
    )
    return (
        Plan.kind == PlanKind.PHONE.value,
        or_(Subscription.ended_on.is_(None), Subscription.ended_on > today),
        ~has_number,
    )


def give(
    session: Session, account_id: int, subscription_id: int | None, number: str, on: str = ""
) -> PhoneNumber:
    """Give a number (E.164) to a phone subscription of the account, or to the first that has none,
    within the running unit of work over the account. The names in `on` are of what the switch does
    for it already. Raises NoPhonePlan, NumberTaken."""
    today = clock.today(current_isp().timezone)
    subscription = next(
        (each for each in list_without(session, account_id) if subscription_id in (None, each.id)),
        None,
    )
    if subscription is None:
        raise NoPhonePlan
    _free(session, number, today)
    last = session.scalar(
        select(func.max(PhoneNumber.ended_on)).where(PhoneNumber.number == number)
    )
    settings = NumberSettings(features_of(on.split())).as_facts()
    given = PhoneNumber(
        public_id=ids.public_id(),
        account_id=account_id,
        subscription_id=subscription.id,
        number=number,
        from_on=max(subscription.started_on, last or subscription.started_on),
        wanted=settings,
        reached=settings,
        sync_at=clock.now(),
        sync_count=0,
        sync_failure="",
    )
    session.add(given)
    session.flush()
    activity.record(session, [activity.Event("number_given", clock.now(), account_id)])
    revisions.raise_account(session, account_id)
    return given


def _free(session: Session, number: str, today: date) -> None:
    """See that nobody has the number: where its subscription is over, so is that it has it."""
    row = session.execute(
        select(PhoneNumber, Subscription.ended_on)
        .join(Subscription, Subscription.id == PhoneNumber.subscription_id)
        .where(PhoneNumber.number == number, PhoneNumber.ended_on.is_(None))
    ).one_or_none()
    if row is None:
        return
    held, ended_on = row
    if ended_on is None or ended_on > today:
        raise NumberTaken
    _end(held, max(held.from_on, ended_on))
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
    _end(held, max(held.from_on, clock.today(current_isp().timezone)))
    activity.record(session, [activity.Event("number_taken_back", clock.now(), account_id)])
    revisions.raise_account(session, account_id)


def _end(held: PhoneNumber, on: date) -> None:
    held.ended_on = on
    held.pending_at = held.sync_at = held.claimed_until_at = None
    held.sync_failure = ""


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
