"""What the attributes of a line are: by what is wanted of it and the kind of access server."""

from __future__ import annotations

from collections.abc import Iterable

from core.radius_settings import HoldSettings, NasType
from gateways.network.base import NetworkState, Setting

MOST_BPS = (1 << 32) - 1
"""As much as an attribute of 32 bits can say."""


def attributes_of(kind: NasType, wanted: Setting, hold: HoldSettings) -> dict[str, str]:
    """The attributes by name; those that need a speed are left out of a line without one, as all
    are of one that is closed."""
    if wanted.state is NetworkState.CLOSED:
        return {}
    is_held = wanted.state is NetworkState.HELD
    up, down = wanted.up_kbps, wanted.down_kbps
    if is_held:
        up, down = (min(kbps or hold.held_kbps, hold.held_kbps) for kbps in (up, down))
    values: dict[str, object] = {"list": hold.held_list if is_held else hold.open_list}
    if up and down:
        values |= {"up_kbps": up, "down_kbps": down}
        values |= {"up_bps": min(up * 1000, MOST_BPS), "down_bps": min(down * 1000, MOST_BPS)}
    found = {}
    for name, template in (kind.held if is_held else kind.open).items():
        try:
            found[name] = template.format_map(values)
        except KeyError:
            continue
    return found


def attributes_of_all(
    kinds: Iterable[NasType], wanted: Setting, hold: HoldSettings
) -> dict[str, str]:
    """Those of every kind of access server together: it is not known beforehand which of them a
    line will connect to, and each takes what it understands."""
    found: dict[str, str] = {}
    for kind in kinds:
        found |= attributes_of(kind, wanted, hold)
    return found


def names_of_all(kinds: Iterable[NasType]) -> set[str]:
    """The attributes that the portal writes, and therefore takes away."""
    return {name for kind in kinds for table in (kind.open, kind.held) for name in table}
