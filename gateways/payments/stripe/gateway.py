"""Stripe as the portal's payment gateway.

Stripe knows its objects by its own ids, and finds none at once by ours. So the id is kept under our
key (`Memory`) before anything that moves money: a charge is an intent that is made, noted, and only
then confirmed. What was not noted was never confirmed, and cannot have taken anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Protocol, cast

import stripe
from stripe.params import PaymentIntentCreateParams
from stripe.params.checkout import SessionCreateParams

from core import clock
from gateways.outbound import AllowedOrigin, OutboundClient
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
    KEY_REUSED,
    GatewayRefused,
    GatewayTimeout,
    GatewayUnknownKey,
    NoticeRejected,
)
from gateways.payments.signatures import check_signature
from gateways.payments.stripe import reading
from gateways.payments.stripe.line import OUT_OF_BOUNDS, Line, calling
from gateways.payments.stripe.reading import BACK, CUSTOMER, KEY

API = "https://api.stripe.com"
CHECKOUT = "https://checkout.stripe.com"
SIGNATURE_HEADER = "stripe-signature"
GARDEN = (
    *("checkout.stripe.com", "js.stripe.com", "api.stripe.com", "hooks.stripe.com"),
    *("m.stripe.com", "m.stripe.network", "q.stripe.com", "r.stripe.com"),
    *("b.stripecdn.com", "js.stripecdn.com"),
)
"""What Checkout loads from; the pages on which banks confirm are the banks' own."""

_SESSION, _METHOD = "cs_", "pm_"
# Longer than any call of ours lasts: an intent that is not confirmed by then never will be.
_CONFIRMED_WITHIN = timedelta(seconds=60)
_LANGUAGES = frozenset(
    {
        *("bg", "cs", "da", "de", "el", "en", "es", "et", "fi", "fil", "fr", "fr-CA", "hr", "hu"),
        *("id", "it", "ja", "ko", "lt", "lv", "ms", "mt", "nb", "nl", "pl", "pt", "pt-BR", "ro"),
        *("ru", "sk", "sl", "sv", "th", "tr", "vi", "zh", "zh-HK", "zh-TW"),
    }
)
_EXPAND = ["latest_charge.balance_transaction", "payment_method"]
_TOLD = (
    *("payment_intent.succeeded", "payment_intent.processing", "payment_intent.canceled"),
    *("payment_intent.payment_failed", "charge.refunded", "charge.refund.updated"),
    *("refund.created", "refund.updated", "refund.failed"),
    *("charge.dispute.created", "charge.dispute.closed", "charge.dispute.funds_withdrawn"),
    *("charge.dispute.funds_reinstated",),
)


class Memory(Protocol):
    """What is known at Stripe under our keys; it outlives the process."""

    def find(self, key: str) -> str | None:
        """Stripe's id for the payment or method with our key."""

    def keep(self, key: str, reference: str) -> None:
        """Note it, committed when this returns. Raises GatewayTimeout when it cannot be."""


