"""What the worker does about planned prices: telling those who follow, and the day itself.

Messages go out in batches; how far is written with each batch, so that a worker which is killed
among fifty thousand goes on where it was and nobody is told twice.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from blueprints.billing import prices
from blueprints.billing.prices import Begun, Existing
from blueprints.dashboard.plans import kept_labels
from blueprints.staff.prices import planning
from core import addressees, clock, due_work, outbox
from core.addressees import Addressee
from core.db import unit_of_work
from core.isp import current_isp
from core.money import Money, format_money
from core.topics import Topic
from models import (
    Account,
    AccountStatus,
    Channel,
    Plan,
    PriceChange,
    PriceChangeState,
    Subscription,
)

BATCH = 200


@dataclass(frozen=True, slots=True)
class Follower:
    """A subscription whose price changes on the day `on`; `is_bound`: later than the plan's, since
    its contract keeps the price until then."""

    subscription_id: int
    account_id: int
    on: date
    was_minor: int
    is_bound: bool


def go_on_due() -> int:
    """A duty of the worker; how many planned prices it looked at."""
    return due_work.do(PriceChange, PriceChange.due_at, _go_on)


def _go_on(change_id: int) -> None:
    current_isp()
    end = time.monotonic() + due_work.ROUND_SECONDS
    while unit_of_work(lambda session: _step(session, change_id)) and time.monotonic() < end:
        pass


def _step(session: Session, change_id: int) -> bool:
    """One batch, or the day itself; whether there is more to do at once."""
    change = session.scalars(
        select(PriceChange)
        .where(PriceChange.id == change_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    plan = session.get_one(Plan, change.plan_id, populate_existing=True)
    today = clock.today(current_isp().timezone)
    if _is_untold_raise(change):
        _put_off(change, plan, today)
    if change.state == PriceChangeState.WITHDRAWN:
        has_more = _tell_off(session, change, plan)
    elif change.state == PriceChangeState.PLANNED and change.from_on <= today:
        _begin(session, change, plan)
        has_more = True
    elif change.existing != Existing.KEEP and change.told_at is None and change.tell_on <= today:
        has_more = _tell(session, change, plan)
    else:
        has_more = False
    change.claimed_until_at = None
    change.due_at = clock.now() if has_more else planning.next_due(change)
    return has_more


def _is_untold_raise(change: PriceChange) -> bool:
    """Whether nobody has been told yet of a raise that is planned for those who have the plan."""
    return (
        change.state == PriceChangeState.PLANNED
        and change.existing != Existing.KEEP
        and change.price_minor > change.was_minor
        and change.told_at is None
        and change.told_id == 0
    )


def _put_off(change: PriceChange, plan: Plan, today: date) -> None:
    """Give those who follow the notice that they are owed, also where the worker was down on the
    day for telling: the raise counts later, and what bills have charged of it is given back."""
    on = today + timedelta(days=current_isp().price_notice_days)
    if on <= change.from_on:
        return
    step = planning.step_of(change)
    change.from_on = on
    moved = planning.step_of(change).stored()
    stored = step.stored()
    plan.price_steps = [
        moved if list(each) == stored else list(each) for each in plan.price_steps or []
    ]


def _begin(session: Session, change: PriceChange, plan: Plan) -> None:
    """The day has come: the plan's own price is the new one."""
    plan.price_minor = change.price_minor
    change.state = PriceChangeState.DONE.value
    change.ended_at = clock.now()
    kept_labels.keep(session)


def _tell(session: Session, change: PriceChange, plan: Plan) -> bool:
    rows = _read(session, change, change.told_id)
    followers = _list_followers(rows, change, plan)
    told, reached = _queue(session, change, plan, followers, is_off=False)
    change.told_count += told
    change.unreached_count += len({each.account_id for each in followers} - reached)
    if rows:
        change.told_id = rows[-1][0].id
    if len(rows) < BATCH:
        change.told_at = clock.now()
    return len(rows) == BATCH


