"""The sandbox as the portal sees it: over HTTP, or in process for building a demo's history."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from urllib.parse import quote

from gateways.outbound import (
    AllowedOrigin,
    OutboundAnswer,
    OutboundClient,
    OutboundError,
    OutboundForbidden,
    OutboundUnreachable,
)
from gateways.payments.base import (
    ChargeOrder,
    GatewayState,
    Listed,
    MethodOrder,
    MethodTruth,
    Notice,
    PaymentGateway,
    RefundTruth,
    ReversalTruth,
    Started,
    StartOrder,
    Truth,
)
from gateways.payments.errors import (
    GatewayRefused,
    GatewayTimeout,
    GatewayUnknownKey,
    NoticeRejected,
)
from gateways.payments.sandbox.notices import SIGNATURE_HEADER
from gateways.payments.sandbox.secrets import SandboxSecrets
from gateways.payments.sandbox.store import SandboxStore
from gateways.payments.signatures import check_signature

# Only an answer that says one of these is a definite no. Any other failure leaves it open what
# happened, a 409 for a call under way and an answer from something in between among them.
_REFUSALS = frozenset({"bad request", "key reused", "no method", "not paid", "too much"})
_PAGE = 100


class SandboxGateway(PaymentGateway):
    """The sandbox server at `base_url`, such as "http://localhost:8001"; safe to share."""

    name = "sandbox"
    title = "Sandbox Bank"
    garden = ("localhost",)

    def __init__(
        self,
        base_url: str,
        secrets: SandboxSecrets,
        *,
        outbound: OutboundClient | None = None,
    ) -> None:
        self.origin = base_url.rstrip("/")
        self._secrets = secrets
        self._outbound = outbound or OutboundClient(
            [AllowedOrigin.from_url(self.origin, is_loopback_demo=True)]
        )

    def start(self, order: StartOrder) -> Started:
        """See PaymentGateway."""
        fields = {
            "amount_minor": order.amount_minor,
            "currency": order.currency,
            "description": order.description,
            "return_url": order.return_url,
            "customer_reference": order.customer_reference,
            "language": order.language,
        }
        answer = self._call("POST", "/v1/payments", order.key, fields, idempotency_key=order.key)
        return self._started(answer)

    def ask(self, key: str) -> Truth:
        """See PaymentGateway."""
        return _truth(self._call("GET", f"/v1/payments?key={quote(key, safe='')}", key))

    def cancel(self, key: str) -> Truth:
        """See PaymentGateway."""
        return _truth(self._call("POST", "/v1/payments/cancel", key, {"key": key}))

    def refund(self, key: str, refund_key: str, amount_minor: int) -> RefundTruth:
        """See PaymentGateway."""
        fields = {"key": key, "amount_minor": amount_minor}
        answer = self._call("POST", "/v1/refunds", key, fields, idempotency_key=refund_key)
        return _refund(answer)

    def ask_refund(self, key: str, refund_key: str) -> RefundTruth:
        """See PaymentGateway."""
        target = f"/v1/refunds?key={quote(key, safe='')}&refund_key={quote(refund_key, safe='')}"
        return _refund(self._call("GET", target, refund_key))

    def list_refunds(self, key: str) -> list[RefundTruth]:
        """See PaymentGateway."""
        answer = self._call("GET", f"/v1/refunds/list?key={quote(key, safe='')}", key)
        return [_refund(row) for row in _rows(answer, "refunds")]

    def list_reversals(self, key: str) -> list[ReversalTruth]:
        """See PaymentGateway."""
        answer = self._call("GET", f"/v1/reversals?key={quote(key, safe='')}", key)
        return [_reversal(row) for row in _rows(answer, "reversals")]

    def save_method(self, order: MethodOrder) -> Started:
        """See PaymentGateway."""
        fields = {
            "return_url": order.return_url,
            "customer_reference": order.customer_reference,
            "gateway_customer": order.gateway_customer,
            "language": order.language,
        }
        answer = self._call("POST", "/v1/methods", order.key, fields, idempotency_key=order.key)
        return self._started(answer)

    def ask_method(self, key: str) -> MethodTruth:
        """See PaymentGateway."""
        return _method_truth(self._call("GET", f"/v1/methods?key={quote(key, safe='')}", key))

    def forget_method(self, reference: str) -> None:
        """See PaymentGateway."""
        self._call("POST", "/v1/methods/forget", reference, {"reference": reference})

    def charge(self, order: ChargeOrder) -> Truth:
        """See PaymentGateway."""
        fields = {
            "amount_minor": order.amount_minor,
            "currency": order.currency,
            "description": order.description,
            "method_reference": order.method_reference,
            "gateway_customer": order.gateway_customer,
            "customer_reference": order.customer_reference,
            "language": order.language,
            "return_url": order.return_url,
        }
        answer = self._call("POST", "/v1/charges", order.key, fields, idempotency_key=order.key)
        truth = _truth(answer)
        if truth.hosted_url and not truth.hosted_url.startswith(f"{self.origin}/"):
            raise GatewayTimeout("the hosted page is not at the gateway's own origin")
        return truth

    def list_since(self, since: datetime) -> Iterator[Listed]:
        """See PaymentGateway."""
        after: int | None = 0
        while after is not None:
            target = f"/v1/payments/list?since={since.timestamp()}&after={after}"
            page = self._call("GET", target, "")
            yield from map(_listed, _rows(page, "payments"))
            after = None if page.get("next_after") is None else _whole(page, "next_after")

    def read_notice(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Notice:
        """See PaymentGateway."""
        return read_sandbox_notice(body, headers, now, self._secrets.notice_secrets)

    def _started(self, answer: Mapping[str, Any]) -> Started:
        hosted_url = _text(answer, "hosted_url")
        if not hosted_url.startswith(f"{self.origin}/"):
            raise GatewayTimeout("the hosted page is not at the gateway's own origin")
        return Started(_text(answer, "reference"), hosted_url)

    def _call(
        self,
        method: str,
        target: str,
        key: str,
        fields: Mapping[str, object] | None = None,
        idempotency_key: str | None = None,
    ) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._secrets.api_keys[0]}"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        body = None
        if fields is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(fields).encode()
        try:
            answer = self._outbound.request(
                method, self.origin + target, headers=headers, body=body
            )
        except OutboundError as failure:
            was_sent = not isinstance(failure, OutboundForbidden | OutboundUnreachable)
            raise GatewayTimeout(str(failure), was_sent=was_sent) from failure
        return _read(answer, key)


class SandboxInProcess(PaymentGateway):
    """The same gateway straight over a store, without HTTP and without notices on the wire."""

    name = "sandbox"
    title = "Sandbox Bank"
    garden = ("localhost",)

    def __init__(self, store: SandboxStore, secrets: SandboxSecrets | None = None) -> None:
        self.origin = store.hosted_base
        self._store = store
        self._notice_secrets = secrets.notice_secrets if secrets else ()

    def start(self, order: StartOrder) -> Started:
        """See PaymentGateway."""
        return self._store.start(order)

    def ask(self, key: str) -> Truth:
        """See PaymentGateway."""
        return self._store.ask(key)

    def cancel(self, key: str) -> Truth:
        """See PaymentGateway."""
        return self._store.cancel(key)

    def refund(self, key: str, refund_key: str, amount_minor: int) -> RefundTruth:
        """See PaymentGateway."""
        return self._store.refund(key, refund_key, amount_minor)

    def ask_refund(self, key: str, refund_key: str) -> RefundTruth:
        """See PaymentGateway."""
        return self._store.ask_refund(key, refund_key)

    def list_refunds(self, key: str) -> list[RefundTruth]:
        """See PaymentGateway."""
        return self._store.list_refunds(key)

    def list_reversals(self, key: str) -> list[ReversalTruth]:
        """See PaymentGateway."""
        return self._store.list_reversals(key)

    def save_method(self, order: MethodOrder) -> Started:
        """See PaymentGateway."""
        return self._store.save_method(order)

    def ask_method(self, key: str) -> MethodTruth:
        """See PaymentGateway."""
        return self._store.ask_method(key)

    def forget_method(self, reference: str) -> None:
        """See PaymentGateway."""
        self._store.forget_method(reference)

    def charge(self, order: ChargeOrder) -> Truth:
        """See PaymentGateway."""
        return self._store.charge(order)

    def list_since(self, since: datetime) -> Iterator[Listed]:
        """See PaymentGateway."""
        after = 0
        while rows := self._store.list_since(since, after, _PAGE):
            for booked in rows:
                payment = booked.payment
                yield Listed(
                    key=payment.key,
                    truth=payment.truth,
                    return_url=payment.return_url,
                    created_at=payment.created_at,
                    changed_at=payment.changed_at,
                    refunded_minor=booked.refunded_minor,
                    reversed_minor=booked.reversed_minor,
                )
            after = rows[-1].payment.id

    def read_notice(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Notice:
        """See PaymentGateway."""
        return read_sandbox_notice(body, headers, now, self._notice_secrets)


def read_sandbox_notice(
    body: bytes, headers: Mapping[str, str], now: datetime, secrets: Sequence[str]
) -> Notice:
    """The notice in a signed body. Raises NoticeRejected."""
    lowered = {name.lower(): value for name, value in headers.items()}
    check_signature(body, lowered.get(SIGNATURE_HEADER.lower()), secrets, now)
    fields = _json(body)
    event_id = fields.get("id") if isinstance(fields, dict) else None
    if not isinstance(fields, dict) or not isinstance(event_id, str) or not event_id:
        raise NoticeRejected("unreadable")
    reference, key = fields.get("reference"), fields.get("key")
    if not isinstance(reference, str | None) or not isinstance(key, str | None):
        raise NoticeRejected("unreadable")
    if max(len(event_id), len(reference or ""), len(key or "")) > 200:
        raise NoticeRejected("unreadable")
    return Notice(event_id, reference, key)


def _read(answer: OutboundAnswer, key: str) -> dict[str, Any]:
    """The fields of a good answer; anything else becomes the exception that it means."""
    fields = _json(answer.body)
    if answer.status == 200 and isinstance(fields, dict):
        return fields
    error = fields.get("error") if isinstance(fields, dict) else None
    if isinstance(error, dict) and 400 <= answer.status < 500:
        code = error.get("code")
        if code == "unknown key" and answer.status == 404:
            raise GatewayUnknownKey(key)
        if code in _REFUSALS:
            raise GatewayRefused(code, _text(error, "message"))
    raise GatewayTimeout(f"the gateway answered {answer.status} without a clear word")


def _json(body: bytes) -> object:
    try:
        value: object = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value


def _truth(fields: dict[str, Any]) -> Truth:
    fee_minor = None if fields.get("fee_minor") is None else _whole(fields, "fee_minor")
    return Truth(
        reference=_text(fields, "reference"),
        state=_state(fields),
        amount_minor=_whole(fields, "amount_minor"),
        currency=_text(fields, "currency"),
        customer_reference=_text(fields, "customer_reference"),
        method=_text(fields, "method"),
        decline_reason=_text(fields, "decline_reason"),
        gateway_fee_minor=fee_minor,
        hosted_url=_text(fields, "hosted_url"),
    )


def _refund(fields: dict[str, Any]) -> RefundTruth:
    return RefundTruth(
        reference=_text(fields, "reference"),
        state=_state(fields),
        amount_minor=_whole(fields, "amount_minor"),
        currency=_text(fields, "currency"),
        decline_reason=_text(fields, "decline_reason"),
    )


def _reversal(fields: dict[str, Any]) -> ReversalTruth:
    return ReversalTruth(
        reference=_text(fields, "reference"),
        kind=_text(fields, "kind"),
        amount_minor=_whole(fields, "amount_minor"),
        currency=_text(fields, "currency"),
        state=_state(fields),
        reason=_text(fields, "reason"),
        happened_at=_instant(fields, "happened_at"),
    )


def _method_truth(fields: dict[str, Any]) -> MethodTruth:
    try:
        expires_on = date.fromisoformat(_text(fields, "expires_on") or "9999-12-31")
    except ValueError as error:
        raise GatewayTimeout("the gateway's answer has no readable expires_on") from error
    return MethodTruth(
        reference=_text(fields, "reference") or None,
        state=_state(fields),
        kind=_text(fields, "kind"),
        title=_text(fields, "title"),
        expires_on=None if expires_on == date.max else expires_on,
        customer_reference=_text(fields, "customer_reference"),
        gateway_customer=_text(fields, "gateway_customer"),
        decline_reason=_text(fields, "decline_reason"),
    )


def _listed(fields: dict[str, Any]) -> Listed:
    return Listed(
        key=_text(fields, "key"),
        truth=_truth(fields),
        return_url=_text(fields, "return_url"),
        created_at=_instant(fields, "created_at"),
        changed_at=_instant(fields, "changed_at"),
        refunded_minor=_whole(fields, "refunded_minor"),
        reversed_minor=_whole(fields, "reversed_minor"),
    )


def _instant(fields: Mapping[str, Any], name: str) -> datetime:
    try:
        instant = datetime.fromisoformat(_text(fields, name))
    except ValueError as error:
        raise GatewayTimeout(f"the gateway's answer has no readable {name}") from error
    if instant.tzinfo is None:
        raise GatewayTimeout(f"the gateway's answer has no readable {name}")
    return instant


def _state(fields: dict[str, Any]) -> GatewayState:
    try:
        return GatewayState(_text(fields, "state"))
    except ValueError as error:
        raise GatewayTimeout("the gateway named a state that is not known") from error


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise GatewayTimeout(f"the gateway's answer has no readable {name}")
    return value


def _rows(fields: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    rows = fields.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise GatewayTimeout(f"the gateway's answer has no readable {name}")
    return rows


def _whole(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise GatewayTimeout(f"the gateway's answer has no readable {name}")
    return value
