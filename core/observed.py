"""What is noted about each request, in one place around the application: its line in the log, its
part in the metrics, and the reference that both and every other line share.

It stands inside the handling of proxies, so that the address is the client's, and outside of
everything else, so that nothing is missed. It costs some 20 µs when everything is on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from core import log, metrics
from core.front import ENDPOINT

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

METHODS = frozenset(("GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"))
NO_ENDPOINT = "none"


class Observed:
    """`application` with each request noted. `write` takes the lines, None writes none;
    `trusts_reference` when a proxy of ours names the requests."""

    def __init__(
        self,
        application: WSGIApplication,
        write: Callable[[str], None] | None,
        *,
        trusts_reference: bool,
    ) -> None:
        self._application = application
        self._write = write
        self._trusts_reference = trusts_reference

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started = time.perf_counter()
        reference = None
        if self._trusts_reference:
            reference = log.given_reference(environ.get("HTTP_X_REQUEST_ID"))
        reference = reference or log.new_reference()
        token = log.reference.set(reference)
        status, size, endpoint = 500, None, None

        def note(line: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            nonlocal status, size, endpoint
            status = int(line[:3])
            # Flask takes its request away with the context, so it is looked at here.
            request = environ.get("werkzeug.request")
            endpoint = environ.get(ENDPOINT) or (request and request.endpoint)
            if self._write is not None:
                for name, value in headers:
                    if name == "Content-Length":
                        size = int(value)
                        break
            return start_response(line, headers, *more)

        try:
            return self._application(environ, note)
        finally:
            endpoint = endpoint or NO_ENDPOINT
            method = environ["REQUEST_METHOD"]
            if method not in METHODS:
                method = "other"  # a name that anybody may invent
            seconds = time.perf_counter() - started
            metrics.note_request(method, endpoint, status, seconds)
            if self._write is not None:
                address = environ.get("REMOTE_ADDR") or ""
                self._write(
                    log.request_line(method, endpoint, status, seconds, size, address, reference)
                )
            log.reference.reset(token)
