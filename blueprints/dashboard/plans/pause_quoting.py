"""What a pause saves and costs: the next bill with it and without it, computed by the very function
that makes the bill, and what all bills come to until it is over."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from sqlalchemy import and_, select
from sqlalchemy.orm import Session

from blueprints.billing import drafting
from blueprints.billing.drafting import BilledAccount, BilledSubscription
from blueprints.billing.periods import Span, within
from blueprints.dashboard.plans import offers, quoting
from blueprints.dashboard.plans.errors import (
    AccountClosed,
    ChangeWithin,
    NothingToPause,
    PauseDaysUsed,
    PauseLength,
    PauseOver,
    PauseTooFar,
    PauseTooSoon,
    PauseUnderWay,
    PayFirst,
    PlanNotFound,
)
from blueprints.dashboard.plans.offers import Contract, InUse
from blueprints.dashboard.plans.quoting import Row
from core import clock
from core.isp import current_isp
from core.money import Money
from core.pause_rules import PauseRules
from models import Account, Pause, PauseState, Plan, PlanChange, PlanChangeState

LONGEST_AHEAD = timedelta(days=180)


@dataclass(frozen=True, slots=True)
class PauseQuote:
    """A pause, or its end, as it is shown before the button. Amounts with taxes.

    `span` is how long it lasts then; the plans of `resting` pause and those of `going_on` do not.
    All bills until it is over come to `saved` less, or more where that is negative. Meanwhile
    `price` is paid a month. `bound` are contracts with the days until which they bind then, and
    `left` the days that each year has left."""

    span: Span
    resting: tuple[str, ...]
    going_on: tuple[str, ...]
    bill_on: date
    rows: tuple[Row, ...]
    total: Money
    total_before: Money
    saved: Money
    price: Money | None
    bound: tuple[tuple[str, date], ...]
    left: tuple[tuple[int, int], ...]

    @property
    def digest(self) -> str:
        """Differs when anything that the customer agrees to differs."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:24]

    def facts(self) -> dict[str, Any]:
        """What was agreed to, as it is kept."""
        return {
            "bill_on": self.bill_on.isoformat(),
            "total_minor": self.total.amount_minor,
            "saved_minor": self.saved.amount_minor,
            "currency": self.total.currency,
            "lines": [[row.description, row.amount.amount_minor] for row in self.rows],
            "resting": list(self.resting),
        }


def rules_now() -> PauseRules:
    """The ISP's rules. Raises PlanNotFound where it offers no pauses."""
    rules = current_isp().pause
    if rules is None:
        raise PlanNotFound
    return rules


@dataclass(frozen=True, slots=True)
class Situation:
    """What there is to know about an account that may be paused. `plan` is paid for meanwhile;
    `counted` are the days that other pauses take from their years, `changes` what is planned: the
    days, and whether everything ends then. `links` are the subscriptions of which one is planned to
    follow the other."""

    rules: PauseRules
    today: date
    contract: Contract
    plan: Plan | None
    counted: tuple[Span, ...]
    changes: tuple[tuple[date, bool], ...]
    links: tuple[tuple[int, int], ...]

    @property
    def resting(self) -> list[InUse]:
        """What the account has of the kinds that pause."""
        return [
            each
            for each in self.contract.in_use
            if each.plan.kind in self.rules.kinds and not self.contract.is_for_pause(each)
        ]

    @property
    def price(self) -> Money | None:
        """What is paid a month meanwhile, before taxes."""
        if self.plan is None:
            return None
        return Money(offers.list_price(self.plan, self.today), current_isp().currency)

    @property
    def first_on(self) -> date:
        """Not before notice is given, nor within days that were paid to whoever billed before."""
        elsewhere = [
            each.paid_elsewhere_until_on
            for each in self.resting
            if each.paid_elsewhere_until_on is not None
        ]
        return max([self.today + timedelta(days=self.rules.notice_days), *elsewhere])

    @property
    def last_on(self) -> date:
        """The last day on which a pause can begin."""
        return self.today + LONGEST_AHEAD

    def left_of(self, year: int) -> int:
        """How many days of the year the account may still pause."""
        used = sum(part.days for part in within(self.counted, _year(year)))
        return max(0, self.rules.most_days_a_year - used)


