"""What the lines of the demo's network carry: a household's evenings, weekends and quiet weeks.

It follows from the line's name and the hour, so that a past that nobody reported can be told as
well as what is reported now, and both agree.
"""

from datetime import UTC, date, datetime, timedelta
from zlib import crc32

_HOUR = timedelta(hours=1)
_GB = 1_000_000_000
# Of a day's bytes, by the hour of UTC: evenings at the Pacific are 2 to 6.
_WEIGHTS = (
    55,
    62,
    74,
    86,
    92,
    84,
    62,
    38,
    20,
    11,
    8,
    7,
    7,
    9,
    14,
    22,
    30,
    36,
    40,
    44,
    47,
    50,
    52,
    50,
)
_DAY_WEIGHT = sum(_WEIGHTS)
_SIZES_GB = (1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 16, 20, 26, 34, 48)
"""What households carry on a usual day, one as often as another."""


def carried(username: str, from_at: datetime, until_at: datetime) -> tuple[int, int]:
    """Bytes up and down between two instants."""
    up = down = 0
    at = from_at.astimezone(UTC)
    while at < until_at:
        begins_at = at.replace(minute=0, second=0, microsecond=0)
        ends_at = min(begins_at + _HOUR, until_at)
        of_hour = _of_hour(username, begins_at)
        before, after = (at - begins_at) / _HOUR, (ends_at - begins_at) / _HOUR
        up += int(of_hour[0] * after) - int(of_hour[0] * before)
        down += int(of_hour[1] * after) - int(of_hour[1] * before)
        at = ends_at
    return up, down


def _of_hour(username: str, hour_at: datetime) -> tuple[int, int]:
    total = of_day(username, hour_at.date())[1]
    dice = crc32(f"{username} {hour_at:%d %H}".encode()) % 100
    down = total * _WEIGHTS[hour_at.hour] * (50 + dice) // (100 * _DAY_WEIGHT)
    return down * _share_up(username) // 1000, down


def by_hour(day_bytes: int, hours: int) -> list[int]:
    """A day's bytes over its hours from midnight at the Pacific; they add up to them."""
    weights = [_WEIGHTS[(number + 8) % 24] for number in range(hours)]
    parts = [day_bytes * weight // sum(weights) for weight in weights]
    parts[-1] += day_bytes - sum(parts)
    return parts


def of_day(username: str, day: date) -> tuple[int, int]:
    """Bytes up and down of a day of UTC, about."""
    usual = _SIZES_GB[crc32(username.encode()) % len(_SIZES_GB)] * _GB
    dice = crc32(f"{day:%Y%m%d} {username}".encode())
    percent = 45 + dice % 90 + (35 if day.weekday() >= 5 else 0)
    if dice % 29 == 0:
        percent = 6  # nobody was at home
    elif dice % 31 == 0:
        percent += 180
    down = usual * percent // 100
    return down * _share_up(username) // 1000, down


def _share_up(username: str) -> int:
    """Of what comes down, in thousandths."""
    return 60 + crc32(username[::-1].encode()) % 130
