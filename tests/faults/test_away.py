"""The database, the bank or the mail server away for a while: pages say so in words, nothing queued
is lost, money moves once, a notice is repeated under its Message-ID alone (bar 90)."""

from __future__ import annotations

import contextlib
import select
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.pool import QueuePool
from werkzeug.test import TestResponse

from app import create_app
from blueprints.billing import settling
from core import postman, worker
from core.db import db, unit_of_work
from core.outbox import Letter, queue
from gateways.messages.base import MessageGateway, OutgoingMessage
from gateways.messages.smtp import SmtpGateway
from gateways.payments.sandbox.client import SandboxGateway
from gateways.payments.sandbox.secrets import SandboxSecrets
from gateways.payments.sandbox.store import Decision
from tests import pg
from tests.api.test_payment_notice import notice, paid_at_the_bank, state_of
from tests.api.test_payment_notice import send as send_notice
from tests.billing.conftest import ShakyGateway
from tests.conftest import SEED, Portal, _settings
from tests.core.test_postman import MailServer, running_mail_server
from tests.crawl import list_gets, list_posts, send, token_of
from tests.page import BASE, Visitor
from tests.repeats import sized

Tick = Callable[..., None]
PUBLIC_URL = "https://my.pinecrest.example"
FACTS = {"amount_minor": 6567, "currency": "USD", "payment": "p1", "account_number": "1001"}
LATE_SECONDS = 5.0
"""Much longer than anybody waits in these tests."""
LOCKED_SECONDS = sized(0.4, 2.0, 10.0)

on_postgresql = pytest.mark.parametrize("engine_kind", ["postgresql"])
on_sqlite = pytest.mark.parametrize("engine_kind", ["sqlite"])


def says_when_to_come_again(answer: TestResponse) -> bool:
    return answer.status_code == 503 and int(answer.headers.get("Retry-After", 0)) > 0


Addresses = tuple[list[str], list[str]]


def addresses(portal: Portal) -> Addresses:
    """Where everything is that can be read, and everything that can be pressed."""
    return list(list_gets(portal).values()), list(list_posts(portal).values())


def press_all(
    visitor: Visitor, paths: Addresses, values: dict[str, str]
) -> dict[str, TestResponse]:
    """The answer of every page and every form, pressed with `values`."""
    answers = {f"GET {path}": send(visitor, "GET", path) for path in paths[0]}
    return answers | {f"POST {path}": send(visitor, "POST", path, data=values) for path in paths[1]}


# The database --------------------------------------------------------------------------------


@on_postgresql
def test_database_away_is_a_503_on_every_page_and_it_comes_back_by_itself(portal: Portal) -> None:
    alice, guest = portal.visitor("alice"), portal.visitor()
    guest.get("/sign-in")
    action, values = alice.get(portal.path()).form("/pay")
    token, paths = token_of(alice), addresses(portal)
    with pg.server().away():
        answers = press_all(alice, paths, token)
        answers |= {
            f"guest: {name}": answer for name, answer in press_all(guest, paths, {}).items()
        }
        answers["pay"] = send(alice, "POST", action, data=values)
    failed = {name: answer for name, answer in answers.items() if answer.status_code >= 500}
    assert {n: a.status_code for n, a in failed.items() if not says_when_to_come_again(a)} == {}
    assert f"GET {portal.path()}" in failed
    assert "pay" in failed
    assert alice.get(portal.path()).status == 200
    assert alice.post(action, values).status == 303
    assert portal.one("SELECT count(*) FROM payments WHERE state = 'sent'") == 1


def test_database_that_does_not_answer_is_tried_once_for_each_request(tmp_path: Path) -> None:
    """Each try takes five seconds."""
    tries = []

    def turn_away(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = listener.accept()
                tries.append(client.getpeername())
                client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=turn_away, args=(listener,), daemon=True).start()
        # Each way to encrypt would be another try.
        address = f"nobody@127.0.0.1:{listener.getsockname()[1]}/none"
        url = f"postgresql+psycopg://{address}?sslmode=disable&gssencmode=disable"
        client = create_app(_settings(tmp_path, url)).test_client()
        client.set_cookie("session", "s" * 43, domain="127.0.0.1")
        for path in ("/a/abc/", "/a/abc/billing/pay", "/sign-in", "/help", "/health"):
            tries.clear()
            assert says_when_to_come_again(client.get(path, base_url=BASE)), path
            assert len(tries) == 1, path
        tries.clear()
        assert client.post("/a/abc/billing/pay", base_url=BASE).status_code == 503
        assert len(tries) == 1
        listener.shutdown(socket.SHUT_RDWR)


