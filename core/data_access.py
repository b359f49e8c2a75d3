"""Notes of who read whose personal data: by staff, the API, or an export (bar 78).

Staff who look at an account leave a note each time. The account's people read in their activity
that it happened: once for each reader and hour, so that a page loaded again says nothing new.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, insert, select
from sqlalchemy.orm import Session

from core import activity, clock, revisions
from core.db import db, unit_of_work
from core.errors import NotFound
from models import Account, Customer, DataAccess

TOLD_EVERY = timedelta(hours=1)
ACCOUNT_PAGE = "account page"
SEARCH = "search"


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads. `name` stands in the note itself, so that it says who it was for good."""

    customer_id: int
    name: str


@dataclass(frozen=True, slots=True)
class Noted:
    """One note, as a person reads it."""

    read_at: datetime
    reader: str
    account_number: str | None
    customer_public_id: str | None
    fields: str
    purpose: str


def note(
    session: Session,
    reader: Reader,
    fields: Sequence[str],
    purpose: str,
    *,
    account_id: int | None = None,
    customer_id: int | None = None,
) -> None:
    """Note a read within the running unit of work."""
    note_many(session, reader, fields, purpose, [account_id], customer_id)


def note_many(
    session: Session,
    reader: Reader,
    fields: Sequence[str],
    purpose: str,
    account_ids: Sequence[int | None],
    customer_id: int | None = None,
) -> None:
    """The same for several accounts at once."""
    now = clock.now()
    rows = [
        {
            "reader_id": reader.customer_id,
            "reader": reader.name[:80],
            "account_id": account_id,
            "customer_id": customer_id,
            "fields": ", ".join(fields)[:200],
            "purpose": purpose[:200],
            "read_at": now,
        }
        for account_id in account_ids
    ]
    if rows:
        session.connection().execute(insert(DataAccess), rows)


def note_page(session: Session, reader: Reader, fields: Sequence[str], public_id: str) -> int:
    """Note that staff opened an account's page, and tell the account when nothing was told within
    the hour; the account's id. Raises NotFound."""
    told = (
        select(DataAccess.id)
        .where(
            DataAccess.account_id == Account.id,
            DataAccess.read_at > clock.now() - TOLD_EVERY,
            DataAccess.reader_id == reader.customer_id,
            DataAccess.purpose == ACCOUNT_PAGE,
        )
        .exists()
    )
    row = session.execute(
        select(Account.id, told.label("is_told")).where(Account.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise NotFound
    note(session, reader, fields, ACCOUNT_PAGE, account_id=row.id)
    if not row.is_told:
        activity.record(
            session,
            [activity.Event("staff_viewed", clock.now(), row.id, facts={"by": reader.name})],
        )
        revisions.raise_account(session, row.id)
    return int(row.id)


def note_list(
    reader: Reader,
    fields: Sequence[str],
    purpose: str,
    account_ids: Sequence[int],
    customer_ids: Sequence[int] = (),
) -> None:
    """Note that a list has shown these accounts, and these people who have none, in a unit of work
    of its own: once in an hour for the same reader and purpose, since lists are opened again and
    again."""
    shown: ColumnElement[bool] = DataAccess.account_id.in_(account_ids)
    if customer_ids:
        shown |= DataAccess.account_id.is_(None) & DataAccess.customer_id.in_(customer_ids)
    rows = db.session.execute(
        select(DataAccess.account_id, DataAccess.customer_id).where(
            shown,
            DataAccess.read_at > clock.now() - TOLD_EVERY,
            DataAccess.reader_id == reader.customer_id,
            DataAccess.purpose == purpose,
        )
    ).all()
    accounts = {row.account_id for row in rows}
    people = {row.customer_id for row in rows if row.account_id is None}
    unknown = [account_id for account_id in account_ids if account_id not in accounts]
    strangers = [customer_id for customer_id in customer_ids if customer_id not in people]

    def work(session: Session) -> None:
        note_many(session, reader, fields, purpose, unknown)
        for customer_id in strangers:
            note(session, reader, fields, purpose, customer_id=customer_id)

    if unknown or strangers:
        unit_of_work(work)


def list_noted(
    session: Session, from_at: datetime, to_at: datetime, account_number: str | None = None
) -> list[Noted]:
    """Whose data, which fields, when and by whom, from `from_at` until before `to_at`, of one
    account or of all, in one query."""
    asked = (
        select(
            DataAccess.read_at,
            DataAccess.reader,
            Account.number,
            Customer.public_id,
            DataAccess.fields,
            DataAccess.purpose,
        )
        .outerjoin(Account, Account.id == DataAccess.account_id)
        .outerjoin(Customer, Customer.id == DataAccess.customer_id)
        .where(DataAccess.read_at >= from_at, DataAccess.read_at < to_at)
        .order_by(DataAccess.read_at, DataAccess.id)
    )
    if account_number is not None:
        asked = asked.where(Account.number == account_number)
    return [Noted(*row) for row in session.execute(asked)]
