"""`flask network garden`: what a walled garden opens."""

from __future__ import annotations

from gateways.payments.stripe.gateway import GARDEN, StripeGateway
from tests.conftest import Portal
from tests.gateways.desks import Notes


def printed(portal: Portal) -> list[str]:
    result = portal.app.test_cli_runner().invoke(args=["network", "garden"])
    assert result.exit_code == 0
    return result.stdout.split()


def test_it_names_the_portal_and_the_gateways_hosts(portal: Portal) -> None:
    assert printed(portal) == ["127.0.0.1", "localhost"]
    portal.app.extensions["payment_gateway"] = StripeGateway("sk_test_1", ["whsec_1"], Notes())
    assert printed(portal) == ["127.0.0.1", *GARDEN]
    assert "checkout.stripe.com" in GARDEN


def test_without_a_gateway_the_portal_is_all(portal: Portal) -> None:
    portal.app.extensions["payment_gateway"] = None
    assert printed(portal) == ["127.0.0.1"]
