"""Security and money events as their customer reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, or_, select, true

from blueprints.dashboard.activity.errors import EventGone
from blueprints.dashboard.settings import user_agents
from core.activity import ABOUT_MONEY, OF_ALL
from core.db import db
from core.money import Money
from core.policy import SEES_MONEY
from models import Account, Activity, Membership, Role

PER_PAGE = 20
SIGN_IN = (
    "signed_in",
    "signed_out",
    "session_ended",
    "other_sessions_ended",
    "device_distrusted",
    "recovery_started",
    "password_reset",
    "recovery_code_used",
    "password_disabled",
)
STAFF = ("letter_printed", "invited", "caller_code_sent", "caller_verified")
GROUPS = ("all", "money", "sign-in", "changes", "staff")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class EventRow:
    """One event. `stamp` stands for it in addresses and is empty where nobody can say that it was
    not them: money, and what happened to an account without them."""

    kind: str
    amount: Money | None
    happened_at: datetime
    account_number: str
    browser: str
    system: str
    address: str
    facts: Mapping[str, Any]
    stamp: str


@dataclass(frozen=True, slots=True)
class ActivityPage:
    events: list[EventRow]
    group: str
    page: int
    page_count: int


def list_events(customer_id: int, group: str, page: int) -> ActivityPage:
    """One page of what happened to a customer and to the accounts they may use, newest first: of
    money only where their role may see it, of contacts and people where they are the owner. Three
    queries."""
    roles = db.session.execute(
        select(Membership.account_id, Membership.role).where(Membership.customer_id == customer_id)
    ).all()
    seen = [row.account_id for row in roles]
    money = [row.account_id for row in roles if Role(row.role) in SEES_MONEY]
    owned = [row.account_id for row in roles if row.role == Role.OWNER]
    is_money = Activity.kind.in_(ABOUT_MONEY)
    wanted = and_(
        # What the rest follows from says too little for an index.
        or_(Activity.customer_id == customer_id, Activity.account_id.in_(seen)),
        or_(
            and_(is_money, Activity.account_id.in_(money)),
            and_(
                ~is_money,
                or_(
                    Activity.customer_id == customer_id,
                    Activity.account_id.in_(owned),
                    and_(Activity.account_id.in_(seen), Activity.kind.in_(OF_ALL)),
                ),
            ),
        ),
        _in_group(group),
    )
    count = db.session.scalar(select(func.count(Activity.id)).where(wanted)) or 0
    page_count = max(1, -(-count // PER_PAGE))
    page = min(page, page_count)
    rows = db.session.execute(
        select(
            Activity.kind,
            Activity.facts,
            Activity.happened_at,
            Activity.customer_id,
            Account.number,
        )
        .outerjoin(Account, Account.id == Activity.account_id)
        .where(wanted)
        .order_by(Activity.happened_at.desc(), Activity.id.desc())
        .limit(PER_PAGE)
        .offset((page - 1) * PER_PAGE)
    ).all()
    return ActivityPage([_view(row, customer_id) for row in rows], group, page, page_count)


def _in_group(group: str) -> ColumnElement[bool]:
    is_staff = or_(Activity.kind.startswith("staff_", autoescape=True), Activity.kind.in_(STAFF))
    is_money = Activity.kind.in_((*ABOUT_MONEY, "line_held", "line_released"))
    is_sign_in = Activity.kind.in_(SIGN_IN)
    known = {
        "all": true(),
        "money": is_money,
        "sign-in": is_sign_in,
        "staff": is_staff,
        "changes": ~or_(is_staff, is_money, is_sign_in),
    }
    return known.get(group, false())


def _view(row: Any, customer_id: int) -> EventRow:
    facts = row.facts or {}
    browser, system = user_agents.read(str(facts.get("user_agent", "")))
    is_own = row.customer_id == customer_id and row.kind not in ABOUT_MONEY
    return EventRow(
        row.kind,
        Money(facts["amount_minor"], facts["currency"]) if "amount_minor" in facts else None,
        row.happened_at,
        row.number or "",
        browser,
        system,
        str(facts.get("address", "")) if row.kind == "signed_in" else "",
        facts,
        stamp_of(row.happened_at) if is_own else "",
    )


def stamp_of(instant: datetime) -> str:
    """An instant as it stands in an address: microseconds since 1970."""
    return str((instant - _EPOCH) // timedelta(microseconds=1))


def get_event(customer_id: int, stamp: str) -> EventRow:
    """A customer's own security event. Raises EventGone."""
    if not stamp.isascii() or not stamp.isdigit() or len(stamp) > 17:
        raise EventGone
    row = db.session.execute(
        select(
            Activity.kind,
            Activity.facts,
            Activity.happened_at,
            Activity.customer_id,
            Account.number,
        )
        .outerjoin(Account, Account.id == Activity.account_id)
        .where(
            Activity.customer_id == customer_id,
            Activity.happened_at == _EPOCH + timedelta(microseconds=int(stamp)),
            Activity.kind.not_in(ABOUT_MONEY),
        )
        .order_by(Activity.id.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        raise EventGone
    return _view(row, customer_id)
