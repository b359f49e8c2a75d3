"""Which addresses a redirect may go to (bar 42)."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_SIGNS = r"A-Za-z0-9_.~!$&'()*+,;=:@%-"
_OWN_PATH = re.compile(rf"/(?:[{_SIGNS}][{_SIGNS}/]*)?(?:\?[{_SIGNS}/?]*)?")


def own_path(target: str | None) -> str | None:
    """`target` when it is a path (with query) on this portal, otherwise None.

    Anything a browser could read as another host is refused: `//host`, backslashes, control
    characters, a scheme, an encoded slash at the start.
    """
    if not target or len(target) > 500 or not _OWN_PATH.fullmatch(target):
        return None
    lowered = target.lower()
    if "//" in target.split("?", 1)[0] or lowered.startswith(("/%2f", "/%5c", "/%09", "/%0")):
        return None
    parts = urlsplit(target)
    return None if parts.scheme or parts.netloc else target


def origin_of(url: str) -> str | None:
    """Scheme, host and port of an absolute http(s) URL, lower-cased; None for anything else."""
    if any(ord(character) <= 32 or character == "\\" for character in url):
        return None
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    default = 443 if parts.scheme == "https" else 80
    return f"{parts.scheme}://{host}" + ("" if port in (None, default) else f":{port}")
