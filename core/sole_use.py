"""Who uses the database file, so that nobody puts another in its place under their hands.

Every process that connects to an SQLite file holds a shared lock beside it until it ends;
restoring takes the lock alone. A process that comes while a restore runs waits for it, and then
opens the file that is there.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK_NAME = "in-use.lock"
WAIT_SECONDS = 5.0

_held: dict[Path, tuple[int, int]] = {}
"""For each lock file our process id and the descriptor that holds it."""


class DatabaseInUse(Exception):
    """Another process is connected to the database."""


def lock_of(path: Path) -> Path:
    """The lock beside the database file at `path`."""
    return path.resolve().parent / LOCK_NAME


def _open(lock: Path) -> int:
    pid, descriptor = _held.get(lock, (0, -1))
    if pid != os.getpid():  # none yet, or the parent's: a lock belongs to the open file
        descriptor = os.open(lock, os.O_RDONLY | os.O_CREAT, 0o600)
        _held[lock] = (os.getpid(), descriptor)
    return descriptor


def _is_held(lock: Path) -> bool:
    return _held.get(lock, (0, -1))[0] == os.getpid()


def hold(path: Path) -> None:
    """Note that this process uses the database file at `path`, until the process ends.

    Raises sqlite3.OperationalError when a restore does not end in time.
    """
    lock = lock_of(path)
    if _is_held(lock):
        return
    try:
        descriptor = _open(lock)
    except OSError as error:
        raise sqlite3.OperationalError(f"{lock} cannot be made: {error.strerror}") from error
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                _forget(lock)
                raise sqlite3.OperationalError(
                    "the database is locked: it is being restored"
                ) from None
            time.sleep(0.05)
        else:
            return


def _forget(lock: Path) -> None:
    _pid, descriptor = _held.pop(lock)
    os.close(descriptor)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Be the only process that uses the database file at `path`.

    The caller has closed its own connections. Raises DatabaseInUse.
    """
    lock = lock_of(path)
    descriptor = _open(lock)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DatabaseInUse from None
        yield
    finally:
        _forget(lock)
