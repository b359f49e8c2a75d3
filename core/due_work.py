"""Taking due work from its own table, so that two workers never take the same.

A table with due work has a column that says when it is due (NULL: nothing to do) and
`claimed_until_at`: a worker that dies leaves a claim that runs out.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import or_, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from core import clock
from core.db import unit_of_work


def claim(model: Any, due: InstrumentedAttribute[Any], limit: int, lease: timedelta) -> list[int]:
    """The ids of up to `limit` rows of `model` that are due, now claimed for `lease`."""
    now = clock.now()

    def work(session: Session) -> list[int]:
        rows = (
            select(model.id)
            .where(due <= now, or_(model.claimed_until_at.is_(None), model.claimed_until_at <= now))
            .order_by(due, model.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        claimed = list(session.scalars(rows))
        if claimed:
            session.connection().execute(
                update(model).where(model.id.in_(claimed)).values(claimed_until_at=now + lease)
            )
        return claimed

    return unit_of_work(work)
