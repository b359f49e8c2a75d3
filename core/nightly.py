"""The nightly backup: made by one worker of all nodes, in a process of its own, so that the worker
goes on with payments and messages meanwhile."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, Any
from zoneinfo import ZoneInfo

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from core import clock
from core.db import db, unit_of_work
from core.isp import NotSetUp, current_isp
from core.settings import ROOT, Settings
from models import PlannedJob

log = logging.getLogger("lastmile.backup")

JOB = "backup"
# A worker that dies leaves its claim to the others after this long.
LEASE = timedelta(minutes=5)
RENEW_EVERY = timedelta(minutes=1)
RETRY_AFTER = timedelta(hours=1)
LOOK_EVERY_SECONDS = 15.0
PARENT_VARIABLE = "LASTMILE_BACKUP_ENDS_WITH"
"""Tells the process that makes the backup whose end is its own."""


@dataclass(frozen=True, slots=True)
class LastBackup:
    """What is known of the backups of all nodes; `failure` is of the last one, if it failed."""

    done_at: datetime | None
    failed_at: datetime | None
    failure: str
    due_at: datetime | None

    @property
    def age_hours(self) -> int | None:
        """Whole hours since a backup was last made; None when none ever was."""
        if self.done_at is None:
            return None
        return max(int((clock.now() - self.done_at).total_seconds()) // 3600, 0)

    @property
    def has_failed(self) -> bool:
        """Whether the last attempt failed."""
        return self.failed_at is not None and (
            self.done_at is None or self.failed_at > self.done_at
        )


def next_time(now: datetime, timezone: str, hour: int) -> datetime:
    """The next instant at which it is `hour` o'clock at the ISP."""
    zone = ZoneInfo(timezone)
    local = now.astimezone(zone)
    today = local.replace(hour=hour, minute=0, second=0, microsecond=0)
    tomorrow = (today + timedelta(days=1)).replace(hour=hour)
    return next(time for time in (today, tomorrow) if time > local).astimezone(ZoneInfo("UTC"))


def last_backup() -> LastBackup:
    """When a backup was last made or failed, by any node."""
    row = db.session.execute(
        select(
            PlannedJob.done_at, PlannedJob.failed_at, PlannedJob.failure, PlannedJob.due_at
        ).where(PlannedJob.name == JOB)
    ).one_or_none()
    return LastBackup(*row) if row is not None else LastBackup(None, None, "", None)


def _write(**values: Any) -> None:
    def work(session: Session) -> None:
        found = session.scalar(
            update(PlannedJob)
            .where(PlannedJob.name == JOB)
            .values(**values)
            .returning(PlannedJob.id)
        )
        if found is None:
            session.add(PlannedJob(name=JOB, **values))

    unit_of_work(work)


def note_made() -> None:
    """Note for all nodes that there is a backup of this moment."""
    _write(done_at=clock.now())


def note_failed(reason: str) -> None:
    """Note for all nodes that a backup failed, and why."""
    _write(failed_at=clock.now(), failure=reason[:500])


def _plan(due_at: datetime) -> None:
    _write(due_at=due_at, claimed_until_at=None)


def _claim() -> bool:
    """Whether a backup is due and it is ours to make it."""
    now = clock.now()

    def work(session: Session) -> bool:
        is_free = or_(PlannedJob.claimed_until_at.is_(None), PlannedJob.claimed_until_at <= now)
        claimed = session.scalar(
            update(PlannedJob)
            .where(PlannedJob.name == JOB, PlannedJob.due_at <= now, is_free)
            .values(claimed_until_at=now + LEASE)
            .returning(PlannedJob.id)
        )
        return claimed is not None

    return unit_of_work(work)


def _start(said: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "app", "backup"],
        cwd=ROOT,
        env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
    )


class NightlyBackup:
    """A duty of the worker: makes a backup when it is due, and looks whether it is finished."""

    __name__ = "make_nightly_backup"  # as the log names a duty

    def __init__(
        self,
        settings: Settings,
        start: Callable[[IO[bytes]], subprocess.Popen[bytes]] = _start,
    ) -> None:
        self._settings = settings
        self._start = start
        self._said: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._renew_at = clock.now()
        self._look_at = 0.0
        self._is_planned = False

    def __call__(self) -> int:
        """Returns 1 when a backup was begun or has ended, else 0."""
        if self._settings.backups is None:
            return 0
        if self._process is not None:
            return self._look_after(self._process)
        if time.monotonic() < self._look_at:
            return 0
        self._look_at = time.monotonic() + LOOK_EVERY_SECONDS
        if not self._is_planned:
            self._is_planned = self._plan_first()
        if not self._is_planned or not self._is_due() or not _claim():
            return 0
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
        self._process = self._start(self._said)
        self._renew_at = clock.now() + RENEW_EVERY
        return 1

    def _next_time(self) -> datetime:
        return next_time(clock.now(), current_isp().timezone, self._settings.backup_hour)

    def _plan_first(self) -> bool:
        """Plan the first backup, or move the planned one to the hour of these settings."""
        try:
            last, at_night = last_backup(), self._next_time()
            is_movable = last.due_at is None or (last.due_at > clock.now() and not last.has_failed)
            if is_movable and last.due_at != at_night:
                _plan(at_night)
        except NotSetUp:
            return False
        return True

    def _is_due(self) -> bool:
        due_at = last_backup().due_at
        return due_at is not None and due_at <= clock.now()

    def _look_after(self, process: subprocess.Popen[bytes]) -> int:
        code = process.poll()
        if code is None:
            if clock.now() >= self._renew_at:
                _write(claimed_until_at=clock.now() + LEASE)
                self._renew_at = clock.now() + RENEW_EVERY
            return 0
        self._process = None
        said, self._said = self._said, None
        reason = ""
        if said is not None:
            with said:
                said.seek(0)
                reason = said.read().decode("utf-8", "replace").strip()[-500:]
        if code == 0:
            log.info("the nightly backup is made")
            _plan(self._next_time())
        else:
            reason = reason.removeprefix("Error: ") or f"it ended with {code}"
            log.error("the nightly backup failed", extra={"reason": reason})
            _plan(clock.now() + RETRY_AFTER)
            note_failed(reason)
        return 1
