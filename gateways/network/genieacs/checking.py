"""Whether GenieACS can be asked, and whether its devices are known by their lines. Only questions
are asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from core import clock
from core.findings import Finding, Level
from gateways.network.base import KnownLines
from gateways.network.errors import NetworkError
from gateways.network.genieacs import devices
from gateways.network.genieacs.nbi import Device

if TYPE_CHECKING:
    from gateways.network.genieacs.gateway import GenieacsEquipment

MOST_LOOKED_AT = 50


def examine(gateway: GenieacsEquipment, known_lines: KnownLines) -> Iterator[Finding]:
    """The findings of all checks."""
    try:
        found = gateway.nbi.find("devices", {}, devices.wanted(gateway.settings), MOST_LOOKED_AT)
    except NetworkError as error:
        yield Finding(
            "reach",
            Level.WRONG,
            f"{error}.",
            "see that LASTMILE_GENIEACS_URL is that of genieacs-nbi (port 7557 as it comes), that "
            "it takes connections from this machine, and that the key is right",
        )
        return
    count = f"{len(found)}{' or more' if len(found) == MOST_LOOKED_AT else ''}"
    if not found:
        yield Finding("reach", Level.NOTE, "GenieACS answers and knows no device yet.")
        return
    yield Finding("reach", Level.OK, f"GenieACS answers and knows {count} devices.")
    yield _lines(gateway, found, known_lines)
    yield from _models(gateway, found)


def _lines(gateway: GenieacsEquipment, found: list[Device], known_lines: KnownLines) -> Finding:
    names = [_names_of(device, gateway.settings.find_by) for device in found]
    known = known_lines({name for each in names for name in each})
    of_lines = sum(bool(each & known) for each in names)
    times = Counter(name for each in names for name in each & known)
    shared = [name for name, count in times.items() if count > 1]
    if not of_lines:
        return Finding(
            "lines",
            Level.WRONG,
            f"None of {len(found)} devices says the name of a line of ours.",
            "have a provision read the parameters that find_by names (docs/equipment.md)",
        )
    if shared:
        return Finding(
            "lines",
            Level.NOTE,
            f"More than one device is of the line {shared[0]}; neither can be used from here.",
            "delete the one in GenieACS that was replaced",
        )
    level = Level.OK if of_lines == len(found) else Level.NOTE
    remedy = "" if level is Level.OK else "the others may be of nobody, or their names are not read"
    words = f"{of_lines} of {len(found)} devices looked at are of lines of ours."
    return Finding("lines", level, words, remedy)


def _names_of(device: Device, find_by: tuple[str, ...]) -> set[str]:
    names: set[str] = set()
    for path in find_by:
        value = devices.value_of(device, path)
        values = value if isinstance(value, list) else [value]
        names |= {each for each in values if isinstance(each, str) and each}
    return names


def _models(gateway: GenieacsEquipment, found: list[Device]) -> Iterator[Finding]:
    """Models of which no Wi-Fi network is found."""
    lacking: Counter[str] = Counter()
    for device in found:
        seen = devices.describe(device, devices.map_of(device, gateway.settings), clock.now())
        if not any(network.has_password for network in seen.networks):
            lacking[seen.model or "a model without a name"] += 1
    if not lacking:
        yield Finding("wifi", Level.OK, "Every model looked at has a Wi-Fi network to change.")
    for model, count in lacking.most_common(10):
        yield Finding(
            "wifi",
            Level.NOTE,
            f"{model} ({count}): no Wi-Fi password to change was found.",
            'read its parameters in GenieACS, or say where they are under [models."…"]',
        )
