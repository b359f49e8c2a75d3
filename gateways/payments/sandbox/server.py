"""The sandbox bank as a server: hosted pages, API, developer's page. Demo only, loopback only.

    LASTMILE_DEMO=1 python -m gateways.payments.sandbox.server \
        --port 8001 --data sandbox.db --portal http://127.0.0.1:8000 --secret-file sandbox.secret

It is served as http://localhost:PORT, which is another site than a portal at 127.0.0.1.
"""

import argparse
import ctypes
import hmac
import ipaddress
import json
import os
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from types import FrameType
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit
from wsgiref.types import StartResponse, WSGIEnvironment

from werkzeug.exceptions import (
    Forbidden,
    HTTPException,
    MisdirectedRequest,
    NotFound,
    Unauthorized,
)
from werkzeug.routing import Map, Rule
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from gateways.payments.base import (
    ChargeOrder,
    MethodOrder,
    MethodTruth,
    RefundTruth,
    StartOrder,
    Truth,
)
from gateways.payments.errors import GatewayRefused, GatewayUnknownKey
from gateways.payments.sandbox.books import DEBIT_SECONDS, LATE_SECONDS
from gateways.payments.sandbox.faults import MAX_HANG_SECONDS, Fault, FaultPlan, Faults
from gateways.payments.sandbox.methods import Behaviour, SandboxMethod, Saving
from gateways.payments.sandbox.notices import NoticeSender
from gateways.payments.sandbox.pages import origin_of, page
from gateways.payments.sandbox.secrets import SandboxSecrets
from gateways.payments.sandbox.store import (
    Decision,
    Reversing,
    SandboxPayment,
    SandboxStore,
)

_MAX_REQUEST_BYTES = 65_536
_BOOK_PAGE = 1_000
_LIST_PAGE = 100
_PR_SET_PDEATHSIG = 1
_Word = TypeVar("_Word", bound=StrEnum)

_ROUTES = Map(
    [
        Rule("/", endpoint="home", methods=["GET"]),
        Rule("/", endpoint="set_faults_by_hand", methods=["POST"]),
        Rule("/health", endpoint="health", methods=["GET"]),
        Rule("/pay/<page_token>", endpoint="pay", methods=["GET"]),
        Rule("/pay/<page_token>", endpoint="choose", methods=["POST"]),
        Rule("/pay/<page_token>/confirm", endpoint="confirm", methods=["GET"]),
        Rule("/pay/<page_token>/back", endpoint="back", methods=["GET"]),
        Rule("/save/<page_token>", endpoint="save", methods=["GET"]),
        Rule("/save/<page_token>", endpoint="choose_method", methods=["POST"]),
        Rule("/methods/<reference>", endpoint="set_behaviour_by_hand", methods=["POST"]),
        Rule("/payments/<key>", endpoint="reverse_by_hand", methods=["POST"]),
        Rule("/v1/payments", endpoint="start", methods=["POST"]),
        Rule("/v1/payments", endpoint="ask", methods=["GET"]),
        Rule("/v1/payments/list", endpoint="list", methods=["GET"]),
        Rule("/v1/payments/cancel", endpoint="cancel", methods=["POST"]),
        Rule("/v1/charges", endpoint="charge", methods=["POST"]),
        Rule("/v1/refunds", endpoint="refund", methods=["POST"]),
        Rule("/v1/refunds", endpoint="ask_refund", methods=["GET"]),
        Rule("/v1/refunds/list", endpoint="list_refunds", methods=["GET"]),
        Rule("/v1/reversals", endpoint="list_reversals", methods=["GET"]),
        Rule("/v1/methods", endpoint="save_method", methods=["POST"]),
        Rule("/v1/methods", endpoint="ask_method", methods=["GET"]),
        Rule("/v1/methods/forget", endpoint="forget_method", methods=["POST"]),
        Rule("/v1/faults", endpoint="set_faults", methods=["POST"]),
        Rule("/v1/decide", endpoint="decide", methods=["POST"]),
        Rule("/v1/save", endpoint="decide_method", methods=["POST"]),
        Rule("/v1/behave", endpoint="set_behaviour", methods=["POST"]),
        Rule("/v1/reverse", endpoint="reverse", methods=["POST"]),
        Rule("/v1/books", endpoint="books", methods=["GET"]),
    ]
)


