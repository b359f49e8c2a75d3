"""Whether GenieACS can be asked, and whether its devices are known by their lines. Only questions
are asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from core import clock
from core.findings import Finding, Level
from core.genieacs_settings import is_set_by_isp
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
    yield _trust(gateway)
    yield from _models(gateway, found)


def _lines(gateway: GenieacsEquipment, found: list[Device], known_lines: KnownLines) -> Finding:
    given, said = (
        [devices.names_of(device, gateway.settings, is_by_isp=is_by_isp) for device in found]
        for is_by_isp in (True, False)
    )
    names = [each | own for each, own in zip(given, said, strict=True)]
    known = known_lines(set().union(*names))
    of_lines = sum(bool(each & known) for each in names)
    times = Counter(name for each in names for name in each & known)
    times_given = Counter(name for each in given for name in each & known)
    claimed = [name for name, count in times.items() if count > 1 and times_given[name] == 1]
    shared = [name for name, count in times.items() if count > 1 and times_given[name] != 1]
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
    if claimed:
        return Finding(
            "lines",
            Level.NOTE,
            f"A device says that it is of the line {claimed[0]}, which another one is.",
            "look whose it is; it is not touched for that line",
        )
    level = Level.OK if of_lines == len(found) else Level.NOTE
    remedy = "" if level is Level.OK else "the others may be of nobody, or their names are not read"
    words = f"{of_lines} of {len(found)} devices looked at are of lines of ours."
    return Finding("lines", level, words, remedy)


def _trust(gateway: GenieacsEquipment) -> Finding:
    """Whether a router can pass for that of another line."""
    said = [path for path in gateway.settings.find_by if not is_set_by_isp(path)]
    if not said:
        return Finding("trust", Level.OK, "Whose a router is, the ISP says.")
    return Finding(
        "trust",
        Level.NOTE,
        f"Whose a router is, it says itself: whoever can change {said[0]} in a router has it taken "
        "for that of another line, and reads the Wi-Fi password that is meant for that one.",
        "tag each router with the username of its line and let find_by name _tags alone "
        "(docs/equipment.md)",
    )


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
