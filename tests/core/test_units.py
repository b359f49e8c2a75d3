"""Speeds and amounts of data in words, in decimal units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.units import format_data, format_speed


@pytest.mark.parametrize(
    ("kbps", "language", "text"),
    [
        (0, "en", "0 kbit/s"),
        (64, "en", "64 kbit/s"),
        (999, "en", "999 kbit/s"),
        (1000, "en", "1 Mbit/s"),
        (1500, "en", "1.5 Mbit/s"),
        (1500, "de", "1,5 Mbit/s"),
        (300_000, "en", "300 Mbit/s"),
        (1_000_000, "en", "1 Gbit/s"),
        (2_500_000, "en", "2.5 Gbit/s"),
        (10_000_000_000, "en", "10,000 Gbit/s"),
        (999_999, "en", "1 Gbit/s"),
    ],
)
def test_speed(kbps: int, language: str, text: str) -> None:
    assert format_speed(kbps, language) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1_000_000_000, "1 GB"),
        (1_200_000_000_000, "1.2 TB"),
        (10**15, "1 PB"),
        (999_999_999, "1 GB"),
        (10**18, "1,000 PB"),
    ],
)
def test_data_is_decimal(amount: int, text: str) -> None:
    assert format_data(amount, "en") == text


@given(st.integers(0, 10**16))
def test_number_before_the_unit_is_short(amount: int) -> None:
    number = format_data(amount, "en").split()[0].replace(",", "")
    assert float(number) < 1000 or "PB" in format_data(amount, "en")
