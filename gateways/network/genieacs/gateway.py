"""Routers by GenieACS. Which device is a line's, its own parameters (or tags) say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from core import clock
from core.findings import Finding
from core.genieacs_settings import GenieacsSettings
from gateways.network.base import KnownLines
from gateways.network.equipment import Equipment, EquipmentGateway, Outcome, WifiChange
from gateways.network.errors import GatewayRefused, NoEquipment, SeveralEquipment
from gateways.network.genieacs import devices
from gateways.network.genieacs.nbi import Device, Nbi, deadline

FORGOTTEN_AFTER = timedelta(days=30)
"""Of several routers of a line those that were silent for so long were replaced."""
MOST_FOUND = 20
# In a query GenieACS takes * for anything and /…/ for a pattern.
_ASKABLE = re.compile(r"[^/*\x00-\x1f\x7f][^*\x00-\x1f\x7f]{0,252}")


class GenieacsEquipment(EquipmentGateway):
    """The routers that report to one GenieACS."""

    title = "GenieACS"

    def __init__(self, settings: GenieacsSettings) -> None:
        self.settings = settings
        self.nbi = Nbi(settings)

    def read(self, username: str) -> Equipment:
        """See EquipmentGateway."""
        device = self._find(username)
        return devices.describe(device, devices.map_of(device, self.settings), clock.now())

    def restart(self, username: str) -> Outcome:
        """See EquipmentGateway."""
        until = deadline()
        device = self._find(username)
        return self.nbi.tell(device["_id"], "lastmile-restart", {"name": "reboot"}, until)

    def change_wifi(self, username: str, change: WifiChange) -> Outcome:
        """See EquipmentGateway. All of it is one task, so that no network gets half of it. A name
        alone has a key of its own: it must not put away a password that is queued."""
        until = deadline()
        device = self._find(username)
        model = devices.map_of(device, self.settings)
        values: list[list[str]] = []
        unique_key = "lastmile-wifi" if change.password is not None else "lastmile-wifi-name"
        for key, paths in enumerate(model.networks):
            if str(key) not in change.keys:
                continue
            unique_key += f"-{key}"
            values.append([paths.name, change.name, "xsd:string"])
            if change.password is not None:
                path = devices.password_path(device, paths)
                if path is None:
                    raise GatewayRefused("the router has no parameter for this password")
                values.append([path, change.password, "xsd:string"])
        if not values:
            raise GatewayRefused("the router has no such network")
        task = {"name": "setParameterValues", "parameterValues": values}
        return self.nbi.tell(device["_id"], unique_key, task, until)

    def refresh(self, username: str) -> Outcome:
        """See EquipmentGateway. The table of what is connected is asked for, or a name."""
        until = deadline()
        device = self._find(username)
        name = devices.refreshed_part(devices.map_of(device, self.settings))
        if not name:
            # GenieACS would have the router tell everything it has.
            raise GatewayRefused("nothing is known that the router could tell anew")
        task = {"name": "refreshObject", "objectName": name}
        return self.nbi.tell(device["_id"], "lastmile-refresh", task, until)

    def check(self, known_lines: KnownLines) -> Iterator[Finding]:
        """See EquipmentGateway."""
        from gateways.network.genieacs.checking import examine

        return examine(self, known_lines)

    def _find(self, username: str) -> Device:
        """The device of a line. Raises NoEquipment, SeveralEquipment, GatewayAway."""
        if not _ASKABLE.fullmatch(username):
            raise NoEquipment("GenieACS cannot be asked for this name")
        settings = self.settings
        query: dict[str, Any] = {"$or": [{path: username} for path in settings.find_by]}
        asked = self.nbi.find("devices", query, devices.wanted(settings), MOST_FOUND)
        known = [device for device in asked if isinstance(device.get("_id"), str)]
        found = devices.list_of_line(known, username, settings)
        if len(found) > 1:
            found = _in_use(found)
        if not found:
            raise NoEquipment("GenieACS knows no device of this line")
        if len(found) > 1:
            raise SeveralEquipment(f"GenieACS knows {len(found)} devices of this line")
        return found[0]


def _in_use(found: list[Device]) -> list[Device]:
    """Those that were heard lately; all, where none was."""
    since = clock.now() - FORGOTTEN_AFTER
    lately = [each for each in found if (at := devices.heard(each)) is not None and at >= since]
    return lately or found
