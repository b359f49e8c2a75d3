"""Compression of answers, and what a browser takes.

Of our own because pages before sign-in and static files are compressed once and kept, refusals and
errors are compressed too, and a page is a few kilobytes: a brotli window of 16 kB holds all of it
and costs a quarter of the usual one.
"""

from __future__ import annotations

import gzip
from functools import lru_cache

import brotli
from flask import Response, request
from werkzeug.datastructures import Accept
from werkzeug.http import parse_accept_header

from core.headers import vary

BROTLI_QUALITY = 5
BROTLI_WINDOW_BITS = 14
GZIP_LEVEL = 6
SMALLEST_BYTES = 300
_TYPES = ("text/html", "application/json", "text/plain")


@lru_cache(maxsize=256)
def encoding_for(accepted: str) -> str | None:
    """`br` or `gzip` when an Accept-Encoding of `accepted` takes it, the better one first (RFC 9110
    §12.5.3)."""
    offered = parse_accept_header(accepted, Accept)
    return next((name for name in ("br", "gzip") if offered.quality(name) > 0), None)


def best_encoding() -> str | None:
    """The encoding for this request's answer."""
    return encoding_for(request.headers.get("Accept-Encoding", ""))


def compress(response: Response) -> Response:
    """The answer in the best encoding the browser takes, when it is text worth compressing."""
    headers = response.headers
    vary(response, "Accept-Encoding")
    if response.mimetype not in _TYPES or response.is_streamed or "Content-Encoding" in headers:
        return response
    body = response.get_data()
    if len(body) < SMALLEST_BYTES:
        return response
    encoding = best_encoding()
    if encoding == "br":
        response.set_data(brotli.compress(body, quality=BROTLI_QUALITY, lgwin=BROTLI_WINDOW_BITS))
    elif encoding == "gzip":
        response.set_data(gzip.compress(body, GZIP_LEVEL, mtime=0))
    else:
        return response
    headers["Content-Encoding"] = encoding
    return response
