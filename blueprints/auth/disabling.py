"""After a hundred wrong guesses in a row, or once its owner has said "This wasn't me", a password
opens nothing until recovery has lifted that (bar 5): slow guessing from many places ends there."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.auth import reach
from core import activity, clock
from models import Activity, Customer

MOST_IN_A_ROW = 100
REPORTED = "not_me_reported"
"""The event of having said that something was not them."""
IS_REPORTED = (
    select(Activity.id)
    .where(
        Activity.customer_id == Customer.id,
        Activity.kind == REPORTED,
        Activity.happened_at == Customer.password_disabled_at,
    )
    .exists()
)
"""Whether a customer's password is disabled because they reported something."""


def counting(customer_id: int, *, is_right: bool) -> Callable[[Session], None]:
    """What counts a try at the customer's password within a unit of work; 0 stands for nobody,
    which takes as long. A right one begins anew."""

    def work(session: Session) -> None:
        failed = 0 if is_right else Customer.failed_in_a_row + 1
        in_a_row = session.scalar(
            update(Customer)
            .where(Customer.id == customer_id)
            .values(failed_in_a_row=failed)
            .returning(Customer.failed_in_a_row)
        )
        if in_a_row is not None and in_a_row >= MOST_IN_A_ROW:
            _disable(session, customer_id)

    return work


def _disable(session: Session, customer_id: int) -> None:
    now = clock.now()
    disabled = session.scalar(
        update(Customer)
        .where(Customer.id == customer_id, Customer.password_disabled_at.is_(None))
        .values(password_disabled_at=now, revision=Customer.revision + 1)
        .returning(Customer.id)
    )
    if disabled is not None:
        event = "password_disabled"
        activity.record(session, [activity.Event(event, now, customer_id=customer_id)])
        reach.announce(session, customer_id, event)


def close(session: Session, customer_id: int) -> datetime:
    """Let nothing but recovery lead back in, within the running unit of work: since when. That is
    the instant of the event `REPORTED`, which the caller records."""
    now = clock.now()
    session.execute(
        update(Customer).where(Customer.id == customer_id).values(password_disabled_at=now)
    )
    return now


def may_open(session: Session, customer_id: int, *, with_passkey: bool = False) -> bool:
    """Whether the customer's password opens anything, or their passkey: guessing at a password
    does not keep anybody from a passkey, a report does. Whoever closes everything at this moment
    waits for the running unit of work, or is waited for."""
    disabled_at = session.scalar(
        select(Customer.password_disabled_at).where(Customer.id == customer_id).with_for_update()
    )
    if disabled_at is None or not with_passkey:
        return disabled_at is None
    # Asked once the row is locked: what was waited for is seen only then.
    return not session.scalar(select(IS_REPORTED).where(Customer.id == customer_id))


def lift(session: Session, customer_id: int) -> None:
    """Let the customer's password count again, within the running unit of work that sets a new one
    or in which staff have made sure who asks."""
    session.execute(
        update(Customer)
        .where(Customer.id == customer_id)
        .values(failed_in_a_row=0, password_disabled_at=None)
    )
