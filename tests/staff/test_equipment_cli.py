"""What operators ask of the way to the routers."""

from __future__ import annotations

import pytest

from core.genieacs_settings import GenieacsSettings
from gateways.network.genieacs.gateway import GenieacsEquipment
from tests.conftest import Portal
from tests.gateways.fake_genieacs import fake_genieacs, tr098


def run(portal: Portal) -> tuple[int, str]:
    done = portal.app.test_cli_runner().invoke(args=["equipment", "check"])
    return done.exit_code, done.output


def test_check_tries_the_way_to_the_routers(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake_genieacs() as acs:
        gateway = GenieacsEquipment(GenieacsSettings(acs.url))
        monkeypatch.setitem(portal.app.extensions, "equipment_gateway", gateway)
        acs.devices = [tr098("ppp-alice")]
        code, output = run(portal)
        assert code == 0, output
        assert "1 of 1 devices looked at are of lines of ours." in output
        acs.devices = [tr098("ppp-nobody")]
        assert run(portal)[0] == 1


def test_demo_lacks_nothing(portal: Portal) -> None:
    assert run(portal)[0] == 0


def test_without_a_gateway_there_is_nothing_to_try(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(portal.app.extensions, "equipment_gateway", None)
    code, output = run(portal)
    assert code == 1
    assert "LASTMILE_EQUIPMENT_GATEWAY" in output
