"""Letters with a registration code, which staff print and post as the last resort.

The code is made at the moment of printing and shown on that page alone. Printed again, it is
another code and the earlier one is dead. It works only in the browser that asked for it, so the
letter is of no use to whoever else opens it, staff included.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core import activity, clock, codes, data_access, revisions
from core.data_access import Reader
from core.db import db, unit_of_work
from core.errors import NotFound
from core.isp import current_isp
from models import Account, Channel, CodePurpose, Contact, Customer, Flow, PostalLetter

LISTED = 50


@dataclass(frozen=True, slots=True)
class LetterRow:
    """A letter that waits, or that was printed and not used yet."""

    public_id: str
    account_number: str
    account_name: str
    asked_at: datetime
    printed_at: datetime | None
    printed_by: str | None


@dataclass(frozen=True, slots=True)
class PrintedLetter:
    """All that stands in a letter."""

    name: str
    address: list[str]
    account_number: str
    code: str = field(repr=False)
    language: str
    valid_until: date
    printed_on: date


def list_letters(reader: Reader) -> list[LetterRow]:
    """Those that wait first, then those that were printed, the oldest first. The look is noted."""
    rows = db.session.execute(
        select(
            PostalLetter.public_id,
            Account.number,
            Account.name,
            PostalLetter.asked_at,
            PostalLetter.printed_at,
            Customer.name,
            Account.id,
        )
        .join(Account, Account.id == PostalLetter.account_id)
        .join(Flow, Flow.id == PostalLetter.flow_id)
        .outerjoin(Customer, Customer.id == PostalLetter.printed_by_id)
        .where(
            PostalLetter.ended_at.is_(None), Flow.ended_at.is_(None), Flow.expires_at > clock.now()
        )
        .order_by(PostalLetter.printed_at.is_not(None), PostalLetter.asked_at, PostalLetter.id)
        .limit(LISTED)
    ).all()
    data_access.note_list(reader, ("name", "number"), "letters", [row[-1] for row in rows])
    return [LetterRow(*row[:-1]) for row in rows]


def print_letter(public_id: str, reader: Reader, secret: bytes) -> PrintedLetter:
    """Make the letter's code and return the letter; an earlier code of it is dead.

    Pressed again because the answer was lost, it makes another code. Raises NotFound when the
    letter is not wanted any more.
    """

    def work(session: Session) -> PrintedLetter:
        now = clock.now()
        row = session.execute(
            select(
                PostalLetter.id,
                PostalLetter.flow_id,
                PostalLetter.contact_id,
                Account.id.label("account_id"),
                Account.number,
                Account.name,
                Account.language,
                Contact.address,
                Contact.value,
            )
            .join(Account, Account.id == PostalLetter.account_id)
            .join(Flow, Flow.id == PostalLetter.flow_id)
            .join(Contact, Contact.id == PostalLetter.contact_id)
            .where(
                PostalLetter.public_id == public_id,
                PostalLetter.ended_at.is_(None),
                Flow.ended_at.is_(None),
                Flow.expires_at > now,
            )
            .with_for_update(of=PostalLetter)
        ).one_or_none()
        if row is None:
            raise NotFound
        code = codes.make(
            session,
            secret,
            CodePurpose.REGISTER,
            f"flow:{row.flow_id}",
            Channel.POST,
            row.contact_id,
        )
        session.execute(
            update(PostalLetter)
            .where(PostalLetter.id == row.id)
            .values(printed_at=now, printed_by_id=reader.customer_id)
        )
        data_access.note(
            session, reader, ("name", "number", "address"), "letter", account_id=row.account_id
        )
        activity.record(session, [activity.Event("letter_printed", now, row.account_id)])
        revisions.raise_account(session, row.account_id)
        zone = current_isp().timezone
        return PrintedLetter(
            row.name,
            address_lines(row.address, row.value),
            row.number,
            code,
            row.language,
            clock.day_of(now + codes.VALID[Channel.POST], zone),
            clock.day_of(now, zone),
        )

    return unit_of_work(work)


def address_lines(address: dict[str, str] | None, value: str) -> list[str]:
    """An address as it stands on an envelope."""
    if not address:
        return [part.strip() for part in value.split(",")]
    town = " ".join(address[name] for name in ("city", "region", "postcode") if address.get(name))
    return [
        *address.get("street", "").splitlines(),
        town,
        *([address["country"]] if address.get("country") else []),
    ]
