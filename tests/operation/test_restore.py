"""`flask restore`: the whole backup or nothing, and never under the hands of a running portal."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from blueprints.billing.verify import find_faults
from blueprints.dashboard.settings.closing import close_again
from core import backup, backup_file, clock, migrate, restore
from core.restore import RestoreRefused, Rules
from core.settings import ROOT
from tests import processes
from tests.core.test_sole_use import another
from tests.operation.conftest import Operator
from tests.repeats import REPEATS
from tests.test_serve import a_real_deployment, environment, free_ports, wait_for_health

KILLS = REPEATS // 3
NEVER = 0

on_sqlite = pytest.mark.parametrize("engine_kind", ["sqlite"], indirect=True)
"""For what has nothing to do with the engine."""


def test_restore_drill(operator: Operator) -> None:
    """As a person would: back up, go on working, restore, ask the bank what is missing, verify."""
    file = operator.backup()
    before = operator.books()
    operator.pay("alice", key="lost-1")
    operator.pay("mallory", key="lost-2")
    paid = operator.payments()
    said = operator.does("restore", "--yes", file)
    assert "Restored, and its books add up." in said
    assert "It had more than the restored one: 2 payments." in said
    assert operator.books() == before
    operator.does("ledger", "verify")

    next_step = next(line for line in said.splitlines() if "flask billing reconcile" in line)
    reconcile = next_step.partition("flask ")[2].split()
    assert "2 booked, 0 on their way" in operator.does(*reconcile)
    assert operator.payments() == paid
    operator.does("ledger", "verify")
    assert "0 booked, 0 on their way, 2 known before." in operator.does(*reconcile)
    assert operator.payments() == paid


def test_what_browsers_keep_is_outdated_by_a_restore(operator: Operator) -> None:
    """Revisions of accounts and customers come again; the ISP's is one that it never had."""
    revision = "SELECT revision FROM isp"
    file = operator.backup()
    before = operator.portal.one(revision)
    operator.does("restore", "--yes", file)
    assert operator.portal.one(revision) >= clock.now().timestamp() // 1 > before


def test_database_that_was_there_is_kept_whole(operator: Operator) -> None:
    file = operator.backup()
    operator.pay("alice", key="lost-1")
    kept = operator.does("restore", "--yes", file).partition("is kept: ")[2].split("\n")[0]
    if operator.portal.settings.is_sqlite:
        with sqlite3.connect(kept) as connection:
            found = connection.execute("SELECT count(*) FROM payments").fetchone()
        connection.close()
        assert found == (3,)
    else:
        schema = kept.removeprefix("schema ")
        assert operator.portal.one(f'SELECT count(*) FROM "{schema}".payments') == 3
        # It is in no backup, and a second restore leaves it alone.
        assert schema.encode() not in operator.backup("two.backup").read_bytes()
        operator.does("restore", "--yes", file)
        assert operator.portal.one(f'SELECT count(*) FROM "{schema}".payments') == 3


def test_restored_database_keeps_its_promises(operator: Operator) -> None:
    operator.does("restore", "--yes", operator.backup())
    for statement in (
        "UPDATE journal_entries SET description = 'x'",
        "DELETE FROM allocations",
        "UPDATE invoice_lines SET amount_minor = 0",
    ):
        with pytest.raises(Exception, match="append-only"):
            operator.portal.execute(statement)
    operator.pay("alice", key="after")  # sequences and triggers go on


def test_sessions_that_were_ended_since_do_not_live_again(operator: Operator) -> None:
    alice = operator.portal.visitor("alice")
    file = operator.backup()
    assert alice.get(operator.portal.path()).status == 200
    operator.does("restore", "--yes", file)
    asked = alice.client.get(operator.portal.path(), base_url="http://127.0.0.1:8000")
    assert asked.status_code == 303


@on_sqlite
def test_restore_asks_first(operator: Operator) -> None:
    file = operator.backup()
    operator.pay("alice", key="lost-1")
    done = operator.run("restore", file)  # nobody answers
    assert done.exit_code == 1
    assert "as of 2026-06-20 19:00 UTC, 0 minutes ago: 2 payments" in done.output
    assert len(operator.payments()) == 3


