"""What the lines of the demo carried before today: days, hours and connections.

Told as `gateways/network/simulated_traffic.py` goes on with it, but written at once: half a million
days would otherwise be half a year of reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from typing import Any
from zlib import crc32

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from blueprints.lines import accounting
from blueprints.lines.allowances import deciding
from blueprints.lines.allowances.standing import list_standings
from blueprints.lines.spreading import start_of_day
from core import clock
from core.db import db, unit_of_work
from gateways.network import simulated_traffic
from gateways.network.simulated import NAS, address_of, device_of
from models import Account, Line, LineHold, Nas, UsageDay, UsageSession

LINES_AT_ONCE = 10
_DAY = timedelta(days=1)
_HOURS = 24


@dataclass(frozen=True, slots=True)
class _Past:
    """A line and the days on which it carried anything: from `from_on` to `last_on`."""

    line_id: int
    username: str
    from_on: date
    last_on: date


def tell(now: datetime, timezone: str) -> None:
    """Write what each line carried until `now`, from when its account was opened, thirteen months
    at most. A line that is held has carried nothing since."""
    today = clock.day_of(now, timezone)
    first_on = clock.month_step(today.replace(day=1), -accounting.DAYS_KEPT_MONTHS + 1, 1)
    nas_id = unit_of_work(_add_nas)
    past = list(_pasts(first_on, today, timezone))
    for start in range(0, len(past), LINES_AT_ONCE):
        some = past[start : start + LINES_AT_ONCE]
        days = [_days_of(each, now, timezone) for each in some]
        sessions = [
            row
            for each, rows in zip(some, days, strict=True)
            for row in _sessions_of(each, rows, nas_id, timezone)
        ]
        unit_of_work(partial(_write, table=UsageDay, rows=[row for rows in days for row in rows]))
        unit_of_work(partial(_write, table=UsageSession, rows=sessions))
    _decide(today)


def _decide(today: date) -> None:
    """What follows from it in this bill period, without the messages that have been sent."""
    lines = {row.id: row.account_id for row in db.session.execute(select(Line.id, Line.account_id))}
    standings = [
        each
        for each in list_standings(db.session(), sorted(lines), today)
        if each.over_bytes or deciding.crossed_of(each)
    ]
    for start in range(0, len(standings), LINES_AT_ONCE):
        some = [each.line_id for each in standings[start : start + LINES_AT_ONCE]]

        def work(session: Session, line_ids: Sequence[int] = some) -> None:
            for line_id in line_ids:
                deciding.decide(session, line_id, today, is_told=False)

        unit_of_work(work, *{lines[line_id] for line_id in some})


def _add_nas(session: Session) -> int:
    nas = Nas(name=NAS, heard_at=clock.now())
    session.add(nas)
    session.flush()
    return nas.id


def _write(session: Session, table: type[Any], rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        session.connection().execute(insert(table), rows)


def _pasts(first_on: date, today: date, timezone: str) -> Iterator[_Past]:
    rows = db.session.execute(
        select(
            Line.id,
            Line.username,
            Line.is_closed,
            Account.opened_on,
            func.min(LineHold.since_at).label("held_at"),
        )
        .join(Account, Account.id == Line.account_id)
        .outerjoin(LineHold, (LineHold.line_id == Line.id) & LineHold.released_at.is_(None))
        .group_by(Line.id, Line.username, Line.is_closed, Account.opened_on)
        .order_by(Line.id)
    ).all()
    for row in rows:
        last_on = today
        if row.held_at is not None:
            last_on = min(last_on, clock.day_of(row.held_at, timezone))
        from_on = max(first_on, row.opened_on)
        if not row.is_closed and from_on <= last_on:
            yield _Past(row.id, row.username, from_on, last_on)


def _days_of(past: _Past, now: datetime, timezone: str) -> list[dict[str, Any]]:
    today = clock.day_of(now, timezone)
    rows = []
    day = past.from_on
    while day <= past.last_on:
        up, down = simulated_traffic.of_day(past.username, day)
        hours = None
        if day > today - accounting.HOURS_KEPT:
            shares = simulated_traffic.by_hour(down, _HOURS), simulated_traffic.by_hour(up, _HOURS)
            if day == today:
                over = (now - start_of_day(day, timezone)) // timedelta(hours=1)
                shares = shares[0][:over], shares[1][:over]
            down, up = sum(shares[0]), sum(shares[1])
            hours = [number for pair in zip(shares[1], shares[0], strict=True) for number in pair]
        rows.append(
            {
                "line_id": past.line_id,
                "day_on": day,
                "up_bytes": up,
                "down_bytes": down,
                "hours": hours,
            }
        )
        day += _DAY
    return rows


def _sessions_of(
    past: _Past, days: Sequence[dict[str, Any]], nas_id: int, timezone: str
) -> Iterator[dict[str, Any]]:
    """Connections of some days each, which carried what those days did, as far back as they are
    kept."""
    kept = [row for row in days if row["day_on"] > past.last_on - accounting.SESSIONS_KEPT]
    number = 0
    while number < len(kept):
        length = 2 + crc32(f"{past.username} {kept[number]['day_on']}".encode()) % 7
        of_session = kept[number : number + length]
        number += length
        started_at = start_of_day(of_session[0]["day_on"], timezone)
        ended_at = min(start_of_day(of_session[-1]["day_on"] + _DAY, timezone), clock.now())
        yield {
            "line_id": past.line_id,
            "nas_id": nas_id,
            "session": f"{crc32(f'{past.username} {started_at}'.encode()):08X}",
            "started_at": started_at,
            "counted_at": ended_at,
            "counted_seconds": int((ended_at - started_at).total_seconds()),
            "seen_at": ended_at,
            "ended_at": ended_at,
            "up_bytes": sum(row["up_bytes"] for row in of_session),
            "down_bytes": sum(row["down_bytes"] for row in of_session),
            "interval_seconds": 900,
            "is_stale": False,
            "is_stopped": True,
            "is_start_guessed": False,
            "lacks_gigawords": False,
            "is_doubted": False,
            "address": address_of(past.username),
            "device": device_of(past.username),
            "cause": "User-Request",
        }
