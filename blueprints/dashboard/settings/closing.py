"""Closing one's online account. The contract stays with the ISP and can be registered again; books
and invoices stay as they are; what tells of the person goes (bar 79)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import and_, delete, or_, select, update
from sqlalchemy.orm import Session

from blueprints.auth import reach, recovering
from blueprints.billing.methods import removing as methods
from blueprints.dashboard.settings.errors import StaffCannotClose
from core import (
    activity,
    clock,
    erasures,
    form_keys,
    privacy,
    revisions,
    search_terms,
    sessions,
    throttle,
)
from core.activity import ABOUT_MONEY
from core.db import db
from core.form_keys import ArrivedKey
from models import (
    Activity,
    Contact,
    ContactChange,
    Customer,
    Device,
    Factor,
    FactorReset,
    Invitation,
    Isp,
    Membership,
    Message,
    MessageChoice,
    MessageState,
    RecoveryCode,
    SignInAttempt,
    SignInSession,
    StaffMember,
)

DONE = "/sign-in?done=closed"
EVENT = "online_account_closed"


def close(customer_id: int, key: ArrivedKey, secret: bytes, lists: Sequence[Path]) -> str:
    """End the customer's sign-in for good and tell the contacts; where to go on. That it was done
    is listed in one of the folders `lists`, for a restore.

    Raises StaffCannotClose, ErasureNotNoted.
    """
    public_id, locked_ids = _find(db.session(), customer_id)
    # Before anything is listed: a refusal would look like an erasure whose end nobody knows.
    _refuse_staff(db.session(), customer_id)

    def work(session: Session) -> str:
        _refuse_staff(session, customer_id)
        _public_id, account_ids = _find(session, customer_id)
        _announce(session, customer_id, account_ids)
        _erase(session, customer_id, account_ids, secret)
        return DONE

    with erasures.noted(lists, public_id):
        return form_keys.once(key, work, *locked_ids)


def close_again(session: Session, public_ids: Sequence[str], secret: bytes) -> int:
    """Erase those of `public_ids` whom a restored database knows as they were before; how many.
    Their contacts were told at the time, and nothing that waited then is sent to them again."""
    found = session.execute(
        select(Customer.id, Customer.public_id, Customer.sign_in_id).where(
            Customer.public_id.in_(public_ids)
        )
    ).all()
    living = [row.id for row in found if row.sign_in_id != erasures.pseudonym(row.public_id)]
    for customer_id in living:
        session.execute(
            update(Message)
            .where(Message.customer_id == customer_id, Message.try_at.is_not(None))
            .values(state=MessageState.FAILED.value, try_at=None, claimed_until_at=None)
        )
        _public_id, account_ids = _find(session, customer_id)
        _erase(session, customer_id, account_ids, secret)
    return len(living)


def _refuse_staff(session: Session, customer_id: int) -> None:
    is_staff = session.scalar(
        select(StaffMember.customer_id).where(
            StaffMember.customer_id == customer_id, StaffMember.is_disabled.is_(False)
        )
    )
    if is_staff is not None:
        raise StaffCannotClose


def _find(session: Session, customer_id: int) -> tuple[str, list[int]]:
    """The public id of a customer, and their accounts."""
    public_id = session.execute(
        select(Customer.public_id).where(Customer.id == customer_id)
    ).scalar_one()
    account_ids = session.scalars(
        select(Membership.account_id).where(Membership.customer_id == customer_id)
    )
    return public_id, list(account_ids)


def _announce(session: Session, customer_id: int, account_ids: Sequence[int]) -> None:
    """While the contacts still can be found."""
    told: list[int] = []
    for account_id in account_ids:
        reach.announce_to_account(session, account_id, EVENT)
        told += [each.contact_id for each in reach.of_account(session, account_id)]
    reach.announce(session, customer_id, EVENT, but=told)


def _erase(session: Session, customer_id: int, account_ids: Sequence[int], secret: bytes) -> None:
    now = clock.now()
    events = [activity.Event(EVENT, now, customer_id=customer_id)]
    for account_id in account_ids:
        revisions.raise_account(session, account_id)
        events.append(activity.Event(EVENT, now, account_id=account_id))
    activity.record(session, events)
    methods.remove_all(session, account_ids, customer_id)
    sessions.end_all_of(session, customer_id)
    recovering.end_ways_in(session, customer_id)
    _delete(session, customer_id)
    _pseudonymise(session, customer_id, secret)
    search_terms.refresh(session, account_ids)


def _delete(session: Session, customer_id: int) -> None:
    now = clock.now()
    for table in (Membership, MessageChoice, Factor, RecoveryCode, Device, ContactChange):
        session.execute(delete(table).where(table.customer_id == customer_id))
    session.execute(
        update(Invitation)
        .where(Invitation.invited_by_id == customer_id, Invitation.ended_at.is_(None))
        .values(ended_at=now)
    )
    session.execute(
        update(FactorReset).where(FactorReset.customer_id == customer_id).values(how="")
    )
    # A restored database may know one who was a member of staff then.
    session.execute(
        update(StaffMember).where(StaffMember.customer_id == customer_id).values(is_disabled=True)
    )
    session.execute(
        update(SignInSession)
        .where(SignInSession.customer_id == customer_id)
        .values(address="", user_agent="")
    )


def _pseudonymise(session: Session, customer_id: int, secret: bytes) -> None:
    customer = session.get_one(Customer, customer_id, populate_existing=True)
    names = [name for name in (customer.sign_in_key, customer.email_key) if name is not None]
    subjects = [throttle.subject_of(secret, name) for name in names]
    session.execute(delete(SignInAttempt).where(SignInAttempt.subject.in_(subjects)))
    pseudonym = erasures.pseudonym(customer.public_id)
    customer.sign_in_id = customer.sign_in_key = pseudonym
    customer.email_key = customer.timezone = None
    customer.name = pseudonym
    customer.password_hash = ""
    customer.is_disabled = True
    customer.session_generation += 1
    customer.revision += 1
    # Other rows name contacts, so they stay, empty; the announcements have copies of their own.
    today = clock.today(session.execute(select(Isp.timezone)).scalar_one())
    for contact in session.scalars(select(Contact).where(Contact.customer_id == customer_id)):
        contact.value, contact.address = f"erased-{contact.id}", None
        contact.ended_on = contact.ended_on or today
    _empty_messages(session, customer_id)
    session.execute(
        update(Invitation).where(Invitation.accepted_by_id == customer_id).values(value=pseudonym)
    )
    told = session.scalars(
        select(Activity.id).where(
            Activity.customer_id == customer_id, Activity.kind.not_in(ABOUT_MONEY)
        )
    ).all()
    activity.erase(session, told)


def _empty_messages(session: Session, customer_id: int) -> None:
    """Those that are over; what still waits is emptied by the worker when it has gone
    (`privacy.empty_messages_of_erased`)."""
    which = [Message.customer_id == customer_id]
    accepted = session.execute(
        select(Invitation.account_id, Invitation.value).where(
            Invitation.accepted_by_id == customer_id
        )
    )
    which += [  # to this customer, though about whoever invited them
        and_(
            Message.account_id == account_id,
            Message.kind == "invitation",
            Message.recipient == value,
        )
        for account_id, value in accepted
    ]
    session.execute(
        update(Message).where(or_(*which), Message.try_at.is_(None)).values(**privacy.EMPTY_MESSAGE)
    )
