"""Plans and changes as pages show them. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import select
from sqlalchemy.orm import aliased

from blueprints.dashboard.plans import apps, changing, labels, offers, pause_quoting, pausing
from blueprints.dashboard.plans.apps import App
from blueprints.dashboard.plans.errors import PlanNotFound
from blueprints.dashboard.plans.labels import Label
from blueprints.dashboard.plans.offers import InUse
from core import clock
from core.db import db
from core.isp import current_isp
from core.money import Money
from models import Account, Pause, Plan, PlanChange, PlanChangeState, PlanKind, Subscription

ASKED_SHOWN = 200
CHANNELS_SHOWN = 40


@dataclass(frozen=True, slots=True)
class ChangeView:
    """A change as it stands. `lines` are what the next bill was to say when it was agreed to."""

    public_id: str
    state: str
    is_end: bool
    old: str | None
    new: str | None
    effective_on: date
    created_at: datetime
    monthly: Money
    total: Money
    bill_on: date
    lines: list[tuple[str, Money]]
    answer: str
    can_undo: bool


@dataclass(frozen=True, slots=True)
class AskedView:
    """A change that waits, or waited, for staff. With `needs_number` a phone begins."""

    public_id: str
    state: str
    is_end: bool
    account_public_id: str
    account_number: str
    account_name: str
    account_id: int
    old: str | None
    new: str | None
    effective_on: date
    created_at: datetime
    answer: str
    needs_number: bool


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan of the catalog. Prices a month, before tax."""

    code: str
    kind: str
    name: str
    price: Money
    intro: Money | None
    intro_months: int | None
    setup: Money
    termination: Money
    contract_months: int | None
    down_kbps: int | None
    up_kbps: int | None
    included_bytes: int | None
    channels: list[str]
    apps: list[App]
    label: Label | None


@dataclass(frozen=True, slots=True)
class InUseView:
    """A plan in use; `price` is today's and `next_price` the one that is planned from `next_on` on.
    `can_end`: its customer can change or remove it now."""

    public_id: str
    plan: PlanView
    price: Money
    started_on: date
    ended_on: date | None
    bound_until_on: date | None
    is_to_come: bool
    has_others: bool
    next_on: date | None
    next_price: Money | None

    @property
    def can_end(self) -> bool:
        return self.ended_on is None and not self.is_to_come


@dataclass(frozen=True, slots=True)
class OfferView:
    plan: PlanView
    is_by_staff: bool


@dataclass(frozen=True, slots=True)
class PackageView:
    """A package with a channel in it."""

    code: str
    name: str
    is_own: bool


@dataclass(frozen=True, slots=True)
class ChannelView:
    name: str
    packages: list[PackageView]
    is_own: bool


@dataclass(frozen=True, slots=True)
class PauseView:
    """A pause as it stands. `saved` is what bills were to be less when it was agreed to, or when it
    was ended early; `lines` are what the next bill was to say."""

    public_id: str
    state: str
    from_on: date
    until_on: date
    resting: list[str]
    saved: Money
    total: Money
    bill_on: date
    lines: list[tuple[str, Money]]
    can_undo: bool
    can_end: bool

    @property
    def days(self) -> int:
        return (self.until_on - self.from_on).days


@dataclass(frozen=True, slots=True)
class PlansPage:
    in_use: list[InUseView]
    changes: list[ChangeView]
    additions: list[PlanView]
    pause: PauseView | None
    can_pause: bool


def find_page(account_id: int) -> PlansPage:
    """What the account subscribes to, what is planned, and what can be added."""
    today = clock.today(current_isp().timezone)
    contract = offers.read_contract(db.session(), account_id, today)
    additions = offers.list_additions(db.session(), contract)
    return PlansPage(
        [_view_in_use(each, today) for each in contract.in_use if not contract.is_for_pause(each)],
        _list_open(account_id),
        [view_plan(plan) for plan in additions],
        _view_pause(contract.pause) if contract.pause is not None else None,
        _can_pause(contract),
    )


def _can_pause(contract: offers.Contract) -> bool:
    rules = current_isp().pause
    return (
        rules is not None
        and contract.is_open
        and contract.pause is None
        and any(each.plan.kind in rules.kinds for each in contract.in_use)
    )


def find_offers(account_id: int, public_id: str) -> tuple[InUseView, list[OfferView]]:
    """A plan in use and those that can follow it. Raises PlanNotFound."""
    today = clock.today(current_isp().timezone)
    contract = offers.read_contract(db.session(), account_id, today)
    in_use = offers.get_in_use(contract.in_use, public_id)
    found = offers.list_offers(db.session(), contract, in_use)
    return _view_in_use(in_use, today), [
        OfferView(view_plan(offer.plan), offer.is_by_staff) for offer in found
    ]


@dataclass(frozen=True, slots=True)
class TvPage:
    """Channels, and the apps that come with what the account has."""

    channels: list[ChannelView]
    apps: list[App]


