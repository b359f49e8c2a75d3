"""Getting in: checking a password, opening and ending sessions, the welcome link."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

from flask_babel import gettext as _
from sqlalchemy import or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from blueprints.auth import choosing, disabling, factors
from blueprints.auth.choosing import fold
from blueprints.auth.errors import (
    AccountUnknown,
    AlreadyRegistered,
    LinkDead,
    SignInIdTaken,
    SignInRefused,
)
from core import (
    activity,
    clock,
    flows,
    ids,
    kept_forms,
    passwords,
    sessions,
    throttle,
)
from core.db import db, unit_of_work
from models import Account, Customer, Device, FlowKind, Membership, OneTimeLink, Role

log = logging.getLogger("lastmile.auth")

HALF_LASTS = timedelta(minutes=5)
"""How long a half-finished sign-in may wait for its second step (bar 11)."""
TRUST_LASTS = timedelta(days=30)
"""How long an own device is not asked for the second step again."""
DEVICE_TOKEN_LENGTH = len(ids.secret_token())

WELCOME = "welcome"
WELCOME_VALID = timedelta(days=21)
# How long after its use the same welcome form may still come a second time.
WELCOME_REPEATED = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Browser:
    """What the request says about who is asking. Tokens are the cookies' values."""

    address: str
    user_agent: str
    session_token: str | None = field(repr=False)
    device_token: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Opened:
    """A session that was opened: the new cookies' values, and the page of the form that waits."""

    session_token: str = field(repr=False)
    device_token: str = field(repr=False)
    kept_form_path: str | None


@dataclass(frozen=True, slots=True)
class HalfOpened:
    """The password was right, and a second step is asked for: the flow's cookie's value."""

    flow_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignInRules:
    """The parts of the settings that signing in needs."""

    secret: bytes = field(repr=False)
    lock_folder: Path
    shared_networks: Sequence[IPv4Network | IPv6Network]


def sign_in(
    typed_id: str,
    password: str,
    *,
    is_own_device: bool,
    browser: Browser,
    rules: SignInRules,
    wanted: str = "",
    only_staff: bool = False,
) -> Opened | HalfOpened:
    """Open a session for whoever knows the password, or begin the second step where one is needed;
    `wanted` is the page to go to after it. With `only_staff` everybody else is nobody: their
    password is not looked at, and nothing is written of them.

    Raises SignInRefused (unknown ID, wrong password and disabled customer alike, after the same
    work), TooManyAttempts before the password is looked at, TooBusy when the machine is.
    """
    key = fold(typed_id)
    customer = db.session.execute(
        select(
            Customer.id,
            Customer.password_hash,
            Customer.is_disabled,
            Customer.password_disabled_at,
            Customer.sign_in_key,
            Customer.email_key,
        )
        .where(or_(Customer.sign_in_key == key, Customer.email_key == key))
        .order_by(Customer.sign_in_key != key)
        .limit(1)
    ).one_or_none()
    # Asked also for nobody, so that it takes as long; before the password is looked at, so that its
    # being right shows nowhere: not in the limits either.
    customer_id = customer.id if customer is not None else 0
    is_wanted = not only_staff or factors.is_staff(db.session(), customer_id)
    # Asked for nobody too.
    is_known_device = _knows_device(customer_id, browser.device_token)
    # A device that this customer has used before has limits of its own: whoever guesses elsewhere
    # cannot lock its owner out, and it cannot be used to guess without end either.
    device = f"\0{browser.device_token}" if is_known_device else ""
    names = (customer.sign_in_key, customer.email_key) if customer is not None else ()
    other_name = next((name for name in names if name not in (None, key)), f"\0other {key}")
    subject = throttle.subject_of(rules.secret, key + device)
    network = (browser.address, rules.shared_networks)
    throttle.refuse_early(db.session(), subject, *network, is_known_device=is_known_device)
    # Seated before anything is written: whoever comes too many is turned away at no cost.
    with passwords.seat(is_known_device=is_known_device):
        attempt = throttle.begin(
            subject,
            *network,
            is_known_device=is_known_device,
            twin=throttle.subject_of(rules.secret, other_name + device),
        )
        is_looked_at = (
            customer is not None
            and not customer.is_disabled
            and is_wanted
            and attempt.may_be_checked
        )
        is_good = customer is not None and customer.password_disabled_at is None
        try:
            is_right = passwords.verify(
                rules.lock_folder,
                customer.password_hash if customer and is_looked_at and is_good else None,
                password,
                is_known_device=is_known_device,
                is_seated=True,
            )
        except passwords.TooBusy:
            throttle.withdraw(attempt)
            raise
        # For nobody too, so that it takes as long.
        counted_id = customer.id if customer is not None and is_looked_at else 0
        throttle.end(
            attempt, has_passed=is_right, also=disabling.counting(counted_id, is_right=is_right)
        )
    if not is_right or customer is None:
        log.info("sign-in refused", extra={"address": browser.address})
        raise SignInRefused
    better_hash = None
    if passwords.needs_rehash(customer.password_hash):
        # Whoever is let in is not turned away because the machine is busy: next time, then.
        with suppress(passwords.TooBusy):
            better_hash = passwords.hash_password(
                rules.lock_folder, password, is_known_device=is_known_device
            )
    return _open(
        customer.id,
        better_hash,
        is_own_device=is_own_device,
        browser=browser,
        secret=rules.secret,
        wanted=wanted,
    )


