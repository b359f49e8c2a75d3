"""Phone numbers as people read them. They are stored in E.164, which is what a telephone dials."""

from __future__ import annotations

import re
from functools import lru_cache

import phonenumbers
from babel.core import get_global


@lru_cache(maxsize=1024)
def format_phone(number: str) -> str:
    """`+15415550100` as `+1 541-555-0100`: with the country, as nobody knows where it is read.

    What is no number of any country is shown as it is.
    """
    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def default_country(timezone: str) -> str:
    """The country (ISO 3166) in which a time zone lies; empty when it lies in none."""
    territory = get_global("zone_territories").get(timezone, "")
    return territory if territory in phonenumbers.SUPPORTED_REGIONS else ""


@lru_cache(maxsize=1024)
def find_phone(text: str, country: str) -> str | None:
    """A phone number in E.164, as dialled within `country` or with +; None for what is none."""
    if not re.fullmatch(r"\+?[0-9 ()./\-]+", text):
        return None
    try:
        number = phonenumbers.parse(text, country or None)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


_HOME = {"US": frozenset({"US", "PR", "VI", "GU", "AS", "MP"})}
"""Countries that dial some others as their own."""
_DEAR = (phonenumbers.PhoneNumberType.PREMIUM_RATE, phonenumbers.PhoneNumberType.SHARED_COST)


def is_abroad(number: str, country: str) -> bool:
    """Whether a number in E.164 lies outside of `country`; not where that is empty."""
    region = phonenumbers.region_code_for_number(phonenumbers.parse(number, None))
    return bool(country) and region not in _HOME.get(country, frozenset({country}))


def is_dear(number: str) -> bool:
    """Whether calling a number in E.164 costs more than the call."""
    return phonenumbers.number_type(phonenumbers.parse(number, None)) in _DEAR
