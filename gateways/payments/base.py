"""The interface between the portal and any payment gateway.

Money crosses it as an integer in minor units with its ISO 4217 currency beside it. Every call is
safe to repeat: the gateway knows a payment by the portal's own key, a refund by its refund key.
Any call may raise `GatewayTimeout`, which leaves the outcome unknown.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum


class GatewayState(StrEnum):
    """Where a payment or a refund stands at the gateway."""

    PENDING = "pending"
    PROCESSING = "processing"
    SUCCEEDED = "succeeded"
    DECLINED = "declined"
    EXPIRED = "expired"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True when the gateway will not change it any more."""
        return self not in (GatewayState.PENDING, GatewayState.PROCESSING)


@dataclass(frozen=True, slots=True)
class StartOrder:
    """What the customer is asked to pay, and where the browser comes back to."""

    key: str
    amount_minor: int
    currency: str
    description: str
    return_url: str
    customer_reference: str
    language: str


@dataclass(frozen=True, slots=True)
class Started:
    """The gateway's name for the payment and the address of its hosted page."""

    reference: str
    hosted_url: str


@dataclass(frozen=True, slots=True)
class MethodOrder:
    """Whose card or bank account is to be saved, and where the browser comes back to.

    `gateway_customer` is what the gateway calls them, where it keeps a method of theirs already.
    """

    key: str
    return_url: str
    customer_reference: str
    gateway_customer: str | None
    language: str


@dataclass(frozen=True, slots=True)
class MethodTruth:
    """What the gateway says about a method; `reference` names it in a charge.

    `kind` is card or bank, `title` reads like "Visa ending 4242"; both are empty before the
    customer has chosen. One that was forgotten is cancelled, and its `customer_reference` may be
    empty. `expires_on` is a card's last day.
    """

    reference: str | None
    state: GatewayState
    kind: str
    title: str
    expires_on: date | None
    customer_reference: str
    gateway_customer: str | None
    decline_reason: str


@dataclass(frozen=True, slots=True)
class ChargeOrder:
    """What is taken from a saved method while its customer is away.

    `return_url` is for the page on which they confirm it, should their bank want that.
    """

    key: str
    amount_minor: int
    currency: str
    description: str
    method_reference: str
    gateway_customer: str | None
    customer_reference: str
    language: str
    return_url: str


@dataclass(frozen=True, slots=True)
class Truth:
    """What the gateway says about a payment; the caller compares it with its own intent.

    `method` reads like "Card ending 4242" and is empty before one was chosen; `decline_reason` is
    safe to show to the customer and empty unless the state is declined. `hosted_url` is where the
    customer must confirm a charge that is pending, and otherwise empty.
    """

    reference: str | None
    state: GatewayState
    amount_minor: int
    currency: str
    customer_reference: str
    method: str
    decline_reason: str
    gateway_fee_minor: int | None = None
    hosted_url: str = ""


@dataclass(frozen=True, slots=True)
class Listed:
    """One payment as the gateway's own list has it: our key and return address with the truth.

    `changed_at` is when it took the state it has; `refunded_minor` what was given back of it and
    did not come again, and `reversed_minor` what its bank took back on balance.
    """

    key: str
    truth: Truth
    return_url: str
    created_at: datetime
    changed_at: datetime
    refunded_minor: int = 0
    reversed_minor: int = 0


@dataclass(frozen=True, slots=True)
class RefundTruth:
    """What the gateway says about one refund. One that succeeded may be declined later, when the
    customer's bank sends the money back; `decline_reason` is safe to show."""

    reference: str | None
    state: GatewayState
    amount_minor: int
    currency: str
    decline_reason: str = ""


@dataclass(frozen=True, slots=True)
class ReversalTruth:
    """Money of a payment that its bank has moved without us, `reference` unique for each time.

    `kind` is chargeback (taken back at the customer's word), chargeback_won (given to us again) or
    return (a debit that bounced). It has moved once the state is succeeded.
    """

    reference: str
    kind: str
    amount_minor: int
    currency: str
    state: GatewayState
    reason: str
    happened_at: datetime


