"""Codes that are sent to a contact and typed back: single use, bound to what asked for them.

A code counts for one flow, change or call (`bound_to`): the hash is keyed by it, so that a code
seen elsewhere opens nothing. Guessing is limited by `throttle.CODES` over all codes of a person;
a new code resets no count (bars 6 and 18).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core import clock, throttle
from models import Channel, CodePurpose, OneTimeCode

DIGITS = {Channel.EMAIL: 6, Channel.TEXT: 6, Channel.POST: 12}
VALID = {
    Channel.EMAIL: timedelta(hours=24),
    Channel.TEXT: timedelta(minutes=10),
    Channel.POST: timedelta(days=21),
}


def make(
    session: Session,
    secret: bytes,
    purpose: CodePurpose,
    bound_to: str,
    channel: Channel,
    contact_id: int | None,
    *,
    valid: timedelta | None = None,
) -> str:
    """A new code within the running unit of work, in groups as every message and letter has it; an
    earlier one for the same ends. `valid`: how long, when shorter than usual for the channel."""
    digits = DIGITS[channel]
    code = f"{secrets.randbelow(10**digits):0{digits}}"
    now = clock.now()
    end_all(session, bound_to)
    session.add(
        OneTimeCode(
            purpose=purpose.value,
            bound_to=bound_to,
            code_hash=_hash(secret, purpose, bound_to, code),
            channel=channel.value,
            contact_id=contact_id,
            created_at=now,
            expires_at=now + (valid or VALID[channel]),
        )
    )
    session.flush()
    return grouped(code)


def use(
    session: Session, secret: bytes, purpose: CodePurpose, bound_to: str, typed: str
) -> OneTimeCode | None:
    """The code's row when `typed` is the living code, which is then used up; otherwise None."""
    now = clock.now()
    row = session.execute(
        select(OneTimeCode)
        .where(
            OneTimeCode.purpose == purpose.value,
            OneTimeCode.bound_to == bound_to,
            OneTimeCode.ended_at.is_(None),
            OneTimeCode.expires_at > now,
        )
        .order_by(OneTimeCode.id.desc())
        .limit(1)
    ).scalar_one_or_none()
    wanted = row.code_hash if row is not None else b"\0" * 32
    is_right = hmac.compare_digest(wanted, _hash(secret, purpose, bound_to, clean(typed)))
    if row is None or not is_right:
        return None
    used = session.scalar(
        update(OneTimeCode)
        .where(OneTimeCode.id == row.id, OneTimeCode.ended_at.is_(None))
        .values(ended_at=now)
        .returning(OneTimeCode.id)
    )
    return row if used is not None else None


def end_all(session: Session, bound_to: str) -> None:
    """End what is left of codes for `bound_to`."""
    session.execute(
        update(OneTimeCode)
        .where(OneTimeCode.bound_to == bound_to, OneTimeCode.ended_at.is_(None))
        .values(ended_at=clock.now())
    )


def clean(typed: str) -> str:
    """A typed code without the gaps and hyphens that people put into it."""
    return "".join(character for character in typed if character.isalnum()).upper()


def grouped(code: str, size: int = 3) -> str:
    """A code as people read it, in groups."""
    return " ".join(code[start : start + size] for start in range(0, len(code), size))


def guesses_at(secret: bytes, *, account_id: int = 0, customer_id: int = 0) -> bytes:
    """Under which name `throttle` counts wrong codes for a person, whatever the codes are for: for
    a customer, or for an account that nobody signs in to yet."""
    return throttle.subject_of(secret, f"\0codes {account_id} {customer_id}")


def sendings_to(secret: bytes, *, account_id: int = 0, customer_id: int = 0) -> bytes:
    """Under which name `throttle` counts the codes that are sent to a person."""
    return throttle.subject_of(secret, f"\0sendings {account_id} {customer_id}")


def _hash(secret: bytes, purpose: CodePurpose, bound_to: str, code: str) -> bytes:
    message = f"code\0{purpose.value}\0{bound_to}\0{code}".encode()
    return hmac.digest(secret, message, hashlib.sha256)
