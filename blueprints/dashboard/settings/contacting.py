"""Changing how somebody is reached. A new contact counts once its code was entered; the contacts
before hear of it at once, without the new value (bar 21), and one that was replaced or removed
stays on file for a while (bar 17).

An owner changes the contacts of the account, everyone else their own.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.orm import Session

from blueprints.auth import reach
from blueprints.auth.choosing import fold
from blueprints.dashboard.settings.errors import (
    ChangeGone,
    ContactGone,
    ContactInUse,
    ContactOnFile,
    ContactUnreadable,
    LastContact,
    WrongCode,
)
from core import (
    activity,
    clock,
    codes,
    form_keys,
    ids,
    outbox,
    revisions,
    row_names,
    search_terms,
    throttle,
)
from core.codes import VALID
from core.db import db
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.outbox import Letter
from core.phones import default_country
from models import (
    Account,
    Channel,
    CodePurpose,
    Contact,
    ContactChange,
    ContactKind,
    Customer,
    Factor,
    Membership,
    Role,
)

PAGE = "/settings/contacts"
CHANNELS = {ContactKind.EMAIL.value: Channel.EMAIL, ContactKind.PHONE.value: Channel.TEXT}
KINDS = tuple(CHANNELS)


@dataclass(frozen=True, slots=True)
class ContactView:
    """`name` stands for the contact in addresses. Codes go to it from `codes_from_on` on, when that
    day is yet to come."""

    contact_id: int
    name: str
    kind: str
    value: str
    since_on: date
    codes_from_on: date | None


@dataclass(frozen=True, slots=True)
class PendingView:
    public_id: str
    kind: str
    value: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose contacts they are: an account's, or (without one) the customer's own."""

    account_id: int | None
    public_id: str
    number: str


@dataclass(frozen=True, slots=True)
class Book:
    """The contacts of one owner."""

    owner: Owner
    contacts: list[ContactView]
    pending: list[PendingView]

    @property
    def has_one_left(self) -> bool:
        """Whether there is but one e-mail address or phone number."""
        return sum(contact.kind in KINDS for contact in self.contacts) == 1


def read(kind: str, typed: str) -> str:
    """A typed e-mail address or phone number as it is stored. Raises ContactUnreadable."""
    # Numbers of all countries take some megabytes: only processes that are asked hold them.
    from blueprints.staff.import_reader import Unreadable, read_email, read_phone

    try:
        if kind == ContactKind.EMAIL.value:
            return read_email(typed.strip())
        return read_phone(typed.strip(), default_country(current_isp().timezone))
    except Unreadable:
        raise ContactUnreadable(kind) from None


# Reading ----------------------------------------------------------------------------------------


def list_owners(session: Session, customer_id: int) -> list[Owner]:
    """Whose contacts a customer changes: those of the accounts they own, or else their own."""
    rows = session.execute(
        select(Account.id, Account.public_id, Account.number)
        .join(Membership, Membership.account_id == Account.id)
        .where(Membership.customer_id == customer_id, Membership.role == Role.OWNER.value)
        .order_by(Account.number)
    ).all()
    return [Owner(*row) for row in rows] or [Owner(None, "", "")]


def list_books(customer_id: int, secret: bytes) -> list[Book]:
    """The contacts that a customer may change, and those that wait for their code, in three
    queries."""
    session = db.session()
    owners = list_owners(session, customer_id)
    account_ids = [owner.account_id for owner in owners if owner.account_id is not None]
    found = session.execute(
        select(
            Contact.id,
            Contact.account_id,
            Contact.kind,
            Contact.value,
            Contact.since_on,
            Account.opened_on,
            Customer.created_at,
        )
        .outerjoin(Account, Account.id == Contact.account_id)
        .outerjoin(Customer, Customer.id == Contact.customer_id)
        .where(_of(customer_id, account_ids), Contact.ended_on.is_(None))
        .order_by(Contact.kind, Contact.since_on, Contact.id)
    ).all()
    pending = session.execute(
        select(
            ContactChange.account_id,
            ContactChange.public_id,
            ContactChange.kind,
            ContactChange.value,
            ContactChange.expires_at,
        )
        .where(ContactChange.customer_id == customer_id, *_waiting())
        .order_by(ContactChange.id)
    ).all()
    isp = current_isp()
    today = clock.today(isp.timezone)

    def codes_from_on(row: Any) -> date | None:
        rested_on = reach.codes_from_on(row, isp)
        return None if rested_on <= today else rested_on

    return [
        Book(
            owner,
            [
                ContactView(
                    row.id,
                    row_names.of(secret, "contact", row.id),
                    row.kind,
                    row.value,
                    row.since_on,
                    codes_from_on(row),
                )
                for row in found
                if row.account_id == owner.account_id
            ],
            [PendingView(*row[1:]) for row in pending if row.account_id == owner.account_id],
        )
        for owner in owners
    ]


