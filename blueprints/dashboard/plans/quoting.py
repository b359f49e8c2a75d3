"""What a change of plans costs and from when: the next bill with it and without it, computed by the
very function that makes the bill."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from typing import Any, NamedTuple

from flask_babel import gettext as _
from sqlalchemy import exists, false, or_, select
from sqlalchemy.orm import Session

from blueprints.billing import drafting
from blueprints.billing.drafting import BilledAccount, BilledSubscription, OneOff, TaxRule
from blueprints.billing.periods import Span, period_of, write_spans
from blueprints.dashboard.plans import offers
from blueprints.dashboard.plans.errors import (
    ChangeUnderWay,
    PausedThen,
    PlanNotFound,
    UsedMore,
)
from blueprints.dashboard.plans.offers import Contract, InUse
from blueprints.lines.allowances import standing
from core import clock
from core.isp import current_isp
from core.money import Money
from models import InvoiceLineKind, Plan, PlanChange, PlanChangeState, PlanKind, Subscription

FREE_AGAIN_AFTER = timedelta(days=90)
"""Whoever gave a TV package back within a day can do so again with the same one after this."""


class When(StrEnum):
    """From when a change counts: at once, or from the next bill day on."""

    NOW = "now"
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class Wish:
    """That the subscription `from_public_id` ends, that the plan `to_code` begins, or that one
    follows the other; with neither, that everything ends. `on`: a day that was chosen. With
    `new_area` the account moves there, and so to another plan: that costs nothing for itself."""

    account_id: int
    from_public_id: str | None
    to_code: str | None
    when: When = When.NEXT
    on: date | None = None
    new_area: str | None = None

    @property
    def is_end(self) -> bool:
        return self.from_public_id is None and self.to_code is None


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the bill to come."""

    description: str
    amount: Money
    from_on: date | None
    last_on: date | None


@dataclass(frozen=True, slots=True)
class Fee:
    """A one-off charge that the change brings; `kind` is that of the plan whose taxes apply."""

    kind: str
    description: str
    amount_minor: int
    currency: str

    @property
    def amount(self) -> Money:
        return Money(self.amount_minor, self.currency)


def terms_of(plan: Plan, day: date) -> list[Any]:
    """What a plan costs, gives and binds to when it begins on `day`."""
    return [
        offers.list_price(plan, day),
        plan.intro_price_minor,
        plan.intro_months,
        plan.setup_minor,
        plan.contract_months,
        plan.early_termination_minor,
        plan.down_kbps,
        plan.up_kbps,
        plan.data_included_bytes,
        plan.over_rule,
        plan.overage_minor,
        plan.overage_bytes,
        plan.slow_down_kbps,
        plan.slow_up_kbps,
    ]


def months_of(terms: Sequence[Any]) -> int:
    """How many months such terms bind for."""
    return terms[4] or 0 if terms else 0


class Term(NamedTuple):
    """How long a contract binds from the day it begins, and what leaving earlier costs."""

    bound_until_on: date | None
    left_minor: int


@dataclass(frozen=True, slots=True)
class Quote:
    """A change as it is shown before the button. Amounts with taxes; `monthly` is what a whole
    period costs from then on and `monthly_before` what it costs now, at full prices;
    `plan_monthly` is the share of the plan that begins. `ending` are the subscriptions that end:
    `old`, or all of them. `fees` join the first bill from `effective_on` on, `term` is the contract
    of what begins, and `paused` the days on which it will be. `can_begin_now`: at once is another
    choice; `is_free_for_a_day`: it can be given back within a day; `later`
    are the full prices of what begins that are planned."""

    ending: tuple[InUse, ...]
    old: InUse | None
    new: Plan | None
    is_by_staff: bool
    effective_on: date
    bill_on: date
    rows: tuple[Row, ...]
    total: Money
    total_before: Money
    monthly: Money
    monthly_before: Money
    plan_monthly: Money | None
    intro: Money | None
    intro_until_on: date | None
    fees: tuple[Fee, ...]
    term: Term
    paused: tuple[Span, ...]
    can_begin_now: bool
    is_free_for_a_day: bool
    price_minor: int | None
    later: tuple[tuple[date, Money], ...]

    @property
    def terms(self) -> list[Any]:
        return terms_of(self.new, self.effective_on) if self.new is not None else []

    @property
    def digest(self) -> str:
        """Differs when anything that the customer agrees to differs."""
        agreed = (
            self.effective_on,
            self.bill_on,
            self.rows,
            self.total,
            self.monthly,
            self.intro,
            self.intro_until_on,
            self.fees,
            self.term,
            self.terms,
            self.is_by_staff,
            self.is_free_for_a_day,
            self.later,
        )
        return hashlib.sha256(repr(agreed).encode()).hexdigest()[:24]

    def facts(self) -> dict[str, Any]:
        """What was agreed to, as it is kept."""
        return {
            "bill_on": self.bill_on.isoformat(),
            "total_minor": self.total.amount_minor,
            "total_before_minor": self.total_before.amount_minor,
            "monthly_minor": self.monthly.amount_minor,
            "monthly_before_minor": self.monthly_before.amount_minor,
            "currency": self.total.currency,
            "lines": [[row.description, row.amount.amount_minor] for row in self.rows],
            "terms": self.terms,
            "is_free_for_a_day": self.is_free_for_a_day,
            "later": [[on.isoformat(), price.amount_minor] for on, price in self.later],
        }


