"""What the sandbox bank knows, in an SQLite file of its own; usable without HTTP.

The file belongs to one process at a time (the server, or whatever builds a demo's history); inside
it any number of threads may share a store.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from gateways.payments.base import (
    ChargeOrder,
    GatewayState,
    RefundTruth,
    ReversalTruth,
    Started,
    StartOrder,
    Truth,
)
from gateways.payments.errors import GatewayRefused, GatewayUnknownKey
from gateways.payments.sandbox.methods import (
    ACCOUNT,
    BANK,
    MAX_TEXT_LENGTH,
    PAGE_MINUTES,
    RETURN_URL,
    Behaviour,
    Methods,
    SandboxMethod,
)

MAX_AMOUNT_MINOR = 10_000_000_000
# Nobody waits at the page of a charge: its customer hears of it and comes when they can.
CONFIRM_HOURS = 24

_CARD = "Card ending 4242"
_CHECKED_CARD = "Card ending 3184"
_DECLINED_CARD = "Card ending 0002"
DECLINED = "The bank declined the card: not enough money in the account."
EXPIRED = "The card has expired."
REFUND_SENT_BACK = "The customer's bank sent the refund back."


# A payment with the method that it was taken from, if it was.
_PAYMENTS = (
    "SELECT p.*, c.method_id, coalesce(c.bounces, 0) FROM payments p"
    " LEFT JOIN charges c ON c.payment_id = p.id"
)
_WITH_SUMS = (
    "SELECT p.*, c.method_id, coalesce(c.bounces, 0), (SELECT coalesce(sum(r.amount_minor), 0)"
    " FROM refunds r WHERE r.payment_id = p.id"
    " AND r.id NOT IN (SELECT refund_id FROM refund_failures)), (SELECT coalesce(sum(CASE r.kind"
    " WHEN 'chargeback_won' THEN -r.amount_minor ELSE r.amount_minor END), 0) FROM reversals r"
    " WHERE r.payment_id = p.id) FROM payments p LEFT JOIN charges c ON c.payment_id = p.id"
)
_CHANGED_SINCE = (
    "(p.created_at >= ?2 OR p.ended_at >= ?2"
    " OR p.id IN (SELECT payment_id FROM refunds WHERE created_at >= ?2)"
    " OR p.id IN (SELECT r.payment_id FROM refunds r JOIN refund_failures f ON f.refund_id = r.id"
    " WHERE f.happened_at >= ?2)"
    " OR p.id IN (SELECT payment_id FROM reversals WHERE happened_at >= ?2))"
)
_REFUNDS = (
    "SELECT r.reference, r.amount_minor, f.reason FROM refunds r"
    " LEFT JOIN refund_failures f ON f.refund_id = r.id WHERE r.payment_id = ?1"
)


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


class Reversing(StrEnum):
    """What the bank does with a payment long after it was made."""

    CHARGEBACK = "chargeback"
    CHARGEBACK_WON = "chargeback_won"
    RETURN = "return"
    REFUND_FAILED = "refund_failed"


_REASONS = {
    Reversing.CHARGEBACK: "The customer does not recognise this payment.",
    Reversing.CHARGEBACK_WON: "The card's bank decided for the merchant.",
    Reversing.RETURN: "The account holder's bank returned the debit.",
    Reversing.REFUND_FAILED: REFUND_SENT_BACK,
}
_OF_A_CHARGE = (Decision.CONFIRM, Decision.CONFIRM_FAILED, Decision.CANCEL)


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
    method_id: int | None
    bounces: bool
    confirm_url: str

    @property
    def is_charge(self) -> bool:
        """True when it was taken from a saved method."""
        return self.method_id is not None

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
            hosted_url=self.confirm_url if self.is_charge and self.is_open else "",
        )


@dataclass(frozen=True, slots=True)
class Booked:
    """A payment with what was given back of it, and what its bank took back on balance."""

    payment: SandboxPayment
    refunded_minor: int
    reversed_minor: int


class SandboxStore(Methods):
    """The bank's books. `clock` gives aware UTC; `hosted_base` is the origin of the hosted pages.

    References follow from the payment's key and `salt`, so that a demo built twice is the same; a
    store without a salt makes one and keeps it. With `has_notices` false nothing is queued for a
    portal, as suits a history that nobody waits for.
    """

    # What the portal asks for.

    def start(self, order: StartOrder) -> Started:
        """The hosted page of this order; the same order again gives the same page."""
        _check_order(order)
        now = self._clock()
        with self._transaction():
            row = self._find(order.key)
            if row is None:
                self._insert(order, now + timedelta(minutes=PAGE_MINUTES))
                known = self._get(order.key)
            else:
                known = self._payment(row)
                if known.is_charge or _content(known) != _content(order):
                    raise GatewayRefused("key reused", "This payment was already started.")
        return Started(known.reference, f"{self.hosted_base}/pay/{known.page_token}")

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

    def charge(self, order: ChargeOrder) -> Truth:
        """Take from a saved method; the same order again says where it stands."""
        _check_order(order)
        now = self._clock()
        with self._transaction():
            method = self.find_method(order.method_reference)
            row = self._find(order.key)
            if row is not None:
                known = self._payment(row)
                if (
                    method is None
                    or known.method_id != method.id
                    or _content(known) != _content(order)
                ):
                    raise GatewayRefused("key reused", "This payment was already started.")
                return self._get_current(order.key).truth
            if (
                method is None
                or method.state is not GatewayState.SUCCEEDED
                or method.customer_reference != order.customer_reference
                or order.gateway_customer not in (None, method.gateway_customer)
            ):
                raise GatewayRefused("no method", "This payment method is no longer there.")
            self._insert(order, now + timedelta(hours=CONFIRM_HOURS))
            payment = self._get(order.key)
            self._db.execute(
                "INSERT INTO charges (payment_id, method_id) VALUES (?, ?)",
                (payment.id, method.id),
            )
            self._take(payment, method)
            return self._get(order.key).truth

    def refund(self, key: str, refund_key: str, amount_minor: int) -> RefundTruth:
        """Give money back; repeating it with the same refund key changes nothing."""
        _check_key(refund_key)
        with self._transaction():
            payment = self._get_current(key)
            known = self._db.execute(
                "SELECT payment_id, amount_minor FROM refunds WHERE refund_key = ?", (refund_key,)
            ).fetchone()
            if known is not None and known != (payment.id, amount_minor):
                raise GatewayRefused("key reused", "This refund was already made differently.")
            if known is None:
                self._add_refund(payment, refund_key, amount_minor)
            return self.ask_refund(key, refund_key)

    def ask_refund(self, key: str, refund_key: str) -> RefundTruth:
        """Where this refund stands. Raises GatewayUnknownKey."""
        payment = self._get(key)
        with self._lock:
            row = self._db.execute(
                f"{_REFUNDS} AND r.refund_key = ?2", (payment.id, refund_key)
            ).fetchone()
        if row is None:
            raise GatewayUnknownKey(refund_key)
        return _refund_truth(payment, *row)

    def list_refunds(self, key: str) -> list[RefundTruth]:
        """Every refund of the payment. Raises GatewayUnknownKey."""
        payment = self._get(key)
        with self._lock:
            rows = self._db.execute(f"{_REFUNDS} ORDER BY r.id", (payment.id,)).fetchall()
        return [_refund_truth(payment, *row) for row in rows]

    def list_reversals(self, key: str) -> list[ReversalTruth]:
        """What the bank has moved of it without the portal. Raises GatewayUnknownKey."""
        payment = self._get(key)
        with self._lock:
            rows = self._db.execute(
                "SELECT reference, kind, amount_minor, reason, happened_at FROM reversals"
                " WHERE payment_id = ? ORDER BY id",
                (payment.id,),
            ).fetchall()
        return [
            ReversalTruth(
                reference=reference,
                kind=kind,
                amount_minor=amount_minor,
                currency=payment.currency,
                state=GatewayState.SUCCEEDED,
                reason=reason,
                happened_at=datetime.fromtimestamp(happened_at, UTC),
            )
            for reference, kind, amount_minor, reason, happened_at in rows
        ]

    # What its bank does later.

    def reverse(self, key: str, reversing: Reversing) -> None:
        """Charge a payment back, let the portal win that, return a debit, or send back the latest
        refund that has arrived.

        Raises GatewayRefused where that is not its turn, GatewayUnknownKey.
        """
        now = self._clock()
        with self._transaction():
            payment = self._get_current(key)
            if reversing is Reversing.REFUND_FAILED:
                self._send_refund_back(payment, now)
                return
            done = self._db.execute(
                "SELECT kind, amount_minor FROM reversals WHERE payment_id = ? ORDER BY id",
                (payment.id,),
            ).fetchall()
            amount_minor = self._left_minor(payment)
            is_back = bool(done) and done[-1][0] != Reversing.CHARGEBACK_WON
            is_debit = payment.method == ACCOUNT
            if reversing is Reversing.CHARGEBACK_WON:
                is_turn = bool(done) and done[-1][0] == Reversing.CHARGEBACK
                amount_minor = done[-1][1] if is_turn else 0
            else:
                is_turn = not is_back and (reversing is Reversing.RETURN) == is_debit
            is_turn = is_turn and payment.state is GatewayState.SUCCEEDED and amount_minor > 0
            if not is_turn:
                raise GatewayRefused("bad request", "That cannot happen to this payment now.")
            reference = self._reference("rev", f"{key}\n{len(done)}")
            self._db.execute(
                "INSERT INTO reversals (reference, payment_id, kind, amount_minor, reason,"
                " happened_at) VALUES (?, ?, ?, ?, ?, ?)",
                (
                    *(reference, payment.id, reversing, amount_minor),
                    *(_REASONS[reversing], now.timestamp()),
                ),
            )
            self._queue(reference, f"payment.{reversing}", key, payment.reference, now)

    def _send_refund_back(self, payment: SandboxPayment, now: datetime) -> None:
        row = self._db.execute(
            "SELECT id, reference FROM refunds WHERE payment_id = ?"
            " AND id NOT IN (SELECT refund_id FROM refund_failures) ORDER BY id DESC LIMIT 1",
            (payment.id,),
        ).fetchone()
        if row is None:
            raise GatewayRefused("bad request", "That cannot happen to this payment now.")
        refund_id, reference = row
        kind = Reversing.REFUND_FAILED
        self._db.execute(
            "INSERT INTO refund_failures (refund_id, reason, happened_at) VALUES (?, ?, ?)",
            (refund_id, _REASONS[kind], now.timestamp()),
        )
        event = f"{reference}\nfailed"
        self._queue(event, f"payment.{kind}", payment.key, payment.reference, now)

    # What the customer does on the hosted page.

    def decide(self, key: str, decision: Decision) -> Truth:
        """Act as the customer would; a payment that is no longer open stays as it is."""
        with self._transaction():
            payment = self._get_current(key)
            if not payment.is_open or (payment.is_charge and decision not in _OF_A_CHARGE):
                return payment.truth
            self._db.execute(
                "UPDATE payments SET decision = ? WHERE id = ?", (decision, payment.id)
            )
            self._act(payment, decision)
            return self._get(key).truth

    def find_by_token(self, page_token: str) -> SandboxPayment | None:
        """The payment of a hosted page, brought up to date."""
        with self._lock:
            row = self._db.execute(f"{_PAYMENTS} WHERE page_token = ?", (page_token,)).fetchone()
            return None if row is None else self._get_current(self._payment(row).key)

    # What the server and the developer look at.

    def list_latest(self, count: int) -> list[SandboxPayment]:
        """The latest payments, newest first."""
        with self._lock:
            rows = self._db.execute(f"{_PAYMENTS} ORDER BY p.id DESC LIMIT ?", (count,)).fetchall()
        return [self._payment(row) for row in rows]

    def list_after(self, payment_id: int, count: int) -> list[Booked]:
        """Payments after a row id, oldest first."""
        with self._lock:
            rows = self._db.execute(
                f"{_WITH_SUMS} WHERE p.id > ? ORDER BY p.id LIMIT ?", (payment_id, count)
            ).fetchall()
        return [Booked(self._payment(row[:-2]), *row[-2:]) for row in rows]

    def list_since(self, since: datetime, after_id: int, count: int) -> list[Booked]:
        """Payments begun, ended, refunded or reversed at or after `since`, in order of their row
        ids and after one."""
        with self._lock:
            rows = self._db.execute(
                f"{_WITH_SUMS} WHERE p.id > ?1 AND {_CHANGED_SINCE} ORDER BY p.id LIMIT ?3",
                (after_id, since.timestamp(), count),
            ).fetchall()
            return [
                Booked(self._get_current(self._payment(row[:-2]).key), *row[-2:]) for row in rows
            ]

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

    # Inside.

    def _find(self, key: str) -> tuple[object, ...] | None:
        row: tuple[object, ...] | None = self._db.execute(
            f"{_PAYMENTS} WHERE p.key = ?", (key,)
        ).fetchone()
        return row

    def _get(self, key: str) -> SandboxPayment:
        with self._lock:
            row = self._find(key)
        if row is None:
            raise GatewayUnknownKey(key)
        return self._payment(row)

    def _payment(self, row: tuple[Any, ...]) -> SandboxPayment:
        values = list(row)
        values[10] = GatewayState(str(row[10]))
        values[15:19] = [_instant(value) for value in row[15:19]]
        values[20] = bool(row[20])
        values.append(f"{self.hosted_base}/pay/{row[3]}/confirm")
        return SandboxPayment(*values)

    def _insert(self, order: StartOrder | ChargeOrder, expires_at: datetime) -> None:
        self._db.execute(
            "INSERT INTO payments (key, reference, page_token, amount_minor, currency,"
            " description, return_url, customer_reference, language, state, created_at,"
            " expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?)",
            (
                *(order.key, self._reference("pay", order.key), self._reference("", order.key)),
                *(order.amount_minor, order.currency, order.description, order.return_url),
                *(order.customer_reference, order.language),
                *(self._clock().timestamp(), expires_at.timestamp()),
            ),
        )

    def _take(self, payment: SandboxPayment, method: SandboxMethod) -> None:
        """Let a charge have its way, as its method behaves."""
        now = self._clock()
        is_expired = method.expires_on is not None and method.expires_on < now.date()
        refuses = is_expired or method.behaviour in (Behaviour.DECLINES, Behaviour.EXPIRES)
        if method.kind == BANK:
            self._db.execute(
                "UPDATE charges SET bounces = ? WHERE payment_id = ?", (refuses, payment.id)
            )
            state = GatewayState.PROCESSING
            self._plan(payment, state, method.title, now, self._debit_seconds)
        elif refuses:
            reason = EXPIRED if is_expired else DECLINED
            self._end(payment, GatewayState.DECLINED, now, method.title, reason)
        elif method.behaviour is Behaviour.CONFIRMS:
            self._db.execute(
                "UPDATE payments SET method = ? WHERE id = ?", (method.title, payment.id)
            )
        else:
            self._end(payment, GatewayState.SUCCEEDED, now, method.title)

    def _left_minor(self, payment: SandboxPayment) -> int:
        """What can still be given or taken back of a payment."""
        booked = self.list_after(payment.id - 1, 1)[0]
        return payment.amount_minor - booked.refunded_minor - booked.reversed_minor

    def _get_current(self, key: str) -> SandboxPayment:
        """The payment after whatever was due to happen to it by now."""
        payment = self._get(key)
        now = self._clock()
        if not _is_due(payment, now):
            return payment
        with self._transaction():
            payment = self._get(key)
            if payment.settles_at is not None and payment.settles_at <= now:
                if payment.bounces:
                    self._end(
                        payment,
                        GatewayState.DECLINED,
                        payment.settles_at,
                        decline_reason="The bank could not take the money from the account.",
                    )
                else:
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
                method = payment.method or _CHECKED_CARD
                self._end(payment, GatewayState.SUCCEEDED, now, method)
            case Decision.TWICE:
                self._end(payment, GatewayState.SUCCEEDED, now, method=_CARD)
            case Decision.DECLINE:
                self._end(payment, GatewayState.DECLINED, now, _DECLINED_CARD, DECLINED)
            case Decision.CONFIRM_FAILED:
                reason = "The bank could not confirm that it was you."
                method = payment.method or _CHECKED_CARD
                self._end(payment, GatewayState.DECLINED, now, method, reason)
            case Decision.CANCEL:
                self._end(payment, GatewayState.CANCELLED, now)
            case Decision.LATE:
                self._plan(payment, GatewayState.PENDING, _CARD, now, self._late_seconds)
            case Decision.DEBIT:
                self._plan(payment, GatewayState.PROCESSING, ACCOUNT, now, self._debit_seconds)

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
            self._tell(payment, state, now)

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
        is_debit = method == ACCOUNT
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
            self._tell(payment, state, ended_at, later)
            self._tell(payment, GatewayState.PROCESSING, ended_at)
        else:
            self._tell(payment, state, ended_at)

    def _tell(self, payment: SandboxPayment, state: GatewayState, *due: datetime) -> None:
        event = f"{payment.key}\n{state}"
        self._queue(event, f"payment.{state}", payment.key, payment.reference, *due)

    def _add_refund(self, payment: SandboxPayment, refund_key: str, amount_minor: int) -> None:
        if payment.state is not GatewayState.SUCCEEDED:
            raise GatewayRefused("not paid", "This payment was not completed.")
        if not 0 < amount_minor <= self._left_minor(payment):
            raise GatewayRefused("too much", "This is more than is left of the payment.")
        reference = self._reference("ref", refund_key)
        self._db.execute(
            "INSERT INTO refunds (refund_key, reference, payment_id, amount_minor, created_at)"
            " VALUES (?, ?, ?, ?, ?)",
            (refund_key, reference, payment.id, amount_minor, self._clock().timestamp()),
        )


def _refund_truth(
    payment: SandboxPayment, reference: str, amount_minor: int, failure: str | None
) -> RefundTruth:
    state = GatewayState.SUCCEEDED if failure is None else GatewayState.DECLINED
    return RefundTruth(reference, state, amount_minor, payment.currency, failure or "")


def _is_due(payment: SandboxPayment, now: datetime) -> bool:
    if payment.settles_at is not None:
        return payment.settles_at <= now
    return payment.is_open and payment.expires_at <= now


def _fee(amount_minor: int, is_debit: bool) -> int:
    """What the bank keeps: 1.5 % and 25 for a card, a flat 35 for a debit, never all of it."""
    return min(35 if is_debit else amount_minor * 15 // 1000 + 25, amount_minor)


def _content(order: StartOrder | ChargeOrder | SandboxPayment) -> tuple[object, ...]:
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


def _check_order(order: StartOrder | ChargeOrder) -> None:
    """Refuse what no bank would take; the text is for the customer, the cause is ours to mend."""
    _check_key(order.key)
    is_good = (
        0 < order.amount_minor <= MAX_AMOUNT_MINOR
        and re.fullmatch(r"[A-Z]{3}", order.currency, re.ASCII)
        and RETURN_URL.fullmatch(order.return_url)
        and max(len(order.description), len(order.customer_reference)) <= MAX_TEXT_LENGTH
        and len(order.return_url) <= 2_000
        and len(order.language) <= 20
    )
    if not is_good:
        raise GatewayRefused("bad request", "The payment could not be started.")


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
