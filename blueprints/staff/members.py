"""The ISP's own people: adding them, their link, their roles.

A member is a customer (a person who signs in) with a row in `staff_members`. Whoever is added has
neither ID nor password until the one-time link is used, so nobody can sign in as them; and nothing
counts before the second factor (bar 11).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from blueprints.auth import choosing, judging
from blueprints.auth.choosing import fold
from blueprints.auth.errors import LinkDead, SignInIdTaken
from blueprints.auth.service import SignInRules
from blueprints.staff.errors import (
    EmailUnclear,
    LastAdministrator,
    MemberExists,
    MemberUnknown,
)
from core import activity, clock, ids, outbox, passwords, sessions, throttle
from core.db import db, unit_of_work
from core.form_keys import ArrivedKey, once
from core.isp import current_isp
from core.outbox import Letter
from models import (
    Contact,
    ContactKind,
    Customer,
    Factor,
    OneTimeLink,
    SignInSession,
    StaffMember,
    StaffRole,
)

LINK = "staff"
LINK_VALID = timedelta(days=7)
LINK_REPEATED = timedelta(hours=1)
"""How long after its use the same form may still come a second time."""
DISABLED = "disabled"
"""In the place of a role: shut out."""
NO_PASSWORD = ""
"""In the place of a hash: no password is right, and trying one takes as long as any other."""


@dataclass(frozen=True, slots=True)
class Member:
    """A staff member as lists show them. `is_waiting`: the link has not been used yet."""

    public_id: str
    name: str
    sign_in_id: str
    email: str
    role: str
    is_disabled: bool
    is_waiting: bool
    has_second_factor: bool
    added_at: datetime


@dataclass(frozen=True, slots=True)
class Invited:
    """Whose living link it is."""

    customer_id: int
    name: str
    email: str


@dataclass(frozen=True, slots=True)
class Acting:
    """A member who may do what their role may."""

    customer_id: int
    name: str
    role: StaffRole


def list_members() -> list[Member]:
    """All of them, by name, in one query."""
    return _list()


def get_member(public_id: str) -> Member:
    """Raises MemberUnknown."""
    found = _list(Customer.public_id == public_id)
    if not found:
        raise MemberUnknown
    return found[0]


def _list(*which: ColumnElement[bool]) -> list[Member]:
    has_factor = (
        select(Factor.id)
        .where(Factor.customer_id == Customer.id, Factor.confirmed_at.is_not(None))
        .exists()
    )
    email = (
        select(func.min(Contact.value))
        .where(
            Contact.customer_id == Customer.id,
            Contact.kind == ContactKind.EMAIL.value,
            Contact.ended_on.is_(None),
        )
        .scalar_subquery()
    )
    rows = db.session.execute(
        select(
            Customer.public_id,
            Customer.name,
            Customer.sign_in_id,
            email,
            StaffMember.role,
            StaffMember.is_disabled,
            Customer.password_hash == NO_PASSWORD,
            has_factor,
            StaffMember.added_at,
        )
        .join(StaffMember, StaffMember.customer_id == Customer.id)
        .where(*which)
        .order_by(Customer.name, Customer.id)
    )
    return [
        Member(
            row[0], row[1], "" if row[6] else row[2], row[3] or "", row[4], row[5], row[6], row[7],
            row[8],
        )
        for row in rows
    ]  # fmt: skip


def has_administrator() -> bool:
    """Whether there is one who has used the link and may sign in."""
    return (
        db.session.scalar(
            select(StaffMember.customer_id)
            .join(Customer, Customer.id == StaffMember.customer_id)
            .where(*_is_administrator(), Customer.password_hash != NO_PASSWORD)
            .limit(1)
        )
        is not None
    )


def _is_administrator() -> tuple[ColumnElement[bool], ...]:
    return StaffMember.role == StaffRole.ADMINISTRATOR.value, StaffMember.is_disabled.is_(False)


# Adding ---------------------------------------------------------------------------------------


def add(name: str, email: str, role: StaffRole) -> str:
    """Make a member, or for one who has not used the link yet a new link; the link's token.

    Raises EmailUnclear, MemberExists for one who signs in already.
    """
    token = ids.secret_token()
    clean_name, clean_email = _clean(name, email)
    unit_of_work(lambda session: _add(session, clean_name, clean_email, role, token))
    return token


def add_and_write(name: str, email: str, role: StaffRole, by: str, key: ArrivedKey) -> None:
    """The same, sending the link to the member's own address: nobody else sees it."""
    token = ids.secret_token()
    clean_name, clean_email = _clean(name, email)

    def work(session: Session) -> str:
        customer_id = _add(session, clean_name, clean_email, role, token)
        language = current_isp().language
        outbox.queue(
            session,
            [
                Letter(
                    "staff_link",
                    clean_email,
                    language,
                    customer_id=customer_id,
                    facts={"name": clean_name, "by": by, "days": LINK_VALID.days},
                    secrets={"token": token},
                )
            ],
        )
        return "/staff/members?done=written"

    once(key, work)


