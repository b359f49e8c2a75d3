"""Sending what the outbox holds. Text is made here, in the language of the message.

What has certainly not left is tried again with growing pauses. Where that is uncertain a notice by
e-mail is sent again under the same Message-ID; a text, or what carries a code, is not (DESIGN §3).
After a day, or when it has become useless, a message is given up: `flask doctor` tells of it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from flask import current_app, render_template
from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from core import clock, due_work, outbox, words
from core.db import db, unit_of_work
from core.isp import current_isp
from core.money import Money, format_money
from gateways.messages.base import (
    MessageGateway,
    MessageNotSent,
    MessageRefused,
    MessageUncertain,
    OutgoingMessage,
)
from models import Channel, Message, MessageState

log = logging.getLogger("lastmile.messages")

PAUSES = (
    timedelta(seconds=30),
    timedelta(minutes=5),
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(hours=18),
)


@dataclass(frozen=True, slots=True)
class _End:
    """What became of a try: the message's new state, and when it is tried again, if it is."""

    state: MessageState
    wait: timedelta | None = None
    failure: str = ""


IN_BULK = ("bill_ready",)
"""Kinds that come in thousands at once, and wait for everything else that is due: nobody sits
before a screen for them, as for a code."""


def send_due(gateways: Mapping[str, MessageGateway], public_url: str) -> int:
    """Send what is due and return how many were tried. What has no gateway for its channel
    waits."""
    if not gateways:
        return 0
    can_go = Message.channel.in_([str(channel) for channel in gateways])

    def send(message_id: int) -> None:
        _send(message_id, gateways, public_url)

    def send_some(which: ColumnElement[bool]) -> int:
        return due_work.do(Message, Message.try_at, send, can_go & which)

    return send_some(Message.kind.not_in(IN_BULK)) or send_some(Message.kind.in_(IN_BULK))


def compose(message: Message, public_url: str) -> OutgoingMessage:
    """The message in words: subject, text and HTML of its kind, or for a text message its text."""
    host = public_url.split("//", 1)[1].split(":", 1)[0]
    message_id = f"{message.public_id}@{host}"
    isp = current_isp()
    with current_app.test_request_context(base_url=public_url), words.speaking(message.language):
        facts = outbox.opened(message.facts)
        facts |= _readable(facts, message.language)
        if "event" in facts:
            facts["happened"] = {"kind": facts["event"], **facts}
        context = {"isp": isp, "facts": facts, "public_url": public_url, "lang": message.language}
        if message.channel == Channel.TEXT:
            text = render_template(f"text/{message.kind}.txt", **context)
            return OutgoingMessage(message_id, message.recipient, "", " ".join(text.split()), "")
        folder = f"email/{message.kind}"
        return OutgoingMessage(
            message_id=message_id,
            recipient=message.recipient,
            subject=" ".join(render_template(f"{folder}.subject.txt", **context).split()),
            text=render_template(f"{folder}.txt", **context).strip() + "\n",
            html=render_template(f"{folder}.html", **context),
        )


def _readable(facts: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Amounts in words (`amount` for `amount_minor`), and days as days where they end in `_on`."""
    found: dict[str, Any] = {
        name.removesuffix("_minor"): format_money(Money(value, facts["currency"]), language)
        for name, value in facts.items()
        if name.endswith("_minor")
    }
    return found | {
        name: date.fromisoformat(value)
        for name, value in facts.items()
        if name.endswith("_on") and value
    }


def _send(message_id: int, gateways: Mapping[str, MessageGateway], public_url: str) -> None:
    message = db.session.execute(select(Message).where(Message.id == message_id)).scalar_one()
    try:
        _note(message, _try(message, gateways[message.channel], public_url))
    finally:
        db.session.expunge_all()


def _try(message: Message, gateway: MessageGateway, public_url: str) -> _End:
    if _is_useless(message, clock.now()):
        return _End(MessageState.FAILED, failure="it came too late to be of use")
    is_sent_once = message.channel == Channel.TEXT or outbox.SEALED in message.facts
    try:
        outgoing = compose(message, public_url)
        if is_sent_once:
            _mark_leaving(message.id)
        gateway.send(outgoing)
    except (MessageRefused, MessageUncertain, MessageNotSent) as failure:
        log.warning("message did not go", extra={"why": repr(failure)})
        return _after(failure, message, is_sent_once=is_sent_once)
    except Exception:
        # A message that cannot be made must not hold up the others; a later build may mend it.
        log.exception("message could not be sent", extra={"public_id": message.public_id})
        return _later(message, MessageState.QUEUED, "it could not be made: see the log")
    return _End(MessageState.SENT)


def _after(failure: Exception, message: Message, *, is_sent_once: bool) -> _End:
    if isinstance(failure, MessageRefused):
        return _End(MessageState.FAILED, failure=f"refused: {failure}")
    if isinstance(failure, MessageNotSent):
        return _later(message, MessageState.QUEUED, str(failure))
    if is_sent_once:
        return _End(MessageState.UNCERTAIN, failure=f"uncertain: {failure}")
    return _later(message, MessageState.UNCERTAIN, str(failure))


def _mark_leaving(message_id: int) -> None:
    """Write that it may have left, before it does: whoever dies now leaves nothing to send twice
    (bar 90)."""

    def work(session: Session) -> None:
        session.execute(
            update(Message)
            .where(Message.id == message_id)
            .values(state=MessageState.UNCERTAIN.value, try_at=None)
        )

    unit_of_work(work)


def _is_useless(message: Message, now: datetime) -> bool:
    until = message.facts.get(outbox.USELESS_AT)
    return until is not None and datetime.fromisoformat(until) <= now


def _later(message: Message, state: MessageState, failure: str) -> _End:
    if message.try_count < len(PAUSES):
        return _End(state, PAUSES[message.try_count], failure)
    return _End(MessageState.FAILED, failure=failure)


def _note(message: Message, end: _End) -> None:
    now = clock.now()
    facts = {**message.facts, outbox.FAILURE: end.failure} if end.failure else dict(message.facts)
    if end.wait is None:
        facts.pop(outbox.SEALED, None)
        log.info("message ended", extra={"state": end.state.value, "public_id": message.public_id})

    def work(session: Session) -> None:
        session.execute(
            update(Message)
            .where(Message.id == message.id)
            .values(
                state=end.state.value,
                facts=facts,
                sent_at=now if end.state is MessageState.SENT else None,
                try_at=now + end.wait if end.wait is not None else None,
                try_count=Message.try_count + 1,
                claimed_until_at=None,
            )
        )

    unit_of_work(work)
