"""The demo's network keeps what it was told in a file of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateways.network.base import NetworkState, Setting
from gateways.network.errors import GatewayRefused, GatewayTimeout
from gateways.network.simulated import SimulatedNetwork


def test_line_is_in_the_state_it_was_set_to(tmp_path: Path) -> None:
    network = SimulatedNetwork(tmp_path / "network.db")
    assert network.read_state("ppp-alice") is None
    for state in (NetworkState.HELD, NetworkState.HELD, NetworkState.OPEN, NetworkState.CLOSED):
        network.set_line("ppp-alice", Setting(state), None)
        assert network.read_state("ppp-alice") is state


def test_file_is_kept_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "network.db"
    SimulatedNetwork(path).set_states([("ppp-alice", NetworkState.HELD)])
    assert SimulatedNetwork(path).read_state("ppp-alice") is NetworkState.HELD
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("username", ["", "x" * 254])
def test_line_without_a_possible_name_is_refused(tmp_path: Path, username: str) -> None:
    network = SimulatedNetwork(tmp_path / "network.db")
    with pytest.raises(GatewayRefused):
        network.set_states([("ppp-alice", NetworkState.OPEN), (username, NetworkState.OPEN)])
    assert network.read_state("ppp-alice") is None


def test_file_that_cannot_be_read_is_a_silent_network(tmp_path: Path) -> None:
    path = tmp_path / "network.db"
    network = SimulatedNetwork(path)
    path.write_text("this is no database, and long enough to be looked at as one " * 10)
    with pytest.raises(GatewayTimeout):
        network.read_state("ppp-alice")
