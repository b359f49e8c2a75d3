"""The database: reads in autocommit through `db.session`, writes through `unit_of_work` alone.

On SQLite all writers of all processes stand in one queue (a pair of lock files) before BEGIN
IMMEDIATE, because SQLite's own busy handler is not fair; on PostgreSQL the accounts that a unit
touches are locked first, in ascending id, under READ COMMITTED.
"""

from __future__ import annotations

import fcntl
import os
import random
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar, cast
from weakref import WeakKeyDictionary

from flask import g
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    CursorResult,
    Delete,
    Engine,
    Insert,
    Update,
    event,
    func,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from core import metrics, sole_use
from core.settings import Settings
from models import Account, Base

T = TypeVar("T")

db = SQLAlchemy(metadata=Base.metadata, session_options={"autoflush": False})


def count_changed(session: Session, statement: Delete | Insert | Update) -> int:
    """Run a statement that changes rows; how many it changed."""
    return cast("CursorResult[Any]", session.execute(statement)).rowcount


def total(column: Any) -> ColumnElement[int]:
    """The sum of an integer column as an integer, 0 over no rows (PostgreSQL sums to numeric)."""
    return func.coalesce(sql_cast(func.sum(column), BigInteger), 0)


class _IdleReaders:
    """SQLite connections that requests read on in turn.

    They never hold a transaction, so nothing is to be reset when one is given back, which is most
    of what a pool does.
    """

    def __init__(self) -> None:
        self._idle: deque[DBAPIConnection] = deque()

    def take(self, engine: Engine) -> DBAPIConnection:
        try:
            return self._idle.pop()
        except IndexError:
            made = engine.raw_connection()
            connection = cast("DBAPIConnection", made.dbapi_connection)
            made.detach()
            return connection

    def give_back(self, connection: DBAPIConnection) -> None:
        if len(self._idle) < MOST_IDLE_READERS:
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


@event.listens_for(Engine, "engine_disposed")
def _close_readers(engine: Engine) -> None:
    readers = _idle_readers.get(engine)
    if readers is not None:
        readers.close()


MOST_IDLE_READERS = 16
_idle_readers: WeakKeyDictionary[Engine, _IdleReaders] = WeakKeyDictionary()


def reader() -> DBAPIConnection:
    """The driver's connection on which this request reads, in autocommit; see core/prepared.py.

    On PostgreSQL it is that of `db.session`: a request that held one for each would keep two of the
    pool's, and as many requests as the pool has connections would wait for each other.
    """
    engine = db.engine
    if engine.dialect.name != "sqlite":
        return cast("DBAPIConnection", db.session.connection().connection.dbapi_connection)
    held: DBAPIConnection | None = g.get("reader")
    if held is None:
        readers = _idle_readers.get(engine)
        if readers is None:
            readers = _idle_readers[engine] = _IdleReaders()
        held = g.reader = readers.take(engine)
        g.readers = readers
    return held


def forget_reader(*, is_gone: bool = False) -> None:
    """Give the reading connection back; one that `is_gone` is not used again."""
    held: DBAPIConnection | None = g.pop("reader", None)
    if held is not None:
        if is_gone:
            held.close()
        else:
            g.readers.give_back(held)
    elif is_gone and db.engine.dialect.name != "sqlite":
        db.session().invalidate()


ATTEMPTS = 5
_DICE = random.SystemRandom()
QUEUE_SECONDS = 5.0
BUSY_MILLISECONDS = 5_000
_RETRIED_SQLSTATES = ("40001", "40P01")


class DatabaseBusy(Exception):
    """The turn to write did not come within five seconds. Nothing was written."""


class LocksAway(DatabaseBusy):
    """The lock files cannot be used, as on a disk that is read-only. Nothing was written."""


def configure(app_config: dict[str, Any], settings: Settings) -> None:
    """Put the engine's options for `settings` into a Flask configuration."""
    app_config["SQLALCHEMY_DATABASE_URI"] = settings.database_url
    # An error names the statement, not what people typed into it: it is logged (bar 77).
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "hide_parameters": True}
    if settings.is_sqlite:
        options |= {"pool_size": 20, "max_overflow": 20, "connect_args": {"timeout": 5.0}}
    else:
        options |= {
            "pool_size": 10,
            "max_overflow": 20,
            "pool_pre_ping": True,
            "connect_args": {"connect_timeout": 5},
        }
    app_config["SQLALCHEMY_ENGINE_OPTIONS"] = options


def is_missing(url: URL) -> bool:
    """Whether `url` names an SQLite file that is not there."""
    return url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists()


