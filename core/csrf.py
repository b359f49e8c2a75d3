"""Proof that a form was posted from our own page (bar 39).

Signed in: a token bound to the session row, masked anew for each answer, so that compression
tells nothing (BREACH). Before sign-in: a SameSite=Strict cookie that every such page sets. On
both, a foreign Origin or Sec-Fetch-Site is refused; absent headers pass, since lynx and old
phones send neither.
"""

from __future__ import annotations

import base64
import hmac
import secrets

from flask import Request

from core.paths import origin_of


class NotFromOurPage(Exception):
    """A form arrived without its proof, or from another site."""


def mask(secret: bytes) -> str:
    """The token of a session for one answer: the secret under a one-time mask."""
    pad = secrets.token_bytes(len(secret))
    masked = bytes(left ^ right for left, right in zip(pad, secret, strict=True))
    return base64.urlsafe_b64encode(pad + masked).rstrip(b"=").decode()


def is_token_of(secret: bytes, token: str) -> bool:
    """Whether `token` is the session's secret under any mask."""
    try:
        raw = base64.urlsafe_b64decode(token.encode() + b"=" * (-len(token) % 4))
    except ValueError:
        return False
    if len(raw) != 2 * len(secret):
        return False
    half = len(secret)
    bare = bytes(left ^ right for left, right in zip(raw[:half], raw[half:], strict=True))
    return hmac.compare_digest(bare, secret)


def check_origin(request: Request, own_origin: str) -> None:
    """Raises NotFromOurPage when the browser says that the request comes from another site."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        raise NotFromOurPage
    origin = request.headers.get("Origin")
    if origin is not None and origin_of(origin) != own_origin:
        raise NotFromOurPage
