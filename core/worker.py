"""The worker: does what is due, again and again, and says that it is alive.

Each duty is a function that does a little due work and returns how many things it did. Duties take
their work from tables with a claim (`core/due_work.py`), so any number of workers may run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from flask import Flask
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core import activity, clock, flows, form_keys, isp, maintenance, privacy, sessions, throttle
from core.db import db, unit_of_work
from core.log import referenced
from models import WorkerBeat

log = logging.getLogger("lastmile.worker")

Duty = Callable[[], int]

BEAT_EVERY = timedelta(seconds=5)
MISSED_AFTER = timedelta(seconds=60)
CLEAN_EVERY = timedelta(minutes=10)
SEAL_EVERY = timedelta(minutes=1)
PAUSE_SECONDS = 1.0
NAME = "worker"


@dataclass(slots=True)
class Clockwork:
    """When what is done at intervals was last done."""

    beaten_at: datetime
    cleaned_at: datetime
    sealed_at: datetime


def beat() -> None:
    """Write that the worker is alive."""

    def work(session: Session) -> None:
        found = session.scalar(
            update(WorkerBeat)
            .where(WorkerBeat.name == NAME)
            .values(beat_at=clock.now())
            .returning(WorkerBeat.name)
        )
        if found is None:
            session.add(WorkerBeat(name=NAME, beat_at=clock.now()))

    unit_of_work(work)


def last_beat() -> datetime | None:
    """When a worker last said that it is alive."""
    return db.session.scalar(select(WorkerBeat.beat_at).where(WorkerBeat.name == NAME))


def is_alive() -> bool:
    """Whether a worker has said so lately."""
    beat_at = last_beat()
    return beat_at is not None and clock.now() - beat_at < MISSED_AFTER


def clean_up() -> None:
    """Delete sessions, keys and tries that nothing looks at any more, and empty what is left of
    people who are gone."""

    def work(session: Session) -> None:
        now = clock.now()
        sessions.delete_old(session, now)
        form_keys.delete_old(session, now)
        throttle.delete_old(session, now)
        flows.delete_old(session, now)
        privacy.delete_old(session, now)

    unit_of_work(work)
    privacy.empty_messages_of_erased()


def run(app: Flask, duties: Sequence[Duty], stop: threading.Event) -> None:
    """Work until `stop` is set, resting while the portal is closed for maintenance. A duty that
    fails is logged and tried again with the next round."""
    clockwork = first_clockwork()
    while not stop.is_set():
        with app.app_context():
            done = turn(app, duties, clockwork)
        if not done:
            stop.wait(PAUSE_SECONDS)


def first_clockwork() -> Clockwork:
    """Everything that is done at intervals is due."""
    start = clock.now()
    return Clockwork(start - BEAT_EVERY, start - CLEAN_EVERY, start - SEAL_EVERY)


def turn(app: Flask, duties: Sequence[Duty], clockwork: Clockwork) -> int:
    """One round of all duties, within an application context; returns how many things were done."""
    folder: Path = app.config["PORTAL"].data
    now = clock.now()
    done = 0
    try:
        is_closed = maintenance.is_closed_here(folder)
        if now - clockwork.beaten_at >= BEAT_EVERY and not isp.is_pinned():
            beat()
            clockwork.beaten_at = now
        if is_closed:
            return 0
        if now - clockwork.cleaned_at >= CLEAN_EVERY:
            clean_up()
            clockwork.cleaned_at = now
        # What is left over when its time is up is sealed with the next round.
        if now - clockwork.sealed_at >= SEAL_EVERY and not activity.seal():
            clockwork.sealed_at = now
    except Exception:
        log.exception("the worker could not write its heartbeat, clean up or seal")
    for duty in duties:
        try:
            with referenced():
                done += duty()
        except Exception:
            name = getattr(duty, "__name__", str(duty))
            log.exception("a duty of the worker failed", extra={"duty": name})
    return done