def _clean(name: str, email: str) -> tuple[str, str]:
    from email_validator import EmailNotValidError, validate_email

    try:
        found = validate_email(email.strip(), check_deliverability=False)
    except EmailNotValidError:
        raise EmailUnclear from None
    return " ".join(name.split())[:200], found.normalized


def _add(session: Session, name: str, email: str, role: StaffRole, token: str) -> int:
    now = clock.now()
    known = session.execute(
        select(Customer.id, Customer.password_hash)
        .join(StaffMember, StaffMember.customer_id == Customer.id)
        .join(Contact, Contact.customer_id == Customer.id)
        .where(
            Contact.kind == ContactKind.EMAIL.value,
            Contact.value == email,
            Contact.ended_on.is_(None),
        )
        .order_by(Customer.id)
        .limit(1)
    ).one_or_none()
    if known is not None and known.password_hash != NO_PASSWORD:
        raise MemberExists
    if known is None:
        placeholder = f"staff-{ids.public_id()}"
        customer = Customer(
            public_id=ids.public_id(),
            sign_in_id=placeholder,
            sign_in_key=placeholder,
            name=name,
            language=current_isp().language,
            password_hash=NO_PASSWORD,
            created_at=now,
        )
        session.add(customer)
        session.flush()
        customer_id = customer.id
        session.add(StaffMember(customer_id=customer_id, role=role.value, added_at=now))
        session.add(
            Contact(
                customer_id=customer_id,
                kind=ContactKind.EMAIL.value,
                value=email,
                since_on=clock.today(current_isp().timezone),
            )
        )
    else:
        customer_id = int(known.id)
        session.execute(update(Customer).where(Customer.id == customer_id).values(name=name))
        session.execute(
            update(StaffMember)
            .where(StaffMember.customer_id == customer_id)
            .values(role=role.value, is_disabled=False)
        )
    _new_link(session, customer_id, token)
    activity.record(session, [activity.Event("staff_added", now, customer_id=customer_id)])
    return customer_id


def _new_link(session: Session, customer_id: int, token: str) -> None:
    """A link for the member; an earlier one dies."""
    now = clock.now()
    session.execute(
        update(OneTimeLink)
        .where(
            OneTimeLink.customer_id == customer_id,
            OneTimeLink.purpose == LINK,
            OneTimeLink.ended_at.is_(None),
        )
        .values(ended_at=now)
    )
    session.add(
        OneTimeLink(
            token_hash=ids.hash_token(token),
            purpose=LINK,
            customer_id=customer_id,
            created_at=now,
            expires_at=now + LINK_VALID,
        )
    )


# The link -------------------------------------------------------------------------------------


