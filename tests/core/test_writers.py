"""Writers in line, due work taken once, transactions tried again, schemas that are equal."""

from __future__ import annotations

import time
from multiprocessing import get_context
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import create_engine, delete, event, inspect, select, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.pool import QueuePool

from core import due_work, ids
from core.db import DatabaseBusy, WriterQueue, check_engine, db, make_file, unit_of_work
from core.migrate import _config, upgrade
from core.outbox import Letter, queue
from core.schema import create_triggers
from models import Account, Base, Counter, Message
from tests.conftest import Portal, together
from tests.repeats import sized

WRITERS = 8
SECONDS = sized(1.5, 5.0, 60.0)
JOBS = sized(600, 2_000, 5_000)


def test_eight_writing_processes_lose_no_update_and_never_find_the_database_locked(
    portal: Portal,
) -> None:
    portal.execute("INSERT INTO counters (name, next_value) VALUES ('tally', 0)")
    with portal.app.app_context():
        db.engine.dispose()
    forks = get_context("fork")
    queue: SimpleQueue[tuple[int, float]] = forks.SimpleQueue()
    writers = [forks.Process(target=_write, args=(portal, queue)) for _ in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(SECONDS + 120)
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    counts, waits = zip(*(queue.get() for _ in writers), strict=True)
    assert min(counts) > 0
    assert portal.one("SELECT next_value FROM counters WHERE name = 'tally'") == sum(counts)
    print(sum(counts), "writes, worst wait", max(waits), "s")


def _write(portal: Portal, queue: SimpleQueue[tuple[int, float]]) -> None:
    """Count up for a while, reading, adding in Python and writing; ends the process with 1 when
    any of it fails."""
    waits, end = [], time.monotonic() + SECONDS
    with portal.app.app_context():
        while time.monotonic() < end:
            begun = time.monotonic()
            unit_of_work(_add_one)
            waits.append(time.monotonic() - begun)
        db.engine.dispose()
    queue.put((len(waits), max(waits)))


def _add_one(session: Session) -> None:
    tally = Counter.name == "tally"
    value = session.execute(select(Counter.next_value).where(tally).with_for_update()).scalar_one()
    session.execute(update(Counter).where(tally).values(next_value=value + 1))


def test_turn_that_does_not_come_in_time_is_refused(tmp_path: Path) -> None:
    one, two = WriterQueue(tmp_path), WriterQueue(tmp_path, wait_seconds=0.05)
    with one.turn(), pytest.raises(DatabaseBusy), two.turn():
        pass
    with two.turn():
        pass


def test_workers_on_one_queue_do_each_job_exactly_once(portal: Portal) -> None:
    with portal.app.app_context():
        letters = [Letter("receipt", "a@example.net", "en") for _ in range(JOBS)]
        unit_of_work(lambda session: session.execute(delete(Message)))
        unit_of_work(lambda session: queue(session, letters))

    def work(_number: int) -> int:
        with portal.app.app_context():
            done = 0
            while count := due_work.do(Message, Message.try_at, _job):
                done += count
            return done

    workers = 8 if portal.settings.is_sqlite else 16
    done = together(workers, work)
    assert sum(count for count in done if isinstance(count, int)) == JOBS, done
    assert portal.rows("SELECT try_count, count(*) FROM messages GROUP BY 1") == [(1, JOBS)]
    print("each worker did", done)


def _job(message_id: int) -> None:
    """Counts how often it was done; the queue alone keeps two from doing it."""

    def work(session: Session) -> None:
        session.execute(
            update(Message)
            .where(Message.id == message_id)
            .values(try_at=None, try_count=Message.try_count + 1)
        )

    unit_of_work(work)


def test_unit_that_meets_a_deadlock_is_run_again_as_a_whole(ctx: Portal) -> None:
    runs = []

    def work(session: Session) -> int:
        runs.append(1)
        session.execute(update(Account).where(Account.number == "1001").values(bill_day=len(runs)))
        if len(runs) < 3:
            raise OperationalError("deadlock", {}, _Deadlock())
        return len(runs)

    assert unit_of_work(work, ctx.world.accounts["alice"]) == 3
    assert ctx.one("SELECT bill_day FROM accounts WHERE number = '1001'") == 3


def test_unit_that_never_succeeds_is_given_up_after_five_runs(
    ctx: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the runs are pauses that grow and that no two share."""
    runs: list[int] = []
    pauses: list[float] = []
    monkeypatch.setattr("core.db.time.sleep", pauses.append)

    def work(_session: Session) -> None:
        runs.append(1)
        raise OperationalError("deadlock", {}, _Deadlock())

    with pytest.raises(OperationalError):
        unit_of_work(work)
    assert len(runs) == 5
    assert len(set(pauses)) == 4
    assert all(0 <= pause <= 0.01 * 2**number for number, pause in enumerate(pauses))


class _Deadlock(Exception):
    sqlstate = "40P01"


def test_engine_that_does_not_keep_its_promises_is_refused(ctx: Portal) -> None:
    check_engine()
    if not ctx.settings.is_sqlite:
        return

    def forget(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    event.listen(db.engine, "connect", forget)
    db.engine.dispose()
    try:
        with pytest.raises(RuntimeError, match="synchronous"):
            check_engine()
    finally:
        event.remove(db.engine, "connect", forget)
        db.engine.dispose()


def test_upgraded_schema_equals_the_models_and_its_triggers_the_list(
    ctx: Portal, tmp_path: Path
) -> None:
    command.check(_config(ctx.settings.database_url))
    if not ctx.settings.is_sqlite:
        return
    fresh = create_engine(f"sqlite:///{tmp_path / 'fresh.db'}")
    make_file(fresh.url)
    Base.metadata.create_all(fresh)
    with fresh.begin() as connection:
        create_triggers(connection)
    listed = text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger' ORDER BY name")
    with fresh.connect() as one, db.engine.connect() as two:
        assert one.execute(listed).all() == two.execute(listed).all()
        assert set(inspect(fresh).get_table_names()) == set(
            inspect(db.engine).get_table_names()
        ) - {"alembic_version"}
    fresh.dispose()


def test_upgrade_of_a_current_database_changes_nothing(ctx: Portal) -> None:
    before = ctx.rows("SELECT number, revision FROM accounts ORDER BY id")
    upgrade(ctx.settings)
    assert ctx.rows("SELECT number, revision FROM accounts ORDER BY id") == before


def test_public_ids_do_not_repeat() -> None:
    assert len({ids.public_id() for _ in range(10_000)}) == 10_000


def test_reading_session_is_given_back_before_writing(ctx: Portal) -> None:
    db.session.execute(select(Account.id)).all()
    unit_of_work(lambda session: session.execute(select(Account.id)).all())
    pool = db.engine.pool
    assert isinstance(pool, QueuePool)
    assert pool.checkedout() == 0