def make_file(url: URL) -> None:
    """Make the SQLite file that `url` names, if it is not there: migrations alone do, and SQLite
    would make one readable by all. Its log takes over what the file allows.

    Only a new one: whoever opens and closes a file loses all locks that this process has on it.
    """
    if is_missing(url):
        sole_use.hold(Path(str(url.database)))
        with suppress(OSError):  # it is there by now, or SQLite says better what is wrong
            os.close(os.open(str(url.database), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def words_of_missing(path: Path) -> str:
    """What is said, and what to do, where no SQLite file is."""
    return (
        f"there is no database at {path} "
        "(flask setup makes one; or see that LASTMILE_DATA is the folder you mean)"
    )


def _use_file(path: Path) -> None:
    """Note that the file is used, and leave none behind where there is no database: whoever only
    looks would otherwise make an empty one."""
    if path.exists() or sole_use.lock_of(path).exists():
        sole_use.hold(path)
    if not path.exists():
        raise sqlite3.OperationalError(words_of_missing(path))


def connect_once() -> None:
    """Let a request that has met a database away not try again: the page that says so asks for
    things too, and waiting five seconds for each takes longer than anybody waits."""
    g.connects_once = True


@event.listens_for(Engine, "do_connect")
def _connect(dialect: Dialect, _record: object, arguments: list[Any], values: Any) -> Any:
    is_once = bool(g) and g.get("connects_once", False)
    if is_once and "away" in g:
        raise g.away
    try:
        if dialect.name == "sqlite" and str(arguments[0]).startswith("/"):
            _use_file(Path(arguments[0]))
        return dialect.connect(*arguments, **values)
    except dialect.loaded_dbapi.OperationalError as error:
        if is_once:
            g.away = error
        raise


CACHE_KIB = 1024
"""Of each connection, and a web process has one for each thread. The file is in the system's cache
as well, so that half of SQLite's usual 2 MB costs no time that can be measured."""


@event.listens_for(Engine, "connect")
def _prepare_connection(connection: Any, _record: object) -> None:
    # A file of somebody else's is opened with a class that says so, and left as it is.
    is_ours = not getattr(connection, "is_theirs", False)
    if is_ours and isinstance(connection, sqlite3.Connection):
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "foreign_keys = ON",
            "recursive_triggers = ON",
            f"busy_timeout = {BUSY_MILLISECONDS}",
            f"cache_size = -{CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {pragma}")


class WriterQueue:
    """One queue for the writers of all processes: the next in line holds the first lock and waits
    for the second, so that whoever has just written cannot overtake those who wait."""

    def __init__(self, folder: Path, wait_seconds: float = QUEUE_SECONDS) -> None:
        self._paths = (folder / "writers-next.lock", folder / "writers-now.lock")
        self.wait_seconds = wait_seconds
        self._unused: list[tuple[int, int]] = []
        self._pid = os.getpid()

    def _take_descriptors(self) -> tuple[int, int]:
        # flock() belongs to the open file: each turn needs its own, and threads come and go, so
        # they are lent and given back. A fork must not share them.
        if self._pid != os.getpid():
            self._unused, self._pid = [], os.getpid()
        try:
            return self._unused.pop()
        except IndexError:
            following = self._open(0)
        try:
            return following, self._open(1)
        except OSError:
            os.close(following)
            raise

    def _open(self, which: int) -> int:
        return os.open(self._paths[which], os.O_RDWR | os.O_CREAT, 0o600)

    def _lock(self, descriptor: int, deadline: float) -> None:
        pause = 0.0005
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    metrics.note_write_refusal()
                    raise DatabaseBusy from None
                time.sleep(pause)
                pause = min(pause * 1.3, 0.004)
            else:
                return

    @contextmanager
    def turn(self, wait_seconds: float | None = None) -> Iterator[float]:
        """Hold the only right to write; gives the seconds that are left of those to wait.

        Raises DatabaseBusy when the turn does not come in time, LocksAway without lock files.
        """
        try:
            following, writing = self._take_descriptors()
        except OSError as error:
            raise LocksAway(str(error)) from error
        wait_seconds = self.wait_seconds if wait_seconds is None else wait_seconds
        started = time.monotonic()
        deadline = started + wait_seconds
        try:
            self._lock(following, deadline)
            try:
                self._lock(writing, deadline)
            finally:
                fcntl.flock(following, fcntl.LOCK_UN)
            metrics.note_write_wait(time.monotonic() - started)
            try:
                yield deadline - time.monotonic()
            finally:
                fcntl.flock(writing, fcntl.LOCK_UN)
        finally:
            self._unused.append((following, writing))


_queues: dict[str, WriterQueue] = {}


def writer_queue(engine: Engine) -> WriterQueue:
    """The queue of the SQLite file behind `engine`; its lock files lie beside it."""
    path = str(engine.url.database)
    if path not in _queues:
        _queues[path] = WriterQueue(Path(path).resolve().parent)
    return _queues[path]


def _is_transient(error: DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.OperationalError):
        return "locked" in str(error.orig) or "busy" in str(error.orig)
    if isinstance(error, IntegrityError):
        # Two units inserted the same unique key: the second, tried again, finds the first's row.
        return True
    return getattr(error.orig, "sqlstate", None) in _RETRIED_SQLSTATES


def _lock_accounts(connection: Connection, account_ids: tuple[int, ...]) -> None:
    if account_ids:
        connection.execute(
            select(Account.id)
            .where(Account.id.in_(sorted(set(account_ids))))
            .order_by(Account.id)
            .with_for_update()
        )


def _begin(connection: Connection, patience_seconds: float) -> None:
    """Begin to write on SQLite. No writer of ours is in the way, but another program may be: it is
    waited for as long as the turn would be."""
    milliseconds = max(1, int(patience_seconds * 1000))
    is_short = milliseconds < 0.8 * BUSY_MILLISECONDS
    if is_short:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {milliseconds}")
    try:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    except OperationalError as error:
        if _is_transient(error):
            raise DatabaseBusy("another program holds the database") from error
        raise
    finally:
        if is_short:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")


def _once(
    engine: Engine,
    work: Callable[[Session], T],
    account_ids: tuple[int, ...],
    patience_seconds: float,
) -> T:
    is_sqlite = engine.dialect.name == "sqlite"
    options = {} if is_sqlite else {"isolation_level": "READ COMMITTED"}
    with engine.connect().execution_options(**options) as connection:
        try:
            if is_sqlite:
                _begin(connection, patience_seconds)
            else:
                started = time.monotonic()
                _lock_accounts(connection, account_ids)
                metrics.note_write_wait(time.monotonic() - started)
            with Session(connection, autoflush=False, expire_on_commit=False) as session:
                _here.is_writing = True
                try:
                    result = work(session)
                finally:
                    _here.is_writing = False
                session.flush()
                connection.commit()
        except BaseException:
            connection.rollback()
            raise
    return result


def give_back_connections() -> None:
    """Reads keep no transaction open; a request that held its reading connection while it waits for
    another, as to write, would need two, and many such requests could starve each other."""
    db.session.close()
    forget_reader()


def unit_of_work(
    work: Callable[[Session], T], *account_ids: int, patience_seconds: float | None = None
) -> T:
    """Run `work(session)` in one writing transaction over `account_ids` and return its result.

    The whole of `work` runs again, up to five times with jitter, after a serialization failure, a
    deadlock or a unique key that another unit has just inserted; so it reads what it needs from
    the session it is given, takes ids and not objects, and does no hashing, rendering or network.
    Raises DatabaseBusy when the writers' queue does not move or another program holds the database
    for five seconds, on SQLite for `patience_seconds`; RuntimeError inside another unit.
    """
    engine = db.engine
    refuse_inside_unit("a unit of work")
    give_back_connections()
    conflicts = 0
    for attempt in range(ATTEMPTS):
        try:
            if engine.dialect.name == "sqlite":
                with writer_queue(engine).turn(patience_seconds) as left_seconds:
                    return _once(engine, work, account_ids, left_seconds)
            return _once(engine, work, account_ids, QUEUE_SECONDS)
        except (OperationalError, IntegrityError) as error:
            conflicts += isinstance(error, IntegrityError)
            if not _is_transient(error) or conflicts > 1 or attempt == ATTEMPTS - 1:
                raise
        metrics.note_write_retry()
        time.sleep(_DICE.uniform(0, 0.01 * 2**attempt))
    raise AssertionError("unreachable")  # pragma: no cover


_here = threading.local()


def refuse_inside_unit(what: str) -> None:
    """Raise RuntimeError inside a unit of work, which must end soon and may run again: for what
    takes long or leaves the machine."""
    if getattr(_here, "is_writing", False):
        raise RuntimeError(f"{what} inside a unit of work")


def check_engine() -> None:
    """Check what every SQLite connection promises (bar 67). Raises RuntimeError if not."""
    if db.engine.dialect.name != "sqlite":
        return
    wanted = {
        "journal_mode": "wal",
        "synchronous": 2,
        "foreign_keys": 1,
        "recursive_triggers": 1,
        "busy_timeout": BUSY_MILLISECONDS,
    }
    with db.engine.connect() as connection:
        for pragma, value in wanted.items():
            found = connection.exec_driver_sql(f"PRAGMA {pragma}").scalar()
            if found != value:
                raise RuntimeError(f"SQLite {pragma} is {found!r}, it must be {value!r}")


@contextmanager
def reading(engine: Engine | None = None) -> Iterator[Session]:
    """One unchanging view of the whole database, for checks and exports that read all of it.

    On SQLite a read transaction of WAL mode, on PostgreSQL REPEATABLE READ; neither holds up
    writers. `engine` is the portal's own unless another is given.
    """
    if engine is None:
        engine = db.engine
        give_back_connections()
    is_sqlite = engine.dialect.name == "sqlite"
    options: dict[str, Any] = (
        {} if is_sqlite else {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    )
    with engine.connect().execution_options(**options) as connection:
        if is_sqlite:
            connection.exec_driver_sql("BEGIN")
        with Session(connection, autoflush=False) as session:
            yield session
        connection.rollback()
