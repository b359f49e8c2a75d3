"""Requests that no browser sends: framed in two ways at once, cut, oversized, meant for others.

`ONE` are those that a server must not find a second request in: two programs could disagree where
the first ends. `TWO` are plain in what they say, so the second is answered as well, in its turn.
"""

from __future__ import annotations

HOST = b"Host: localhost\r\n"
GET = b"GET /help HTTP/1.1\r\n" + HOST
POST = b"POST /sign-in HTTP/1.1\r\n" + HOST
HIDDEN = b"GET /hidden-request HTTP/1.1\r\n" + HOST + b"\r\n"
"""Answered by 404, with this address nowhere else."""
CHUNKED = b"Transfer-Encoding: chunked\r\n"
END = b"0\r\n\r\n" + HIDDEN
FIVE = b"\r\nhello" + HIDDEN


def _post(*lines: bytes) -> bytes:
    return POST + b"".join(line + b"\r\n" for line in lines)


ONE: dict[str, bytes] = {
    "length and chunks": POST + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n" + END,
    "chunks and length": POST + CHUNKED + b"Content-Length: 4\r\n\r\n" + END,
    "length for all, and chunks": POST + b"Content-Length: 99\r\n" + CHUNKED + b"\r\n" + END,
    "another coding": _post(b"Transfer-Encoding: xchunked", b"") + END,
    "a space before the colon": _post(b"Transfer-Encoding : chunked", b"") + END,
    "a vertical tab": _post(b"Transfer-Encoding:\x0bchunked", b"") + END,
    "two codings": _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity", b"") + END,
    "chunked is not the last": _post(b"Transfer-Encoding: chunked, identity", b"") + END,
    "a folded line": _post(b"Transfer-Encoding:", b" chunked", b"") + END,
    "a quoted coding": _post(b'Transfer-Encoding: "chunked"', b"") + END,
    "a coding with a NUL": _post(b"Transfer-Encoding: chunked\0", b"") + END,
    "a coding under HTTP/1.0": b"POST /sign-in HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n" + END,
    "two lengths": _post(b"Content-Length: 5", b"Content-Length: 6") + FIVE,
    "a list of lengths": _post(b"Content-Length: 5, 6") + FIVE,
    "a length with a plus": _post(b"Content-Length: +5") + FIVE,
    "a length below zero": _post(b"Content-Length: -5") + FIVE,
    "a length in hex": _post(b"Content-Length: 0x5") + FIVE,
    "a length in two parts": _post(b"Content-Length: 5 5") + FIVE,
    "a length beyond 64 bits": _post(b"Content-Length: 99999999999999999999") + FIVE,
    "an empty length": _post(b"Content-Length: ") + FIVE,
    "a chunk of size zz": POST + CHUNKED + b"\r\nzz\r\nhello\r\n" + END,
    "a chunk of size -1": POST + CHUNKED + b"\r\n-1\r\nhello\r\n" + END,
    "a chunk of size 0x5": POST + CHUNKED + b"\r\n0x5\r\nhello\r\n" + END,
    "a chunk beyond 64 bits": POST + CHUNKED + b"\r\nffffffffffffffff1\r\nhello\r\n" + END,
    "a chunk longer than its size": POST + CHUNKED + b"\r\n5\r\nhelloX\r\n" + END,
    "a line feed in an extension": POST + CHUNKED + b"\r\n5;a\nb\r\nhello\r\n" + END,
    "only carriage returns": b"GET /help HTTP/1.1\rHost: localhost\r\r" + HIDDEN,
    "a NUL in a value": GET + b"X: a\0b\r\n\r\n" + HIDDEN,
    "a NUL in a name": GET + b"X\0: ab\r\n\r\n" + HIDDEN,
    "a NUL in the address": b"GET /he\0lp HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "a header that begins with a space": b"GET /help HTTP/1.1\r\n " + HOST + b"\r\n" + HIDDEN,
    "a space before any colon": b"GET /help HTTP/1.1\r\nHost : localhost\r\n\r\n" + HIDDEN,
    "HTTP/0.9": b"GET /help\r\n\r\n" + HIDDEN,
    "HTTP/2 in words": b"GET /help HTTP/2.0\r\n" + HOST + b"\r\n" + HIDDEN,
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN,
    "no request at all": bytes(range(256)) + b"\r\n\r\n" + HIDDEN,
    "the beginning of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(600),
    "a long address": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "a long header": GET + b"X: " + b"a" * 500_000 + b"\r\n\r\n" + HIDDEN,
    "a method with a NUL": b"G\0T /help HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
}

TWO: dict[str, bytes] = {
    "one after the other": GET + b"\r\n" + HIDDEN,
    "a body after GET": GET + b"Content-Length: 5\r\n" + FIVE,
    "a space after the length": _post(b"Content-Length: 5 ") + FIVE,
    "an extension of a chunk": POST + CHUNKED + b"\r\n5;a=b\r\nhello\r\n" + END,
    "fields after the chunks": POST
    + CHUNKED
    + b"\r\n5\r\nhello\r\n0\r\nContent-Length: 9\r\nX: y\r\n\r\n"
    + HIDDEN,
    "a length with an underscore": _post(b"Content_Length: 0", b"Content-Length: 5") + FIVE,
    "a coding with an underscore": _post(b"Transfer_Encoding: chunked", b"Content-Length: 5")
    + FIVE,
    "an expectation": _post(b"Content-Length: 5", b"Expect: 100-continue") + FIVE,
    "an unknown expectation": _post(b"Content-Length: 5", b"Expect: banana") + FIVE,
    "an upgrade to h2c": GET
    + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    + HIDDEN,
    "TRACE": b"TRACE /help HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "an unknown method": b"FOO /help HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "no address": b"GET help HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "broken percent signs": b"GET /%zz%ff%00 HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "a way up": b"GET /static/../../app.py HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "an address with a host": b"GET http://localhost/help HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "another host in the address": b"GET http://evil.example/help HTTP/1.1\r\n"
    + HOST
    + b"\r\n"
    + HIDDEN,
    "a forged host": b"GET /help HTTP/1.1\r\nHost: evil.example\r\n\r\n" + HIDDEN,
    "a host with an account": b"GET /help HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n"
    + HIDDEN,
    "no host": b"GET /help HTTP/1.1\r\n\r\n" + HIDDEN,
    "two hosts": GET + b"Host: evil.example\r\n\r\n" + HIDDEN,
    "two hosts, ours the last": b"GET /help HTTP/1.1\r\nHost: evil.example\r\n"
    + HOST
    + b"\r\n"
    + HIDDEN,
    "two slashes": b"GET //evil.example/%2e%2e HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN,
    "only line feeds": b"GET /help HTTP/1.1\nHost: localhost\n\n" + HIDDEN,
    "the same length twice": _post(b"Content-Length: 5", b"Content-Length: 5") + FIVE,
    "two codings in one line": _post(b"Transfer-Encoding: gzip, chunked", b"") + END,
    "CONNECT": b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n" + HIDDEN,
    "a header without a colon": GET + b"Nothing\r\n\r\n" + HIDDEN,
    "HTTP/1.0": b"GET /help HTTP/1.0\r\n" + HOST + b"\r\n" + HIDDEN,
}
"""A server may also refuse and close: then the second is not answered."""

FOREIGN = (
    "a forged host",
    "a host with an account",
    "two hosts",
    "two hosts, ours the last",
)
"""Those of `TWO` that name a host which is not ours."""
