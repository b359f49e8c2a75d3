"""A bad line to the bank, and payments made through the services."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

from blueprints.billing import settling, starting
from blueprints.billing.starting import Choice, OnItsWay, Order
from core import form_keys
from core.db import refuse_inside_unit
from core.form_keys import ArrivedKey
from gateways.payments.base import (
    ChargeOrder,
    MethodOrder,
    MethodTruth,
    RefundTruth,
    ReversalTruth,
    Started,
    StartOrder,
    Truth,
)
from gateways.payments.errors import GatewayTimeout
from gateways.payments.sandbox.client import SandboxInProcess
from gateways.payments.sandbox.secrets import SandboxSecrets
from tests.conftest import SEED, Portal

T = TypeVar("T")
RETURN_URL = "http://127.0.0.1:8000/pay/{id}/return"


class Killed(BaseException):
    """The end of the process that called, as far as it can be had within one."""


class ShakyGateway(SandboxInProcess):
    """The sandbox over a bad line: `loses` says for a call ("start", "ask", "charge" …) whether the
    question is lost ("before"), the answer ("after"), who waits for it ("dies"), or nothing
    (None)."""

    def __init__(self, portal: Portal) -> None:
        super().__init__(portal.bank, SandboxSecrets.of([SEED]))
        self.loses: Callable[[str], str | None] = lambda _call: None
        self.before: Callable[[str], None] = lambda _call: None
        self.calls: list[str] = []

    def _over_the_line(self, call: str, do: Callable[[], T]) -> T:
        refuse_inside_unit("a call to the bank")
        self.calls.append(call)
        self.before(call)
        lost = self.loses(call)
        if lost == "before":
            raise GatewayTimeout("the question was lost")
        answer = do()
        if lost == "dies":
            raise Killed
        if lost == "after":
            raise GatewayTimeout("the answer was lost")
        return answer

    def start(self, order: StartOrder) -> Started:
        return self._over_the_line("start", lambda: super(ShakyGateway, self).start(order))

    def ask(self, key: str) -> Truth:
        return self._over_the_line("ask", lambda: super(ShakyGateway, self).ask(key))

    def cancel(self, key: str) -> Truth:
        return self._over_the_line("cancel", lambda: super(ShakyGateway, self).cancel(key))

    def charge(self, order: ChargeOrder) -> Truth:
        return self._over_the_line("charge", lambda: super(ShakyGateway, self).charge(order))

    def refund(self, key: str, refund_key: str, amount_minor: int) -> RefundTruth:
        return self._over_the_line(
            "refund", lambda: super(ShakyGateway, self).refund(key, refund_key, amount_minor)
        )

    def ask_refund(self, key: str, refund_key: str) -> RefundTruth:
        return self._over_the_line(
            "ask_refund", lambda: super(ShakyGateway, self).ask_refund(key, refund_key)
        )

    def list_refunds(self, key: str) -> list[RefundTruth]:
        return self._over_the_line(
            "list_refunds", lambda: super(ShakyGateway, self).list_refunds(key)
        )

    def list_reversals(self, key: str) -> list[ReversalTruth]:
        return self._over_the_line(
            "list_reversals", lambda: super(ShakyGateway, self).list_reversals(key)
        )

    def save_method(self, order: MethodOrder) -> Started:
        return self._over_the_line(
            "save_method", lambda: super(ShakyGateway, self).save_method(order)
        )

    def ask_method(self, key: str) -> MethodTruth:
        return self._over_the_line("ask_method", lambda: super(ShakyGateway, self).ask_method(key))

    def forget_method(self, reference: str) -> None:
        self._over_the_line(
            "forget_method", lambda: super(ShakyGateway, self).forget_method(reference)
        )


@dataclass
class Till:
    """Payments without a browser."""

    portal: Portal
    gateway: ShakyGateway
    keys: dict[str, ArrivedKey] = field(default_factory=dict)

    def key(self, name: str, path: str = "/pay") -> ArrivedKey:
        """A form's key as it arrives from the customer."""
        secret, subject = self.portal.settings.secret, f"customer:{name}"
        return form_keys.check(secret, subject, form_keys.mint(secret, subject), path, {})

    def start(
        self,
        name: str = "alice",
        choice: Choice = Choice.BALANCE,
        key: ArrivedKey | None = None,
        **order: Any,
    ) -> OnItsWay:
        world = self.portal.world
        return starting.start(
            Order(world.accounts[name], world.customers[name], choice, **order),
            key or self.key(name),
            "/payments/{id}",
            self.gateway,
            RETURN_URL,
        )

    def latest(self, column: str) -> Any:
        """A column of the latest payment."""
        return self.portal.one(f"SELECT {column} FROM payments ORDER BY id DESC LIMIT 1")

    def latest_id(self) -> int:
        return int(self.latest("id"))

    def settle(self, notice_id: str | None = None) -> str:
        return str(settling.settle(self.latest_id(), self.gateway, notice_id))

    def entry_count(self) -> int:
        return int(
            self.portal.one(
                "SELECT count(*) FROM journal_entries WHERE key ="
                " (SELECT 'payment:' || public_id FROM payments ORDER BY id DESC LIMIT 1)"
            )
        )


@pytest.fixture
def till(ctx: Portal) -> Till:
    gateway = ShakyGateway(ctx)
    ctx.app.extensions["payment_gateway"] = gateway
    return Till(ctx, gateway)
