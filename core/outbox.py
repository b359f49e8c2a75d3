"""Messages to customers: written in the transaction of what they tell, sent by the worker.

The outbox stores facts, not text: the text is made when the message is sent, in the language it
was queued for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flask import current_app
from sqlalchemy import insert
from sqlalchemy.orm import Session

from core import clock, ids, sealing
from models import Message, MessageState


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of `kind` (its templates are in `templates/email/` and `templates/text/`) to one
    address. `secrets` are facts that nobody else may read, a code say: they wait encrypted and go
    when the message has gone. After `useless_at` it is not sent any more."""

    kind: str
    recipient: str
    language: str
    account_id: int | None = None
    customer_id: int | None = None
    channel: str = "email"
    facts: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    useless_at: datetime | None = None


USELESS_AT = "useless_at"
FAILURE = "failure"
"""Under this name it is noted among the facts why a message could not be sent."""
SEALED = "sealed"
"""Under this name the secrets of a message wait among its facts."""
_PURPOSE = "messages"


def facts_to_keep(letter: Letter) -> dict[str, Any]:
    """The facts as they are stored."""
    facts = dict(letter.facts)
    if letter.useless_at is not None:
        facts[USELESS_AT] = letter.useless_at.isoformat()
    if letter.secrets:
        plain = json.dumps(dict(letter.secrets))
        facts[SEALED] = sealing.seal(_secret(), _PURPOSE, plain).decode()
    return facts


def opened(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Stored facts with their secrets. Raises LookupError under another secret of the portal."""
    known = dict(facts)
    sealed = known.pop(SEALED, None)
    if sealed is None:
        return known
    plain = sealing.find_sealed(_secret(), _PURPOSE, sealed.encode())
    if plain is None:
        raise LookupError("the message was queued under another secret of the portal")
    return known | dict(json.loads(plain))


def channels() -> frozenset[str]:
    """The channels by which this portal can send."""
    return frozenset(current_app.extensions["message_gateways"])


def _secret() -> bytes:
    secret: bytes = current_app.config["PORTAL"].secret
    return secret


_INSERT = insert(Message)


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
            "facts": facts_to_keep(letter),
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
        session.connection().execute(_INSERT, rows)
