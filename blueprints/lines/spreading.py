"""Spreading what a session carried over the hours and days it lasted, in whole bytes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from blueprints.lines.counting import Delta
from core import clock

HOUR = timedelta(hours=1)
_TICK = timedelta(microseconds=1)


def spread(delta: Delta, timezone: str) -> Iterator[tuple[date, int, int, int]]:
    """Of each hour that the span touches: the ISP's day, which hour of it (a day has 23 to 25), and
    how many bytes went up and down, in proportion to the time. They add up to the delta."""
    # In whole numbers: a fraction of 23 hours is none of a float.
    whole = (delta.until_at - delta.from_at) // _TICK
    at, up_done, down_done = delta.from_at, 0, 0
    while True:
        day_on = clock.day_of(at, timezone)
        begins_at = start_of_day(day_on, timezone)
        hour = (at - begins_at) // HOUR
        ends_at = min(
            begins_at + (hour + 1) * HOUR, start_of_day(day_on + timedelta(days=1), timezone)
        )
        if delta.until_at <= ends_at:
            yield day_on, hour, delta.up_bytes - up_done, delta.down_bytes - down_done
            return
        part = (ends_at - delta.from_at) // _TICK
        up, down = delta.up_bytes * part // whole, delta.down_bytes * part // whole
        yield day_on, hour, up - up_done, down - down_done
        at, up_done, down_done = ends_at, up, down


@lru_cache(maxsize=4096)
def start_of_day(day_on: date, timezone: str) -> datetime:
    """When the day begins there, in UTC."""
    local = datetime.combine(day_on, time(0), ZoneInfo(timezone))
    return local.astimezone(UTC)
