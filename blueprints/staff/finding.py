"""Finding an account while somebody is on the phone, and noting whose names were shown."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from core import data_access, search_terms
from core.data_access import Reader
from core.db import db
from models import Account, Contact, ContactKind, Line, LineHold

SHOWN = 15
FIELDS = ("name", "number", "place")


@dataclass(frozen=True, slots=True)
class Found:
    """One account in the list of results."""

    public_id: str
    number: str
    name: str
    place: str
    state: str


@dataclass(frozen=True, slots=True)
class Results:
    """What a search shows. `typed` is empty before anything was searched for."""

    typed: str
    rows: list[Found]
    has_more: bool


def search(typed: str, reader: Reader) -> Results:
    """The accounts that fit best to what was typed. Those shown are noted, once in an hour for the
    same reader, since each letter that is typed shows most of them again."""
    typed = " ".join(typed.split())[:200]
    session = db.session()
    hits = search_terms.find(session, typed, SHOWN)
    if not hits.account_ids:
        return Results(typed, [], has_more=False)
    rows = _rows(session, hits.account_ids)
    data_access.note_list(reader, FIELDS, data_access.SEARCH, hits.account_ids)
    return Results(typed, rows, hits.has_more)


def _rows(session: Session, account_ids: list[int]) -> list[Found]:
    is_held = (
        select(LineHold.id)
        .join(Line, Line.id == LineHold.line_id)
        .where(Line.account_id == Account.id, LineHold.released_at.is_(None))
        .exists()
    )
    first_place = (
        select(func.min(Contact.id))
        .where(
            Contact.account_id == Account.id,
            Contact.kind == ContactKind.POSTAL.value,
            Contact.ended_on.is_(None),
        )
        .correlate(Account)
        .scalar_subquery()
    )
    found = {
        row.id: Found(
            row.public_id,
            row.number,
            row.name,
            place_of(row.address),
            "held" if row.is_held and row.status == "active" else row.status,
        )
        for row in session.execute(
            select(
                Account.id,
                Account.public_id,
                Account.number,
                Account.name,
                Account.status,
                Contact.address,
                is_held.label("is_held"),
            )
            .outerjoin(Contact, Contact.id == first_place)
            .where(Account.id.in_(account_ids))
        )
    }
    return [found[account_id] for account_id in account_ids if account_id in found]


def place_of(address: dict[str, str] | None) -> str:
    """The town of an address, which is enough to tell namesakes apart."""
    return (address or {}).get("city", "")
