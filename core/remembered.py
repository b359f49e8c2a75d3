"""Pages that were made before and are still true.

A page of POLICY's `is_kept` depends on nothing but what the session's query brings, which is why a
browser may hold it (core/cache.py). For the same reason a process may: whoever comes back to a page
on which nothing has changed gets it without another query, made and compressed already. Only the
two values that each answer has of its own (core/form_guard.py) are put in.

What it is remembered under names the customer, the account, the role and every revision, so that
nobody can get another's page, and nothing has to be taken back when something changes.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from itertools import chain

import brotli

from core.compression import BROTLI_QUALITY, BROTLI_WINDOW_BITS

# They stand for the values while a page is compressed. Their bytes are so unlike each other that
# brotli stores them as they are, and in an order that makes a code for them longer than themselves.
_UNLIKE = bytes((number * 37) % 256 for number in range(256) if (number * 37) % 256 >= 128)
_STAND_INS = {"csrf_token": _UNLIKE[:43], "form_key": _UNLIKE[43:87]}
# What follows a value is stored with it: brotli looks at the two bytes before the next one.
_FOLLOWS = b'">'
_AROUND_BYTES = 2_000
"""What a page's key and objects take beside their text, about (1,700 were measured)."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A body in parts; between them stand the values that `order` names."""

    parts: tuple[bytes, ...]
    order: tuple[str, ...] = ()

    def filled(self, values: Mapping[str, bytes]) -> bytes:
        made = [self.parts[0]]
        for name, part in zip(self.order, self.parts[1:], strict=True):
            made += (values[name], part)
        return b"".join(made)


@dataclass(frozen=True, slots=True)
class Remembered:
    """An answer: `body` is None when only the 304 is known, `headers` are without what each
    answer has of its own."""

    endpoint: str
    headers: tuple[tuple[str, str], ...]
    body: Parts | None

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory, with what it is remembered under."""
        parts = self.body.parts if self.body is not None else ()
        return _AROUND_BYTES + sum(map(len, (*parts, *chain.from_iterable(self.headers))))

    @property
    def kept_headers(self) -> list[tuple[str, str]]:
        """Those that a 304 repeats (RFC 9110 §15.4.5)."""
        return [pair for pair in self.headers if pair[0] in ("Cache-Control", "Vary")]


class Memory:
    """The pages used last, at most `count` of them and `most_bytes` together."""

    def __init__(self, count: int, most_bytes: int) -> None:
        self._count = count
        self._most_bytes = most_bytes
        self._bytes = 0
        self._pages: OrderedDict[Hashable, Remembered] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def is_on(self) -> bool:
        return self._count > 0

    def find(self, key: Hashable) -> Remembered | None:
        with self._lock:
            page = self._pages.get(key)
            if page is not None:
                self._pages.move_to_end(key)
            return page

    def keep(self, key: Hashable, page: Remembered) -> None:
        with self._lock:
            before = self._pages.pop(key, None)
            self._bytes += page.size_bytes - (before.size_bytes if before is not None else 0)
            self._pages[key] = page
            while len(self._pages) > self._count or self._bytes > self._most_bytes:
                _key, oldest = self._pages.popitem(last=False)
                self._bytes -= oldest.size_bytes

    def forget(self) -> None:
        with self._lock:
            self._pages.clear()
            self._bytes = 0


def split_around(body: bytes, values: Mapping[str, bytes]) -> Parts:
    """`body` as it is, open where `values` stand."""
    if not values:
        return Parts((body,))
    names = {value: name for name, value in values.items()}
    anywhere = re.compile(b"|".join(map(re.escape, names)))
    order = tuple(names[value] for value in anywhere.findall(body))
    return Parts(tuple(anywhere.split(body)), order)


def compress_around(body: bytes, values: Mapping[str, bytes]) -> Parts | None:
    """`body` compressed so that each of `values` can be exchanged for another of its length.

    A brotli stream has blocks, and some are stored as they are (RFC 7932 §9.2). Each value is made
    a block at its first place; where it stands again, the stream points back to the first. None
    when that did not come out, which is tried here: then the page is compressed as any other.
    """
    places = []
    for name, value in values.items():
        if value not in body:
            continue
        body = body.replace(value, _STAND_INS[name])
        places.append((body.index(_STAND_INS[name]), name))
    compressor = brotli.Compressor(quality=BROTLI_QUALITY, lgwin=BROTLI_WINDOW_BITS)
    made: list[bytes] = []
    at = 0
    for start, name in sorted(places):
        end = start + len(_STAND_INS[name]) + len(_FOLLOWS)
        for piece in (body[at:start], body[start:end]):
            made += (compressor.process(piece), compressor.flush())
        at = end
    made += (compressor.process(body[at:]), compressor.finish())
    parts, rest, order = [], b"".join(made), tuple(name for _start, name in sorted(places))
    for name in order:
        before, found, rest = rest.partition(_STAND_INS[name])
        if not found:
            return None
        parts.append(before)
    page = Parts((*parts, rest), order)
    # Other values than the page's own, so that a stream that points elsewhere is noticed.
    other = {name: bytes(reversed(value)) for name, value in values.items()}
    for name in order:
        body = body.replace(_STAND_INS[name], other[name])
    return page if _expanded(page.filled(other)) == body else None


def _expanded(stream: bytes) -> bytes | None:
    try:
        found: bytes = brotli.decompress(stream)
    except brotli.error:
        return None
    return found
