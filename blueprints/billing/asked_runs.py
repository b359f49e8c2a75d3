"""Bill runs that staff ask for: added up first, then started from what they saw, by the worker.

A preview adds up what a day's run would bill. A run is started from a preview, or from a run that
stopped, whose total it accepts where that stands out.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Row, Select, select, update
from sqlalchemy.orm import Session, aliased

from blueprints.billing import bill_run
from blueprints.billing.errors import (
    BillRunHalted,
    BillRunNotSeen,
    BillRunStopped,
    BillRunUnderWay,
)
from blueprints.billing.run_reasons import Reason, Stop, words_of_stop
from core import activity, clock, ids, nightly
from core.db import db
from core.errors import NotFound
from core.isp import current_isp
from core.money import Money
from models import Account, BillRun, BillRunState, Customer

DAYS_AROUND = timedelta(days=31)
"""How far from today the day of a run may be."""
LISTED = 20
_OPEN = (BillRunState.ASKED.value, BillRunState.RUNNING.value)


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """An account whose bill differs from that of its last period."""

    account_public_id: str
    number: str
    last: Money
    following: Money


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run, or a preview of one, as a list shows it. `state` is that of the row, or `lost` for one
    that was killed."""

    public_id: str
    as_of_on: date
    state: str
    is_preview: bool
    planned_count: int
    planned: Money
    issued_count: int
    issued: Money
    started_by: str | None
    started_at: datetime
    ended_at: datetime | None

    @property
    def is_open(self) -> bool:
        return self.state in _OPEN


@dataclass(frozen=True, slots=True)
class RunDetail(RunRow):
    """A run as its own page shows it. `can_start`: from here a run of the same day may begin;
    `accepts` says that it takes a total that stands out."""

    account_count: int
    done_count: int
    subscriptions: int
    last: Money
    last_subscriptions: int
    has_plan: bool
    reasons: tuple[str, ...]
    differences: tuple[DifferenceRow, ...]
    account_ids: tuple[int, ...]
    stopped_because: str
    stopped_by: str | None
    is_stopping: bool
    revision: int
    can_start: bool
    accepts: bool


# Asking -----------------------------------------------------------------------------------------


def latest_day() -> tuple[date, date, date]:
    """The first and the last day that may be looked at, and today, after which none is billed."""
    today = clock.today(current_isp().timezone)
    return today - DAYS_AROUND, today + DAYS_AROUND, today


def ask_preview(session: Session, as_of_on: date, by_id: int) -> str:
    """Have the worker add up what a day's run would bill; the preview's public id.

    Of the same day one that is being made is that one. Raises BillRunUnderWay when one of another
    day is being made.
    """
    return _ask(session, as_of_on, by_id, is_preview=True, accepted_minor=None)


def ask_run(session: Session, public_id: str, by_id: int) -> str:
    """Have the worker bill what a preview, or a run that stopped, has found; the new run's public
    id, or that of the same day's that goes on.

    Raises NotFound, BillRunNotSeen when nothing may begin from there, BillRunUnderWay.
    """
    row = session.execute(_select(BillRun.public_id == public_id)).one_or_none()
    if row is None:
        raise NotFound
    seen = _detail(row, {})
    if not seen.can_start:
        raise BillRunNotSeen
    accepted_minor = seen.planned.amount_minor if seen.accepts else None
    found = _ask(session, seen.as_of_on, by_id, is_preview=False, accepted_minor=accepted_minor)
    event = activity.Event("bill_run_asked", clock.now(), customer_id=by_id)
    activity.record(session, [event])
    return found


def _ask(
    session: Session, as_of_on: date, by_id: int, *, is_preview: bool, accepted_minor: int | None
) -> str:
    bill_run.end_lost(session)
    going_on = session.execute(
        select(BillRun.public_id, BillRun.as_of_on).where(
            BillRun.state.in_(_OPEN), BillRun.is_preview.is_(is_preview)
        )
    ).first()
    if going_on is not None:
        if going_on.as_of_on != as_of_on:
            raise BillRunUnderWay
        return str(going_on.public_id)
    now = clock.now()
    public_id = ids.public_id()
    session.add(
        BillRun(
            public_id=public_id,
            as_of_on=as_of_on,
            state=BillRunState.ASKED.value,
            is_preview=is_preview,
            accepted_minor=accepted_minor,
            started_by_id=by_id,
            started_at=now,
            beat_at=now,
        )
    )
    session.flush()
    nightly.ask(session, nightly.ASKED_RUN)
    return public_id


