"""A gateway that breaks off, cuts answers, says 500 and 409 and hangs: over real HTTP, every
payment is charged once or not at all, and our books equal the bank's (bar 55)."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from blueprints.billing import charging, payments, refunding, settling, starting
from blueprints.billing.errors import GatewaySaysNo, GatewaySilent
from blueprints.billing.starting import Choice, Order
from core import clock, form_keys, ids
from core.db import db, unit_of_work
from gateways.outbound import AllowedOrigin, OutboundClient
from gateways.payments.base import GatewayState, MethodOrder
from gateways.payments.sandbox.client import SandboxGateway
from gateways.payments.sandbox.control import SandboxControl
from gateways.payments.sandbox.faults import Fault, FaultPlan
from gateways.payments.sandbox.methods import Saving
from gateways.payments.sandbox.secrets import SandboxSecrets
from gateways.payments.sandbox.store import Decision
from models import ENDED, PaymentMethod, PaymentState, ReversalState
from tests.conftest import Portal
from tests.gateways.conftest import fake_portal, running_sandbox
from tests.repeats import sized

PATIENCE_SECONDS = 0.07
PAYMENTS = {"sqlite": sized(300, 1_000, 1_000), "postgresql": sized(60, 150, 150)}
RETURN_URL = "http://127.0.0.1:8000/pay/{id}/return"


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[tuple[SandboxGateway, SandboxControl]]:
    secrets = SandboxSecrets.read_or_create(tmp_path / "secret")
    with fake_portal() as hears, running_sandbox(tmp_path, hears.url) as url:
        outbound = OutboundClient(
            [AllowedOrigin.from_url(url, is_loopback_demo=True)], total_seconds=PATIENCE_SECONDS
        )
        yield SandboxGateway(url, secrets, outbound=outbound), SandboxControl(url, secrets)


def start(ctx: Portal, gateway: SandboxGateway, amount_minor: int) -> None:
    """Press Pay once with a new form; what the gateway does to it is stored."""
    subject = f"customer:{ctx.world.customers['alice']}"
    value = form_keys.mint(ctx.settings.secret, subject)
    key = form_keys.check(ctx.settings.secret, subject, value, "/pay", {"a": str(amount_minor)})
    order = Order(
        ctx.world.accounts["alice"], ctx.world.customers["alice"], Choice.OTHER, amount_minor
    )
    with contextlib.suppress(GatewaySilent, GatewaySaysNo):
        starting.start(order, key, "/payments/{id}", gateway, RETURN_URL)


def test_every_payment_is_charged_once_or_not_at_all(
    ctx: Portal,
    bank: tuple[SandboxGateway, SandboxControl],
    engine_kind: str,
    tick: Callable[..., None],
) -> None:
    gateway, control = bank
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    plan = FaultPlan(seed, 0.35, tuple(Fault), ("start", "ask", "cancel"))
    control.set_fault_plan(plan, hang_seconds=2 * PATIENCE_SECONDS)
    for _ in range(PAYMENTS[engine_kind]):
        start(ctx, gateway, dice.randrange(100, 900))
        [(payment_id, public_id, key)] = ctx.rows(
            "SELECT id, public_id, key FROM payments ORDER BY id DESC LIMIT 1"
        )
        decision = dice.choice((Decision.PAY, Decision.PAY, Decision.DECLINE, None))
        if decision is not None:
            try:
                control.decide(key, decision)
            except RuntimeError:
                decision = None  # the bank has not heard of it, or not yet
        tick(seconds=90)
        for turn in range(60):
            if turn > 3 and decision is None:
                state = settling.cancel(ctx.world.accounts["alice"], public_id, gateway)
            else:
                state = settling.settle(payment_id, gateway)
            if state in ENDED:
                break
            tick(minutes=20)
        else:
            raise AssertionError(f"{public_id} is still {state}")
    control.set_fault_plan(FaultPlan())
    _compare(ctx, control)


def test_every_charge_and_refund_is_made_once_or_not_at_all(
    ctx: Portal,
    bank: tuple[SandboxGateway, SandboxControl],
    engine_kind: str,
    tick: Callable[..., None],
) -> None:
    gateway, control = bank
    ctx.app.extensions["payment_gateway"] = gateway
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    dice = random.Random(seed)
    methods = [_save(ctx, gateway, control, saving) for saving in (Saving.CARD, Saving.DECLINING)]
    calls = ("charge", "ask", "refund", "ask_refund", "list_reversals")
    plan = FaultPlan(seed, 0.35, tuple(Fault), calls)
    control.set_fault_plan(plan, hang_seconds=2 * PATIENCE_SECONDS)
    account_id, customer_id = ctx.world.accounts["alice"], ctx.world.customers["alice"]
    for number in range(PAYMENTS[engine_kind] // 5):
        new = payments.NewPayment(
            f"charge-{number}", account_id, customer_id, None, dice.randrange(100, 900),
            dice.choice(methods),
        )  # fmt: skip
        [(payment_id, public_id)] = unit_of_work(
            partial(payments.create, payments=[new], gateway_name=gateway.name), account_id
        )
        state = charging.charge(payment_id, gateway)
        _let_late_calls_arrive(state)
        for _ in range(60):
            if state in ENDED:
                break
            tick(seconds=90)
            state = settling.settle(payment_id, gateway)
        else:
            raise AssertionError(f"{public_id} is still {state}")
        if state is PaymentState.SUCCEEDED and dice.random() < 0.5:
            _refund(ctx, gateway, public_id, new.amount_minor // 2, tick)
    control.set_fault_plan(FaultPlan())
    _compare(ctx, control)
    refunds = ctx.one(
        "SELECT coalesce(sum(amount_minor), 0) FROM payment_reversals WHERE state = 'succeeded'"
    )
    assert refunds == sum(row.refunded_minor for row in control.list_books())
    assert ctx.one("SELECT count(*) FROM payment_reversals WHERE ask_at IS NOT NULL") == 0


def _let_late_calls_arrive(state: PaymentState) -> None:
    """The clock of the test runs ahead of the line: what is on its way must not come after it."""
    if state is PaymentState.UNKNOWN:
        time.sleep(3 * PATIENCE_SECONDS)


def _save(ctx: Portal, gateway: SandboxGateway, control: SandboxControl, saving: Saving) -> int:
    key = f"method-{saving}"
    reference = ctx.world.public_ids["alice"]
    gateway.save_method(MethodOrder(key, "http://127.0.0.1:8000/back", reference, None, "en"))
    control.choose_method(key, saving)
    truth = gateway.ask_method(key)

    def work(session: Session) -> int:
        method = PaymentMethod(
            public_id=ids.public_id(),
            key=key,
            account_id=ctx.world.accounts["alice"],
            customer_id=ctx.world.customers["alice"],
            gateway=gateway.name,
            gateway_reference=truth.reference,
            title=truth.title,
            state="usable",
            created_at=clock.now(),
        )
        session.add(method)
        session.flush()
        return method.id

    return unit_of_work(work, ctx.world.accounts["alice"])


def _refund(
    ctx: Portal,
    gateway: SandboxGateway,
    payment_public_id: str,
    amount_minor: int,
    tick: Callable[..., None],
) -> None:
    public_id = refunding.ask_refund(
        ctx.world.accounts["alice"], payment_public_id, amount_minor, "",
        ctx.world.customers["ben"], f"refund-{payment_public_id}",
    )  # fmt: skip
    [(reversal_id, state)] = ctx.rows(
        "SELECT id, state FROM payment_reversals WHERE public_id = :id", id=public_id
    )
    if state == ReversalState.ASKED:  # what one member gives back within a day is limited
        refunding.approve(public_id, ctx.world.customers["ada"])
    for _ in range(60):
        if refunding.carry_out(reversal_id, gateway) is ReversalState.SUCCEEDED:
            return
        tick(minutes=5)
    raise AssertionError(f"{public_id} is not made")


def _compare(ctx: Portal, control: SandboxControl) -> None:
    ours = {
        key: (state, amount, lines)
        for key, state, amount, lines in ctx.rows(
            "SELECT p.key, p.state, p.amount_minor, (SELECT count(*) FROM journal_entries e"
            " WHERE e.key = 'payment:' || p.public_id)"
            " FROM payments p WHERE p.key NOT LIKE 'world%'"
        )
    }
    books = control.list_books()
    assert len({row.key for row in books}) == len(books)
    succeeded = {row.key for row in books if row.state is GatewayState.SUCCEEDED}
    assert succeeded == {key for key, value in ours.items() if value[0] == PaymentState.SUCCEEDED}
    for row in books:
        state, amount_minor, entries = ours[row.key]
        assert amount_minor == row.amount_minor
        assert entries == (1 if state == PaymentState.SUCCEEDED else 0)
    received = ctx.one(
        "SELECT -sum(l.amount_minor) FROM journal_lines l"
        " JOIN payments p ON p.entry_id = l.entry_id"
        " WHERE l.account_id IS NOT NULL AND p.key NOT LIKE 'world%'"
    )
    assert received == sum(row.amount_minor for row in books if row.key in succeeded)
    db.session.remove()
