"""What is done at night: once for all nodes, at the ISP's hour, beside other duties."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO

import pytest

from core import clock, isp, nightly
from core.nightly import BACKUP, BILL_RUN, Job, Nightly
from tests.conftest import Portal, together

Tick = Callable[..., None]

on_sqlite = pytest.mark.parametrize("engine_kind", ["sqlite"], indirect=True)
"""For what has nothing to do with the engine."""
NIGHT = datetime(2026, 6, 21, 10, 0, tzinfo=UTC)  # three o'clock in Los Angeles


@pytest.mark.parametrize(
    ("now", "hour", "wanted"),
    [
        ("2026-06-20T19:00", 3, "2026-06-21T10:00"),
        ("2026-06-21T09:59", 3, "2026-06-21T10:00"),
        ("2026-06-21T10:00", 3, "2026-06-22T10:00"),
        ("2026-11-01T06:00", 3, "2026-11-01T11:00"),  # the night with an hour more
        ("2026-03-08T06:00", 2, "2026-03-08T10:00"),  # the night without two o'clock
        ("2026-12-31T20:00", 0, "2027-01-01T08:00"),
    ],
)
def test_next_night_is_the_isps(now: str, hour: int, wanted: str) -> None:
    given = datetime.fromisoformat(now).replace(tzinfo=UTC)
    found = nightly.next_time(given, "America/Los_Angeles", hour)
    assert found == datetime.fromisoformat(wanted).replace(tzinfo=UTC)


class Nodes:
    """Workers that would back up; each start is a process that does what the test says."""

    def __init__(self, portal: Portal, folder: Path) -> None:
        self.settings = replace(portal.settings, backups=folder)
        self.code = "pass"
        self.started = 0

    def start(self, _job: Job, said: IO[bytes]) -> subprocess.Popen[bytes]:
        self.started += 1
        return subprocess.Popen([sys.executable, "-c", self.code], stderr=said)

    def worker(self, job: Job = BACKUP) -> Nightly:
        return Nightly(job, self.settings, self.start)


@pytest.fixture
def nodes(ctx: Portal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    monkeypatch.setattr(nightly, "LOOK_EVERY_SECONDS", 0.0)
    return Nodes(ctx, tmp_path)


def finish(duty: Nightly) -> None:
    assert duty._process is not None
    duty._process.wait(30)
    assert duty() == 1


def test_backup_is_made_at_night_and_not_before(nodes: Nodes, tick: Tick) -> None:
    duty = nodes.worker()
    assert duty() == 0
    assert nightly.last_time(BACKUP).due_at == NIGHT
    tick(hours=14)
    assert duty() == 0
    tick(hours=1)
    assert duty() == 1
    finish(duty)
    assert nodes.started == 1
    assert nightly.last_time(BACKUP).due_at == NIGHT + timedelta(days=1)
    assert duty() == 0


@on_sqlite
def test_portal_that_was_off_at_night_makes_it_when_it_is_back(nodes: Nodes, tick: Tick) -> None:
    nodes.worker()()
    tick(hours=30)
    duty = nodes.worker()
    assert duty() == 1
    finish(duty)


def test_many_workers_make_one_backup(portal: Portal, nodes: Nodes, tick: Tick) -> None:
    duties = [nodes.worker() for _ in range(6)]
    assert [duty() for duty in duties] == [0] * 6
    tick(hours=15)

    def one(number: int) -> int:
        with portal.app.app_context():
            return duties[number]()

    assert Counter(together(6, one)) == {0: 5, 1: 1}
    assert nodes.started == 1
    finish(next(duty for duty in duties if duty._process is not None))


def test_claim_of_a_worker_that_died_runs_out_and_that_of_a_slow_one_does_not(
    nodes: Nodes, tick: Tick
) -> None:
    nodes.code = "import time; time.sleep(60)"
    slow, other = nodes.worker(), nodes.worker()
    slow()
    tick(hours=15)
    assert slow() == 1
    for _ in range(4):
        tick(minutes=4)
        assert slow() == 0  # renews its claim
        assert other() == 0
    tick(minutes=6)
    assert other() == 1
    for duty in (slow, other):
        assert duty._process is not None
        duty._process.kill()
        finish(duty)


@on_sqlite
def test_failure_is_known_to_all_and_tried_again(
    nodes: Nodes, tick: Tick, caplog: pytest.LogCaptureFixture
) -> None:
    nodes.code = "import sys; sys.exit('Error: the disk is full')"
    duty = nodes.worker()
    duty()
    tick(hours=15)
    duty()
    finish(duty)
    last = nightly.last_time(BACKUP)
    assert last.has_failed
    assert last.failure == "the disk is full"
    assert last.due_at == clock.now() + nightly.RETRY_AFTER
    assert "the nightly backup failed" in caplog.text
    tick(hours=1)
    nodes.code = "pass"
    again = nodes.worker()
    assert again() == 1  # a worker that starts leaves the retry as it is planned
    nightly.note_done(BACKUP)
    finish(again)
    assert not nightly.last_time(BACKUP).has_failed


@on_sqlite
def test_no_backup_without_a_folder(nodes: Nodes, tick: Tick) -> None:
    nodes.settings = replace(nodes.settings, backups=None)
    tick(hours=30)
    assert nodes.worker()() == 0
    assert nightly.last_time(BACKUP).due_at is None


@on_sqlite
def test_health_says_how_old_the_backup_is(portal: Portal, tick: Tick) -> None:
    def age() -> object:
        answer = portal.visitor().client.get("/health", base_url="http://127.0.0.1:8000")
        assert answer.json is not None
        return answer.json["backup_age_hours"]

    assert age() is None
    with portal.app.app_context():
        nightly.note_done(BACKUP)
    assert age() == 0
    tick(hours=27.5)
    assert age() == 27


@on_sqlite
def test_bills_are_run_at_the_isps_hour_once_it_names_one(
    portal: Portal, nodes: Nodes, tick: Tick
) -> None:
    duty = nodes.worker(BILL_RUN)
    tick(hours=30)
    assert duty() == 0
    assert nightly.last_time(BILL_RUN).due_at is None
    portal.execute("UPDATE isp SET billing_hour = 3, revision = revision + 1")
    isp.forget()
    assert duty() == 0
    tick(hours=24)
    assert duty() == 1
    finish(duty)
    assert nodes.started == 1


@on_sqlite
def test_what_trying_again_would_not_mend_waits_for_the_next_night(
    portal: Portal, nodes: Nodes, tick: Tick
) -> None:
    portal.execute("UPDATE isp SET billing_hour = 3, revision = revision + 1")
    isp.forget()
    nodes.code = f"import sys; sys.exit({nightly.NOT_AGAIN_TODAY})"
    duty = nodes.worker(BILL_RUN)
    duty()
    tick(hours=15)
    duty()
    finish(duty)
    last = nightly.last_time(BILL_RUN)
    assert last.has_failed
    assert last.due_at == NIGHT + timedelta(days=1)
