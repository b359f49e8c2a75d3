"""Days at the ISP and the instants at which the worker acts on them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from zoneinfo import ZoneInfo

from core import clock
from core.isp import current_isp

TAKEN_AT = time(6)
"""When on its day a payment is taken: after the night's bills, before people pay themselves."""


def today() -> date:
    """The calendar day at the ISP."""
    return clock.today(current_isp().timezone)


def taken_at(day: date) -> datetime:
    """The instant at which what is planned for `day` is taken."""
    return _at(day, TAKEN_AT)


def begin_of(day: date) -> datetime:
    """The instant at which `day` begins at the ISP."""
    return _at(day, time(0))


def _at(day: date, hour: time) -> datetime:
    return datetime.combine(day, hour, ZoneInfo(current_isp().timezone)).astimezone(UTC)