@on_postgresql
def test_database_that_goes_while_the_bank_is_asked_leaves_one_payment(
    portal: Portal, tick: Tick
) -> None:
    gateway = ShakyGateway(portal)
    portal.app.extensions["payment_gateway"] = gateway
    alice = portal.visitor("alice")
    action, values = alice.get(portal.path()).form("/pay")
    with contextlib.ExitStack() as outage:
        gateway.before = lambda _call: outage.enter_context(pg.server().away())
        assert says_when_to_come_again(alice.post(action, values).response)
        gateway.before = lambda _call: None
        assert says_when_to_come_again(alice.post(action, values).response)
    tick(seconds=30)
    assert alice.post(action, values).status == 303
    [(key, public_id)] = portal.rows(
        "SELECT key, public_id FROM payments WHERE amount_minor > 20000"
    )
    portal.bank.decide(key, Decision.PAY)
    for _ in range(2):
        alice.get(f"/pay/{public_id}/return")
    assert portal.one("SELECT count(*) FROM journal_entries WHERE key = :key",
                      key=f"payment:{public_id}") == 1  # fmt: skip
    assert len(portal.bank.list_latest(9)) == 1


class Postbox(MessageGateway):
    """Takes every message; `when` hears of it before it is noted as sent."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.when: Callable[[int], None] = lambda _count: None

    def send(self, message: OutgoingMessage) -> None:
        self.taken.append(message.message_id)
        self.when(len(self.taken))


@on_postgresql
def test_database_that_goes_while_messages_are_sent_loses_none(
    portal: Portal, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was under way is sent again under its Message-ID, every other once."""
    portal.execute("DELETE FROM messages")
    with portal.app.app_context():
        unit_of_work(lambda s: queue(s, [_letter() for _ in range(30)]))
    postbox, stop, rounds = Postbox(), threading.Event(), []

    def send_messages() -> int:
        rounds.append(1)
        if len(rounds) == 4:
            stop.set()
        return postman.send_due({"email": postbox}, PUBLIC_URL)

    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.0)
    with contextlib.ExitStack() as outage:
        postbox.when = lambda count: (
            outage.enter_context(pg.server().away()) if count == 7 else None
        )
        worker.run(portal.app, (send_messages,), stop)
        assert len(postbox.taken) == 7
    for _ in range(2):
        tick(minutes=3)
        stop.clear()
        rounds[:] = [1, 1]
        worker.run(portal.app, (send_messages,), stop)
    assert portal.rows("SELECT DISTINCT state FROM messages") == [("sent",)]
    assert len(set(postbox.taken)) == 30
    assert postbox.taken.count(postbox.taken[6]) == 2
    assert len(postbox.taken) == 31


def _letter() -> Letter:
    return Letter("receipt", "alice@example.net", "en", facts=FACTS)


@contextlib.contextmanager
def locked(portal: Portal, seconds: float | None = None) -> Iterator[None]:
    """Another program holds the SQLite file for itself, for so long or for the block."""
    other = sqlite3.connect(
        portal.settings.data / "lastmile.db", isolation_level=None, check_same_thread=False
    )
    other.execute("BEGIN EXCLUSIVE")
    ending = threading.Timer(seconds or 0, other.rollback)
    if seconds is not None:
        ending.start()
    try:
        yield
    finally:
        if seconds is not None:
            ending.join()
        else:
            other.rollback()
        other.close()


@on_sqlite
def test_database_locked_for_a_while_is_waited_for(portal: Portal) -> None:
    alice = portal.visitor("alice")
    action, values = alice.get(portal.path()).form("/pay")
    with locked(portal, LOCKED_SECONDS):
        begun = time.monotonic()
        assert alice.get(portal.path()).status == 200
        assert alice.post(action, values).status == 303
        assert time.monotonic() - begun > LOCKED_SECONDS / 2
    assert portal.one("SELECT count(*) FROM payments WHERE state = 'sent'") == 1


