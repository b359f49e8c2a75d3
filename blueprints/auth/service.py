"""Getting in: checking a password, opening and ending sessions, the welcome link."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from sqlalchemy import or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from blueprints.auth.errors import (
    AccountUnknown,
    AlreadyRegistered,
    LinkDead,
    PasswordWeak,
    SignInIdTaken,
    SignInRefused,
)
from core import activity, clock, ids, kept_forms, passwords, sessions, throttle
from core.db import db, unit_of_work
from core.isp import current_isp
from models import Account, Contact, ContactKind, Customer, Device, Membership, OneTimeLink, Role

log = logging.getLogger("lastmile.auth")

WELCOME = "welcome"
WELCOME_VALID = timedelta(days=21)


@dataclass(frozen=True, slots=True)
class Browser:
    """What the request says about who is asking. Tokens are the cookies' values."""

    address: str
    user_agent: str
    session_token: str | None
    device_token: str | None


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that was opened: the new cookies' values."""

    public_id: str
    session_token: str
    device_token: str
    has_kept_form: bool = False


@dataclass(frozen=True, slots=True)
class SignInRules:
    """The parts of the settings that signing in needs."""

    secret: bytes
    lock_folder: Path
    shared_networks: Sequence[IPv4Network | IPv6Network]


def fold(typed_id: str) -> str:
    """The form under which a sign-in ID or an e-mail address is looked up."""
    return typed_id.strip().casefold()


def sign_in(
    typed_id: str, password: str, *, is_own_device: bool, browser: Browser, rules: SignInRules
) -> Opened:
    """Open a session for whoever knows the password.

    Raises SignInRefused (unknown ID, wrong password and disabled customer alike, after the same
    work), TooManyAttempts before the password is looked at, TooBusy when the machine is.
    """
    key = fold(typed_id)
    customer = db.session.execute(
        select(Customer.id, Customer.password_hash, Customer.is_disabled)
        .where(or_(Customer.sign_in_key == key, Customer.email_key == key))
        .order_by(Customer.sign_in_key != key)
        .limit(1)
    ).one_or_none()
    is_known_device = customer is not None and _knows_device(customer.id, browser.device_token)
    # A device that this customer has used before has limits of its own: whoever guesses elsewhere
    # cannot lock its owner out, and it cannot be used to guess without end either.
    device = f"\0{browser.device_token}" if is_known_device else ""
    attempt = throttle.begin(
        throttle.subject_of(rules.secret, key + device),
        browser.address,
        rules.shared_networks,
        is_known_device=is_known_device,
    )
    is_right = passwords.verify(
        rules.lock_folder,
        customer.password_hash if customer is not None and not customer.is_disabled else None,
        password,
        is_known_device=is_known_device,
    )
    throttle.end(attempt, has_passed=is_right)
    if not is_right or customer is None:
        log.info("sign-in refused", extra={"address": browser.address})
        raise SignInRefused
    better_hash = (
        passwords.hash_password(password)
        if passwords.needs_rehash(customer.password_hash)
        else None
    )
    return _open(customer.id, better_hash, is_own_device=is_own_device, browser=browser)


def _knows_device(customer_id: int, device_token: str | None) -> bool:
    if device_token is None:
        return False
    found = db.session.scalar(
        select(Device.id).where(
            Device.token_hash == ids.hash_token(device_token), Device.customer_id == customer_id
        )
    )
    return found is not None


def _open(
    customer_id: int, better_hash: str | None, *, is_own_device: bool, browser: Browser
) -> Opened:
    def work(session: Session) -> Opened:
        customer = session.get_one(Customer, customer_id)
        if better_hash is not None:
            customer.password_hash = better_hash
        # The customer's pages name this sign-in: a copy kept on another device is outdated.
        customer.revision += 1
        token = sessions.open_session_row(
            session,
            customer,
            is_own_device=is_own_device,
            address=browser.address,
            user_agent=browser.user_agent,
            replaces_token=browser.session_token,
        )
        if browser.session_token is not None:
            kept_forms.move(session, browser.session_token, customer_id, token)
        device_token = _note_device(session, customer_id, browser.device_token)
        activity.record(
            session,
            [
                activity.Event(
                    "signed_in",
                    clock.now(),
                    customer_id=customer_id,
                    facts={"address": browser.address, "user_agent": browser.user_agent[:200]},
                )
            ],
        )
        return Opened(customer.public_id, token, device_token)

    return unit_of_work(work)


def _note_device(session: Session, customer_id: int, device_token: str | None) -> str:
    """The token of the device's cookie: the old one when this customer has used it before."""
    now = clock.now()
    if device_token is not None:
        seen = session.scalar(
            update(Device)
            .where(
                Device.token_hash == ids.hash_token(device_token),
                Device.customer_id == customer_id,
            )
            .values(last_seen_at=now)
            .returning(Device.id)
        )
        if seen is not None:
            return device_token
    new_token = ids.secret_token()
    session.add(
        Device(
            token_hash=ids.hash_token(new_token),
            customer_id=customer_id,
            first_seen_at=now,
            last_seen_at=now,
        )
    )
    return new_token


def sign_out(session_id: int) -> None:
    """End the session; pages it left in the browser are cleared by the answer."""
    sessions.end(session_id)


# The welcome link ---------------------------------------------------------------------------


