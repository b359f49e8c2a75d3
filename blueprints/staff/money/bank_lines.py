"""Bank transfers that nobody has matched yet, as staff read them. Each look is noted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, select

from blueprints.billing.bank_files import AGAIN
from core import data_access
from core.data_access import Reader
from core.db import db
from core.errors import NotFound
from core.money import Money
from models import Account, BankLine, BankLineState

LISTED = 100
LISTED_ASIDE = 20
_OPEN = BankLine.state.in_((BankLineState.PROPOSED.value, BankLineState.UNMATCHED.value))


@dataclass(frozen=True, slots=True)
class LineView:
    """A line that waits, or was put aside; `account_…` is the account that is proposed for it.
    `is_used_before`: the bank's reference of it was used for other money."""

    public_id: str
    booked_on: date
    amount: Money
    payer: str
    reference: str
    account_id: int | None
    account_public_id: str | None
    account_number: str | None
    account_name: str | None
    is_used_before: bool


_ASIDE = BankLine.state == BankLineState.IGNORED.value


def list_open(reader: Reader) -> list[LineView]:
    """Those that wait, the oldest first."""
    return _read(reader, _OPEN)


def list_aside(reader: Reader) -> list[LineView]:
    """Those that were put aside, the latest first: each can still be booked."""
    return _read(reader, _ASIDE, (BankLine.id.desc(),), LISTED_ASIDE)


def get_open(public_id: str, reader: Reader) -> LineView:
    """One of either. Raises NotFound, also when it was booked."""
    found = _read(reader, (_OPEN | _ASIDE) & (BankLine.public_id == public_id))
    if not found:
        raise NotFound
    return found[0]


def _read(
    reader: Reader,
    which: ColumnElement[bool],
    order: tuple[Any, ...] = (BankLine.booked_on, BankLine.id),
    most: int = LISTED,
) -> list[LineView]:
    rows = db.session.execute(
        select(
            BankLine.public_id,
            BankLine.key,
            BankLine.booked_on,
            BankLine.amount_minor,
            BankLine.currency,
            BankLine.payer,
            BankLine.reference,
            BankLine.account_id,
            Account.public_id.label("account_public_id"),
            Account.number,
            Account.name,
        )
        .outerjoin(Account, Account.id == BankLine.account_id)
        .where(which)
        .order_by(*order)
        .limit(most)
    ).all()
    account_ids = [row.account_id for row in rows if row.account_id is not None]
    data_access.note_list(reader, ("name", "number"), "unmatched payments", account_ids)
    return [
        LineView(
            row.public_id,
            row.booked_on,
            Money(row.amount_minor, row.currency),
            row.payer,
            row.reference,
            row.account_id,
            row.account_public_id,
            row.number,
            row.name,
            row.key.startswith(AGAIN),
        )
        for row in rows
    ]
