"""Whom a visitor means who types an account number, a phone number, an e-mail address or an ID.

The same questions are asked whoever is found, so that nothing tells whether anybody was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import ColumnElement, false, or_, select
from sqlalchemy.orm import Session

from blueprints.auth.choosing import fold
from core import clock
from core.isp import current_isp
from core.phones import default_country
from models import Account, Contact, ContactKind, Customer, Membership, Role

MOST = 8
"""Of so many who share a contact one is looked for; of more, the first ones."""


@dataclass(frozen=True, slots=True)
class Typed:
    """What was typed, as it is looked up. `text` is one form of it for all ways to type it: limits
    count by it."""

    text: str
    numbers: tuple[str, ...]
    email: str | None
    phone: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """Ids of the accounts or customers that are meant, and of the contacts that were typed.

    `account_ids`: of customers, the accounts by which they were found.
    """

    ids: list[int]
    contact_ids: list[int]
    account_ids: list[int] = field(default_factory=list)


def read(typed: str) -> Typed:
    """What was typed into the first page of a way in."""
    # Numbers of all countries take some megabytes: only processes that are asked hold them.
    from blueprints.staff.import_reader import Unreadable, read_email, read_phone

    typed = typed.strip()
    email = phone = None
    try:
        if "@" in typed:
            email = read_email(typed)
        else:
            phone = read_phone(typed, default_country(current_isp().timezone))
    except Unreadable:
        pass  # it may be a number or an ID
    compact = "".join(sign for sign in typed if sign not in " -")
    return Typed(email or phone or fold(compact), (typed, compact), email, phone)


def find_accounts(session: Session, typed: Typed) -> Found:
    """The accounts that are meant: by number, otherwise by a contact on file."""
    numbered = session.scalars(select(Account.id).where(Account.number.in_(typed.numbers))).all()
    contacts = session.execute(
        select(Contact.id, Contact.account_id)
        .where(_is_typed(typed), _counts(), Contact.account_id.is_not(None))
        .order_by(Contact.account_id)
        .limit(MOST)
    ).all()
    if numbered:
        return Found(list(numbered), [])
    return Found(_each([row.account_id for row in contacts]), [row.id for row in contacts])


def find_customers(session: Session, typed: Typed, *, by_id: bool = False) -> Found:
    """The customers who are meant: with `by_id` by the ID that they sign in with; otherwise the
    owner of an account by its number, or whose contact was typed."""
    key = typed.text if by_id else "?"  # no ID and no address has it
    named = session.execute(
        select(Customer.id, Customer.sign_in_key)
        .where(or_(Customer.sign_in_key == key, Customer.email_key == key))
        .limit(MOST)
    ).all()
    accounts = find_accounts(session, typed)
    owners = session.scalars(
        select(Membership.customer_id)
        .where(Membership.account_id.in_(accounts.ids), Membership.role == Role.OWNER.value)
        .limit(MOST)
    ).all()
    own = session.execute(
        select(Contact.id, Contact.customer_id)
        .where(_is_typed(typed), _counts(), Contact.customer_id.is_not(None))
        .limit(MOST)
    ).all()
    for row in named:
        if row.sign_in_key == key:
            return Found([row.id], [])
    found = [*(row.id for row in named), *owners, *(row.customer_id for row in own)]
    contact_ids = [*accounts.contact_ids, *(row.id for row in own)]
    return Found(_each(found)[:MOST], contact_ids, accounts.ids)


def _is_typed(typed: Typed) -> ColumnElement[bool]:
    kinds = ((ContactKind.EMAIL, typed.email), (ContactKind.PHONE, typed.phone))
    wanted = [(kind, value) for kind, value in kinds if value is not None]
    if not wanted:
        return false()
    [(kind, value)] = wanted
    return (Contact.kind == kind.value) & (Contact.value == value)


def _counts() -> ColumnElement[bool]:
    """A contact that was replaced counts for as long as it may still receive codes."""
    isp = current_isp()
    rested_on = clock.day_of(clock.now(), isp.timezone) - timedelta(days=isp.contact_rest_days)
    return or_(Contact.ended_on.is_(None), Contact.ended_on > rested_on)


def _each(ids: Sequence[int | None]) -> list[int]:
    return sorted({each for each in ids if each is not None})
