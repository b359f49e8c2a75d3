"""A Stripe of our own over HTTP: the part that the portal uses, with faults on demand.

It is as strict as the real one where money depends on it: unknown parameters are refused, the same
idempotency key gives the same answer or, with other content, an error; objects move only as they
may. What customers and banks do is done by its methods.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from gateways.payments.sandbox.faults import Fault, FaultPlan, Faults
from tests.gateways.conftest import serving

Thing = dict[str, Any]
KEY = "sk_test_lastmile00"
_SESSION_FIELDS = {
    *("mode", "client_reference_id", "line_items", "metadata", "payment_intent_data"),
    *("success_url", "cancel_url", "locale", "customer", "allowed_payment_method_types"),
    "setup_intent_data",
}
_INTENT_FIELDS = {
    *("amount", "currency", "customer", "payment_method", "allowed_payment_method_types"),
    *("description", "metadata"),
}
CARDS = {
    "card": ("visa", "4242"),
    "expiring": ("mastercard", "4444"),
    "checked": ("visa", "3184"),
    "declining": ("visa", "0341"),
}


_LISTS = {
    "pi_": "/v1/payment_intents",
    "re_": "/v1/refunds",
    "dp_": "/v1/disputes",
    "evt_": "/v1/events",
}


class Problem(Exception):
    """An answer that says no."""

    def __init__(self, status: int, type_: str, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body: Thing = {"error": {"type": type_, "message": message, "code": code}}


def _invalid(message: str, code: str | None = None) -> Problem:
    status = 404 if code == "resource_missing" else 400
    return Problem(status, "invalid_request_error", message, code)


@dataclass
class FakeStripe:
    """The books of the fake; `url` is where it is served."""

    url: str = ""
    debit_seconds: float = 0.3
    things: dict[str, Thing] = field(default_factory=dict)
    answers: dict[str, tuple[str, Thing | Problem]] = field(default_factory=dict)
    behaviours: dict[str, str] = field(default_factory=dict)
    faults: Faults = field(default_factory=Faults)
    calls: list[str] = field(default_factory=list)
    unkeyed: set[str] = field(default_factory=set)
    versions: set[str | None] = field(default_factory=set)
    busy: set[str] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)
    count: int = 0
    charge_call: str = "confirm"
    """Which of the calls of a charge meets a fault: the one that makes it, or that confirms it."""

    # What the API does.

    def _new(self, prefix: str, object_: str, **values: Any) -> Thing:
        self.count += 1
        thing = {
            "id": f"{prefix}_{self.count:06d}{secrets.token_hex(6)}",
            "object": object_,
            "created": int(time.time()),
            **values,
        }
        self.things[thing["id"]] = thing
        return thing

    def get(self, thing_id: Any, prefix: str) -> Thing:
        thing = self.things.get(str(thing_id))
        if thing is None or not str(thing_id).startswith(f"{prefix}_"):
            raise _invalid(f"No such {prefix}: {thing_id!r}", "resource_missing")
        self._move(thing)
        return thing

    def _move(self, thing: Thing) -> None:
        """Let a bank debit arrive, or fail, when its time has come."""
        if thing.get("arrives_at", time.time() + 1) <= time.time():
            thing.pop("arrives_at")
            if self.behaviours.get(thing["payment_method"]) == "declines":
                self._decline(thing, "debit_not_authorized")
            else:
                self._succeed(thing)

    def create_customer(self, fields: Thing) -> Thing:
        _only(fields, {"metadata"})
        return self._new("cus", "customer", metadata=fields.get("metadata", {}))

    def create_session(self, fields: Thing) -> Thing:
        _only(fields, _SESSION_FIELDS)
        if fields.get("customer") is not None:
            self.get(fields["customer"], "cus")
        for name in ("success_url", "cancel_url"):
            if not re.match(r"https?://", str(fields.get(name))):
                raise _invalid(f"Not a valid URL: {name}")
        session = self._new(
            "cs",
            "checkout.session",
            mode=fields["mode"],
            status="open",
            customer=fields.get("customer"),
            metadata=fields.get("metadata", {}),
            success_url=fields["success_url"],
            payment_intent=None,
            setup_intent=None,
            currency=None,
            amount_total=None,
        )
        session["url"] = f"{self.url}/c/pay/{session['id']}"
        if fields["mode"] == "payment":
            [item] = fields["line_items"].values()
            price = item["price_data"]
            if int(price["unit_amount"]) <= 0 or not re.fullmatch("[a-z]{3}", price["currency"]):
                raise _invalid("This is no amount to pay.")
            if not price["product_data"]["name"]:
                raise _invalid("It has no name.")
            session["currency"] = price["currency"]
            session["amount_total"] = int(price["unit_amount"])
            session["intent"] = fields["payment_intent_data"]
        else:
            session["intent"] = fields["setup_intent_data"]
        return session

    def expire_session(self, session_id: str) -> Thing:
        session = self.get(session_id, "cs")
        if session["status"] != "open":
            raise _invalid("Only Checkout Sessions with a status of open can be expired.")
        session.update(status="expired", url=None)
        return session

    def create_intent(self, fields: Thing) -> Thing:
        _only(fields, _INTENT_FIELDS)
        if int(fields["amount"]) < 50:
            raise _invalid("Amount must be at least $0.50 usd", "amount_too_small")
        method = self.get(fields.get("payment_method"), "pm")
        if not fields.get("customer") or method["customer"] != fields["customer"]:
            raise _invalid("The payment method does not belong to the customer.")
        return self._intent(
            int(fields["amount"]), fields["currency"], fields, method["id"], "requires_confirmation"
        )

    def _intent(
        self, amount: int, currency: str, fields: Thing, method_id: str | None, status: str
    ) -> Thing:
        return self._new(
            "pi",
            "payment_intent",
            amount=amount,
            currency=currency,
            customer=fields.get("customer"),
            payment_method=method_id,
            description=fields.get("description"),
            metadata=fields.get("metadata", {}),
            status=status,
            last_payment_error=None,
            latest_charge=None,
        )

    def confirm_intent(self, intent_id: str, fields: Thing) -> Thing:
        _only(fields, {"off_session"})
        intent = self.get(intent_id, "pi")
        if intent["status"] != "requires_confirmation":
            raise _invalid(f"It is {intent['status']}.", "payment_intent_unexpected_state")
        method = self.things[intent["payment_method"]]
        if method["customer"] is None:
            raise _invalid("The method was detached.", "payment_method_unexpected_state")
        behaviour = self.behaviours.get(method["id"], "pays")
        if method["type"] == "us_bank_account":
            intent.update(status="processing", arrives_at=time.time() + self.debit_seconds)
            self._charge(intent, "pending")
        elif behaviour == "pays":
            self._succeed(intent)
        else:
            code = {
                "declines": "insufficient_funds",
                "expires": "expired_card",
                "confirms": "authentication_required",
            }[behaviour]
            self._decline(intent, code)
            raise Problem(402, "card_error", "Your card was declined.", code)
        return intent

    def cancel_intent(self, intent_id: str) -> Thing:
        intent = self.get(intent_id, "pi")
        if intent["status"] in ("succeeded", "processing", "canceled"):
            raise _invalid(f"It is {intent['status']}.", "payment_intent_unexpected_state")
        intent["status"] = "canceled"
        return intent

    def _charge(self, intent: Thing, status: str) -> None:
        method = self.things[intent["payment_method"]]
        charge = self._new(
            "ch",
            "charge",
            payment_intent=intent["id"],
            status=status,
            amount=intent["amount"],
            currency=intent["currency"],
            amount_refunded=0,
            disputed=False,
            metadata=intent["metadata"],
            payment_method_details={
                "type": method["type"],
                method["type"]: dict(method[method["type"]]),
            },
            balance_transaction=None,
        )
        intent["latest_charge"] = charge["id"]

    def _succeed(self, intent: Thing) -> None:
        if intent["latest_charge"] is None:
            self._charge(intent, "succeeded")
        charge = self.things[intent["latest_charge"]]
        fee = self._new("txn", "balance_transaction", fee=59, currency=intent["currency"])
        charge.update(status="succeeded", balance_transaction=fee["id"])
        intent.update(status="succeeded", last_payment_error=None)
        self._event("payment_intent.succeeded", intent)

    def _decline(self, intent: Thing, code: str) -> None:
        intent.update(
            status="requires_payment_method",
            last_payment_error={
                "code": "card_declined" if code == "insufficient_funds" else code,
                "decline_code": code,
                "payment_method": dict(self.things[intent["payment_method"]]),
            },
        )

    def create_refund(self, fields: Thing) -> Thing:
        _only(fields, {"payment_intent", "amount", "metadata"})
        intent = self.get(fields["payment_intent"], "pi")
        charge = self.things[intent["latest_charge"]]
        amount = int(fields["amount"])
        left = charge["amount"] - charge["amount_refunded"]
        if charge["disputed"] or left == 0:
            raise _invalid("It has been refunded.", "charge_already_refunded")
        if not 0 < amount <= left:
            raise _invalid(f"Refund amount is greater than unrefunded amount on charge ({left})")
        charge["amount_refunded"] += amount
        refund = self._new(
            "re",
            "refund",
            payment_intent=intent["id"],
            amount=amount,
            currency=intent["currency"],
            status="succeeded",
            failure_reason=None,
            metadata=fields.get("metadata", {}),
        )
        self._event("charge.refunded", charge)
        return refund

    def detach(self, method_id: str) -> Thing:
        method = self.get(method_id, "pm")
        if method["customer"] is None:
            raise _invalid("The payment method is not attached.")
        method["customer"] = None
        return method

    def _event(self, type_: str, thing: Thing) -> None:
        self._new("evt", "event", type=type_, data={"object": dict(thing)})

    def list_all(self, prefix: str, query: dict[str, Any]) -> Thing:
        """A page of things, the newest first."""
        found = [thing for thing_id, thing in self.things.items() if thing_id.startswith(prefix)]
        for thing in found:
            self._move(thing)
        found.reverse()
        since = int(query.get("created", {}).get("gte", 0))
        found = [thing for thing in found if thing["created"] >= since]
        if "payment_intent" in query:
            found = [thing for thing in found if thing["payment_intent"] == query["payment_intent"]]
        if "types" in query:
            found = [thing for thing in found if thing["type"] in query["types"].values()]
        after = query.get("starting_after")
        if after is not None:
            ids = [thing["id"] for thing in found]
            found = found[ids.index(after) + 1 :]
        limit = int(query.get("limit", 10))
        return {
            "object": "list",
            "data": [dict(thing) for thing in found[:limit]],
            "has_more": len(found) > limit,
            "url": _LISTS[prefix],
        }

    def expanded(self, thing: Thing, paths: list[str]) -> Thing:
        thing = dict(thing)
        for path in paths:
            name, _, rest = path.partition(".")
            inner = thing.get(name)
            if isinstance(inner, list):
                thing[name] = [self.expanded(each, [rest]) for each in inner]
            elif inner is not None:
                whole = self.things[inner] if isinstance(inner, str) else inner
                thing[name] = self.expanded(whole, [rest] if rest else [])
        return thing

    # What customers and banks do.

    def by_key(self, prefix: str, key: str) -> Thing:
        """The newest thing of a kind with our key."""
        return next(
            thing
            for thing_id, thing in reversed(list(self.things.items()))
            if thing_id.startswith(f"{prefix}_")
            and thing.get("metadata", {}).get("lastmile_key") == key
        )

    def new_method(self, kind: str, customer: str | None) -> Thing:
        if kind == "bank":
            return self._new(
                "pm",
                "payment_method",
                type="us_bank_account",
                us_bank_account={"last4": "6789"},
                customer=customer,
            )
        brand, last4 = CARDS[kind]
        year = time.gmtime().tm_year + 3
        method = self._new(
            "pm",
            "payment_method",
            type="card",
            card={"brand": brand, "last4": last4, "exp_month": 12, "exp_year": year},
            customer=customer,
        )
        self.behaviours[method["id"]] = {"checked": "confirms", "declining": "declines"}.get(
            kind, "pays"
        )
        return method

    def pay(self, session: Thing, kind: str = "card") -> None:
        """The customer pays on the hosted page."""
        with self.lock:
            fields = {**session["intent"], "customer": session["customer"]}
            method = self.new_method(kind, None)
            intent = self._intent(
                session["amount_total"],
                session["currency"],
                fields,
                method["id"],
                "requires_payment_method",
            )
            session["payment_intent"] = intent["id"]
            self._succeed(intent)
            session.update(status="complete", url=None)

    def save(self, session: Thing, kind: str) -> None:
        """The customer saves a method on the hosted page."""
        with self.lock:
            method = self.new_method(kind, session["customer"])
            setup = self._new(
                "seti",
                "setup_intent",
                payment_method=method["id"],
                status="succeeded",
                metadata=session["metadata"],
            )
            session.update(status="complete", url=None, setup_intent=setup["id"])

    def dispute(self, key: str) -> None:
        """The bank takes a payment back."""
        with self.lock:
            intent = self.by_key("pi", key)
            charge = self.things[intent["latest_charge"]]
            charge["disputed"] = True
            dispute = self._new(
                "dp",
                "dispute",
                payment_intent=intent["id"],
                charge=charge["id"],
                amount=charge["amount"] - charge["amount_refunded"],
                currency=charge["currency"],
                status="needs_response",
                reason="fraudulent",
                balance_transactions=[],
                metadata={},
            )
            self._moved(dispute, -1)
            self._event("charge.dispute.created", dispute)

    def send_refund_back(self, key: str) -> None:
        """The customer's bank sends back the latest refund of a payment that it had taken."""
        with self.lock:
            intent = self.by_key("pi", key)
            refund = next(
                thing
                for thing in reversed(list(self.things.values()))
                if thing["object"] == "refund"
                and thing["payment_intent"] == intent["id"]
                and thing["status"] == "succeeded"
            )
            refund.update(status="failed", failure_reason="expired_or_canceled_card")
            self._event("refund.failed", refund)
            self._event("charge.refund.updated", refund)

    def win(self, key: str) -> None:
        """The bank decides for us."""
        with self.lock:
            dispute = self.dispute_of(key)
            dispute["status"] = "won"
            self._moved(dispute, 1)
            self._event("charge.dispute.closed", dispute)

    def appeal(self, key: str) -> None:
        """The bank does not leave it at a dispute that was won."""
        with self.lock:
            dispute = self.dispute_of(key)
            dispute["status"] = "appeal_needs_response"
            self._moved(dispute, -1)
            self._event("charge.dispute.funds_withdrawn", dispute)

    def _moved(self, dispute: Thing, sign: int) -> None:
        at = int(time.time()) + len(dispute["balance_transactions"])
        move = {"amount": sign * dispute["amount"], "currency": dispute["currency"], "created": at}
        # The newest is listed first.
        dispute["balance_transactions"].insert(0, move)

    def dispute_of(self, key: str) -> Thing:
        """The dispute about the payment with our key."""
        intent = self.by_key("pi", key)
        return next(
            thing
            for thing in self.things.values()
            if thing["object"] == "dispute" and thing["payment_intent"] == intent["id"]
        )


