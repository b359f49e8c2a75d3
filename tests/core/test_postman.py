"""Receipts by e-mail: sent once, or again under the same Message-ID, and never lost."""

from __future__ import annotations

import email
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from email.message import EmailMessage
from email.policy import default as default_policy
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from sqlalchemy import select

from core import clock, due_work, postman
from core.db import db, unit_of_work
from core.outbox import Letter, opened, queue
from gateways.messages.base import MessageGateway, MessageUncertain, OutgoingMessage
from gateways.messages.mailbox import Mailbox
from gateways.messages.smtp import SmtpGateway
from gateways.payments.sandbox.store import Decision
from models import Message
from tests.conftest import Portal

Tick = Callable[..., None]
PUBLIC_URL = "https://my.pinecrest.example"
FACTS = {"amount_minor": 6567, "currency": "USD", "payment": "p1", "account_number": "1001"}


@dataclass
class MailServer:
    """A real SMTP server; `answers` say what it does with the next messages, then it takes them."""

    url: str = ""
    answers: list[str] = field(default_factory=list)
    received: list[EmailMessage] = field(default_factory=list)

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if self.answers and self.answers[0] == "nobody":
            self.answers.pop(0)
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        answer = self.answers.pop(0) if self.answers else "ok"
        if answer == "busy":
            return "451 try again later"
        message = email.message_from_bytes(envelope.content, policy=default_policy)
        assert isinstance(message, EmailMessage)
        self.received.append(message)
        if answer == "drop":
            server.transport.close()
        return "250 OK"


