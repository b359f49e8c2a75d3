"""Time zones as people look for them: by part of the world, then by city."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from babel.dates import get_timezone_location


@lru_cache(maxsize=1)
def _by_region() -> dict[str, tuple[str, ...]]:
    table = (files("tzdata") / "zoneinfo" / "zone.tab").read_text()
    names = sorted(line.split("\t")[2] for line in table.splitlines() if not line.startswith("#"))
    regions: dict[str, tuple[str, ...]] = {}
    for name in names:
        region = name.split("/", 1)[0]
        regions[region] = (*regions.get(region, ()), name)
    return regions


def regions() -> tuple[str, ...]:
    """The parts of the world, like `Europe`."""
    return tuple(_by_region())


def region_of(zone: str) -> str:
    """The part of the world of an IANA name; the first one for a name that has none."""
    region = zone.split("/", 1)[0]
    return region if region in _by_region() else next(iter(_by_region()))


def list_zones(region: str) -> tuple[str, ...]:
    """The zones of a part of the world by IANA name."""
    return _by_region().get(region, ())


def is_zone(zone: str) -> bool:
    return zone in list_zones(zone.split("/", 1)[0])


@lru_cache(maxsize=2048)
def city(zone: str, language: str) -> str:
    """The city of an IANA name as it is called in `language`."""
    return str(get_timezone_location(zone, language.replace("-", "_"), return_city=True))
