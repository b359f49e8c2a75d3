"""Speeds and amounts of data in words. Decimal units: 1 GB is 10⁹ bytes, as plans are sold."""

from __future__ import annotations

from functools import lru_cache

from babel.numbers import format_decimal


@lru_cache(maxsize=1024)
def _in_steps(value: int, steps: tuple[str, ...], language: str) -> str:
    number = float(value)
    for unit in steps[:-1]:
        if round(number) < 1000:
            break
        number /= 1000
    else:
        unit = steps[-1]
    rounded = round(number, 1 if number < 100 else 0)
    return f"{format_decimal(rounded, locale=language.replace('-', '_'))} {unit}"


def format_speed(kbps: int, language: str) -> str:
    """A speed in kbit/s as `300 Mbit/s`."""
    return _in_steps(kbps, ("kbit/s", "Mbit/s", "Gbit/s"), language)


def format_data(amount_bytes: int, language: str) -> str:
    """An amount of data as `1.2 TB`."""
    return _in_steps(amount_bytes, ("B", "kB", "MB", "GB", "TB", "PB"), language)
