"""What customers have beside their password, and what every change of it entails.

A factor counts once confirmed. A code by e-mail or text counts as long as its contact still
receives codes, also for a while after the contact was replaced; staff cannot use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from flask_babel import gettext as _
from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from blueprints.auth import reach
from blueprints.auth.errors import FactorNotFound, LastFactor
from core import activity, clock, flows, sessions, throttle
from core.db import db, unit_of_work
from core.isp import current_isp
from models import (
    Channel,
    Contact,
    Customer,
    Device,
    Factor,
    FactorKind,
    FlowKind,
    RecoveryCode,
    SignInSession,
    StaffMember,
)

STRONG = (FactorKind.TOTP, FactorKind.PASSKEY)
"""The kinds that count for staff, the best for everyone first."""
BY_MESSAGE = {FactorKind.EMAIL: Channel.EMAIL, FactorKind.TEXT: Channel.TEXT}
ORDER = (*STRONG, *BY_MESSAGE)
RECOVERY = "recovery"
"""How the recovery codes are called, beside the kinds of factors."""


class Step(StrEnum):
    """Where a half-finished sign-in stands."""

    ASKED = "asked"  # for the second factor
    ENROL = "enrol"  # staff who have none yet
    PASSED = "passed"  # and a lost answer may be asked for again


@dataclass(frozen=True, slots=True)
class Held:
    """A factor that counts. `value` is where its codes go."""

    factor_id: int
    public_id: str
    kind: FactorKind
    name: str
    contact_id: int | None
    value: str
    created_at: datetime
    last_used_at: datetime | None


@dataclass(frozen=True, slots=True)
class Gate:
    """What the right password leads to: `step` is the second step that is needed, if any."""

    step: Step | None
    is_staff: bool
    has_factor: bool


def is_staff(session: Session, customer_id: int) -> bool:
    """Whether the customer is one of the ISP's own people at present."""
    found = session.scalar(
        select(StaffMember.customer_id).where(
            StaffMember.customer_id == customer_id, StaffMember.is_disabled.is_(False)
        )
    )
    return found is not None


def list_held(session: Session, customer_id: int, *, for_staff: bool = False) -> list[Held]:
    """The factors that count, the best first; `for_staff`, those that count for staff."""
    isp = current_isp()
    today = clock.day_of(clock.now(), isp.timezone)
    rows = session.execute(
        select(Factor, Contact.value, Contact.ended_on)
        .outerjoin(Contact, Contact.id == Factor.contact_id)
        .where(Factor.customer_id == customer_id, Factor.confirmed_at.is_not(None))
        .order_by(Factor.id)
    ).all()
    held = [
        Held(
            factor.id,
            factor.public_id,
            FactorKind(factor.kind),
            factor.name,
            factor.contact_id,
            value or "",
            factor.created_at,
            factor.last_used_at,
        )
        for factor, value, ended_on in rows
        if ended_on is None or (today - ended_on).days < isp.contact_rest_days
    ]
    counted = [factor for factor in held if factor.kind in STRONG or not for_staff]
    return sorted(counted, key=lambda factor: ORDER.index(factor.kind))


def find_gate(session: Session, customer_id: int, device_hash: bytes | None) -> Gate:
    """What a customer must do after the password, on the device of that hash."""
    staff = is_staff(session, customer_id)
    held = list_held(session, customer_id, for_staff=staff)
    if staff:
        return Gate(Step.ASKED if held else Step.ENROL, is_staff=True, has_factor=bool(held))
    is_asked = bool(held) and not _is_trusted(session, customer_id, device_hash)
    return Gate(Step.ASKED if is_asked else None, is_staff=False, has_factor=bool(held))


def _is_trusted(session: Session, customer_id: int, device_hash: bytes | None) -> bool:
    if device_hash is None:
        return False
    trusted = session.scalar(
        select(Device.id).where(
            Device.token_hash == device_hash,
            Device.customer_id == customer_id,
            Device.trusted_until_at > clock.now(),
        )
    )
    return trusted is not None


def code_subject(secret: bytes, customer_id: int) -> bytes:
    """Under which wrong second factors of a customer are counted (bar 6). Only whoever has the
    password comes so far: strangers who guess elsewhere keep nobody from this."""
    return throttle.subject_of(secret, f"\0second factors {customer_id}")


def sending_subject(secret: bytes, customer_id: int) -> bytes:
    """Under which codes are counted that are sent to whoever has a customer's password."""
    return throttle.subject_of(secret, f"\0second factor sendings {customer_id}")


def note_use(session: Session, factor_id: int) -> None:
    session.execute(update(Factor).where(Factor.id == factor_id).values(last_used_at=clock.now()))


def name_of(session: Session, factor_id: int) -> str:
    """How a factor that was given is named in what happened; 0 stands for a recovery code."""
    if factor_id == 0:
        return RECOVERY
    return session.scalar(select(Factor.public_id).where(Factor.id == factor_id)) or ""