@pytest.fixture
def impatient(portal: Portal) -> Iterator[Portal]:
    """The portal waits 20 ms where it waits five seconds otherwise."""

    def hurry(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA busy_timeout = 20")

    with portal.app.app_context():
        engine: Engine = db.engine
    engine.dispose()
    event.listen(engine, "connect", hurry)
    yield portal
    event.remove(engine, "connect", hurry)
    engine.dispose()


@on_sqlite
def test_database_locked_for_longer_can_still_be_read_and_says_when_to_write(
    impatient: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal = impatient
    alice = portal.visitor("alice")
    action, values = alice.get(portal.path()).form("/pay")
    token, paths = token_of(alice), addresses(portal)
    stop = threading.Event()

    def send_messages() -> int:
        stop.set()
        return postman.send_due({"email": Postbox()}, PUBLIC_URL)

    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.0)
    with locked(portal):
        answers = press_all(alice, paths, token)
        answers["pay"] = send(alice, "POST", action, data=values)
        worker.run(portal.app, (send_messages,), stop)
    failed = {name: answer for name, answer in answers.items() if answer.status_code >= 500}
    assert {n: a.status_code for n, a in failed.items() if not says_when_to_come_again(a)} == {}
    assert "pay" in failed
    assert f"GET {portal.path()}" not in failed
    assert alice.post(action, values).status == 303
    assert portal.one("SELECT count(*) FROM payments WHERE state = 'sent'") == 1


def test_every_connection_in_use_is_a_503_too(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writing always takes one; on SQLite pages are read past the pool."""
    alice = portal.visitor("alice")
    action, values = alice.get(portal.path()).form("/pay")
    with portal.app.app_context(), contextlib.ExitStack() as stack:
        pool = db.engine.pool
        assert isinstance(pool, QueuePool)
        monkeypatch.setattr(pool, "_timeout", 0.05)
        while pool.checkedout() < pool.size() + pool._max_overflow:
            stack.enter_context(db.engine.connect())
        answers = press_all(alice, ([portal.path(), "/sign-in", "/health"], []), {})
        answers["pay"] = send(alice, "POST", action, data=values)
        assert says_when_to_come_again(answers["pay"])
        assert {a.status_code for a in answers.values() if not says_when_to_come_again(a)} <= {200}
    assert alice.get(portal.path()).status == 200


# The bank ------------------------------------------------------------------------------------


def nobody() -> tuple[socket.socket, int]:
    """A port of this machine on which nobody listens."""
    probe = socket.socket()
    probe.bind(("127.0.0.1", 0))
    return probe, probe.getsockname()[1]


def test_bank_away_is_a_page_in_words_and_the_same_press_pays_once_it_is_back(
    portal: Portal, tick: Tick
) -> None:
    held, port = nobody()
    away = SandboxGateway(f"http://127.0.0.1:{port}", SandboxSecrets.of([SEED]))
    alice = portal.visitor("alice")
    action, values = alice.get(portal.path()).form("/pay")
    portal.app.extensions["payment_gateway"] = away
    answers = [alice.post(action, values)]
    [(key, public_id)] = portal.rows("SELECT key, public_id FROM payments WHERE state = 'unknown'")
    answers += [
        alice.get(f"/pay/{public_id}/return"),
        alice.get(portal.path(f"billing/payments/{public_id}")),
        alice.get(portal.path()),
        alice.post(action, values),
    ]
    held.close()
    assert [answer.status for answer in answers if answer.status >= 500] == []
    portal.app.extensions["payment_gateway"] = portal.gateway
    assert portal.bank.list_latest(9) == []
    answer = alice.post(action, values)
    assert answer.status == 303
    tick(minutes=6)
    assert [row.key for row in portal.bank.list_latest(9)] in ([], [key])


def test_notice_that_arrives_while_the_bank_cannot_be_asked_loses_nothing(
    portal: Portal, tick: Tick
) -> None:
    key = paid_at_the_bank(portal)
    gateway = ShakyGateway(portal)
    gateway._notice_secrets = portal.gateway._notice_secrets
    gateway.loses = lambda _call: "before"
    portal.app.extensions["payment_gateway"] = gateway
    answer = send_notice(portal, notice(key))
    assert answer.status_code == 200
    assert state_of(portal, key) != "succeeded"
    gateway.loses = lambda _call: None
    tick(minutes=6)
    with portal.app.app_context():
        settling.ask_due(gateway)
    assert state_of(portal, key) == "succeeded"
    assert len(portal.bank.list_latest(9)) == 1


# The mail server -----------------------------------------------------------------------------


@pytest.fixture
def outbox(ctx: Portal) -> Portal:
    ctx.execute("DELETE FROM messages")
    unit_of_work(lambda session: queue(session, [_letter()]))
    return ctx


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    with running_mail_server() as running:
        yield running


def states(portal: Portal) -> list[tuple[Any, ...]]:
    return portal.rows("SELECT state, try_count FROM messages ORDER BY id")


def test_mail_server_away_for_six_hours_gets_the_notice_once(
    outbox: Portal, mail_server: MailServer, tick: Tick
) -> None:
    held, port = nobody()
    away = SmtpGateway(f"smtp://127.0.0.1:{port}", "billing@pinecrest.example")
    for _ in range(6 * 6):
        postman.send_due({"email": away}, PUBLIC_URL)
        tick(minutes=10)
    held.close()
    assert states(outbox) == [("queued", 4)]
    back = SmtpGateway(mail_server.url, "billing@pinecrest.example")
    for _ in range(24):
        postman.send_due({"email": back}, PUBLIC_URL)
        tick(hours=1)
    assert states(outbox) == [("sent", 5)]
    assert len(mail_server.received) == 1


class Rough:
    """A mail server that takes each message and then does not part as it should: it `breaks` the
    connection before it has said so ("silence"), or says so only after its client has stopped
    waiting ("late"), or says it is closing when it is told good-bye ("421"), or does not answer at
    all ("mute")."""

    def __init__(self, breaks: str) -> None:
        self.breaks = breaks
        self.message_ids: list[str] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"smtp://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                with (
                    client,
                    client.makefile("rwb", buffering=0) as line,
                    contextlib.suppress(ConnectionError),
                ):
                    self._talk(client, line)

    def _talk(self, client: socket.socket, line: Any) -> None:
        if self.breaks == "mute":
            line.readline()
            return
        line.write(b"220 rough\r\n")
        while command := line.readline().upper():
            if command.startswith(b"DATA"):
                line.write(b"354 go on\r\n")
                while (text := line.readline()) != b".\r\n":
                    if text.lower().startswith(b"message-id:"):
                        self.message_ids.append(text.decode().strip())
                if self.breaks == "silence":
                    return
                if self.breaks == "late":
                    select.select([client], [], [], LATE_SECONDS)  # until the client hangs up
            line.write(b"421 closing\r\n" if command.startswith(b"QUIT") else b"250 ok\r\n")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture(params=["silence", "late", "421", "mute"])
def rough(request: pytest.FixtureRequest) -> Iterator[Rough]:
    rough = Rough(str(request.param))
    yield rough
    rough.close()


def test_notice_that_may_have_arrived_is_repeated_under_its_message_id_alone(
    outbox: Portal, rough: Rough, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateways.messages.smtp.TIMEOUT_SECONDS", 0.2)
    gateway = SmtpGateway(rough.url, "billing@pinecrest.example")
    for _ in range(3):
        postman.send_due({"email": gateway}, PUBLIC_URL)
        tick(hours=1)
    taken = {"silence": 3, "late": 3, "421": 1, "mute": 0}[rough.breaks]
    assert len(rough.message_ids) == taken
    assert len(set(rough.message_ids)) == min(taken, 1)
    uncertain = ("uncertain", 3)
    ends = {"silence": uncertain, "late": uncertain, "421": ("sent", 1), "mute": ("queued", 3)}
    assert states(outbox) == [ends[rough.breaks]]


@pytest.mark.parametrize("rough", ["silence", "late"], indirect=True)
def test_code_that_may_have_arrived_is_never_sent_again(
    outbox: Portal, rough: Rough, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateways.messages.smtp.TIMEOUT_SECONDS", 0.2)
    outbox.execute("DELETE FROM messages")
    code = Letter("receipt", "alice@example.net", "en", facts=FACTS, secrets={"code": "738201"})
    unit_of_work(lambda session: queue(session, [code]))
    gateway = SmtpGateway(rough.url, "billing@pinecrest.example")
    for _ in range(3):
        postman.send_due({"email": gateway}, PUBLIC_URL)
        tick(hours=1)
    assert len(rough.message_ids) == 1
    assert states(outbox) == [("uncertain", 1)]
    assert "sealed" not in str(outbox.rows("SELECT facts FROM messages"))
