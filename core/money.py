"""Money: an integer of minor units with its currency, and the one place where rounding happens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from babel.numbers import (
    format_compact_currency,
    get_currency_precision,
    get_decimal_symbol,
    get_group_symbol,
)
from babel.numbers import (
    format_currency as babel_format_currency,
)

MAX_MINOR = 10**12
"""No single amount in the portal may exceed this; far below what a 64-bit column holds."""

MAX_CHARACTERS = 100
"""No amount is longer as text, and Python reads no number of thousands of digits."""


class CurrencyMismatch(ValueError):
    """Two amounts of different currencies met in one sum."""


class AmountUnreadable(ValueError):
    """A text is not an amount of money."""


@dataclass(frozen=True, slots=True, order=False)
class Money:
    """`amount_minor` minor units (cents) of `currency` (ISO 4217)."""

    amount_minor: int
    currency: str

    def _same(self, other: Money) -> int:
        if other.currency != self.currency:
            raise CurrencyMismatch(f"{self.currency} and {other.currency} cannot be added")
        return other.amount_minor

    def __add__(self, other: Money) -> Money:
        return Money(self.amount_minor + self._same(other), self.currency)

    def __sub__(self, other: Money) -> Money:
        return Money(self.amount_minor - self._same(other), self.currency)

    def __neg__(self) -> Money:
        return Money(-self.amount_minor, self.currency)

    def __lt__(self, other: Money) -> bool:
        return self.amount_minor < self._same(other)

    def __bool__(self) -> bool:
        return self.amount_minor != 0


def round_half_away(numerator: int, denominator: int) -> int:
    """`numerator / denominator` rounded to a whole number, halves away from zero.

    Raises ValueError when `denominator` is not positive.
    """
    if denominator <= 0:
        raise ValueError("denominator must be positive")
    quotient, rest = divmod(abs(numerator), denominator)
    if 2 * rest >= denominator:
        quotient += 1
    return quotient if numerator >= 0 else -quotient


def tax_on(amount_minor: int, rate_bp: int) -> int:
    """Tax in minor units on `amount_minor` at `rate_bp` basis points, rounded once."""
    return round_half_away(amount_minor * rate_bp, 10_000)


@lru_cache(maxsize=8192)
def format_money(money: Money, language: str) -> str:
    """The amount as people of `language` write it, with currency sign and its own decimals."""
    precision = get_currency_precision(money.currency)
    sign = "-" if money.amount_minor < 0 else ""
    whole, part = divmod(abs(money.amount_minor), 10**precision)
    number = f"{sign}{whole}.{part:0{precision}d}" if precision else f"{sign}{whole}"
    return babel_format_currency(number, money.currency, locale=language.replace("-", "_"))


def unit_minor(currency: str) -> int:
    """How many minor units one unit of the currency has."""
    return int(10 ** get_currency_precision(currency))


@lru_cache(maxsize=1024)
def format_short(money: Money, language: str) -> str:
    """The amount without its minor units, in thousands or millions where it has them: `$12K`."""
    return format_compact_currency(
        money.amount_minor // unit_minor(money.currency),
        money.currency,
        locale=language.replace("-", "_"),
        fraction_digits=1 if money.amount_minor % (1000 * unit_minor(money.currency)) else 0,
    )


def format_plain(money: Money) -> str:
    """The amount in digits with a point and without a currency sign, as a number field takes it."""
    precision = get_currency_precision(money.currency)
    sign = "-" if money.amount_minor < 0 else ""
    whole, part = divmod(abs(money.amount_minor), 10**precision)
    return f"{sign}{whole}.{part:0{precision}d}" if precision else f"{sign}{whole}"


def parse_money(text: str, currency: str, language: str = "en") -> int:
    """Minor units of an amount as typed: `19.99`, `19,99`, `$1,204.00`, `1.204,00`, `(12.50)`.

    A point or comma followed by as many digits as the currency has decimals, at the end, is the
    decimal sign; before that, groups of three may be separated in the way of `language`.
    Raises AmountUnreadable for anything else, more decimals than the currency has, or an amount
    above MAX_MINOR.
    """
    if len(text) > MAX_CHARACTERS:
        raise AmountUnreadable("too long")
    precision = get_currency_precision(currency)
    locale = language.replace("-", "_")
    cleaned = re.sub(r"[\s\u00a0\u202f]", "", text)
    is_negative = False
    if cleaned.startswith("(") and cleaned.endswith(")"):
        is_negative, cleaned = True, cleaned[1:-1]
    match = re.fullmatch(r"([+-]?)[$€£¥]?([+-]?)([0-9.,'’]+)[$€£¥]?", cleaned)
    if match is None or (match[1] and match[2]) or (is_negative and (match[1] or match[2])):
        raise AmountUnreadable(text)
    is_negative = is_negative or "-" in (match[1], match[2])
    digits = match[3]
    decimal, group = get_decimal_symbol(locale), get_group_symbol(locale)
    ending = re.fullmatch(r"(.*?)[.,]([0-9]+)", digits)
    whole, part = digits, ""
    if ending and precision and 1 <= len(ending[2]) <= precision:
        whole, part = ending[1], ending[2]
    elif (ending and len(ending[2]) != 3) or (
        ending and digits[ending.start(2) - 1] == decimal and group != decimal
    ):
        raise AmountUnreadable(text)
    if not re.fullmatch(r"[0-9]+|[0-9]{1,3}([.,'’][0-9]{3})+", whole):
        raise AmountUnreadable(text)
    marks = set(re.findall(r"[.,'’]", whole))
    if len(marks) > 1 or (part and digits[len(whole)] in marks):
        raise AmountUnreadable(text)
    minor = int(re.sub(r"\D", "", whole) + part.ljust(precision, "0"))
    if minor > MAX_MINOR:
        raise AmountUnreadable(text)
    return -minor if is_negative else minor
