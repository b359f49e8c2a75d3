"""Units of work: what they retry, what they refuse inside, what they leave behind."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, insert, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool, QueuePool

from core import passwords
from core.db import LocksAway, WriterQueue, db, make_file, reading, unit_of_work
from core.htmx import render
from core.prepared import Prepared
from models import Account, Counter, Isp
from tests.conftest import Portal, together


def test_unit_that_fails_leaves_nothing(ctx: Portal) -> None:
    def work(session: Session) -> None:
        session.execute(insert(Counter).values(name="odd", next_value=1))
        raise ValueError("on second thoughts")

    with pytest.raises(ValueError, match="second thoughts"):
        unit_of_work(work)
    assert ctx.one("SELECT count(*) FROM counters WHERE name = 'odd'") == 0


def test_unit_that_finds_another_was_faster_runs_once_more_and_finds_its_row(
    portal: Portal,
) -> None:
    """Sixteen make the same row, none of them with a lock: one makes it, the others find it."""

    def make(_number: int) -> int:
        def work(session: Session) -> int:
            row = session.get(Counter, "shared")
            if row is None:
                row = Counter(name="shared", next_value=0)
                session.add(row)
                session.flush()
            session.execute(
                update(Counter)
                .where(Counter.name == "shared")
                .values(next_value=Counter.next_value + 1)
            )
            return 1

        with portal.app.app_context():
            return unit_of_work(work)

    assert together(16, make) == [1] * 16
    assert portal.one("SELECT next_value FROM counters WHERE name = 'shared'") == 16


def test_conflict_that_stays_is_given_up_after_the_second_run(ctx: Portal) -> None:
    runs: list[int] = []

    def work(session: Session) -> None:
        runs.append(1)
        session.execute(insert(Counter).values(name="twice", next_value=1))
        session.execute(insert(Counter).values(name="twice", next_value=1))

    with pytest.raises(IntegrityError):
        unit_of_work(work)
    assert len(runs) == 2


def test_two_that_lock_crosswise_both_get_through(portal: Portal) -> None:
    """A real deadlock on PostgreSQL; on SQLite they stand in line."""
    ids = [portal.world.accounts["alice"], portal.world.accounts["mallory"]]
    both_hold_one = threading.Barrier(2, timeout=2)

    def cross(number: int) -> int:
        def work(session: Session) -> int:
            for account_id in ids if number else ids[::-1]:
                session.execute(
                    update(Account)
                    .where(Account.id == account_id)
                    .values(bill_day=Account.bill_day + 1)
                )
                if not portal.settings.is_sqlite:
                    with contextlib.suppress(threading.BrokenBarrierError):
                        both_hold_one.wait()
            return 1

        with portal.app.app_context():
            return unit_of_work(work)

    assert together(2, cross) == [1, 1]
    assert portal.rows("SELECT DISTINCT bill_day FROM accounts WHERE bill_day > 1") == [(3,)]


@pytest.mark.parametrize("engine_kind", ["postgresql"])
def test_serialization_failure_is_retried(portal: Portal) -> None:
    runs: list[int] = []

    def work(session: Session) -> int:
        runs.append(1)
        if len(runs) == 1:
            session.connection().exec_driver_sql(
                "DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = 'serialization_failure'; END $$"
            )
        return len(runs)

    with portal.app.app_context():
        assert unit_of_work(work) == 2


def test_other_errors_are_not_retried(ctx: Portal) -> None:
    runs: list[int] = []

    def work(session: Session) -> None:
        runs.append(1)
        session.connection().exec_driver_sql("SELECT nonsense")

    with pytest.raises(DBAPIError):
        unit_of_work(work)
    assert len(runs) == 1


def test_parallel_units_on_one_account_lose_no_update(portal: Portal) -> None:
    """They read, add in Python and write: only the account's lock keeps them apart."""
    account_id = portal.world.accounts["alice"]

    def add(_number: int) -> None:
        def work(session: Session) -> None:
            value = session.execute(
                select(Account.revision).where(Account.id == account_id)
            ).scalar_one()
            session.execute(
                update(Account).where(Account.id == account_id).values(revision=value + 1)
            )

        with portal.app.app_context():
            for _ in range(5):
                unit_of_work(work, account_id)

    before = portal.one("SELECT revision FROM accounts WHERE id = :id", id=account_id)
    assert together(8, add) == [None] * 8
    assert portal.one("SELECT revision FROM accounts WHERE id = :id", id=account_id) == before + 40