def invite(account_number: str) -> str:
    """Make the one-time token with which the subscriber chooses ID and password.

    An earlier link of the account dies. Raises AccountUnknown, AlreadyRegistered.
    """
    token = ids.secret_token()

    def work(session: Session) -> None:
        account_id = session.scalar(
            select(Account.id).where(Account.number == account_number.strip())
        )
        if account_id is None:
            raise AccountUnknown
        if _has_owner(session, account_id):
            raise AlreadyRegistered
        now = clock.now()
        session.execute(
            update(OneTimeLink)
            .where(OneTimeLink.account_id == account_id, OneTimeLink.ended_at.is_(None))
            .values(ended_at=now)
        )
        session.add(
            OneTimeLink(
                token_hash=ids.hash_token(token),
                purpose=WELCOME,
                account_id=account_id,
                created_at=now,
                expires_at=now + WELCOME_VALID,
            )
        )

    unit_of_work(work)
    return token


def _has_owner(session: Session, account_id: int) -> bool:
    owner = session.scalar(
        select(Membership.customer_id).where(
            Membership.account_id == account_id, Membership.role == Role.OWNER.value
        )
    )
    return owner is not None


def find_invited_account(token: str) -> tuple[int, str, str]:
    """Id, name and number of the account that a living welcome link belongs to. Raises LinkDead."""
    row = db.session.execute(
        select(Account.id, Account.name, Account.number)
        .join(OneTimeLink, OneTimeLink.account_id == Account.id)
        .where(
            OneTimeLink.token_hash == ids.hash_token(token),
            OneTimeLink.purpose == WELCOME,
            OneTimeLink.ended_at.is_(None),
            OneTimeLink.expires_at > clock.now(),
        )
    ).one_or_none()
    if row is None:
        raise LinkDead
    return row.id, row.name, row.number


def register(token: str, sign_in_id: str, password: str, rules: SignInRules) -> None:
    """Make the customer who owns the link's account. The link is then used up.

    Posted twice with the same ID and password, the second time finds it done. Raises LinkDead,
    SignInIdTaken, PasswordWeak.
    """
    try:
        account_id, name, number = find_invited_account(token)
    except LinkDead:
        if _was_registered(token, sign_in_id, password, rules):
            return
        raise
    context = [current_isp().name, current_isp().id_name, name, number, sign_in_id]
    weakness = passwords.find_weakness(password, context)
    if weakness is not None:
        raise PasswordWeak(weakness)
    password_hash = passwords.hash_password(password)

    def work(session: Session) -> None:
        now = clock.now()
        used = session.scalar(
            update(OneTimeLink)
            .where(
                OneTimeLink.token_hash == ids.hash_token(token), OneTimeLink.ended_at.is_(None)
            )
            .values(ended_at=now)
            .returning(OneTimeLink.id)
        )
        if used is None or _has_owner(session, account_id):
            raise LinkDead
        taken = session.scalar(
            select(Customer.id).where(
                or_(Customer.sign_in_key == fold(sign_in_id), Customer.email_key == fold(sign_in_id))
            )
        )
        if taken is not None:
            raise SignInIdTaken
        account = session.get_one(Account, account_id)
        customer = Customer(
            public_id=ids.public_id(),
            sign_in_id=sign_in_id.strip(),
            sign_in_key=fold(sign_in_id),
            email_key=_free_email(session, account_id),
            name=account.name,
            language=account.language,
            password_hash=password_hash,
            created_at=now,
        )
        session.add(customer)
        session.flush()
        session.add(
            Membership(customer_id=customer.id, account_id=account_id, role=Role.OWNER.value)
        )
        activity.record(
            session,
            [activity.Event("registered", now, account_id=account_id, customer_id=customer.id)],
        )

    try:
        unit_of_work(work, account_id)
    except IntegrityError:
        raise SignInIdTaken from None


def _free_email(session: Session, account_id: int) -> str | None:
    """The account's e-mail address as a way to sign in, unless somebody signs in with it already
    (households share one)."""
    value = session.scalar(
        select(Contact.value)
        .where(Contact.account_id == account_id, Contact.kind == ContactKind.EMAIL.value)
        .order_by(Contact.since_on, Contact.id)
        .limit(1)
    )
    if value is None:
        return None
    taken = session.scalar(select(Customer.id).where(Customer.email_key == fold(value)))
    return fold(value) if taken is None else None


def _was_registered(token: str, sign_in_id: str, password: str, rules: SignInRules) -> bool:
    """Whether this same form has already made its customer with this link."""
    password_hash = db.session.scalar(
        select(Customer.password_hash)
        .join(Membership, Membership.customer_id == Customer.id)
        .join(OneTimeLink, OneTimeLink.account_id == Membership.account_id)
        .where(
            OneTimeLink.token_hash == ids.hash_token(token),
            OneTimeLink.expires_at > clock.now(),
            Membership.role == Role.OWNER.value,
            Customer.sign_in_key == fold(sign_in_id),
        )
    )
    return password_hash is not None and passwords.verify(
        rules.lock_folder, password_hash, password, is_known_device=False
    )


# Where to go --------------------------------------------------------------------------------


def find_person(session_token: str) -> sessions.SignedIn:
    """Who has just signed in with the session of this token."""
    person, _expired = sessions.find_session(session_token, None)
    if person is None:
        raise SignInRefused
    return person


def home_of(person: sessions.SignedIn) -> str:
    """The path of the only account's dashboard, or of the choice between several."""
    if person.account_count != 1:
        return "/accounts"
    public_id = db.session.scalar(
        select(Account.public_id)
        .join(Membership, Membership.account_id == Account.id)
        .where(Membership.customer_id == person.customer_id)
    )
    return f"/a/{public_id}/"
