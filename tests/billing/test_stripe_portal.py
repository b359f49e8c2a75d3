"""The portal with Stripe as its gateway: its pages, its notices, and what it notes in its rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from blueprints.billing import settling, verify
from blueprints.billing.gateway_memory import GatewayMemory
from blueprints.billing.methods import settling as methods
from core import clock
from core.db import db
from gateways.outbound import AllowedOrigin, OutboundClient
from gateways.payments.errors import GatewayTimeout
from gateways.payments.sandbox.faults import Fault
from gateways.payments.signatures import signature_header
from gateways.payments.stripe.gateway import StripeGateway
from tests.conftest import Portal
from tests.gateways import fake_stripe
from tests.gateways.fake_stripe import FakeStripe
from tests.page import Visitor

SECRET = "whsec_now_and_here"


@pytest.fixture
def fake(portal: Portal) -> Iterator[FakeStripe]:
    with fake_stripe.fake_stripe() as served:
        portal.app.extensions["payment_gateway"] = StripeGateway(
            fake_stripe.KEY,
            [SECRET],
            GatewayMemory(),
            method_types=("card", "us_bank_account"),
            api=served.url,
            checkout=served.url,
            outbound=OutboundClient([AllowedOrigin.from_url(served.url, is_loopback_demo=True)]),
        )
        yield served


def tell(portal: Portal, event_id: str, thing: dict[str, Any]) -> str:
    body = json.dumps({"id": event_id, "object": "event", "data": {"object": thing}}).encode()
    answer = portal.app.test_client().post(
        "/webhooks/payments/stripe",
        data=body,
        headers={"Stripe-Signature": signature_header(body, [SECRET], clock.now())},
        base_url="http://127.0.0.1:8000",
    )
    assert answer.status_code == 200
    return answer.text.strip()


def save(portal: Portal, fake: FakeStripe, alice: Visitor, kind: str = "card") -> None:
    out = alice.submit(alice.get(portal.path("billing/methods/add")), "/methods/add")
    assert out.location.startswith(f"{fake.url}/c/pay/")
    [(public_id, key)] = portal.rows(
        "SELECT public_id, key FROM payment_methods ORDER BY id DESC LIMIT 1"
    )
    fake.save(fake.by_key("cs", key), kind)
    alice.get(f"/methods/{public_id}/return")


def pay(portal: Portal, alice: Visitor) -> tuple[str, str]:
    """Press Pay with what is offered first; where that leads, and the payment's key."""
    page = alice.get(portal.path("billing/pay"))
    out = alice.submit(page, "/pay", choice="other", amount="12.34")
    return out.location, str(portal.one("SELECT key FROM payments ORDER BY id DESC LIMIT 1"))


def latest(portal: Portal) -> str:
    return str(portal.one("SELECT state FROM payments ORDER BY id DESC LIMIT 1"))


def test_paying_on_the_hosted_page(portal: Portal, fake: FakeStripe) -> None:
    alice = portal.visitor("alice")
    location, key = pay(portal, alice)
    assert location.startswith(f"{fake.url}/c/pay/cs_")
    session = fake.by_key("cs", key)
    fake.pay(session)
    assert tell(portal, "evt_1", dict(session)) == "ok"
    assert latest(portal) == "succeeded"
    reference = portal.one("SELECT gateway_reference FROM payments ORDER BY id DESC LIMIT 1")
    assert reference == session["payment_intent"]


def test_saving_a_card_and_paying_with_it(portal: Portal, fake: FakeStripe) -> None:
    alice = portal.visitor("alice")
    save(portal, fake, alice)
    location, _ = pay(portal, alice)
    assert "Paid. Thank you." in alice.get(location).text
    [(reference,)] = portal.rows("SELECT gateway_reference FROM payment_methods")
    assert reference.startswith("pm_")
    assert portal.one("SELECT reference FROM gateway_customers").startswith("cus_")