def find_tv(account_id: int, wanted: str) -> TvPage:
    """The channels of all packages, or those whose name has `wanted` in it, by name."""
    today = clock.today(current_isp().timezone)
    contract = offers.read_contract(db.session(), account_id, today)
    own = {each.plan.code for each in contract.in_use}
    own_apps = {
        app: None
        for each in contract.in_use
        if each.started_on <= today
        for app in apps.read(each.plan.streaming)
    }
    plans = db.session.scalars(
        select(Plan).where(Plan.kind == PlanKind.TV.value).order_by(Plan.price_minor, Plan.code)
    )
    found: dict[str, list[PackageView]] = {}
    for plan in plans:
        is_own = plan.code in own
        if not (is_own or plan.is_offered):
            continue
        for channel in plan.channels or ():
            if wanted.casefold() in channel.casefold():
                found.setdefault(channel, []).append(PackageView(plan.code, plan.name, is_own))
    channels = [
        ChannelView(channel, packages, any(package.is_own for package in packages))
        for channel, packages in sorted(found.items(), key=lambda each: each[0].casefold())
    ]
    return TvPage(channels, list(own_apps))


def _view_in_use(each: InUse, today: date) -> InUseView:
    coming = each.next_price(today)
    return InUseView(
        each.public_id,
        view_plan(each.plan),
        Money(each.price_minor, current_isp().currency),
        each.started_on,
        each.ended_on,
        each.bound_until_on,
        each.started_on > today,
        bool(each.plan.changes_to),
        coming[0] if coming is not None else None,
        Money(coming[1], current_isp().currency) if coming is not None else None,
    )


def view_plan(plan: Plan) -> PlanView:
    """The plan as pages show it."""
    currency = current_isp().currency
    intro_minor = plan.intro_price_minor
    today = clock.today(current_isp().timezone)
    return PlanView(
        plan.code,
        plan.kind,
        plan.name,
        Money(offers.list_price(plan, today), currency),
        Money(intro_minor, currency) if intro_minor is not None else None,
        plan.intro_months,
        Money(plan.setup_minor, currency),
        Money(plan.early_termination_minor or 0, currency),
        plan.contract_months,
        plan.down_kbps,
        plan.up_kbps,
        plan.data_included_bytes,
        list(plan.channels or ()),
        apps.read(plan.streaming),
        labels.find_label(plan),
    )


_old = aliased(Plan)
_new = aliased(Plan)
_CHANGES = (
    select(PlanChange, _old.name.label("old"), _new.name.label("new"))
    .outerjoin(Subscription, Subscription.id == PlanChange.from_id)
    .outerjoin(_old, _old.id == Subscription.plan_id)
    .outerjoin(_new, _new.id == PlanChange.to_plan_id)
)


def get_change(account_id: int, public_id: str) -> ChangeView:
    """The change of this account. Raises PlanNotFound."""
    row = db.session.execute(
        _CHANGES.where(PlanChange.account_id == account_id, PlanChange.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise PlanNotFound
    return _view(*row)


def _list_open(account_id: int) -> list[ChangeView]:
    rows = db.session.execute(
        _CHANGES.where(
            PlanChange.account_id == account_id,
            PlanChange.state.in_([PlanChangeState.ASKED.value, PlanChangeState.PLANNED.value]),
        ).order_by(PlanChange.effective_on, PlanChange.id)
    )
    return [_view(*row) for row in rows]


def _view(made: PlanChange, old: str | None, new: str | None) -> ChangeView:
    quote = made.quote
    currency = quote["currency"]
    return ChangeView(
        made.public_id,
        made.state,
        made.is_end,
        old,
        new,
        made.effective_on,
        made.created_at,
        Money(quote["monthly_minor"], currency),
        Money(quote["total_minor"], currency),
        date.fromisoformat(quote["bill_on"]),
        [(description, Money(minor, currency)) for description, minor in quote["lines"]],
        made.answer,
        changing.can_undo(db.session(), made),
    )


def get_pause(account_id: int, public_id: str) -> PauseView:
    """The pause of this account. Raises PlanNotFound."""
    return _view_pause(pause_quoting.get(db.session(), account_id, public_id))


def _view_pause(made: Pause) -> PauseView:
    quote = made.quote
    currency = quote["currency"]
    return PauseView(
        made.public_id,
        made.state,
        made.from_on,
        made.until_on,
        list(quote["resting"]),
        Money(quote["saved_minor"], currency),
        Money(quote["total_minor"], currency),
        date.fromisoformat(quote["bill_on"]),
        [(description, Money(minor, currency)) for description, minor in quote["lines"]],
        pausing.can_undo(made),
        pausing.can_end(made),
    )


def list_asked() -> list[AskedView]:
    """What waits for staff, the oldest first."""
    rows = db.session.execute(
        _ASKED.where(PlanChange.state == PlanChangeState.ASKED.value)
        .order_by(PlanChange.created_at, PlanChange.id)
        .limit(ASKED_SHOWN)
    )
    return [_asked(*row) for row in rows]


def get_for_staff(public_id: str) -> AskedView:
    """A change as staff decide about it. Raises PlanNotFound."""
    row = db.session.execute(_ASKED.where(PlanChange.public_id == public_id)).one_or_none()
    if row is None:
        raise PlanNotFound
    return _asked(*row)


_ASKED = _CHANGES.add_columns(Account, _new.kind).join(Account, Account.id == PlanChange.account_id)


def _asked(
    made: PlanChange, old: str | None, new: str | None, account: Account, kind: str | None
) -> AskedView:
    return AskedView(
        made.public_id,
        made.state,
        made.is_end,
        account.public_id,
        account.number,
        account.name,
        account.id,
        old,
        new,
        made.effective_on,
        made.created_at,
        made.answer,
        kind == PlanKind.PHONE and made.from_id is None,
    )