@dataclass(frozen=True, slots=True)
class Notice:
    """A believed "look at this": it carries no outcome, the gateway is asked for that.

    `key` is that of a payment, its refunds and reversals included, or of a method. `event_id` is
    unique for each event and the same when the notice is sent again.
    """

    event_id: str
    reference: str | None
    key: str | None


class PaymentGateway(ABC):
    """One provider that takes payments on its own hosted page and from saved methods.

    `name` is the word in the notice address, `title` what customers call it; `origin` is the origin
    of the hosted page, such as "https://pay.example", for the Content-Security-Policy and for the
    one outward redirect. `garden` are the hosts that somebody whose line is held must reach to pay.
    """

    name: str
    title: str
    origin: str
    garden: tuple[str, ...]

    @abstractmethod
    def start(self, order: StartOrder) -> Started:
        """Ask for a hosted page; the same key with the same content gives the same page again.

        Raises GatewayRefused for a definite no, also when the key was used with other content.
        """

    @abstractmethod
    def ask(self, key: str) -> Truth:
        """The truth about the payment with our key, also when the start's answer was lost.

        Raises GatewayUnknownKey when the gateway never saw it.
        """

    @abstractmethod
    def cancel(self, key: str) -> Truth:
        """Try to cancel and return where the payment stands then.

        That may be succeeded (already paid) or processing (too late to stop), and neither is an
        error. Raises GatewayUnknownKey when the gateway never saw it.
        """

    @abstractmethod
    def refund(self, key: str, refund_key: str, amount_minor: int) -> RefundTruth:
        """Give back all or part of a succeeded payment; the refund key makes it safe to repeat.

        Raises GatewayRefused when it is not paid, more than is left, or the refund key was used
        with other content; GatewayUnknownKey when the gateway never saw the payment.
        """

    @abstractmethod
    def ask_refund(self, key: str, refund_key: str) -> RefundTruth:
        """The truth about a refund of the payment with our key, also when its answer was lost.

        Raises GatewayUnknownKey when the gateway never saw the payment or the refund.
        """

    @abstractmethod
    def list_refunds(self, key: str) -> list[RefundTruth]:
        """Every refund of the payment, whoever made it, oldest first, each with its reference.

        Raises GatewayUnknownKey when the gateway never saw the payment.
        """

    @abstractmethod
    def list_reversals(self, key: str) -> list[ReversalTruth]:
        """What its bank has moved of the payment without us, oldest first.

        Raises GatewayUnknownKey when the gateway never saw the payment.
        """

    @abstractmethod
    def save_method(self, order: MethodOrder) -> Started:
        """Ask for a hosted page on which a card or a bank account is saved, and nothing is paid.

        The same key with the same content gives the same page again. Raises GatewayRefused.
        """

    @abstractmethod
    def ask_method(self, key: str) -> MethodTruth:
        """The truth about the method that was to be saved under our key.

        Raises GatewayUnknownKey when the gateway never saw it.
        """

    @abstractmethod
    def forget_method(self, reference: str) -> None:
        """Let nothing be taken from the method any more; one that is gone already stays so."""

    @abstractmethod
    def charge(self, order: ChargeOrder) -> Truth:
        """Take money from a saved method; the same key with the same content takes it once.

        A card succeeds or is declined at once, or is pending with a `hosted_url` on which the
        customer must confirm; a bank debit is processing. `ask` and `cancel` know the key as that
        of any payment. Raises GatewayRefused for a definite no, also when the method is gone.
        """

    @abstractmethod
    def list_since(self, since: datetime) -> Iterator[Listed]:
        """The payments that were begun or changed at or after `since`, whatever their state.

        Refunds and reversals change a payment too.

        Asks page by page while it is read, and raises GatewayTimeout where a page does not come.
        """

    @abstractmethod
    def read_notice(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Notice:
        """The notice in a raw request body whose signature is good and at most 5 minutes old.

        Checks without network. Raises NoticeRejected, also for bodies over 256 kB; a caller caps
        what it reads at `gateways.payments.signatures.MAX_NOTICE_BYTES` + 1.
        """