def _only(fields: Thing, known: set[str]) -> None:
    unknown = set(fields) - known
    if unknown:
        raise _invalid(f"Received unknown parameters: {', '.join(sorted(unknown))}")


_CALLS: list[tuple[str, str, str, Callable[..., Thing]]] = [
    ("POST", r"/v1/customers", "customer", lambda s, q: s.create_customer(q)),
    ("POST", r"/v1/checkout/sessions", "session", lambda s, q: s.create_session(q)),
    ("GET", r"/v1/checkout/sessions/(\w+)", "ask", lambda s, _q, i: s.get(i, "cs")),
    ("POST", r"/v1/checkout/sessions/(\w+)/expire", "cancel", lambda s, _q, i: s.expire_session(i)),
    ("POST", r"/v1/payment_intents", "intent", lambda s, q: s.create_intent(q)),
    ("GET", r"/v1/payment_intents", "list", lambda s, q: s.list_all("pi_", q)),
    ("GET", r"/v1/payment_intents/(\w+)", "ask", lambda s, _q, i: s.get(i, "pi")),
    (
        "POST",
        r"/v1/payment_intents/(\w+)/confirm",
        "confirm",
        lambda s, q, i: s.confirm_intent(i, q),
    ),
    ("POST", r"/v1/payment_intents/(\w+)/cancel", "cancel", lambda s, _q, i: s.cancel_intent(i)),
    ("POST", r"/v1/refunds", "refund", lambda s, q: s.create_refund(q)),
    ("GET", r"/v1/refunds", "ask_refund", lambda s, q: s.list_all("re_", q)),
    ("GET", r"/v1/disputes", "disputes", lambda s, q: s.list_all("dp_", q)),
    ("GET", r"/v1/events", "list", lambda s, q: s.list_all("evt_", q)),
    ("GET", r"/v1/payment_methods/(\w+)", "ask", lambda s, _q, i: s.get(i, "pm")),
    ("POST", r"/v1/payment_methods/(\w+)/detach", "forget", lambda s, _q, i: s.detach(i)),
]


