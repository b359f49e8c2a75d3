"""Pages before sign-in that are the same bytes for everyone: made and compressed once per brand
and language, then served from memory."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import NamedTuple

import brotli
from flask import Response, g, request

from core.isp import current_isp
from core.words import language


class _Kept(NamedTuple):
    plain: bytes
    brotli: bytes
    gzip: bytes


_pages: dict[tuple[str, str, str], _Kept] = {}
_MOST = 64


def answer(name: str, make: Callable[[], Response]) -> Response:
    """The page `name`; `make` renders it when the brand or the language is new to this process."""
    key = (name, current_isp().brand_hash, language())
    kept = _pages.get(key)
    if kept is None:
        body = make().get_data()
        kept = _Kept(body, brotli.compress(body, quality=11), gzip.compress(body, 9, mtime=0))
        if len(_pages) >= _MOST:
            _pages.clear()
        _pages[key] = kept
    accepted = request.headers.get("Accept-Encoding", "")
    if "br" in accepted:
        response = Response(kept.brotli)
        response.headers["Content-Encoding"] = "br"
    elif "gzip" in accepted:
        response = Response(kept.gzip)
        response.headers["Content-Encoding"] = "gzip"
    else:
        response = Response(kept.plain)
    response.headers["Vary"] = "Accept-Encoding, Accept-Language"
    response.content_type = "text/html; charset=utf-8"
    g.is_constant = True
    return response