def test_a_disputed_payment_is_found_by_stripes_reference(portal: Portal, fake: FakeStripe) -> None:
    alice = portal.visitor("alice")
    save(portal, fake, alice)
    _, key = pay(portal, alice)
    before = portal.one("SELECT balance_minor FROM accounts WHERE number = '1001'")
    fake.dispute(key)
    dispute = next(each for each in fake.things.values() if each["object"] == "dispute")
    for _ in range(2):
        assert tell(portal, "evt_dispute", dict(dispute)) == "ok"
    after = portal.one("SELECT balance_minor FROM accounts WHERE number = '1001'")
    assert after == before + 1_234


def test_a_dispute_that_is_won_and_appealed_is_booked_each_time(
    portal: Portal, fake: FakeStripe
) -> None:
    alice = portal.visitor("alice")
    save(portal, fake, alice)
    _, key = pay(portal, alice)
    balance = "SELECT balance_minor FROM accounts WHERE number = '1001'"
    before = portal.one(balance)
    happens: tuple[tuple[Callable[[str], None], int], ...] = (
        (fake.dispute, 1_234),
        (fake.win, 0),
        (fake.appeal, 1_234),
        (fake.win, 0),
    )
    for number, (happen, owed) in enumerate(happens):
        happen(key)
        for _ in range(2):
            assert tell(portal, f"evt_{number}", dict(fake.dispute_of(key))) == "ok"
        assert portal.one(balance) == before + owed
    with portal.app.app_context():
        assert list(verify.find_faults(db.session())) == []
        db.session.remove()


def test_a_card_that_was_detached_is_removed(portal: Portal, fake: FakeStripe) -> None:
    alice = portal.visitor("alice")
    save(portal, fake, alice)
    [(reference,)] = portal.rows("SELECT gateway_reference FROM payment_methods")
    fake.detach(reference)
    tell(portal, "evt_detached", dict(fake.things[reference]))
    assert portal.one("SELECT state FROM payment_methods") == "removed"


def test_removing_has_it_detached(portal: Portal, fake: FakeStripe) -> None:
    alice = portal.visitor("alice")
    save(portal, fake, alice)
    [(public_id, reference)] = portal.rows(
        "SELECT public_id, gateway_reference FROM payment_methods"
    )
    alice.submit(alice.get(portal.path(f"billing/methods/{public_id}/remove")), "/remove")
    with portal.app.app_context():
        methods.ask_due(portal.app.extensions["payment_gateway"])
        db.session.remove()
    assert fake.things[reference]["customer"] is None


@pytest.mark.parametrize("fault", [Fault.DROP_AFTER, Fault.CUT_BODY, Fault.ERROR_500_AFTER])
def test_a_lost_answer_is_asked_about(
    portal: Portal, fake: FakeStripe, fault: Fault, tick: Callable[..., None]
) -> None:
    alice = portal.visitor("alice")
    save(portal, fake, alice)
    fake.faults.set_next([fault])
    location, _ = pay(portal, alice)
    assert "We do not know yet" in alice.get(location).text
    assert latest(portal) == "unknown"
    tick(minutes=1)
    with portal.app.app_context():
        settling.ask_due(portal.app.extensions["payment_gateway"])
        db.session.remove()
    assert latest(portal) == "succeeded"
    assert fake.calls.count("confirm") == 1


def test_a_card_that_must_be_confirmed_leads_to_checkout(portal: Portal, fake: FakeStripe) -> None:
    alice = portal.visitor("alice")
    save(portal, fake, alice, "checked")
    location, key = pay(portal, alice)
    assert location.startswith(f"{fake.url}/c/pay/cs_")
    fake.pay(fake.by_key("cs", key))
    public_id = portal.one("SELECT public_id FROM payments ORDER BY id DESC LIMIT 1")
    alice.get(f"/pay/{public_id}/return")
    assert latest(portal) == "succeeded"


def test_what_nobody_wrote_is_not_noted(ctx: Portal) -> None:
    memory = GatewayMemory()
    assert memory.find("nothing") is None
    with pytest.raises(GatewayTimeout):
        memory.keep("nothing", "pi_1")
