"""A portal whose routers report to a GenieACS of our own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from core.db import refuse_inside_unit
from core.genieacs_settings import GenieacsSettings
from gateways.network.genieacs import nbi
from gateways.network.genieacs.gateway import GenieacsEquipment
from tests.conftest import Portal
from tests.gateways.fake_genieacs import FakeGenieacs, fake_genieacs, tr098
from tests.page import Page, Visitor

PASSWORD = "amber violin 47 {{7*7}}"


class WatchedEquipment(GenieacsEquipment):
    """Refuses to be called inside a transaction."""

    def _find(self, username: str) -> nbi.Device:
        refuse_inside_unit("a call to a router")
        return super()._find(username)


@dataclass
class Home:
    """The portal and its GenieACS, in which alice's and mallory's routers are."""

    portal: Portal
    acs: FakeGenieacs

    def visitor(self, name: str = "alice") -> Visitor:
        return self.portal.visitor(name)

    def path(self, rest: str = "") -> str:
        return self.portal.path(f"equipment/{rest}")

    def restart(self, visitor: Visitor) -> Page:
        """Press restart; the page it leads to."""
        return follow(visitor, visitor.submit(visitor.get(self.path("restart")), "/restart"))

    def change(self, visitor: Visitor, name: str = "Attic", password: str = PASSWORD) -> Page:
        """Send the form for the Wi-Fi; the page it leads to."""
        page = visitor.get(self.path("wifi"))
        sent = visitor.submit(page, "/wifi", wifi_name=name, wifi_password=password)
        return follow(visitor, sent)

    def names(self) -> list[str]:
        """What was done, by the names of the tasks."""
        return [task["name"] for task in self.acs.done]


def follow(visitor: Visitor, page: Page) -> Page:
    return visitor.get(page.location) if page.status == 303 else page


@pytest.fixture
def home(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    monkeypatch.setattr(nbi, "READ_SECONDS", 1.0)
    monkeypatch.setattr(nbi, "TASK_SECONDS", 1.0)
    with fake_genieacs() as acs:
        acs.devices = [tr098("ppp-alice", 1), tr098("ppp-mallory", 2)]
        gateway = WatchedEquipment(GenieacsSettings(acs.url))
        monkeypatch.setitem(portal.app.extensions, "equipment_gateway", gateway)
        yield Home(portal, acs)