def _knows_device(customer_id: int, device_token: str | None) -> bool:
    if device_token is None:
        return False
    found = db.session.scalar(
        select(Device.id).where(
            Device.token_hash == _device_hash(customer_id, device_token),
            Device.customer_id == customer_id,
        )
    )
    return found is not None


def _device_hash(customer_id: int, device_token: str) -> bytes:
    """How a device is stored: several customers may use it, each with a row of their own."""
    return ids.hash_token(f"{customer_id}:{device_token}")


def _open(
    customer_id: int,
    better_hash: str | None,
    *,
    is_own_device: bool,
    browser: Browser,
    secret: bytes,
    wanted: str,
) -> Opened | HalfOpened:
    device = browser.device_token
    device_hash = _device_hash(customer_id, device) if device is not None else None

    def work(session: Session) -> Opened | HalfOpened:
        if not disabling.may_open(session, customer_id):
            raise SignInRefused
        if better_hash is not None:
            session.execute(
                update(Customer).where(Customer.id == customer_id).values(password_hash=better_hash)
            )
        gate = factors.find_gate(session, customer_id, device_hash)
        if gate.step is not None:
            token = flows.begin(
                session,
                FlowKind.SIGN_IN,
                gate.step,
                subject=throttle.subject_of(secret, f"\0customer {customer_id}"),
                lasts=HALF_LASTS,
                customer_id=customer_id,
                facts={"own_device": is_own_device, "wanted": wanted, "is_staff": gate.is_staff},
            )
            return HalfOpened(token)
        return open_session(
            session,
            customer_id,
            is_own_device=is_own_device,
            browser=browser,
            secret=secret,
            has_second_factor=gate.has_factor,
        )

    return unit_of_work(work)


def open_session(
    session: Session,
    customer_id: int,
    *,
    is_own_device: bool,
    browser: Browser,
    secret: bytes,
    has_second_factor: bool = False,
    is_staff: bool = False,
    trusts_device: bool = False,
    given: str = "",
) -> Opened:
    """Let a customer in within the running unit of work, after everything that had to be proven
    was; with `trusts_device` this device is not asked for the second step for a while. `given`
    names the second step (`factors.name_of`) in what happened."""
    customer = session.get_one(Customer, customer_id)
    # The customer's pages name this sign-in: a copy kept on another device is outdated.
    session.execute(
        update(Customer).where(Customer.id == customer_id).values(revision=Customer.revision + 1)
    )
    token = sessions.open_session_row(
        session,
        customer,
        is_own_device=is_own_device,
        address=browser.address,
        user_agent=browser.user_agent,
        replaces_token=browser.session_token,
        is_staff=is_staff,
        has_second_factor=has_second_factor,
    )
    kept_form_path = None
    if browser.session_token is not None:
        kept_form_path = kept_forms.move(session, secret, browser.session_token, customer_id, token)
    device_token = _note_device(session, customer_id, browser.device_token)
    if trusts_device:
        session.flush()
        session.execute(
            update(Device)
            .where(Device.token_hash == _device_hash(customer_id, device_token))
            .values(trusted_until_at=clock.now() + TRUST_LASTS)
        )
    facts = {"address": browser.address, "user_agent": browser.user_agent[:200]}
    if given:
        facts["second_step"] = given
    event = activity.Event("signed_in", clock.now(), customer_id=customer_id, facts=facts)
    activity.record(session, [event])
    return Opened(token, device_token, kept_form_path)


def _note_device(session: Session, customer_id: int, device_token: str | None) -> str:
    """Remember that this customer signs in on this device; returns the token of its cookie, the
    one it has when it has one: others of the household may be known by it."""
    now = clock.now()
    if device_token is None or len(device_token) != DEVICE_TOKEN_LENGTH:
        device_token = ids.secret_token()
    device_hash = _device_hash(customer_id, device_token)
    seen = session.scalar(
        update(Device)
        .where(Device.token_hash == device_hash)
        .values(last_seen_at=now)
        .returning(Device.id)
    )
    if seen is None:
        session.add(
            Device(
                token_hash=device_hash,
                customer_id=customer_id,
                first_seen_at=now,
                last_seen_at=now,
            )
        )
    return device_token


