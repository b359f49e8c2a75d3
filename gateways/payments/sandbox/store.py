"""What the sandbox bank knows, in an SQLite file of its own; usable without HTTP.

The file belongs to one process at a time (the server, or whatever builds a demo's history); inside
it any number of threads may share a store.
"""

import hashlib
import re
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from gateways.payments.base import GatewayState, RefundTruth, Started, StartOrder, Truth
from gateways.payments.errors import GatewayRefused, GatewayUnknownKey

PAGE_MINUTES = 30
LATE_SECONDS = 20
DEBIT_SECONDS = 8
MAX_AMOUNT_MINOR = 10_000_000_000
MAX_TEXT_LENGTH = 500
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
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
"""

# Its origin goes into the page's policy, so nothing but an origin may stand there.
_RETURN_URL = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[!-~]*)?")
_CARD = "Card ending 4242"
_CHECKED_CARD = "Card ending 3184"
_DECLINED_CARD = "Card ending 0002"
_ACCOUNT = "Bank account ending 6789"


class Decision(StrEnum):
    """What the customer does on the hosted page."""

    PAY = "pay"
    DECLINE = "decline"
    CONFIRM = "confirm"
    CONFIRM_FAILED = "confirm-failed"
    LATE = "late"
    TWICE = "twice"
    DEBIT = "debit"
    SILENT = "silent"
    CANCEL = "cancel"


@dataclass(frozen=True, slots=True)
class SandboxPayment:
    """One payment as the bank sees it; instants are aware UTC."""

    id: int
    key: str
    reference: str
    page_token: str
    amount_minor: int
    currency: str
    description: str
    return_url: str
    customer_reference: str
    language: str
    state: GatewayState
    method: str
    decline_reason: str
    fee_minor: int | None
    decision: str | None
    created_at: datetime
    expires_at: datetime
    settles_at: datetime | None
    ended_at: datetime | None

    @property
    def is_open(self) -> bool:
        """True while the customer can still choose."""
        return self.state is GatewayState.PENDING and self.decision is None

    @property
    def changed_at(self) -> datetime:
        """When it took the state it has, as far as is known."""
        return self.ended_at or self.created_at

    @property
    def truth(self) -> Truth:
        """The same, as the gateway interface says it."""
        return Truth(
            reference=self.reference,
            state=self.state,
            amount_minor=self.amount_minor,
            currency=self.currency,
            customer_reference=self.customer_reference,
            method=self.method,
            decline_reason=self.decline_reason,
            gateway_fee_minor=self.fee_minor,
        )


@dataclass(frozen=True, slots=True)
class DueNotice:
    """A notice to be sent now; `attempts` counts those that failed before."""

    id: int
    event_id: str
    type: str
    key: str
    reference: str
    attempts: int


class SandboxStore:
    """The bank's books. `clock` gives aware UTC; `hosted_base` is the origin of the hosted pages.

    References follow from the payment's key and `salt`, so that a demo built twice is the same; a
    store without a salt makes one and keeps it. With `has_notices` false nothing is queued for a
    portal, as suits a history that nobody waits for.
    """

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

    # What the portal asks for.

    def start(self, order: StartOrder) -> Started:
        """The hosted page of this order; the same order again gives the same page."""
        _check_order(order)
        now = self._clock().timestamp()
        with self._transaction():
            row = self._find(order.key)
            if row is None:
                reference, token = self._reference("pay", order.key), self._reference("", order.key)
                self._db.execute(
                    "INSERT INTO payments (key, reference, page_token, amount_minor, currency,"
                    " description, return_url, customer_reference, language, state, created_at,"
                    " expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?)",
                    (
                        *(order.key, reference, token, order.amount_minor, order.currency),
                        *(order.description, order.return_url, order.customer_reference),
                        *(order.language, now, now + PAGE_MINUTES * 60),
                    ),
                )
            else:
                known = _payment(row)
                if _content(known) != _content(order):
                    raise GatewayRefused("key reused", "This payment was already started.")
                reference, token = known.reference, known.page_token
        return Started(reference, f"{self.hosted_base}/pay/{token}")

    def ask(self, key: str) -> Truth:
        """Where the payment stands at this moment. Raises GatewayUnknownKey."""
        return self._get_current(key).truth

    def cancel(self, key: str) -> Truth:
        """Cancel an open payment and return where it stands then.

        A late success counts as paid here: its money has moved and only the word of it is late. A
        bank debit under way cannot be stopped.
        """
        with self._transaction():
            payment = self._get_current(key)
            if payment.is_open:
                self._end(payment, GatewayState.CANCELLED, self._clock())
            elif payment.state is GatewayState.PENDING:
                self._end(payment, GatewayState.SUCCEEDED, self._clock())
            return self._get_current(key).truth

    def refund(self, key: str, refund_key: str, amount_minor: int) -> RefundTruth:
        """Give money back; repeating it with the same refund key changes nothing."""
        _check_key(refund_key)
        with self._transaction():
            payment = self._get_current(key)
            known = self._db.execute(
                "SELECT reference, payment_id, amount_minor FROM refunds WHERE refund_key = ?",
                (refund_key,),
            ).fetchone()
            if known is not None and known[1:] != (payment.id, amount_minor):
                raise GatewayRefused("key reused", "This refund was already made differently.")
            reference = known[0] if known else self._new_refund(payment, refund_key, amount_minor)
        return RefundTruth(reference, GatewayState.SUCCEEDED, amount_minor, payment.currency)

    # What the customer does on the hosted page.

    def decide(self, key: str, decision: Decision) -> Truth:
        """Act as the customer would; a payment that is no longer open stays as it is."""
        with self._transaction():
            payment = self._get_current(key)
            if not payment.is_open:
                return payment.truth
            self._db.execute(
                "UPDATE payments SET decision = ? WHERE id = ?", (decision, payment.id)
            )
            self._act(payment, decision)
            return self._get(key).truth

    def find_by_token(self, page_token: str) -> SandboxPayment | None:
        """The payment of a hosted page, brought up to date."""
        with self._lock:
            row = self._db.execute(
                "SELECT * FROM payments WHERE page_token = ?", (page_token,)
            ).fetchone()
            return None if row is None else self._get_current(_payment(row).key)

    # What the server and the developer look at.

    def list_latest(self, count: int) -> list[SandboxPayment]:
        """The latest payments, newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT * FROM payments ORDER BY id DESC LIMIT ?", (count,)
            ).fetchall()
        return [_payment(row) for row in rows]

    def list_after(self, payment_id: int, count: int) -> list[tuple[SandboxPayment, int]]:
        """Payments after a row id, oldest first, each with what was refunded of it."""
        with self._lock:
            rows = self._db.execute(
                "SELECT p.*, (SELECT coalesce(sum(r.amount_minor), 0) FROM refunds r"
                " WHERE r.payment_id = p.id) FROM payments p WHERE p.id > ? ORDER BY p.id LIMIT ?",
                (payment_id, count),
            ).fetchall()
        return [(_payment(row[:-1]), row[-1]) for row in rows]

    def list_since(
        self, since: datetime, after_id: int, count: int
    ) -> list[tuple[SandboxPayment, int]]:
        """Payments begun or ended at or after `since`, in order of their row ids and after one,
        each with what was refunded of it."""
        with self._lock:
            rows = self._db.execute(
                "SELECT p.*, (SELECT coalesce(sum(r.amount_minor), 0) FROM refunds r"
                " WHERE r.payment_id = p.id) FROM payments p WHERE p.id > ?1"
                " AND (p.created_at >= ?2 OR p.ended_at >= ?2) ORDER BY p.id LIMIT ?3",
                (after_id, since.timestamp(), count),
            ).fetchall()
            return [(self._get_current(_payment(row[:-1]).key), row[-1]) for row in rows]

    def settle_due(self) -> int:
        """Finish what has come due (late answers, debits, expiry); the number of payments."""
        with self._lock:
            keys = self._db.execute(
                "SELECT key FROM payments WHERE settles_at <= ?1 UNION SELECT key FROM payments"
                " WHERE state = 'pending' AND decision IS NULL AND expires_at <= ?1 LIMIT 500",
                (self._clock().timestamp(),),
            ).fetchall()
            for (key,) in keys:
                self._get_current(key)
        return len(keys)

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

    def _find(self, key: str) -> tuple[object, ...] | None:
        row: tuple[object, ...] | None = self._db.execute(
            "SELECT * FROM payments WHERE key = ?", (key,)
        ).fetchone()
        return row

    def _get(self, key: str) -> SandboxPayment:
        with self._lock:
            row = self._find(key)
        if row is None:
            raise GatewayUnknownKey(key)
        return _payment(row)

    def _get_current(self, key: str) -> SandboxPayment:
        """The payment after whatever was due to happen to it by now."""
        payment = self._get(key)
        now = self._clock()
        if not _is_due(payment, now):
            return payment
        with self._transaction():
            payment = self._get(key)
            if payment.settles_at is not None and payment.settles_at <= now:
                self._end(payment, GatewayState.SUCCEEDED, payment.settles_at)
            elif _is_due(payment, now):
                self._end(payment, GatewayState.EXPIRED, payment.expires_at)
            return self._get(key)

    def _act(self, payment: SandboxPayment, decision: Decision) -> None:
        now = self._clock()
        match decision:
            case Decision.PAY | Decision.SILENT:
                self._end(payment, GatewayState.SUCCEEDED, now, method=_CARD)
            case Decision.CONFIRM:
                self._end(payment, GatewayState.SUCCEEDED, now, method=_CHECKED_CARD)
            case Decision.TWICE:
                self._end(payment, GatewayState.SUCCEEDED, now, method=_CARD)
            case Decision.DECLINE:
                reason = "The bank declined the card: not enough money in the account."
                self._end(payment, GatewayState.DECLINED, now, _DECLINED_CARD, reason)
            case Decision.CONFIRM_FAILED:
                reason = "The bank could not confirm that it was you."
                self._end(payment, GatewayState.DECLINED, now, _CHECKED_CARD, reason)
            case Decision.CANCEL:
                self._end(payment, GatewayState.CANCELLED, now)
            case Decision.LATE:
                self._plan(payment, GatewayState.PENDING, _CARD, now, self._late_seconds)
            case Decision.DEBIT:
                self._plan(payment, GatewayState.PROCESSING, _ACCOUNT, now, self._debit_seconds)

    def _plan(
        self,
        payment: SandboxPayment,
        state: GatewayState,
        method: str,
        now: datetime,
        seconds: float,
    ) -> None:
        """Chosen, but known only `seconds` from now."""
        self._db.execute(
            "UPDATE payments SET state = ?, method = ?, settles_at = ? WHERE id = ?",
            (state, method, (now + timedelta(seconds=seconds)).timestamp(), payment.id),
        )
        if state is GatewayState.PROCESSING:
            self._queue(payment, state, [now])

    def _end(
        self,
        payment: SandboxPayment,
        state: GatewayState,
        ended_at: datetime,
        method: str | None = None,
        decline_reason: str = "",
    ) -> None:
        decision = self._db.execute(
            "SELECT decision FROM payments WHERE id = ?", (payment.id,)
        ).fetchone()[0]
        method = payment.method if method is None else method
        is_debit = method == _ACCOUNT
        fee = _fee(payment.amount_minor, is_debit) if state is GatewayState.SUCCEEDED else None
        self._db.execute(
            "UPDATE payments SET state = ?, method = ?, decline_reason = ?, fee_minor = ?,"
            " ended_at = ?, settles_at = NULL WHERE id = ?",
            (state, method, decline_reason, fee, ended_at.timestamp(), payment.id),
        )
        if decision == Decision.SILENT:
            return
        if decision == Decision.TWICE:
            # The later event first, the earlier one after it, then the later one once more.
            later = ended_at + timedelta(seconds=1)
            self._queue(payment, state, [ended_at, later])
            self._queue(payment, GatewayState.PROCESSING, [ended_at])
        else:
            self._queue(payment, state, [ended_at])

    def _queue(self, payment: SandboxPayment, state: GatewayState, due: list[datetime]) -> None:
        """Queue one event for the portal, sent as often as there are instants in `due`."""
        if not self._has_notices:
            return
        event_id = self._reference("evt", f"{payment.key}\n{state}")
        self._db.executemany(
            "INSERT INTO notices (event_id, type, key, reference, due_at) VALUES (?, ?, ?, ?, ?)",
            [
                (event_id, f"payment.{state}", payment.key, payment.reference, at.timestamp())
                for at in due
            ],
        )

    def _new_refund(self, payment: SandboxPayment, refund_key: str, amount_minor: int) -> str:
        (refunded_minor,) = self._db.execute(
            "SELECT coalesce(sum(amount_minor), 0) FROM refunds WHERE payment_id = ?", (payment.id,)
        ).fetchone()
        if payment.state is not GatewayState.SUCCEEDED:
            raise GatewayRefused("not paid", "This payment was not completed.")
        if not 0 < amount_minor <= payment.amount_minor - refunded_minor:
            raise GatewayRefused("too much", "This is more than is left of the payment.")
        reference = self._reference("ref", refund_key)
        self._db.execute(
            "INSERT INTO refunds (refund_key, reference, payment_id, amount_minor, created_at)"
            " VALUES (?, ?, ?, ?, ?)",
            (refund_key, reference, payment.id, amount_minor, self._clock().timestamp()),
        )
        return reference

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


