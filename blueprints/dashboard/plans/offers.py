"""What an account subscribes to, and what the catalog lets it change to.

A plan names those it changes to (`changes_to`), the areas where it is had, and whether staff decide
(`needs_staff`). Another technology means a visit, and equipment is handed over, so staff decide
about these too.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from sqlalchemy import and_, exists, func, or_, select
from sqlalchemy.orm import Session

from blueprints.billing import drafting, prices
from blueprints.billing.drafting import BilledSubscription
from blueprints.billing.periods import read_spans
from blueprints.billing.prices import Begun
from blueprints.dashboard.plans.errors import (
    AccountClosed,
    NeededBy,
    Needs,
    NotOffered,
    PayFirst,
    PlanNotFound,
    StandsAgainst,
)
from core.isp import current_isp
from models import (
    PAUSE_STANDS,
    Account,
    AccountStatus,
    HoldReason,
    Line,
    LineHold,
    Move,
    MoveState,
    Pause,
    Plan,
    PlanKind,
    Subscription,
)

ADDED_ALONE = (PlanKind.TV, PlanKind.EQUIPMENT, PlanKind.OPTION, PlanKind.PHONE)
"""Kinds of which one more can be had. An internet plan comes with a line, which is a visit."""


@dataclass(frozen=True, slots=True)
class InUse:
    """A subscription in use, or to come. `price_minor` is a whole period's today, before tax, and
    `billed` has what it costs on any day; until the day before `bound_until_on` its contract binds,
    and leaving it costs `left_minor`. Days before `paid_elsewhere_until_on` were paid to whoever
    billed before this portal did."""

    subscription_id: int
    public_id: str
    plan: Plan
    line_id: int | None
    started_on: date
    ended_on: date | None
    price_minor: int
    bound_until_on: date | None
    left_minor: int
    paid_elsewhere_until_on: date | None
    billed: BilledSubscription

    def next_price(self, today: date) -> tuple[date, int] | None:
        """The next day on which its full price changes, while it is in use, and to what."""
        for on, price_minor in self.billed.later:
            if on > today and (self.ended_on is None or on < self.ended_on):
                return on, price_minor
        return None

    def termination_minor(self, day: date) -> int:
        """What ending it on `day` costs, before tax, since its contract lasts longer."""
        if self.bound_until_on is None or day >= self.bound_until_on:
            return 0
        return self.left_minor


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan that can be had; `is_by_staff`: they decide, and say from when."""

    plan: Plan
    is_by_staff: bool


@dataclass(frozen=True, slots=True)
class Contract:
    """An account with all it subscribes to: `in_use` has not ended, by kind; `billed` is what its
    next bill is made of. `next_on` is the first day of the period that it is for; `pause` is the
    one that waits or runs, and `line_count` says of lines that are not closed. `area` is today's,
    `move` what is planned of moving house."""

    account_id: int
    area: str | None
    bill_day: int
    next_on: date
    is_open: bool
    is_held_unpaid: bool
    in_use: tuple[InUse, ...]
    billed: tuple[BilledSubscription, ...]
    pause: Pause | None
    line_count: int
    move: Move | None

    def area_on(self, day: date) -> str | None:
        """The area in which the account is on the day, today or later."""
        move = self.move
        if move is None or move.move_on is None or day < move.move_on:
            return self.area
        return move.area_code

    def has_where(self, plan: Plan, from_on: date | None = None) -> bool:
        """Whether the plan can be had where the account is from the day on, or from some day that
        can be chosen, and also where it moves to."""
        if self.move is not None and not is_had_in(plan, self.move.area_code):
            return False
        if from_on is None:
            return self.move is not None or is_had_in(plan, self.area)
        return is_had_in(plan, self.area_on(from_on))

    def is_line_unclear(self, each: InUse) -> bool:
        """Whether nobody can tell which of the account's lines an internet plan is had on."""
        is_internet = each.plan.kind == PlanKind.INTERNET
        return is_internet and each.line_id is None and self.line_count > 1

    def is_for_pause(self, each: InUse) -> bool:
        """Whether it is what is paid for while the others are paused."""
        return self.pause is not None and each.subscription_id == self.pause.subscription_id


