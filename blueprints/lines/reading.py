"""Reading the network's accounting by the worker, from where the last reading ended."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.lines import accounting
from core import clock, due_work
from core.db import db, unit_of_work
from core.worker import CLEAN_EVERY
from gateways.network.base import NetworkGateway
from gateways.network.errors import NetworkError
from models import UsageSource

log = logging.getLogger("lastmile.lines")

NETWORK = "network"
POSTED = "posted"
NOTED_EVERY = timedelta(seconds=30)
LONGEST_FAILURE = 300
FORGET_EVERY = timedelta(days=1)
ROUND_SECONDS = 2.0
"""How long a backlog is read before the worker does something else: a line to be opened waits."""


class Reading:
    """A duty of the worker: takes in what the network reported, and closes what fell silent."""

    def __init__(self, gateway: NetworkGateway | None) -> None:
        self.__name__ = "reading of accounting"  # as the log names a duty
        self._gateway = gateway
        self._has_source = False
        self._taken = 0
        self._closed_at = clock.now() - CLEAN_EVERY
        self._forgotten_at = clock.now() - FORGET_EVERY

    def __call__(self) -> int:
        """Returns how many reports were taken in; without a gateway none is read."""
        if self._gateway is None:
            return 0
        if not self._has_source:
            unit_of_work(_add_source)
            self._has_source = True
        self._taken = 0
        due_work.do(UsageSource, UsageSource.due_at, self._read)
        if clock.now() - self._closed_at >= CLEAN_EVERY:
            accounting.close_silent()
            self._closed_at = clock.now()
        if clock.now() - self._forgotten_at >= FORGET_EVERY:
            accounting.forget_old()
            self._forgotten_at = clock.now()
        return self._taken

    def _read(self, source_id: int) -> None:
        gateway = self._gateway
        assert gateway is not None  # noqa: S101 - for the type: without one nothing is claimed
        cursor = db.session.scalars(
            select(UsageSource.cursor).where(UsageSource.id == source_id)
        ).one()
        failure, has_more = "", True
        end = time.monotonic() + ROUND_SECONDS
        try:
            while has_more and time.monotonic() < end:
                found = gateway.read_accounting(cursor)
                taken = accounting.take(found.reports)
                if taken.unknown:
                    log.warning(
                        "accounting names lines that nobody has",
                        extra={"lines": len(taken.unknown)},
                    )
                self._taken += taken.report_count
                cursor, has_more = found.cursor, found.has_more
        except NetworkError as error:
            failure, has_more = str(error)[:LONGEST_FAILURE] or type(error).__name__, False
            log.warning("accounting could not be read", extra={"why": failure})
        unit_of_work(
            partial(
                _note,
                source_id=source_id,
                cursor=cursor,
                failure=failure,
                pause_seconds=0 if has_more else gateway.read_every.total_seconds(),
            )
        )


def note_posted() -> None:
    """Note that accounting arrives by itself, as of now; not with each report."""
    now = clock.now()
    heard_at = db.session.scalar(select(UsageSource.read_at).where(UsageSource.name == POSTED))
    if heard_at is None or now - heard_at >= NOTED_EVERY:
        unit_of_work(partial(_note_posted, now=now))


def _note_posted(session: Session, now: datetime) -> None:
    source = session.scalar(select(UsageSource).where(UsageSource.name == POSTED))
    if source is None:
        session.add(UsageSource(name=POSTED, read_at=now))
    else:
        source.read_at = now


def _add_source(session: Session) -> None:
    if session.scalar(select(UsageSource.id).where(UsageSource.name == NETWORK)) is None:
        session.add(UsageSource(name=NETWORK, due_at=clock.now()))


def _note(
    session: Session, source_id: int, cursor: str, failure: str, pause_seconds: float
) -> None:
    now = clock.now()
    outcome = {"failed_at": now} if failure else {"read_at": now}
    session.execute(
        update(UsageSource)
        .where(UsageSource.id == source_id)
        .values(
            cursor=cursor,
            failure=failure,
            due_at=now + timedelta(seconds=pause_seconds),
            claimed_until_at=None,
            **outcome,
        )
    )
