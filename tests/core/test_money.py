"""Money: integers with a currency, rounded once, written and read as people do."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.money import (
    MAX_MINOR,
    AmountUnreadable,
    CurrencyMismatch,
    Money,
    format_money,
    format_plain,
    parse_money,
    round_half_away,
    tax_on,
)

LANGUAGES = ("en", "es", "fr", "de", "de-CH", "ar", "sv", "pt-BR", "en-IN")
minor = st.integers(-MAX_MINOR, MAX_MINOR)


def test_amounts_of_one_currency_add_and_compare() -> None:
    one, other = Money(150, "USD"), Money(-50, "USD")
    assert one + other == Money(100, "USD")
    assert one - other == Money(200, "USD")
    assert -one == Money(-150, "USD")
    assert other < one
    assert bool(one)
    assert not Money(0, "USD")


@pytest.mark.parametrize("operation", ["__add__", "__sub__", "__lt__"])
def test_amounts_of_two_currencies_do_not_meet(operation: str) -> None:
    with pytest.raises(CurrencyMismatch):
        getattr(Money(1, "USD"), operation)(Money(1, "EUR"))


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"),
    [
        (0, 5, 0), (1, 2, 1), (-1, 2, -1), (3, 2, 2), (-3, 2, -2), (5, 2, 3), (149, 100, 1),
        (150, 100, 2), (-150, 100, -2), (-149, 100, -1), (7, 1, 7), (10**30, 3, (10**30) // 3),
    ],
)  # fmt: skip
def test_halves_go_away_from_zero(numerator: int, denominator: int, rounded: int) -> None:
    assert round_half_away(numerator, denominator) == rounded


@given(st.integers(), st.integers(min_value=1))
def test_rounding_is_symmetric_and_off_by_at_most_a_half(numerator: int, denominator: int) -> None:
    rounded = round_half_away(numerator, denominator)
    assert rounded == -round_half_away(-numerator, denominator)
    assert abs(rounded - Fraction(numerator, denominator)) <= Fraction(1, 2)


@pytest.mark.parametrize("denominator", [0, -1])
def test_rounding_over_nothing_is_refused(denominator: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        round_half_away(1, denominator)


@pytest.mark.parametrize(
    ("amount", "rate", "tax"),
    [(1900, 625, 119), (0, 625, 0), (-1900, 625, -119), (1, 5000, 1), (-1, 5000, -1), (8, 625, 1)],
)
def test_tax_is_rounded_once(amount: int, rate: int, tax: int) -> None:
    assert tax_on(amount, rate) == tax


@pytest.mark.parametrize(
    ("money", "language", "text"),
    [
        (Money(6567, "USD"), "en", "$65.67"),
        (Money(-6567, "USD"), "en", "-$65.67"),
        (Money(0, "USD"), "en", "$0.00"),
        (Money(5, "USD"), "en", "$0.05"),
        (Money(-5, "USD"), "en", "-$0.05"),
        (Money(123456789, "USD"), "en", "$1,234,567.89"),
        (Money(6567, "EUR"), "de", "65,67\N{NO-BREAK SPACE}€"),
        (Money(6567, "JPY"), "en", "¥6,567"),
        (Money(6567, "KWD"), "en", "KWD6.567"),
        (Money(MAX_MINOR, "USD"), "en", "$10,000,000,000.00"),
    ],
)
def test_amounts_are_written_as_people_do(money: Money, language: str, text: str) -> None:
    assert format_money(money, language) == text


@pytest.mark.parametrize(
    ("money", "text"),
    [(Money(1999, "USD"), "19.99"), (Money(-5, "USD"), "-0.05"), (Money(1999, "JPY"), "1999")],
)
def test_plain_amount_is_digits_with_a_point(money: Money, text: str) -> None:
    assert format_plain(money) == text


@pytest.mark.parametrize(
    ("text", "currency", "language", "amount"),
    [
        ("19.99", "USD", "en", 1999), ("19,99", "USD", "en", 1999), ("19,99", "EUR", "de", 1999),
        ("$1,204.00", "USD", "en", 120_400), ("1.204,00", "EUR", "de", 120_400),
        ("1'204.00", "CHF", "de-CH", 120_400), ("(12.50)", "USD", "en", -1250),
        ("-12.50", "USD", "en", -1250), ("-$12.50", "USD", "en", -1250), ("+5", "USD", "en", 500),
        ("5", "USD", "en", 500), ("5.5", "USD", "en", 550), (" 5 ", "USD", "en", 500),
        ("1,204", "USD", "en", 120_400), ("1.204", "EUR", "de", 120_400), ("500", "JPY", "en", 500),
        ("0", "USD", "en", 0), ("007", "USD", "en", 700),
        ("1\N{NARROW NO-BREAK SPACE}204", "EUR", "fr", 120_400),
        ("10000000000.00", "USD", "en", MAX_MINOR),
    ],
)  # fmt: skip
def test_amounts_are_read_as_people_write_them(
    text: str, currency: str, language: str, amount: int
) -> None:
    assert parse_money(text, currency, language) == amount


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "$", "-", "1.999", "1,2,3", "1..2", "1,20,400", "1.204.00,0", "12a", "NaN", "inf",
        "1e5", "0x1", "--1", "-(1)", "(-1)", "1-", "(1", "1)", "５", "٥", "10000000000.01",
        "9" * 39, "9" * 6000, "1,204.5,00", ",", ".", ".,", "1.2.3", "1,204'000", "\0", "1\0",
    ],
)  # fmt: skip
def test_everything_else_is_unreadable(text: str) -> None:
    with pytest.raises(AmountUnreadable):
        parse_money(text, "USD", "en")


@given(st.text(max_size=30), st.sampled_from(LANGUAGES), st.sampled_from(["USD", "JPY", "KWD"]))
def test_reading_ends_in_an_amount_or_a_refusal(text: str, language: str, currency: str) -> None:
    try:
        amount = parse_money(text, currency, language)
    except AmountUnreadable:
        return
    assert -MAX_MINOR <= amount <= MAX_MINOR


@given(minor, st.sampled_from(["USD", "JPY", "EUR"]))
def test_plain_amounts_are_read_back(amount: int, currency: str) -> None:
    assert parse_money(format_plain(Money(amount, currency)), currency) == amount


@given(minor, st.sampled_from(["en", "es", "fr", "de"]))
def test_written_amounts_are_read_back(amount: int, language: str) -> None:
    assert parse_money(format_money(Money(amount, "EUR"), language), "EUR", language) == amount
