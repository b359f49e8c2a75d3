"""Codes by e-mail or text as a second step: the weaker choice, for whoever has no app and no key.

Only a contact that has been on file long enough to receive codes may be chosen; one of each kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.auth import factors, reach, second_step
from blueprints.auth.errors import CodeWrong, NothingPending
from blueprints.auth.factors import BY_MESSAGE, Held
from blueprints.auth.reach import Reach
from blueprints.auth.service import SignInRules
from core import clock, codes, form_keys, ids, throttle
from core.db import db, unit_of_work
from core.form_keys import ArrivedKey
from models import CodePurpose, Contact, Factor, FactorKind

PENDING = timedelta(hours=1)
KIND = {channel: kind for kind, channel in BY_MESSAGE.items()}


@dataclass(frozen=True, slots=True)
class Pending:
    """A factor that was begun: `value` is where its code went."""

    factor_id: int
    kind: FactorKind
    value: str


def list_contacts(customer_id: int) -> list[Reach]:
    """Where codes may go, of the kinds that the customer has no factor of yet."""
    return _choosable(db.session(), customer_id)


def _choosable(session: Session, customer_id: int) -> list[Reach]:
    held = {factor.kind for factor in factors.list_held(session, customer_id)}
    return [
        found
        for found in reach.of_customer(session, customer_id)
        if found.channel in KIND
        and KIND[found.channel] not in held
        and found.may_have_codes
        and found.is_current
    ]


def start(customer_id: int, contact: str, key: ArrivedKey, rules: SignInRules, path: str) -> str:
    """Begin with the contact of that value: a code is on its way. Returns `path`, where it is
    typed. Raises NothingPending when it is not to be had, TooManyAttempts."""

    def work(session: Session) -> str:
        found = [each for each in _choosable(session, customer_id) if each.value == contact]
        if not found:
            raise NothingPending
        kind = KIND[found[0].channel]
        factors.drop_pending(session, customer_id, list(BY_MESSAGE))
        factor = Factor(
            public_id=ids.public_id(),
            customer_id=customer_id,
            kind=kind.value,
            contact_id=found[0].contact_id,
            created_at=clock.now(),
        )
        session.add(factor)
        session.flush()
        _send(session, customer_id, Pending(factor.id, kind, contact), factor, rules)
        return path

    with throttle.noted():
        return form_keys.once(key, work)


def send_again(customer_id: int, key: ArrivedKey, rules: SignInRules, path: str) -> str:
    """Send another code for the factor that was begun. Raises NothingPending, TooManyAttempts."""

    def work(session: Session) -> str:
        pending = _find(session, customer_id)
        if pending is None:
            raise NothingPending
        factor = session.get_one(Factor, pending.factor_id)
        _send(session, customer_id, pending, factor, rules)
        return path

    with throttle.noted():
        return form_keys.once(key, work)


def _send(
    session: Session, customer_id: int, pending: Pending, factor: Factor, rules: SignInRules
) -> None:
    to = Held(
        factor.id,
        factor.public_id,
        pending.kind,
        "",
        factor.contact_id,
        pending.value,
        factor.created_at,
        None,
    )
    second_step.queue_code(session, customer_id, to, _bound_to(factor.id), rules.secret)


def find_pending(customer_id: int) -> Pending | None:
    return _find(db.session(), customer_id)


def _find(session: Session, customer_id: int) -> Pending | None:
    row = session.execute(
        select(Factor.id, Factor.kind, Contact.value)
        .join(Contact, Contact.id == Factor.contact_id)
        .where(
            Factor.customer_id == customer_id,
            Factor.confirmed_at.is_(None),
            Factor.created_at > clock.now() - PENDING,
        )
        .order_by(Factor.id.desc())
        .limit(1)
    ).one_or_none()
    return Pending(row.id, FactorKind(row.kind), row.value) if row is not None else None


def confirm(customer_id: int, typed: str, rules: SignInRules, *, session_id: int) -> None:
    """Let the factor count: its code has arrived. Raises NothingPending, CodeWrong,
    TooManyAttempts."""
    pending = find_pending(customer_id)
    if pending is None:
        raise NothingPending

    def work(session: Session) -> bool:
        subject = factors.code_subject(rules.secret, customer_id)
        attempt = throttle.count_within(session, subject, throttle.CODES)
        bound_to = _bound_to(pending.factor_id)
        if codes.use(session, rules.secret, CodePurpose.SECOND_FACTOR, bound_to, typed) is None:
            return False
        throttle.note_passed(session, attempt)
        now = clock.now()
        session.execute(
            update(Factor)
            .where(Factor.id == pending.factor_id, Factor.confirmed_at.is_(None))
            .values(confirmed_at=now, last_used_at=now)
        )
        factors.mark_proven(session, session_id)
        factors.note_change(session, customer_id, "factor_added", but_session=session_id)
        return True

    with throttle.noted():
        is_right = unit_of_work(work)
    if not is_right:
        raise CodeWrong


def _bound_to(factor_id: int) -> str:
    return f"factor:{factor_id}"
