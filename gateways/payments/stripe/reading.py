"""What Stripe's objects mean for the portal: states, titles, reasons, amounts."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime
from typing import Any

import stripe

from gateways.payments.base import (
    GatewayState,
    MethodTruth,
    RefundTruth,
    ReversalTruth,
    Truth,
)

KEY, CUSTOMER, BACK = "lastmile_key", "lastmile_account", "lastmile_return"
"""The names of our own things among Stripe's metadata."""
CARD, BANK = "card", "bank"

# Currencies without cents that Stripe counts in hundredths all the same.
_HUNDREDTHS = {"ISK": 100, "UGX": 100}
_INTENT = {
    "processing": GatewayState.PROCESSING,
    "succeeded": GatewayState.SUCCEEDED,
    "canceled": GatewayState.CANCELLED,
}
_REFUND = {
    "succeeded": GatewayState.SUCCEEDED,
    "pending": GatewayState.PROCESSING,
    "requires_action": GatewayState.PROCESSING,
    "failed": GatewayState.DECLINED,
    "canceled": GatewayState.CANCELLED,
}
_BRANDS = {
    "visa": "Visa",
    "mastercard": "Mastercard",
    "amex": "American Express",
    "discover": "Discover",
    "diners": "Diners Club",
    "jcb": "JCB",
    "unionpay": "UnionPay",
}
REASONS = {
    "insufficient_funds": "The bank declined the card: not enough money in the account.",
    "expired_card": "The card has expired.",
    "incorrect_cvc": "The security code of the card was not right.",
    "incorrect_number": "The number of the card was not right.",
    "authentication_required": "The bank wants its customer to confirm this payment.",
    "payment_intent_authentication_failure": "The bank could not confirm that it was you.",
    "debit_not_authorized": "The bank could not take the money from the account.",
    "no_account": "The bank account is not there any more.",
    "account_closed": "The bank account is closed.",
}
DECLINED = "The bank declined the payment."
REFUND_REASONS = {
    "lost_or_stolen_card": "The card was reported lost or stolen.",
    "expired_or_canceled_card": "The card has expired or was cancelled.",
    "charge_for_pending_refund_disputed": "The payment was charged back meanwhile.",
    "insufficient_funds": "There was not enough money at the payment service.",
    "merchant_request": "It was cancelled at the payment service.",
}
REFUND_FAILED = "The bank did not take the refund."
NEEDS_CONFIRMING = ("authentication_required", "authentication_not_handled")
# Inquiries of a bank, and what was settled before a dispute: they move money only by exception.
_ONLY_ASKED = ("warning_needs_response", "warning_under_review", "warning_closed", "prevented")
_DEBITS = ("us_bank_account", "sepa_debit", "acss_debit", "bacs_debit", "au_becs_debit")


def to_stripe(amount_minor: int, currency: str) -> int:
    """An amount in minor units as Stripe counts it."""
    return amount_minor * _HUNDREDTHS.get(currency, 1)


def from_stripe(amount: int, currency: str) -> int:
    """Stripe's amount in our minor units."""
    return amount // _HUNDREDTHS.get(currency.upper(), 1)


def instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def field(thing: Any, *names: str) -> Any:
    """A value inside Stripe's objects by the names that lead to it; None where one is missing."""
    for name in names:
        if thing is None or isinstance(thing, str):
            return None
        thing = thing.get(name) if hasattr(thing, "get") else getattr(thing, name, None)
    return thing


def id_of(thing: Any) -> str | None:
    """The id of something that may be expanded."""
    return thing if thing is None or isinstance(thing, str) else str(thing["id"])


def was_asked_to_confirm(intent: stripe.PaymentIntent) -> bool:
    """Whether the bank wants the customer before it pays a charge."""
    code = field(intent, "last_payment_error", "code")
    declined = field(intent, "last_payment_error", "decline_code")
    return intent.status == "requires_action" or bool({code, declined} & set(NEEDS_CONFIRMING))


def state_of(intent: stripe.PaymentIntent) -> GatewayState:
    """Where a payment stands; one that failed and waits for another method is declined."""
    known = _INTENT.get(intent.status)
    if known is not None:
        return known
    if intent.status == "requires_payment_method" and field(intent, "last_payment_error"):
        return GatewayState.DECLINED
    return GatewayState.PENDING


def truth_of(
    intent: stripe.PaymentIntent, state: GatewayState | None = None, hosted_url: str = ""
) -> Truth:
    """A payment intent as the gateway interface says it."""
    state = state or state_of(intent)
    currency = intent.currency.upper()
    fee = field(intent, "latest_charge", "balance_transaction")
    same_currency = str(field(fee, "currency") or "").upper() == currency
    return Truth(
        reference=intent.id,
        state=state,
        amount_minor=from_stripe(intent.amount, currency),
        currency=currency,
        customer_reference=str(field(intent, "metadata", CUSTOMER) or ""),
        method=_method_of(intent),
        decline_reason=reason_of(intent) if state is GatewayState.DECLINED else "",
        gateway_fee_minor=from_stripe(fee["fee"], currency) if same_currency else None,
        hosted_url=hosted_url,
    )


