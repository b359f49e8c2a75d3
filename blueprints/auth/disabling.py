"""After a hundred wrong guesses in a row a password opens nothing until recovery has lifted that
(bar 5): slow guessing from many places ends there."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import update
from sqlalchemy.orm import Session

from blueprints.auth import reach
from core import activity, clock
from models import Customer

MOST_IN_A_ROW = 100


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


def lift(session: Session, customer_id: int) -> None:
    """Let the customer's password count again, within the running unit of work that sets a new one
    or in which staff have made sure who asks."""
    session.execute(
        update(Customer)
        .where(Customer.id == customer_id)
        .values(failed_in_a_row=0, password_disabled_at=None)
    )