def test_unit_refuses_another_inside_it_and_whatever_takes_long(
    ctx: Portal, tmp_path: Path
) -> None:
    refused: dict[str, Callable[[], object]] = {
        "a unit of work": lambda: unit_of_work(lambda _session: None),
        "hashing": lambda: passwords.hash_password(tmp_path, "quiet-lantern-orbit-47"),
        "rendering": lambda: render("support/help.html"),
    }
    for what, do in refused.items():

        def work(_session: Session, do: Callable[[], object] = do) -> None:
            do()

        with pytest.raises(RuntimeError, match=f"{what} inside a unit of work"):
            unit_of_work(work)
    unit_of_work(lambda _session: None)


@pytest.mark.parametrize("engine_kind", ["postgresql"])
def test_whoever_reads_in_two_ways_holds_one_connection(portal: Portal) -> None:
    """As many as the pool has connections each hold the one they read their first page of, and then
    ask in another way: were that another connection, all would wait for each other."""
    with portal.app.app_context():
        most = sum(db_pool_sizes())
    revision = Prepared(select(Isp.revision))
    all_hold_one = threading.Barrier(most)

    def read(_number: int) -> int:
        with portal.app.app_context():
            revision.one()
            all_hold_one.wait()
            return int(db.session.execute(select(Isp.revision)).scalar_one())

    assert together(most, read) == [1] * most


@pytest.mark.parametrize("engine_kind", ["postgresql"])
def test_more_threads_than_connections_read_and_write(portal: Portal) -> None:
    with portal.app.app_context():
        many = 2 * sum(db_pool_sizes())
    revision = Prepared(select(Isp.revision))

    def work(_number: int) -> int:
        with portal.app.app_context():
            revision.one()
            db.session.execute(select(Isp.revision))
            unit_of_work(lambda session: session.execute(select(Isp.revision)).scalar_one())
            revision.one()
            with reading() as session:
                return int(session.execute(select(Isp.revision)).scalar_one())

    assert together(many, work) == [1] * many


def db_pool_sizes() -> tuple[int, int]:
    """How many connections the pool keeps, and how many more it opens when they are in use."""
    pool = db.engine.pool
    assert isinstance(pool, QueuePool)
    return pool.size(), pool._max_overflow


def test_database_error_is_an_answer_that_says_when_to_come_again(portal: Portal) -> None:
    alice = portal.visitor("alice")
    action, values = alice.get(portal.path()).form("/pay")
    portal.execute("ALTER TABLE payments RENAME TO payments_elsewhere")
    answer = alice.post(action, values)
    portal.execute("ALTER TABLE payments_elsewhere RENAME TO payments")
    assert answer.status == 503
    assert int(answer.response.headers["Retry-After"]) > 0


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_database_stays_busy_and_says_so_in_words(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = portal.visitor("alice")
    action, values = alice.get(portal.path()).form("/pay")
    with portal.app.app_context():
        from core.db import writer_queue

        queue = writer_queue(db.engine)
    monkeypatch.setattr(queue, "wait_seconds", 0.05)
    with WriterQueue(portal.settings.data).turn():
        answer = alice.post(action, values)
    assert answer.status == 503
    assert portal.one("SELECT count(*) FROM form_keys") == 0


def test_threads_that_come_and_go_leave_no_open_file(portal: Portal) -> None:
    def write(_number: int) -> None:
        with portal.app.app_context():
            unit_of_work(lambda _session: None)

    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    together(4, write)
    before = open_files()
    for _ in range(15):
        together(4, write)
    assert open_files() < before + 15


def test_lock_that_is_away_says_so_and_keeps_no_file_open(tmp_path: Path) -> None:
    (tmp_path / "writers-now.lock").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(LocksAway), WriterQueue(tmp_path).turn():
            pass
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_new_database_is_its_owners_alone(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'new.db'}")
    make_file(engine.url)
    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE things (id INTEGER)")
        modes = {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    engine.dispose()
    assert modes == {0o600}


def test_another_connection_leaves_the_locks_of_the_first(tmp_path: Path) -> None:
    """POSIX: closing any descriptor of a file ends every lock of the process on it."""
    engine = create_engine(f"sqlite:///{tmp_path / 'new.db'}", poolclass=NullPool)
    make_file(engine.url)
    locks = Path("/proc/locks")

    def held() -> int:
        inode = (tmp_path / "new.db").stat().st_ino
        return sum(f":{inode} " in line for line in locks.read_text().splitlines())

    with engine.connect() as connection:
        connection.exec_driver_sql("CREATE TABLE things (id INTEGER)")
        before = held()
        assert before
        with engine.connect() as other:
            other.exec_driver_sql("SELECT 1")
            assert held() >= before
    engine.dispose()
