"""What a customer can read of what happened, and whom messages went to."""

from __future__ import annotations

import re

from core import outbox
from core.db import db
from models import Message
from tests.conftest import Portal


def events(portal: Portal, who: str = "alice") -> list[str]:
    """The kinds of a customer's own events, signing in apart, the oldest first."""
    return [
        kind
        for (kind,) in portal.rows(
            "SELECT kind FROM activity WHERE customer_id = :id AND account_id IS NULL"
            " AND kind <> 'signed_in' ORDER BY id",
            id=portal.world.customers[who],
        )
    ]


def letters(portal: Portal, kind: str) -> list[tuple[str, dict[str, object]]]:
    """Recipient and facts, secrets opened, of the messages of a kind, the oldest first."""
    with portal.app.app_context():
        rows = db.session.query(Message).filter_by(kind=kind).order_by(Message.id).all()
        found = [(row.recipient, outbox.opened(row.facts)) for row in rows]
        db.session.expunge_all()
    return found


def announced(portal: Portal, event: str) -> list[str]:
    """To whom a security event was announced."""
    return [to for to, facts in letters(portal, "security") if facts["event"] == event]


def code_sent(portal: Portal, recipient: str, kind: str) -> str:
    """The newest code that went to `recipient`."""
    return str([facts["code"] for to, facts in letters(portal, kind) if to == recipient][-1])


def path_in(text: object) -> str:
    """The path of an address of ours."""
    return re.sub(r"^https?://[^/]+", "", str(text))
