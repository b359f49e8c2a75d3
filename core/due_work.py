"""Taking due work from its own table, so that two workers never take the same.

A table with due work has a column that says when it is due (NULL: nothing to do) and
`claimed_until_at`: a worker that dies leaves a claim that runs out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, or_, select, true, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from core import clock
from core.db import unit_of_work

log = logging.getLogger("lastmile.worker")

LEASE = timedelta(minutes=2)
BATCH = 20
# A round ends after this long, so that work which waits for a silent server outlives neither its
# claims nor the worker's heartbeat: one call may take twenty seconds more.
ROUND_SECONDS = 5.0


def claim(
    model: Any,
    due: InstrumentedAttribute[Any],
    limit: int,
    lease: timedelta,
    which: ColumnElement[bool] | None = None,
) -> list[int]:
    """The ids of up to `limit` rows of `model` (`which` of them) that are due, now claimed for
    `lease`."""
    now = clock.now()

    def work(session: Session) -> list[int]:
        rows = (
            select(model.id)
            .where(
                due <= now,
                or_(model.claimed_until_at.is_(None), model.claimed_until_at <= now),
                true() if which is None else which,
            )
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


def release(model: Any, row_ids: list[int]) -> None:
    """Give back claims of rows that nothing was done about."""

    def work(session: Session) -> None:
        session.connection().execute(
            update(model).where(model.id.in_(row_ids)).values(claimed_until_at=None)
        )

    if row_ids:
        unit_of_work(work)


def do(
    model: Any,
    due: InstrumentedAttribute[Any],
    work: Callable[[int], object],
    which: ColumnElement[bool] | None = None,
) -> int:
    """Claim due rows and do `work` for each until the round's time is over; returns how many.

    `work` moves or empties the row's `due` column. A row for which it raises is logged, stays
    claimed until the claim runs out, and holds up no other.
    """
    end = time.monotonic() + ROUND_SECONDS
    claimed = claim(model, due, BATCH, LEASE, which)
    for done, row_id in enumerate(claimed):
        if done and time.monotonic() > end:
            release(model, claimed[done:])
            return done
        try:
            work(row_id)
        except Exception:
            log.exception("due work failed", extra={"table": model.__tablename__, "row": row_id})
    return len(claimed)
