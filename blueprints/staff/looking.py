"""What a staff member sees of an account and of the people who use it, by role. Each look is noted.

Nothing of what people sign in with is read here but its kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from blueprints.auth import disabling
from blueprints.auth.choosing import fold
from blueprints.billing.invoice_pages import InvoiceRow, list_latest_invoices
from blueprints.billing.owed import Due, find_due
from blueprints.billing.payment_pages import PaymentRow, list_some_payments
from blueprints.dashboard.service import LineView, PauseView, list_lines
from blueprints.dashboard.settings import user_agents
from blueprints.staff.finding import place_of
from blueprints.staff.roles import SIGHT, Sight, masked_email, masked_phone
from core import clock, data_access, sessions
from core.activity import ABOUT_MONEY
from core.data_access import Reader
from core.db import db, unit_of_work
from core.errors import NotFound
from core.money import Money
from core.phones import format_phone
from models import (
    MOVE_WAITS,
    PAUSE_STANDS,
    Account,
    Activity,
    Contact,
    ContactKind,
    Customer,
    Device,
    Factor,
    Membership,
    Move,
    Pause,
    PostalLetter,
    SignInSession,
    StaffRole,
)

VERIFIED_FOR = timedelta(minutes=30)
"""How long a verified caller counts as such: about one call."""
BILLS_SHOWN = 6
EVENTS_SHOWN = 12
SESSIONS_SHOWN = 20


@dataclass(frozen=True, slots=True)
class ContactView:
    kind: str
    shown: str
    since_on: date


@dataclass(frozen=True, slots=True)
class PersonRow:
    public_id: str
    name: str
    sign_in_id: str
    role: str
    is_disabled: bool
    is_password_disabled: bool
    has_reported: bool
    has_second_factor: bool


@dataclass(frozen=True, slots=True)
class EventView:
    kind: str
    amount: Money | None
    happened_at: datetime


@dataclass(frozen=True, slots=True)
class AccountPage:
    public_id: str
    number: str
    name: str
    status: str
    opened_on: date
    area: str
    place: str
    sight: Sight
    contacts: list[ContactView]
    due: Due | None
    invoices: list[InvoiceRow]
    payments: list[PaymentRow]
    lines: list[LineView]
    people: list[PersonRow]
    events: list[EventView]
    letter_asked_at: datetime | None
    verified_at: datetime | None
    pause: PauseView | None
    move: WaitingMove | None


@dataclass(frozen=True, slots=True)
class WaitingMove:
    """A move that waits for staff, or for its day."""

    public_id: str
    state: str
    on: date


@dataclass(frozen=True, slots=True)
class SessionView:
    device: str
    address: str
    created_at: datetime
    last_used_at: datetime
    is_own_device: bool


@dataclass(frozen=True, slots=True)
class FactorView:
    kind: str
    name: str
    confirmed_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class PersonPage:
    account_public_id: str
    account_number: str
    person: PersonRow
    created_at: datetime
    factors: list[FactorView]
    sessions: list[SessionView]
    devices: int
    events: list[EventView]
    verified_at: datetime | None


def find_account_id(session: Session, public_id: str) -> int:
    """Raises NotFound."""
    found = session.scalar(select(Account.id).where(Account.public_id == public_id))
    if found is None:
        raise NotFound
    return found


def find_person_id(session: Session, account_public_id: str, public_id: str) -> tuple[int, int]:
    """Ids of an account and of a customer who uses it. Raises NotFound."""
    row = session.execute(
        select(Account.id, Customer.id)
        .join(Membership, Membership.account_id == Account.id)
        .join(Customer, Customer.id == Membership.customer_id)
        .where(Account.public_id == account_public_id, Customer.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise NotFound
    return row[0], row[1]


def find_account_by_number(number: str) -> str:
    """The public id of an account. Raises NotFound."""
    found = db.session.scalar(select(Account.public_id).where(Account.number == number.strip()))
    if found is None:
        raise NotFound
    return found


def find_person_by_sign_in_id(
    sign_in_id: str, account_public_id: str | None = None
) -> tuple[str, str]:
    """Public ids of an account, the one given or their first, and of the customer with this ID who
    uses it. Raises NotFound."""
    asked = (
        select(Account.public_id, Customer.public_id)
        .join(Membership, Membership.account_id == Account.id)
        .join(Customer, Customer.id == Membership.customer_id)
        .where(Customer.sign_in_key == fold(sign_in_id))
        .order_by(Account.id)
        .limit(1)
    )
    if account_public_id is not None:
        asked = asked.where(Account.public_id == account_public_id)
    row = db.session.execute(asked).one_or_none()
    if row is None:
        raise NotFound
    return row[0], row[1]


# The account ----------------------------------------------------------------------------------


def look_at_account(public_id: str, role: StaffRole, reader: Reader) -> AccountPage:
    """All that the role sees of an account, noted before it is read. Raises NotFound."""
    sight = SIGHT[role]
    account_id = unit_of_work(
        lambda session: data_access.note_page(session, reader, sight.fields, public_id)
    )
    session = db.session()
    account, *_others = rows = _account_and_contacts(session, account_id)
    contacts = [row for row in rows if row.kind is not None]
    return AccountPage(
        account.public_id,
        account.number,
        account.name,
        account.status,
        account.opened_on,
        account.area_code or "",
        next((place_of(row.address) for row in contacts if row.address), ""),
        sight,
        [_shown(row, sight) for row in contacts if sight.address or row.kind != "postal"],
        find_due(account_id) if sight.balance else None,
        list_latest_invoices(account_id) if sight.bills else [],
        list_some_payments(account_id, BILLS_SHOWN) if sight.bills else [],
        list_lines(account_id, account.status) if sight.line else [],
        _people(session, account_id) if sight.people else [],
        _events(session, Activity.account_id == account_id, sight) if sight.people else [],
        account.letter_asked_at if sight.people else None,
        account.verified_at,
        PauseView(account.pause_public_id, account.pause_state, account.from_on, account.until_on)
        if account.pause_public_id is not None
        else None,
        WaitingMove(account.move_public_id, account.move_state, account.move_on)
        if account.move_public_id is not None
        else None,
    )


def _verified(account_id: Any) -> Any:
    """When a caller was last verified for the account, if that still counts."""
    return (
        select(func.max(Activity.happened_at))
        .where(
            Activity.account_id == account_id,
            Activity.kind == "caller_verified",
            Activity.happened_at > clock.now() - VERIFIED_FOR,
        )
        .scalar_subquery()
    )


def _account_and_contacts(session: Session, account_id: int) -> list[Any]:
    """The account with each of its contacts, or once without one."""
    letter = (
        select(func.max(PostalLetter.asked_at))
        .where(PostalLetter.account_id == Account.id, PostalLetter.ended_at.is_(None))
        .scalar_subquery()
    )
    return list(
        session.execute(
            select(
                Account.public_id,
                Account.number,
                Account.name,
                Account.status,
                Account.opened_on,
                Account.area_code,
                letter.label("letter_asked_at"),
                _verified(Account.id).label("verified_at"),
                Contact.kind,
                Contact.value,
                Contact.address,
                Contact.since_on,
                Pause.public_id.label("pause_public_id"),
                Pause.state.label("pause_state"),
                Pause.from_on,
                Pause.until_on,
                Move.public_id.label("move_public_id"),
                Move.state.label("move_state"),
                func.coalesce(Move.move_on, Move.wished_on).label("move_on"),
            )
            .outerjoin(Pause, and_(Pause.account_id == Account.id, Pause.state.in_(PAUSE_STANDS)))
            .outerjoin(Move, and_(Move.account_id == Account.id, Move.state.in_(MOVE_WAITS)))
            .outerjoin(Contact, and_(Contact.account_id == Account.id, Contact.ended_on.is_(None)))
            .where(Account.id == account_id)
            .order_by(Contact.kind, Contact.since_on, Contact.id)
        )
    )


def _shown(row: Any, sight: Sight) -> ContactView:
    shown = row.value
    if row.kind == ContactKind.EMAIL and not sight.contacts:
        shown = masked_email(row.value)
    elif row.kind == ContactKind.PHONE:
        shown = format_phone(row.value) if sight.contacts else masked_phone(row.value)
    return ContactView(row.kind, shown, row.since_on)


_HAS_FACTOR = (
    select(Factor.id)
    .where(Factor.customer_id == Customer.id, Factor.confirmed_at.is_not(None))
    .exists()
)
_PERSON = (
    Customer.public_id,
    Customer.name,
    Customer.sign_in_id,
    Membership.role,
    Customer.is_disabled,
    Customer.password_disabled_at.is_not(None).label("is_password_disabled"),
    disabling.IS_REPORTED.label("has_reported"),
    _HAS_FACTOR.label("has_second_factor"),
)


def _people(session: Session, account_id: int) -> list[PersonRow]:
    rows = session.execute(
        select(*_PERSON)
        .join(Membership, Membership.customer_id == Customer.id)
        .where(Membership.account_id == account_id)
        .order_by(Membership.role, Customer.name, Customer.id)
    )
    return [PersonRow(*row) for row in rows]


def _events(session: Session, whose: Any, sight: Sight) -> list[EventView]:
    hidden = () if sight.bills else (Activity.kind.not_in(sorted(ABOUT_MONEY)),)
    rows = session.execute(
        select(Activity.kind, Activity.facts, Activity.happened_at)
        .where(whose, *hidden)
        .order_by(Activity.happened_at.desc(), Activity.id.desc())
        .limit(EVENTS_SHOWN)
    )
    return [
        EventView(
            row.kind,
            Money(row.facts["amount_minor"], row.facts["currency"])
            if row.facts and "amount_minor" in row.facts
            else None,
            row.happened_at,
        )
        for row in rows
    ]


# A person -------------------------------------------------------------------------------------

PERSON_FIELDS = ("name", "sign-in ID", "kinds of factors", "sessions", "activity")


def look_at_person(
    account_public_id: str, public_id: str, role: StaffRole, reader: Reader
) -> PersonPage:
    """One who uses the account: how they sign in, and where they are signed in. The look is noted.

    Raises NotFound.
    """

    def work(session: Session) -> tuple[int, int]:
        account_id, customer_id = find_person_id(session, account_public_id, public_id)
        data_access.note(
            session,
            reader,
            PERSON_FIELDS,
            "person page",
            account_id=account_id,
            customer_id=customer_id,
        )
        return account_id, customer_id

    account_id, customer_id = unit_of_work(work)
    session = db.session()
    row = session.execute(
        select(
            Account.number,
            Customer.created_at,
            select(func.count(Device.id))
            .where(Device.customer_id == customer_id)
            .scalar_subquery()
            .label("devices"),
            _verified(account_id).label("verified_at"),
            *_PERSON,
        )
        .join(Membership, Membership.account_id == Account.id)
        .join(Customer, Customer.id == Membership.customer_id)
        .where(Account.id == account_id, Customer.id == customer_id)
    ).one()
    return PersonPage(
        account_public_id,
        row.number,
        PersonRow(*row[4:]),
        row.created_at,
        _factors(session, customer_id),
        _sessions(session, customer_id),
        row.devices,
        _events(session, Activity.customer_id == customer_id, SIGHT[role]),
        row.verified_at,
    )


def _factors(session: Session, customer_id: int) -> list[FactorView]:
    rows = session.execute(
        select(Factor.kind, Factor.name, Factor.confirmed_at, Factor.last_used_at)
        .where(Factor.customer_id == customer_id, Factor.confirmed_at.is_not(None))
        .order_by(Factor.confirmed_at, Factor.id)
    )
    return [
        FactorView(row.kind, row.name, row.confirmed_at, row.last_used_at)
        for row in rows
        if row.confirmed_at is not None
    ]


def _sessions(session: Session, customer_id: int) -> list[SessionView]:
    rows = session.execute(
        select(
            SignInSession.user_agent,
            SignInSession.address,
            SignInSession.created_at,
            SignInSession.last_used_at,
            SignInSession.is_own_device,
            SignInSession.is_staff,
            SignInSession.viewer_id,
            SignInSession.expires_at,
        )
        .join(Customer, Customer.id == SignInSession.customer_id)
        .where(
            SignInSession.customer_id == customer_id,
            SignInSession.ended_at.is_(None),
            SignInSession.viewer_id.is_(None),
            SignInSession.generation == Customer.session_generation,
        )
        .order_by(SignInSession.last_used_at.desc())
        .limit(SESSIONS_SHOWN)
    )
    return [
        SessionView(_device(row.user_agent), *row[1:5]) for row in rows if sessions.is_living(row)
    ]


def _device(user_agent: str) -> str:
    """Browser and system in a few words, empty where neither can be told."""
    return " · ".join(part for part in user_agents.read(user_agent) if part)