def test_damage_anywhere_is_refused(operator: Operator) -> None:
    file = operator.backup()
    whole = file.read_bytes()
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    operator.pay("alice", key="lost-1")
    for _ in range(5):
        # Within what is packed: times and the like in the archive's headers change nothing. Nor may
        # one byte: what is repeated can be copied from another place.
        place = dice.randrange(len(whole) // 10, len(whole) * 9 // 10)
        damaged = bytes(byte ^ 0x55 for byte in whole[place : place + 64])
        file.write_bytes(whole[:place] + damaged + whole[place + 64 :])
        assert "Nothing was changed" in operator.refuses_after_words("restore", "--yes", file)
    file.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in operator.refuses("restore", "--yes", file)
    assert len(operator.payments()) == 3


def with_manifest(operator: Operator, file: Path, **changes: Any) -> Path:
    """The same backup with another manifest."""
    database = operator.folder / "extracted"
    manifest = backup_file.extract(file, database)
    path = operator.folder / "changed.backup"
    path.unlink(missing_ok=True)
    backup_file.write(path, database, replace(manifest, **changes))
    database.unlink()
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"is_demo": False}, "a backup of a real deployment"),
        ({"revision": "9999"}, "a later version"),
        ({"engine": "oracle"}, "a backup of oracle"),
    ],
)
def test_backup_that_does_not_belong_here_is_refused(
    operator: Operator, changes: dict[str, Any], words: str
) -> None:
    path = with_manifest(operator, operator.backup(), **changes)
    assert words in operator.refuses("restore", "--yes", path)


def test_database_that_is_not_what_its_manifest_says_is_refused(operator: Operator) -> None:
    file = operator.backup()
    operator.pay("alice", key="lost-1")
    rows = backup_file.read_manifest(file).rows
    path = with_manifest(operator, file, rows=rows | {"payments": 7})
    assert "has 2 of the 7 rows" in operator.refuses_after_words("restore", "--yes", path)
    assert len(operator.payments()) == 3
    operator.portal.execute("UPDATE customers SET name = 'Al' WHERE sign_in_id = 'alice'")


@contextmanager
def somebody_connected(operator: Operator) -> Iterator[None]:
    """Another program that has the database open and does nothing."""
    settings = operator.portal.settings
    if settings.is_sqlite:
        code = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]);"
            "c.execute('SELECT count(*) FROM isp').fetchall(); print('there', flush=True);"
            "sys.stdin.read()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, backup.database_file(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            yield
            process.kill()
    else:
        url = make_url(settings.database_url).set(drivername="postgresql")
        with psycopg.connect(url.render_as_string(hide_password=False)):
            yield


def test_database_in_use_is_not_replaced(operator: Operator) -> None:
    file = operator.backup()
    operator.pay("alice", key="lost-1")
    operator.leave()
    with somebody_connected(operator):
        said = operator.refuses_after_words("restore", "--yes", file)
    assert "stop the portal and its worker" in said
    assert len(operator.payments()) == 3
    operator.does("restore", "--yes", file)


@pytest.mark.parametrize("engine_kind", ["postgresql"], indirect=True)
def test_connection_that_is_just_ending_is_waited_for(operator: Operator) -> None:
    """The portal was stopped a moment ago: its server processes end after it."""
    file = operator.backup()
    operator.leave()
    with ExitStack() as stack:
        stack.enter_context(somebody_connected(operator))
        leaving = threading.Timer(0.5, stack.pop_all().close)
        leaving.start()
        operator.does("restore", "--yes", file)
    leaving.join()


@on_sqlite
def test_portal_that_is_connected_to_nothing_at_the_moment_is_in_use_too(
    operator: Operator,
) -> None:
    file = operator.backup()
    operator.leave()
    with another("holds", backup.database_file(operator.portal.settings)):
        assert "the database is in use" in operator.refuses_after_words("restore", "--yes", file)
        said = operator.refuses_after_words("restore", file)
    assert "[y/N]" not in said  # nobody is asked for what is refused anyway


@pytest.mark.real
def test_running_portal_is_backed_up_and_not_restored(tmp_path: Path) -> None:
    """By hand and, since it missed its hour, by its own worker."""
    port, file = free_ports(), tmp_path / "one.backup"
    data = tmp_path / "data"
    env = environment(data, port)
    flask = [sys.executable, "-m", "flask", "--app", "app"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*flask, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, check=False
        )

    assert run("setup", "demo/catalog.toml").returncode == 0
    with closing(sqlite3.connect(data / "lastmile.db")) as connection:
        connection.execute(
            "INSERT INTO planned_jobs (name, due_at, failure) VALUES ('backup', ?, '')",
            ("2026-01-01 10:00:00.000000",),
        )
        connection.commit()
    with a_real_deployment(data, port) as process:
        wait_for_health(port, process, 60)
        assert run("backup", str(file)).returncode == 0
        end = time.monotonic() + 60
        while not backup.list_backups(data / "backups"):
            assert time.monotonic() < end
            time.sleep(0.2)
        assert backup.find_last_good(data / "backups") is not None
        refused = run("restore", "--yes", str(file))
        assert refused.returncode == 1
        assert "the database is in use" in refused.stderr
        processes.end(process)
    restored = run("restore", "--yes", str(file))
    assert restored.returncode == 0, restored.stderr
    assert "is kept: " in restored.stdout