def note_change(
    session: Session, customer_id: int, event: str, *, but_session: int | None = None
) -> None:
    """What every change of a factor entails, within the running unit of work: it is noted and
    announced, and all other sessions end (bars 21 and 25)."""
    sessions.end_all_of(session, customer_id, but=but_session)
    activity.record(session, [activity.Event(event, clock.now(), customer_id=customer_id)])
    reach.announce(session, customer_id, event)
    session.execute(
        update(Customer).where(Customer.id == customer_id).values(revision=Customer.revision + 1)
    )


def mark_proven(session: Session, session_id: int) -> None:
    """Note that whoever is in this session has given a second factor, within the running unit."""
    _note_second_factor(session, session_id, has_one=True)


def _note_second_factor(session: Session, session_id: int, *, has_one: bool) -> None:
    session.execute(
        update(SignInSession)
        .where(SignInSession.id == session_id)
        .values(has_second_factor=has_one)
    )


# Taking away ----------------------------------------------------------------------------------


def find_own(customer_id: int, public_id: str) -> Held:
    """The customer's factor of this public id. Raises FactorNotFound."""
    for factor in list_held(db.session(), customer_id):
        if factor.public_id == public_id:
            return factor
    raise FactorNotFound


def may_remove(session: Session, customer_id: int, factor: Held) -> bool:
    """Whether the customer can do without `factor`: the last one stays where one is required."""
    staff = is_staff(session, customer_id)
    if not staff and not current_isp().requires_second_factor:
        return True
    others = list_held(session, customer_id, for_staff=staff)
    return any(other.factor_id != factor.factor_id for other in others)


def remove(customer_id: int, public_id: str, session_id: int) -> None:
    """Take a factor away; with the last one go the recovery codes. Once it is gone, nothing
    happens. Raises LastFactor where one is required."""

    def work(session: Session) -> None:
        # Two removals at once must not leave nothing: they take turns.
        session.execute(select(Customer.id).where(Customer.id == customer_id).with_for_update())
        held = list_held(session, customer_id)
        found = [factor for factor in held if factor.public_id == public_id]
        if not found:
            return
        if not may_remove(session, customer_id, found[0]):
            raise LastFactor
        session.execute(delete(Factor).where(Factor.id == found[0].factor_id))
        if len(held) == 1:
            session.execute(delete(RecoveryCode).where(RecoveryCode.customer_id == customer_id))
            _note_second_factor(session, session_id, has_one=False)
        flows.end_all_of(session, customer_id, FlowKind.SIGN_IN, FlowKind.LOST_FACTORS)
        note_change(session, customer_id, "factor_removed", but_session=session_id)

    unit_of_work(work)


def distrust(session: Session, customer_id: int, since: datetime, given: str) -> None:
    """Take away, within the running unit of work, what a stranger may have brought or holds: what
    was begun or confirmed from `since` on, and what `given` names (`name_of`). With the last factor
    go the recovery codes."""
    session.execute(
        delete(Factor).where(
            Factor.customer_id == customer_id,
            or_(
                Factor.confirmed_at.is_(None),
                Factor.confirmed_at >= since,
                Factor.public_id == given,
            ),
        )
    )
    codes = delete(RecoveryCode).where(RecoveryCode.customer_id == customer_id)
    if given != RECOVERY and list_held(session, customer_id):
        codes = codes.where(
            or_(RecoveryCode.confirmed_at.is_(None), RecoveryCode.confirmed_at >= since)
        )
    session.execute(codes)


def take_all(session: Session, customer_id: int) -> None:
    """Take every factor and recovery code away, within the running unit of work."""
    session.execute(delete(Factor).where(Factor.customer_id == customer_id))
    session.execute(delete(RecoveryCode).where(RecoveryCode.customer_id == customer_id))
    flows.end_all_of(session, customer_id, FlowKind.SIGN_IN, FlowKind.LOST_FACTORS)


def drop_pending(session: Session, customer_id: int, kinds: Sequence[FactorKind]) -> None:
    """Forget factors of `kinds` that were begun and never confirmed."""
    session.execute(
        delete(Factor).where(
            Factor.customer_id == customer_id,
            Factor.kind.in_([kind.value for kind in kinds]),
            Factor.confirmed_at.is_(None),
        )
    )


def word(kind: FactorKind) -> str:
    """What a kind of factor is called."""
    words = {
        FactorKind.TOTP: _("Authenticator app"),
        FactorKind.PASSKEY: _("Passkey"),
        FactorKind.EMAIL: _("Code by e-mail"),
        FactorKind.TEXT: _("Code by text message"),
    }
    return words[kind]


def sign_in_id(customer_id: int) -> str:
    """The ID that an authenticator app shows beside its codes."""
    return db.session.execute(
        select(Customer.sign_in_id).where(Customer.id == customer_id)
    ).scalar_one()
