"""The portal with Stripe as its gateway: its pages, its notices, and what it notes in its rows."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blueprints.billing import refunding, reversing, settling, verify
from blueprints.billing.gateway_memory import GatewayMemory
from blueprints.billing.methods import settling as methods
from blueprints.billing.starting import Choice
from core import clock, ids
from core.db import db
from gateways.outbound import AllowedOrigin, OutboundClient
from gateways.payments.errors import GatewayTimeout
from gateways.payments.sandbox.faults import Fault
from gateways.payments.signatures import signature_header
from gateways.payments.stripe.gateway import StripeGateway
from tests import repeats
from tests.billing.conftest import Till
from tests.billing.test_notices_in_any_order import state
from tests.conftest import Portal, together
from tests.gateways import fake_stripe
from tests.gateways.fake_stripe import FakeStripe
from tests.page import BASE, Visitor

SECRET = "whsec_now_and_here"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


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


def test_a_refund_that_stripe_says_has_failed_is_booked_back(
    portal: Portal, fake: FakeStripe
) -> None:
    alice = portal.visitor("alice")
    save(portal, fake, alice)
    _, key = pay(portal, alice)
    balance = "SELECT balance_minor FROM accounts WHERE number = '1001'"
    before = portal.one(balance)
    public_id = portal.one("SELECT public_id FROM payments ORDER BY id DESC LIMIT 1")
    ben = portal.visitor("ben")
    at = f"/staff/accounts/{portal.world.public_ids['alice']}/payments/{public_id}"
    ben.submit(ben.get(at), public_id, amount="5.00", reason="Paid twice")
    assert portal.one(balance) == before + 500
    fake.send_refund_back(key)
    [refund] = [each for each in fake.things.values() if each["object"] == "refund"]
    for event_id in ("evt_failed", "evt_updated", "evt_failed"):
        assert tell(portal, event_id, dict(refund)) == "ok"
        assert portal.one(balance) == before
    page = ben.get(at)
    assert "$5.00 came back and is still owed" in page.text
    assert "The card has expired or was cancelled." in page.text


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


# Notices in any order (bar 56) ------------------------------------------------------------------

SENT = repeats.sized(300, 1_000, 10_000)
ROUNDS = repeats.sized(4, 8, 40)


def deliver(portal: Portal, body: bytes, secret: str = SECRET) -> int:
    answer = portal.app.test_client(use_cookies=False).post(
        "/webhooks/payments/stripe",
        data=body,
        headers={"Stripe-Signature": signature_header(body, [secret], clock.now())},
        base_url=BASE,
        content_type="application/json",
    )
    return answer.status_code


def notices_of(fake: FakeStripe) -> list[bytes]:
    """The body of each event so far."""
    return [
        json.dumps(thing).encode() for thing in fake.things.values() if thing["object"] == "event"
    ]


def pay_for_a_while(portal: Portal, dice: random.Random, fake: FakeStripe) -> None:
    """Payments one after the other on three accounts, most of them paid; settled by nothing."""
    till = Till(portal, portal.app.extensions["payment_gateway"])
    for _ in range(ROUNDS):
        for name in ("alice", "mallory", "rich"):
            till.start(name, Choice.OTHER, amount_minor=dice.randrange(100, 9_000))
            if dice.random() < 0.9:
                fake.pay(fake.by_key("cs", till.latest("key")))
            # Given up here, as far as we know, so that the next one can begin.
            portal.execute(
                "UPDATE payments SET state = 'expired', ended_at = created_at, ask_at = NULL"
                " WHERE id = :id",
                id=till.latest_id(),
            )


def give_back_for_a_while(portal: Portal, dice: random.Random, fake: FakeStripe) -> None:
    """Refunds by us and at Stripe's desk, some of which fail later, and disputes, some won."""
    for key, account_id, public_id, minor in portal.rows(
        "SELECT key, account_id, public_id, amount_minor FROM payments"
        " WHERE state = 'succeeded' AND gateway = 'stripe' ORDER BY id"
    ):
        what = dice.choice(("ours", "desk", "dispute", "nothing"))
        for _ in range(2):
            part = dice.randrange(1, minor // 3)
            if what == "ours":
                staff_id = portal.world.customers["ben"]
                refunding.ask_refund(
                    account_id, public_id, part, "Asked", staff_id, ids.public_id()
                )
            elif what == "desk":
                intent = fake.by_key("pi", key)["id"]
                fake.create_refund({"payment_intent": intent, "amount": part, "metadata": {}})
        if what == "dispute":
            fake.dispute(key)
        if what != "nothing" and dice.random() < 0.6:
            # What waits for a second member of staff is not there to come back.
            with suppress(StopIteration):
                (fake.win if what == "dispute" else fake.send_refund_back)(key)


def send_shuffled(portal: Portal, dice: random.Random, notices: list[bytes]) -> None:
    many = [body for body in notices for _ in range(dice.randint(1, 5))]
    many += dice.choices(notices, k=max(0, SENT // 2 - len(many)))
    dice.shuffle(many)
    heaps = [many[number::8] for number in range(8)]
    answers = together(8, lambda number: {deliver(portal, body) for body in heaps[number]})
    assert answers == [{200}] * 8


def test_shuffled_repeated_and_parallel_notices_count_once(
    portal: Portal, fake: FakeStripe
) -> None:
    dice = repeats.dice()
    gateway = portal.app.extensions["payment_gateway"]
    with portal.app.app_context():
        pay_for_a_while(portal, dice, fake)
        send_shuffled(portal, dice, notices_of(fake))
        db.session.expire_all()
        give_back_for_a_while(portal, dice, fake)
        send_shuffled(portal, dice, notices_of(fake))
        after = state(portal)
        for body in notices_of(fake):
            assert deliver(portal, body) == 200
        assert state(portal) == after
        db.session.expire_all()
        assert list(verify.find_faults(db.session())) == []
        listed = {each.key: each for each in gateway.list_since(LONG_AGO)}
        for payment_id, key, is_paid in portal.rows(
            "SELECT id, key, state = 'succeeded' FROM payments WHERE gateway = 'stripe'"
        ):
            theirs = listed.get(key)
            assert bool(is_paid) == (theirs is not None)
            went = reversing.went_back(db.session(), payment_id)
            ours = (went.refunded_minor, went.reversed_minor, went.is_under_way)
            if theirs is not None:
                assert ours == (theirs.refunded_minor, theirs.reversed_minor, False)
        db.session.remove()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(st.binary(max_size=300), st.dictionaries(st.text(), st.text()).map(json.dumps)),
    st.one_of(st.just(""), st.text(alphabet="tv01=,9abcdef", max_size=90)),
)
def test_whatever_stripe_did_not_sign_writes_nothing(
    portal: Portal, fake: FakeStripe, body: bytes | str, signature: str
) -> None:
    answer = portal.app.test_client(use_cookies=False).post(
        "/webhooks/payments/stripe",
        data=body,
        base_url=BASE,
        headers={"Stripe-Signature": signature},
        content_type="application/json",
    )
    assert answer.status_code == 400
    assert portal.one("SELECT count(*) FROM gateway_notices") == 0
    assert fake.calls == []


def test_another_secret_is_not_believed(portal: Portal, fake: FakeStripe) -> None:
    """What was sent for another portal of the same account, or with a secret that is over."""
    assert deliver(portal, b'{"id": "evt_1"}', "whsec_of_somebody") == 400
    assert portal.one("SELECT count(*) FROM gateway_notices") == 0
    assert fake.calls == []
