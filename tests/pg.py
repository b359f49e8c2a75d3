"""A throw-away PostgreSQL server for the tests.

`server()` starts one the first time it is called in a process; each worker of a parallel run so has
its own, which takes a second to make and shares nothing. It listens on a Unix socket in its own
folder only, gives up durability for speed, and ends with the process that started it: in the normal
way through `atexit`, and when that process is killed through a signal that Linux sends then.
"""

import atexit
import ctypes
import fcntl
import functools
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote

import psycopg
from psycopg import sql

from tests import outside, scratch

USER = "lastmile"
PORT = 5432  # names the socket's file, no port is opened
# A socket's path has at most 107 bytes, and TMPDIR can be longer.
FOLDERS = scratch.root() if scratch.root() == scratch.MEMORY else Path("/tmp")
PREFIX = "lastmile-pg-"
START_SECONDS = 30
STOP_SECONDS = 10
SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "max_connections": "200",
    "shared_buffers": "32MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",  # it would hold template databases open
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    "timezone": "UTC",
    "log_min_messages": "warning",
}


class PgServer:
    """A running server. Databases are made, copied and dropped through it."""

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], lock: TextIO) -> None:
        self.folder = folder
        self.process = process
        self._lock = lock

    def url(self, dbname: str) -> str:
        """SQLAlchemy's address of one database."""
        host = quote(str(self.folder), safe="")
        return f"postgresql+psycopg://{USER}@/{quote(dbname)}?host={host}&port={PORT}"

    def connect(self, dbname: str = "postgres") -> psycopg.Connection[Any]:
        """A connection in autocommit, past SQLAlchemy; to be closed by the caller."""
        return psycopg.connect(
            host=str(self.folder), port=PORT, user=USER, dbname=dbname, autocommit=True
        )

    def create(self, dbname: str, template: str | None = None) -> str:
        """Makes a database and returns its address.

        With `template` it is a copy of that database, to which nobody may be connected: dispose of
        the engine first.
        """
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(dbname))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        with self.connect() as connection:
            if connection.info.server_version >= 150000:
                statement += sql.SQL(" STRATEGY FILE_COPY")  # half the time of the default
            connection.execute(statement)
        return self.url(dbname)

    def drop(self, dbname: str) -> None:
        """Removes a database if it is there, and ends the connections to it."""
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)")
        with self.connect() as connection:
            connection.execute(statement.format(sql.Identifier(dbname)))

    def log(self) -> str:
        """What the server wrote: warnings and errors."""
        return (self.folder / "log").read_text("utf-8", "replace")

    @contextmanager
    def away(self) -> Iterator[None]:
        """The server is stopped within the block; behind it, it is there again with all it held."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(STOP_SECONDS)
        try:
            yield
        finally:
            self.process = _start(outside.need("postgresql"), self.folder, owner())
            _wait(self)

    def stop(self) -> None:
        """Ends the server at once and removes what it kept."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()


@functools.cache
def server() -> PgServer:
    """This process's server; skips the test that asks when PostgreSQL is not installed."""
    programs = outside.need("postgresql")
    _remove_abandoned()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=FOLDERS))
    lock = _hold(folder)
    user = owner()
    if user is not None:
        os.chown(folder, user.pw_uid, user.pw_gid)
    _initialise(programs, folder, user)
    started = PgServer(folder, _start(programs, folder, user), lock)
    stop = _only_in_this_process(started.stop)
    atexit.register(stop)
    try:
        _wait(started)
    except BaseException:
        stop()
        raise
    return started


def owner() -> pwd.struct_passwd | None:
    """Whom a server runs as: None for ourselves; PostgreSQL refuses root, so then somebody else."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise RuntimeError("There is neither a user postgres nor a user nobody to run PostgreSQL as.")


def _as(owner: pwd.struct_passwd | None) -> dict[str, Any]:
    """Arguments of subprocess that run a program as that user, far from our own environment."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
    identity: dict[str, Any] = {"env": environment, "cwd": "/", "stdin": subprocess.DEVNULL}
    if owner is not None:
        identity |= {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
    return identity


def _initialise(programs: Path, folder: Path, owner: pwd.struct_passwd | None) -> None:
    # Under the locale C, lower() and ILIKE know ASCII only.
    locale = "C.UTF-8" if sys.platform == "linux" else "C"
    command = [str(programs / "initdb"), "--pgdata", str(folder / "data"), "--username", USER]
    command += ["--auth=trust", "--encoding=UTF8", f"--locale={locale}", "--no-sync"]
    made = subprocess.run(command, capture_output=True, text=True, check=False, **_as(owner))
    if made.returncode != 0:
        shutil.rmtree(folder, ignore_errors=True)
        raise RuntimeError(f"initdb failed: {made.stderr.strip()}")


def _start(
    programs: Path, folder: Path, owner: pwd.struct_passwd | None
) -> subprocess.Popen[bytes]:
    command = [str(programs / "postgres"), "-D", str(folder / "data"), "-k", str(folder)]
    for name, value in SETTINGS.items():
        command += ["-c", f"{name}={value}"]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for pytest, which then stops the server itself
            preexec_fn=_end_with_parent(),  # noqa: PLW1509 (one system call, no lock is taken)
            **_as(owner),
        )


def _end_with_parent() -> Callable[[], None] | None:
    """What the child does before it becomes the server, on Linux.

    It asks for a SIGQUIT, PostgreSQL's "stop at once", when the thread that started it ends.
    """
    if sys.platform != "linux":
        return None
    set_parent_death_signal = 1
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(set_parent_death_signal, signal.SIGQUIT)
        if os.getppid() != parent:  # it ended before we could ask
            os._exit(1)

    return ask


def _wait(started: PgServer) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            started.connect().close()
        except psycopg.OperationalError as failure:
            if started.process.poll() is not None or time.monotonic() > deadline:
                message = f"PostgreSQL did not start: {started.log().strip()}"
                raise RuntimeError(message) from failure
            time.sleep(0.05)
        else:
            return


def _only_in_this_process(stop: Callable[[], None]) -> Callable[[], None]:
    """The same, doing nothing in a process forked from this one."""
    pid = os.getpid()
    return lambda: stop() if os.getpid() == pid else None


def _hold(folder: Path) -> TextIO:
    """Marks the folder as in use for as long as this process lives."""
    # Named when it is locked, so that no other run can take it for abandoned in between.
    lock = (folder / "in-use.new").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    (folder / "in-use.new").rename(folder / "in-use")
    return lock


def _remove_abandoned() -> None:
    """Removes what is left of runs that were killed."""
    for folder in FOLDERS.glob(PREFIX + "*"):
        try:
            with (folder / "in-use").open("r") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # in use, somebody else's, or just being made
            continue
