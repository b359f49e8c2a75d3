"""Whoever has lost every second factor and waits for staff (bar 20): one member makes sure who it
is, another approves. `blueprints/auth/losing_factors.py` decides; here it is listed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import aliased

from blueprints.auth.choosing import fold
from core import data_access
from core.data_access import Reader
from core.db import db
from core.errors import NotFound
from models import Account, Customer, FactorReset, Membership, ResetState, StaffMember

LISTED = 50
FIELDS = ("name", "sign-in ID")
PURPOSE = "lost factors"
_WAITING = (ResetState.ASKED.value, ResetState.PROOFED.value)


@dataclass(frozen=True, slots=True)
class ResetRow:
    """One who waits. `can_approve`: the member who asks is not the one who made sure."""

    public_id: str
    name: str
    sign_in_id: str
    is_staff: bool
    account_public_id: str | None
    account_number: str | None
    state: str
    asked_at: datetime
    how: str
    proofed_by: str | None
    can_approve: bool


def list_resets(reader: Reader) -> list[ResetRow]:
    """Those who wait, the oldest first, as the member who reads sees them. The look is noted."""
    return _list(reader)


def get_reset(public_id: str, reader: Reader) -> ResetRow:
    """One of them, noted as in the list. Raises NotFound."""
    found = _list(reader, FactorReset.public_id == public_id)
    if not found:
        raise NotFound
    return found[0]


def find_waiting(sign_in_id: str) -> str:
    """The public id under which the person with this ID waits. Raises NotFound."""
    found = db.session.scalar(
        select(FactorReset.public_id)
        .join(Customer, Customer.id == FactorReset.customer_id)
        .where(Customer.sign_in_key == fold(sign_in_id), FactorReset.state.in_(_WAITING))
    )
    if found is None:
        raise NotFound
    return found


def _list(reader: Reader, *which: ColumnElement[bool]) -> list[ResetRow]:
    prover = aliased(Customer)
    first_account = (
        select(func.min(Membership.account_id))
        .where(Membership.customer_id == Customer.id)
        .correlate(Customer)
        .scalar_subquery()
    )
    rows = db.session.execute(
        select(
            FactorReset.public_id,
            Customer.name,
            Customer.sign_in_id,
            StaffMember.customer_id.is_not(None).label("is_staff"),
            Account.public_id.label("account_public_id"),
            Account.number,
            FactorReset.state,
            FactorReset.asked_at,
            FactorReset.how,
            prover.name.label("proofed_by"),
            FactorReset.proofed_by_id,
            FactorReset.customer_id,
            Account.id.label("account_id"),
        )
        .join(Customer, Customer.id == FactorReset.customer_id)
        .outerjoin(StaffMember, StaffMember.customer_id == Customer.id)
        .outerjoin(Account, Account.id == first_account)
        .outerjoin(prover, prover.id == FactorReset.proofed_by_id)
        .where(FactorReset.state.in_(_WAITING), *which)
        .order_by(FactorReset.asked_at, FactorReset.id)
        .limit(LISTED)
    ).all()
    account_ids = [row.account_id for row in rows if row.account_id is not None]
    # The ISP's own people mostly have no account, and whoever has left theirs has none either.
    others = [row.customer_id for row in rows if row.account_id is None]
    data_access.note_list(reader, FIELDS, PURPOSE, account_ids, others)
    member_id = reader.customer_id
    return [
        ResetRow(
            row.public_id,
            row.name,
            row.sign_in_id,
            row.is_staff,
            row.account_public_id,
            row.number,
            row.state,
            row.asked_at,
            row.how,
            row.proofed_by,
            can_approve=row.proofed_by_id not in (None, member_id) and row.customer_id != member_id,
        )
        for row in rows
    ]