def test_older_schema_is_brought_up_to_date(operator: Operator) -> None:
    settings = operator.portal.settings
    operator.leave()
    command.downgrade(migrate._config(settings.database_url), "0001")
    file = operator.backup()
    assert backup_file.read_manifest(file).revision == "0001"
    said = operator.does("restore", "--yes", file)
    assert "brought up to date from 0001" in said
    assert operator.portal.one("SELECT count(*) FROM planned_jobs") == 0
    operator.leave()
    command.check(migrate._config(settings.database_url))


def state(operator: Operator) -> str:
    """Which database is there."""
    operator.leave()
    count = operator.portal.one("SELECT count(*) FROM payments")
    return {2: "restored", 3: "old"}[count]


STEPS = {
    *("open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.chown"),
    *("sqlite3.connect", "subprocess.Popen", "shutil.rmtree", "fcntl.flock"),
}


def restore_in_a_child(operator: Operator, file: Path, kill_at: int, first: str = "") -> int:
    """Restore in another process, which is killed at its `kill_at`th step that anybody could see:
    opening, naming and removing files, connecting, each statement of a migration or check. They are
    counted from the `first` one of that name on. Returns the exit code."""
    operator.leave()
    pid = os.fork()
    if pid:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if not operator.portal.settings.is_sqlite:
            wait_for_nobody(operator)
        return code
    steps = 0

    def count(name: object, *_arguments: object) -> None:
        nonlocal steps
        is_counted = name in STEPS or not isinstance(name, str)
        if is_counted and (steps or not first or name == first):
            steps += 1
            if steps == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(count)
        event.listen(Engine, "before_cursor_execute", count)
        with operator.portal.app.app_context():
            settings = operator.portal.settings
            erase = partial(close_again, secret=settings.secret)
            restore.restore(settings, file, Rules(find_faults, erase))
        (operator.folder / "steps").write_text(str(steps))
        os._exit(0)
    except RestoreRefused as error:
        print(error, file=sys.stderr)
    finally:
        os._exit(1)


def is_whole_after(operator: Operator, code: int) -> str:
    """Which database is there after a restore that ended so; it works on."""
    assert code in (0, -signal.SIGKILL)
    found = state(operator)
    assert found == "restored" or code
    operator.does("ledger", "verify")
    if found == "restored":
        operator.pay("alice", key="lost-1")
    return found


def test_restore_killed_at_any_step_leaves_the_old_or_the_restored_database(
    operator: Operator,
) -> None:
    file = operator.backup()
    operator.pay("alice", key="lost-1")
    is_whole_after(operator, restore_in_a_child(operator, file, NEVER))
    steps = int((operator.folder / "steps").read_text())
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    for point in random.Random(seed).sample(range(1, steps + 1), KILLS):
        code = restore_in_a_child(operator, file, point)
        print(f"step {point} of {steps}, exit {code}: {is_whole_after(operator, code)}")
    operator.does("restore", "--yes", file)
    assert state(operator) == "restored"
    assert not list(backup.database_file(operator.portal.settings).parent.glob(".lastmile-work-*"))


@on_sqlite
def test_restore_killed_while_one_file_takes_the_place_of_the_other(operator: Operator) -> None:
    file = operator.backup()
    operator.pay("alice", key="lost-1")
    seen, code, step = set(), 1, 0
    while code:  # each step from the old file's second name to the end
        step += 1
        code = restore_in_a_child(operator, file, step, first="os.link")
        seen.add(is_whole_after(operator, code))
    assert step > 4
    assert seen == {"old", "restored"}


def wait_for_nobody(operator: Operator) -> None:
    """Until PostgreSQL has noticed that its client was killed."""
    engine = create_engine(operator.portal.settings.database_url, poolclass=NullPool)
    end = time.monotonic() + 20
    while time.monotonic() < end:
        with engine.connect() as connection:
            others = connection.exec_driver_sql(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid()"
            ).scalar_one()
        if not others:
            return
        time.sleep(0.02)
    raise AssertionError("a killed client is still connected")


@on_sqlite
def test_damaged_database_can_be_replaced_and_is_kept(operator: Operator) -> None:
    file = operator.backup()
    operator.leave()
    path = backup.database_file(operator.portal.settings)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(b"SQLite format 3\0" + os.urandom(5000))
    path.with_name(path.name + "-wal").write_bytes(b"left over")
    damaged = path.read_bytes()
    kept = Path(operator.does("restore", "--yes", file).partition("is kept: ")[2].split("\n")[0])
    assert kept.read_bytes() == damaged
    assert kept.with_name(kept.name + "-wal").read_bytes() == b"left over"
    operator.does("ledger", "verify")
