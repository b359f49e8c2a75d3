"""Random identifiers and secrets. The demo seeds them, so that it is the same each time."""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_seeded: random.Random | None = None


def public_id() -> str:
    """A random id for URLs: 16 characters, 80 bits."""
    bits = _seeded.getrandbits(80) if _seeded is not None else secrets.randbits(80)
    return "".join(_ALPHABET[(bits >> shift) & 31] for shift in range(0, 80, 5))


def secret_token() -> str:
    """A random token of 256 bits for cookies and links, in characters safe in both."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> bytes:
    """SHA-256 of a token, as it is stored. The token is random, so no salt or stretching."""
    return hashlib.sha256(token.encode()).digest()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Make public ids reproducible within the block: for the demo, before anybody signs in."""
    global _seeded  # noqa: PLW0603 - the demo is built alone in its process
    _seeded = random.Random(seed)  # noqa: S311 - ids of a demo, not secrets
    try:
        yield
    finally:
        _seeded = None