def _of(customer_id: int, account_ids: list[int]) -> ColumnElement[bool]:
    if account_ids:
        return Contact.account_id.in_(account_ids)
    return Contact.customer_id == customer_id


def _waiting() -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return ContactChange.ended_at.is_(None), ContactChange.expires_at > clock.now()


def get_contact(customer_id: int, name: str, secret: bytes) -> tuple[Book, ContactView]:
    """One e-mail address or phone number that the customer may change, with the others of its
    owner. Raises ContactGone."""
    for book in list_books(customer_id, secret):
        for contact in book.contacts:
            if hmac.compare_digest(contact.name.encode(), name.encode()) and contact.kind in KINDS:
                return book, contact
    raise ContactGone


def get_pending(customer_id: int, public_id: str) -> PendingView:
    """A new contact of the customer that waits for its code. Raises ChangeGone."""
    row = db.session.execute(
        select(
            ContactChange.public_id,
            ContactChange.kind,
            ContactChange.value,
            ContactChange.expires_at,
        ).where(
            ContactChange.customer_id == customer_id,
            ContactChange.public_id == public_id,
            *_waiting(),
        )
    ).one_or_none()
    if row is None:
        raise ChangeGone
    return PendingView(*row)


# Adding and replacing ---------------------------------------------------------------------------


def ask(
    customer_id: int,
    owner: Owner,
    kind: str,
    typed: str,
    key: ArrivedKey,
    secret: bytes,
    *,
    replaces_id: int | None = None,
) -> str:
    """Send a code to a new contact; the path of the page on which it is entered.

    Raises ContactUnreadable, ContactOnFile, ContactInUse, TooManyAttempts.
    """
    value = read(kind, typed)

    def work(session: Session) -> str:
        _check_owner(session, customer_id, owner)
        on_file = session.scalar(
            select(Contact.id).where(
                _is_of(owner, customer_id),
                Contact.kind == kind,
                Contact.value == value,
                Contact.ended_on.is_(None),
            )
        )
        if on_file is not None:
            raise ContactOnFile
        if replaces_id is not None:
            _check_unused(session, replaces_id)
        sendings = codes.sendings_to(secret, customer_id=customer_id)
        throttle.count_within(session, sendings, throttle.SENDINGS)
        now = clock.now()
        change = ContactChange(
            public_id=ids.public_id(),
            customer_id=customer_id,
            account_id=owner.account_id,
            kind=kind,
            value=value,
            replaces_id=replaces_id,
            asked_at=now,
            expires_at=now + VALID[CHANNELS[kind]],
        )
        session.add(change)
        session.flush()
        _send_code(session, change, secret)
        _note(session, customer_id, owner.account_id, "contact_change_asked")
        return f"{PAGE}/changes/{change.public_id}"

    return form_keys.once(key, work, *_locks(owner))


def send_again(customer_id: int, public_id: str, key: ArrivedKey, secret: bytes) -> str:
    """Send another code; the one before ends. Raises ChangeGone, TooManyAttempts."""

    def work(session: Session) -> str:
        change = _lock_change(session, customer_id, public_id)
        sendings = codes.sendings_to(secret, customer_id=customer_id)
        throttle.count_within(session, sendings, throttle.SENDINGS)
        change.expires_at = clock.now() + VALID[CHANNELS[change.kind]]
        _send_code(session, change, secret)
        return f"{PAGE}/changes/{public_id}?done=sent"

    return form_keys.once(key, work)


def withdraw(customer_id: int, public_id: str, key: ArrivedKey) -> str:
    """Take a new contact back before its code was entered. Raises ChangeGone."""

    def work(session: Session) -> str:
        change = _lock_change(session, customer_id, public_id)
        change.ended_at = clock.now()
        codes.end_all(session, _bound_to(change))
        return f"{PAGE}?done=withdrawn"

    return form_keys.once(key, work)


