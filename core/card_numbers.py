"""Card numbers where none belongs: masked before anything is stored or logged (bar 61)."""

from __future__ import annotations

import re

_SHORTEST, _LONGEST, _LEFT = 13, 19, 4
_RUN = re.compile(rf"\d(?:[ \u00a0\u202f.-]?\d){{{_SHORTEST - 1},}}")
_GROUP = re.compile(r"\d+")


def masked(text: str) -> str:
    """The text with all but the last four digits of each card number as dots.

    A card number is 13 to 19 digits, in groups or not, whose last digit is the check of Luhn.
    """
    return _RUN.sub(lambda run: _masked_run(run[0]), text)


def one_line(typed: str | None) -> str | None:
    """What was typed into a field, on one line and masked; for a form's filters."""
    return masked(" ".join(typed.split())) if typed else typed


def masked_text(typed: str | None) -> str | None:
    """What was typed into a field, masked; for a form's filters."""
    return masked(typed) if typed else typed


def _masked_run(run: str) -> str:
    groups = [(found.start(), found.end()) for found in _GROUP.finditer(run)]
    for first, (start, _end) in enumerate(groups):
        for _start, end in reversed(groups[first:]):
            digits = [character for character in run[start:end] if character.isdecimal()]
            if _SHORTEST <= len(digits) <= _LONGEST and _is_card(digits):
                rest = _masked_run(run[end:])
                return run[:start] + _dotted(run[start:end], len(digits) - _LEFT) + rest
    return run


def _dotted(part: str, hidden: int) -> str:
    shown = []
    for character in part:
        is_digit = character.isdecimal()
        shown.append("•" if is_digit and hidden > 0 else character)
        hidden -= is_digit
    return "".join(shown)


def _is_card(digits: list[str]) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0 and int(digits[0]) > 0