def _is_due(payment: SandboxPayment, now: datetime) -> bool:
    if payment.settles_at is not None:
        return payment.settles_at <= now
    return payment.is_open and payment.expires_at <= now


def _fee(amount_minor: int, is_debit: bool) -> int:
    """What the bank keeps: 1.5 % and 25 for a card, a flat 35 for a debit, never all of it."""
    return min(35 if is_debit else amount_minor * 15 // 1000 + 25, amount_minor)


def _content(order: StartOrder | SandboxPayment) -> tuple[object, ...]:
    return (
        order.amount_minor,
        order.currency,
        order.description,
        order.return_url,
        order.customer_reference,
        order.language,
    )


def _check_key(key: str) -> None:
    if not re.fullmatch(r"[!-~]{1,200}", key, re.ASCII):
        raise GatewayRefused("bad request", "The payment could not be started.")


def _check_order(order: StartOrder) -> None:
    """Refuse what no bank would take; the text is for the customer, the cause is ours to mend."""
    _check_key(order.key)
    is_good = (
        0 < order.amount_minor <= MAX_AMOUNT_MINOR
        and re.fullmatch(r"[A-Z]{3}", order.currency, re.ASCII)
        and _RETURN_URL.fullmatch(order.return_url)
        and max(len(order.description), len(order.customer_reference)) <= MAX_TEXT_LENGTH
        and len(order.return_url) <= 2_000
        and len(order.language) <= 20
    )
    if not is_good:
        raise GatewayRefused("bad request", "The payment could not be started.")


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _payment(row: tuple[Any, ...]) -> SandboxPayment:
    values = list(row)
    values[10] = GatewayState(str(row[10]))
    values[15:19] = [_instant(value) for value in row[15:19]]
    return SandboxPayment(*values)