def enter_code(customer_id: int, public_id: str, typed: str, key: ArrivedKey, secret: bytes) -> str:
    """Let a new contact count; the one it replaces ends. The path that shows it.

    Raises WrongCode, ChangeGone, TooManyAttempts.
    """
    result = find_result(key)
    if result is not None:
        return result
    guesses = codes.guesses_at(secret, customer_id=customer_id)
    attempt = throttle.begin_within(guesses, throttle.CODES)

    def work(session: Session) -> str:
        change = _lock_change(session, customer_id, public_id)
        if codes.use(session, secret, CodePurpose.CONTACT, _bound_to(change), typed) is None:
            raise WrongCode
        owner = Owner(change.account_id, "", "")
        _check_owner(session, customer_id, owner)
        contact_id = _put_on_file(session, customer_id, change)
        change.ended_at = clock.now()
        gone = None
        if change.replaces_id is not None:
            gone = _end(session, customer_id, owner, change.replaces_id)
        event = "contact_added" if gone is None else "contact_replaced"
        session.flush()
        if change.kind == ContactKind.EMAIL.value:
            _follow_sign_in_email(session, customer_id, owner, gone=gone, new=change.value)
        _note(session, customer_id, change.account_id, event, but=contact_id)
        return f"{PAGE}?done={event.removeprefix('contact_')}"

    account_id = db.session.scalar(
        select(ContactChange.account_id).where(ContactChange.public_id == public_id)
    )
    path = form_keys.once(key, work, *([account_id] if account_id is not None else []))
    throttle.end(attempt, has_passed=True)
    return path


def remove(customer_id: int, owner: Owner, contact_id: int, key: ArrivedKey) -> str:
    """Take a contact off; the path that shows it. Raises LastContact, ContactInUse, ContactGone."""

    def work(session: Session) -> str:
        _check_owner(session, customer_id, owner)
        _check_unused(session, contact_id)
        left = session.scalar(
            select(func.count(Contact.id)).where(
                _is_of(owner, customer_id),
                Contact.kind.in_(KINDS),
                Contact.ended_on.is_(None),
                Contact.id != contact_id,
            )
        )
        if not left:
            raise LastContact
        gone = _end(session, customer_id, owner, contact_id)
        if gone is None:
            raise ContactGone
        session.flush()
        if "@" in gone:
            _follow_sign_in_email(session, customer_id, owner, gone=gone, new=None)
        _note(session, customer_id, owner.account_id, "contact_removed")
        return f"{PAGE}?done=removed"

    return form_keys.once(key, work, *_locks(owner))


def ask_for_address(customer_id: int, account_id: int | None, text: str, key: ArrivedKey) -> str:
    """Ask the ISP to change the postal address: staff read it in what happened, and by e-mail."""

    def work(session: Session) -> str:
        event = activity.Event(
            "address_change_asked",
            clock.now(),
            account_id=account_id,
            customer_id=customer_id,
            facts={"text": text},
        )
        activity.record(session, [event])
        isp = current_isp()
        if isp.support_email:
            number = session.scalar(select(Account.number).where(Account.id == account_id))
            sign_in_id = session.scalar(
                select(Customer.sign_in_id).where(Customer.id == customer_id)
            )
            facts = {"text": text, "account_number": number or "", "sign_in_id": sign_in_id}
            letter = Letter(
                "address_change",
                isp.support_email,
                isp.language,
                account_id=account_id,
                customer_id=customer_id,
                facts=facts,
            )
            outbox.queue(session, [letter])
        reach.announce(session, customer_id, "address_change_asked", account_id=account_id)
        _outdate(session, customer_id, account_id)
        return f"{PAGE}?done=address"

    return form_keys.once(key, work, *([account_id] if account_id is not None else []))


def find_result(key: ArrivedKey) -> str | None:
    """Where the thing stands that an earlier arrival of the form began."""
    return form_keys.find_result(db.session(), key)


# Within a unit of work --------------------------------------------------------------------------


def _locks(owner: Owner) -> list[int]:
    return [owner.account_id] if owner.account_id is not None else []


def _is_of(owner: Owner, customer_id: int) -> ColumnElement[bool]:
    if owner.account_id is not None:
        return Contact.account_id == owner.account_id
    return Contact.customer_id == customer_id


def _check_owner(session: Session, customer_id: int, owner: Owner) -> None:
    """Raises ContactGone for whoever has lost the account meanwhile."""
    allowed = {each.account_id for each in list_owners(session, customer_id)}
    if owner.account_id not in allowed:
        raise ContactGone


def _check_unused(session: Session, contact_id: int) -> None:
    used = session.scalar(
        select(Factor.id).where(Factor.contact_id == contact_id, Factor.confirmed_at.is_not(None))
    )
    if used is not None:
        raise ContactInUse


def _lock_change(session: Session, customer_id: int, public_id: str) -> ContactChange:
    change = session.execute(
        select(ContactChange)
        .where(
            ContactChange.customer_id == customer_id,
            ContactChange.public_id == public_id,
            *_waiting(),
        )
        .with_for_update()
    ).scalar_one_or_none()
    if change is None:
        raise ChangeGone
    return change