def find_invited(token: str) -> Invited:
    """Whose living link this is. Raises LinkDead."""
    row = db.session.execute(
        select(Customer.id, Customer.name, func.min(Contact.value))
        .join(OneTimeLink, OneTimeLink.customer_id == Customer.id)
        .join(StaffMember, StaffMember.customer_id == Customer.id)
        .outerjoin(Contact, Contact.customer_id == Customer.id)
        .where(
            OneTimeLink.token_hash == ids.hash_token(token),
            OneTimeLink.purpose == LINK,
            OneTimeLink.ended_at.is_(None),
            OneTimeLink.expires_at > clock.now(),
            StaffMember.is_disabled.is_(False),
        )
        .group_by(Customer.id, Customer.name)
    ).one_or_none()
    if row is None:
        raise LinkDead
    return Invited(row[0], row[1], row[2] or "")


def join(token: str, sign_in_id: str, password: str, rules: SignInRules) -> None:
    """Give the link's member ID and password; the link is then used up. They sign in next, which
    asks for a second factor.

    Posted twice with the same ID, the second time finds it done: signing in asks for the password.
    Raises LinkDead, SignInIdTaken, PasswordWeak, TooBusy.
    """
    try:
        _join(token, sign_in_id, password, rules)
    except LinkDead:
        if not _has_joined(token, sign_in_id):
            raise


def _join(token: str, sign_in_id: str, password: str, rules: SignInRules) -> None:
    invited = find_invited(token)
    choosing.check_chosen(
        sign_in_id,
        password,
        judging.words_of_customer(invited.customer_id),
        throttle.subject_of(rules.secret, f"\0ids {token}"),
        whose_id=invited.customer_id,
    )
    password_hash = passwords.hash_password(rules.lock_folder, password)
    key = fold(sign_in_id)

    def work(session: Session) -> None:
        now = clock.now()
        used = session.scalar(
            update(OneTimeLink)
            .where(OneTimeLink.token_hash == ids.hash_token(token), OneTimeLink.ended_at.is_(None))
            .values(ended_at=now)
            .returning(OneTimeLink.id)
        )
        if used is None:
            raise LinkDead
        email_key = fold(invited.email)
        taken = session.execute(
            select(Customer.sign_in_key, Customer.email_key).where(
                Customer.id != invited.customer_id,
                or_(
                    Customer.sign_in_key.in_([key, email_key]),
                    Customer.email_key.in_([key, email_key]),
                ),
            )
        ).all()
        names = {name for row in taken for name in row if name}
        if key in names:
            raise SignInIdTaken
        session.execute(
            update(Customer)
            .where(Customer.id == invited.customer_id)
            .values(
                sign_in_id=sign_in_id.strip(),
                sign_in_key=key,
                email_key=email_key if invited.email and email_key not in names else None,
                password_hash=password_hash,
                revision=Customer.revision + 1,
            )
        )
        activity.record(
            session, [activity.Event("staff_joined", now, customer_id=invited.customer_id)]
        )

    try:
        unit_of_work(work)
    except IntegrityError:
        raise SignInIdTaken from None


def _has_joined(token: str, sign_in_id: str) -> bool:
    found = db.session.scalar(
        select(Customer.id)
        .join(OneTimeLink, OneTimeLink.customer_id == Customer.id)
        .where(
            OneTimeLink.token_hash == ids.hash_token(token),
            OneTimeLink.purpose == LINK,
            OneTimeLink.ended_at > clock.now() - LINK_REPEATED,
            Customer.sign_in_key == fold(sign_in_id),
            Customer.password_hash != NO_PASSWORD,
        )
    )
    return found is not None


# Changing -------------------------------------------------------------------------------------


def find_by_email(email: str) -> str:
    """The public id of the member with this e-mail address or ID. Raises MemberUnknown."""
    typed = email.strip()
    found = db.session.scalar(
        select(Customer.public_id)
        .join(StaffMember, StaffMember.customer_id == Customer.id)
        .outerjoin(Contact, Contact.customer_id == Customer.id)
        .where(
            or_(
                Customer.sign_in_key == fold(typed),
                func.lower(Contact.value) == typed.lower(),
            )
        )
        .order_by(Customer.id)
        .limit(1)
    )
    if found is None:
        raise MemberUnknown
    return found


