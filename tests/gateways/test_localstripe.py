"""The gateway against localstripe, a Stripe that others wrote, over HTTP, for what it covers: no
Checkout, no idempotency and no disputes, but intents, methods, refunds and signed webhooks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
import urllib3

from gateways.outbound import AllowedOrigin, OutboundClient
from gateways.payments.base import GatewayState
from gateways.payments.errors import GatewayRefused
from gateways.payments.stripe.gateway import StripeGateway
from tests import processes
from tests.gateways.conftest import ROOT, eventually, serving
from tests.gateways.desks import Notes

# Its own start listens on every address and keeps what it knows in the machine's temporary folder.
_PROGRAM = """
import sys
from aiohttp import web
from localstripe import resources, server
resources.Store.dump_to_disk = lambda self: None
web.run_app(server.app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-c", _PROGRAM, str(port)]
    with subprocess.Popen(command, cwd=ROOT, env=dict(os.environ)) as process:
        try:
            assert eventually(lambda: _listens(port))
            yield f"http://127.0.0.1:{port}"
        finally:
            processes.end(process)


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def gateway(url: str, notes: Notes) -> StripeGateway:
    outbound = OutboundClient([AllowedOrigin.from_url(url, is_loopback_demo=True)])
    return StripeGateway(
        "sk_test_12345",
        ["whsec_local"],
        notes,
        api=url,
        checkout=url,
        outbound=outbound,
    )


def by_hand(url: str, path: str, **fields: str) -> dict[str, Any]:
    """Do at localstripe what a customer or Stripe itself would."""
    answer = urllib3.PoolManager().request(
        "POST", f"{url}/v1/{path}", fields=fields, encode_multipart=False,
        headers={"Authorization": "Bearer sk_test_12345"},
    )  # fmt: skip
    assert answer.status == 200, answer.data
    made: dict[str, Any] = answer.json()
    return made


def charged(url: str, notes: Notes, number: str, key: str) -> str:
    """An intent as a charge of ours leaves it before it is confirmed, which localstripe knows fewer
    fields of; the method's reference."""
    customer = by_hand(url, "customers", **{"metadata[lastmile_account]": "account"})
    fields = {"card[number]": number, "card[exp_month]": "12", "card[exp_year]": "2030"}
    method = by_hand(url, "payment_methods", type="card", **fields, **{"card[cvc]": "123"})
    by_hand(url, f"payment_methods/{method['id']}/attach", customer=customer["id"])
    ours = {"metadata[lastmile_key]": key, "metadata[lastmile_account]": "account"}
    intent = by_hand(
        url, "payment_intents", amount="4250", currency="usd", customer=customer["id"],
        payment_method=method["id"], **ours,
    )  # fmt: skip
    notes.keep(key, intent["id"])
    return str(method["id"])


def test_a_charge_is_made_confirmed_and_refunded(url, gateway, notes) -> None:
    charged(url, notes, "4242424242424242", "paid")
    pending = gateway.ask("paid")
    assert (pending.state, pending.amount_minor) == (GatewayState.PENDING, 4_250)
    assert pending.customer_reference == "account"
    by_hand(url, f"payment_intents/{notes.find('paid')}/confirm")
    truth = gateway.ask("paid")
    assert (truth.state, truth.reference) == (GatewayState.SUCCEEDED, notes.find("paid"))
    assert truth.method == "Visa ending 4242"
    refund = gateway.refund("paid", "back", 250)
    assert (refund.state, refund.amount_minor) == (GatewayState.SUCCEEDED, 250)
    assert gateway.ask_refund("paid", "back") == refund
    assert gateway.cancel("paid").state is GatewayState.SUCCEEDED


def test_a_charge_that_is_cancelled_cannot_be_confirmed(url, gateway, notes) -> None:
    charged(url, notes, "4242424242424242", "cancelled")
    assert gateway.cancel("cancelled").state is GatewayState.CANCELLED
    with pytest.raises(AssertionError, match="Bad request"):
        by_hand(url, f"payment_intents/{notes.find('cancelled')}/confirm")
    with pytest.raises(GatewayRefused, match="not paid"):
        gateway.refund("cancelled", "back", 1)


def test_a_card_that_declines(url, gateway, notes) -> None:
    charged(url, notes, "4000000000000341", "declined")
    answer = urllib3.request(
        "POST", f"{url}/v1/payment_intents/{notes.find('declined')}/confirm",
        headers={"Authorization": "Bearer sk_test_12345"},
    )  # fmt: skip
    assert answer.status == 402
    truth = gateway.ask("declined")
    assert truth.state is GatewayState.DECLINED
    assert truth.decline_reason == "The bank declined the payment."


def test_a_method_is_known_and_forgotten(url, gateway, notes) -> None:
    reference = charged(url, notes, "4242424242424242", "kept")
    notes.keep("method", reference)
    method = gateway.ask_method("method")
    assert (method.state, method.title) == (GatewayState.SUCCEEDED, "Visa ending 4242")
    assert method.customer_reference == "account"
    for _ in range(2):
        gateway.forget_method(reference)
    assert gateway.ask_method("method").state is GatewayState.CANCELLED


def test_its_signed_webhooks_are_believed(url, gateway, notes) -> None:
    heard: list[tuple[bytes, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append((self.rfile.read(int(self.headers["Content-Length"])), dict(self.headers)))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with serving(Handler) as here:
        urllib3.request(
            "POST", f"{url}/_config/webhooks/us",
            json={"url": here, "secret": "whsec_local", "events": ["payment_intent.succeeded"]},
        )  # fmt: skip
        charged(url, notes, "4242424242424242", "told")
        by_hand(url, f"payment_intents/{notes.find('told')}/confirm")
        wanted = ("told", notes.find("told"))

        def is_told() -> bool:
            notices = [gateway.read_notice(*each, datetime.now(UTC)) for each in list(heard)]
            return wanted in [(notice.key, notice.reference) for notice in notices]

        assert eventually(is_told)
