"""The file under the sandbox bank's books: its tables, transactions and the notices that wait."""

import hashlib
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

LATE_SECONDS = 20
DEBIT_SECONDS = 8
# After the last pause a notice is given up; the portal then learns the truth by asking.
NOTICE_PAUSES_SECONDS = (1, 2, 5, 10, 30, 60, 300, 900, 3600, 3600, 3600)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS payments (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    reference TEXT NOT NULL UNIQUE,
    page_token TEXT NOT NULL UNIQUE,
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
    currency TEXT NOT NULL,
    description TEXT NOT NULL,
    return_url TEXT NOT NULL,
    customer_reference TEXT NOT NULL,
    language TEXT NOT NULL,
    state TEXT NOT NULL,
    method TEXT NOT NULL DEFAULT '',
    decline_reason TEXT NOT NULL DEFAULT '',
    fee_minor INTEGER,
    decision TEXT,
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,
    settles_at REAL,
    ended_at REAL
);
CREATE INDEX IF NOT EXISTS payments_settling ON payments (settles_at) WHERE settles_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS payments_waiting ON payments (expires_at) WHERE state = 'pending';
CREATE TABLE IF NOT EXISTS refunds (
    id INTEGER PRIMARY KEY,
    refund_key TEXT NOT NULL UNIQUE,
    reference TEXT NOT NULL UNIQUE,
    payment_id INTEGER NOT NULL REFERENCES payments (id),
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
    created_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS refunds_of_payment ON refunds (payment_id);
CREATE TABLE IF NOT EXISTS refund_failures (
    refund_id INTEGER PRIMARY KEY REFERENCES refunds (id),
    reason TEXT NOT NULL,
    happened_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS notices (
    id INTEGER PRIMARY KEY,
    event_id TEXT NOT NULL,
    type TEXT NOT NULL,
    key TEXT NOT NULL,
    reference TEXT NOT NULL,
    due_at REAL,
    attempts INTEGER NOT NULL DEFAULT 0,
    delivered_at REAL
);
CREATE INDEX IF NOT EXISTS notices_due ON notices (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS methods (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    reference TEXT NOT NULL UNIQUE,
    page_token TEXT NOT NULL UNIQUE,
    return_url TEXT NOT NULL,
    customer_reference TEXT NOT NULL,
    gateway_customer TEXT NOT NULL,
    language TEXT NOT NULL,
    state TEXT NOT NULL,
    kind TEXT NOT NULL DEFAULT '',
    title TEXT NOT NULL DEFAULT '',
    expires_on TEXT,
    decline_reason TEXT NOT NULL DEFAULT '',
    choice TEXT,
    behaviour TEXT NOT NULL DEFAULT 'pays',
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS charges (
    payment_id INTEGER PRIMARY KEY REFERENCES payments (id),
    method_id INTEGER NOT NULL REFERENCES methods (id),
    bounces INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS reversals (
    id INTEGER PRIMARY KEY,
    reference TEXT NOT NULL UNIQUE,
    payment_id INTEGER NOT NULL REFERENCES payments (id),
    kind TEXT NOT NULL,
    amount_minor INTEGER NOT NULL CHECK (amount_minor > 0),
    reason TEXT NOT NULL,
    happened_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS reversals_of_payment ON reversals (payment_id);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class DueNotice:
    """A notice to be sent now; `attempts` counts those that failed before."""

    id: int
    event_id: str
    type: str
    key: str
    reference: str
    attempts: int


class Books:
    """What every part of the bank shares: one connection, one lock, one outbox of notices."""

    def __init__(
        self,
        path: str | Path,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        hosted_base: str = "http://localhost:8001",
        salt: str | None = None,
        has_notices: bool = True,
        late_seconds: float = LATE_SECONDS,
        debit_seconds: float = DEBIT_SECONDS,
    ) -> None:
        self.hosted_base = hosted_base.rstrip("/")
        self._clock = clock
        self._has_notices = has_notices
        self._late_seconds = late_seconds
        self._debit_seconds = debit_seconds
        self._lock = threading.RLock()
        self._is_in_batch = False
        self._db = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=10, cached_statements=200
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(_SCHEMA)
        self._salt = self._kept_salt(salt)

    def close(self) -> None:
        """Close the file once no other thread is inside a call."""
        with self._lock:
            self._db.close()

    @contextmanager
    def batch(self) -> Iterator[None]:
        """One transaction around thousands of calls: all of them are kept, or none."""
        with self._transaction():
            if self._is_in_batch:
                raise RuntimeError("a batch inside a batch")
            self._is_in_batch = True
            try:
                yield
            finally:
                self._is_in_batch = False

    def list_due_notices(self, count: int) -> list[DueNotice]:
        """Notices whose time has come, the most overdue first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, event_id, type, key, reference, attempts FROM notices"
                " WHERE due_at <= ? ORDER BY due_at, id LIMIT ?",
                (self._clock().timestamp(), count),
            ).fetchall()
        return [DueNotice(*row) for row in rows]

    def mark_notice(self, notice: DueNotice, *, is_delivered: bool) -> None:
        """Close a delivered notice; plan the next attempt of another, or give it up."""
        now = self._clock().timestamp()
        due_at = None
        if not is_delivered and notice.attempts < len(NOTICE_PAUSES_SECONDS):
            due_at = now + NOTICE_PAUSES_SECONDS[notice.attempts]
        with self._transaction():
            self._db.execute(
                "UPDATE notices SET attempts = attempts + 1, due_at = ?, delivered_at = ?"
                " WHERE id = ?",
                (due_at, now if is_delivered else None, notice.id),
            )

    def count_waiting_notices(self) -> int:
        """How many notices still wait for the portal."""
        with self._lock:
            row = self._db.execute("SELECT count(*) FROM notices WHERE due_at IS NOT NULL")
            return int(row.fetchone()[0])

    # Inside.

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """One write transaction; inside a batch or another transaction it is part of that."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _queue(self, event: str, type_: str, key: str, reference: str, *due: datetime) -> None:
        """Queue one event for the portal, sent as often as there are instants in `due`; it is known
        by the words of `event`."""
        if not self._has_notices:
            return
        event_id = self._reference("evt", event)
        self._db.executemany(
            "INSERT INTO notices (event_id, type, key, reference, due_at) VALUES (?, ?, ?, ?, ?)",
            [(event_id, type_, key, reference, at.timestamp()) for at in due],
        )

    def _reference(self, kind: str, of: str) -> str:
        """An unguessable id that follows from what it names; an empty kind is the page's token."""
        digest = hashlib.blake2b(
            of.encode(), digest_size=16, key=self._salt, person=kind.encode()
        ).hexdigest()
        return f"{kind}_{digest[:24]}" if kind else digest

    def _kept_salt(self, salt: str | None) -> bytes:
        with self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO facts VALUES ('salt', ?)", (salt or secrets.token_hex(16),)
            )
            (kept,) = self._db.execute("SELECT value FROM facts WHERE name = 'salt'").fetchone()
        return hashlib.sha256(str(kept).encode()).digest()