def wrong_password() -> str:
    return _("This is not your password. Please try again.")


def confirm_password(
    person: sessions.SignedIn, password: str, browser: Browser, rules: SignInRules
) -> str:
    """Let whoever is signed in give the password once more: the session goes on under a new id,
    whose token is returned, and counts as just signed in (bars 26 and 28).

    Raises SignInRefused, TooManyAttempts, TooBusy.
    """
    password_hash = db.session.scalar(
        select(Customer.password_hash).where(
            Customer.id == person.customer_id, Customer.password_disabled_at.is_(None)
        )
    )
    # A subject of its own: whoever guesses at the sign-in page does not keep the owner from this.
    attempt = throttle.begin(
        throttle.subject_of(rules.secret, f"\0confirm {person.customer_id}"),
        browser.address,
        rules.shared_networks,
        is_known_device=True,
    )
    try:
        is_right = passwords.verify(
            rules.lock_folder, password_hash, password, is_known_device=True
        )
    except passwords.TooBusy:
        throttle.withdraw(attempt)
        raise
    counting = disabling.counting(person.customer_id, is_right=is_right)
    throttle.end(attempt, has_passed=is_right, also=counting)
    if not is_right:
        raise SignInRefused
    return unit_of_work(
        lambda session: sessions.renew(session, person.session_id, has_password=True)
    )


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
        if choosing.has_owner(session, account_id):
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
        activity.record(session, [activity.Event("invited", now, account_id=account_id)])
        choosing.outdate(session, account_id)

    unit_of_work(work)
    return token


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
    SignInIdTaken, PasswordWeak, TooBusy, TooManyAttempts.
    """
    try:
        _register(token, sign_in_id, password, rules)
    except LinkDead:
        if not _was_registered(token, sign_in_id, password, rules):
            raise


def _register(token: str, sign_in_id: str, password: str, rules: SignInRules) -> None:
    account_id, _name, _number = find_invited_account(token)
    asker = throttle.subject_of(rules.secret, f"\0ids {token}")
    words = choosing.words_of_account(account_id)
    choosing.check_chosen(sign_in_id, password, words, asker)
    password_hash = passwords.hash_password(rules.lock_folder, password)

    def work(session: Session) -> None:
        used = session.scalar(
            update(OneTimeLink)
            .where(OneTimeLink.token_hash == ids.hash_token(token), OneTimeLink.ended_at.is_(None))
            .values(ended_at=clock.now())
            .returning(OneTimeLink.id)
        )
        if used is None:
            raise LinkDead
        choosing.make_owner(session, account_id, sign_in_id, password_hash)

    try:
        unit_of_work(work, account_id)
    except AlreadyRegistered:
        raise LinkDead from None
    except IntegrityError:
        raise SignInIdTaken from None


def _was_registered(token: str, sign_in_id: str, password: str, rules: SignInRules) -> bool:
    """Whether this same form has just made its customer with this link.

    Asking is limited like signing in: a used link is no way to guess a password.
    """
    password_hash = db.session.scalar(
        select(Customer.password_hash)
        .join(Membership, Membership.customer_id == Customer.id)
        .join(OneTimeLink, OneTimeLink.account_id == Membership.account_id)
        .where(
            OneTimeLink.token_hash == ids.hash_token(token),
            OneTimeLink.ended_at > clock.now() - WELCOME_REPEATED,
            Membership.role == Role.OWNER.value,
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


def open_for(customer_id: int, browser: Browser, rules: SignInRules) -> Opened | None:
    """Open a session for a customer who has just been made, or proven to know the password; None
    when a second step is asked for, which the sign-in page leads to."""
    opened = _open(
        customer_id, None, is_own_device=False, browser=browser, secret=rules.secret, wanted=""
    )
    return opened if isinstance(opened, Opened) else None


# Where to go --------------------------------------------------------------------------------


def find_person(session_token: str) -> sessions.SignedIn:
    """Who has just signed in with the session of this token."""
    person, _expired = sessions.find_session(session_token, None)
    if person is None:
        raise SignInRefused
    return person


def home_of(person: sessions.SignedIn) -> str:
    """The path of the only account's dashboard, or of the choice between several; of staff, the
    page on which they find accounts."""
    if person.is_staff:
        return "/staff/"
    if person.account_count != 1:
        return "/accounts"
    public_id = db.session.scalar(
        select(Account.public_id)
        .join(Membership, Membership.account_id == Account.id)
        .where(Membership.customer_id == person.customer_id)
    )
    return f"/a/{public_id}/"


def is_this_device(customer_id: int, device_token: str | None, token_hash: bytes) -> bool:
    """Whether a device's row is that of the browser with this cookie."""
    return device_token is not None and _device_hash(customer_id, device_token) == token_hash