def reason_of(intent: stripe.PaymentIntent | stripe.SetupIntent) -> str:
    """Why it was declined, in a sentence of ours that is safe to show."""
    error = field(intent, "last_payment_error") or field(intent, "last_setup_error")
    for name in ("decline_code", "code"):
        if field(error, name) in REASONS:
            return REASONS[str(field(error, name))]
    return DECLINED


def _method_of(intent: stripe.PaymentIntent) -> str:
    details = field(intent, "latest_charge", "payment_method_details")
    tried = field(intent, "last_payment_error", "payment_method")
    return title_of(details) or title_of(tried) or title_of(field(intent, "payment_method"))


def title_of(method: Any) -> str:
    """Like "Visa ending 4242", of a payment method or the details of a charge."""
    type_ = field(method, "type")
    last4 = field(method, str(type_), "last4")
    if type_ == "card":
        brand = str(field(method, "card", "brand") or "card")
        return f"{_BRANDS.get(brand, 'Card')} ending {last4}"
    if type_ in _DEBITS:
        return f"Bank account ending {last4}"
    return str(type_).replace("_", " ").title() if type_ else ""


def is_debit(charge: Any) -> bool:
    return field(charge, "payment_method_details", "type") in _DEBITS


def method_truth(
    method: Any, state: GatewayState, customer_reference: str, reason: str = ""
) -> MethodTruth:
    """A payment method as the gateway interface says it; `method` may be None."""
    is_kept = state is GatewayState.SUCCEEDED
    return MethodTruth(
        reference=id_of(method) if is_kept else None,
        state=state,
        kind=(CARD if field(method, "type") == "card" else BANK) if method else "",
        title=title_of(method),
        expires_on=_expires_on(method),
        customer_reference=customer_reference,
        gateway_customer=id_of(field(method, "customer")),
        decline_reason=reason,
    )


def _expires_on(method: Any) -> date | None:
    year, month = field(method, "card", "exp_year"), field(method, "card", "exp_month")
    if year is None or month is None:
        return None
    return date(int(year), int(month), monthrange(int(year), int(month))[1])


def refund_truth(refund: stripe.Refund) -> RefundTruth:
    currency = refund.currency.upper()
    state = _REFUND.get(str(refund.status), GatewayState.PROCESSING)
    return RefundTruth(
        reference=refund.id,
        state=state,
        amount_minor=from_stripe(refund.amount, currency),
        currency=currency,
        decline_reason=REFUND_REASONS.get(str(field(refund, "failure_reason")), REFUND_FAILED)
        if state in (GatewayState.DECLINED, GatewayState.CANCELLED)
        else "",
    )


def reversals_of(dispute: stripe.Dispute, *, is_debit: bool) -> list[ReversalTruth]:
    """What a dispute has moved, in order: the money away, back when it was won, and away again when
    the bank did not leave it at that."""
    currency = dispute.currency.upper()
    found: list[ReversalTruth] = []
    for sign, amount, moved_at in _moves_of(dispute):
        is_won = sign > 0
        number = 1 + sum((each.kind == "chargeback_won") is is_won for each in found)
        name = f"{dispute.id}/won" if is_won else dispute.id
        taken = "return" if is_debit else "chargeback"
        found.append(
            ReversalTruth(
                reference=name if number == 1 else f"{name}/{number}",
                kind="chargeback_won" if is_won else taken,
                amount_minor=from_stripe(amount, currency),
                currency=currency,
                state=GatewayState.SUCCEEDED,
                reason="The bank decided for the merchant."
                if is_won
                else str(dispute.reason).replace("_", " "),
                happened_at=instant(moved_at),
            )
        )
    return found


def _moves_of(dispute: stripe.Dispute) -> list[tuple[int, int, int]]:
    """Sign, amount and time of each move of money, as Stripe's books have them; what its state says
    has moved and its books do not show yet comes at the end."""
    moves = []
    for move in sorted(dispute.balance_transactions or [], key=lambda each: each["created"]):
        # In another currency it is what the bank's rate made of the amount in dispute.
        is_same = move["currency"] == dispute.currency
        amount = abs(move["amount"]) if is_same else dispute.amount
        moves.append((-1 if move["amount"] < 0 else 1, amount, move["created"]))
    if not moves and dispute.status not in _ONLY_ASKED:
        moves.append((-1, dispute.amount, dispute.created))
    if dispute.status == "won" and moves[-1][0] < 0:
        moves.append((1, moves[-1][1], moves[-1][2]))
    return moves