def _bound_to(change: ContactChange) -> str:
    return f"contact-change:{change.id}"


def _send_code(session: Session, change: ContactChange, secret: bytes) -> None:
    channel = CHANNELS[change.kind]
    code = codes.make(session, secret, CodePurpose.CONTACT, _bound_to(change), channel, None)
    language = session.scalar(select(Customer.language).where(Customer.id == change.customer_id))
    outbox.queue(
        session,
        [
            Letter(
                "contact_code",
                change.value,
                language or "en",
                account_id=change.account_id,
                customer_id=change.customer_id,
                channel=channel.value,
                secrets={"code": code},
                useless_at=change.expires_at,
            )
        ],
    )


def _put_on_file(session: Session, customer_id: int, change: ContactChange) -> int:
    """The contact's row. One that ended lately keeps the day since when it is known: it could still
    receive codes, and must not lose that by being removed and added."""
    isp = current_isp()
    today = clock.today(isp.timezone)
    owner = Owner(change.account_id, "", "")
    former = session.execute(
        select(Contact).where(
            _is_of(owner, customer_id), Contact.kind == change.kind, Contact.value == change.value
        )
    ).scalar_one_or_none()
    if former is not None:
        rest = timedelta(days=isp.contact_rest_days)
        if former.ended_on is not None and former.ended_on <= today - rest:
            former.since_on = today
        former.ended_on = None
        return former.id
    contact = Contact(
        account_id=change.account_id,
        customer_id=customer_id if change.account_id is None else None,
        kind=change.kind,
        value=change.value,
        since_on=today,
    )
    session.add(contact)
    session.flush()
    return contact.id


def _end(session: Session, customer_id: int, owner: Owner, contact_id: int) -> str | None:
    """End a contact; its value, or None when there is no such one any more."""
    return session.scalar(
        update(Contact)
        .where(Contact.id == contact_id, _is_of(owner, customer_id), Contact.ended_on.is_(None))
        .values(ended_on=clock.today(current_isp().timezone))
        .returning(Contact.value)
    )


def _follow_sign_in_email(
    session: Session, customer_id: int, owner: Owner, *, gone: str | None, new: str | None
) -> None:
    """Whichever owner of the account signed in by an e-mail address that is gone does so by the new
    one, or by the oldest that is left; so does the customer who signed in by none so far. Never by
    one that somebody else signs in with."""
    if gone is not None and owner.account_id is not None:
        former = session.scalar(
            select(Customer.id)
            .join(Membership, Membership.customer_id == Customer.id)
            .where(
                Membership.account_id == owner.account_id,
                Membership.role == Role.OWNER.value,
                Customer.id != customer_id,
                Customer.email_key == fold(gone),
            )
        )
        if former is not None:
            _follow(session, former, gone, new)
            revisions.raise_customer(session, former)
    _follow(session, customer_id, gone, new)


def _follow(session: Session, customer_id: int, gone: str | None, new: str | None) -> None:
    customer = session.get_one(Customer, customer_id, populate_existing=True)
    if customer.email_key is not None and (gone is None or customer.email_key != fold(gone)):
        return
    values = [
        fold(each.value)
        for each in reach.of_customer(session, customer_id)
        if each.channel is Channel.EMAIL and each.is_current
    ]
    wanted = [fold(new), *values] if new is not None else values
    taken = session.execute(
        select(Customer.email_key, Customer.sign_in_key).where(
            Customer.id != customer_id,
            or_(Customer.email_key.in_(wanted), Customer.sign_in_key.in_(wanted)),
        )
    )
    others = {key for row in taken for key in row}
    customer.email_key = next((value for value in wanted if value not in others), None)
    session.flush()


def _note(
    session: Session, customer_id: int, account_id: int | None, kind: str, *, but: int | None = None
) -> None:
    event = activity.Event(kind, clock.now(), account_id=account_id, customer_id=customer_id)
    activity.record(session, [event])
    if account_id is not None:
        search_terms.refresh(session, [account_id])
    else:
        search_terms.refresh_of_customer(session, customer_id)
    told_not = [but] if but is not None else []
    reach.announce(session, customer_id, kind, account_id=account_id, but=told_not)
    _outdate(session, customer_id, account_id)


def _outdate(session: Session, customer_id: int, account_id: int | None) -> None:
    revisions.raise_customer(session, customer_id)
    if account_id is not None:
        revisions.raise_account(session, account_id)
