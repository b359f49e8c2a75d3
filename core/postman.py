"""Sending what the outbox holds. Text is made here, in the language of the message.

A notice whose end is uncertain is sent again under the same Message-ID; after a day it is given up.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta

from flask import current_app, render_template
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core import clock, due_work, outbox, words
from core.db import db, unit_of_work
from core.isp import current_isp
from core.money import Money, format_money
from gateways.messages.base import (
    MessageGateway,
    MessageRefused,
    MessageUncertain,
    OutgoingMessage,
)
from models import Message, MessageState

log = logging.getLogger("lastmile.messages")

PAUSES = (
    timedelta(seconds=30),
    timedelta(minutes=5),
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(hours=18),
)


@dataclass(frozen=True, slots=True)
class _Due:
    message_id: int
    outgoing: OutgoingMessage
    try_count: int


def send_due(gateway: MessageGateway | None, public_url: str) -> int:
    """Send what is due and return how many were tried. Without a gateway nothing leaves."""
    if gateway is None:
        return 0
    return due_work.do(
        Message, Message.try_at, lambda message_id: _send(message_id, gateway, public_url)
    )


def compose(message: Message, public_url: str) -> OutgoingMessage:
    """The message in words: subject, text and HTML of its kind."""
    host = public_url.split("//", 1)[1].split(":", 1)[0]
    isp = current_isp()
    with current_app.test_request_context(base_url=public_url), words.speaking(message.language):
        facts = outbox.opened(message.facts)
        if "amount_minor" in facts:
            facts["amount"] = format_money(
                Money(facts["amount_minor"], facts["currency"]), message.language
            )
        if "event" in facts:
            facts["happened"] = {"kind": facts["event"], **facts}
        context = {"isp": isp, "facts": facts, "public_url": public_url, "lang": message.language}
        folder = f"email/{message.kind}"
        return OutgoingMessage(
            message_id=f"{message.public_id}@{host}",
            recipient=message.recipient,
            subject=" ".join(render_template(f"{folder}.subject.txt", **context).split()),
            text=render_template(f"{folder}.txt", **context).strip() + "\n",
            html=render_template(f"{folder}.html", **context),
        )


def _send(message_id: int, gateway: MessageGateway, public_url: str) -> None:
    message = db.session.execute(select(Message).where(Message.id == message_id)).scalar_one()
    try:
        gateway.send(compose(message, public_url))
    except MessageRefused as refused:
        log.warning("message refused", extra={"reason": str(refused)})
        _note(message_id, MessageState.FAILED, None)
    except MessageUncertain as uncertain:
        log.warning("message uncertain", extra={"reason": str(uncertain)})
        _try_again(message_id, message.try_count)
    except Exception:
        # A message that cannot be made must not hold up the others; a later build may mend it.
        log.exception("message could not be sent", extra={"public_id": message.public_id})
        _try_again(message_id, message.try_count)
    else:
        _note(message_id, MessageState.SENT, None)
    finally:
        db.session.expunge_all()


def _try_again(message_id: int, try_count: int) -> None:
    wait = PAUSES[try_count] if try_count < len(PAUSES) else None
    state = MessageState.UNCERTAIN if wait is not None else MessageState.FAILED
    _note(message_id, state, wait)


def _note(message_id: int, state: MessageState, wait: timedelta | None) -> None:
    now = clock.now()

    def work(session: Session) -> None:
        session.execute(
            update(Message)
            .where(Message.id == message_id)
            .values(
                state=state.value,
                sent_at=now if state is MessageState.SENT else None,
                try_at=now + wait if wait is not None else None,
                try_count=Message.try_count + 1,
                claimed_until_at=None,
            )
        )

    unit_of_work(work)
