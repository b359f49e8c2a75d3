"""Closing accounts whose bills stay unpaid: plans end, lines are closed; what is owed stays."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from sqlalchemy import case, or_, select, update
from sqlalchemy.orm import Session

from blueprints.billing import adjusting
from blueprints.lines import holding
from core import activity, clock
from models import (
    Account,
    AccountStatus,
    Line,
    PlanChange,
    PlanChangeState,
    Subscription,
)


def close(session: Session, account_ids: Sequence[int], today: date) -> None:
    """Close the accounts as of `today`, within the running unit of work over them."""
    if not account_ids:
        return
    now = clock.now()
    session.execute(
        update(Account)
        .where(Account.id.in_(account_ids))
        .values(status=AccountStatus.CLOSED.value, revision=Account.revision + 1)
    )
    _end_changes(session, account_ids)
    started_on = Subscription.started_on
    session.execute(
        update(Subscription)
        .where(
            Subscription.account_id.in_(account_ids),
            or_(Subscription.ended_on.is_(None), Subscription.ended_on > today),
        )
        .values(ended_on=case((started_on > today, started_on), else_=today))
    )
    line_ids = list(
        session.scalars(
            select(Line.id).where(Line.account_id.in_(account_ids), Line.is_closed.is_(False))
        )
    )
    session.execute(update(Line).where(Line.id.in_(line_ids)).values(is_closed=True))
    holding.plan(session, line_ids, now)
    activity.record(
        session,
        [
            activity.Event("account_closed", now, account_id=account_id)
            for account_id in account_ids
        ],
    )


def _end_changes(session: Session, account_ids: Sequence[int]) -> None:
    """Let changes of plans that wait come to nothing, with what they were to cost."""
    waiting = session.scalars(
        select(PlanChange).where(
            PlanChange.account_id.in_(account_ids),
            PlanChange.state.in_([PlanChangeState.ASKED.value, PlanChangeState.PLANNED.value]),
        )
    )
    for change in list(waiting):
        change.state = PlanChangeState.UNDONE.value
        change.ended_at = clock.now()
        change.due_at = change.claimed_until_at = None
        adjusting.take_back_charges(session, change.charges)
    session.flush()
