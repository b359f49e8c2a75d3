"""Opening a line that is held for what is unpaid, for a quarter of an hour, so that its customer
reaches the pages of the bank (DESIGN §3)."""

from __future__ import annotations

from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, bindparam, exists, func, insert, select, update
from sqlalchemy.orm import Session

from core import clock, revisions
from core.isp import current_isp
from models import HoldReason, Line, LineHold, LineOpening, LineState

OPEN_FOR = timedelta(minutes=15)
TIMES_A_DAY = 2


def _held_for_nothing_else() -> ColumnElement[bool]:
    return ~exists().where(
        LineHold.line_id == Line.id,
        LineHold.released_at.is_(None),
        LineHold.reason != HoldReason.UNPAID.value,
    )


_openings = (
    select(func.count(LineOpening.id))
    .where(LineOpening.line_id == Line.id, LineOpening.from_at >= bindparam("day_start"))
    .scalar_subquery()
)
# Without a network gateway nothing is ever reached, and there is nothing to open.
_CAN_BE_OPENED = (
    select(Line.id)
    .where(
        Line.account_id == bindparam("account_id"),
        Line.wanted_state == LineState.HELD.value,
        Line.reached_state.is_not(None),
        Line.opened_until_at.is_(None),
        _held_for_nothing_else(),
        _openings < TIMES_A_DAY,
    )
    .order_by(Line.id)
)


def _day_start(now: datetime) -> datetime:
    """When the ISP's day began."""
    zone = ZoneInfo(current_isp().timezone)
    return datetime.combine(now.astimezone(zone).date(), time(0), zone)


def list_openable(session: Session, account_id: int) -> list[int]:
    """The lines that pressing Pay would open."""
    values = {"account_id": account_id, "day_start": _day_start(clock.now())}
    return [row.id for row in session.execute(_CAN_BE_OPENED, values)]


def open_to_pay(session: Session, account_id: int) -> None:
    """Open the account's lines that may be, within the running unit of work over it."""
    line_ids = list_openable(session, account_id)
    if not line_ids:
        return
    now = clock.now()
    until_at = now + OPEN_FOR
    session.execute(
        insert(LineOpening),
        [{"line_id": line_id, "from_at": now, "until_at": until_at} for line_id in line_ids],
    )
    session.execute(
        update(Line)
        .where(Line.id.in_(line_ids))
        .values(opened_until_at=until_at, sync_at=now, sync_count=0)
    )
    revisions.raise_account(session, account_id)
