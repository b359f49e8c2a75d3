"""What staff see of telephone numbers. Each look is noted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from blueprints.lines.phone import numbers
from blueprints.lines.phone.choosing import effective, stamp_of
from blueprints.staff.roles import masked_phone
from core import data_access
from core.data_access import Reader
from core.db import db, unit_of_work
from core.errors import NotFound
from core.phones import format_phone
from core.policy import TECHNICIANS
from gateways.voice.base import Feature, NumberSettings, features_of
from models import Account, AccountStatus, PhoneNumber, Plan, StaffRole, Subscription

SHOWN = 100
FIELDS = ("name", "number", "phone numbers")


@dataclass(frozen=True, slots=True)
class SettingView:
    """One feature at the switch: what it is to be, and whether it is that already. `more` is the
    number to forward to, masked for whoever does not set it, or the hours of rest, `when` which
    calls are forwarded."""

    name: str
    is_on: bool
    is_reached: bool
    more: str
    when: str


@dataclass(frozen=True, slots=True)
class NumberRow:
    public_id: str
    number: str
    plan_name: str
    account_public_id: str
    account_number: str
    account_name: str
    account_id: int
    from_on: date
    ended_on: date | None
    pending_at: datetime | None
    failure: str
    stamp: str
    settings: list[SettingView]


@dataclass(frozen=True, slots=True)
class MissingRow:
    """A phone subscription that waits for a number."""

    account_public_id: str
    account_number: str
    account_name: str
    account_id: int
    plan_name: str
    started_on: date


@dataclass(frozen=True, slots=True)
class PhoneDesk:
    """What waits: numbers that the switch is behind with, also those that are over, and plans
    without a number; with `has_more` there are more than are listed."""

    waiting: list[NumberRow]
    missing: list[MissingRow]
    has_more: bool


@dataclass(frozen=True, slots=True)
class AccountPhones:
    account_id: int
    public_id: str
    number: str
    name: str
    numbers: list[NumberRow]
    missing: list[tuple[str, str]]


_NUMBERS = (
    select(PhoneNumber, Plan.name, Plan.features, Account)
    .join(Subscription, Subscription.id == PhoneNumber.subscription_id)
    .join(Plan, Plan.id == Subscription.plan_id)
    .join(Account, Account.id == PhoneNumber.account_id)
)


def find_desk(role: StaffRole, reader: Reader) -> PhoneDesk:
    """The oldest first."""
    lags = or_(PhoneNumber.pending_at.is_not(None), PhoneNumber.sync_failure != "")
    rows = db.session.execute(
        _NUMBERS.where(lags).order_by(PhoneNumber.pending_at, PhoneNumber.id).limit(SHOWN + 1)
    )
    waiting = [_row(*row, is_masked=role not in TECHNICIANS) for row in rows]
    missing = [
        MissingRow(*row)
        for row in db.session.execute(
            select(
                Account.public_id,
                Account.number,
                Account.name,
                Account.id,
                Plan.name,
                Subscription.started_on,
            )
            .join(Subscription, Subscription.account_id == Account.id)
            .join(Plan, Plan.id == Subscription.plan_id)
            .where(Account.status == AccountStatus.ACTIVE.value, *numbers.without_number())
            .order_by(Subscription.started_on, Subscription.id)
            .limit(SHOWN + 1)
        )
    ]
    has_more = max(len(waiting), len(missing)) > SHOWN
    waiting, missing = waiting[:SHOWN], missing[:SHOWN]
    seen = {row.account_id for row in waiting} | {row.account_id for row in missing}
    data_access.note_list(reader, FIELDS, "phone", sorted(seen))
    return PhoneDesk(waiting, missing, has_more)


def look_at_account(public_id: str, role: StaffRole, reader: Reader) -> AccountPhones:
    """The numbers of one account. Raises NotFound."""
    account = find_account(db.session(), public_id)
    unit_of_work(
        lambda session: data_access.note(session, reader, FIELDS, "phone", account_id=account.id)
    )
    session = db.session()
    rows = session.execute(
        _NUMBERS.where(Account.id == account.id, PhoneNumber.ended_on.is_(None)).order_by(
            PhoneNumber.id
        )
    )
    plans = {row.id: row.name for row in session.execute(select(Plan.id, Plan.name))}
    return AccountPhones(
        account.id,
        public_id,
        account.number,
        account.name,
        [_row(*row, is_masked=role not in TECHNICIANS) for row in rows],
        [
            (each.public_id, plans[each.plan_id])
            for each in numbers.list_without(session, account.id)
        ],
    )


def find_account(session: Session, public_id: str) -> Account:
    """Raises NotFound."""
    found = session.scalars(select(Account).where(Account.public_id == public_id)).one_or_none()
    if found is None:
        raise NotFound
    return found


def find_account_path(public_id: str) -> str:
    """The public id of the account whose number it is. Raises NotFound."""
    found = db.session.scalar(
        select(Account.public_id)
        .join(PhoneNumber, PhoneNumber.account_id == Account.id)
        .where(PhoneNumber.public_id == public_id)
    )
    if found is None:
        raise NotFound
    return found


def _row(
    number: PhoneNumber, plan_name: str, features: list[str], account: Account, *, is_masked: bool
) -> NumberRow:
    included = features_of(features if number.ended_on is None else ())
    wanted = effective(NumberSettings.of(number.wanted), included)
    reached = NumberSettings.of(number.reached)
    return NumberRow(
        number.public_id,
        number.number,
        plan_name,
        account.public_id,
        account.number,
        account.name,
        account.id,
        number.from_on,
        number.ended_on,
        number.pending_at,
        number.sync_failure,
        stamp_of(wanted),
        [
            _setting(feature, wanted, reached, is_masked=is_masked)
            for feature in Feature
            if feature in included or feature in reached.on
        ],
    )


def _setting(
    feature: Feature, wanted: NumberSettings, reached: NumberSettings, *, is_masked: bool
) -> SettingView:
    wants = _details(feature, wanted)
    more, when = wants
    if more and feature is Feature.CALL_FORWARDING:
        more = masked_phone(more) if is_masked else format_phone(more)
    return SettingView(
        feature.value,
        feature in wanted.on,
        (feature in wanted.on, wants) == (feature in reached.on, _details(feature, reached)),
        more,
        when,
    )


def _details(feature: Feature, settings: NumberSettings) -> tuple[str, str]:
    if feature is Feature.CALL_FORWARDING and feature in settings.on:
        return settings.forward_to, settings.forward_when.value
    if feature is Feature.DO_NOT_DISTURB and feature in settings.on:
        return f"{settings.quiet_from}–{settings.quiet_until}", ""
    return "", ""
