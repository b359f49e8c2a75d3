"""Structured logs: one JSON object a line on standard error, UTC, without control characters.

Every line written while a request is answered carries the request's reference, which is also on
the page when something goes wrong on our side. Lines name routes, never paths or queries: these
may hold a token, and whose account it is. Card numbers are masked, wherever they came from.
"""

from __future__ import annotations

import logging
import os
import random
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from enum import StrEnum
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

import structlog

from core.card_numbers import masked


class LogWhat(StrEnum):
    """What is written: each word includes what stands before it."""

    QUIET = "quiet"
    """Warnings and errors."""
    EVENTS = "events"
    """What happened: sign-ins refused, guesses held up, gateways called, seals."""
    REQUESTS = "requests"
    """A line for each request."""


_GIVEN = re.compile(r"[A-Za-z0-9._-]{8,64}", re.ASCII)
_LONGEST_ADDRESS = 45
_STANDARD_ERROR = 2

reference: ContextVar[str] = ContextVar("reference", default="")
"""The reference of the request that is answered here, or of the worker's round; else empty."""


def new_reference() -> str:
    """Twelve random hexadecimal digits, no secret, short enough to be told over the phone."""
    return f"{random.getrandbits(48):012x}"


def given_reference(text: str | None) -> str | None:
    """What a trusted proxy calls the request, if it has the form of a name."""
    return text if text is not None and _GIVEN.fullmatch(text) else None


@contextmanager
def referenced() -> Iterator[None]:
    """Give what is done within the block a reference of its own."""
    token = reference.set(new_reference())
    try:
        yield
    finally:
        reference.reset(token)


def _add_reference(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    if found := reference.get():
        event["request"] = found
    return event


def _without_cards(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {masked(name): _masked(value) for name, value in event.items()}


def _masked(value: Any) -> Any:
    """The value with the card numbers in it masked; one that holds none stays what it is."""
    if isinstance(value, str):
        return masked(value)
    if value is None or isinstance(value, float):
        return value
    if isinstance(value, Mapping):
        return {masked(str(name)): _masked(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(each) for each in value]
    text = repr(value)
    kept = masked(text)
    return value if kept == text else kept


def configure(what: LogWhat = LogWhat.EVENTS) -> None:
    """Send every record of the standard library's logging through structlog's JSON renderer, which
    escapes line breaks and control characters, so that no value can forge a line."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _without_cards,
                _add_reference,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("lastmile").setLevel(
        logging.WARNING if what is LogWhat.QUIET else logging.INFO
    )


# A line for each request ----------------------------------------------------------------------

_second: tuple[int, str] = (0, "")


def _now() -> str:
    """The instant in the form that structlog gives it."""
    global _second  # noqa: PLW0603 - a second has some hundred requests; each assignment is whole
    now = time.time()
    whole = int(now)
    known, text = _second
    if known != whole:
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
        _second = whole, text
    return f"{text}.{int((now - whole) * 1_000_000):06}Z"


def request_line(
    method: str,
    endpoint: str,
    status: int,
    seconds: float,
    size: int | None,
    address: str,
    request: str,
) -> str:
    """The line of one request, in the form of all others. `size` is the body's, in bytes.

    Put together by hand because it is written for every request; `address` alone can hold what
    somebody else chose.
    """
    return (
        f'{{"event": "request", "method": "{method}", "endpoint": "{endpoint}", '
        f'"status": {status}, "ms": {seconds * 1000:.2f}, '
        f'"bytes": {"null" if size is None else size}, '
        f'"address": {_quoted(masked(address[:_LONGEST_ADDRESS]))}, "request": "{request}", '
        f'"level": "info", "logger": "lastmile.requests", "timestamp": "{_now()}"}}'
    )


def write(line: str) -> None:
    """Write a line at once and whole, beside what other processes write."""
    with suppress(OSError):
        os.write(_STANDARD_ERROR, line.encode() + b"\n")