def read_contract(session: Session, account_id: int, today: date) -> Contract:
    """The account as it stands on `today`, in one query."""
    is_held = (
        exists()
        .where(
            Line.account_id == Account.id,
            LineHold.line_id == Line.id,
            LineHold.reason == HoldReason.UNPAID.value,
            LineHold.released_at.is_(None),
        )
        .correlate(Account)
    )
    line_count = (
        select(func.count(Line.id))
        .where(Line.account_id == Account.id, Line.is_closed.is_(False))
        .correlate(Account)
        .scalar_subquery()
    )
    rows: Sequence[Any] = session.execute(
        select(Account, is_held, line_count, Pause, Move, Subscription, Plan)
        .outerjoin(Pause, and_(Pause.account_id == Account.id, Pause.state.in_(PAUSE_STANDS)))
        .outerjoin(Move, and_(Move.account_id == Account.id, Move.state == MoveState.PLANNED.value))
        .outerjoin(
            Subscription,
            and_(
                Subscription.account_id == Account.id,
                or_(Subscription.ended_on > today, drafting.IS_NOT_BILLED_OUT),
            ),
        )
        .outerjoin(Plan, Plan.id == Subscription.plan_id)
        .where(Account.id == account_id)
        .order_by(Subscription.id),
        {"changeable_on": drafting.first_changeable(today)},
    ).all()
    account, held, lines, pause, move = rows[0][:5]
    kinds = list(PlanKind)
    standing = [(subscription, plan) for *_account, subscription, plan in rows if plan is not None]
    billed = {
        subscription.id: bill(subscription, plan, account.bill_day)
        for subscription, plan in standing
    }
    in_use = [
        _in_use(subscription, plan, billed[subscription.id], today)
        for subscription, plan in standing
        if _is_standing(subscription, today)
    ]
    in_use.sort(key=lambda each: (kinds.index(PlanKind(each.plan.kind)), each.subscription_id))
    return Contract(
        account.id,
        account.area_code,
        account.bill_day,
        drafting.next_start(account),
        account.status == AccountStatus.ACTIVE,
        bool(held),
        tuple(in_use),
        tuple(billed.values()),
        pause,
        lines,
        move,
    )


def _is_standing(subscription: Subscription, today: date) -> bool:
    ended_on = subscription.ended_on
    return ended_on is None or (ended_on > today and ended_on > subscription.started_on)


def bill(subscription: Subscription, plan: Plan, bill_day: int) -> BilledSubscription:
    """The subscription as its account's bills find it."""
    begun = Begun(
        subscription.started_on,
        subscription.price_minor,
        subscription.priced_on,
        subscription.bound_until_on,
        bill_day,
    )
    price_minor, later = prices.standing(plan.price_minor, plan.price_steps, begun)
    return BilledSubscription(
        subscription.id,
        plan.name,
        plan.kind,
        price_minor,
        subscription.intro_price_minor,
        subscription.intro_until_on,
        subscription.started_on,
        subscription.ended_on,
        subscription.billed_until_on,
        subscription.billed_price_minor,
        subscription.billed_taxes,
        read_spans(subscription.paused or ""),
        read_spans(subscription.billed_paused or ""),
        later,
        prices.billed(subscription.billed_prices or {}),
        subscription.elsewhere_until_on,
    )


def _in_use(
    subscription: Subscription, plan: Plan, billed: BilledSubscription, today: date
) -> InUse:
    bound, elsewhere = subscription.bound_until_on, billed.paid_elsewhere_until_on
    return InUse(
        subscription.id,
        subscription.public_id,
        plan,
        subscription.line_id,
        subscription.started_on,
        subscription.ended_on,
        billed.price_on(max(today, subscription.started_on)),
        bound if bound is not None and bound > today else None,
        subscription.termination_minor or 0,
        elsewhere if elsewhere is not None and elsewhere > today else None,
        billed,
    )


def get_in_use(in_use: Sequence[InUse], public_id: str) -> InUse:
    """The one with this id. Raises PlanNotFound."""
    for each in in_use:
        if each.public_id == public_id:
            return each
    raise PlanNotFound


def list_offers(session: Session, contract: Contract, of: InUse) -> list[Offer]:
    """The plans that can follow one that is in use, the cheapest first."""
    plans = session.scalars(select(Plan).where(Plan.code.in_(of.plan.changes_to)))
    return [
        Offer(plan, _is_by_staff(of.plan, plan) or contract.is_line_unclear(of))
        for plan in sorted(plans, key=lambda plan: (plan.price_minor, plan.code))
        if _can_follow(of.plan, plan) and contract.has_where(plan)
    ]


def list_additions(session: Session, contract: Contract) -> list[Plan]:
    """The plans that can be had besides, by kind and price."""
    plans = session.scalars(select(Plan).where(Plan.kind.in_([kind.value for kind in ADDED_ALONE])))
    kinds = {each.plan.kind for each in contract.in_use}
    kinds_in_order = list(PlanKind)
    return sorted(
        (
            plan
            for plan in plans
            if _can_be_added(plan, contract) and plan.requires_kind in (None, *kinds)
        ),
        key=lambda plan: (kinds_in_order.index(PlanKind(plan.kind)), plan.price_minor, plan.code),
    )