def _tree(pairs: list[tuple[str, str]]) -> Thing:
    """`a[b][0]=c` as nested dictionaries."""
    tree: Thing = {}
    for name, value in pairs:
        parts = re.findall(r"[^\[\]]+", name)
        place = tree
        for part in parts[:-1]:
            place = place.setdefault(part, {})
        place[parts[-1]] = value
    return tree


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    stripe: FakeStripe

    def do_GET(self) -> None:
        self._serve(dict(_tree(parse_qsl(urlsplit(self.path).query))))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._serve(_tree(parse_qsl(body.decode(), keep_blank_values=True)))

    def _serve(self, fields: Thing) -> None:
        path = urlsplit(self.path).path
        expand = list(fields.pop("expand", {}).values())
        for method, pattern, call, do in _CALLS:
            match = re.fullmatch(pattern, path)
            if match and method == self.command:
                self._call(call, partial(do, self.stripe, fields, *match.groups()), fields, expand)
                return
        self._answer(404, {"error": {"type": "invalid_request_error", "message": self.path}})

    def _call(self, call: str, do: Callable[[], Thing], fields: Thing, expand: list[str]) -> None:
        stripe = self.stripe
        self._note(call)
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self._answer(401, {"error": {"type": "invalid_request_error", "message": "who?"}})
            return
        key = self.headers.get("Idempotency-Key", "") if self.command == "POST" else ""
        named = {"session": "start", stripe.charge_call: "charge"}.get(call, call)
        fault = stripe.faults.take(named, key or self.path)
        match fault:
            case Fault.DROP_BEFORE:
                self._hang_up()
                return
            case Fault.ERROR_500:
                self._answer(500, {"error": {"type": "api_error", "message": "sorry"}})
                return
            case Fault.CONFLICT_409:
                self._answer(409, _BUSY)
                return
            case Fault.HANG_BEFORE:
                time.sleep(stripe.faults.hang_seconds)
        if key and key in stripe.busy:
            self._answer(409, _BUSY)
            return
        stripe.busy.add(key)
        try:
            status, body = self._worked(key, do, fields, expand)
        finally:
            stripe.busy.discard(key)
        match fault:
            case Fault.DROP_AFTER:
                self._hang_up()
            case Fault.HANG:
                time.sleep(stripe.faults.hang_seconds)
                self._hang_up()
            case Fault.ERROR_500_AFTER:
                self._answer(500, {"error": {"type": "api_error", "message": "sorry"}})
            case Fault.CUT_BODY:
                self._answer(status, body, cut=True)
            case _:
                self._answer(status, body)

    def _note(self, call: str) -> None:
        self.stripe.calls.append(call)
        self.stripe.versions.add(self.headers.get("Stripe-Version"))
        if self.command == "POST" and not self.headers.get("Idempotency-Key"):
            self.stripe.unkeyed.add(call)

    def _worked(
        self, key: str, do: Callable[[], Thing], fields: Thing, expand: list[str]
    ) -> tuple[int, Thing]:
        stripe = self.stripe
        content = hashlib.sha256(
            json.dumps([self.path, fields], sort_keys=True).encode()
        ).hexdigest()
        with stripe.lock:
            if key and key in stripe.answers:
                known, answer = stripe.answers[key]
                if known != content:
                    return 400, {
                        "error": {"type": "idempotency_error", "message": "other parameters"}
                    }
            else:
                try:
                    # As it was answered: replays do not learn what has become of it since.
                    answer = json.loads(json.dumps(stripe.expanded(do(), expand)))
                except Problem as problem:
                    answer = problem
                if key:
                    stripe.answers[key] = (content, answer)
        return (answer.status, answer.body) if isinstance(answer, Problem) else (200, answer)

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, status: int, body: Thing, *, cut: bool = False) -> None:
        data = json.dumps(body).encode()
        with contextlib.suppress(OSError):
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            self._hang_up()

    def log_message(self, *args: Any) -> None:
        """Nothing."""


_BUSY = {
    "error": {
        "type": "idempotency_error",
        "code": "idempotency_key_in_use",
        "message": "There is currently another in-progress request using this key.",
    }
}


@contextlib.contextmanager
def fake_stripe() -> Iterator[FakeStripe]:
    """A fake Stripe on a free loopback port."""
    stripe = FakeStripe()

    class Handler(_Handler):
        pass

    Handler.stripe = stripe
    with serving(Handler) as url:
        stripe.url = url
        yield stripe
        stripe.faults.set_plan(FaultPlan())
