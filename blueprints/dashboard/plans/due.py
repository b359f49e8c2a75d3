"""Plan changes whose day has come: the worker brings the line to them."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.dashboard.plans import changing
from blueprints.lines.allowances import deciding
from core import activity, clock, due_work, revisions
from core.db import db, unit_of_work
from models import PlanChange, PlanChangeState


def take_effect_due() -> int:
    """A duty of the worker; how many changes it looked at."""
    return due_work.do(PlanChange, PlanChange.due_at, _take_effect)


def _take_effect(change_id: int) -> None:
    account_id = db.session.execute(
        select(PlanChange.account_id).where(PlanChange.id == change_id)
    ).scalar_one()

    def work(session: Session) -> None:
        made = session.get_one(PlanChange, change_id, populate_existing=True)
        if made.state != PlanChangeState.PLANNED:
            made.due_at = None
            return
        before_on = made.effective_on - timedelta(days=1)
        if changing.take_effect(session, made, deciding.leave(session, account_id, before_on)):
            event = activity.Event(
                "plan_changed",
                clock.now(),
                account_id=account_id,
                customer_id=made.customer_id,
            )
            activity.record(session, [event])
        revisions.raise_account(session, account_id)

    unit_of_work(work, account_id)
