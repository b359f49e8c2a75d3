"""Closing accounts whose bills stay unpaid: plans end, lines are closed; what is owed stays."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from sqlalchemy import case, or_, select, update
from sqlalchemy.orm import Session

from blueprints.billing import adjusting
from blueprints.lines import holding
from blueprints.lines.phone import numbers
from core import activity, clock
from models import (
    MOVE_WAITS,
    PAUSE_STANDS,
    Account,
    AccountStatus,
    HoldReason,
    Line,
    Move,
    MoveState,
    Pause,
    PauseState,
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
    _end_pauses(session, account_ids, today)
    _end_moves(session, account_ids)
    started_on = Subscription.started_on
    session.execute(
        update(Subscription)
        .where(
            Subscription.account_id.in_(account_ids),
            or_(Subscription.ended_on.is_(None), Subscription.ended_on > today),
        )
        .values(ended_on=case((started_on > today, started_on), else_=today))
    )
    numbers.end_over(session, account_ids)
    line_ids = list(
        session.scalars(
            select(Line.id).where(Line.account_id.in_(account_ids), Line.is_closed.is_(False))
        )
    )
    session.execute(update(Line).where(Line.id.in_(line_ids)).values(is_closed=True))
    holding.release(session, line_ids, HoldReason.PAUSE, is_noted=False)
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


def _end_moves(session: Session, account_ids: Sequence[int]) -> None:
    """Let moves that wait come to nothing."""
    session.execute(
        update(Move)
        .where(Move.account_id.in_(account_ids), Move.state.in_(MOVE_WAITS))
        .values(
            state=MoveState.UNDONE.value,
            ended_at=clock.now(),
            due_at=None,
            claimed_until_at=None,
        )
    )


def _end_pauses(session: Session, account_ids: Sequence[int], today: date) -> None:
    """Let pauses that wait come to nothing, and those that run be over."""
    standing = session.scalars(
        select(Pause).where(
            Pause.account_id.in_(account_ids),
            Pause.state.in_(PAUSE_STANDS),
        )
    )
    for pause in list(standing):
        is_running = pause.state == PauseState.RUNNING
        pause.state = (PauseState.DONE if is_running else PauseState.UNDONE).value
        if is_running:
            pause.until_on = min(pause.until_on, max(pause.from_on, today))
        pause.ended_at = clock.now()
        pause.due_at = pause.claimed_until_at = None
    session.flush()
