"""A gateway with somebody at its desk: what its customers and their banks do, for each provider
alike, so that one set of tests holds for all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from gateways.outbound import AllowedOrigin, OutboundClient
from gateways.payments.base import GatewayState, PaymentGateway
from gateways.payments.sandbox.control import SandboxControl
from gateways.payments.sandbox.faults import Fault
from gateways.payments.sandbox.methods import Behaviour, Saving
from gateways.payments.sandbox.store import Decision, Reversing, SandboxStore
from gateways.payments.stripe.gateway import StripeGateway
from tests.gateways import fake_stripe
from tests.gateways.fake_stripe import FakeStripe


class Desk(Protocol):
    """A gateway, and what happens there."""

    @property
    def gateway(self) -> PaymentGateway:
        """The gateway as the portal has it."""

    def pay(self, key: str) -> None:
        """The customer pays on the hosted page."""

    def confirm(self, key: str) -> None:
        """The customer confirms a charge that waits for it."""

    def save(self, key: str, kind: str) -> None:
        """The customer saves a card or a bank account, on the page for that."""

    def refuse(self, key: str) -> None:
        """The bank does not let the method be saved."""

    def let(self, reference: str, behaviour: Behaviour) -> None:
        """Let a saved method behave so from now on."""

    def reverse(self, key: str, kind: Reversing) -> None:
        """The bank moves money of a payment without us."""

    def lose_answer(self) -> None:
        """The next call that begins something is accepted, and its answer is lost."""

    def lose_question(self) -> None:
        """The next call that begins something never arrives."""


def state_in_time(gateway: PaymentGateway, key: str, state: GatewayState) -> bool:
    """Whether the payment takes this state soon, as a bank debit does."""
    end = time.monotonic() + 10
    while gateway.ask(key).state is not state:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@dataclass
class SandboxDesk:
    """The sandbox, over HTTP or in process."""

    gateway: PaymentGateway
    bank: SandboxControl | SandboxStore
    set_next: Callable[[str], None]

    def pay(self, key: str) -> None:
        self.bank.decide(key, Decision.PAY)

    def confirm(self, key: str) -> None:
        self.bank.decide(key, Decision.CONFIRM)

    def save(self, key: str, kind: str) -> None:
        self.bank.choose_method(key, Saving(kind))

    def refuse(self, key: str) -> None:
        self.bank.choose_method(key, Saving.REFUSE)

    def let(self, reference: str, behaviour: Behaviour) -> None:
        self.bank.set_behaviour(reference, behaviour)

    def reverse(self, key: str, kind: Reversing) -> None:
        self.bank.reverse(key, kind)

    def lose_answer(self) -> None:
        self.set_next("drop-after")

    def lose_question(self) -> None:
        self.set_next("drop-before")


class Notes:
    """What a gateway notes under our keys, in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def find(self, key: str) -> str | None:
        return self.kept.get(key)

    def keep(self, key: str, reference: str) -> None:
        self.kept[key] = reference


class StripeDesk:
    """Our fake of Stripe, over HTTP."""

    def __init__(self, fake: FakeStripe, *, total_seconds: float = 20, **more: Any) -> None:
        self.fake = fake
        self.notes = Notes()
        outbound = OutboundClient(
            [AllowedOrigin.from_url(fake.url, is_loopback_demo=True)], total_seconds=total_seconds
        )
        self.gateway = StripeGateway(
            fake_stripe.KEY,
            ["whsec_now_and_here", "whsec_before_that"],
            self.notes,
            method_types=("card", "us_bank_account"),
            api=fake.url,
            checkout=fake.url,
            outbound=outbound,
            **more,
        )

    def pay(self, key: str) -> None:
        self.fake.pay(self.fake.by_key("cs", key))

    def confirm(self, key: str) -> None:
        self.fake.pay(self.fake.by_key("cs", key))

    def save(self, key: str, kind: str) -> None:
        self.fake.save(self.fake.by_key("cs", key), kind)

    def refuse(self, key: str) -> None:
        """Its page stays open: at Stripe a refused card is tried again there."""

    def let(self, reference: str, behaviour: Behaviour) -> None:
        self.fake.behaviours[reference] = behaviour
        if behaviour is Behaviour.EXPIRES:
            self.fake.things[reference]["card"].update(exp_month=1, exp_year=2024)

    def reverse(self, key: str, kind: Reversing) -> None:
        if kind is Reversing.CHARGEBACK_WON:
            self.fake.win(key)
        elif kind is Reversing.REFUND_FAILED:
            self.fake.send_refund_back(key)
        else:
            self.fake.dispute(key)

    def lose_answer(self) -> None:
        self.fake.charge_call = "confirm"
        self.fake.faults.set_next([Fault.DROP_AFTER])

    def lose_question(self) -> None:
        self.fake.charge_call = "intent"
        self.fake.faults.set_next([Fault.DROP_BEFORE])
