"""What a change of plans costs and from when: the next bill with it and without it, computed by the
very function that makes the bill."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import exists, false, or_, select
from sqlalchemy.orm import Session

from blueprints.billing import drafting
from blueprints.billing.drafting import BilledAccount, BilledSubscription, OneOff, TaxRule
from blueprints.billing.periods import Span, period_of
from blueprints.dashboard.plans import offers
from blueprints.dashboard.plans.errors import ChangeUnderWay, PlanNotFound
from blueprints.dashboard.plans.offers import Contract, InUse
from core import clock
from core.isp import current_isp
from core.money import Money
from models import InvoiceLineKind, Plan, PlanChange, PlanChangeState, Subscription


class When(StrEnum):
    """From when a change counts: at once, or from the next bill day on."""

    NOW = "now"
    NEXT = "next"


@dataclass(frozen=True, slots=True)
class Wish:
    """That the subscription `from_public_id` ends, that the plan `to_code` begins, or that one
    follows the other; with neither, that everything ends. `on`: a day that was chosen."""

    account_id: int
    from_public_id: str | None
    to_code: str | None
    when: When = When.NEXT
    on: date | None = None

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


@dataclass(frozen=True, slots=True)
class Quote:
    """A change as it is shown before the button. Amounts with taxes; `monthly` is what a whole
    period costs from then on and `monthly_before` what it costs now, at full prices;
    `plan_monthly` is the share of the plan that begins. `ending` are the subscriptions that end:
    `old`, or all of them."""

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
        }


def quote(session: Session, wish: Wish) -> Quote:
    """What the wish costs. Raises PlanNotFound and ChangeRefused."""
    isp = current_isp()
    today = clock.today(isp.timezone)
    contract = offers.read_contract(session, wish.account_id, today)
    old = offers.get_in_use(contract.in_use, wish.from_public_id) if wish.from_public_id else None
    new, had_it = _get_plan(session, wish, old)
    ending = contract.in_use if wish.is_end else (old,) if old is not None else ()
    if any(each.ended_on is not None or each.started_on > today for each in ending):
        raise ChangeUnderWay
    if wish.is_end:
        offers.check_end(contract)
        is_by_staff = False
    else:
        is_by_staff = offers.check(session, contract, old, new)
    bill_on = max(contract.next_on, today)
    account = _as_billed(session, contract, bill_on)
    taxes = drafting.list_taxes(session)
    effective_on = wish.on or _effective_on(wish, new, today, account.bill_day)
    fees = _fees(ending, new, effective_on)
    begun = _begin(new, effective_on, has_intro=not had_it) if new is not None else None
    after = _after(account, ending, begun, fees, effective_on)
    lines, _marks = drafting.compute(after, taxes, bill_on)
    before, _marks = drafting.compute(account, taxes, bill_on)
    has_intro = begun is not None and begun.intro_until_on is not None
    full = _in_full(after, effective_on)
    return Quote(
        ending=ending,
        old=old,
        new=new,
        is_by_staff=is_by_staff,
        effective_on=effective_on,
        bill_on=bill_on,
        rows=_rows(lines, isp.currency),
        total=_sum(lines, isp.currency),
        total_before=_sum(before, isp.currency),
        monthly=_of_a_period(account, full, taxes, bill_on),
        monthly_before=_of_a_period(account, _in_full(account, today), taxes, bill_on),
        plan_monthly=_of_a_period(account, [begun], taxes, bill_on) if begun is not None else None,
        intro=Money(begun.intro_price_minor or 0, isp.currency)
        if begun is not None and has_intro
        else None,
        intro_until_on=begun.intro_until_on if begun is not None else None,
        fees=fees,
    )


def _get_plan(session: Session, wish: Wish, old: InUse | None) -> tuple[Plan | None, bool]:
    """The plan that begins, and whether the account ever had it. Raises PlanNotFound, and
    ChangeUnderWay when such a change waits already."""
    of_account = PlanChange.account_id == wish.account_id
    states = [PlanChangeState.PLANNED.value]
    if wish.on is None:
        states.append(PlanChangeState.ASKED.value)
    same = or_(
        PlanChange.is_end,
        PlanChange.from_id == (old.subscription_id if old is not None else None),
        PlanChange.to_plan_id == Plan.id if wish.to_code else false(),
    )
    is_under_way = exists().where(of_account, PlanChange.state.in_(states), same)
    if wish.to_code is None:
        if session.scalar(select(is_under_way)):
            raise ChangeUnderWay
        return None, False
    had_it = exists().where(
        Subscription.account_id == wish.account_id, Subscription.plan_id == Plan.id
    )
    row = session.execute(
        select(Plan, is_under_way.correlate(Plan), had_it.correlate(Plan)).where(
            Plan.code == wish.to_code
        )
    ).one_or_none()
    if row is None:
        raise PlanNotFound
    plan, is_waiting, had = row
    if is_waiting:
        raise ChangeUnderWay
    return plan, bool(had)


def _as_billed(session: Session, contract: Contract, bill_on: date) -> BilledAccount:
    one_offs, exempt_from = drafting.find_extras(session, contract.account_id, bill_on)
    return BilledAccount(
        contract.account_id,
        contract.bill_day,
        Span(contract.next_on, period_of(contract.next_on, contract.bill_day).until_on),
        contract.area,
        contract.billed,
        one_offs,
        exempt_from,
    )


def _effective_on(wish: Wish, new: Plan | None, today: date, bill_day: int) -> date:
    """Something ends with the period that is paid for; what begins may do so at once."""
    if wish.when is When.NEXT or new is None:
        return period_of(today, bill_day).until_on
    return today


def _fees(ending: Sequence[InUse], new: Plan | None, day: date) -> tuple[Fee, ...]:
    """Setting up what begins; and leaving what still binds, unless for something dearer."""
    fees = []
    if new is not None and new.setup_minor:
        fees.append(Fee(new.kind, _("%(plan)s: set-up", plan=new.name), new.setup_minor))
    for old in ending:
        left_minor = old.termination_minor(day)
        if left_minor and (new is None or new.price_minor < old.plan.price_minor):
            words = _("%(plan)s: contract ended early", plan=old.plan.name)
            fees.append(Fee(old.plan.kind, words, left_minor))
    return tuple(fees)


def _begin(plan: Plan, day: date, *, has_intro: bool) -> BilledSubscription:
    """The plan from `day` on; `has_intro`: at its introductory price, if it has one, as for an
    account that never had it."""
    intro_minor, until = None, None
    if has_intro and plan.intro_price_minor is not None and plan.intro_months:
        intro_minor = plan.intro_price_minor
        until = clock.month_step(day, plan.intro_months, day.day)
    return BilledSubscription(
        0, plan.name, plan.kind, plan.price_minor, intro_minor, until, started_on=day
    )


def _after(
    account: BilledAccount,
    ending: Sequence[InUse],
    begun: BilledSubscription | None,
    fees: Sequence[Fee],
    day: date,
) -> BilledAccount:
    """The account as its next bill finds it once the change is made."""
    ids = {each.subscription_id for each in ending}
    subscriptions = [
        replace(each, ended_on=day) if each.subscription_id in ids else each
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


def _in_full(account: BilledAccount, day: date) -> list[BilledSubscription]:
    """What is in use from `day` on."""
    return [
        each
        for each in account.subscriptions
        if each.started_on <= day and (each.ended_on is None or each.ended_on > day)
    ]


def _of_a_period(
    account: BilledAccount,
    subscriptions: Sequence[BilledSubscription],
    taxes: Sequence[TaxRule],
    day: date,
) -> Money:
    """What these cost in a whole period, at full prices, with today's taxes."""
    period = period_of(day, account.bill_day)
    whole = [
        BilledSubscription(
            each.subscription_id,
            each.name,
            each.kind,
            each.price_minor,
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
    lines, _marks = drafting.compute(alone, taxes, day)
    return _sum(lines, current_isp().currency)


def _sum(lines: Sequence[drafting.DraftLine], currency: str) -> Money:
    return Money(sum(line.amount_minor for line in lines), currency)


def _rows(lines: Sequence[drafting.DraftLine], currency: str) -> tuple[Row, ...]:
    return tuple(
        Row(
            line.description,
            Money(line.amount_minor, currency),
            line.period_from if line.kind != InvoiceLineKind.TAX else None,
            line.period_to if line.kind != InvoiceLineKind.TAX else None,
        )
        for line in lines
    )
