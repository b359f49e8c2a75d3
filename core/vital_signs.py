"""What the database tells about the portal's health, for `/metrics`: payments that have not ended,
work that is due, the worker, maintenance, size. Every question of a scrape but one is answered by
an index."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import case, func, select

from core import clock
from core.db import db, total
from core.isp import NotSetUp, current_isp, is_pinned
from models import Message, Payment, PaymentState, WorkerBeat

if TYPE_CHECKING:
    from prometheus_client.metrics_core import GaugeMetricFamily, Metric

COUNTED_EVERY_SECONDS = 300.0
"""How often all payments are counted by state, which reads the whole table."""


def collect() -> Iterator[Metric]:
    """The numbers of this moment; none but the mark that it is so while the portal is closed and
    does without its database. Needs an application context."""
    try:
        yield _gauge(
            "lastmile_maintenance", "Whether the portal is closed", current_isp().is_closed
        )
    except NotSetUp:
        return
    if is_pinned():
        return
    yield from _payments()
    yield from _messages()
    yield _worker()
    yield _gauge("lastmile_database_bytes", "Size of the database", _database_bytes())


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, text, value=value)


def _age(instant: object) -> float:
    """Seconds since `instant`; 0 when there is none."""
    from datetime import datetime

    return max((clock.now() - instant).total_seconds(), 0.0) if isinstance(instant, datetime) else 0


_by_state: dict[str, tuple[float, dict[str, int]]] = {}


def _count_by_state() -> dict[str, int]:
    url = str(db.engine.url)
    counted_at, found = _by_state.get(url, (0.0, {}))
    if not found or time.monotonic() - counted_at > COUNTED_EVERY_SECONDS:
        rows = db.session.execute(select(Payment.state, func.count()).group_by(Payment.state))
        found = {state.value: 0 for state in PaymentState} | {row[0]: row[1] for row in rows}
        _by_state[url] = time.monotonic(), found
    return found


def _payments() -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    now = clock.now()
    # Whatever has not ended has a next question, so one partial index holds all of these.
    rows = db.session.execute(
        select(
            Payment.state,
            func.count().label("how_many"),
            func.min(Payment.created_at).label("oldest"),
            total(case((Payment.ask_at <= now, 1), else_=0)).label("due"),
            func.min(Payment.ask_at).label("due_since"),
        )
        .where(Payment.ask_at.is_not(None))
        .group_by(Payment.state)
    ).all()
    open_now = {row.state: row for row in rows}
    counted = _count_by_state()
    by_state = GaugeMetricFamily(
        "lastmile_payments",
        "Payments by state; those that have ended are counted every five minutes",
        labels=["state"],
    )
    for state in PaymentState:
        is_open = state in _OPEN
        row = open_now.get(state.value)
        count = (row.how_many if row else 0) if is_open else counted[state.value]
        by_state.add_metric([state.value], count)
    yield by_state
    unknown = open_now.get(PaymentState.UNKNOWN.value)
    yield _gauge(
        "lastmile_payments_unknown_oldest_seconds",
        "Age of the oldest payment of which nobody knows how it ended",
        _age(unknown.oldest) if unknown else 0,
    )
    yield _gauge(
        "lastmile_payments_due",
        "Payments that the gateway should be asked about by now",
        sum(row.due for row in rows),
    )
    yield _gauge(
        "lastmile_payments_due_oldest_seconds",
        "How long the first of them has been due",
        max((_age(row.due_since) for row in rows if row.due), default=0),
    )


_OPEN = frozenset(
    {
        PaymentState.CREATED,
        PaymentState.SENT,
        PaymentState.PROCESSING,
        PaymentState.UNKNOWN,
    }
)


def _messages() -> Iterator[Metric]:
    row = db.session.execute(
        select(func.count(), func.min(Message.try_at)).where(Message.try_at <= clock.now())
    ).one()
    yield _gauge("lastmile_messages_due", "Messages that should have left by now", row[0])
    yield _gauge(
        "lastmile_messages_due_oldest_seconds",
        "How long the first of them has been due",
        _age(row[1]),
    )


def _worker() -> GaugeMetricFamily:
    beat_at = db.session.scalar(select(func.max(WorkerBeat.beat_at)))
    return _gauge(
        "lastmile_worker_heartbeat_age_seconds",
        "Time since a worker last said that it is alive; infinite when none ever did",
        _age(beat_at) if beat_at is not None else float("inf"),
    )


def _database_bytes() -> int:
    if db.engine.dialect.name == "postgresql":
        return int(db.session.scalar(select(func.pg_database_size(func.current_database()))) or 0)
    path = str(db.engine.url.database)
    files = (Path(path), Path(f"{path}-wal"))
    return sum(file.stat().st_size for file in files if file.exists())