def read(session: Session, account_id: int) -> Situation:
    """The account as it stands today, in two queries. Raises PlanNotFound where the ISP offers no
    pauses."""
    rules = rules_now()
    today = clock.today(current_isp().timezone)
    contract = offers.read_contract(session, account_id, today)
    rows = session.execute(
        select(
            Plan,
            Pause.id,
            Pause.from_on,
            Pause.counts_until_on,
            PlanChange.effective_on,
            PlanChange.is_end,
            PlanChange.from_id,
            PlanChange.to_id,
        )
        .select_from(Account)
        .outerjoin(Plan, Plan.code == rules.plan)
        .outerjoin(
            Pause,
            and_(Pause.account_id == Account.id, Pause.state != PauseState.UNDONE.value),
        )
        .outerjoin(
            PlanChange,
            and_(
                PlanChange.account_id == Account.id,
                PlanChange.state == PlanChangeState.PLANNED.value,
            ),
        )
        .where(Account.id == account_id)
    ).all()
    counted = {row.id: Span(row.from_on, row.counts_until_on) for row in rows if row.id}
    changes = {(row.effective_on, row.is_end) for row in rows if row.effective_on}
    links = {(row.from_id, row.to_id) for row in rows if row.from_id and row.to_id}
    return Situation(
        rules,
        today,
        contract,
        rows[0][0],
        tuple(counted.values()),
        tuple(sorted(changes)),
        tuple(sorted(links)),
    )


def quote(session: Session, found: Situation, span: Span) -> PauseQuote:
    """What pausing on these days saves. Raises ChangeRefused."""
    contract, resting = found.contract, found.resting
    _check_account(found)
    left = _check_days(found, span)
    _check_changes(found, span)
    bill_on = max(contract.next_on, found.today)
    account = quoting.as_billed(session, contract, bill_on)
    taxes = drafting.list_taxes(session)
    for_pause = _for_pause(found.plan, span)
    ids = {each.subscription_id for each in resting}
    subscriptions = [
        replace(each, paused=(*each.paused, span)) if each.subscription_id in ids else each
        for each in account.subscriptions
    ]
    if for_pause is not None:
        subscriptions.append(for_pause)
    after = replace(account, subscriptions=tuple(subscriptions))
    then = replace(account, area=contract.area_on(max(span.from_on, bill_on)))
    compared = _compare(contract, account, after, taxes, bill_on, span.until_on)
    return replace(
        compared,
        span=span,
        resting=_names(resting),
        going_on=_names([each for each in contract.in_use if each not in resting]),
        price=quoting.of_a_period(then, [for_pause], taxes, bill_on) if for_pause else None,
        bound=_longer(found, span) if found.rules.prolongs_contract else (),
        left=left,
    )


def _longer(found: Situation, span: Span) -> tuple[tuple[str, date], ...]:
    """The contracts that get longer by the pause, with the days until which they bind then. Of
    plans that follow one another with the same contract the last stands for all."""
    in_use = found.contract.in_use
    paused = [
        each.subscription_id
        for each in found.resting
        if each.started_on < span.until_on
        and (each.ended_on is None or each.ended_on > span.from_on)
        and each.bound_until_on is not None
        and each.bound_until_on > span.from_on
    ]
    bound = {each.subscription_id: each.bound_until_on for each in in_use}
    longer = carried(paused, bound, found.links)
    followed = {old for old, new in found.links if new in longer}
    return tuple(
        (each.plan.name, each.bound_until_on + timedelta(days=span.days))
        for each in in_use
        if each.bound_until_on is not None
        and each.subscription_id in longer
        and each.subscription_id not in followed
    )


def carried(
    of: Sequence[int], bound: Mapping[int, date | None], links: Sequence[tuple[int, int]]
) -> list[int]:
    """These subscriptions, and those that follow them with the contract of which nothing but the
    plan has changed: it binds until the same day."""
    found = list(of)
    for each in found:  # it grows meanwhile
        found += [
            new
            for old, new in links
            if old == each and new not in found and bound.get(new) == bound.get(old)
        ]
    return found