class StripeGateway(PaymentGateway):
    """Stripe's account of the ISP by its secret key; safe to share.

    `api` is where it is reached, `checkout` the origin of its hosted pages; `method_types` are what
    can be saved. `outbound` replaces the way out in tests.
    """

    name = "stripe"
    title = "Stripe"
    garden = GARDEN

    def __init__(
        self,
        api_key: str,
        webhook_secrets: Sequence[str],
        memory: Memory,
        *,
        method_types: Sequence[str] = ("card",),
        api: str = API,
        checkout: str = CHECKOUT,
        outbound: OutboundClient | None = None,
        now: Callable[[], datetime] = clock.now,
    ) -> None:
        self.origin = checkout
        self._secrets = tuple(webhook_secrets)
        self._memory = memory
        self._method_types = list(method_types)
        self._now = now
        line = Line(outbound or OutboundClient([AllowedOrigin.from_url(api)]))
        self._client = stripe.StripeClient(
            api_key, base_addresses={"api": api}, max_network_retries=0, http_client=line
        )

    # Paying on the hosted page.

    def start(self, order: StartOrder) -> Started:
        """See PaymentGateway."""
        session = self._pay_session(
            order, f"{order.key}/start", refusal="The payment could not be started."
        )
        self._memory.keep(order.key, session.id)
        return self._started(session)

    def _pay_session(
        self,
        order: StartOrder | ChargeOrder,
        idempotency_key: str,
        refusal: str,
        customer: str | None = None,
    ) -> stripe.checkout.Session:
        ours = {KEY: order.key, CUSTOMER: order.customer_reference, BACK: order.return_url[:500]}
        unit = reading.to_stripe(order.amount_minor, order.currency)
        params: SessionCreateParams = {
            "mode": "payment",
            "client_reference_id": order.customer_reference,
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": order.currency.lower(),
                        "unit_amount": unit,
                        "product_data": {"name": order.description},
                    },
                }
            ],
            "metadata": ours,
            "payment_intent_data": {"metadata": ours, "description": order.description},
            "success_url": order.return_url,
            "cancel_url": order.return_url,
            "locale": _language(order.language),
        }
        if customer is not None:
            params["customer"] = customer
        with calling(refusal):
            return self._client.v1.checkout.sessions.create(
                params=params, options={"idempotency_key": idempotency_key}
            )

    def _started(self, session: stripe.checkout.Session) -> Started:
        return Started(session.id, self._url_of(session))

    def _url_of(self, session: stripe.checkout.Session) -> str:
        url = session.url or ""
        if not url.startswith(f"{self.origin}/"):
            raise GatewayTimeout("the hosted page is not at Stripe's own origin")
        return url

    def ask(self, key: str) -> Truth:
        """See PaymentGateway."""
        reference = self._memory.find(key)
        if reference is None:
            raise GatewayUnknownKey(key)
        if reference.startswith(_SESSION):
            return self._truth_of_session(self._get_session(reference))
        intent = self._get_intent(reference)
        if intent.status == "requires_confirmation":
            return self._truth_of_unconfirmed(intent)
        return reading.truth_of(intent)

    def _truth_of_unconfirmed(self, intent: stripe.PaymentIntent) -> Truth:
        """A charge that was noted and, as far as Stripe knows, never confirmed. Once no call of
        ours can still be on its way it is taken back, so that none can arrive."""
        age = self._now() - reading.instant(intent.created)
        if age < _CONFIRMED_WITHIN:
            return reading.truth_of(intent, GatewayState.PENDING)
        return reading.truth_of(self._cancelled(intent.id))

    def _truth_of_session(self, session: stripe.checkout.Session) -> Truth:
        intent_id = reading.id_of(session.payment_intent)
        if session.status == "complete" and intent_id is not None:
            return reading.truth_of(self._get_intent(intent_id))
        currency = (session.currency or "").upper()
        is_open = session.status == "open"
        # A charge that waits for its customer knows them; one who pays by hand comes by our form.
        is_charge = session.customer is not None
        return Truth(
            reference=session.id,
            state=GatewayState.PENDING if is_open else GatewayState.EXPIRED,
            amount_minor=reading.from_stripe(session.amount_total or 0, currency),
            currency=currency,
            customer_reference=str(reading.field(session, "metadata", CUSTOMER) or ""),
            method="",
            decline_reason="",
            hosted_url=self._url_of(session) if is_open and is_charge else "",
        )

    def _get_session(self, session_id: str) -> stripe.checkout.Session:
        with calling("Stripe does not know this payment."):
            return self._client.v1.checkout.sessions.retrieve(session_id)

    def _get_intent(self, intent_id: str) -> stripe.PaymentIntent:
        with calling("Stripe does not know this payment."):
            return self._client.v1.payment_intents.retrieve(intent_id, params={"expand": _EXPAND})

    def cancel(self, key: str) -> Truth:
        """See PaymentGateway."""
        reference = self._memory.find(key)
        if reference is None:
            raise GatewayUnknownKey(key)
        if not reference.startswith(_SESSION):
            return reading.truth_of(self._cancelled(reference))
        try:
            with calling("This payment cannot be cancelled any more."):
                session = self._client.v1.checkout.sessions.expire(reference)
        except GatewayRefused:
            return self.ask(key)
        truth = self._truth_of_session(session)
        if truth.state is not GatewayState.EXPIRED:
            return truth
        return Truth(
            truth.reference,
            GatewayState.CANCELLED,
            truth.amount_minor,
            truth.currency,
            truth.customer_reference,
            "",
            "",
        )

    def _cancelled(self, intent_id: str) -> stripe.PaymentIntent:
        """The intent after it was cancelled, or as it is when that is too late."""
        with suppress(GatewayRefused), calling("This payment cannot be cancelled any more."):
            self._client.v1.payment_intents.cancel(intent_id)
        return self._get_intent(intent_id)

    # Saving a method.

    def save_method(self, order: MethodOrder) -> Started:
        """See PaymentGateway."""
        refusal = "The method could not be saved."
        ours = {KEY: order.key, CUSTOMER: order.customer_reference}
        customer = order.gateway_customer or self._new_customer(order, refusal)
        params: SessionCreateParams = {
            "mode": "setup",
            "customer": customer,
            "client_reference_id": order.customer_reference,
            "allowed_payment_method_types": self._method_types,
            "metadata": ours,
            "setup_intent_data": {"metadata": ours},
            "success_url": order.return_url,
            "cancel_url": order.return_url,
            "locale": _language(order.language),
        }
        with calling(refusal):
            session = self._client.v1.checkout.sessions.create(
                params=params, options={"idempotency_key": f"{order.key}/save"}
            )
        self._memory.keep(order.key, session.id)
        return self._started(session)

    def _new_customer(self, order: MethodOrder, refusal: str) -> str:
        with calling(refusal):
            made = self._client.v1.customers.create(
                params={"metadata": {CUSTOMER: order.customer_reference}},
                options={"idempotency_key": f"{order.key}/customer"},
            )
        return made.id

    def ask_method(self, key: str) -> MethodTruth:
        """See PaymentGateway."""
        reference = self._memory.find(key)
        if reference is None:
            raise GatewayUnknownKey(key)
        if reference.startswith(_METHOD):
            return self._truth_of_method(reference)
        return self._truth_of_setup(reference)

    def _truth_of_method(self, reference: str) -> MethodTruth:
        with calling("Stripe does not know this method."):
            method = self._client.v1.payment_methods.retrieve(
                reference, params={"expand": ["customer"]}
            )
        customer = reading.field(method, "customer", "metadata", CUSTOMER)
        if customer is not None:
            return reading.method_truth(method, GatewayState.SUCCEEDED, str(customer))
        # Detached, so that nothing tells whose it was: only we know.
        return reading.method_truth(method, GatewayState.CANCELLED, "")

    def _truth_of_setup(self, session_id: str) -> MethodTruth:
        with calling("Stripe does not know this method."):
            session = self._client.v1.checkout.sessions.retrieve(
                session_id, params={"expand": ["setup_intent.payment_method"]}
            )
        customer = str(reading.field(session, "metadata", CUSTOMER) or "")
        intent = session.setup_intent
        method = reading.field(intent, "payment_method")
        status = reading.field(intent, "status")
        if session.status == "expired":
            return reading.method_truth(None, GatewayState.EXPIRED, customer)
        if session.status == "open" or intent is None:
            return reading.method_truth(None, GatewayState.PENDING, customer)
        if status == "succeeded":
            is_detached = method is not None and reading.field(method, "customer") is None
            state = GatewayState.CANCELLED if is_detached else GatewayState.SUCCEEDED
            return reading.method_truth(method, state, customer)
        if status in ("processing", "requires_action"):
            return reading.method_truth(method, GatewayState.PROCESSING, customer)
        reason = reading.reason_of(cast("stripe.SetupIntent", intent))
        return reading.method_truth(None, GatewayState.DECLINED, customer, reason)

    def forget_method(self, reference: str) -> None:
        """See PaymentGateway. Of one that was never finished its page is closed."""
        if reference.startswith(_SESSION):
            saved = self._truth_of_setup(reference)
            if saved.reference is None:
                self._close(reference)
                return
            reference = saved.reference
        # Refused when it is gone already, or was never attached.
        with suppress(GatewayRefused), calling("This method is not saved."):
            self._client.v1.payment_methods.detach(reference)

    def _close(self, session_id: str) -> None:
        with suppress(GatewayRefused), calling("This page is closed."):
            self._client.v1.checkout.sessions.expire(session_id)

    # Charging a saved method.

    def charge(self, order: ChargeOrder) -> Truth:
        """See PaymentGateway."""
        reference = self._memory.find(order.key)
        if reference is not None and reference.startswith(_SESSION):
            truth = self.ask(order.key)
            if not _is_of(order, truth):
                raise GatewayRefused(KEY_REUSED, "This payment was already started.")
            return truth
        intent = self._get_intent(reference) if reference is not None else self._made(order)
        self._check_content(order, intent)
        if intent.status == "requires_confirmation":
            intent = self._confirmed(order, intent.id)
        if reading.was_asked_to_confirm(intent):
            return self._asking_the_customer(order, intent)
        return reading.truth_of(intent)

    def _made(self, order: ChargeOrder) -> stripe.PaymentIntent:
        """The intent of a charge, noted here before it can take anything."""
        params: PaymentIntentCreateParams = {
            "amount": reading.to_stripe(order.amount_minor, order.currency),
            "currency": order.currency.lower(),
            "customer": order.gateway_customer or "",
            "payment_method": order.method_reference,
            "allowed_payment_method_types": self._method_types,
            "description": order.description,
            "metadata": {
                KEY: order.key,
                CUSTOMER: order.customer_reference,
                BACK: order.return_url[:500],
            },
        }
        try:
            with calling("This payment could not be made."):
                intent = self._client.v1.payment_intents.create(
                    params=params, options={"idempotency_key": f"{order.key}/charge"}
                )
        except GatewayRefused as refusal:
            if refusal.code in (KEY_REUSED, OUT_OF_BOUNDS):
                raise
            raise GatewayRefused(
                "no method", "This payment method is no longer there."
            ) from refusal
        self._memory.keep(order.key, intent.id)
        return self._get_intent(intent.id)

    def _check_content(self, order: ChargeOrder, intent: stripe.PaymentIntent) -> None:
        theirs = (reading.field(intent, "metadata", KEY), intent.description)
        is_same = theirs == (order.key, order.description) and _is_of(
            order, reading.truth_of(intent)
        )
        if not is_same:
            raise GatewayRefused(KEY_REUSED, "This payment was already started.")

    def _confirmed(self, order: ChargeOrder, intent_id: str) -> stripe.PaymentIntent:
        """The intent after its confirmation, whatever came of that."""
        try:
            # When the bank says no, the intent knows why.
            with calling("This payment could not be made."), suppress(stripe.CardError):
                self._client.v1.payment_intents.confirm(
                    intent_id,
                    params={"off_session": True},
                    options={"idempotency_key": f"{order.key}/confirm"},
                )
        except GatewayRefused:
            intent = self._get_intent(intent_id)
            if intent.status != "requires_confirmation":
                return intent
            self._cancelled(intent_id)
            raise GatewayRefused("no method", "This payment method is no longer there.") from None
        return self._get_intent(intent_id)

    def _asking_the_customer(self, order: ChargeOrder, intent: stripe.PaymentIntent) -> Truth:
        """Let the customer confirm on a hosted page. The charge that failed is taken back before,
        so that of the two only one can take the money."""
        ended = self._cancelled(intent.id)
        if ended.status != "canceled":
            return reading.truth_of(ended)
        session = self._pay_session(
            order,
            f"{order.key}/confirm-by-hand",
            refusal="The bank wants its customer to confirm this payment.",
            customer=order.gateway_customer,
        )
        self._memory.keep(order.key, session.id)
        return self._truth_of_session(session)

    # What goes back.

    def _intent_of(self, key: str) -> stripe.PaymentIntent:
        """The payment intent of our key. Raises GatewayUnknownKey, GatewayRefused."""
        reference = self._memory.find(key)
        if reference is None:
            raise GatewayUnknownKey(key)
        if reference.startswith(_SESSION):
            found = reading.id_of(self._get_session(reference).payment_intent)
            if found is None:
                raise GatewayRefused("not paid", "This payment was not completed.")
            reference = found
        return self._get_intent(reference)

    def refund(self, key: str, refund_key: str, amount_minor: int) -> RefundTruth:
        """See PaymentGateway."""
        intent = self._intent_of(key)
        if intent.status != "succeeded":
            raise GatewayRefused("not paid", "This payment was not completed.")
        with calling("This is more than is left of the payment."):
            refund = self._client.v1.refunds.create(
                params={
                    "payment_intent": intent.id,
                    "amount": reading.to_stripe(amount_minor, intent.currency.upper()),
                    "metadata": {KEY: refund_key},
                },
                options={"idempotency_key": f"{refund_key}/refund"},
            )
        return reading.refund_truth(refund)

    def ask_refund(self, key: str, refund_key: str) -> RefundTruth:
        """See PaymentGateway."""
        try:
            intent = self._intent_of(key)
        except GatewayRefused:
            raise GatewayUnknownKey(refund_key) from None
        for refund in self._refunds_of(intent.id):
            if reading.field(refund, "metadata", KEY) == refund_key:
                return reading.refund_truth(refund)
        raise GatewayUnknownKey(refund_key)

    def list_refunds(self, key: str) -> list[RefundTruth]:
        """See PaymentGateway."""
        try:
            intent = self._intent_of(key)
        except GatewayRefused:
            return []  # nothing was paid
        return [reading.refund_truth(refund) for refund in reversed(self._refunds_of(intent.id))]

    def _refunds_of(self, intent_id: str) -> list[stripe.Refund]:
        """The refunds of a payment, the newest first."""
        with calling("Stripe does not know this payment."):
            return list(
                self._client.v1.refunds.list(
                    params={"payment_intent": intent_id, "limit": 100}
                ).auto_paging_iter()
            )

    def list_reversals(self, key: str) -> list[ReversalTruth]:
        """See PaymentGateway."""
        try:
            intent = self._intent_of(key)
        except GatewayRefused:
            return []  # nothing was paid
        return self._reversals_of(intent)

    def _reversals_of(self, intent: stripe.PaymentIntent) -> list[ReversalTruth]:
        debit = reading.is_debit(reading.field(intent, "latest_charge"))
        with calling("Stripe does not know this payment."):
            disputes = list(
                self._client.v1.disputes.list(
                    params={"payment_intent": intent.id, "limit": 100}
                ).auto_paging_iter()
            )
        disputes.sort(key=lambda dispute: dispute.created)
        return [
            reversal
            for dispute in disputes
            for reversal in reading.reversals_of(dispute, is_debit=debit)
        ]

    # Comparing.

    def list_since(self, since: datetime) -> Iterator[Listed]:
        """See PaymentGateway. Stripe keeps its events, from which it is told what has changed of
        older payments, for thirty days."""
        from_ = int(since.timestamp())
        seen: set[str] = set()
        with calling("Stripe does not list its payments."):
            intents = self._client.v1.payment_intents.list(
                params={
                    "created": {"gte": from_},
                    "limit": 100,
                    "expand": ["data.latest_charge", "data.payment_method"],
                }
            ).auto_paging_iter()
        for intent in _each(intents):
            seen.add(intent.id)
            yield from self._listed(intent)
        with calling("Stripe does not list its events."):
            events = self._client.v1.events.list(
                params={"created": {"gte": from_}, "types": list(_TOLD), "limit": 100}
            ).auto_paging_iter()
        for event in _each(events):
            intent_id = _intent_id_of(event["data"]["object"])
            if intent_id is not None and intent_id not in seen:
                seen.add(intent_id)
                yield from self._listed(self._get_intent(intent_id))

    def _listed(self, intent: stripe.PaymentIntent) -> Iterator[Listed]:
        key = reading.field(intent, "metadata", KEY)
        if key is None:
            return  # not of this portal
        charge = reading.field(intent, "latest_charge")
        refunded_minor = reversed_minor = 0
        if reading.field(charge, "amount_refunded"):
            # The sum of the charge does not say which of them a bank has sent back since.
            refunds = map(reading.refund_truth, self._refunds_of(intent.id))
            refunded_minor = sum(
                refund.amount_minor for refund in refunds if refund.state is GatewayState.SUCCEEDED
            )
        if reading.field(charge, "disputed"):
            for reversal in self._reversals_of(intent):
                sign = -1 if reversal.kind == "chargeback_won" else 1
                reversed_minor += sign * reversal.amount_minor
        yield Listed(
            key=str(key),
            truth=reading.truth_of(intent),
            return_url=str(reading.field(intent, "metadata", BACK) or ""),
            created_at=reading.instant(intent.created),
            changed_at=reading.instant(reading.field(charge, "created") or intent.created),
            refunded_minor=refunded_minor,
            reversed_minor=reversed_minor,
        )

    # Notices.

    def read_notice(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Notice:
        """See PaymentGateway."""
        lowered = {name.lower(): value for name, value in headers.items()}
        check_signature(body, lowered.get(SIGNATURE_HEADER), self._secrets, now)
        try:
            event = json.loads(body)
            event_id, thing = event["id"], event["data"]["object"]
            key, reference = _key_of(thing), _reference_of(thing)
        except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
            raise NoticeRejected("unreadable") from None
        known = (event_id, reference or "", key or "")
        if not event_id or not all(isinstance(each, str) and len(each) <= 200 for each in known):
            raise NoticeRejected("unreadable")
        return Notice(event_id, reference, key)


def _each(things: Iterator[Any]) -> Iterator[Any]:
    """The items of a list that is read page by page."""
    while True:
        with calling("Stripe does not list it."):
            thing = next(things, None)
        if thing is None:
            return
        yield thing


def _language(language: str) -> Any:
    if language in _LANGUAGES:
        return language
    return language[:2] if language[:2] in _LANGUAGES else "auto"


def _is_of(order: ChargeOrder, truth: Truth) -> bool:
    ours = (order.amount_minor, order.currency, order.customer_reference)
    return ours == (truth.amount_minor, truth.currency, truth.customer_reference)


def _key_of(thing: Mapping[str, Any]) -> str | None:
    # A refund's key is its own; the payment that it is of is found by its reference.
    return None if thing["object"] == "refund" else (thing.get("metadata") or {}).get(KEY)


def _reference_of(thing: Mapping[str, Any]) -> str | None:
    intent = _intent_id_of(thing)
    return intent if intent is not None else thing.get("id")


def _intent_id_of(thing: Any) -> str | None:
    if thing["object"] == "payment_intent":
        return str(thing["id"])
    return reading.id_of(reading.field(thing, "payment_intent"))
