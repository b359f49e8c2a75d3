"""Pages before sign-in that are the same bytes for everyone: made and compressed once per brand
and language, then served from memory. Whoever is signed in sees them in the language of their own
choice, so they vary by cookie too."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import NamedTuple

import brotli
from flask import Response, g

from core import clock
from core.compression import best_encoding
from core.isp import current_isp
from core.words import language


class _Kept(NamedTuple):
    plain: bytes
    brotli: bytes
    gzip: bytes


_pages: dict[tuple[str, str, str, bool], _Kept] = {}
_MOST = 64


def answer(name: str, make: Callable[[], Response]) -> Response:
    """The page `name`; `make` renders it when the brand, the language or the notice of a planned
    maintenance is new to this process."""
    isp = current_isp()
    is_announcing = isp.find_announcement(clock.now()) is not None
    key = (name, isp.brand_hash, language(), is_announcing)
    kept = _pages.get(key)
    if kept is None:
        body = make().get_data()
        kept = _Kept(body, brotli.compress(body, quality=11), gzip.compress(body, 9, mtime=0))
        if len(_pages) >= _MOST:
            _pages.clear()
        _pages[key] = kept
    g.is_constant = True
    encoding = best_encoding()
    bodies = {"br": kept.brotli, "gzip": kept.gzip, None: kept.plain}
    response = Response(bodies[encoding], mimetype="text/html")
    if encoding is not None:
        response.headers["Content-Encoding"] = encoding
    response.headers["Vary"] = "Accept-Encoding, Accept-Language, Cookie"
    return response
