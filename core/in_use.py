"""Who uses an SQLite file at this moment: other processes that hold it open, and the worker."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import func, select

from core import clock
from core.db import db
from core.worker import MISSED_AFTER
from models import WorkerBeat

LOOK_EVERY_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Process:
    """A program that runs on this machine."""

    pid: int
    name: str


def find_processes(database: Path) -> list[Process]:
    """Other processes that hold the database or the writers' lock files beside it open.

    Finds those whose open files we may see (our own, or all as root); Linux only, elsewhere none.
    """
    path = database.resolve()
    wanted = {f"{path}{suffix}" for suffix in ("", "-wal", "-shm")}
    wanted |= {str(path.parent / f"writers-{name}.lock") for name in ("next", "now")}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        if int(folder.name) == os.getpid():
            continue
        try:
            if any(str(link.readlink()) in wanted for link in (folder / "fd").iterdir()):
                found.append(Process(int(folder.name), (folder / "comm").read_text().strip()))
        except OSError:  # it ended while we looked, or is somebody else's
            continue
    return sorted(found, key=lambda process: process.pid)


def last_beat_age() -> timedelta | None:
    """How long ago a worker last wrote that it is alive; None if none ever did."""
    beat_at = db.session.scalar(select(func.max(WorkerBeat.beat_at)))
    db.session.close()
    return None if beat_at is None else clock.now() - beat_at


def wait_for_silence(tell: Callable[[str], None]) -> bool:
    """Whether no worker is alive, on this machine or elsewhere.

    A heartbeat younger than a minute is watched until it is a minute old, since the worker may
    have just ended; False as soon as it beats again.
    """
    age = last_beat_age()
    if age is None or age >= MISSED_AFTER:
        return True
    rest = (MISSED_AFTER - age).total_seconds()
    tell(
        f"The worker was alive {age.total_seconds():.0f} s ago. Watching for {rest:.0f} s "
        "whether it has really ended…"
    )
    while (now := last_beat_age()) is not None and now < MISSED_AFTER:
        if now < age:
            return False
        age = now
        time.sleep(LOOK_EVERY_SECONDS)
    return True
