"""Moves as pages show them. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import and_, func, select

from blueprints.billing.drafting import address_lines
from blueprints.dashboard.plans import moving, offers
from blueprints.dashboard.plans.errors import PlanNotFound
from core import clock
from core.db import db
from core.isp import current_isp
from core.money import Money
from models import (
    MOVE_WAITS,
    Account,
    Area,
    Contact,
    ContactKind,
    Move,
    MoveState,
    Plan,
    PlanChange,
    PlanKind,
    Subscription,
)

ASKED_SHOWN = 200


@dataclass(frozen=True, slots=True)
class MovePage:
    """Where the account is now, and the move that waits."""

    address: tuple[str, ...]
    waiting_id: str | None


@dataclass(frozen=True, slots=True)
class MoveView:
    """A move as it stands. `plan` is the one that it is to have there, where it is another, at the
    `price` that was agreed to."""

    public_id: str
    state: str
    address: tuple[str, ...]
    on: date
    note: str
    answer: str
    created_at: datetime
    plan: str | None
    price: Money | None
    can_withdraw: bool


@dataclass(frozen=True, slots=True)
class AskedMove:
    """A move as staff decide about it: `plans` can be had somewhere, `in_use` is what it has, each
    with the areas where it is had."""

    public_id: str
    state: str
    account_id: int
    account_public_id: str
    account_number: str
    account_name: str
    area_code: str
    address: tuple[str, ...]
    wished_on: date
    note: str
    answer: str
    created_at: datetime
    move_on: date | None
    can_refuse: bool


@dataclass(frozen=True, slots=True)
class Choices:
    """What staff can choose, as code and name, and what the account has."""

    areas: list[tuple[str, str]]
    plans: list[tuple[str, str]]
    in_use: list[tuple[str, str]]


def find_page(account_id: int) -> MovePage:
    """What the page shows beside the form, in one query."""
    row = db.session.execute(
        select(Contact.address, Move.public_id)
        .select_from(Account)
        .outerjoin(
            Contact,
            and_(
                Contact.account_id == Account.id,
                Contact.kind == ContactKind.POSTAL.value,
                Contact.ended_on.is_(None),
            ),
        )
        .outerjoin(Move, and_(Move.account_id == Account.id, Move.state.in_(MOVE_WAITS)))
        .where(Account.id == account_id)
        .order_by(Contact.since_on, Contact.id)
        .limit(1)
    ).one()
    return MovePage(address_lines(row.address or {}), row.public_id)


def get_move(account_id: int, public_id: str) -> MoveView:
    """The move of this account. Raises PlanNotFound."""
    row: Any = db.session.execute(
        select(Move, Plan.name, func.coalesce(Subscription.price_minor, Plan.price_minor))
        .outerjoin(PlanChange, PlanChange.id == Move.change_id)
        .outerjoin(Plan, Plan.id == PlanChange.to_plan_id)
        .outerjoin(Subscription, Subscription.id == PlanChange.to_id)
        .where(Move.account_id == account_id, Move.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise PlanNotFound
    made, plan, price_minor = row
    return MoveView(
        made.public_id,
        made.state,
        address_lines(made.address),
        made.move_on or made.wished_on,
        made.note,
        made.answer,
        made.created_at,
        plan,
        Money(price_minor, current_isp().currency) if price_minor is not None else None,
        moving.can_withdraw(made),
    )


_ASKED = select(Move, Account).join(Account, Account.id == Move.account_id)


def list_asked() -> list[AskedMove]:
    """What waits for staff, the oldest first."""
    rows = db.session.execute(
        _ASKED.where(Move.state == MoveState.ASKED.value)
        .order_by(Move.created_at, Move.id)
        .limit(ASKED_SHOWN)
    )
    return [_asked(*row) for row in rows]


def get_for_staff(public_id: str) -> AskedMove:
    """A move as staff decide about it. Raises PlanNotFound."""
    row = db.session.execute(_ASKED.where(Move.public_id == public_id)).one_or_none()
    if row is None:
        raise PlanNotFound
    return _asked(*row)


def _asked(made: Move, account: Account) -> AskedMove:
    return AskedMove(
        made.public_id,
        made.state,
        account.id,
        account.public_id,
        account.number,
        account.name,
        account.area_code or "",
        address_lines(made.address),
        made.wished_on,
        made.note,
        made.answer,
        made.created_at,
        made.move_on,
        moving.can_withdraw(made),
    )


def find_choices(account_id: int) -> Choices:
    """The areas, the internet plans that are offered, and what the account has, each with where."""
    areas = db.session.execute(select(Area.code, Area.name).order_by(Area.name)).all()
    names = {row.code: row.name for row in areas}
    plans = db.session.scalars(
        select(Plan)
        .where(Plan.kind == PlanKind.INTERNET.value, Plan.is_offered)
        .order_by(Plan.price_minor, Plan.code)
    )
    today = clock.today(current_isp().timezone)
    contract = offers.read_contract(db.session(), account_id, today)
    return Choices(
        [(row.code, row.name) for row in areas],
        [(plan.code, _with_areas(plan, names)) for plan in plans],
        [
            (each.plan.name, _areas(each.plan, names))
            for each in contract.in_use
            if not contract.is_for_pause(each)
        ],
    )


def _areas(plan: Any, names: dict[str, str]) -> str:
    return ", ".join(names.get(code, code) for code in plan.areas or ())


def _with_areas(plan: Plan, names: dict[str, str]) -> str:
    where = _areas(plan, names)
    return f"{plan.name} ({where})" if where else plan.name
