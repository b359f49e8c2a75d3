"""Messages to customers: written in the transaction of what they tell, sent by the worker.

The outbox stores facts, not text: the text is made when the message is sent, in the language it
was queued for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import insert
from sqlalchemy.orm import Session

from core import clock, ids
from models import Message, MessageState


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of `kind` (its template in `templates/email/`) to one address."""

    kind: str
    recipient: str
    language: str
    account_id: int | None = None
    customer_id: int | None = None
    channel: str = "email"
    facts: Mapping[str, Any] = field(default_factory=dict)


def queue(session: Session, letters: Sequence[Letter]) -> None:
    """Put `letters` into the outbox within the running unit of work."""
    now = clock.now()
    rows = [
        {
            "public_id": ids.public_id(),
            "account_id": letter.account_id,
            "customer_id": letter.customer_id,
            "channel": letter.channel,
            "kind": letter.kind,
            "recipient": letter.recipient,
            "language": letter.language,
            "facts": dict(letter.facts),
            "state": MessageState.QUEUED.value,
            "created_at": now,
            "sent_at": None,
            "try_at": now,
            "try_count": 0,
            "claimed_until_at": None,
        }
        for letter in letters
    ]
    if rows:
        session.execute(insert(Message), rows)
