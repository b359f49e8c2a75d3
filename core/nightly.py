"""What is done once a day (the backup, the bill run, the steps about unpaid bills), and what staff
ask for that takes as long.

Each is done by one worker of all nodes, in a process of its own, so that the worker goes on with
payments and messages meanwhile.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
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
from core.supervisor import end_with_parent
from models import PlannedJob

log = logging.getLogger("lastmile.backup")

# A worker that dies leaves its claim to the others after this long.
LEASE = timedelta(minutes=5)
RENEW_EVERY = timedelta(minutes=1)
RETRY_AFTER = timedelta(hours=1)
LOOK_EVERY_SECONDS = 15.0
LOOK_FOR_ASKED_SECONDS = 2.0
ASK_AGAIN_AFTER = timedelta(seconds=30)
PARENT_VARIABLE = "LASTMILE_NIGHTLY_ENDS_WITH"
"""Tells the process that does a job whose end is its own."""
NOT_AGAIN_TODAY = 4
"""What a job ends with that failed in a way that trying again in an hour would not mend."""


@dataclass(frozen=True, slots=True)
class Job:
    """Something done by `flask COMMAND…` each night at an `hour` at the ISP, None for not at night.

    Raises NotSetUp from `hour` where there is no ISP yet."""

    name: str
    command: tuple[str, ...]
    hour: Callable[[Settings], int | None]


BACKUP = Job(
    "backup",
    ("backup",),
    lambda settings: None if settings.backups is None else settings.backup_hour,
)
BILL_RUN = Job("bill run", ("billing", "run"), lambda _settings: current_isp().billing_hour)
ASKED_RUN = Job("asked bill run", ("billing", "run", "--asked"), lambda _settings: None)
"""The bill run that staff ask for on their page."""
DUNNING = Job("dunning", ("billing", "dunning"), lambda _settings: current_isp().dunning.hour)


@dataclass(frozen=True, slots=True)
class LastTime:
    """What all nodes know of a job; `failure` is of the last time, if it failed."""

    done_at: datetime | None
    failed_at: datetime | None
    failure: str
    due_at: datetime | None

    @property
    def age_hours(self) -> int | None:
        """Whole hours since it was last done; None when it never was."""
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


def last_time(job: Job) -> LastTime:
    """When a job was last done or failed, by any node."""
    row = db.session.execute(
        select(
            PlannedJob.done_at, PlannedJob.failed_at, PlannedJob.failure, PlannedJob.due_at
        ).where(PlannedJob.name == job.name)
    ).one_or_none()
    return LastTime(*row) if row is not None else LastTime(None, None, "", None)


def _write_in(session: Session, job: Job, **values: Any) -> None:
    found = session.scalar(
        update(PlannedJob)
        .where(PlannedJob.name == job.name)
        .values(**values)
        .returning(PlannedJob.id)
    )
    if found is None:
        session.add(PlannedJob(name=job.name, **values))


def _write(job: Job, **values: Any) -> None:
    unit_of_work(lambda session: _write_in(session, job, **values))


def ask(session: Session, job: Job) -> None:
    """Have a worker do it as soon as one can, within the running unit of work."""
    _write_in(session, job, due_at=clock.now())


def note_done(job: Job) -> None:
    """Note for all nodes that it is done as of this moment."""
    _write(job, done_at=clock.now())


def note_failed(job: Job, reason: str) -> None:
    """Note for all nodes that it failed, and why."""
    _write(job, failed_at=clock.now(), failure=reason[:500])


def _plan(job: Job, due_at: datetime) -> None:
    _write(job, due_at=due_at, claimed_until_at=None)


def _claim(job: Job) -> bool:
    """Whether the job is due and it is ours to do."""
    now = clock.now()

    def work(session: Session) -> bool:
        is_free = or_(PlannedJob.claimed_until_at.is_(None), PlannedJob.claimed_until_at <= now)
        claimed = session.scalar(
            update(PlannedJob)
            .where(PlannedJob.name == job.name, PlannedJob.due_at <= now, is_free)
            .values(claimed_until_at=now + LEASE)
            .returning(PlannedJob.id)
        )
        return claimed is not None

    return unit_of_work(work)


def end_with_the_worker() -> None:
    """Called by a command that the worker may have begun: its end is then ours."""
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None:
        end_with_parent(int(parent))


def is_nightly() -> bool:
    """Whether the worker has begun this process, and nobody by hand."""
    return PARENT_VARIABLE in os.environ


def _start(job: Job, said: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the commands above
        [sys.executable, "-m", "flask", "--app", "app", *job.command],
        cwd=ROOT,
        env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
    )


class _Planned(ABC):
    """A duty of the worker: does a job when it is due, and looks whether it is finished."""

    def __init__(
        self,
        job: Job,
        settings: Settings,
        start: Callable[[Job, IO[bytes]], subprocess.Popen[bytes]] = _start,
    ) -> None:
        self.__name__ = job.name  # as the log names a duty
        self._job = job
        self._settings = settings
        self._start = start
        self._said: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._began_at = self._renew_at = clock.now()
        self._look_at = 0.0

    def __call__(self) -> int:
        """Returns 1 when the job was begun or has ended, else 0."""
        if self._process is not None:
            return self._look_after(self._process)
        if time.monotonic() < self._look_at:
            return 0
        self._look_at = time.monotonic() + self._pause()
        if not self._has_plan() or not self._is_due() or not _claim(self._job):
            return 0
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed when the process has ended
        self._process = self._start(self._job, self._said)
        self._began_at = clock.now()
        self._renew_at = self._began_at + RENEW_EVERY
        return 1

    @abstractmethod
    def _pause(self) -> float:
        """For how many seconds nobody looks again whether it is due."""

    @abstractmethod
    def _has_plan(self) -> bool:
        """Whether it is done at all, once its next time is planned."""

    @abstractmethod
    def _plan_next(self, code: int) -> None:
        """Plan the next time, after its process has ended with this code."""

    def _is_due(self) -> bool:
        due_at = last_time(self._job).due_at
        return due_at is not None and due_at <= clock.now()

    def _look_after(self, process: subprocess.Popen[bytes]) -> int:
        code = process.poll()
        if code is None:
            if clock.now() >= self._renew_at:
                _write(self._job, claimed_until_at=clock.now() + LEASE)
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
            log.info("%s is done", self.__name__)
        else:
            reason = reason.removeprefix("Error: ") or f"it ended with {code}"
            log.error("%s failed", self.__name__, extra={"reason": reason})
            note_failed(self._job, reason)
        self._plan_next(code)
        return 1


class Nightly(_Planned):
    """What is done at the hour of its job."""

    def __init__(
        self,
        job: Job,
        settings: Settings,
        start: Callable[[Job, IO[bytes]], subprocess.Popen[bytes]] = _start,
    ) -> None:
        super().__init__(job, settings, start)
        self.__name__ = f"the nightly {job.name}"
        self._planned_for: int | None = None

    def _pause(self) -> float:
        return LOOK_EVERY_SECONDS

    def _has_plan(self) -> bool:
        try:
            hour = self._job.hour(self._settings)
        except NotSetUp:
            return False
        if hour is None:
            self._planned_for = None
            return False
        if self._planned_for != hour:
            self._plan_first(hour)
        return True

    def _next_time(self, hour: int) -> datetime:
        return next_time(clock.now(), current_isp().timezone, hour)

    def _plan_first(self, hour: int) -> None:
        """Plan the first time, or move the planned one to the hour of these settings."""
        last, at_night = last_time(self._job), self._next_time(hour)
        is_movable = last.due_at is None or (last.due_at > clock.now() and not last.has_failed)
        if is_movable and last.due_at != at_night:
            _plan(self._job, at_night)
        self._planned_for = hour

    def _plan_next(self, code: int) -> None:
        if code in (0, NOT_AGAIN_TODAY):
            _plan(self._job, self._next_time(self._planned_for or 0))
        else:
            _plan(self._job, clock.now() + RETRY_AFTER)


class Asked(_Planned):
    """What is done when somebody has asked for it; see `ask`."""

    def _pause(self) -> float:
        return LOOK_FOR_ASKED_SECONDS

    def _has_plan(self) -> bool:
        return True

    def _plan_next(self, code: int) -> None:
        """Nothing more is due, but for what was asked while the process ran: it may not have seen
        that any more."""
        due_at = None if code == 0 else clock.now() + ASK_AGAIN_AFTER

        def work(session: Session) -> None:
            session.execute(
                update(PlannedJob)
                .where(PlannedJob.name == self._job.name, PlannedJob.due_at <= self._began_at)
                .values(due_at=due_at)
            )
            _write_in(session, self._job, claimed_until_at=None)

        unit_of_work(work)