def quote(session: Session, wish: Wish) -> Quote:
    """What the wish costs. Raises PlanNotFound and ChangeRefused."""
    isp = current_isp()
    today = clock.today(isp.timezone)
    contract = offers.read_contract(session, wish.account_id, today)
    old = offers.get_in_use(contract.in_use, wish.from_public_id) if wish.from_public_id else None
    new, past = _get_plan(session, wish, old)
    ending = contract.in_use if wish.is_end else (old,) if old is not None else ()
    if old is not None and (old.ended_on is not None or old.started_on > today):
        raise ChangeUnderWay
    effective_on = _effective_on(wish, old, new, today, contract.bill_day)
    if wish.is_end:
        offers.check_end(contract)
        is_by_staff = False
    else:
        is_by_staff = offers.check(session, contract, old, new, effective_on, wish.new_area)
    bill_on = max(contract.next_on, today)
    account = as_billed(session, contract, bill_on)
    taxes = drafting.list_taxes(session)
    is_decided = wish.on is not None or not is_by_staff
    if is_decided and not wish.is_end:
        _check_pause(contract, effective_on)
    if new is not None and old is not None and wish.on is None and effective_on == today:
        _check_data(session, wish.account_id, old, new, today)
    is_move = wish.new_area is not None
    fees = _fees(ending, new, effective_on) if not is_move else ()
    paused = _paused(contract, new)
    term = _term_of_move(old) if is_move else _term(old, new, effective_on)
    begun = (
        _begin(new, effective_on, term, account.bill_day, paused, has_intro=not past.had_it)
        if new is not None
        else None
    )
    due_now = fees if effective_on <= bill_on else ()
    after = _after(account, ending, begun, due_now, effective_on)
    lines, _marks = drafting.compute(after, taxes, bill_on)
    before, _marks = drafting.compute(account, taxes, bill_on)
    has_intro = begun is not None and begun.intro_until_on is not None
    full = _in_full(after, effective_on, contract)
    then = replace(account, area=contract.area_on(max(effective_on, bill_on)))
    now = replace(account, area=contract.area)
    return Quote(
        ending=ending,
        old=old,
        new=new,
        is_by_staff=is_by_staff,
        effective_on=effective_on,
        bill_on=bill_on,
        rows=rows_of(lines, isp.currency),
        total=sum_of(lines, isp.currency),
        total_before=sum_of(before, isp.currency),
        monthly=of_a_period(then, full, taxes, bill_on, effective_on),
        monthly_before=of_a_period(now, _in_full(account, today, contract), taxes, bill_on, today),
        plan_monthly=of_a_period(then, [begun], taxes, bill_on, effective_on)
        if begun is not None
        else None,
        intro=Money(begun.intro_price_minor or 0, isp.currency)
        if begun is not None and has_intro
        else None,
        intro_until_on=begun.intro_until_on if begun is not None else None,
        fees=fees,
        term=term,
        paused=paused,
        can_begin_now=new is not None and not _is_paid_elsewhere(old),
        is_free_for_a_day=isp.billing_rules.tv_free_day
        and new is not None
        and new.kind == PlanKind.TV
        and old is None
        and not past.was_given_back,
        price_minor=begun.price_minor if begun is not None else None,
        later=tuple((on, Money(minor, isp.currency)) for on, minor in begun.later)
        if begun is not None
        else (),
    )


class Past(NamedTuple):
    """Whether the account ever had a plan, and gave it back within a day not long ago."""

    had_it: bool
    was_given_back: bool


