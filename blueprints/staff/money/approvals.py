"""Credits above the limit, which wait for a second member of staff."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, select

from core import data_access
from core.data_access import Reader
from core.db import db
from core.errors import NotFound
from core.money import Money
from models import Account, Adjustment, AdjustmentState, Customer, Invoice

LISTED = 50


@dataclass(frozen=True, slots=True)
class Waiting:
    """A credit that waits. `can_approve`: the reader is not the one who asked for it."""

    public_id: str
    account_public_id: str
    account_number: str
    account_name: str
    amount: Money
    reason: str
    invoice_number: str | None
    asked_by: str
    asked_at: datetime
    can_approve: bool


def list_waiting(reader: Reader) -> list[Waiting]:
    """Those that wait, the oldest first. The look is noted."""
    return _read(reader, Adjustment.state == AdjustmentState.ASKED.value)


def get_waiting(public_id: str, reader: Reader) -> Waiting:
    """One of them; the look is noted. Raises NotFound, also when it was decided."""
    found = _read(
        reader,
        and_(Adjustment.state == AdjustmentState.ASKED.value, Adjustment.public_id == public_id),
    )
    if not found:
        raise NotFound
    return found[0]


def _read(reader: Reader, which: ColumnElement[bool]) -> list[Waiting]:
    rows = db.session.execute(
        select(
            Adjustment.public_id,
            Adjustment.amount_minor,
            Adjustment.reason,
            Adjustment.asked_by_id,
            Adjustment.created_at,
            Account.id,
            Account.public_id.label("account_public_id"),
            Account.number.label("account_number"),
            Account.name.label("account_name"),
            Account.currency,
            Invoice.number.label("invoice_number"),
            Customer.name.label("asked_by"),
        )
        .join(Account, Account.id == Adjustment.account_id)
        .outerjoin(Invoice, Invoice.id == Adjustment.invoice_id)
        .outerjoin(Customer, Customer.id == Adjustment.asked_by_id)
        .where(which)
        .order_by(Adjustment.created_at, Adjustment.id)
        .limit(LISTED)
    ).all()
    data_access.note_list(reader, ("name", "number"), "approvals", [row.id for row in rows])
    return [
        Waiting(
            row.public_id,
            row.account_public_id,
            row.account_number,
            row.account_name,
            Money(row.amount_minor, row.currency),
            row.reason,
            row.invoice_number,
            row.asked_by or "",
            row.created_at,
            row.asked_by_id != reader.customer_id,
        )
        for row in rows
    ]
