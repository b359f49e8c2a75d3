import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from tests import pg

KILLED = """
import os, signal
from tests import pg
started = pg.server()
print(started.process.pid, started.folder, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def template() -> Generator[str, None, None]:
    server = pg.server()
    server.create("pg_template")
    with server.connect("pg_template") as connection:
        connection.execute("CREATE TABLE town (name text NOT NULL)")
        connection.execute("INSERT INTO town SELECT 'Town ' || n FROM generate_series(1, 5000) n")
    yield "pg_template"
    server.drop("pg_template")


@pytest.fixture
def copies(template: str) -> Generator[tuple[str, str], None, None]:
    server = pg.server()
    began = time.perf_counter()
    first = server.create("pg_first", template)
    print(f"a copy of a PostgreSQL database took {(time.perf_counter() - began) * 1000:.0f} ms")
    yield first, server.create("pg_second", template)
    server.drop("pg_first")
    server.drop("pg_second")


def count_towns(url: str) -> int:
    with create_engine(url, poolclass=NullPool).connect() as connection:
        return len(connection.execute(text("SELECT name FROM town")).all())


def test_a_copy_holds_what_its_template_holds(copies: tuple[str, str]) -> None:
    assert [count_towns(url) for url in copies] == [5000, 5000]


def test_copies_and_template_are_independent(copies: tuple[str, str]) -> None:
    first, second = copies
    with create_engine(first, poolclass=NullPool).begin() as connection:
        connection.execute(text("DELETE FROM town"))
    assert count_towns(first) == 0
    assert count_towns(second) == 5000
    assert count_towns(pg.server().url("pg_template")) == 5000


def test_a_dropped_database_is_gone_even_while_in_use(copies: tuple[str, str]) -> None:
    server = pg.server()
    with server.connect("pg_first") as connection:
        server.drop("pg_first")
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        server.connect("pg_first")


def test_server_knows_letters_beyond_ascii() -> None:
    with pg.server().connect() as connection:
        assert connection.execute("SELECT lower('ÉŁŻ')").fetchone() == ("éłż",)


def test_server_is_not_reachable_from_outside() -> None:
    with pg.server().connect() as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    assert pg.server().folder.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
def test_server_ends_with_a_killed_parent_and_its_folder_with_the_next_run() -> None:
    pg.server()
    child = subprocess.run(
        [sys.executable, "-c", KILLED], capture_output=True, text=True, check=False
    )
    assert child.returncode == -signal.SIGKILL, child.stderr
    pid, folder = child.stdout.split()
    deadline = time.monotonic() + 20
    while is_running(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(int(pid))
    pg._remove_abandoned()
    assert not Path(folder).exists()
    assert pg.server().folder.exists()


def is_running(pid: int) -> bool:
    """Whether there is such a process, other than one that ended and waits to be collected."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
