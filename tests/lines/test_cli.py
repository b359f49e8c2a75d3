"""What operators do about lines in the network."""

from __future__ import annotations

from gateways.network.base import NetworkState
from tests.conftest import Portal
from tests.lines.conftest import Street


def run(portal: Portal, *arguments: str) -> tuple[int, str]:
    done = portal.app.test_cli_runner().invoke(args=["network", *arguments])
    return done.exit_code, done.output


def test_lines_that_the_network_forgot_are_set_anew(street: Street) -> None:
    street.network.forget()
    street.portal.app.extensions["network_gateway"] = street.network
    assert run(street.portal, "sync") == (0, "3 lines will be set by the worker.\n")
    assert street.reached() is None
    assert street.sync() == 3
    assert street.reached() is NetworkState.OPEN
    assert street.portal.one("SELECT count(*) FROM messages WHERE kind = 'line_open'") == 0
    street.portal.app.extensions["network_gateway"] = None


def test_without_a_gateway_there_is_nothing_to_set(portal: Portal) -> None:
    code, output = run(portal, "sync")
    assert code == 1
    assert "LASTMILE_NETWORK_GATEWAY" in output
