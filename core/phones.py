"""Phone numbers as people read them. They are stored in E.164, which is what a telephone dials."""

from __future__ import annotations

from functools import lru_cache

import phonenumbers


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
