"""The demo's routers: as their lines' names have it, with what was changed in a file."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from core import clock
from core.findings import Level
from gateways.network.equipment import Outcome, WifiChange
from gateways.network.errors import GatewayAway, GatewayRefused
from gateways.network.simulated_equipment import STARTS_FOR, SimulatedEquipment, is_silent
from tests.world import NOW

SILENT = next(f"ppp-{number}" for number in range(100) if is_silent(f"ppp-{number}"))


@pytest.fixture
def routers(tmp_path: Path) -> SimulatedEquipment:
    return SimulatedEquipment(tmp_path / "equipment.db", lambda: NOW)


def test_router_is_the_same_each_time(routers: SimulatedEquipment) -> None:
    assert routers.read("ppp-alice") == routers.read("ppp-alice")
    assert routers.read("ppp-alice") != routers.read("ppp-bob")
    assert routers.read("ppp-alice").is_online


def test_name_that_was_changed_is_kept_for_its_line_alone(
    routers: SimulatedEquipment, tmp_path: Path
) -> None:
    change = WifiChange(("0", "1"), "Attic", "long enough")
    before = routers.read("ppp-bob")
    assert routers.change_wifi("ppp-alice", change) is Outcome.DONE
    again = SimulatedEquipment(tmp_path / "equipment.db", lambda: NOW)
    assert {each.name for each in again.read("ppp-alice").networks} == {"Attic"}
    assert again.read("ppp-bob") == before
    content = (tmp_path / "equipment.db").read_bytes()
    assert b"Attic" in content
    assert b"long enough" not in content
    assert (tmp_path / "equipment.db").stat().st_mode & 0o077 == 0


def test_router_that_restarts_is_away_for_a_while(tmp_path: Path) -> None:
    routers = SimulatedEquipment(tmp_path / "equipment.db")
    with clock.set_to(NOW):
        assert routers.restart("ppp-alice") is Outcome.DONE
        assert not routers.read("ppp-alice").is_online
    with clock.set_to(NOW + STARTS_FOR + timedelta(seconds=1)):
        assert routers.read("ppp-alice").is_online


def test_router_that_is_switched_off_does_it_later(routers: SimulatedEquipment) -> None:
    assert not routers.read(SILENT).is_online
    change = WifiChange(("0",), "Attic")
    assert routers.restart(SILENT) is Outcome.QUEUED
    assert routers.refresh(SILENT) is Outcome.QUEUED
    assert routers.change_wifi(SILENT, change) is Outcome.QUEUED
    assert "Attic" not in str(routers.read(SILENT))


@pytest.mark.parametrize("keys", [(), ("2",), ("0", "x")])
def test_network_that_is_not_there_is_refused(
    routers: SimulatedEquipment, keys: tuple[str, ...]
) -> None:
    with pytest.raises(GatewayRefused):
        routers.change_wifi("ppp-alice", WifiChange(keys, "Attic"))


def test_file_that_cannot_be_read_is_a_gateway_that_is_away(
    routers: SimulatedEquipment, tmp_path: Path
) -> None:
    (tmp_path / "equipment.db").write_text("this is no database, and long enough " * 20)
    with pytest.raises(GatewayAway):
        routers.read("ppp-alice")


def test_check_has_nothing_to_say(routers: SimulatedEquipment) -> None:
    assert [found.level for found in routers.check(set)] == [Level.OK]
