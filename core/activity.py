"""Security and money events that a customer can read. One row each, in the event's transaction.

A row keeps a salted digest of its facts. The worker seals rows in batches: a seal is a hash over
the rows' columns and digests and over the seal before it, so that a row which is edited or removed
afterwards is found. Erasing takes a row's facts and salt away and leaves the digest, so that the
seal still holds and nothing about the facts can be told from it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, insert, null, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from core import clock
from core.db import unit_of_work
from models import Activity, ActivitySeal

log = logging.getLogger("lastmile.activity")

SEALED_AT_ONCE = 500
"""Rows under one seal at most: an edit is found to lie among so many."""
SEAL_SECONDS = 5.0
ERASED_SALT = b""
_LOCK_NOT_AVAILABLE = "55P03"
_FIRST = b"\0" * 32
_COLUMNS = (
    Activity.id,
    Activity.account_id,
    Activity.customer_id,
    Activity.kind,
    Activity.facts,
    Activity.happened_at,
    Activity.salt,
    Activity.digest,
)

ABOUT_MONEY = (
    *("payment_received", "invoice_issued", "credit_note_issued"),
    *("payment_refunded", "refund_failed", "payment_charged_back", "chargeback_won"),
    *("payment_returned",),
    *("late_fee_charged", "credit_given", "charge_added", "credit_moved_out", "credit_moved_in"),
    *("dispute_opened", "dispute_answered", "dispute_granted", "dispute_refused"),
    *("dispute_withdrawn", "tax_exempted", "tax_exemption_ended"),
)
"""Kinds about money, most of which name an amount: not for whoever may not see money."""
OF_ALL = (
    *ABOUT_MONEY,
    *("line_held", "line_switched_off", "line_released", "line_slowed", "line_unslowed"),
    *("plan_changed", "plan_change_planned", "plan_change_undone"),
    *("plan_change_asked", "plan_change_refused"),
    *("router_restart_asked", "wifi_change_asked"),
    *("number_given", "number_taken_back", "phone_changed"),
    *("pause_planned", "pause_undone", "pause_begun", "pause_over"),
    *("move_asked", "move_planned", "move_refused", "move_undone", "moved"),
    *("account_opened", "account_closed"),
)
"""Kinds about an account that everybody who uses it may read. What else happens on it (contacts,
people, letters) is for its owner and for whomever it is about."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened: `kind` is one that the templates' `ui.event` knows, `facts` are what its
    sentence needs."""

    kind: str
    happened_at: datetime
    account_id: int | None = None
    customer_id: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def digest_of(salt: bytes, facts: Mapping[str, Any]) -> bytes:
    """SHA-256 over the salt and the facts in a canonical form."""
    payload = json.dumps(facts, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(salt + payload.encode()).digest()


_INSERT = insert(Activity)


def record(session: Session, events: Sequence[Event]) -> None:
    """Write `events` within the running unit of work."""
    rows = []
    for event in events:
        salt = secrets.token_bytes(16)
        rows.append(
            {
                "account_id": event.account_id,
                "customer_id": event.customer_id,
                "kind": event.kind,
                "facts": dict(event.facts),
                "happened_at": event.happened_at,
                "salt": salt,
                "digest": digest_of(salt, event.facts),
            }
        )
    if rows:
        session.connection().execute(_INSERT, rows)


def erase(session: Session, activity_ids: Sequence[int]) -> None:
    """Take the facts of events away, within the running unit of work; the proof stays."""
    session.connection().execute(
        update(Activity).where(Activity.id.in_(activity_ids)).values(facts=null(), salt=ERASED_SALT)
    )


# Sealing --------------------------------------------------------------------------------------


def _hash_of(previous: bytes, rows: Sequence[Row[Any]]) -> bytes:
    """The seal of `rows` after the seal `previous`: over everything but facts and salt."""
    digest = hashlib.sha256(previous)
    for row in rows:
        columns = (
            row.id,
            row.account_id,
            row.customer_id,
            row.kind,
            row.happened_at.isoformat(),
            row.digest.hex(),
        )
        digest.update(json.dumps(columns, separators=(",", ":")).encode() + b"\n")
    return digest.digest()


def _seal_some(session: Session) -> int:
    if session.connection().dialect.name == "postgresql":
        # Ids are given out before they are committed. Behind this lock, which waits for units of
        # work that are writing events and for another that seals, no lower id can still appear.
        session.execute(text("SET LOCAL lock_timeout = '2s'"))
        session.execute(text("LOCK TABLE activity IN SHARE ROW EXCLUSIVE MODE"))
    last = session.execute(
        select(ActivitySeal.id, ActivitySeal.last_id, ActivitySeal.hash)
        .order_by(ActivitySeal.id.desc())
        .limit(1)
    ).one_or_none()
    number, after, previous = (last.id, last.last_id, last.hash) if last else (0, 0, _FIRST)
    rows = session.execute(
        select(*_COLUMNS).where(Activity.id > after).order_by(Activity.id).limit(SEALED_AT_ONCE)
    ).all()
    if rows:
        session.add(
            ActivitySeal(
                id=number + 1,
                first_id=rows[0].id,
                last_id=rows[-1].id,
                row_count=len(rows),
                sealed_at=clock.now(),
                hash=_hash_of(previous, rows),
            )
        )
    return len(rows)


def _seal_batch() -> int:
    try:
        return unit_of_work(_seal_some)
    except OperationalError as error:
        if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            return 0  # somebody holds the table for long, a backup say: the next round seals
        raise


def seal() -> int:
    """Seal events that are not, for some seconds at most; returns how many.

    The newest seal goes to the log as well, which lies outside the database.
    """
    end = time.monotonic() + SEAL_SECONDS
    sealed = 0
    while count := _seal_batch():
        sealed += count
        if count < SEALED_AT_ONCE or time.monotonic() > end:
            break
    if sealed:
        newest = unit_of_work(_newest)
        log.info("activity sealed", extra={"seal": newest[0], "hash": newest[1], "rows": sealed})
    return sealed


def _newest(session: Session) -> tuple[int, str]:
    row = session.execute(
        select(ActivitySeal.id, ActivitySeal.hash).order_by(ActivitySeal.id.desc()).limit(1)
    ).one()
    return row.id, row.hash.hex()


@dataclass(frozen=True, slots=True)
class Trail:
    """What a check of the trail found. `seal` and `hash` are the newest seal's, 0 and "" before
    the first; the log names the same ones."""

    faults: tuple[str, ...]
    events: int
    unsealed: int
    erased: int
    seal: int
    hash: str


def verify(session: Session) -> Trail:
    """Compute every digest and seal again, in a session that sees one unchanging state."""
    faults: list[str] = []
    seal, after, previous, erased = 0, 0, _FIRST, 0
    for found in session.execute(select(ActivitySeal.__table__).order_by(ActivitySeal.id)):
        rows = session.execute(
            select(*_COLUMNS)
            .where(Activity.id > after, Activity.id <= found.last_id)
            .order_by(Activity.id)
        ).all()
        if found.id != seal + 1:
            faults.append(f"seal {seal + 1} is missing")
        edited = list(_edited(rows))
        faults += edited
        erased += sum(row.facts is None for row in rows)
        where = f"seal {found.id} (events {found.first_id} to {found.last_id})"
        if len(rows) != found.row_count:
            faults.append(f"{where}: {found.row_count} events were sealed, {len(rows)} are there")
        elif _hash_of(previous, rows) != found.hash:
            faults.append(f"{where}: an event, or the seal, was edited")
        seal, after, previous = found.id, found.last_id, found.hash
    unsealed = session.execute(
        select(*_COLUMNS).where(Activity.id > after).order_by(Activity.id)
    ).all()
    faults += _edited(unsealed)
    return Trail(
        tuple(faults),
        session.execute(select(func.count(Activity.id))).scalar_one(),
        len(unsealed),
        erased,
        seal,
        previous.hex() if seal else "",
    )


def _edited(rows: Sequence[Row[Any]]) -> Iterator[str]:
    """Events whose facts are not those that were recorded."""
    for row in rows:
        if row.facts is None and row.salt == ERASED_SALT:
            continue
        if digest_of(row.salt, row.facts or {}) != row.digest:
            yield f"event {row.id} ({row.kind}): its facts were edited"