def tell_revived(session: Session, ends: Mapping[int, date | None]) -> None:
    """Tell those whose subscription goes on after all of a price that they were not told, since it
    was to end on the day in `ends`; where that is too late for the notice they keep theirs. Within
    a unit of work, after they are revived."""
    rows = session.execute(
        select(PriceChange, Plan, Subscription, Account.bill_day)
        .join(Plan, Plan.id == PriceChange.plan_id)
        .join(Subscription, Subscription.plan_id == Plan.id)
        .join(Account, Account.id == Subscription.account_id)
        .where(
            Subscription.id.in_(ends),
            PriceChange.state != PriceChangeState.WITHDRAWN.value,
            PriceChange.existing != Existing.KEEP.value,
        )
        .order_by(PriceChange.from_on)
        .with_for_update(of=PriceChange)  # a batch of those who are told may be under way
        .execution_options(populate_existing=True)
    ).all()
    isp = current_isp()
    noticed_on = clock.today(isp.timezone) + timedelta(days=isp.price_notice_days)
    for change, plan, subscription, bill_day in rows:
        end = ends[subscription.id]
        is_passed = change.told_at is not None or subscription.id <= change.told_id
        for each in _list_followers([(subscription, bill_day)], change, plan):
            if not is_passed or end is None or each.on < end:
                continue
            if each.on < noticed_on:
                subscription.price_minor = each.was_minor
                subscription.priced_on = change.from_on
            else:
                told, _reached = _queue(session, change, plan, [each], is_off=False)
                change.told_count += told


def _tell_off(session: Session, change: PriceChange, plan: Plan) -> bool:
    rows = [row for row in _read(session, change, change.off_id) if row[0].id <= change.told_id]
    _queue(session, change, plan, _list_followers(rows, change, plan), is_off=True)
    change.off_id = rows[-1][0].id if rows else change.told_id
    return len(rows) == BATCH


def _read(session: Session, change: PriceChange, after_id: int) -> list[tuple[Subscription, int]]:
    rows = session.execute(
        select(Subscription, Account.bill_day)
        .join(Account, Account.id == Subscription.account_id)
        .where(
            Subscription.plan_id == change.plan_id,
            Subscription.id > after_id,
            or_(Subscription.ended_on.is_(None), Subscription.ended_on > change.from_on),
            Account.status == AccountStatus.ACTIVE.value,
        )
        .order_by(Subscription.id)
        .limit(BATCH)
    )
    return [(subscription, bill_day) for subscription, bill_day in rows]


def _list_followers(
    rows: Sequence[tuple[Subscription, int]], change: PriceChange, plan: Plan
) -> list[Follower]:
    """Those whose price this change moves, also where it was withdrawn."""
    step = planning.step_of(change)
    stored = [*prices.read_steps(plan.price_steps)]
    if step not in stored:
        stored = sorted([*stored, step], key=lambda each: each.on)
    steps = [each.stored() for each in stored]
    found = []
    for subscription, bill_day in rows:
        begun = Begun(
            subscription.started_on,
            subscription.price_minor,
            subscription.priced_on,
            subscription.bound_until_on,
            bill_day,
        )
        first_minor, later = prices.standing(plan.price_minor, steps, begun)
        for on, price_minor in later:
            is_this = on >= change.from_on and price_minor == change.price_minor
            if is_this and (subscription.ended_on is None or subscription.ended_on > on):
                earlier = [each for each in later if each[0] < on]
                was_minor = prices.at(first_minor, earlier, on)
                is_bound = subscription.bound_until_on == on > change.from_on
                found.append(
                    Follower(subscription.id, subscription.account_id, on, was_minor, is_bound)
                )
                break
    return found


def _queue(
    session: Session,
    change: PriceChange,
    plan: Plan,
    followers: Sequence[Follower],
    *,
    is_off: bool,
) -> tuple[int, set[int]]:
    """Put a message for each into the outbox; how many were told, and the accounts reached."""
    account_ids = sorted({each.account_id for each in followers})
    ways: dict[int, list[Addressee]] = {}
    for way in addressees.find(session, account_ids, Topic.SERVICE):
        ways.setdefault(way.account_id, []).append(way)
    # A price is told in any case, whatever was chosen for other news.
    silent = [account_id for account_id in account_ids if account_id not in ways]
    for way in addressees.find(session, silent, Topic.SERVICE, [Channel.EMAIL], is_owed=True):
        ways.setdefault(way.account_id, []).append(way)
    currency = current_isp().currency
    outbox.queue(
        session,
        [
            outbox.Letter(
                "price_change",
                way.recipient,
                way.language,
                account_id=way.account_id,
                customer_id=way.customer_id,
                channel=way.channel.value,
                facts={
                    "account": way.account_public_id,
                    "account_number": way.account_number,
                    "plan": plan.name,
                    "from_on": each.on.isoformat(),
                    "was": format_money(Money(each.was_minor, currency), way.language),
                    "price": format_money(Money(change.price_minor, currency), way.language),
                    "is_bound": each.is_bound,
                    "is_off": is_off,
                },
            )
            for each in followers
            for way in ways.get(each.account_id, [])
        ],
    )
    return sum(each.account_id in ways for each in followers), set(ways)