def _get_plan(session: Session, wish: Wish, old: InUse | None) -> tuple[Plan | None, Past]:
    """The plan that begins, and what the account had of it before. Raises PlanNotFound, and
    ChangeUnderWay when such a change waits already."""
    of_account = PlanChange.account_id == wish.account_id
    states = [PlanChangeState.PLANNED.value]
    if wish.on is None:
        states.append(PlanChangeState.ASKED.value)
    same = or_(
        PlanChange.is_end,
        PlanChange.from_id == old.subscription_id if old is not None else false(),
        PlanChange.to_plan_id == Plan.id if wish.to_code else false(),
    )
    is_under_way = exists().where(of_account, PlanChange.state.in_(states), same)
    if wish.to_code is None:
        if session.scalar(select(is_under_way)):
            raise ChangeUnderWay
        return None, Past(had_it=False, was_given_back=False)
    had_it = exists().where(
        Subscription.account_id == wish.account_id,
        Subscription.plan_id == Plan.id,
        # One that never began was never had.
        or_(Subscription.ended_on.is_(None), Subscription.ended_on > Subscription.started_on),
    )
    was_given_back = exists().where(
        of_account,
        PlanChange.to_plan_id == Plan.id,
        PlanChange.state == PlanChangeState.UNDONE.value,
        PlanChange.effective_on <= clock.today(current_isp().timezone),
        PlanChange.ended_at > clock.now() - FREE_AGAIN_AFTER,
    )
    row = session.execute(
        select(
            Plan,
            is_under_way.correlate(Plan),
            had_it.correlate(Plan),
            was_given_back.correlate(Plan),
        ).where(Plan.code == wish.to_code)
    ).one_or_none()
    if row is None:
        raise PlanNotFound
    plan, is_waiting, had, given_back = row
    if is_waiting:
        raise ChangeUnderWay
    return plan, Past(bool(had), bool(given_back))


def _check_data(session: Session, account_id: int, old: InUse, new: Plan, today: date) -> None:
    """Raises UsedMore."""
    counted = standing.list_counted(session, account_id, today)
    if any(
        each.subscription_id == old.subscription_id
        and each.count.would_gain(new.data_included_bytes, today)
        for each in counted
    ):
        raise UsedMore


def _check_pause(contract: Contract, day: date) -> None:
    """Raises PausedThen for a day within a pause."""
    pause = contract.pause
    if pause is not None and pause.from_on <= day < pause.until_on:
        raise PausedThen(pause.until_on)


def _paused(contract: Contract, plan: Plan | None) -> tuple[Span, ...]:
    """The days on which a plan that begins will be paused with the others."""
    pause = contract.pause
    if pause is None or plan is None or plan.kind not in pause.kinds:
        return ()
    return (Span(pause.from_on, pause.until_on),)


def as_billed(session: Session, contract: Contract, bill_on: date) -> BilledAccount:
    """The account as its next bill finds it, if nothing changes."""
    one_offs, exempt_from = drafting.find_extras(session, contract.account_id, bill_on)
    return BilledAccount(
        contract.account_id,
        contract.bill_day,
        Span(contract.next_on, period_of(contract.next_on, contract.bill_day).until_on),
        contract.area_on(bill_on),
        contract.billed,
        one_offs,
        exempt_from,
    )


def _effective_on(
    wish: Wish, old: InUse | None, new: Plan | None, today: date, bill_day: int
) -> date:
    """Something ends with the period that is paid for; what begins may do so at once, but not in
    days that were paid to whoever billed before."""
    if wish.on is not None:
        return wish.on
    if wish.when is When.NOW and new is not None and not _is_paid_elsewhere(old):
        return today
    until_on = period_of(today, bill_day).until_on
    paid_on = old.paid_elsewhere_until_on if old is not None else None
    return max(until_on, paid_on or until_on)


def _is_paid_elsewhere(old: InUse | None) -> bool:
    return old is not None and old.paid_elsewhere_until_on is not None


def _term(old: InUse | None, new: Plan | None, day: date) -> Term:
    """The contract of what begins on `day`. One that still binds goes on with what follows it."""
    bound_on, left_minor = None, 0
    if new is not None and new.contract_months:
        bound_on = clock.month_step(day, new.contract_months, day.day)
        left_minor = new.early_termination_minor or 0
    if new is not None and old is not None and not _is_cheaper(new, old, day):
        goes_on = old.termination_minor(day)
        if goes_on and old.bound_until_on is not None:
            bound_on = max(bound_on or old.bound_until_on, old.bound_until_on)
            left_minor = max(left_minor, goes_on)
    return Term(bound_on, left_minor)


def _term_of_move(old: InUse | None) -> Term:
    """The contract that binds at a new place: the one that there is."""
    if old is None or old.bound_until_on is None:
        return Term(None, 0)
    return Term(old.bound_until_on, old.left_minor)


