"""Closing one's online account. The contract stays with the ISP and can be registered again; books
and invoices stay as they are; what tells of the person goes (bar 79)."""

from __future__ import annotations

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from blueprints.auth import reach, recovering
from blueprints.dashboard.settings.errors import StaffCannotClose
from core import activity, clock, form_keys, revisions, search_terms, sessions, throttle
from core.activity import ABOUT_MONEY
from core.db import db
from core.form_keys import ArrivedKey
from core.isp import current_isp
from models import (
    Activity,
    Contact,
    ContactChange,
    Customer,
    Device,
    Factor,
    FactorReset,
    Invitation,
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


def close(customer_id: int, key: ArrivedKey, secret: bytes) -> str:
    """End the customer's sign-in for good and tell the contacts; where to go on.

    Raises StaffCannotClose.
    """
    account_ids = list(
        db.session.scalars(
            select(Membership.account_id).where(Membership.customer_id == customer_id)
        )
    )

    def work(session: Session) -> str:
        is_staff = session.scalar(
            select(StaffMember.customer_id).where(
                StaffMember.customer_id == customer_id, StaffMember.is_disabled.is_(False)
            )
        )
        if is_staff is not None:
            raise StaffCannotClose
        _tell(session, customer_id)
        sessions.end_all_of(session, customer_id)
        recovering.end_ways_in(session, customer_id)
        _delete(session, customer_id)
        _pseudonymise(session, customer_id, secret)
        search_terms.refresh(session, account_ids)
        return DONE

    return form_keys.once(key, work, *account_ids)


def _tell(session: Session, customer_id: int) -> None:
    """While the contacts still can be found."""
    now = clock.now()
    account_ids = session.scalars(
        select(Membership.account_id).where(Membership.customer_id == customer_id)
    ).all()
    told: list[int] = []
    for account_id in account_ids:
        reach.announce_to_account(session, account_id, EVENT)
        told += [each.contact_id for each in reach.of_account(session, account_id)]
        revisions.raise_account(session, account_id)
    reach.announce(session, customer_id, EVENT, but=told)
    events = [activity.Event(EVENT, now, customer_id=customer_id)]
    events += [activity.Event(EVENT, now, account_id=account_id) for account_id in account_ids]
    activity.record(session, events)


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
    pseudonym = f"closed-{customer.public_id}"
    customer.sign_in_id = customer.sign_in_key = pseudonym
    customer.email_key = customer.timezone = None
    customer.name = pseudonym
    customer.password_hash = ""
    customer.is_disabled = True
    customer.session_generation += 1
    customer.revision += 1
    # Other rows name contacts, so they stay, empty; the announcements have copies of their own.
    today = clock.today(current_isp().timezone)
    for contact in session.scalars(select(Contact).where(Contact.customer_id == customer_id)):
        contact.value, contact.address = f"erased-{contact.id}", None
        contact.ended_on = contact.ended_on or today
    session.execute(
        update(Invitation).where(Invitation.accepted_by_id == customer_id).values(value=pseudonym)
    )
    session.execute(
        update(Message)
        .where(
            Message.customer_id == customer_id,
            or_(Message.account_id.is_(None), Message.kind == "security"),
            Message.state != MessageState.QUEUED.value,
        )
        .values(recipient="", facts={})
    )
    told = session.scalars(
        select(Activity.id).where(
            Activity.customer_id == customer_id, Activity.kind.not_in(ABOUT_MONEY)
        )
    ).all()
    activity.erase(session, told)
