"""Opening an invitation: as somebody who signs in already, or with a new ID and password."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from blueprints.auth import choosing
from blueprints.auth.choosing import fold
from blueprints.auth.errors import SignInIdTaken
from blueprints.auth.service import SignInRules
from blueprints.dashboard.people import service
from blueprints.dashboard.people.errors import AlreadyShares, InvitationDead
from core import clock, form_keys, ids, passwords, search_terms, throttle
from core.db import db, unit_of_work
from core.form_keys import ArrivedKey
from core.isp import current_isp
from models import Account, Contact, ContactKind, Customer, Invitation, Membership

REPEATED = timedelta(hours=1)
"""How long after its use the same form may still come a second time."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A living invitation, as its page shows it."""

    inviter: str
    role: str


def open_invitation(token: str) -> Opened:
    """Who invites, and to what role. Raises InvitationDead."""
    row = _find(db.session(), token)
    inviter = db.session.scalar(select(Customer.name).where(Customer.id == row.invited_by_id))
    return Opened(inviter or "", row.role)


def _find(session: Session, token: str) -> Any:
    row = session.execute(
        select(
            Invitation.id,
            Invitation.account_id,
            Invitation.invited_by_id,
            Invitation.role,
            Invitation.kind,
            Invitation.value,
            Invitation.token_hash,
            Invitation.expires_at,
            Invitation.ended_at,
            Invitation.accepted_by_id,
        ).where(Invitation.token_hash == ids.hash_token(token))
    ).one_or_none()
    if row is None or not hmac.compare_digest(row.token_hash, ids.hash_token(token)):
        raise InvitationDead("unknown")
    if row.accepted_by_id is not None:
        raise InvitationDead("used")
    if row.ended_at is not None:
        raise InvitationDead("withdrawn")
    if row.expires_at <= clock.now():
        raise InvitationDead("expired")
    return row


def _account_of(token: str) -> int:
    account_id: int = _find(db.session(), token).account_id
    return account_id


def accept(token: str, customer_id: int, key: ArrivedKey) -> str:
    """Let a customer share the account; the path of its first page. Raises InvitationDead,
    AlreadyShares."""
    result = form_keys.find_result(db.session(), key)
    if result is not None:
        return result

    def work(session: Session) -> str:
        row = _find(session, token)
        return _join(session, row, customer_id)

    return form_keys.once(key, work, _account_of(token))


def _join(session: Session, row: Any, customer_id: int) -> str:
    public_id = session.scalar(select(Account.public_id).where(Account.id == row.account_id))
    shares = session.scalar(
        select(Membership.role).where(
            Membership.account_id == row.account_id, Membership.customer_id == customer_id
        )
    )
    if shares is not None:
        raise AlreadyShares(public_id or "")
    used = session.scalar(
        update(Invitation)
        .where(Invitation.id == row.id, Invitation.ended_at.is_(None))
        .values(ended_at=clock.now(), accepted_by_id=customer_id)
        .returning(Invitation.id)
    )
    if used is None:
        raise InvitationDead("used")
    session.add(Membership(customer_id=customer_id, account_id=row.account_id, role=row.role))
    search_terms.refresh(session, [row.account_id])
    service.note(session, row.account_id, customer_id, "person_joined", role=row.role)
    return f"/a/{public_id}/"


def words_of(token: str, name: str, sign_in_id: str) -> list[str]:
    """What is guessed first of the password of whoever was invited. Raises InvitationDead."""
    value = _find(db.session(), token).value
    isp = current_isp()
    return [isp.name, isp.id_name, name, sign_in_id, value, *value.split("@")]


def register(token: str, name: str, sign_in_id: str, password: str, rules: SignInRules) -> None:
    """Make the customer who was invited. Posted twice with the same ID and password, the second
    time finds it done. Raises InvitationDead, SignInIdTaken, PasswordWeak, TooBusy."""
    try:
        _register(token, name, sign_in_id, password, rules)
    except InvitationDead as dead:
        if dead.why != "used" or not _was_registered(token, sign_in_id, password, rules):
            raise


def _register(token: str, name: str, sign_in_id: str, password: str, rules: SignInRules) -> None:
    row = _find(db.session(), token)
    asker = throttle.subject_of(rules.secret, f"\0ids {token}")
    choosing.check_chosen(sign_in_id, password, words_of(token, name, sign_in_id), asker)
    password_hash = passwords.hash_password(rules.lock_folder, password)

    def work(session: Session) -> None:
        row = _find(session, token)
        if choosing.is_taken(session, sign_in_id):
            raise SignInIdTaken
        now = clock.now()
        is_email = row.kind == ContactKind.EMAIL.value
        is_name = is_email and not choosing.is_taken(session, row.value)
        customer = Customer(
            public_id=ids.public_id(),
            sign_in_id=sign_in_id.strip(),
            sign_in_key=fold(sign_in_id),
            email_key=fold(row.value) if is_name else None,
            name=name,
            language=_language_of(session, row.invited_by_id),
            password_hash=password_hash,
            created_at=now,
        )
        session.add(customer)
        session.flush()
        # Whoever opened the link has shown that it is theirs.
        session.add(
            Contact(
                customer_id=customer.id,
                kind=row.kind,
                value=row.value,
                since_on=clock.day_of(now, current_isp().timezone),
            )
        )
        session.flush()
        _join(session, row, customer.id)

    try:
        unit_of_work(work, row.account_id)
    except IntegrityError:
        raise SignInIdTaken from None


def _language_of(session: Session, customer_id: int) -> str:
    language = session.scalar(select(Customer.language).where(Customer.id == customer_id))
    return language or "en"


def _was_registered(token: str, sign_in_id: str, password: str, rules: SignInRules) -> bool:
    """Whether this same form has just made its customer. Asking is limited like signing in."""
    password_hash = db.session.scalar(
        select(Customer.password_hash)
        .join(Invitation, Invitation.accepted_by_id == Customer.id)
        .where(
            Invitation.token_hash == ids.hash_token(token),
            Invitation.ended_at > clock.now() - REPEATED,
            Customer.sign_in_key == fold(sign_in_id),
        )
    )
    if password_hash is None:
        return False
    attempt = throttle.begin(
        throttle.subject_of(rules.secret, f"\0{token}"), "", (), is_known_device=True
    )
    is_same = passwords.verify(rules.lock_folder, password_hash, password, is_known_device=False)
    throttle.end(attempt, has_passed=is_same)
    return is_same
