"""One-time keys of forms: minted with the page, stored when they first arrive.

A key is a signed value bound to the person it was minted for; nothing is stored until it arrives.
The second arrival finds the row of the first and is led to where the thing stands now. A key is
valid for 48 hours; the row of a consumed one is kept longer, so that it never counts twice.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from core import clock
from core.db import count_changed, unit_of_work
from models import FormKey

VALID = timedelta(hours=48)
KEPT = timedelta(days=7)
_NONCE_BYTES = 16
_MAC_BYTES = 13


class FormExpired(Exception):
    """The key is missing, forged, of somebody else or older than 48 hours: show the form anew."""


class KeyReused(Exception):
    """The key has arrived before with other content (bar 53)."""


@dataclass(frozen=True, slots=True)
class ArrivedKey:
    """A key whose signature and age were checked. `intent` names it in other tables."""

    key_hash: bytes
    subject: str
    content_hash: bytes

    @property
    def intent(self) -> str:
        return self.key_hash.hex()[:48]


def _mac(secret: bytes, subject: str, nonce_and_time: bytes) -> bytes:
    message = b"form-key\0" + subject.encode() + b"\0" + nonce_and_time
    return hmac.digest(secret, message, "sha256")[:_MAC_BYTES]


def mint(secret: bytes, subject: str) -> str:
    """A new key for `subject` (who will post it, like `customer:17`). Stores nothing."""
    minutes = int(clock.now().timestamp()) // 60
    body = secrets.token_bytes(_NONCE_BYTES) + minutes.to_bytes(4, "big")
    return base64.urlsafe_b64encode(body + _mac(secret, subject, body)).decode()


def check(
    secret: bytes, subject: str, value: str, path: str, content: Mapping[str, str]
) -> ArrivedKey:
    """The key as it arrived at `path` with `content` (the form's values). Raises FormExpired.

    Every form of a page carries the same value; the path it is posted to makes the keys differ.
    """
    try:
        raw = base64.b64decode(value.encode(), altchars=b"-_", validate=True)
    except ValueError:
        raise FormExpired from None
    if len(raw) != _NONCE_BYTES + 4 + _MAC_BYTES:
        raise FormExpired
    body, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(secret, subject, body)):
        raise FormExpired
    minted = int.from_bytes(body[_NONCE_BYTES:], "big") * 60
    if not -120 <= clock.now().timestamp() - minted <= VALID.total_seconds():
        raise FormExpired
    canonical = "\0".join(f"{name}\1{content[name]}" for name in sorted(content))
    return ArrivedKey(
        hashlib.sha256(body + path.encode()).digest(),
        subject,
        hashlib.sha256(canonical.encode()).digest(),
    )


def find_result(session: Session, key: ArrivedKey) -> str | None:
    """Where the thing stands that an earlier arrival of `key` began; None on its first arrival.

    Raises KeyReused when it arrived before with other content.
    """
    row = session.execute(
        select(FormKey.content_hash, FormKey.result).where(FormKey.key_hash == key.key_hash)
    ).one_or_none()
    if row is None:
        return None
    if not hmac.compare_digest(row.content_hash, key.content_hash):
        raise KeyReused
    return str(row.result)


def consume(session: Session, key: ArrivedKey, result: str) -> None:
    """Store that `key` has arrived and that `result` (a path) shows what became of it.

    The primary key lets one of two simultaneous arrivals through; the unit of work of the other is
    retried and finds this row.
    """
    session.add(
        FormKey(
            key_hash=key.key_hash,
            subject=key.subject,
            content_hash=key.content_hash,
            result=result,
            arrived_at=clock.now(),
        )
    )
    session.flush()


def change_result(session: Session, key: ArrivedKey, result: str) -> None:
    """Store where the thing stands by now that the consumed `key` began."""
    session.execute(update(FormKey).where(FormKey.key_hash == key.key_hash).values(result=result))


def once(key: ArrivedKey, work: Callable[[Session], str], *account_ids: int) -> str:
    """Run `work` in a unit of work over `account_ids` unless `key` has arrived before; the path
    where the thing stands, which `work` returns. Raises KeyReused."""

    def guarded(session: Session) -> str:
        found = find_result(session, key)
        if found is not None:
            return found
        result = work(session)
        consume(session, key, result)
        return result

    return unit_of_work(guarded, *account_ids)


def delete_old(session: Session, now: datetime) -> int:
    """Delete rows of keys that have long stopped being valid; returns how many."""
    return count_changed(session, delete(FormKey).where(FormKey.arrived_at < now - KEPT))
