"""Card numbers are masked wherever people type freely (bar 61)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.card_numbers import masked, masked_text, one_line


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("4111 1111 1111 1111", "•••• •••• •••• 1111"),
        ("my card is 4111111111111111, thanks", "my card is ••••••••••••1111, thanks"),
        ("5555-5555-5555-4444 12/27", "••••-••••-••••-4444 12/27"),
        ("378282246310005", "•••••••••••0005"),
        ("4111 1111 1111 1111 12 27 123", "•••• •••• •••• 1111 12 27 123"),
        ("4242424242424242 or 4000056655665556", "••••••••••••4242 or ••••••••••••5556"),
        ("4111 1111 1111 1112", "4111 1111 1111 1112"),
        ("4111\u00a01111\u202f1111.1111", "••••\u00a0••••\u202f••••.1111"),
        ("6011 0009 9013 9424, 3530111333300000", "•••• •••• •••• 9424, ••••••••••••0000"),
        ("card:4000 0027 6000 3184.", "card:•••• •••• •••• 3184."),
        ("call +1 541 555 0100", "call +1 541 555 0100"),
        ("+44 20 7946 0958, (541) 555-0100 ext. 12", "+44 20 7946 0958, (541) 555-0100 ext. 12"),
        ("2026-000123 2026-000124", "2026-000123 2026-000124"),
        ("CN-2026-000001 of 2026-11-28", "CN-2026-000001 of 2026-11-28"),
        ("2026-11-28T06:36:31.123456Z 203.0.113.9", "2026-11-28T06:36:31.123456Z 203.0.113.9"),
        ("2026-000123", "2026-000123"),
        ("0000 0000 0000 0000", "0000 0000 0000 0000"),
        ("", ""),
    ],
)
def test_all_but_the_last_four_digits_are_hidden(typed: str, kept: str) -> None:
    assert masked(typed) == kept


def luhn(digits: str) -> str:
    total = sum(
        sum(divmod(int(digit) * (2 - place % 2), 10)) for place, digit in enumerate(digits[::-1])
    )
    return str(-total % 10)


@given(
    st.text("0123456789", min_size=11, max_size=17),
    st.text(st.characters(exclude_categories=["Nd", "Cs"]), max_size=20),
)
def test_no_card_number_comes_through(body: str, around: str) -> None:
    number = "4" + body
    number += luhn(number)
    kept = masked(f"{around} x{number}x {around}")
    assert number not in kept
    assert f"{number[-4:]}x" in kept


def test_fields_of_forms_are_masked_and_may_be_empty() -> None:
    assert one_line(" paid with\n4111 1111\n1111 1111 ") == "paid with •••• •••• •••• 1111"
    assert masked_text("showed\n4111111111111111") == "showed\n••••••••••••1111"
    assert (one_line(None), masked_text(""), one_line("")) == (None, "", "")