def _fees(ending: Sequence[InUse], new: Plan | None, day: date) -> tuple[Fee, ...]:
    """Setting up what begins; and leaving what still binds for something cheaper, or nothing."""
    fees = []
    currency = current_isp().currency
    if new is not None and new.setup_minor:
        words = _("%(plan)s: set-up", plan=new.name)
        fees.append(Fee(new.kind, words, new.setup_minor, currency))
    for old in ending:
        if old.ended_on is not None or old.started_on >= day:
            continue  # it ends by another change, or never begins
        left_minor = old.termination_minor(day)
        if left_minor and (new is None or _is_cheaper(new, old, day)):
            words = _("%(plan)s: contract ended early", plan=old.plan.name)
            fees.append(Fee(old.plan.kind, words, left_minor, currency))
    return tuple(fees)


def _is_cheaper(new: Plan, old: InUse, day: date) -> bool:
    """Whether the plan costs less from `day` on than what it follows, at full prices."""
    return offers.list_price(new, day) < old.billed.full_price_on(day)


def _begin(
    plan: Plan,
    day: date,
    term: Term,
    bill_day: int,
    paused: tuple[Span, ...] = (),
    *,
    has_intro: bool,
) -> BilledSubscription:
    """The plan from `day` on, but for the days when it is `paused`; `has_intro`: at its
    introductory price, if it has one, as for an account that never had it."""
    begun = Subscription(
        id=0,
        started_on=day,
        price_minor=offers.list_price(plan, day),
        bound_until_on=term.bound_until_on,
        paused=write_spans(paused),
    )
    if has_intro and plan.intro_price_minor is not None and plan.intro_months:
        begun.intro_price_minor = plan.intro_price_minor
        begun.intro_until_on = clock.month_step(day, plan.intro_months, day.day)
    return offers.bill(begun, plan, bill_day)


def _after(
    account: BilledAccount,
    ending: Sequence[InUse],
    begun: BilledSubscription | None,
    fees: Sequence[Fee],
    day: date,
) -> BilledAccount:
    """The account as its next bill finds it once the change is made."""
    ends = {each.subscription_id: end_of(each, day) for each in ending}
    subscriptions = [
        replace(each, ended_on=ends.get(each.subscription_id, each.ended_on))
        for each in account.subscriptions
    ]
    if begun is not None:
        subscriptions.append(begun)
    one_offs = [OneOff(0, fee.kind, fee.description, fee.amount_minor) for fee in fees]
    return replace(
        account,
        subscriptions=tuple(subscriptions),
        one_offs=(*account.one_offs, *one_offs),
    )


def end_of(each: InUse, day: date) -> date:
    """When a subscription ends that is to be over on `day`: not before it begins, nor later than it
    would anyway."""
    last = max(each.started_on, day)
    return last if each.ended_on is None else min(each.ended_on, last)


def _in_full(account: BilledAccount, day: date, contract: Contract) -> list[BilledSubscription]:
    """What is in use from `day` on, whether it is paused or not."""
    for_pause = contract.pause.subscription_id if contract.pause is not None else None
    return [
        each
        for each in account.subscriptions
        if each.started_on <= day
        and (each.ended_on is None or each.ended_on > day)
        and each.subscription_id != for_pause
    ]


def of_a_period(
    account: BilledAccount,
    subscriptions: Sequence[BilledSubscription],
    taxes: Sequence[TaxRule],
    bill_on: date,
    day: date | None = None,
) -> Money:
    """What these cost in a whole period, with the taxes of `bill_on` and at the full prices of
    `day`, or of that day too."""
    period = period_of(bill_on, account.bill_day)
    whole = [
        BilledSubscription(
            each.subscription_id,
            each.name,
            each.kind,
            each.full_price_on(day or bill_on),
            None,
            None,
            started_on=period.from_on,
        )
        for each in subscriptions
    ]
    alone = BilledAccount(
        account.account_id,
        account.bill_day,
        Span(period.from_on, period.until_on),
        account.area,
        tuple(whole),
        (),
        account.exempt_from,
    )
    lines, _marks = drafting.compute(alone, taxes, bill_on)
    return sum_of(lines, current_isp().currency)


def sum_of(lines: Sequence[drafting.DraftLine], currency: str) -> Money:
    """What the lines come to."""
    return Money(sum(line.amount_minor for line in lines), currency)


def rows_of(lines: Sequence[drafting.DraftLine], currency: str) -> tuple[Row, ...]:
    """The lines as pages show them."""
    return tuple(
        Row(
            line.description,
            Money(line.amount_minor, currency),
            line.period_from if line.kind != InvoiceLineKind.TAX else None,
            line.period_to if line.kind != InvoiceLineKind.TAX else None,
        )
        for line in lines
    )