class SandboxApp:
    """The WSGI application over a store; `wake` is called when a notice may have been queued."""

    def __init__(
        self,
        store: SandboxStore,
        secrets: SandboxSecrets,
        *,
        portal_url: str,
        merchant: str,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._api_keys = secrets.api_keys
        self._portal_url = portal_url
        self._merchant = merchant
        self._wake = wake
        self._faults = Faults()
        port = urlsplit(store.hosted_base).port
        self._hosts = {f"{name}:{port}" for name in ("localhost", "127.0.0.1", "[::1]")}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        request.max_content_length = _MAX_REQUEST_BYTES
        request.max_form_memory_size = _MAX_REQUEST_BYTES
        return self._answer(request)(environ, start_response)

    def _answer(self, request: Request) -> Response:
        try:
            if request.host not in self._hosts:
                raise MisdirectedRequest
            endpoint, values = _ROUTES.bind_to_environ(request.environ).match()
            if request.path.startswith("/v1/"):
                self._check_api_key(request)
            elif request.method == "POST":
                self._check_site(request)
            view: Callable[..., Response] = getattr(self, f"_{endpoint}")
            return view(request, **values)
        except HTTPException as error:
            if request.path.startswith("/v1/"):
                return _error(error.code or 500, "not understood", error.name)
            return page("problem.html", error.code or 500, title=error.name)

    # The API that the portal uses.

    def _start(self, request: Request) -> Response:
        key = request.headers.get("Idempotency-Key", "")
        fields = _fields(request)

        def work() -> dict[str, object]:
            started = self._store.start(
                StartOrder(
                    key=key,
                    amount_minor=_whole(fields, "amount_minor"),
                    currency=_text(fields, "currency"),
                    description=_text(fields, "description"),
                    return_url=_text(fields, "return_url"),
                    customer_reference=_text(fields, "customer_reference"),
                    language=_text(fields, "language"),
                )
            )
            return {"reference": started.reference, "hosted_url": started.hosted_url}

        return self._api("start", key, work)

    def _ask(self, request: Request) -> Response:
        key = request.args.get("key", "")
        return self._api("ask", key, lambda: _truth(self._store.ask(key)))

    def _list(self, request: Request) -> Response:
        since = request.args.get("since", 0.0, type=float)
        after = request.args.get("after", 0, type=int)

        def work() -> dict[str, object]:
            rows = self._store.list_since(datetime.fromtimestamp(since, UTC), after, _LIST_PAGE)
            payments = [
                {
                    **_truth(booked.payment.truth),
                    "key": booked.payment.key,
                    "return_url": booked.payment.return_url,
                    "created_at": booked.payment.created_at.isoformat(),
                    "changed_at": booked.payment.changed_at.isoformat(),
                    "refunded_minor": booked.refunded_minor,
                    "reversed_minor": booked.reversed_minor,
                }
                for booked in rows
            ]
            next_after = rows[-1].payment.id if len(rows) == _LIST_PAGE else None
            return {"payments": payments, "next_after": next_after}

        return self._api("list", "", work)

    def _cancel(self, request: Request) -> Response:
        fields = _fields(request)
        key = str(fields.get("key"))
        return self._api("cancel", key, lambda: _truth(self._store.cancel(key)))

    def _refund(self, request: Request) -> Response:
        fields = _fields(request)
        refund_key = request.headers.get("Idempotency-Key", "")

        def work() -> dict[str, object]:
            refund = self._store.refund(
                _text(fields, "key"), refund_key, _whole(fields, "amount_minor")
            )
            return _refund(refund)

        return self._api("refund", refund_key, work)

    def _ask_refund(self, request: Request) -> Response:
        key, refund_key = request.args.get("key", ""), request.args.get("refund_key", "")
        return self._api(
            "ask_refund", refund_key, lambda: _refund(self._store.ask_refund(key, refund_key))
        )

    def _list_refunds(self, request: Request) -> Response:
        key = request.args.get("key", "")

        def work() -> dict[str, object]:
            return {"refunds": [_refund(refund) for refund in self._store.list_refunds(key)]}

        return self._api("list_refunds", key, work)

    def _list_reversals(self, request: Request) -> Response:
        key = request.args.get("key", "")

        def work() -> dict[str, object]:
            reversals = [
                {
                    "reference": reversal.reference,
                    "kind": reversal.kind,
                    "amount_minor": reversal.amount_minor,
                    "currency": reversal.currency,
                    "state": reversal.state,
                    "reason": reversal.reason,
                    "happened_at": reversal.happened_at.isoformat(),
                }
                for reversal in self._store.list_reversals(key)
            ]
            return {"reversals": reversals}

        return self._api("list_reversals", key, work)

    def _charge(self, request: Request) -> Response:
        key = request.headers.get("Idempotency-Key", "")
        fields = _fields(request)

        def work() -> dict[str, object]:
            return _truth(
                self._store.charge(
                    ChargeOrder(
                        key=key,
                        amount_minor=_whole(fields, "amount_minor"),
                        currency=_text(fields, "currency"),
                        description=_text(fields, "description"),
                        method_reference=_text(fields, "method_reference"),
                        gateway_customer=_find_text(fields, "gateway_customer"),
                        customer_reference=_text(fields, "customer_reference"),
                        language=_text(fields, "language"),
                        return_url=_text(fields, "return_url"),
                    )
                )
            )

        return self._api("charge", key, work)

    def _save_method(self, request: Request) -> Response:
        key = request.headers.get("Idempotency-Key", "")
        fields = _fields(request)

        def work() -> dict[str, object]:
            started = self._store.save_method(
                MethodOrder(
                    key=key,
                    return_url=_text(fields, "return_url"),
                    customer_reference=_text(fields, "customer_reference"),
                    gateway_customer=_find_text(fields, "gateway_customer"),
                    language=_text(fields, "language"),
                )
            )
            return {"reference": started.reference, "hosted_url": started.hosted_url}

        return self._api("save_method", key, work)

    def _ask_method(self, request: Request) -> Response:
        key = request.args.get("key", "")
        return self._api("ask_method", key, lambda: _method_truth(self._store.ask_method(key)))

    def _forget_method(self, request: Request) -> Response:
        reference = str(_fields(request).get("reference"))

        def work() -> dict[str, object]:
            self._store.forget_method(reference)
            return {}

        return self._api("forget_method", reference, work)

    def _api(self, call: str, key: str, work: Callable[[], dict[str, object]]) -> Response:
        """One API call with the fault that is its turn, before or after it has its effect."""
        fault = self._faults.take(call, key)
        match fault:
            case Fault.DROP_BEFORE:
                raise ConnectionResetError("a fault on demand")
            case Fault.ERROR_500:
                return _error(500, "internal", "Something went wrong.")
            case Fault.CONFLICT_409:
                return _error(409, "in progress", "Another call with this key is under way.")
            case Fault.HANG_BEFORE:
                time.sleep(self._faults.hang_seconds)
        response = _worked(work)
        self._wake()
        match fault:
            case Fault.HANG:
                time.sleep(self._faults.hang_seconds)
                raise ConnectionResetError("a fault on demand")
            case Fault.DROP_AFTER:
                raise ConnectionResetError("a fault on demand")
            case Fault.ERROR_500_AFTER:
                return _error(500, "internal", "Something went wrong.")
            case Fault.CUT_BODY:
                body = response.get_data()
                response.set_data(body[: len(body) // 2])
                response.headers["Content-Length"] = str(len(body))
        return response

    # The API for tests and developers.

    def _faults_from(self, fields: Mapping[str, Any]) -> None:
        hang_seconds = float(fields.get("hang_seconds", 60.0))
        if not 0 <= hang_seconds <= MAX_HANG_SECONDS:
            raise ValueError("hang_seconds")
        plan = fields.get("plan")
        if plan is not None:
            kinds = tuple(Fault(kind) for kind in plan.get("kinds", list(Fault)))
            calls = tuple(str(call) for call in plan.get("calls", ["start"]))
            self._faults.set_plan(
                FaultPlan(int(plan.get("seed", 0)), float(plan.get("rate", 0)), kinds, calls)
            )
        if "next" in fields:
            self._faults.set_next([Fault(fault) for fault in fields["next"]])
        self._faults.hang_seconds = hang_seconds

    def _set_faults(self, request: Request) -> Response:
        try:
            self._faults_from(_fields(request))
        except (ValueError, TypeError, AttributeError):
            return _error(422, "bad request", "These faults are not understood.")
        return _json({"next": self._faults.list_next()})

    def _decide(self, request: Request) -> Response:
        fields = _fields(request)

        def work() -> dict[str, object]:
            decision = _member(Decision, _text(fields, "decision"))
            return _truth(self._store.decide(_text(fields, "key"), decision))

        return self._done(work)

    def _decide_method(self, request: Request) -> Response:
        fields = _fields(request)

        def work() -> dict[str, object]:
            choice = _member(Saving, _text(fields, "choice"))
            return _method_truth(self._store.choose_method(_text(fields, "key"), choice))

        return self._done(work)

    def _set_behaviour(self, request: Request) -> Response:
        fields = _fields(request)

        def work() -> dict[str, object]:
            behaviour = _member(Behaviour, _text(fields, "behaviour"))
            self._store.set_behaviour(_text(fields, "reference"), behaviour)
            return {}

        return self._done(work)

    def _reverse(self, request: Request) -> Response:
        fields = _fields(request)

        def work() -> dict[str, object]:
            kind = _member(Reversing, _text(fields, "kind"))
            self._store.reverse(_text(fields, "key"), kind)
            return {}

        return self._done(work)

    def _done(self, work: Callable[[], dict[str, object]]) -> Response:
        response = _worked(work)
        self._wake()
        return response

    def _books(self, request: Request) -> Response:
        after = request.args.get("after", 0, type=int)
        rows = self._store.list_after(after, _BOOK_PAGE)
        payments = [
            {
                "key": booked.payment.key,
                "reference": booked.payment.reference,
                "state": booked.payment.state,
                "amount_minor": booked.payment.amount_minor,
                "currency": booked.payment.currency,
                "customer_reference": booked.payment.customer_reference,
                "refunded_minor": booked.refunded_minor,
                "reversed_minor": booked.reversed_minor,
            }
            for booked in rows
        ]
        next_after = rows[-1].payment.id if len(rows) == _BOOK_PAGE else None
        return _json({"payments": payments, "next_after": next_after})

    # What the customer sees.

    def _pay(self, request: Request, page_token: str) -> Response:
        payment = self._get_payment(page_token)
        if not payment.is_open:
            return page(
                "closed.html",
                payment=payment,
                merchant=self._merchant,
                can_go_back=_can_go_back(payment),
            )
        if payment.is_charge:
            return _see_other(f"/pay/{page_token}/confirm")
        by_post = request.args.get("return") == "post"
        return page(
            "pay.html",
            form_origin=origin_of(payment.return_url),
            payment=payment,
            merchant=self._merchant,
            by_post=by_post,
        )

    def _choose(self, request: Request, page_token: str) -> Response:
        payment = self._get_payment(page_token)
        choice = request.form.get("choice", "")
        by_post = request.form.get("return") == "post"
        if choice == "ask-confirmation":
            query = "?return=post" if by_post else ""
            return _see_other(f"/pay/{page_token}/confirm{query}")
        try:
            decision = Decision(choice)
        except ValueError:
            return _see_other(f"/pay/{page_token}")
        self._store.decide(payment.key, decision)
        self._wake()
        if not _can_go_back(self._get_payment(page_token)):
            return _see_other(f"/pay/{page_token}")
        return _see_other(f"/pay/{page_token}/back" if by_post else payment.return_url)

    def _confirm(self, request: Request, page_token: str) -> Response:
        payment = self._get_payment(page_token)
        if not payment.is_open:
            return _see_other(f"/pay/{page_token}")
        return page(
            "confirm.html",
            form_origin=origin_of(payment.return_url),
            payment=payment,
            merchant=self._merchant,
            by_post=request.args.get("return") == "post",
        )

    def _back(self, _request: Request, page_token: str) -> Response:
        payment = self._get_payment(page_token)
        if payment.is_open or not _can_go_back(payment):
            return _see_other(f"/pay/{page_token}")
        return page("back.html", form_origin=origin_of(payment.return_url), payment=payment)

    def _save(self, _request: Request, page_token: str) -> Response:
        method = self._get_method(page_token)
        template = "save.html" if method.is_open else "saved.html"
        return page(
            template,
            form_origin=origin_of(method.return_url),
            method=method,
            merchant=self._merchant,
            can_go_back=method.choice != Saving.SILENT,
        )

    def _choose_method(self, request: Request, page_token: str) -> Response:
        method = self._get_method(page_token)
        try:
            choice = Saving(request.form.get("choice", ""))
        except ValueError:
            return _see_other(f"/save/{page_token}")
        self._store.choose_method(method.key, choice)
        self._wake()
        if self._get_method(page_token).choice == Saving.SILENT:
            return _see_other(f"/save/{page_token}")
        return _see_other(method.return_url)

    # What the developer sees.

    def _home(self, _request: Request) -> Response:
        return page(
            "home.html",
            payments=self._store.list_latest(25),
            methods=self._store.list_latest_methods(10),
            behaviours=list(Behaviour),
            reversings=list(Reversing),
            waiting_notices=self._store.count_waiting_notices(),
            next_faults=self._faults.list_next(),
            faults=list(Fault),
            portal_url=self._portal_url,
        )

    def _set_faults_by_hand(self, request: Request) -> Response:
        chosen = request.form.get("fault", "")
        count = min(max(request.form.get("count", 1, type=int), 1), 100)
        try:
            self._faults.set_next([Fault(chosen)] * count if chosen else [])
        except ValueError:
            return page("problem.html", 422, title="There is no such fault")
        return _see_other("/")

    def _set_behaviour_by_hand(self, request: Request, reference: str) -> Response:
        chosen = request.form.get("behaviour", "")
        return self._by_hand(
            lambda: self._store.set_behaviour(reference, _member(Behaviour, chosen))
        )

    def _reverse_by_hand(self, request: Request, key: str) -> Response:
        chosen = request.form.get("kind", "")
        return self._by_hand(lambda: self._store.reverse(key, _member(Reversing, chosen)))

    def _by_hand(self, work: Callable[[], None]) -> Response:
        try:
            work()
        except GatewayUnknownKey:
            raise NotFound from None
        except GatewayRefused as refusal:
            return page("problem.html", 422, title=refusal.customer_message)
        self._wake()
        return _see_other("/")

    def _health(self, _request: Request) -> Response:
        return _json({"status": "ok"})

    # Inside.

    def _get_payment(self, page_token: str) -> SandboxPayment:
        payment = self._store.find_by_token(page_token)
        if payment is None:
            raise NotFound
        return payment

    def _get_method(self, page_token: str) -> SandboxMethod:
        method = self._store.find_method_by_token(page_token)
        if method is None:
            raise NotFound
        return method

    def _check_api_key(self, request: Request) -> None:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ").encode()
        if not any(hmac.compare_digest(given, key.encode()) for key in self._api_keys):
            raise Unauthorized

    def _check_site(self, request: Request) -> None:
        """Refuse a form that another site sent; old browsers say nothing and pass."""
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        origin = request.headers.get("Origin", f"http://{request.host}")
        if site not in ("same-origin", "none") or origin != f"http://{request.host}":
            raise Forbidden


def _worked(work: Callable[[], dict[str, object]]) -> Response:
    try:
        return _json(work())
    except GatewayUnknownKey:
        return _error(404, "unknown key", "There is no payment with this key.")
    except GatewayRefused as refusal:
        status = 409 if refusal.code == "key reused" else 422
        return _error(status, refusal.code, refusal.customer_message)


def _can_go_back(payment: SandboxPayment) -> bool:
    return payment.decision != Decision.SILENT


def _truth(truth: Truth) -> dict[str, object]:
    return {
        "reference": truth.reference,
        "state": truth.state,
        "amount_minor": truth.amount_minor,
        "currency": truth.currency,
        "customer_reference": truth.customer_reference,
        "method": truth.method,
        "decline_reason": truth.decline_reason,
        "fee_minor": truth.gateway_fee_minor,
        "hosted_url": truth.hosted_url,
    }


def _refund(refund: RefundTruth) -> dict[str, object]:
    return {
        "reference": refund.reference,
        "state": refund.state,
        "amount_minor": refund.amount_minor,
        "currency": refund.currency,
        "decline_reason": refund.decline_reason,
    }


def _method_truth(truth: MethodTruth) -> dict[str, object]:
    return {
        "reference": truth.reference or "",
        "state": truth.state,
        "kind": truth.kind,
        "title": truth.title,
        "expires_on": truth.expires_on.isoformat() if truth.expires_on else "",
        "customer_reference": truth.customer_reference,
        "gateway_customer": truth.gateway_customer,
        "decline_reason": truth.decline_reason,
    }


def _member(words: type[_Word], value: str) -> _Word:
    try:
        return words(value)
    except ValueError as error:
        raise GatewayRefused("bad request", f"{value} is no word for this.") from error


def _fields(request: Request) -> dict[str, Any]:
    try:
        fields = json.loads(request.get_data())
    except (ValueError, RecursionError):
        fields = None
    return fields if isinstance(fields, dict) else {}


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise GatewayRefused("bad request", f"{name} is missing.")
    return value


def _find_text(fields: Mapping[str, Any], name: str) -> str | None:
    return None if fields.get(name) is None else _text(fields, name)


def _whole(fields: Mapping[str, Any], name: str) -> int:
    value = fields.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise GatewayRefused("bad request", f"{name} is not a whole number.")
    return value


def _json(fields: Mapping[str, object], status: int = 200) -> Response:
    return Response(json.dumps(fields), status, content_type="application/json")


def _error(status: int, code: str, message: str) -> Response:
    return _json({"error": {"code": code, "message": message}}, status)


def _see_other(location: str) -> Response:
    response = Response(status=303)
    response.headers["Location"] = location
    response.headers["Cache-Control"] = "no-store"
    return response


class _QuietHandler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def connection_dropped(self, *_args: object, **_kwargs: object) -> None:
        """Hang up, also when the break was one of ours: it would wait for a further request."""
        self.close_connection = True

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing for each request."""


def main(arguments: list[str] | None = None) -> None:
    """Serve until SIGTERM, SIGINT or the end of the parent process."""
    options = _options(arguments)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    _end_with_parent(options.parent_pid)
    listener = _listen(options.host, options.port)
    port = listener.getsockname()[1]
    try:
        secrets = SandboxSecrets.read_or_create(options.secret_file)
        store = SandboxStore(
            options.data,
            hosted_base=f"http://localhost:{port}",
            late_seconds=options.late_seconds,
            debit_seconds=options.debit_seconds,
        )
    except (OSError, ValueError, sqlite3.Error) as error:
        _give_up(str(error))
    sender = NoticeSender(store, options.portal, secrets.notice_secrets)
    app = SandboxApp(
        store,
        secrets,
        portal_url=options.portal,
        merchant=options.merchant or urlsplit(options.portal).netloc,
        wake=sender.wake,
    )
    server = make_server(
        options.host,
        port,
        app,
        threaded=True,
        request_handler=_QuietHandler,
        fd=listener.fileno(),
    )
    sender.start()
    sys.stdout.write(f"Sandbox Bank listens at {store.hosted_base}\n")
    sys.stdout.flush()
    try:
        server.serve_forever(poll_interval=0.2)
    finally:
        # The store stays open: threads may still be inside it, and what they answered is committed.
        sender.stop()


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m gateways.payments.sandbox.server",
        description="The demo's payment gateway. No real money moves.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address")
    parser.add_argument("--port", type=int, default=8001, help="0 takes a free one and prints it")
    parser.add_argument("--data", required=True, help="SQLite file with the sandbox's books")
    parser.add_argument("--portal", required=True, help="address that notices go to")
    parser.add_argument("--merchant", default="", help="the name shown on the hosted page")
    parser.add_argument(
        "--secret-file", required=True, help="shared with the portal; made if absent"
    )
    parser.add_argument("--late-seconds", type=float, default=LATE_SECONDS)
    parser.add_argument("--debit-seconds", type=float, default=DEBIT_SECONDS)
    parser.add_argument("--parent-pid", type=int, default=os.getppid(), help="end when it ends")
    options = parser.parse_args(arguments)
    if os.environ.get("LASTMILE_DEMO") != "1":
        _give_up("it is for the demo only and starts with LASTMILE_DEMO=1")
    if not _is_loopback(options.host) or not _is_loopback(urlsplit(options.portal).hostname or ""):
        _give_up("it serves this machine only: --host and --portal must be loopback addresses")
    return options


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    address = "127.0.0.1" if host == "localhost" else host
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        _give_up(f"port {port} cannot be used: {getattr(error, 'strerror', None) or error}")
    return listener


def _end_with_parent(parent_pid: int) -> None:
    """End when the parent does: at once on Linux, within a second elsewhere.

    The kernel's signal comes when the thread that started us ends, hence the look at the parent:
    it also covers a parent that was gone before we asked for the signal.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(0.5)
        # What was answered is committed; there is nothing to tidy up.
        os._exit(0)

    threading.Thread(target=watch, name="sandbox-parent", daemon=True).start()


def _end(_signal: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise SystemExit(0)


def _give_up(reason: str) -> NoReturn:
    sys.stderr.write(f"The sandbox gateway cannot start: {reason}\n")
    raise SystemExit(1)


if __name__ == "__main__":
    main()
