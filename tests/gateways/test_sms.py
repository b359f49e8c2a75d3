"""Text messages over HTTP, as an ISP's settings describe its provider, against a real listener."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

from core import postman
from core.db import unit_of_work
from core.outbox import Letter, queue
from core.settings import SettingsError, SmsSettings, read_settings
from gateways.messages.base import (
    MessageNotSent,
    MessageRefused,
    MessageUncertain,
    OutgoingMessage,
)
from gateways.messages.sms import SmsGateway
from gateways.outbound import AllowedOrigin, OutboundClient
from tests.conftest import Portal

TEXT = 'Código 738201 & "más"\\ fin\n'
MESSAGE = OutgoingMessage("m1@my.pinecrest.example", "+15415550123", "", TEXT, "")
FORM = "To={to}&Body={text}&Ref={id}"


@dataclass
class Provider:
    """A provider of text messages; `answer` says how it answers: (status, body), or a fault."""

    url: str = ""
    answer: tuple[int, str] | str = (201, '{"status": "queued"}')
    received: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)


@pytest.fixture
def provider() -> Iterator[Provider]:
    state = Provider()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length)
            state.received.append((self.command, self.path, dict(self.headers), body))
            if state.answer == "hang":
                time.sleep(3)
                return
            if state.answer == "die":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            if state.answer == "late":
                time.sleep(1.5)
            status, text = state.answer if isinstance(state.answer, tuple) else (200, "ok")
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_PUT = handle_any  # noqa: N815 - the server's names

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield state
    server.shutdown()
    server.server_close()


@pytest.fixture
def gateway_for(provider: Provider) -> Callable[..., SmsGateway]:
    def make(path: str = "/send", **more: Any) -> SmsGateway:
        settings = SmsSettings(url=provider.url + path, **({"body": FORM} | more))
        origin = AllowedOrigin.from_url(provider.url, is_loopback_demo=True)
        return SmsGateway(settings, OutboundClient([origin], total_seconds=1.0))

    return make


def test_form_is_filled_and_quoted(
    provider: Provider, gateway_for: Callable[..., SmsGateway]
) -> None:
    gateway_for(headers={"authorization": "Basic a2V5"}).send(MESSAGE)
    [(method, path, headers, body)] = provider.received
    assert (method, path, headers["Authorization"]) == ("POST", "/send", "Basic a2V5")
    assert headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert parse_qs(body.decode(), strict_parsing=True) == {
        "To": ["+15415550123"],
        "Body": [TEXT.strip()],
        "Ref": ["m1@my.pinecrest.example"],
    }


def test_json_is_filled_and_quoted(
    provider: Provider, gateway_for: Callable[..., SmsGateway]
) -> None:
    gateway_for(
        headers={"Content-Type": "application/json"}, body='{"to": ["{to}"], "text": "{text}"}'
    ).send(MESSAGE)
    assert json.loads(provider.received[0][3]) == {"to": ["+15415550123"], "text": TEXT.strip()}


def test_address_is_filled_and_quoted(
    provider: Provider, gateway_for: Callable[..., SmsGateway]
) -> None:
    gateway_for("/sms?to={to}&text={text}", method="GET", body="").send(MESSAGE)
    method, path, _headers, body = provider.received[0]
    assert (method, body) == ("GET", b"")
    assert parse_qs(path.partition("?")[2], strict_parsing=True) == {
        "to": ["+15415550123"],
        "text": [TEXT.strip()],
    }


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ((429, ""), MessageNotSent),
        ((503, ""), MessageNotSent),
        ((401, ""), MessageNotSent),
        ((400, ""), MessageRefused),
        ((302, ""), MessageRefused),
        ((200, '{"status": "InvalidPhoneNumber"}'), MessageRefused),
        ((500, ""), MessageUncertain),
        ("hang", MessageUncertain),
        ("late", MessageUncertain),
        ("die", MessageUncertain),
    ],
)
def test_what_an_answer_says_about_the_message(
    provider: Provider,
    gateway_for: Callable[..., SmsGateway],
    answer: Any,
    failure: type[Exception],
) -> None:
    provider.answer = answer
    with pytest.raises(failure):
        gateway_for(success=r'"status": "(queued|Success)"').send(MESSAGE)
    assert len(provider.received) == 1


def test_nobody_listening_means_not_sent() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}/send"
        with pytest.raises(MessageNotSent):
            SmsGateway(SmsSettings(url=url, body=FORM)).send(MESSAGE)


@pytest.mark.parametrize(
    ("answer", "state", "tries", "after"),
    [
        ((201, '"queued"'), "sent", 1, 0),
        ((503, ""), "queued", 1, 1),
        ("die", "uncertain", 1, 0),
        ((400, ""), "failed", 1, 0),
    ],
)
def test_worker_sends_a_text_again_only_when_it_has_not_left(
    ctx: Portal,
    provider: Provider,
    gateway_for: Callable[..., SmsGateway],
    tick: Callable[..., None],
    answer: Any,
    state: str,
    tries: int,
    after: int,
) -> None:
    ctx.execute("DELETE FROM messages")
    letter = Letter(
        "security", "+15415550123", "es", channel="text", facts={"event": "password_changed"}
    )
    unit_of_work(lambda session: queue(session, [letter]))
    provider.answer = answer
    gateways = {"text": gateway_for()}
    postman.send_due(gateways, "https://my.pinecrest.example")
    assert ctx.rows("SELECT state, try_count FROM messages") == [(state, tries)]
    tick(minutes=10)
    assert postman.send_due(gateways, "https://my.pinecrest.example") == after


@pytest.mark.parametrize(
    "changes",
    [
        {"LASTMILE_SMS_URL": "http://sms.example.com/send"},
        {"LASTMILE_SMS_URL": "ftp://sms.example.com/send"},
        {"LASTMILE_SMS_BODY": "to={to}"},
        {"LASTMILE_SMS_METHOD": "DELETE"},
        {"LASTMILE_SMS_SUCCESS": "("},
        {"LASTMILE_SMS_HEADERS": "Authorization: x"},
        {"LASTMILE_SMS_HEADERS": '{"A": 1}'},
        {"LASTMILE_SMS_HEADERS": '{"A": "x\\r\\nB: y"}'},
    ],
)
def test_settings_that_cannot_work_stop_the_start(
    ctx: Portal, changes: dict[str, str], tmp_path: Any
) -> None:
    del ctx
    from app import create_app

    good = {
        "LASTMILE_DATA": str(tmp_path),
        "LASTMILE_SMS_URL": "https://sms.example.com/send",
        "LASTMILE_SMS_BODY": FORM,
    }
    assert create_app(read_settings(good)).extensions["message_gateways"].keys() == {"text"}
    with pytest.raises(SettingsError, match="LASTMILE_SMS_"):
        create_app(read_settings(good | changes))
