"""Making PDFs in a process of their own, which is bounded and cannot reach anything (bar 48).

Each web process keeps one such process, begun when it is first needed. One that takes longer than
`SECONDS` is ended, and the next request begins another.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from core.settings import ROOT

SECONDS = 10.0
TEMPLATES = ROOT / "templates" / "statements"
FONTS = (
    "Noto Sans",
    *(
        f"Noto Sans {script}"
        for script in (
            *("Arabic", "Hebrew", "Devanagari", "Bengali", "Gujarati", "Gurmukhi", "Tamil"),
            *("Telugu", "Kannada", "Malayalam", "Sinhala", "Thai", "Lao", "Khmer", "Myanmar"),
            *("Georgian", "Armenian", "Ethiopic"),
        )
    ),
    "Droid Sans Fallback",
    "NanumSquare",
)
"""In this order a character is looked for; all of them are in `fonts/`."""


class PdfFailed(RuntimeError):
    """The PDF could not be made; what was asked for can be asked for again."""


class Printer:
    """The process that makes PDFs of the templates in a folder, and the line of those who wait."""

    def __init__(self, templates: Path) -> None:
        self._templates = templates
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def make(self, template: str, data: Mapping[str, Any], timestamp: datetime) -> bytes:
        asked = json.dumps(
            {"template": template, "data": data, "timestamp": int(timestamp.timestamp())}
        ).encode()
        end = time.monotonic() + SECONDS
        if not self._lock.acquire(timeout=SECONDS):
            raise PdfFailed("others are printing")
        try:
            process = self._running()
            if process.stdin is None or process.stdout is None:  # pragma: no cover
                raise PdfFailed("no pipes")
            _write(process.stdin.fileno(), b"%d\n" % len(asked) + asked)
            head = _read_line(process.stdout.fileno(), end)
            if head.startswith(b"!"):
                raise PdfFailed(head[1:].decode())
            return _read(process.stdout.fileno(), int(head), end)
        except (OSError, ValueError) as error:
            self.end()
            raise PdfFailed(str(error)) from error
        finally:
            self._lock.release()

    def _running(self) -> subprocess.Popen[bytes]:
        process = self._process
        if process is None or process.poll() is not None or self._pid != os.getpid():
            self.end()
            self._pid = os.getpid()
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "core.pdf_worker"],
                cwd=ROOT,
                env={"PATH": os.environ.get("PATH", ""), "TEMPLATES": str(self._templates)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        return process

    def end(self) -> None:
        """End the process, unless it is that of the process which this one was forked from."""
        process, self._process = self._process, None
        if process is None or self._pid != os.getpid():
            return
        process.kill()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        process.wait()


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _read_line(descriptor: int, end: float) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        line += _some(descriptor, 1, end)
    return line.rstrip(b"\n")


def _read(descriptor: int, count: int, end: float) -> bytes:
    found = bytearray()
    while len(found) < count:
        found += _some(descriptor, count - len(found), end)
    return bytes(found)


def _some(descriptor: int, most: int, end: float) -> bytes:
    """Between one byte and `most`. Raises OSError when none come until `end`, or ever."""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        if not selector.select(max(end - time.monotonic(), 0)):
            raise TimeoutError("it takes too long")
    found = os.read(descriptor, most)
    if not found:
        raise BrokenPipeError("the process has ended")
    return found


_printer = Printer(TEMPLATES)
atexit.register(_printer.end)


def make(template: str, data: Mapping[str, Any], timestamp: datetime) -> bytes:
    """A PDF/UA-1 of `templates/statements/<template>` with `data`, the same bytes each time for the
    same data and `timestamp`. Raises PdfFailed."""
    return _printer.make(template, data, timestamp)
