"""Ten codes for whoever has lost the second factor (bar 9).

They are stored hashed, so they can be shown only when they are made: each showing makes new ones,
which count once their owner says that they are kept. Those before count until then.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from blueprints.auth import factors, reach
from blueprints.auth.errors import NothingPending
from core import activity, clock, codes
from core.db import unit_of_work
from models import RecoveryCode

COUNT = 10
CHARACTERS = 16
"""Of 32 different ones: 80 bits."""
PENDING = timedelta(hours=1)
"""How long after they were shown codes may be confirmed."""
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's: what looks alike is read as one
_ALIKE = str.maketrans("OIL", "011")


@dataclass(frozen=True, slots=True)
class Shown:
    """Codes as they are shown, this once. `batch` names them when they are confirmed."""

    codes: Sequence[str] = field(repr=False)
    batch: str


def make(customer_id: int, secret: bytes) -> Shown:
    """Ten new codes, which do not count yet. Others that were shown and not confirmed are gone."""
    made = ["".join(secrets.choice(_ALPHABET) for _ in range(CHARACTERS)) for _ in range(COUNT)]
    hashes = [_hash(secret, customer_id, code) for code in made]

    def work(session: Session) -> None:
        session.execute(
            delete(RecoveryCode).where(
                RecoveryCode.customer_id == customer_id, RecoveryCode.confirmed_at.is_(None)
            )
        )
        now = clock.now()
        session.add_all(
            RecoveryCode(customer_id=customer_id, code_hash=code_hash, created_at=now)
            for code_hash in hashes
        )

    unit_of_work(work)
    return Shown([codes.grouped(code, 4).replace(" ", "-") for code in made], _batch(hashes))


def confirm(customer_id: int, batch: str, session_id: int) -> None:
    """Let the codes of `batch` count, in place of those before. Confirmed already: nothing happens.

    Raises NothingPending when others were shown since, or it was too long ago.
    """

    def work(session: Session) -> None:
        rows = session.execute(
            select(RecoveryCode.id, RecoveryCode.code_hash, RecoveryCode.confirmed_at)
            .where(
                RecoveryCode.customer_id == customer_id,
                RecoveryCode.created_at > clock.now() - PENDING,
            )
            .order_by(RecoveryCode.id)
        ).all()
        confirmed = [row.code_hash for row in rows if row.confirmed_at is not None]
        if confirmed and hmac.compare_digest(_batch(confirmed), batch):
            return
        waiting = [row for row in rows if row.confirmed_at is None]
        if not waiting or not hmac.compare_digest(
            _batch([row.code_hash for row in waiting]), batch
        ):
            raise NothingPending
        ids = [row.id for row in waiting]
        session.execute(
            delete(RecoveryCode).where(
                RecoveryCode.customer_id == customer_id, RecoveryCode.id.not_in(ids)
            )
        )
        session.execute(
            update(RecoveryCode).where(RecoveryCode.id.in_(ids)).values(confirmed_at=clock.now())
        )
        factors.note_change(session, customer_id, "recovery_codes_made", but_session=session_id)

    unit_of_work(work)


def count_left(session: Session, customer_id: int) -> int:
    """How many codes still count."""
    count: int = session.execute(
        select(func.count(RecoveryCode.id)).where(
            RecoveryCode.customer_id == customer_id,
            RecoveryCode.confirmed_at.is_not(None),
            RecoveryCode.used_at.is_(None),
        )
    ).scalar_one()
    return count


def use(session: Session, customer_id: int, typed: str, secret: bytes) -> bool:
    """Use a code up, within the running unit of work; its owner is told."""
    used = session.scalar(
        update(RecoveryCode)
        .where(
            RecoveryCode.customer_id == customer_id,
            RecoveryCode.code_hash == _hash(secret, customer_id, _read(typed)),
            RecoveryCode.confirmed_at.is_not(None),
            RecoveryCode.used_at.is_(None),
        )
        .values(used_at=clock.now())
        .returning(RecoveryCode.id)
    )
    if used is None:
        return False
    event = "recovery_code_used"
    activity.record(session, [activity.Event(event, clock.now(), customer_id=customer_id)])
    reach.announce(session, customer_id, event)
    return True


def _read(typed: str) -> str:
    return codes.clean(typed).translate(_ALIKE)


def _hash(secret: bytes, customer_id: int, code: str) -> bytes:
    return hmac.digest(secret, f"recovery code\0{customer_id}\0{code}".encode(), hashlib.sha256)


def _batch(hashes: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(sorted(hashes))).hexdigest()[:16]
