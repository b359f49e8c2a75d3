"""Whoever has lost every second factor (bar 20).

The password, or its recovery, is one proof. Beside it either codes to two different kinds of
contacts on file, or staff: one member makes sure who it is, another approves. Staff themselves
always need the latter. Then the factors are taken away; nobody is let in by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.auth import factors, reach, second_step
from blueprints.auth.errors import CodeWrong, FactorNotFound, ResetNotAllowed, SignInRefused
from blueprints.auth.factors import Step
from blueprints.auth.service import SignInRules
from core import activity, clock, codes, flows, form_keys, ids, throttle
from core.db import db, unit_of_work
from core.flows import FlowInHand
from core.form_keys import ArrivedKey
from models import (
    Channel,
    CodePurpose,
    Customer,
    FactorReset,
    Flow,
    FlowKind,
    ResetState,
)

LASTS = timedelta(hours=1)
PROVING = "proving"
WAYS = (Channel.EMAIL, Channel.TEXT)
"""All of them are needed."""
_OPEN = (ResetState.ASKED.value, ResetState.PROOFED.value)


@dataclass(frozen=True, slots=True)
class LostPage:
    """Where somebody stands who has lost every factor. `ways`: what is still to be proven here, in
    order; nothing where only staff can help."""

    ways: Sequence[Channel]
    proved: Sequence[Channel]
    asked_at: datetime | None


# By oneself -----------------------------------------------------------------------------------


def begin(flow: FlowInHand, rules: SignInRules) -> str:
    """Begin with a half-finished sign-in: the password was right. Returns the new flow's cookie.

    Raises SignInRefused, TooManyAttempts.
    """

    def work(session: Session) -> str:
        row = session.execute(
            select(Flow).where(
                Flow.id == flow.flow_id,
                Flow.step == Step.ASKED.value,
                Flow.ended_at.is_(None),
                Flow.expires_at > clock.now(),
            )
        ).scalar_one_or_none()
        if row is None or row.customer_id is None:
            raise SignInRefused
        subject = throttle.subject_of(rules.secret, f"\0lost {row.customer_id}")
        throttle.count_within(session, subject, throttle.STARTS)
        return flows.begin(
            session,
            FlowKind.LOST_FACTORS,
            PROVING,
            subject=row.subject,
            lasts=LASTS,
            customer_id=row.customer_id,
            facts={"proved": [], "is_staff": row.facts["is_staff"]},
        )

    with throttle.noted():
        return unit_of_work(work)


def find_page(flow: FlowInHand) -> LostPage:
    asked_at = db.session.scalar(
        select(FactorReset.asked_at).where(
            FactorReset.customer_id == flow.customer_id, FactorReset.state.in_(_OPEN)
        )
    )
    proved = [Channel(way) for way in flow.facts["proved"]]
    ways = [] if flow.facts["is_staff"] else [way for way in WAYS if way not in proved]
    return LostPage(ways, proved, asked_at)


def send_code(flow: FlowInHand, way: str, key: ArrivedKey, rules: SignInRules, path: str) -> str:
    """Send a code to the contact of that kind that is on file for longest; where there is none,
    nothing is sent and nothing tells so. The same form twice sends one. Returns `path`.

    Raises TooManyAttempts.
    """
    customer_id, channel = flow.of_customer, _way(way)

    def work(session: Session) -> str:
        subject = factors.sending_subject(rules.secret, customer_id)
        throttle.count_within(session, subject, throttle.SENDINGS)
        found = reach.for_codes(reach.of_customer(session, customer_id), channel)
        if found and not flow.facts["is_staff"]:
            valid = LASTS if channel is Channel.EMAIL else codes.VALID[channel]
            code = codes.make(
                session,
                rules.secret,
                CodePurpose.RECOVER,
                _bound_to(flow, channel),
                channel,
                found[0].contact_id,
                valid=valid,
            )
            second_step.queue_letter(session, customer_id, channel, found[0].value, code, valid)
        return path

    with throttle.noted():
        return form_keys.once(key, work)


def give_code(flow: FlowInHand, way: str, typed: str, rules: SignInRules) -> bool:
    """Take a code as a proof. True when it was the last one needed: the factors are gone then, and
    so is the flow. A way that was proven already counts no second time.

    Raises CodeWrong, TooManyAttempts, SignInRefused when the flow is over.
    """
    customer_id, channel = flow.of_customer, _way(way)

    def work(session: Session) -> bool | None:
        row = session.execute(
            select(Flow)
            .where(Flow.id == flow.flow_id, Flow.ended_at.is_(None), Flow.expires_at > clock.now())
            .with_for_update()
        ).scalar_one_or_none()
        if row is None or row.facts["is_staff"]:
            raise SignInRefused
        proved = list(row.facts["proved"])
        if channel.value in proved:
            return False
        subject = factors.code_subject(rules.secret, customer_id)
        attempt = throttle.count_within(session, subject, throttle.CODES)
        bound_to = _bound_to(flow, channel)
        if codes.use(session, rules.secret, CodePurpose.RECOVER, bound_to, typed) is None:
            return None
        throttle.note_passed(session, attempt)
        proved.append(channel.value)
        row.facts = {**row.facts, "proved": proved}
        if any(way.value not in proved for way in WAYS):
            return False
        row.ended_at = clock.now()
        _reset(session, customer_id)
        return True

    with throttle.noted():
        is_done = unit_of_work(work)
    if is_done is None:
        raise CodeWrong
    return is_done


def _way(typed: str) -> Channel:
    if typed not in WAYS:
        raise FactorNotFound
    return Channel(typed)


def _bound_to(flow: FlowInHand, channel: Channel) -> str:
    return f"{flow.subject}:{channel.value}"


def _reset(session: Session, customer_id: int) -> None:
    """Take the factors away and end what stands on them, within the running unit of work."""
    session.execute(
        update(FactorReset)
        .where(FactorReset.customer_id == customer_id, FactorReset.state.in_(_OPEN))
        .values(state=ResetState.DONE.value, ended_at=clock.now())
    )
    factors.take_all(session, customer_id)
    factors.note_change(session, customer_id, "factors_reset")


# By staff -------------------------------------------------------------------------------------


def ask_reset(customer_id: int) -> str:
    """Ask staff to take the factors away; returns the public id, of the one asked for already if
    there is one."""

    def work(session: Session) -> str:
        # Two presses at once take turns.
        session.execute(select(Customer.id).where(Customer.id == customer_id).with_for_update())
        found = session.scalar(
            select(FactorReset.public_id).where(
                FactorReset.customer_id == customer_id, FactorReset.state.in_(_OPEN)
            )
        )
        if found is not None:
            return found
        public_id, now = ids.public_id(), clock.now()
        session.add(
            FactorReset(
                public_id=public_id,
                customer_id=customer_id,
                state=ResetState.ASKED.value,
                asked_at=now,
            )
        )
        event = "factor_reset_asked"
        activity.record(session, [activity.Event(event, now, customer_id=customer_id)])
        reach.announce(session, customer_id, event)
        return public_id

    return unit_of_work(work)


def proof_reset(public_id: str, staff_id: int, how: str) -> None:
    """Note that a member of staff has made sure who asks, and `how`. `staff_id` is the member's
    customer id. Raises ResetNotAllowed."""

    def work(session: Session) -> None:
        row = _locked(session, public_id, staff_id)
        if row.state == ResetState.PROOFED and row.proofed_by_id == staff_id:
            return
        if row.state != ResetState.ASKED:
            raise ResetNotAllowed
        row.state, row.how = ResetState.PROOFED.value, how[:300]
        row.proofed_at, row.proofed_by_id = clock.now(), staff_id
        _record(session, row, "factor_reset_proofed")

    unit_of_work(work)


def approve_reset(public_id: str, staff_id: int) -> None:
    """Take the factors away, as a second member of staff. Raises ResetNotAllowed, also for the one
    who made sure who asks."""

    def work(session: Session) -> None:
        row = _locked(session, public_id, staff_id)
        if row.state == ResetState.DONE and row.approved_by_id == staff_id:
            return
        if row.state != ResetState.PROOFED or row.proofed_by_id == staff_id:
            raise ResetNotAllowed
        row.approved_by_id = staff_id
        session.flush()
        _reset(session, row.customer_id)

    unit_of_work(work)


def refuse_reset(public_id: str, staff_id: int) -> None:
    """End it without taking anything away. Raises ResetNotAllowed."""

    def work(session: Session) -> None:
        row = _locked(session, public_id, staff_id)
        if row.state == ResetState.REFUSED:
            return
        if row.state not in _OPEN:
            raise ResetNotAllowed
        row.state, row.ended_at = ResetState.REFUSED.value, clock.now()
        _record(session, row, "factor_reset_refused")

    unit_of_work(work)


def _locked(session: Session, public_id: str, staff_id: int) -> FactorReset:
    """The row, for a member of staff who is not the one it is about."""
    row = session.execute(
        select(FactorReset).where(FactorReset.public_id == public_id).with_for_update()
    ).scalar_one_or_none()
    if row is None:
        raise FactorNotFound
    if row.customer_id == staff_id or not factors.is_staff(session, staff_id):
        raise ResetNotAllowed
    return row


def _record(session: Session, row: FactorReset, event: str) -> None:
    activity.record(session, [activity.Event(event, clock.now(), customer_id=row.customer_id)])
    session.execute(
        update(Customer)
        .where(Customer.id == row.customer_id)
        .values(revision=Customer.revision + 1)
    )
