"""Processes that tests start: what belongs to one, and its end, be it against its will."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import AnyStr


def descendants(pid: int) -> set[int]:
    """The processes that `pid` started, and theirs."""
    found: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found |= {int(child)} | descendants(int(child))
    return found


def are_gone(pids: Iterable[int], seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(_is_running(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def _is_running(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


def kill(process: subprocess.Popen[AnyStr]) -> None:
    """End it and all that it started without a warning."""
    for pid in [process.pid, *descendants(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def end(process: subprocess.Popen[AnyStr], seconds: float = 20) -> None:
    """Ask it to end. Raises TimeoutExpired when it does not, and nothing of it is left then."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        kill(process)
        raise


@contextlib.contextmanager
def killed_unless_up(process: subprocess.Popen[AnyStr]) -> Iterator[None]:
    """Wait within the block until it is up; when that fails, nothing of it is left."""
    try:
        yield
    except BaseException:
        kill(process)
        raise
