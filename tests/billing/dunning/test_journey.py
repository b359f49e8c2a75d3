"""Overdue, held, paid, open again: with plain forms, as a visitor without JavaScript would."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import pytest

from blueprints.lines.syncing import Syncing
from core import clock, worker
from gateways.network.base import NetworkState
from gateways.network.simulated import SimulatedNetwork
from gateways.payments.sandbox.store import Decision
from tests.billing.dunning.conftest import Dunning


@pytest.fixture
def network(dunning: Dunning) -> SimulatedNetwork:
    path = dunning.portal.settings.data / "network.db"
    path.unlink(missing_ok=True)
    return SimulatedNetwork(path)


@pytest.fixture
def turn(dunning: Dunning, network: SimulatedNetwork) -> Callable[[], None]:
    """One round of a worker that syncs lines."""
    sync = Syncing(network)

    def go() -> None:
        clockwork = worker.first_clockwork()
        worker.turn(dunning.portal.app, (sync,), clockwork)

    return go


def test_who_is_held_pays_and_is_open_again_within_one_round_of_the_worker(
    dunning: Dunning, network: SimulatedNetwork, turn: Callable[[], None]
) -> None:
    portal = dunning.portal
    with dunning.on(date(2026, 6, 20)):
        dunning.run()
        turn()
        alice = portal.visitor("alice", own_device="y")
        home = alice.get(portal.path())
        assert "If nothing is paid, your line will be held on Jun 29, 2026." in home.text
        bills = alice.get(portal.path("billing/"))
        assert "If nothing is paid, your line will be held on Jun 29, 2026." in bills.text
    with dunning.on(date(2026, 6, 29)):
        dunning.run()
        turn()
        assert network.read_state("ppp-alice") is NetworkState.HELD
        alice = portal.visitor("alice", own_device="y")
        home = alice.get(portal.path())
        assert "Your internet is off: a bill is unpaid" in home.text
        assert "Emergency calls stay possible." in home.text
        assert "Pay $211.12, which is overdue, and your line opens by itself." in home.text
        assert "If nothing is paid, the account will be closed on Sep 7, 2026." in home.text
        out = alice.submit(home, "/pay", choice="balance")
        assert out.location.startswith(portal.gateway.origin)
        turn()
        assert network.read_state("ppp-alice") is NetworkState.OPEN  # so that she can pay
        [(key, public_id)] = portal.rows("SELECT key, public_id FROM payments WHERE state = 'sent'")
        portal.bank.decide(key, Decision.PAY)
        with clock.set_to(clock.now() + timedelta(minutes=10)):
            back = alice.get(f"/pay/{public_id}/return")
            assert "Paid. Thank you." in alice.get(back.location).text
            assert dunning.line() == "open"
            turn()
            assert network.read_state("ppp-alice") is NetworkState.OPEN
            home = alice.get(portal.path())
            assert "Your line is open again" in home.text
            assert "Nothing to pay" in home.text
        with clock.set_to(clock.now() + timedelta(minutes=30)):
            turn()
            assert network.read_state("ppp-alice") is NetworkState.OPEN
    assert dunning.messages()[-1] == ("line_open", "email", "alice@example.net")


def test_part_that_leaves_less_than_the_floor_opens_the_line_too(dunning: Dunning) -> None:
    portal = dunning.portal
    dunning.run(date(2026, 6, 20))
    for amount, state in (("105.00", "held"), ("102.00", "open")):
        with dunning.on(date(2026, 6, 29)):
            dunning.run()
            alice = portal.visitor("alice")
            page = alice.get(portal.path("billing/pay"))
            alice.submit(page, "/pay", choice="other", amount=amount)
            [(key, public_id)] = portal.rows(
                "SELECT key, public_id FROM payments WHERE state = 'sent'"
            )
            portal.bank.decide(key, Decision.PAY)
            alice.get(f"/pay/{public_id}/return")
            assert dunning.line() == state
