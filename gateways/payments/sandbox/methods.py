"""Saved methods at the sandbox bank: cards and bank accounts that can be charged later."""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from gateways.payments.base import GatewayState, MethodOrder, MethodTruth, Started
from gateways.payments.errors import GatewayRefused, GatewayUnknownKey
from gateways.payments.sandbox.books import Books

PAGE_MINUTES = 30
MAX_TEXT_LENGTH = 500
# Its origin goes into the page's policy, so nothing but an origin may stand there.
RETURN_URL = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[!-~]*)?")
CARD, BANK = "card", "bank"
ACCOUNT = "Bank account ending 6789"


class Saving(StrEnum):
    """What the customer does on the page where a method is saved."""

    CARD = "card"
    EXPIRING = "expiring"
    CHECKED = "checked"
    DECLINING = "declining"
    BANK = "bank"
    SILENT = "silent"
    REFUSE = "refuse"
    CANCEL = "cancel"


class Behaviour(StrEnum):
    """What a saved method does with charges from now on."""

    PAYS = "pays"
    DECLINES = "declines"
    CONFIRMS = "confirms"
    EXPIRES = "expires"


@dataclass(frozen=True, slots=True)
class SandboxMethod:
    """One saved method as the bank sees it; instants are aware UTC."""

    id: int
    key: str
    reference: str
    page_token: str
    return_url: str
    customer_reference: str
    gateway_customer: str
    language: str
    state: GatewayState
    kind: str
    title: str
    expires_on: date | None
    decline_reason: str
    choice: str | None
    behaviour: Behaviour
    created_at: datetime
    expires_at: datetime

    @property
    def is_open(self) -> bool:
        """True while the customer can still choose."""
        return self.state is GatewayState.PENDING

    @property
    def truth(self) -> MethodTruth:
        """The same, as the gateway interface says it."""
        return MethodTruth(
            reference=self.reference if self.state is GatewayState.SUCCEEDED else None,
            state=self.state,
            kind=self.kind,
            title=self.title,
            expires_on=self.expires_on,
            customer_reference=self.customer_reference,
            gateway_customer=self.gateway_customer,
            decline_reason=self.decline_reason,
        )


