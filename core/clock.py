"""What time it is. Money, session and usage code asks here, so that a test or the demo can set it.

`now()` is an aware UTC instant; `today(zone)` is the calendar day in the ISP's time zone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

_set_to: ContextVar[datetime | None] = ContextVar("clock", default=None)
_shift = timedelta(0)


def now() -> datetime:
    """The current instant, aware, in UTC."""
    fixed = _set_to.get()
    return fixed if fixed is not None else datetime.now(UTC) + _shift


def today(timezone: str) -> date:
    """The calendar day it is now in `timezone` (an IANA name)."""
    return day_of(now(), timezone)


def day_of(instant: datetime, timezone: str) -> date:
    """The calendar day of an instant in `timezone` (an IANA name)."""
    return instant.astimezone(ZoneInfo(timezone)).date()


@contextmanager
def set_to(instant: datetime) -> Iterator[None]:
    """Stop the clock at `instant` (aware) within the block, in this thread or task only."""
    if instant.tzinfo is None:
        raise ValueError("an instant must carry its time zone")
    token = _set_to.set(instant.astimezone(UTC))
    try:
        yield
    finally:
        _set_to.reset(token)


def shift_by(delta: timedelta) -> None:
    """Move the clock of this whole process by `delta` from the real time (tests of expiry)."""
    global _shift  # noqa: PLW0603 - a process has one clock
    _shift = delta


def month_step(day: date, months: int, anchor_day: int) -> date:
    """`day` moved by calendar months, on `anchor_day` or the last day of a shorter month."""
    month_index = day.year * 12 + day.month - 1 + months
    year, month = divmod(month_index, 12)
    first_of_next = date(year + (month == 11), (month + 1) % 12 + 1, 1)
    last_day = (first_of_next - timedelta(days=1)).day
    return date(year, month + 1, min(anchor_day, last_day))
