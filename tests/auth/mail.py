"""What the portal has queued to be sent, opened as the postman does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from core import outbox
from core.db import reading
from models import Message
from tests.conftest import Portal


@dataclass(frozen=True)
class Sent:
    kind: str
    channel: str
    recipient: str
    language: str
    facts: dict[str, Any]

    @property
    def code(self) -> str:
        return str(self.facts["code"]).replace(" ", "")


def sent(portal: Portal, *kinds: str) -> list[Sent]:
    """The messages of `kinds` (without: of all) in the order in which they were queued."""
    with portal.app.app_context(), reading() as session:
        rows = session.scalars(select(Message).order_by(Message.id)).all()
        return [
            Sent(row.kind, row.channel, row.recipient, row.language, outbox.opened(row.facts))
            for row in rows
            if not kinds or row.kind in kinds
        ]
