"""The saved methods of a customer, as they are looked up and shown. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, not_, or_, select

from blueprints.billing import gateway_words
from blueprints.billing.methods import keeping
from blueprints.billing.methods.errors import MethodNotFound
from core import clock
from core.db import db
from core.isp import current_isp
from models import AutopayMandate, MethodState, PaymentMethod, PlannedPayment, PlannedState

SHOWN_FOR = timedelta(days=1)
"""How long a method that was not saved is listed."""
MOST_SAVED = 20
MOST_BEGUN_AN_HOUR = 6


@dataclass(frozen=True, slots=True)
class MethodRow:
    """A method as its customer sees it. `title` is the gateway's ("Visa ending 4242"), `name`
    their own. `is_moved`: another gateway keeps it, which the ISP has left."""

    public_id: str
    kind: str
    title: str
    name: str
    expires_on: date | None
    is_default: bool
    state: str
    failure: str
    created_at: datetime
    is_moved: bool
    is_expired: bool
    expires_soon: bool

    @property
    def label(self) -> str:
        return f"{self.name} ({self.title})" if self.name else self.title


_COLUMNS = (
    PaymentMethod.public_id,
    PaymentMethod.kind,
    PaymentMethod.title,
    PaymentMethod.name,
    PaymentMethod.expires_on,
    PaymentMethod.is_default,
    PaymentMethod.state,
    PaymentMethod.failure,
    PaymentMethod.created_at,
    PaymentMethod.gateway,
)


def list_methods(account_id: int, customer_id: int) -> list[MethodRow]:
    """What the customer has saved, the default first, then what is being saved or lately failed."""
    since = clock.now() - SHOWN_FOR
    rows = db.session.execute(
        select(*_COLUMNS)
        .where(
            PaymentMethod.account_id == account_id,
            PaymentMethod.customer_id == customer_id,
            or_(
                PaymentMethod.state == MethodState.USABLE.value,
                PaymentMethod.state.in_((MethodState.ADDING.value, MethodState.FAILED.value))
                & (PaymentMethod.created_at >= since),
            ),
        )
        .order_by(
            PaymentMethod.state != MethodState.USABLE.value,
            not_(keeping.is_kept()),
            PaymentMethod.is_default.desc(),
            PaymentMethod.id.desc(),
        )
        .limit(MOST_SAVED + MOST_BEGUN_AN_HOUR)
    )
    return [_row(row) for row in rows]


def list_chargeable(account_id: int, customer_id: int, gateway_name: str) -> list[MethodRow]:
    """The methods that the customer can pay with now, the default first."""
    rows = db.session.execute(
        select(*_COLUMNS)
        .where(
            PaymentMethod.account_id == account_id,
            PaymentMethod.customer_id == customer_id,
            PaymentMethod.gateway == gateway_name,
            PaymentMethod.state == MethodState.USABLE.value,
        )
        .order_by(PaymentMethod.is_default.desc(), PaymentMethod.id.desc())
    )
    return [method for row in rows if not (method := _row(row)).is_expired]


def get_method(account_id: int, customer_id: int, public_id: str) -> MethodRow:
    """A saved method of this customer. Raises MethodNotFound."""
    row = db.session.execute(
        select(*_COLUMNS).where(
            PaymentMethod.account_id == account_id,
            PaymentMethod.customer_id == customer_id,
            PaymentMethod.public_id == public_id,
            PaymentMethod.state == MethodState.USABLE.value,
        )
    ).one_or_none()
    if row is None:
        raise MethodNotFound
    return _row(row)


def _row(row: Row[*tuple[Any, ...]]) -> MethodRow:
    values = dict(row._mapping)
    is_moved = keeping.is_moved(values.pop("gateway"))
    values["title"] = gateway_words.translate(values["title"])
    isp = current_isp()
    today = clock.today(isp.timezone)
    expires_on = values["expires_on"]
    soon_on = today + timedelta(days=isp.billing_rules.expiring_days)
    is_expired = expires_on is not None and expires_on < today
    return MethodRow(
        **values,
        is_moved=is_moved,
        is_expired=is_expired,
        expires_soon=expires_on is not None and not is_expired and expires_on <= soon_on,
    )


@dataclass(frozen=True, slots=True)
class Used:
    """What ends when a method is removed."""

    has_autopay: bool
    planned: int


def find_use(account_id: int, public_id: str) -> Used:
    """Whether autopay and how many planned payments rest on the method."""
    method_id = (
        select(PaymentMethod.id)
        .where(PaymentMethod.account_id == account_id, PaymentMethod.public_id == public_id)
        .scalar_subquery()
    )
    row = db.session.execute(
        select(
            select(AutopayMandate.id)
            .where(AutopayMandate.method_id == method_id, AutopayMandate.ended_at.is_(None))
            .exists(),
            select(func.count(PlannedPayment.id))
            .where(
                PlannedPayment.method_id == method_id,
                PlannedPayment.state.in_((PlannedState.WAITING.value, PlannedState.ASKING.value)),
            )
            .scalar_subquery(),
        )
    ).one()
    return Used(bool(row[0]), int(row[1]))
