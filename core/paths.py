"""Paths of our own pages, and which addresses a redirect may go to (bar 42)."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from flask import current_app, url_for

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


_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
# What a value looks like while the path of an endpoint is learnt: nothing else holds it.
_MARK = "lmvalue{}lm"


def path_for(endpoint: str, **values: Any) -> str:
    """The path of `endpoint`, as Flask's `url_for` makes it; templates call it a dozen times.

    The path is asked for once with marks in place of the values, and filled in afterwards. What
    does not end up in the path, or would have to be quoted, is left to `url_for`.
    """
    texts = [str(value) for value in values.values()]
    shapes: dict[tuple[str, ...], str | None] = current_app.extensions["path_shapes"]
    key = (endpoint, *values)
    if key not in shapes:
        shapes[key] = _shape(endpoint, tuple(values))
    shape = shapes[key]
    if shape is None or not all(map(_PLAIN.fullmatch, texts)):
        return url_for(endpoint, **values)
    return shape.format(*texts)


def _shape(endpoint: str, names: tuple[str, ...]) -> str | None:
    marks = [_MARK.format(place) for place in range(len(names))]
    adapter = current_app.url_map.bind("localhost")
    path = adapter.build(endpoint, dict(zip(names, marks, strict=True)))
    if "?" in path or "{" in path or "://" in path or not all(mark in path for mark in marks):
        return None
    for place, mark in enumerate(marks):
        path = path.replace(mark, f"{{{place}}}")
    return path
