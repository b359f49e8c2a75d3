"""A gateway with somebody at its desk: what its customers and their banks do, for each provider
alike, so that one set of tests holds for all."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gateways.payments.base import GatewayState, PaymentGateway
from gateways.payments.sandbox.control import SandboxControl
from gateways.payments.sandbox.methods import Behaviour, Saving
from gateways.payments.sandbox.store import Decision, Reversing, SandboxStore


class Desk(Protocol):
    """A gateway, and what happens there."""

    gateway: PaymentGateway

    def pay(self, key: str) -> None:
        """The customer pays on the hosted page."""

    def decline(self, key: str) -> None:
        """The bank says no on the hosted page."""

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

    def decline(self, key: str) -> None:
        self.bank.decide(key, Decision.DECLINE)

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
