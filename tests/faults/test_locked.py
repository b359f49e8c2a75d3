"""Another program holds the database, or nobody can take a turn to write: those who write are told
so, those who read go on, and afterwards everything works (bar 90 for the database)."""

from __future__ import annotations

import contextvars
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import core.db
from blueprints.billing import settling
from core.db import QUEUE_SECONDS, db, writer_queue
from core.postman import send_due
from gateways.messages.mailbox import Mailbox
from gateways.payments.sandbox.store import Decision
from tests import repeats
from tests.conftest import Portal, together
from tests.page import Page, Visitor

pytestmark = pytest.mark.parametrize("engine_kind", ["sqlite"])
READ = ("", "billing/", "billing/invoices/", "billing/payments/", "billing/pay")


@contextmanager
def held_by_another_program(portal: Portal) -> Iterator[None]:
    """As by somebody's sqlite3 at the command line."""
    other = sqlite3.connect(portal.settings.data / "lastmile.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@contextmanager
def lock_files_away(portal: Portal) -> Iterator[None]:
    """As on a disk that is read-only: no file of locks can be opened."""
    kept = dict(core.db._queues)
    core.db._queues.clear()
    path = portal.settings.data / "writers-next.lock"
    path.unlink(missing_ok=True)
    path.mkdir()
    try:
        yield
    finally:
        path.rmdir()
        core.db._queues.clear()
        core.db._queues.update(kept)


@pytest.fixture
def impatient(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> float:
    """A writer's turn comes within this many seconds or not at all."""
    seconds = 0.1
    with portal.app.app_context():
        monkeypatch.setattr(writer_queue(db.engine), "wait_seconds", seconds)
    return seconds


def says_later(page: Page) -> bool:
    return (
        page.status == 503
        and int(page.response.headers["Retry-After"]) > 0
        and "Nothing was lost" in page.text
    )


@pytest.mark.parametrize("trouble", [held_by_another_program, lock_files_away])
def test_writers_are_told_to_come_again_and_readers_go_on(
    portal: Portal, impatient: float, trouble: Callable, tick: Callable[..., None]
) -> None:
    alice, stranger = portal.visitor("alice"), Visitor(portal.app)
    stranger.get("/sign-in")
    action, values = alice.get(portal.path()).form("/pay")
    tick(minutes=20)  # so that the time of last use should be noted
    with trouble(portal):
        assert says_later(alice.post(action, values))
        assert says_later(stranger.sign_in("mallory"))
        for rest in READ:
            assert alice.get(portal.path(rest)).status == 200
    assert alice.post(action, values).status == 303
    assert stranger.sign_in("mallory").status == 303
    assert portal.one("SELECT count(*) FROM payments WHERE key NOT LIKE 'world%'") == 1


def test_what_is_due_waits_until_the_database_is_free(
    portal: Portal, impatient: float, tick: Callable[..., None]
) -> None:
    """Money that arrives and its receipt, while nothing can be written, are there afterwards."""
    alice = portal.visitor("alice")
    assert alice.submit(alice.get(portal.path()), "/pay").status == 303
    [(public_id, key)] = portal.rows(
        "SELECT public_id, key FROM payments WHERE key NOT LIKE 'world%'"
    )
    portal.bank.decide(key, Decision.PAY)
    mailbox = Mailbox(portal.settings.data / "mailbox", "a@example.net")
    letters = len(list(mailbox_files(portal)))
    with held_by_another_program(portal):
        assert says_later(alice.get(f"/pay/{public_id}/return"))
        with portal.app.app_context(), pytest.raises(core.db.DatabaseBusy):
            settling.ask_due(portal.gateway)
        with portal.app.app_context(), pytest.raises(core.db.DatabaseBusy):
            send_due({"email": mailbox}, portal.settings.public_url)
    tick(minutes=2)
    with portal.app.app_context():
        settling.ask_due(portal.gateway)
        send_due({"email": mailbox}, portal.settings.public_url)
    assert portal.one("SELECT state FROM payments WHERE public_id = :id", id=public_id) == (
        "succeeded"
    )
    assert len(list(mailbox_files(portal))) > letters


def mailbox_files(portal: Portal) -> Iterator[Path]:
    return (portal.settings.data / "mailbox").iterdir()


def test_page_that_is_only_read_does_not_wait_for_a_turn_to_write(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, tick: Callable[..., None]
) -> None:
    """Though the time of last use should be noted, and a writer would wait for forty seconds."""
    alice = portal.visitor("alice")
    tick(minutes=20)
    with portal.app.app_context():
        monkeypatch.setattr(writer_queue(db.engine), "wait_seconds", 40.0)
    monkeypatch.setattr(core.db, "BUSY_MILLISECONDS", 60_000)
    with held_by_another_program(portal), ThreadPoolExecutor(1) as pool:
        reading = pool.submit(contextvars.copy_context().run, alice.get, portal.path())
        assert reading.result(timeout=30).status == 200


def test_database_held_for_ten_seconds(portal: Portal, impatient: float) -> None:
    """With the time that people have, in CI: three who press meanwhile are told to come again."""
    takes_its_time = repeats.REPEATS >= 50
    seconds = 10.0 if takes_its_time else 0.5
    with portal.app.app_context():
        writer_queue(db.engine).wait_seconds = QUEUE_SECONDS if takes_its_time else impatient
    pressers = [portal.visitor("alice"), portal.visitor("vera"), portal.visitor("bob")]
    forms = [each.get(portal.path()).form("/sign-out") for each in pressers]

    def press(number: int) -> int:
        return pressers[number].post(*forms[number]).status

    with held_by_another_program(portal):
        end = time.monotonic() + seconds
        assert together(3, press) == [503] * 3
        time.sleep(max(0.0, end - time.monotonic()))
    assert together(3, press) == [303] * 3
    assert portal.one("SELECT count(*) FROM sessions WHERE ended_at IS NULL") == 0
