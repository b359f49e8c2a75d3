"""The code of a voucher: sixteen letters and digits that nobody mistakes for each other, the last
of which catches a wrong one, and two that changed places.

Fifteen are random, 67 bits. Letters count by their place; the sum over all sixteen is a multiple of
23, which is prime, so that no single slip and no swap of two leaves it one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from core import codes

ALPHABET = "23479ACDEFGHJKMNPQRTWXY"
"""Without what looks or sounds alike: 0 O, 1 I L, 2 Z, 5 S, 6 G, 8 B, U V."""
LENGTH = 16
_PRIME = len(ALPHABET)
_VALUE = {character: value for value, character in enumerate(ALPHABET)}


def make() -> str:
    """A new code, without gaps."""
    drawn = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH - 1))
    return drawn + check_letter(drawn)


def check_letter(drawn: str) -> str:
    """What makes `drawn` whole."""
    # The last place has the weight 16, which times 10 is 160 = 7 * 23 - 1: minus its inverse is 10.
    return ALPHABET[_weighed(drawn) * 10 % _PRIME]


def clean(typed: str) -> str:
    """A typed code without the gaps and hyphens that people put into it."""
    return codes.clean(typed)


def is_whole(code: str) -> bool:
    """Whether nothing was mistyped, as far as that can be told from a cleaned code alone."""
    return (
        len(code) == LENGTH
        and all(character in _VALUE for character in code)
        and _weighed(code) % _PRIME == 0
    )


def _weighed(code: str) -> int:
    return sum(place * _VALUE[character] for place, character in enumerate(code, start=1))


def grouped(code: str) -> str:
    """A code as it is printed, in fours."""
    return codes.grouped(code, 4)


def hash_of(secret: bytes, code: str) -> bytes:
    """What is stored of a code."""
    return hmac.digest(secret, b"voucher\0" + code.encode(), hashlib.sha256)
