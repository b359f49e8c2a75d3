"""Whether as many proxies as LASTMILE_PROXY_COUNT says really stand in front of the portal.

With a count that is too high the address that somebody wrote into the header himself would be
believed. It shows in requests: each proxy adds an address, or begins the list anew, so through all
of them none comes with fewer. Web processes note one that does, in a file for `flask doctor`.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from werkzeug.http import parse_list_header

from core import clock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

FILE = "proxies-missing.json"
NOTE_EVERY_SECONDS = 60.0
FORGOTTEN_AFTER = timedelta(days=1)


class Missing(NamedTuple):
    """A request that `found` proxies named an address for, when `expected` should have."""

    expected: int
    found: int
    seen_at: datetime


class Watched:
    """`application`, and a note of requests that came with fewer addresses than `count`.

    One without any address came from the machine itself: a health check, or the metrics.
    """

    def __init__(self, application: WSGIApplication, count: int, folder: Path) -> None:
        self._application = application
        self._count = count
        self._path = folder / FILE
        self._noted_at: float | None = None

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        found = len(parse_list_header(environ.get("HTTP_X_FORWARDED_FOR", "")))
        if 0 < found < self._count:
            self._note(found)
        return self._application(environ, start_response)

    def _note(self, found: int) -> None:
        now = time.monotonic()
        if self._noted_at is not None and now - self._noted_at < NOTE_EVERY_SECONDS:
            return
        self._noted_at = now
        note = {"expected": self._count, "found": found, "seen_at": clock.now().isoformat()}
        draft = self._path.with_name(f".{FILE}-{os.getpid()}")
        with suppress(OSError):  # a full disk must not make a page fail
            draft.write_text(json.dumps(note))
            draft.chmod(0o600)
            draft.replace(self._path)


def find_missing(folder: Path, count: int) -> Missing | None:
    """The latest such request of the last day, seen while the count was `count`."""
    try:
        note = json.loads((folder / FILE).read_text())
        missing = Missing(
            int(note["expected"]), int(note["found"]), datetime.fromisoformat(note["seen_at"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None
    is_old = clock.now() - missing.seen_at > FORGOTTEN_AFTER
    return None if is_old or missing.expected != count else missing
