"""Holding lines for a reason, and releasing them: the only writer of holds.

What is wanted of a line (`wanted_state`) follows from its holds and is written with them, in the
caller's unit of work; `sync_at` then has the worker bring the network to it (`syncing.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Update, bindparam, case, exists, insert, select, update
from sqlalchemy.orm import Session

from core import activity, clock
from models import Account, HoldReason, Line, LineHold, LineState


@dataclass(frozen=True, slots=True)
class Changed:
    """A line of which something else is wanted than before."""

    line_id: int
    account_id: int
    wanted: LineState


def _of_lines() -> Any:
    return bindparam("lines", expanding=True)


def _wanting() -> Update:
    is_held = exists().where(LineHold.line_id == Line.id, LineHold.released_at.is_(None))
    wanted = case(
        (Line.is_closed, LineState.CLOSED.value),
        (is_held, LineState.HELD.value),
        else_=LineState.OPEN.value,
    )
    return (
        update(Line)
        .where(Line.id.in_(_of_lines()), Line.wanted_state != wanted)
        .values(wanted_state=wanted, sync_at=bindparam("now"), sync_count=0)
        .returning(Line.id, Line.account_id, Line.wanted_state)
    )


# Paying is a hot path: building a statement costs more than running it.
_LIST_STANDING = select(LineHold.line_id).where(
    LineHold.line_id.in_(_of_lines()),
    LineHold.reason == bindparam("reason"),
    LineHold.released_at.is_(None),
)
_INSERT = insert(LineHold)
_RELEASE = (
    update(LineHold)
    .where(
        LineHold.line_id.in_(_of_lines()),
        LineHold.reason == bindparam("reason_of"),
        LineHold.released_at.is_(None),
    )
    .values(released_at=bindparam("now"))
)
_WANT = _wanting()
# What was opened so that a bill can be paid does not stay open for whatever else it is held for.
_END_OPENINGS = (
    update(Line)
    .where(Line.id.in_(_of_lines()), Line.opened_until_at.is_not(None))
    .values(opened_until_at=None, sync_at=bindparam("now"), sync_count=0)
)
_RAISE_REVISIONS = (
    update(Account)
    .where(Account.id.in_(bindparam("accounts", expanding=True)))
    .values(revision=Account.revision + 1)
)


def hold(
    session: Session, line_ids: Sequence[int], reason: HoldReason, *, is_noted: bool = True
) -> list[Changed]:
    """Hold the lines for `reason`, those that it does not hold already; what came of it.

    `is_noted`: an event of each account tells of it.
    """
    if not line_ids:
        return []
    connection, now = session.connection(), clock.now()
    standing = {
        row.line_id
        for row in connection.execute(_LIST_STANDING, {"lines": line_ids, "reason": reason.value})
    }
    new = [line_id for line_id in dict.fromkeys(line_ids) if line_id not in standing]
    if not new:
        return []
    connection.execute(
        _INSERT,
        [
            {"line_id": line_id, "reason": reason.value, "since_at": now, "released_at": None}
            for line_id in new
        ],
    )
    if reason is not HoldReason.UNPAID:
        connection.execute(_END_OPENINGS, {"lines": new, "now": now})
    changed = plan(session, new, now)
    if is_noted:
        kind = "line_held" if reason is HoldReason.UNPAID else "line_switched_off"
        _note(session, kind, changed, LineState.HELD, now)
    return changed


def release(
    session: Session, line_ids: Sequence[int], reason: HoldReason, *, is_noted: bool = True
) -> list[Changed]:
    """End the holds of the lines for `reason`; those that no other reason holds are opened."""
    if not line_ids:
        return []
    now = clock.now()
    session.connection().execute(
        _RELEASE, {"lines": line_ids, "reason_of": reason.value, "now": now}
    )
    changed = plan(session, line_ids, now)
    if is_noted:
        _note(session, "line_released", changed, LineState.OPEN, now)
    return changed


def plan(session: Session, line_ids: Sequence[int], now: datetime) -> list[Changed]:
    """Write what is wanted of the lines, by their holds and by whether they are closed, and have
    the network brought to it; those of which something else was wanted before."""
    if not line_ids:
        return []
    connection = session.connection()
    changed = [
        Changed(row.id, row.account_id, LineState(row.wanted_state))
        for row in connection.execute(_WANT, {"lines": line_ids, "now": now})
    ]
    if changed:
        connection.execute(
            _RAISE_REVISIONS, {"accounts": sorted({each.account_id for each in changed})}
        )
    return changed


def _note(
    session: Session, kind: str, changed: Sequence[Changed], to: LineState, now: datetime
) -> None:
    account_ids = sorted({each.account_id for each in changed if each.wanted is to})
    activity.record(
        session, [activity.Event(kind, now, account_id=account_id) for account_id in account_ids]
    )
