"""What lines carried, put where accounting puts it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session

from blueprints.lines import accounting
from core import clock
from core.db import unit_of_work
from gateways.network.base import Report, ReportKind
from models import UsageSource
from tests.conftest import Portal

GB = 10**9


def line_of(portal: Portal, name: str = "alice") -> int:
    return int(portal.one("SELECT id FROM lines WHERE username = :name", name=f"ppp-{name}"))


def carry(
    portal: Portal, day_on: date, hours: Sequence[tuple[int, int]], line_id: int | None = None
) -> None:
    """A line carried so many bytes up and down in each hour of a day."""
    of_hours = {number: list(pair) for number, pair in enumerate(hours)}
    found = {(line_id or line_of(portal), day_on): of_hours}
    with portal.app.app_context():
        unit_of_work(lambda session: accounting.add_hours(session, found))


def connect(
    portal: Portal,
    started_at: datetime,
    minutes: int,
    down: int,
    *,
    name: str = "alice",
    **more: str,
) -> None:
    """A connection of so many minutes, which ended."""
    ended_at = started_at + timedelta(minutes=minutes)
    stop = Report(
        ReportKind.STOP, "10.0.0.1", ended_at, f"s{started_at:%d%H%M}", f"ppp-{name}", minutes * 60,
        down // 4, down, True, **more,
    )  # fmt: skip
    with portal.app.app_context():
        accounting.take([stop])


def read(portal: Portal, at: datetime | None = None, failure: str = "") -> None:
    """Accounting was read at this moment, and could not be since where there is a failure."""

    def work(session: Session) -> None:
        session.execute(delete(UsageSource))
        session.add(UsageSource(name="network", read_at=at or clock.now(), failure=failure))

    with portal.app.app_context():
        unit_of_work(work)


def include(portal: Portal, amount_bytes: int | None) -> None:
    """What the plan of the world's lines includes."""
    portal.execute(
        "UPDATE plans SET data_included_bytes = :amount WHERE kind = 'internet'",
        amount=amount_bytes,
    )
