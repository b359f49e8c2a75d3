"""Who shares an account: inviting, roles, leaving. Changes count from the next request on, as the
gate reads the role with every one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session, aliased

from blueprints.auth import reach
from blueprints.billing.methods import removing as methods
from blueprints.dashboard.people.errors import (
    AccountNotShared,
    InvitationGone,
    LastOwner,
    PersonGone,
)
from blueprints.dashboard.settings import contacting
from core import activity, clock, codes, form_keys, ids, outbox, revisions, search_terms, throttle
from core.db import db
from core.form_keys import ArrivedKey
from core.outbox import Letter
from models import Account, Channel, ContactKind, Customer, Invitation, Membership, Role

VALID = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class PersonView:
    public_id: str
    customer_id: int
    name: str
    role: str


@dataclass(frozen=True, slots=True)
class InvitationView:
    public_id: str
    value: str
    role: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class PeoplePage:
    people: list[PersonView]
    invitations: list[InvitationView]


def list_people(account_id: int) -> PeoplePage:
    """Who shares an account and who is asked to, in two queries."""
    people = db.session.execute(
        select(Customer.public_id, Customer.id, Customer.name, Membership.role)
        .join(Membership, Membership.customer_id == Customer.id)
        .where(Membership.account_id == account_id)
        .order_by(Customer.name, Customer.id)
    )
    invitations = db.session.execute(
        select(Invitation.public_id, Invitation.value, Invitation.role, Invitation.expires_at)
        .where(
            Invitation.account_id == account_id,
            Invitation.ended_at.is_(None),
            Invitation.expires_at > clock.now(),
        )
        .order_by(Invitation.id)
    )
    return PeoplePage(
        [PersonView(*row) for row in people], [InvitationView(*row) for row in invitations]
    )


def get_person(account_id: int, public_id: str) -> PersonView:
    """Somebody who shares the account. Raises PersonGone."""
    row = db.session.execute(
        select(Customer.public_id, Customer.id, Customer.name, Membership.role)
        .join(Membership, Membership.customer_id == Customer.id)
        .where(Membership.account_id == account_id, Customer.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise PersonGone
    return PersonView(*row)


def invite(
    account_id: int, inviter_id: int, typed: str, role: Role, key: ArrivedKey, secret: bytes
) -> str:
    """Ask somebody by e-mail or text to share the account; an earlier invitation to the same
    contact ends. The path that shows it. Raises ContactUnreadable, TooManyAttempts."""
    kind = ContactKind.EMAIL if "@" in typed else ContactKind.PHONE
    value = contacting.read(kind.value, typed)
    channel = contacting.CHANNELS[kind.value]
    token = ids.secret_token()

    def work(session: Session) -> str:
        now = clock.now()
        sendings = codes.sendings_to(secret, customer_id=inviter_id)
        throttle.count_within(session, sendings, throttle.SENDINGS)
        session.execute(
            update(Invitation)
            .where(
                Invitation.account_id == account_id,
                Invitation.value == value,
                Invitation.ended_at.is_(None),
            )
            .values(ended_at=now)
        )
        session.add(
            Invitation(
                public_id=ids.public_id(),
                account_id=account_id,
                invited_by_id=inviter_id,
                role=role.value,
                kind=kind.value,
                value=value,
                token_hash=ids.hash_token(token),
                created_at=now,
                expires_at=now + VALID,
            )
        )
        _send(session, account_id, inviter_id, value, channel, token)
        return _note(session, account_id, inviter_id, "invited_person", role=role.value)

    return form_keys.once(key, work, account_id)


def _send(
    session: Session, account_id: int, inviter_id: int, value: str, channel: Channel, token: str
) -> None:
    name, language = session.execute(
        select(Customer.name, Customer.language).where(Customer.id == inviter_id)
    ).one()
    letter = Letter(
        "invitation",
        value,
        language,
        account_id=account_id,
        customer_id=inviter_id,
        channel=channel.value,
        facts={"name": name, "days": VALID.days},
        secrets={"token": token},
        useless_at=clock.now() + VALID,
    )
    outbox.queue(session, [letter])


def withdraw(account_id: int, customer_id: int, public_id: str, key: ArrivedKey) -> str:
    """Let an invitation count no more. Raises InvitationGone."""

    def work(session: Session) -> str:
        ended = session.scalar(
            update(Invitation)
            .where(
                Invitation.account_id == account_id,
                Invitation.public_id == public_id,
                Invitation.ended_at.is_(None),
            )
            .values(ended_at=clock.now())
            .returning(Invitation.id)
        )
        if ended is None:
            raise InvitationGone
        return _note(session, account_id, customer_id, "invitation_withdrawn")

    return form_keys.once(key, work, account_id)


def change_role(account_id: int, public_id: str, role: Role, key: ArrivedKey) -> str:
    """Let somebody use the account in another role. Raises PersonGone, LastOwner."""

    def work(session: Session) -> str:
        person = _find_person(session, account_id, public_id)
        if person.role == role.value:
            return _people_path(session, account_id, "")
        if role is not Role.OWNER:
            _keep_an_owner(session, account_id, person.customer_id)
        session.execute(
            update(Membership)
            .where(
                Membership.account_id == account_id, Membership.customer_id == person.customer_id
            )
            .values(role=role.value)
        )
        return _note(session, account_id, person.customer_id, "role_changed", role=role.value)

    return form_keys.once(key, work, account_id)


def remove(account_id: int, public_id: str, key: ArrivedKey) -> str:
    """Let somebody use the account no more. Raises PersonGone, LastOwner."""

    def work(session: Session) -> str:
        person = _find_person(session, account_id, public_id)
        return take_away(session, account_id, person.customer_id, "person_removed")

    return form_keys.once(key, work, account_id)


@dataclass(frozen=True, slots=True)
class Shared:
    account_id: int
    number: str
    is_last_owner: bool


def get_shared(customer_id: int, account_public_id: str) -> Shared:
    """An account that the customer may use. Raises AccountNotShared."""
    others = aliased(Membership)
    row = db.session.execute(
        select(
            Account.id,
            Account.number,
            Membership.role,
            select(func.count(others.customer_id))
            .where(
                others.account_id == Account.id,
                others.role == Role.OWNER.value,
                others.customer_id != customer_id,
            )
            .scalar_subquery()
            .label("other_owners"),
        )
        .join(Membership, Membership.account_id == Account.id)
        .where(Account.public_id == account_public_id, Membership.customer_id == customer_id)
    ).one_or_none()
    if row is None:
        raise AccountNotShared
    is_last = row.role == Role.OWNER.value and not row.other_owners
    return Shared(row.id, row.number, is_last)


def leave(account_public_id: str, customer_id: int, key: ArrivedKey) -> str:
    """Use the account no more oneself. Raises LastOwner, AccountNotShared."""
    result = form_keys.find_result(db.session(), key)
    if result is not None:
        return result
    account_id = get_shared(customer_id, account_public_id).account_id

    def work(session: Session) -> str:
        take_away(session, account_id, customer_id, "person_left")
        return "/accounts"

    return form_keys.once(key, work, account_id)


def take_away(session: Session, account_id: int, customer_id: int, kind: str) -> str:
    """End a membership within the running unit of work over the account, and tell both sides. The
    path of those who stay. Raises LastOwner."""
    _keep_an_owner(session, account_id, customer_id)
    # Told before, while the account's contacts are still theirs if they own it.
    path = _note(session, account_id, customer_id, kind)
    methods.remove_all(session, [account_id], customer_id)
    session.execute(
        delete(Membership).where(
            Membership.account_id == account_id, Membership.customer_id == customer_id
        )
    )
    search_terms.refresh(session, [account_id])
    return path


def _find_person(session: Session, account_id: int, public_id: str) -> PersonView:
    row = session.execute(
        select(Customer.public_id, Customer.id, Customer.name, Membership.role)
        .join(Membership, Membership.customer_id == Customer.id)
        .where(Membership.account_id == account_id, Customer.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise PersonGone
    return PersonView(*row)


def _keep_an_owner(session: Session, account_id: int, customer_id: int) -> None:
    """Raises LastOwner when nobody but this customer owns the account."""
    role = session.scalar(
        select(Membership.role).where(
            Membership.account_id == account_id, Membership.customer_id == customer_id
        )
    )
    others = session.scalar(
        select(func.count(Membership.customer_id)).where(
            Membership.account_id == account_id,
            Membership.role == Role.OWNER.value,
            Membership.customer_id != customer_id,
        )
    )
    if role == Role.OWNER.value and not others:
        raise LastOwner


def note(session: Session, account_id: int, customer_id: int, kind: str, **facts: str) -> None:
    """Record an event about somebody of the account, tell them and the account's contacts."""
    event = activity.Event(
        kind, clock.now(), account_id=account_id, customer_id=customer_id, facts=facts
    )
    activity.record(session, [event])
    reach.announce_to_account(session, account_id, kind)
    held = [each.contact_id for each in reach.of_account(session, account_id)]
    reach.announce(session, customer_id, kind, account_id=account_id, but=held)
    revisions.raise_customer(session, customer_id)
    revisions.raise_account(session, account_id)


def _note(session: Session, account_id: int, customer_id: int, kind: str, **facts: str) -> str:
    note(session, account_id, customer_id, kind, **facts)
    return _people_path(session, account_id, kind)


def _people_path(session: Session, account_id: int, kind: str) -> str:
    public_id = session.scalar(select(Account.public_id).where(Account.id == account_id))
    return f"/a/{public_id}/people?done={kind}" if kind else f"/a/{public_id}/people"