def find_acting(who: str) -> Acting:
    """The member with this e-mail address or ID, if they could sign in and see the pages of staff
    now. Raises MemberUnknown."""
    member = get_member(find_by_email(who))
    if member.is_disabled or member.is_waiting or not member.has_second_factor:
        raise MemberUnknown
    customer_id = db.session.scalars(
        select(Customer.id).where(Customer.public_id == member.public_id)
    ).one()
    return Acting(customer_id, member.name, StaffRole(member.role))


def set_role(session: Session, public_id: str, role: StaffRole) -> None:
    """Give the member another role, within the running unit of work: they sign in again (bar 26).

    Raises MemberUnknown, LastAdministrator.
    """
    customer_id, now_role, _is_disabled = _find(session, public_id)
    if now_role == role.value:
        return
    _keep_an_administrator(session, customer_id, still_one=role is StaffRole.ADMINISTRATOR)
    session.execute(
        update(StaffMember).where(StaffMember.customer_id == customer_id).values(role=role.value)
    )
    _sign_out(session, customer_id)
    _record(session, "staff_role_changed", customer_id)


def set_disabled(session: Session, public_id: str, *, is_disabled: bool) -> None:
    """Shut the member out with the next request, or let them in again, within the running unit of
    work. Raises MemberUnknown, LastAdministrator."""
    customer_id, _role, was_disabled = _find(session, public_id)
    if was_disabled == is_disabled:
        return
    if is_disabled:
        _keep_an_administrator(session, customer_id, still_one=False)
        _sign_out(session, customer_id)
        session.execute(
            update(OneTimeLink)
            .where(OneTimeLink.customer_id == customer_id, OneTimeLink.ended_at.is_(None))
            .values(ended_at=clock.now())
        )
    session.execute(
        update(StaffMember)
        .where(StaffMember.customer_id == customer_id)
        .values(is_disabled=is_disabled)
    )
    _record(session, "staff_disabled" if is_disabled else "staff_enabled", customer_id)


def change(session: Session, public_id: str, role: str, result: str) -> str:
    """What the form of a member's page says: a role, or `DISABLED`; returns `result`."""
    if role == DISABLED:
        set_disabled(session, public_id, is_disabled=True)
    else:
        set_disabled(session, public_id, is_disabled=False)
        set_role(session, public_id, StaffRole(role))
    return result


def _find(session: Session, public_id: str) -> tuple[int, str, bool]:
    row = session.execute(
        select(StaffMember.customer_id, StaffMember.role, StaffMember.is_disabled)
        .join(Customer, Customer.id == StaffMember.customer_id)
        .where(Customer.public_id == public_id)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise MemberUnknown
    return row[0], row[1], row[2]


def _keep_an_administrator(session: Session, customer_id: int, *, still_one: bool) -> None:
    """Raises LastAdministrator when nobody would be left who can add and change members."""
    if still_one:
        return
    # All of them are locked: two who leave at once do not see each other stay.
    administrators = session.scalars(
        select(StaffMember.customer_id).where(*_is_administrator()).with_for_update()
    ).all()
    if list(administrators) == [customer_id]:
        raise LastAdministrator


def _sign_out(session: Session, customer_id: int) -> None:
    """End the member's sessions, and those in which they see the portal as a customer does."""
    sessions.end_all_of(session, customer_id)
    session.execute(
        update(SignInSession)
        .where(SignInSession.viewer_id == customer_id, SignInSession.ended_at.is_(None))
        .values(ended_at=clock.now())
    )


def _record(session: Session, kind: str, customer_id: int) -> None:
    activity.record(session, [activity.Event(kind, clock.now(), customer_id=customer_id)])