def list_price(plan: Plan, day: date) -> int:
    """What a whole period of the plan costs whoever begins on `day`, before tax."""
    return prices.list_price(plan.price_minor, plan.price_steps, day)


def is_had_in(plan: Plan, area: str | None) -> bool:
    """Whether the plan can be had in the area."""
    return not plan.areas or area in plan.areas


def _can_follow(old: Plan, new: Plan) -> bool:
    return new.code in old.changes_to and new.kind == old.kind and new.is_offered


def _is_by_staff(old: Plan | None, new: Plan) -> bool:
    # No rent for what nobody has been handed (47 USC 562 (c)): staff say from which day.
    is_handed_over = new.kind == PlanKind.EQUIPMENT
    is_other_technology = old is not None and old.technology != new.technology
    return new.needs_staff or is_handed_over or is_other_technology


def check(
    session: Session,
    contract: Contract,
    old: InUse | None,
    new: Plan | None,
    from_on: date,
    new_area: str | None = None,
) -> bool:
    """See that the account may have `new` in the place of `old`, or besides, or that `old` may end,
    from the day on; whether staff decide. With `new_area` it moves there, and staff have decided.
    Raises ChangeRefused."""
    if not contract.is_open:
        raise AccountClosed
    if contract.is_held_unpaid:
        raise PayFirst
    others = [each for each in contract.in_use if each is not old]
    if new is not None:
        if old is not None and new_area is not None:
            is_good = new.kind == old.plan.kind and new.is_offered and is_had_in(new, new_area)
        else:
            is_good = contract.has_where(new, from_on) and (
                _can_follow(old.plan, new) if old is not None else _can_be_added(new, contract)
            )
        if not is_good:
            raise NotOffered
        _check_beside(session, new, others)
    elif old is not None and (old.plan.kind == PlanKind.INTERNET or contract.is_for_pause(old)):
        raise NotOffered  # the line would stay; cancelling ends both
    if old is not None:
        _check_without(old, new, others)
    if new is None:
        return False
    is_unclear = old is not None and contract.is_line_unclear(old)
    return is_unclear or _is_by_staff(old.plan if old is not None else None, new)


def check_undo(
    session: Session, contract: Contract, back: Collection[int], gone: int | None
) -> None:
    """See that the subscriptions `back` may go on and that `gone` may be missing. Raises
    ChangeRefused."""
    stays = [
        replace(each, ended_on=None) if each.subscription_id in back else each
        for each in contract.in_use
        if each.subscription_id != gone
    ]
    for each in stays:
        if each.subscription_id in back:
            if contract.move is not None and not contract.has_where(each.plan):
                raise NotOffered  # it would not be had at the new place
            _check_beside(session, each.plan, [other for other in stays if other is not each])
    for each in contract.in_use:
        if each.subscription_id == gone:
            _check_without(each, None, stays)


def check_end(contract: Contract) -> None:
    """See that everything may end. Raises AccountClosed."""
    if not contract.is_open or not contract.in_use:
        raise AccountClosed


def _can_be_added(plan: Plan, contract: Contract) -> bool:
    return (
        plan.kind in ADDED_ALONE
        and plan.is_offered
        and not _is_for_pauses(plan)
        and contract.has_where(plan)
        and all(each.plan.code != plan.code for each in contract.in_use)
    )


def _is_for_pauses(plan: Plan) -> bool:
    rules = current_isp().pause
    return rules is not None and plan.code == rules.plan


def _check_beside(session: Session, plan: Plan, others: Sequence[InUse]) -> None:
    staying = [each.plan for each in others if each.ended_on is None]
    codes = {each.code for each in staying}
    missing = [code for code in plan.requires if code not in codes]
    if missing:
        names = session.scalars(select(Plan.name).where(Plan.code.in_(missing)).order_by(Plan.id))
        raise Needs(", ".join(names))
    if plan.requires_kind and plan.requires_kind not in {each.kind for each in staying}:
        raise NotOffered
    against = [
        each.name
        for each in staying
        if each.code in (plan.excludes or ()) or plan.code in (each.excludes or ())
    ]
    if against:
        raise StandsAgainst(", ".join(against))


def _check_without(old: InUse, new: Plan | None, others: Sequence[InUse]) -> None:
    """That nothing which stays needs what ends."""
    kinds = {each.plan.kind for each in others if each.ended_on is None}
    if new is not None:
        kinds.add(new.kind)
    needing = [
        each.plan.name
        for each in others
        if each.ended_on is None
        and (
            old.plan.code in each.plan.requires
            or (each.plan.requires_kind == old.plan.kind and old.plan.kind not in kinds)
        )
    ]
    if needing:
        raise NeededBy(", ".join(needing))
