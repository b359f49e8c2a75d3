"""Bringing the switch to what is wanted of each number: by the worker, and again until it is there;
or, where there is no way to the switch, by staff, who say so.

What the switch does not do is tried again with growing pauses; why it failed is kept with the
number, and staff see the list of what lags.
"""

from __future__ import annotations

import logging

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from blueprints.lines.phone.choosing import effective, stamp_of
from blueprints.lines.phone.errors import NumberNotFound, ShownOtherwise
from blueprints.lines.syncing import LONGEST_FAILURE, PAUSES
from core import clock, due_work, form_keys, revisions
from core.db import db, unit_of_work
from core.form_keys import ArrivedKey
from core.isp import current_isp
from gateways.voice.base import NumberSettings, VoiceGateway, features_of
from gateways.voice.errors import VoiceError
from models import PhoneNumber, Plan, Subscription

log = logging.getLogger("lastmile.phone")


class NumberSyncing:
    """A duty of the worker: brings numbers that are due to what is wanted of them."""

    def __init__(self, gateway: VoiceGateway | None) -> None:
        self.__name__ = "syncing of phone numbers"  # as the log names a duty
        self._gateway = gateway

    def __call__(self) -> int:
        """Returns how many numbers were tried; without a gateway none is."""
        gateway = self._gateway
        if gateway is None:
            return 0
        return due_work.do(
            PhoneNumber, PhoneNumber.sync_at, lambda number_id: _sync(number_id, gateway)
        )


def _sync(number_id: int, gateway: VoiceGateway) -> None:
    number = db.session.execute(
        select(PhoneNumber.account_id, PhoneNumber.number).where(PhoneNumber.id == number_id)
    ).one()
    wanted = wanted_of(db.session(), number_id)
    failure = ""
    try:
        gateway.set_number(number.number, wanted, current_isp().timezone)
    except VoiceError as error:
        failure = str(error)[:LONGEST_FAILURE] or type(error).__name__
        log.warning("the switch did not change a number", extra={"why": failure})
    except Exception as error:
        # One number that cannot be set must not hold up the others.
        failure = type(error).__name__
        log.exception("the voice gateway failed")
    if failure:
        unit_of_work(lambda session: _put_off(session, number_id, failure), number.account_id)
    else:
        unit_of_work(lambda session: note_reached(session, number_id, wanted), number.account_id)


def wanted_of(session: Session, number_id: int) -> NumberSettings:
    """What the switch is to do for a number now."""
    row = session.execute(
        select(PhoneNumber.wanted, Plan.features)
        .join(Subscription, Subscription.id == PhoneNumber.subscription_id)
        .join(Plan, Plan.id == Subscription.plan_id)
        .where(PhoneNumber.id == number_id)
    ).one()
    return effective(NumberSettings.of(row.wanted), features_of(row.features))


def _put_off(session: Session, number_id: int, failure: str) -> None:
    row = session.execute(
        select(PhoneNumber.number, PhoneNumber.ended_on, PhoneNumber.sync_count).where(
            PhoneNumber.id == number_id
        )
    ).one()
    if row.ended_on is not None and _tell_next(session, row.number):
        return
    session.execute(
        update(PhoneNumber)
        .where(PhoneNumber.id == number_id)
        .values(
            sync_at=clock.now() + PAUSES[min(row.sync_count, len(PAUSES) - 1)],
            sync_count=row.sync_count + 1,
            sync_failure=failure,
            claimed_until_at=None,
        )
    )


def note_reached(session: Session, number_id: int, reached: NumberSettings) -> None:
    """Write what the switch does for a number now, within the running unit of work over its
    account; something else may be wanted by now, which is set next."""
    number = session.get_one(PhoneNumber, number_id, populate_existing=True)
    now = clock.now()
    if number.ended_on is not None and _tell_next(session, number.number):
        return
    is_there = wanted_of(session, number_id) == reached
    if number.reached != reached.as_facts() or (number.pending_at is None) is not is_there:
        revisions.raise_account(session, number.account_id)
    number.reached = reached.as_facts()
    number.pending_at = None if is_there else number.pending_at or now
    number.sync_at = None if is_there else now
    number.sync_count, number.sync_failure, number.claimed_until_at = 0, "", None


def _tell_next(session: Session, number: str) -> bool:
    """Have the switch told of whoever has the number now, which it may have been told of before
    the one who had it; whether there is somebody."""
    told = session.scalars(
        update(PhoneNumber)
        .where(PhoneNumber.number == number, PhoneNumber.ended_on.is_(None))
        .values(sync_at=clock.now())
        .returning(PhoneNumber.id)
    ).all()
    return bool(told)


# By staff ----------------------------------------------------------------------------------------


def confirm(public_id: str, stamp: str, path: str, key: ArrivedKey) -> str:
    """Note that staff have set at the switch what the page with this `stamp` showed; `path`.
    Raises NumberNotFound, ShownOtherwise."""
    number_id, account_id = _find(public_id)

    def work(session: Session) -> str:
        wanted = wanted_of(session, number_id)
        if stamp_of(wanted) != stamp:
            raise ShownOtherwise
        note_reached(session, number_id, wanted)
        return path

    return form_keys.once(key, work, account_id)


def try_again(public_id: str, path: str, key: ArrivedKey) -> str:
    """Have the switch told of a number once more, at once; `path`. Raises NumberNotFound."""
    number_id, account_id = _find(public_id)

    def work(session: Session) -> str:
        session.execute(
            update(PhoneNumber)
            .where(PhoneNumber.id == number_id)
            .values(sync_at=clock.now(), sync_count=0)
        )
        return path

    return form_keys.once(key, work, account_id)


def _find(public_id: str) -> tuple[int, int]:
    row = db.session.execute(
        select(PhoneNumber.id, PhoneNumber.account_id).where(
            PhoneNumber.public_id == public_id,
            or_(PhoneNumber.ended_on.is_(None), PhoneNumber.pending_at.is_not(None)),
        )
    ).one_or_none()
    current_isp()  # read now: asking within the unit would take a second connection meanwhile
    if row is None:
        raise NumberNotFound
    return row.id, row.account_id
