"""The worker: its heartbeat, its rounds, what it clears away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import pytest

from core import form_keys, worker
from core.db import unit_of_work
from tests.conftest import Portal, together

Tick = Callable[..., None]


def test_heartbeat_shows_until_it_stops(portal: Portal, tick: Tick) -> None:
    def health() -> object:
        answer = portal.visitor().client.get("/health", base_url="http://127.0.0.1:8000")
        assert answer.json is not None
        return {name: answer.json[name] for name in ("status", "worker")}

    assert health() == {"status": "ok", "worker": False}
    with portal.app.app_context():
        worker.beat()
    assert health() == {"status": "ok", "worker": True}
    tick(seconds=61)
    assert health() == {"status": "ok", "worker": False}


def test_two_workers_may_beat_for_the_first_time_at_once(portal: Portal) -> None:
    def beat(_number: int) -> None:
        with portal.app.app_context():
            worker.beat()

    assert together(8, beat) == [None] * 8
    assert portal.one("SELECT count(*) FROM worker_beats") == 1


def test_duty_that_fails_stops_neither_the_others_nor_the_next_round(
    portal: Portal, caplog: pytest.LogCaptureFixture
) -> None:
    stop, rounds = threading.Event(), []

    def fails() -> int:
        raise RuntimeError("broken")

    def counts() -> int:
        rounds.append(1)
        if len(rounds) == 3:
            stop.set()
        return 1

    worker.run(portal.app, (fails, counts), stop)
    assert len(rounds) == 3
    assert sum("duty" in record.message for record in caplog.records) == 3
    assert portal.one("SELECT count(*) FROM worker_beats") == 1


def test_worker_outlives_a_database_that_is_away(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop, tries = threading.Event(), []

    def away() -> None:
        tries.append(1)
        if len(tries) == 2:
            stop.set()
        raise OSError("no database")

    monkeypatch.setattr(worker, "beat", away)
    monkeypatch.setattr(worker, "PAUSE_SECONDS", 0.0)
    worker.run(portal.app, (), stop)
    assert len(tries) == 2


def test_old_keys_sessions_and_tries_are_cleared_and_young_ones_kept(
    portal: Portal, tick: Tick
) -> None:
    tables = ("form_keys", "sessions", "sign_in_attempts")

    def counts() -> list[int]:
        return [portal.one(f"SELECT count(*) FROM {table}") for table in tables]

    alice = portal.visitor()
    alice.sign_in("alice")
    alice.submit(alice.get(portal.path()), "/pay")
    with portal.app.app_context():
        worker.clean_up()
        assert min(counts()) >= 1
        tick(days=40)
        worker.clean_up()
    assert counts() == [0, 0, 0]


def test_consumed_key_is_kept_longer_than_it_is_valid(ctx: Portal, tick: Tick) -> None:
    key = form_keys.ArrivedKey(b"k" * 32, "customer:1", b"c" * 32)
    unit_of_work(lambda session: form_keys.consume(session, key, "/where"))
    tick(hours=form_keys.VALID / timedelta(hours=1) + 1)
    worker.clean_up()
    assert unit_of_work(lambda session: form_keys.find_result(session, key)) == "/where"
