"""Security and money events that a customer can read. One row each, in the event's transaction.

A row keeps a salted digest of its facts, so that the facts can be erased and the proof stays.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from models import Activity

ABOUT_MONEY = ("payment_received", "invoice_issued")
"""Kinds whose sentence names an amount: not for whoever may not see money."""


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
        session.execute(insert(Activity), rows)
