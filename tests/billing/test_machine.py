"""Anything that can happen to accounts and payments, in any order: the books add up after each step
and equal the bank's at the end (bars 51, 53, 57)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from blueprints.billing import reconciling, refunding, reversing, settling, starting
from blueprints.billing.errors import (
    GatewaySaysNo,
    GatewaySilent,
    InvoiceNotFound,
    NothingToPay,
    PaymentUnderWay,
)
from blueprints.billing.starting import Choice
from blueprints.billing.verify import find_faults
from core import clock, ids
from core.db import db, reading
from core.errors import Refusal
from gateways.payments.base import GatewayState, Notice
from gateways.payments.errors import GatewayRefused
from gateways.payments.sandbox.store import Decision, Reversing, SandboxStore
from models import PaymentState
from tests import world
from tests.billing.conftest import RETURN_URL, Killed, ShakyGateway, Till
from tests.conftest import Base, Portal

NAMES = st.sampled_from(["alice", "mallory", "rich"])
LOST = st.sampled_from([None, None, None, "before", "after", "dies"])


@contextmanager
def survived(*errors: type[BaseException]) -> Iterator[None]:
    """What a caller that dies, or stops with one of these, leaves to the next one."""
    caught: tuple[type[BaseException], ...] = (Killed, *errors)
    try:
        yield
    except caught:
        db.session.remove()


@contextmanager
def fresh_till(base: Base) -> Iterator[Till]:
    """A till on a database that is just the world, without the pytest fixtures of one test."""
    base.reset()
    with clock.set_to(world.NOW), base.app.app_context():
        bank = SandboxStore(":memory:", clock=clock.now)
        portal = Portal(base.app, base.settings, base.world, bank, None, "")  # type: ignore[arg-type]
        yield Till(portal, ShakyGateway(portal))
        db.session.remove()
        bank.close()


class Billing(RuleBasedStateMachine):
    base: Base

    def __init__(self) -> None:
        super().__init__()
        self._open = fresh_till(self.base)
        self.till = self._open.__enter__()
        self.now = world.NOW
        self._clock = clock.set_to(self.now)
        self._clock.__enter__()

    def teardown(self) -> None:
        try:
            self._settle_all()
        finally:
            self._clock.__exit__(None, None, None)
            self._open.__exit__(None, None, None)

    @rule(wait=st.sampled_from([3, 70, 400, 4_000, 90_000]))
    def wait(self, wait: int) -> None:
        self._pass(wait)

    def _pass(self, wait: int) -> None:
        self._clock.__exit__(None, None, None)
        self.now += timedelta(seconds=wait)
        self._clock = clock.set_to(self.now)
        self._clock.__enter__()

    @rule(name=NAMES, choice=st.sampled_from([*Choice]), minor=st.integers(100, 60_000), lost=LOST)
    def start(self, name: str, choice: Choice, minor: int, lost: str | None) -> None:
        invoice = self.till.portal.one(
            "SELECT max(public_id) FROM invoices WHERE account_id = :id",
            id=self.till.portal.world.accounts[name],
        )
        self.till.gateway.loses = lambda _call: lost
        key = self.till.key(name)
        for _ in range(2):
            with survived(GatewaySilent, NothingToPay, PaymentUnderWay, InvoiceNotFound):
                self.till.start(name, choice, key, amount_minor=minor, invoice_public_id=invoice)

    @rule(number=st.integers(0, 3), decision=st.sampled_from([*Decision]))
    def decide(self, number: int, decision: Decision) -> None:
        at_the_bank = self.till.portal.bank.list_latest(4)
        if number < len(at_the_bank):
            self.till.portal.bank.decide(at_the_bank[number].key, decision)

    @rule(
        number=st.integers(0, 3),
        lost=LOST,
        how=st.sampled_from(["return", "notice", "cancel", "continue"]),
    )
    def look(self, number: int, lost: str | None, how: str) -> None:
        ours = self.till.portal.rows(
            "SELECT id, key, account_id, public_id FROM payments"
            " WHERE key NOT LIKE 'world%' ORDER BY id DESC LIMIT 4"
        )
        if number >= len(ours):
            return
        payment_id, key, account_id, public_id = ours[number]
        gateway = self.till.gateway
        gateway.loses = lambda _call: lost
        with survived(GatewaySilent, GatewaySaysNo):
            if how == "return":
                settling.settle(payment_id, gateway)
            elif how == "notice":
                settling.take_notice(gateway, Notice(f"event-{key}-{number}", None, key))
            elif how == "cancel":
                settling.cancel(account_id, public_id, gateway)
            else:
                starting.resume(account_id, public_id, gateway, RETURN_URL)

    @rule(number=st.integers(0, 3), minor=st.integers(1, 9_000), lost=LOST)
    def give_back(self, number: int, minor: int, lost: str | None) -> None:
        """Staff refund a part of a payment; pressed again, the form counts once."""
        arrived = self._list_arrived()
        if number >= len(arrived):
            return
        _payment_id, _key, account_id, public_id = arrived[number]
        self.till.gateway.loses = lambda _call: lost
        staff_id, key = self.till.portal.world.customers["ben"], ids.public_id()
        for _ in range(2):
            with survived(Refusal):
                refunding.ask_refund(account_id, public_id, minor, "Asked", staff_id, key)

    @rule(
        number=st.integers(0, 3),
        events=st.lists(st.integers(0, 2), max_size=4),
        lost=LOST,
        is_at_desk=st.booleans(),
    )
    def refund_comes_back(
        self, number: int, events: list[int], lost: str | None, *, is_at_desk: bool
    ) -> None:
        """A refund, sometimes one made at the bank's own desk, is sent back; its notices come in
        any order, any number of times, or not at all."""
        arrived = self._list_arrived()
        if number >= len(arrived):
            return
        _payment_id, key, _account_id, _public_id = arrived[number]
        bank = self.till.portal.bank
        with suppress(GatewayRefused):
            if is_at_desk:
                bank.refund(key, f"desk-{ids.public_id()}", 7)
            bank.reverse(key, Reversing.REFUND_FAILED)
        self.till.gateway.loses = lambda _call: lost
        for event in events:
            with survived():
                settling.take_notice(self.till.gateway, Notice(f"back-{key}-{event}", None, key))

    def _list_arrived(self) -> list[tuple[int, str, int, str]]:
        return [
            (row[0], row[1], row[2], row[3])
            for row in self.till.portal.rows(
                "SELECT id, key, account_id, public_id FROM payments"
                " WHERE key NOT LIKE 'world%' AND state = 'succeeded' AND gateway = 'sandbox'"
                " ORDER BY id DESC LIMIT 4"
            )
        ]

    @rule(lost=LOST)
    def work(self, lost: str | None) -> None:
        self.till.gateway.loses = lambda _call: lost
        with survived():
            settling.ask_due(self.till.gateway)
            refunding.ask_due(self.till.gateway)

    @rule(name=NAMES)
    def issue(self, name: str) -> None:
        world.issue_month(self.till.portal.world, (name,), date(2026, 12, 1))

    @invariant()
    def books_add_up(self) -> None:
        with reading() as session:
            assert list(find_faults(session)) == []

    @invariant()
    def nobody_pays_twice_at_once(self) -> None:
        assert not self.till.portal.rows(
            "SELECT account_id FROM payments WHERE state IN ('created', 'sent', 'unknown')"
            " GROUP BY account_id HAVING count(*) > 1"
        )

    def _settle_all(self) -> None:
        """Time passes, the bank answers: our books are the bank's."""
        self.till.gateway.loses = lambda _call: None
        for _ in range(3):
            self._pass(90_000)
            settling.ask_due(self.till.gateway)
            refunding.ask_due(self.till.gateway)
        # What no notice told of, the daily look finds.
        list(reconciling.reconcile(self.till.gateway, world.NOW))
        self.books_add_up()
        ours = dict(self.till.portal.rows("SELECT key, state FROM payments"))
        for row in self.till.portal.bank.list_latest(100):
            state = self.till.portal.bank.ask(row.key).state
            assert (ours[row.key] == PaymentState.SUCCEEDED) == (state is GatewayState.SUCCEEDED)
        ids_of = dict(self.till.portal.rows("SELECT key, id FROM payments"))
        for booked in self.till.portal.bank.list_after(0, 1_000):
            went = reversing.went_back(db.session(), ids_of[booked.payment.key])
            assert not went.is_under_way
            assert (went.refunded_minor, went.reversed_minor) == (
                booked.refunded_minor,
                booked.reversed_minor,
            )


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_books_add_up_whatever_happens(base: Base) -> None:
    machine = type("BillingOnSqlite", (Billing,), {"base": base})
    run_state_machine_as_test(
        machine,
        settings=settings(
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