@contextmanager
def running_mail_server() -> Iterator[MailServer]:
    """A mail server on a free port until the end of the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    handler = MailServer(f"smtp://127.0.0.1:{port}")
    controller = Controller(handler, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        yield handler
    finally:
        controller.stop()


@pytest.fixture
def server() -> Iterator[MailServer]:
    with running_mail_server() as started:
        yield started


@pytest.fixture
def smtp(server: MailServer) -> SmtpGateway:
    return SmtpGateway(server.url, "billing@pinecrest.example")


def put(*letters: Letter) -> None:
    unit_of_work(lambda session: queue(session, letters))


def a_letter(recipient: str = "alice@example.net", language: str = "en") -> Letter:
    return Letter("receipt", recipient, language, facts=FACTS)


def states(portal: Portal) -> list[tuple[Any, ...]]:
    return portal.rows("SELECT state, try_count FROM messages WHERE recipient LIKE '%@example.net'"
                       " AND state <> 'old' ORDER BY id")  # fmt: skip


@pytest.fixture
def outbox(ctx: Portal) -> Portal:
    """The portal with an empty outbox."""
    ctx.execute("DELETE FROM messages")
    return ctx


def test_receipt_is_sent_by_the_worker_and_not_before(
    portal: Portal, server: MailServer, smtp: SmtpGateway
) -> None:
    portal.execute("DELETE FROM messages")
    alice = portal.visitor("alice")
    alice.submit(alice.get(portal.path()), "/pay")
    [(key, public_id)] = portal.rows("SELECT key, public_id FROM payments WHERE state = 'sent'")
    portal.bank.decide(key, Decision.PAY)
    alice.get(f"/pay/{public_id}/return")
    assert server.received == []
    with portal.app.app_context():
        assert [postman.send_due({"email": smtp}, PUBLIC_URL) for _ in range(2)] == [1, 0]
    [mail] = server.received
    assert mail["To"] == "alice@example.net"
    assert "$211.12" in mail["Subject"]
    text = mail.get_body(("plain",))
    assert text is not None
    assert f"{PUBLIC_URL}/pay/{public_id}/return" in text.get_content()


def test_receipt_speaks_the_language_it_was_queued_in(
    outbox: Portal, server: MailServer, smtp: SmtpGateway
) -> None:
    put(a_letter(language="es"))
    postman.send_due({"email": smtp}, PUBLIC_URL)
    assert server.received[0]["Subject"].startswith("Recibo")


@pytest.mark.parametrize("answer", ["busy", "drop"])
def test_uncertain_message_is_sent_again_under_the_same_message_id(
    outbox: Portal, server: MailServer, smtp: SmtpGateway, tick: Tick, answer: str
) -> None:
    put(a_letter())
    server.answers = [answer, answer]
    postman.send_due({"email": smtp}, PUBLIC_URL)
    # After "451" it has certainly not left; when the line drops that is not known.
    assert states(outbox) == [("queued" if answer == "busy" else "uncertain", 1)]
    assert postman.send_due({"email": smtp}, PUBLIC_URL) == 0
    for _ in range(2):
        tick(minutes=6)
        postman.send_due({"email": smtp}, PUBLIC_URL)
    assert states(outbox) == [("sent", 3)]
    assert len({mail["Message-ID"] for mail in server.received}) == 1


def test_message_to_nobody_is_not_tried_again(
    outbox: Portal, server: MailServer, smtp: SmtpGateway, tick: Tick
) -> None:
    put(a_letter())
    server.answers = ["nobody"]
    postman.send_due({"email": smtp}, PUBLIC_URL)
    tick(days=2)
    assert postman.send_due({"email": smtp}, PUBLIC_URL) == 0
    assert states(outbox) == [("failed", 1)]
    assert server.received == []


def test_message_that_never_leaves_is_given_up_after_a_day(outbox: Portal, tick: Tick) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, but nobody listens
        away = SmtpGateway(f"smtp://127.0.0.1:{nobody.getsockname()[1]}", "a@example.com")
        put(a_letter())
        tries = 0
        for _hour in range(30):
            tries += postman.send_due({"email": away}, PUBLIC_URL)
            tick(hours=1)
    assert tries == 6
    assert states(outbox) == [("failed", 6)]


def test_message_that_cannot_be_made_does_not_hold_up_the_others(
    outbox: Portal, server: MailServer, smtp: SmtpGateway
) -> None:
    put(
        Letter("no-such-kind", "a@example.net", "en"),
        a_letter("bad\r\nBcc: all@example.net"),
        a_letter(),
    )
    postman.send_due({"email": smtp}, PUBLIC_URL)
    assert [mail["To"] for mail in server.received] == ["alice@example.net"]
    assert [state for state, _ in states(outbox)] == ["queued", "queued", "sent"]


def test_worker_that_dies_while_sending_leaves_the_message_to_the_next(
    outbox: Portal, server: MailServer, smtp: SmtpGateway, tick: Tick
) -> None:
    put(a_letter())
    claimed = due_work.claim(Message, Message.try_at, 5, due_work.LEASE)
    assert len(claimed) == 1
    assert postman.send_due({"email": smtp}, PUBLIC_URL) == 0
    tick(minutes=3)
    assert postman.send_due({"email": smtp}, PUBLIC_URL) == 1
    assert len(server.received) == 1


def test_silent_server_ends_the_round_and_gives_the_rest_back(
    outbox: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(MessageGateway):
        def send(self, message: OutgoingMessage) -> None:
            raise MessageUncertain(f"no answer about {message.message_id}")

    put(*[a_letter() for _ in range(5)])
    monkeypatch.setattr(due_work, "ROUND_SECONDS", 0.0)
    assert postman.send_due({"email": Slow()}, PUBLIC_URL) == 1
    assert outbox.one("SELECT count(*) FROM messages WHERE claimed_until_at IS NOT NULL") == 0


def test_message_sent_twice_is_in_the_mailbox_once(outbox: Portal, tick: Tick) -> None:
    mailbox = Mailbox(outbox.settings.data / "mailbox", "no-reply@127.0.0.1")
    put(a_letter())
    postman.send_due({"email": mailbox}, PUBLIC_URL)
    outbox.execute("UPDATE messages SET try_at = created_at, state = 'uncertain'")
    postman.send_due({"email": mailbox}, PUBLIC_URL)
    assert len(mailbox.list_latest()) == 1


def test_without_a_way_to_send_messages_wait(outbox: Portal) -> None:
    put(a_letter())
    assert postman.send_due({}, PUBLIC_URL) == 0
    assert states(outbox) == [("queued", 0)]


# What carries a code ---------------------------------------------------------------------------


def a_code(channel: str = "email", **more: Any) -> Letter:
    recipient = "alice@example.net" if channel == "email" else "+15415550123@example.net"
    return Letter(
        "receipt", recipient, "en", channel=channel, facts=FACTS, secrets={"code": "738201"}, **more
    )


def test_secret_of_a_message_waits_encrypted_and_goes_with_it(
    outbox: Portal, server: MailServer, smtp: SmtpGateway
) -> None:
    put(a_code())
    facts = str(outbox.rows("SELECT facts FROM messages"))
    assert "sealed" in facts
    assert "738201" not in facts
    [message] = db.session.scalars(select(Message))
    assert opened(message.facts)["code"] == "738201"
    postman.send_due({"email": smtp}, PUBLIC_URL)
    assert states(outbox) == [("sent", 1)]
    assert "sealed" not in str(outbox.rows("SELECT facts FROM messages"))


def test_code_whose_end_is_uncertain_is_not_sent_again(
    outbox: Portal, server: MailServer, smtp: SmtpGateway, tick: Tick
) -> None:
    put(a_code())
    server.answers = ["drop"]
    postman.send_due({"email": smtp}, PUBLIC_URL)
    tick(days=1)
    assert postman.send_due({"email": smtp}, PUBLIC_URL) == 0
    assert states(outbox) == [("uncertain", 1)]
    assert "sealed" not in str(outbox.rows("SELECT facts FROM messages"))


def test_code_that_has_not_left_is_tried_again_until_it_is_useless(
    outbox: Portal, server: MailServer, smtp: SmtpGateway, tick: Tick
) -> None:
    put(a_code(useless_at=clock.now() + timedelta(minutes=10)), a_code())
    server.answers = ["busy", "busy"]
    postman.send_due({"email": smtp}, PUBLIC_URL)
    assert states(outbox) == [("queued", 1), ("queued", 1)]
    tick(minutes=11)
    postman.send_due({"email": smtp}, PUBLIC_URL)
    assert states(outbox) == [("failed", 2), ("sent", 2)]


def test_worker_that_dies_while_a_code_leaves_does_not_send_it_twice(
    outbox: Portal, tick: Tick
) -> None:
    class Dies(MessageGateway):
        def send(self, message: OutgoingMessage) -> None:
            raise SystemExit(message.message_id)

    put(a_code())
    with pytest.raises(SystemExit):
        postman.send_due({"email": Dies()}, PUBLIC_URL)
    tick(days=1)
    assert states(outbox) == [("uncertain", 0)]
    assert postman.send_due({"email": Dies()}, PUBLIC_URL) == 0


def test_message_of_a_channel_that_has_no_gateway_waits_and_holds_up_nothing(
    outbox: Portal, server: MailServer, smtp: SmtpGateway
) -> None:
    put(*[a_code("text") for _ in range(due_work.BATCH)], a_letter())
    assert postman.send_due({"email": smtp}, PUBLIC_URL) == 1
    assert len(server.received) == 1


def test_wrong_password_of_the_mail_server_gives_no_message_up(
    outbox: Portal, server: MailServer
) -> None:
    put(a_letter())
    refused = SmtpGateway(server.url.replace("//", "//user:wrong@"), "a@b.example")
    postman.send_due({"email": refused}, PUBLIC_URL)
    assert states(outbox) == [("queued", 1)]
