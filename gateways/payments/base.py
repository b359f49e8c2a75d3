"""The interface between the portal and any payment gateway.

Money crosses it as an integer in minor units with its ISO 4217 currency beside it. Every call is
safe to repeat: the gateway knows a payment by the portal's own key, a refund by its refund key.
Any call may raise `GatewayTimeout`, which leaves the outcome unknown.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
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
class Truth:
    """What the gateway says about a payment; the caller compares it with its own intent.

    `method` reads like "Card ending 4242" and is empty before one was chosen; `decline_reason` is
    safe to show to the customer and empty unless the state is declined.
    """

    reference: str | None
    state: GatewayState
    amount_minor: int
    currency: str
    customer_reference: str
    method: str
    decline_reason: str
    gateway_fee_minor: int | None = None


@dataclass(frozen=True, slots=True)
class Listed:
    """One payment as the gateway's own list has it: our key and return address with the truth.

    `changed_at` is when it took the state it has; `refunded_minor` what was given back of it.
    """

    key: str
    truth: Truth
    return_url: str
    created_at: datetime
    changed_at: datetime
    refunded_minor: int = 0


@dataclass(frozen=True, slots=True)
class RefundTruth:
    """What the gateway says about one refund."""

    reference: str | None
    state: GatewayState
    amount_minor: int
    currency: str
    decline_reason: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """A believed "look at this payment": it carries no outcome, the gateway is asked for that.

    `event_id` is unique for each event and the same when the notice is sent again.
    """

    event_id: str
    reference: str | None
    key: str | None


class PaymentGateway(ABC):
    """One provider that takes payments on its own hosted page.

    `name` is the word in the notice address, `title` what customers call it; `origin` is the origin
    of the hosted page, such as "https://pay.example", for the Content-Security-Policy and for the
    one outward redirect.
    """

    name: str
    title: str
    origin: str

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
    def list_since(self, since: datetime) -> Iterator[Listed]:
        """The payments that were begun or changed at or after `since`, whatever their state.

        Asks page by page while it is read, and raises GatewayTimeout where a page does not come.
        """

    @abstractmethod
    def read_notice(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Notice:
        """The notice in a raw request body whose signature is good and at most 5 minutes old.

        Checks without network. Raises NoticeRejected, also for bodies over 256 kB; a caller caps
        what it reads at `gateways.payments.signatures.MAX_NOTICE_BYTES` + 1.
        """