class Methods(Books):
    """The part of the bank that keeps methods."""

    def save_method(self, order: MethodOrder) -> Started:
        """The page on which a method is saved; the same order again gives the same page."""
        _check_order(order)
        now = self._clock().timestamp()
        with self._transaction():
            row = self._db.execute("SELECT * FROM methods WHERE key = ?", (order.key,)).fetchone()
            if row is None:
                reference = self._reference("pm", order.key)
                token = self._reference("", f"method\n{order.key}")
                customer = order.gateway_customer or self._reference(
                    "cus", order.customer_reference
                )
                self._db.execute(
                    "INSERT INTO methods (key, reference, page_token, return_url,"
                    " customer_reference, gateway_customer, language, state, created_at,"
                    " expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, 'pending', ?, ?)",
                    (
                        *(order.key, reference, token, order.return_url),
                        *(order.customer_reference, customer, order.language),
                        *(now, now + PAGE_MINUTES * 60),
                    ),
                )
            else:
                known = _method(row)
                if _content(known) != _content(order):
                    raise GatewayRefused("key reused", "This method was already being saved.")
                reference, token = known.reference, known.page_token
        return Started(reference, f"{self.hosted_base}/save/{token}")

    def ask_method(self, key: str) -> MethodTruth:
        """Where the saving stands at this moment. Raises GatewayUnknownKey."""
        return self._get_method("key", key).truth

    def forget_method(self, reference: str) -> None:
        """Nothing is taken from it any more; an unknown one is none already."""
        with self._transaction():
            self._db.execute(
                "UPDATE methods SET state = ? WHERE reference = ? AND state = ?",
                (GatewayState.CANCELLED, reference, GatewayState.SUCCEEDED),
            )

    def choose_method(self, key: str, choice: Saving) -> MethodTruth:
        """Act as the customer would; what is no longer open stays as it is."""
        with self._transaction():
            method = self._get_method("key", key)
            if method.is_open:
                self._save(method, choice)
            return self._get_method("key", key).truth

    def find_method_by_token(self, page_token: str) -> SandboxMethod | None:
        """The method of a hosted page, brought up to date."""
        try:
            return self._get_method("page_token", page_token)
        except GatewayUnknownKey:
            return None

    def find_method(self, reference: str) -> SandboxMethod | None:
        """The method with this reference, also one that was forgotten."""
        try:
            return self._get_method("reference", reference)
        except GatewayUnknownKey:
            return None

    def list_latest_methods(self, count: int) -> list[SandboxMethod]:
        """The latest saved methods, newest first."""
        with self._lock:
            rows = self._db.execute(
                "SELECT * FROM methods WHERE state = ? ORDER BY id DESC LIMIT ?",
                (GatewayState.SUCCEEDED, count),
            ).fetchall()
        return [_method(row) for row in rows]

    def set_behaviour(self, reference: str, behaviour: Behaviour) -> None:
        """Let a saved method behave so from now on, and tell the portal that it has changed.

        Raises GatewayUnknownKey. An expired one ended with last month.
        """
        now = self._clock()
        with self._transaction():
            method = self._get_method("reference", reference)
            expires_on = method.expires_on
            if behaviour is Behaviour.EXPIRES and method.kind == CARD:
                expires_on = now.date().replace(day=1) - timedelta(days=1)
            self._db.execute(
                "UPDATE methods SET behaviour = ?, expires_on = ? WHERE id = ?",
                (behaviour, _iso(expires_on), method.id),
            )
            event = f"{method.key}\n{behaviour}\n{now.timestamp()}"
            self._queue(event, f"method.{behaviour}", method.key, method.reference, now)

    # Inside.

    def _get_method(self, column: str, value: str) -> SandboxMethod:
        """The method, its page expired if its time is over; `column` is never input."""
        with self._lock:
            row = self._db.execute(
                f"SELECT * FROM methods WHERE {column} = ?",  # noqa: S608
                (value,),
            ).fetchone()
            if row is None:
                raise GatewayUnknownKey(value)
            method = _method(row)
            if method.is_open and method.expires_at <= self._clock():
                with self._transaction():
                    self._db.execute(
                        "UPDATE methods SET state = ? WHERE id = ?",
                        (GatewayState.EXPIRED, method.id),
                    )
                return self._get_method(column, value)
            return method

    def _save(self, method: SandboxMethod, choice: Saving) -> None:
        now = self._clock()
        title, kind, behaviour, expires_on = "", "", Behaviour.PAYS, None
        state, reason = GatewayState.SUCCEEDED, ""
        in_three_years = _month_end(now.date(), 36)
        match choice:
            case Saving.CARD | Saving.SILENT:
                title, kind, expires_on = "Visa ending 4242", CARD, in_three_years
            case Saving.EXPIRING:
                title, kind, expires_on = "Mastercard ending 4444", CARD, _month_end(now.date(), 0)
            case Saving.CHECKED:
                title, kind, expires_on = "Visa ending 3184", CARD, in_three_years
                behaviour = Behaviour.CONFIRMS
            case Saving.DECLINING:
                title, kind, expires_on = "Visa ending 0341", CARD, in_three_years
                behaviour = Behaviour.DECLINES
            case Saving.BANK:
                title, kind = ACCOUNT, BANK
            case Saving.REFUSE:
                state, reason = GatewayState.DECLINED, "The bank did not accept the card."
            case Saving.CANCEL:
                state = GatewayState.CANCELLED
        self._db.execute(
            "UPDATE methods SET state = ?, kind = ?, title = ?, expires_on = ?, behaviour = ?,"
            " decline_reason = ?, choice = ? WHERE id = ?",
            (state, kind, title, _iso(expires_on), behaviour, reason, choice, method.id),
        )
        if choice is not Saving.SILENT:
            event = f"{method.key}\nmethod {state}"
            self._queue(event, f"method.{state}", method.key, method.reference, now)


def _month_end(day: date, months: int) -> date:
    """The last day of the month that is so many months after the one of `day`."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, monthrange(year, month + 1)[1])


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _method(row: tuple[Any, ...]) -> SandboxMethod:
    values = list(row)
    values[8] = GatewayState(row[8])
    values[11] = None if row[11] is None else date.fromisoformat(row[11])
    values[14] = Behaviour(row[14])
    values[15:17] = [datetime.fromtimestamp(seconds, UTC) for seconds in row[15:17]]
    return SandboxMethod(*values)


def _content(order: MethodOrder | SandboxMethod) -> tuple[object, ...]:
    return (order.return_url, order.customer_reference, order.language)


def _check_order(order: MethodOrder) -> None:
    """Refuse what no bank would take; the text is for the customer, the cause is ours to mend."""
    is_good = (
        re.fullmatch(r"[!-~]{1,200}", order.key, re.ASCII)
        and RETURN_URL.fullmatch(order.return_url)
        and len(order.customer_reference) <= MAX_TEXT_LENGTH
        and len(order.gateway_customer or "") <= MAX_TEXT_LENGTH
        and len(order.return_url) <= 2_000
        and len(order.language) <= 20
    )
    if not is_good:
        raise GatewayRefused("bad request", "The method could not be saved.")
