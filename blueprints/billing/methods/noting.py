"""What a change of a saved method writes down. Everything here runs inside a unit of work."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.auth import reach
from core import activity, clock, revisions
from models import Account, MethodState, PaymentMethod


def end(method: PaymentMethod, state: MethodState, reason: str = "") -> None:
    """Put the method into a state in which nothing is taken with it."""
    method.state = state.value
    method.failure = reason[:300]
    method.ended_at = clock.now()
    method.ask_at = method.claimed_until_at = None


def note(session: Session, method: PaymentMethod, kind: str) -> None:
    """Record the event `kind`, and tell whose method it is."""
    activity.record(
        session,
        [
            activity.Event(
                kind,
                clock.now(),
                account_id=method.account_id,
                customer_id=method.customer_id,
                facts={"method": method.public_id},
            )
        ],
    )
    reach.announce(session, method.customer_id, kind, account_id=method.account_id)


def touch(session: Session, method: PaymentMethod) -> None:
    """Let no page that was remembered show the method as it was."""
    revisions.raise_customer(session, method.customer_id)
    revisions.raise_account(session, method.account_id)


def account_reference(session: Session, method: PaymentMethod) -> str | None:
    """The public id of the method's account, by which the gateway knows it."""
    return session.scalar(select(Account.public_id).where(Account.id == method.account_id))
