"""What time it is, and steps by calendar months."""

from __future__ import annotations

import contextvars
import threading
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import clock

NOON = datetime(2026, 6, 20, 12, tzinfo=UTC)


def test_clock_goes_on_in_utc() -> None:
    first, second = clock.now(), clock.now()
    assert first.tzinfo is UTC
    assert first <= second


def test_clock_stands_still_inside_the_block_and_nowhere_else() -> None:
    seen: list[datetime] = []
    with clock.set_to(NOON):
        assert clock.now() == clock.now() == NOON
        with clock.set_to(NOON + timedelta(days=1)):
            assert clock.now() == NOON + timedelta(days=1)
        other = threading.Thread(
            target=contextvars.Context().run, args=(lambda: seen.append(clock.now()),)
        )
        other.start()
        other.join()
        assert clock.now() == NOON
    assert seen[0] != NOON
    assert clock.now() != NOON


def test_instant_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"), clock.set_to(datetime(2026, 6, 20)):  # noqa: DTZ001
        pass


def test_other_zones_are_turned_into_utc() -> None:
    with clock.set_to(datetime(2026, 6, 20, 14, tzinfo=timezone(timedelta(hours=2)))):
        assert clock.now() == NOON
        assert clock.now().tzinfo is UTC


@pytest.mark.parametrize(
    ("instant", "zone", "day"),
    [
        (datetime(2026, 6, 21, 6, 59, tzinfo=UTC), "America/Los_Angeles", date(2026, 6, 20)),
        (datetime(2026, 6, 21, 7, 0, tzinfo=UTC), "America/Los_Angeles", date(2026, 6, 21)),
        (datetime(2026, 12, 31, 23, 30, tzinfo=UTC), "Europe/Berlin", date(2027, 1, 1)),
        (datetime(2026, 3, 8, 9, 59, tzinfo=UTC), "America/Los_Angeles", date(2026, 3, 8)),
    ],
)
def test_day_is_the_isps(instant: datetime, zone: str, day: date) -> None:
    with clock.set_to(instant):
        assert clock.today(zone) == day


def test_shift_moves_the_whole_process() -> None:
    try:
        clock.shift_by(timedelta(hours=5))
        assert clock.now() - datetime.now(UTC) > timedelta(hours=4)
    finally:
        clock.shift_by(timedelta())


@pytest.mark.parametrize(
    ("day", "months", "anchor", "stepped"),
    [
        (date(2026, 1, 31), 1, 31, date(2026, 2, 28)),
        (date(2028, 1, 31), 1, 31, date(2028, 2, 29)),
        (date(2026, 2, 28), 1, 31, date(2026, 3, 31)),
        (date(2026, 12, 15), 1, 15, date(2027, 1, 15)),
        (date(2026, 1, 15), -1, 15, date(2025, 12, 15)),
        (date(2026, 6, 1), 0, 1, date(2026, 6, 1)),
        (date(2026, 11, 30), 1, 30, date(2026, 12, 30)),
        (date(2026, 3, 31), -1, 31, date(2026, 2, 28)),
        (date(2024, 2, 29), 12, 29, date(2025, 2, 28)),
    ],
)
def test_month_is_a_calendar_step(day: date, months: int, anchor: int, stepped: date) -> None:
    assert clock.month_step(day, months, anchor) == stepped


@given(st.dates(date(2000, 1, 1), date(2100, 1, 1)), st.integers(-60, 60), st.integers(1, 31))
def test_steps_land_in_the_month_they_mean(day: date, months: int, anchor: int) -> None:
    stepped = clock.month_step(day, months, anchor)
    assert (stepped.year * 12 + stepped.month) - (day.year * 12 + day.month) == months
    assert stepped.day == anchor or (stepped + timedelta(days=1)).day == 1
    assert stepped.day <= anchor
