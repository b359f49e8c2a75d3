"""The headers of every answer: security policy, referrer, caching of what nobody else may see.

The Content-Security-Policy is constant per build and brand; it names the gateway's origin on every
page because Chromium checks form-action through redirects.
"""

from __future__ import annotations

from functools import lru_cache

from flask import Response

HSTS = "max-age=63072000"


@lru_cache(maxsize=8)
def content_security_policy(style_hash: str, gateway_origin: str | None) -> str:
    """The policy of every page. `style_hash` admits the one inlined style block."""
    form_action = "'self'" + (f" {gateway_origin}" if gateway_origin else "")
    return (
        "default-src 'none';base-uri 'none';object-src 'none';frame-ancestors 'none';"
        f"script-src 'self';style-src 'self' '{style_hash}';connect-src 'self';"
        f"img-src 'self' data:;form-action {form_action}"
    )


def vary(response: Response, *names: str) -> None:
    """Add request headers to what the answer depends on."""
    held = response.headers.get("Vary", "")
    missing = [name for name in names if name not in held]
    if missing:
        response.headers["Vary"] = ", ".join([held, *missing] if held else missing)


def protect(response: Response, policy: str, *, is_https: bool) -> Response:
    """Put the protecting headers on an answer; a 304 repeats none of them (RFC 9110 §15.4.5)."""
    if response.status_code == 304:
        return response
    headers = response.headers
    headers["Content-Security-Policy"] = policy
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    if is_https:
        headers["Strict-Transport-Security"] = HSTS
    headers.setdefault("Cache-Control", "no-store")
    return response