def end_quote(session: Session, account_id: int, public_id: str) -> PauseQuote:
    """What it costs to end a pause today. Raises PlanNotFound, PauseOver."""
    today = clock.today(current_isp().timezone)
    contract = offers.read_contract(session, account_id, today)
    pause = contract.pause
    if pause is None or pause.public_id != public_id:
        get(session, account_id, public_id)
        raise PauseOver
    if not contract.is_open or not pause.from_on <= today < pause.until_on:
        raise PauseOver
    was, rest = Span(pause.from_on, pause.until_on), Span(pause.from_on, today)
    bill_on = max(contract.next_on, today)
    account = quoting.as_billed(session, contract, bill_on)
    subscriptions = [
        replace(each, ended_on=max(each.started_on, today))
        if each.subscription_id == pause.subscription_id
        else replace(each, paused=shorten(each.paused, was, rest))
        for each in account.subscriptions
    ]
    after = replace(account, subscriptions=tuple(subscriptions))
    taxes = drafting.list_taxes(session)
    return replace(_compare(contract, account, after, taxes, bill_on, pause.until_on), span=rest)


def get(session: Session, account_id: int, public_id: str) -> Pause:
    """The pause of this account. Raises PlanNotFound."""
    pause = session.scalars(
        select(Pause).where(Pause.account_id == account_id, Pause.public_id == public_id)
    ).one_or_none()
    if pause is None:
        raise PlanNotFound
    return pause


def shorten(paused: Sequence[Span], was: Span, rest: Span | None) -> tuple[Span, ...]:
    """The days on which something is paused once `rest` stands in the place of `was`."""
    stays = (rest if each == was else each for each in paused)
    return tuple(each for each in stays if each is not None and each.days)


def _compare(
    contract: Contract,
    account: BilledAccount,
    after: BilledAccount,
    taxes: Sequence[drafting.TaxRule],
    bill_on: date,
    until_on: date,
) -> PauseQuote:
    currency = current_isp().currency
    lines, _marks = drafting.compute(after, taxes, bill_on)
    before, _marks = drafting.compute(account, taxes, bill_on)
    with_minor = drafting.foresee(after, taxes, bill_on, until_on, contract.area_on)
    without_minor = drafting.foresee(account, taxes, bill_on, until_on, contract.area_on)
    return PauseQuote(
        span=account.span,
        resting=(),
        going_on=(),
        bill_on=bill_on,
        rows=quoting.rows_of(lines, currency),
        total=quoting.sum_of(lines, currency),
        total_before=quoting.sum_of(before, currency),
        saved=Money(without_minor - with_minor, currency),
        price=None,
        bound=(),
        left=(),
    )


def _names(subscriptions: Sequence[InUse]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each.plan.name for each in subscriptions))


def _for_pause(plan: Plan | None, span: Span) -> BilledSubscription | None:
    """What is paid for meanwhile, at the price that it has for who begins then."""
    if plan is None:
        return None
    price_minor = offers.list_price(plan, span.from_on)
    return BilledSubscription(
        0,
        plan.name,
        plan.kind,
        price_minor,
        price_minor,
        span.until_on,
        started_on=span.from_on,
        ended_on=span.until_on,
    )


# What is allowed ---------------------------------------------------------------------------------


def _check_account(found: Situation) -> None:
    if not found.contract.is_open:
        raise AccountClosed
    if found.contract.is_held_unpaid:
        raise PayFirst
    if found.contract.pause is not None:
        raise PauseUnderWay
    if not found.resting:
        raise NothingToPause


def _check_days(found: Situation, span: Span) -> tuple[tuple[int, int], ...]:
    """The days that each year has left with it. Raises ChangeRefused."""
    rules = found.rules
    if span.from_on < found.first_on:
        raise PauseTooSoon(found.first_on)
    if span.from_on > found.last_on:
        raise PauseTooFar(found.last_on)
    if not rules.least_days <= span.days <= rules.most_days:
        raise PauseLength(rules.least_days, rules.most_days)
    left_of = []
    for year in range(span.from_on.year, span.last_on.year + 1):
        left = found.left_of(year)
        [part] = within([span], _year(year))
        if part.days > left:
            raise PauseDaysUsed(year, left)
        left_of.append((year, left - part.days))
    return tuple(left_of)


def _year(year: int) -> Span:
    return Span(date(year, 1, 1), date(year + 1, 1, 1))


def _check_changes(found: Situation, span: Span) -> None:
    """Raises ChangeWithin for the first change that is planned for the pause, or before its end
    where everything ends then."""
    for day, is_end in found.changes:
        if day < span.until_on and (is_end or day >= span.from_on):
            raise ChangeWithin(day)
