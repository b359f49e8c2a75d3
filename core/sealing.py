"""Values that wait encrypted in a row: what was typed into a form, a code on its way, a TOTP seed.

Fernet (AES-CBC with HMAC-SHA-256) under keys derived from the portal's secret, one for each
purpose, so that a value of one kind opens as no other.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from cryptography.fernet import Fernet, InvalidToken


def seal(secret: bytes, purpose: str, plain: str) -> bytes:
    """`plain` encrypted for `purpose`."""
    return _cipher(secret, purpose).encrypt(plain.encode())


def find_sealed(secret: bytes, purpose: str, sealed: bytes | None) -> str | None:
    """What was sealed for `purpose`; None where nothing was, or under another secret."""
    if sealed is None:
        return None
    try:
        return _cipher(secret, purpose).decrypt(sealed).decode()
    except InvalidToken:
        return None


def _cipher(secret: bytes, purpose: str) -> Fernet:
    key = hmac.digest(secret, purpose.encode(), hashlib.sha256)
    return Fernet(base64.urlsafe_b64encode(key))