def stop(session: Session, public_id: str, by_id: int) -> None:
    """Let a run end after the batch it is at; one that has not begun ends at once. Nothing happens
    to one that has ended. Raises NotFound."""
    now = clock.now()
    row = session.execute(
        select(BillRun.id, BillRun.state).where(BillRun.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise NotFound
    noted = {"stop_asked_at": now, "stopped_by_id": by_id, "revision": BillRun.revision + 1}
    session.execute(
        update(BillRun)
        .where(BillRun.id == row.id, BillRun.state == BillRunState.ASKED.value)
        .values(
            state=BillRunState.STOPPED.value,
            ended_at=now,
            stopped_because=Stop.BY_STAFF.value,
            **noted,
        )
    )
    session.execute(
        update(BillRun)
        .where(
            BillRun.id == row.id,
            BillRun.state == BillRunState.RUNNING.value,
            BillRun.stop_asked_at.is_(None),
        )
        .values(**noted)
    )


def do_asked() -> int:
    """Do what was asked for, previews first; how many there were. Raises BillRunUnderWay while a
    run that nobody asked for goes on: what is left waits."""
    done = 0
    while True:
        row = db.session.execute(
            select(BillRun.id, BillRun.as_of_on, BillRun.is_preview, BillRun.accepted_minor)
            .where(BillRun.state == BillRunState.ASKED.value)
            .order_by(BillRun.is_preview.desc(), BillRun.id)
            .limit(1)
        ).one_or_none()
        if row is None:
            return done
        frame = bill_run.read_frame(row.as_of_on)
        with suppress(BillRunStopped, BillRunHalted):
            if row.is_preview:
                bill_run.preview(frame, row.id)
            else:
                bill_run.run(frame, accepted_minor=row.accepted_minor, asked_id=row.id)
        done += 1


# Reading ----------------------------------------------------------------------------------------


def list_runs() -> list[RunRow]:
    """The latest runs and previews, the newest first."""
    rows = db.session.execute(_select().order_by(BillRun.id.desc()).limit(LISTED))
    return [RunRow(**_row_values(row)) for row in rows]


def get_run(public_id: str) -> RunDetail:
    """A run as its page shows it. Raises NotFound."""
    row = db.session.execute(_select(BillRun.public_id == public_id)).one_or_none()
    if row is None:
        raise NotFound
    account_ids = [each["account_id"] for each in (row.found or {}).get("differences", ())]
    accounts = select(Account.id, Account.public_id).where(Account.id.in_(account_ids))
    found = db.session.execute(accounts).all() if account_ids else ()
    return _detail(row, {account.id: account.public_id for account in found})


def _select(*which: Any) -> Select[*tuple[Any, ...]]:
    starter, stopper = aliased(Customer), aliased(Customer)
    return (
        select(
            *BillRun.__table__.columns,
            starter.name.label("started_by"),
            stopper.name.label("stopped_by"),
        )
        .outerjoin(starter, starter.id == BillRun.started_by_id)
        .outerjoin(stopper, stopper.id == BillRun.stopped_by_id)
        .where(*which)
    )


def _row_values(row: Row[Any]) -> dict[str, Any]:
    currency = current_isp().currency
    is_lost = row.state == BillRunState.RUNNING and row.beat_at < clock.now() - bill_run.LOST_AFTER
    return {
        "public_id": row.public_id,
        "as_of_on": row.as_of_on,
        "state": "lost" if is_lost else row.state,
        "is_preview": row.is_preview,
        "planned_count": row.planned_count,
        "planned": Money(row.planned_minor, currency),
        "issued_count": row.issued_count,
        "issued": Money(row.issued_minor, currency),
        "started_by": row.started_by,
        "started_at": row.started_at,
        "ended_at": row.ended_at,
    }


def _detail(row: Row[Any], public_ids: dict[int, str]) -> RunDetail:
    values, found, currency = _row_values(row), row.found or {}, current_isp().currency
    reasons = tuple(Reason.read(kept).words(currency) for kept in found.get("reasons", ()))
    has_ended = values["state"] not in _OPEN
    *_, today = latest_day()
    is_seen = row.is_preview and row.state == BillRunState.DONE
    is_to_go_on = not row.is_preview and has_ended and row.state != BillRunState.DONE
    return RunDetail(
        **values,
        account_count=row.account_count,
        done_count=row.done_count,
        subscriptions=found.get("subscriptions", 0),
        last=Money(found.get("last_total_minor", 0), currency),
        last_subscriptions=found.get("last_subscriptions", 0),
        has_plan=bool(found),
        reasons=reasons,
        differences=tuple(
            DifferenceRow(
                public_ids[each["account_id"]],
                each["number"],
                Money(each["last_minor"], currency),
                Money(each["next_minor"], currency),
            )
            for each in found.get("differences", ())
            if each["account_id"] in public_ids
        ),
        account_ids=tuple(public_ids),
        stopped_because=words_of_stop(row.stopped_because) if row.stopped_because else "",
        stopped_by=row.stopped_by,
        is_stopping=not has_ended and row.stop_asked_at is not None,
        revision=row.revision,
        can_start=(is_seen or is_to_go_on) and row.as_of_on <= today,
        accepts=bool(reasons) and row.issued_count == 0,
    )
