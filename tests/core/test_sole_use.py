"""Whoever is connected to the database file is known to who wants to replace it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from core import sole_use
from core.db import make_file
from core.settings import ROOT
from core.sole_use import DatabaseInUse

CODE = """
import sys
from pathlib import Path
from core import sole_use
from core.db import make_file
path = Path(sys.argv[2])
if sys.argv[1] == "holds":
    sole_use.hold(path)
    print("there", flush=True)
    sys.stdin.read()
else:
    with sole_use.alone(path):
        print("there", flush=True)
        sys.stdin.read()
"""


@contextmanager
def another(what: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the file, or is alone with it, until the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-c", CODE, what, str(path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "portal.db"
    for lock in list(sole_use._held):
        if lock.is_relative_to(tmp_path):
            sole_use._forget(lock)


def be_alone(path: Path) -> None:
    with sole_use.alone(path):
        pass


def test_file_is_held_until_the_other_process_ends(path: Path) -> None:
    with another("holds", path):
        sole_use.hold(path)  # many may
        with pytest.raises(DatabaseInUse):
            be_alone(path)
    be_alone(path)


def test_connecting_holds_the_file(path: Path) -> None:
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    make_file(engine.url)
    with engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1")
    assert sole_use._is_held(path.parent / sole_use.LOCK_NAME)


def test_who_comes_during_a_restore_waits_and_gives_up_in_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sole_use, "WAIT_SECONDS", 0.1)
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with another("alone", path):
        with pytest.raises(OperationalError, match="being restored"):
            engine.connect()
        assert not path.exists()
    make_file(engine.url)
    with engine.connect():
        pass


def test_who_comes_during_a_restore_opens_the_file_that_is_there_afterwards(path: Path) -> None:
    old, new = path, path.with_name("new.db")
    for file, name in ((old, "old"), (new, "new")):
        with closing(sqlite3.connect(file)) as made:
            made.execute(f"CREATE TABLE t AS SELECT '{name}' AS name")
            made.commit()
    engine = create_engine(f"sqlite:///{path}", poolclass=NullPool)
    with another("alone", path) as restoring:
        assert restoring.stdin is not None
        new.rename(old)
        restoring.stdin.close()  # now it ends
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT name FROM t").scalar() == "new"


def test_process_is_not_in_its_own_way(path: Path) -> None:
    sole_use.hold(path)
    with sole_use.alone(path):
        sole_use.hold(path)
    sole_use.hold(path)
