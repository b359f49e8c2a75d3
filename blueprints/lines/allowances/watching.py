"""Looking at how much lines have used, by the worker.

Whatever a line carried marks it (`Line.look_at`) in the transaction that counts it; the worker
looks at what is marked right afterwards, and at what is limited once its period has ended.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from functools import partial

from sqlalchemy import bindparam, exists, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from blueprints.lines.allowances import deciding
from blueprints.lines.allowances.standing import list_standings
from core import clock
from core.db import DatabaseBusy, db, unit_of_work
from core.isp import current_isp
from models import Line, Plan, PlanKind, Subscription

log = logging.getLogger("lastmile.lines")

AT_ONCE = 50
"""Lines of one round: a backlog of accounting marks them faster than they are looked at, and is to
be read first."""
FAILED = "what a line has used could not be looked at"
AGAIN_AFTER = timedelta(minutes=5)
"""When a line is looked at again where that failed."""
WAKE_EVERY = timedelta(minutes=1)

_MARK = (
    update(Line)
    .where(
        Line.id.in_(bindparam("lines", expanding=True)),
        exists().where(
            Subscription.account_id == Line.account_id,
            Plan.id == Subscription.plan_id,
            Plan.kind == PlanKind.INTERNET.value,
            Plan.data_included_bytes.is_not(None),
        ),
    )
    .values(look_at=bindparam("now"))
)
_SEEN = (
    update(Line)
    .where(Line.id == bindparam("line"), Line.look_at == bindparam("seen"))
    .values(look_at=bindparam("next"))
)


def mark(session: Session, line_ids: Collection[int]) -> None:
    """Have the worker look at those of the lines that have a limit."""
    if line_ids:
        values = {"lines": sorted(line_ids), "now": clock.now()}
        session.connection().execute(_MARK, values)


class Watching:
    """A duty of the worker: looks at lines of which something was counted, or whose limit ends."""

    def __init__(self) -> None:
        self.__name__ = "watching of allowances"  # as the log names a duty
        self._woken_at = clock.now() - WAKE_EVERY

    def __call__(self) -> int:
        """Returns at how many lines it looked."""
        if clock.now() - self._woken_at >= WAKE_EVERY:
            self._woken_at = clock.now()
            return look() + _wake()
        return look()


def look() -> int:
    """Look at the lines that are marked; returns at how many. One that fails holds up no other."""
    marked = {
        row.id: row.look_at
        for row in db.session.execute(
            select(Line.id, Line.look_at)
            .where(Line.look_at <= clock.now())
            .order_by(Line.look_at, Line.id)
            .limit(AT_ONCE)
        )
    }
    if not marked:
        return 0
    today = clock.today(current_isp().timezone)
    failed = _decide_all(sorted(marked), today)
    unit_of_work(partial(_note_seen, marked=marked, failed=failed))
    return len(marked)


def _decide_all(line_ids: Sequence[int], today: date) -> set[int]:
    """Decide about those of the lines about which there may be news; the lines that failed."""
    try:
        found = _with_news(db.session(), line_ids, today)
    except SQLAlchemyError:
        db.session.rollback()
        if len(line_ids) == 1:
            log.exception(FAILED, extra={"line": line_ids[0]})
            return set(line_ids)
        return {failed for line_id in line_ids for failed in _decide_all([line_id], today)}
    return {line_id for line_id, account_id in found if not _decide(line_id, account_id, today)}


def _decide(line_id: int, account_id: int, today: date) -> bool:
    """Whether it could be decided about the line."""
    try:
        unit_of_work(partial(deciding.decide, line_id=line_id, today=today), account_id)
    except DatabaseBusy:
        raise
    except Exception:  # whatever it is, the others are not to wait for it
        db.session.rollback()
        log.exception(FAILED, extra={"line": line_id})
        return False
    return True


def _note_seen(session: Session, marked: dict[int, datetime], failed: Collection[int]) -> None:
    # One that was marked again meanwhile stays so.
    again_at = clock.now() + AGAIN_AFTER
    session.connection().execute(
        _SEEN,
        [
            {
                "line": line_id,
                "seen": marked[line_id],
                "next": again_at if line_id in failed else None,
            }
            for line_id in sorted(marked)
        ],
    )


def _with_news(session: Session, line_ids: Sequence[int], today: date) -> list[tuple[int, int]]:
    """Those of the lines about which there may be something to do, with their accounts: a threshold
    of which nobody was told, something used beyond, a plan or a period that has just begun or
    ended."""
    standings = list_standings(session, line_ids, today)
    told = deciding.told_of(session, standings)
    found = {
        each.line_id: each.account_id
        for each in standings
        if each.over_bytes
        or each.limited_until_on is not None
        or deciding.crossed_of(each) - told.get(each.line_id, set())
        or (today - each.count.mark.began_on).days <= deciding.LATE_DAYS
    }
    others = sorted(set(line_ids) - {each.line_id for each in standings})
    for days in range(1, deciding.LATE_DAYS + 2) if others else ():
        on = today - timedelta(days=days)
        for each in list_standings(session, others, on, with_closed=True):
            found[each.line_id] = each.account_id
    return sorted(found.items())


def _wake() -> int:
    """Decide anew about the lines that are limited for a period that has ended."""
    today = clock.today(current_isp().timezone)
    rows = db.session.execute(
        select(Line.id, Line.account_id)
        .where(Line.limited_until_on <= today)
        .order_by(Line.id)
        .limit(AT_ONCE)
    ).all()
    return sum(_decide(row.id, row.account_id, today) for row in rows)
