"""What the environment and the file it names say of the ISP's RADIUS servers, checked.

The two addresses of databases stand in the environment; which access servers there are, their
secrets and what each kind of them is told, in a TOML file (`LASTMILE_RADIUS_FILE`).
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from string import Formatter
from typing import Any

COA_PORT = 3799
MIN_SECRET_SIGNS = 8
_DRIVERS = {
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "sqlite": "sqlite",
}
PLACES = ("up_kbps", "down_kbps", "up_bps", "down_bps", "list")
"""What may stand in braces in the value of an attribute."""


class Means(StrEnum):
    """How a running session is brought to something else."""

    COA = "coa"
    DISCONNECT = "disconnect"  # it comes back at once, and then is as the tables say
    NOTHING = "nothing"  # it stays until it ends by itself


@dataclass(frozen=True, slots=True)
class NasType:
    """What a kind of access server is told: attributes of a line that is open and of one that is
    held, and how a running session is brought to another speed, and from the one to the other."""

    open: Mapping[str, str]
    held: Mapping[str, str]
    change_by: Means = Means.COA
    hold_by: Means = Means.COA


_MIKROTIK = {"Mikrotik-Rate-Limit": "{up_kbps}k/{down_kbps}k", "Mikrotik-Address-List": "{list}"}
_WISPR = {"WISPr-Bandwidth-Max-Up": "{up_bps}", "WISPr-Bandwidth-Max-Down": "{down_bps}"}
KNOWN_TYPES = {
    # RouterOS keeps an address list until it is given another one, so that open lines have one too.
    "mikrotik": NasType(_MIKROTIK, _MIKROTIK),
    # Nothing of WISPr's leads into a walled garden: the group does, which counts on connecting.
    "wispr": NasType(_WISPR, _WISPR, hold_by=Means.DISCONNECT),
}


@dataclass(frozen=True, slots=True)
class NasSettings:
    """An access server, or all of a network. `name`: its address in `radacct`. `address`: where it
    takes CoA; empty: the address in `radacct`. `is_swapped`: its counters call the customer's
    upload output."""

    name: str
    network: IPv4Network | IPv6Network
    type: str
    secret: bytes = field(repr=False)
    address: str = ""
    port: int = COA_PORT
    is_swapped: bool = False


@dataclass(frozen=True, slots=True)
class HoldSettings:
    """What a held line gets: a group of `radusergroup` (empty: none), its name as an address list,
    the name that open lines have instead, and its speed."""

    group: str = "walled-garden"
    held_list: str = "lastmile-held"
    open_list: str = "lastmile-open"
    held_kbps: int = 1000


@dataclass(frozen=True, slots=True)
class RadiusSettings:
    """The FreeRADIUS that the portal reads and writes, and the access servers behind it."""

    read_url: str = field(repr=False)
    write_url: str = field(repr=False)
    hold: HoldSettings = HoldSettings()
    types: Mapping[str, NasType] = field(default_factory=lambda: dict(KNOWN_TYPES))
    nases: tuple[NasSettings, ...] = ()
    dictionary: Path | None = None
    """Attributes beyond those that the portal knows, as FreeRADIUS' own files name them."""

    @property
    def used_types(self) -> list[NasType]:
        """The kinds of access servers there are, each once; without any, the first kind known."""
        names = dict.fromkeys(nas.type for nas in self.nases) or {"mikrotik": None}
        return [self.types[name] for name in names]

    def find_nas(self, name: str) -> NasSettings | None:
        """The access server of this address, by the narrowest network that it is of."""
        try:
            address = ip_address(name)
        except ValueError:
            return None
        found = [nas for nas in self.nases if address in nas.network]
        return max(found, key=lambda nas: nas.network.prefixlen, default=None)


class RadiusMistake(ValueError):
    """Something cannot be as it is set; the text names it."""


def read_radius(env: Mapping[str, str]) -> RadiusSettings:
    """The settings of the gateway `freeradius`. Raises RadiusMistake."""
    read_url = _database(env, "LASTMILE_RADIUS_READ_URL")
    write_url = _database(env, "LASTMILE_RADIUS_WRITE_URL")
    name = env.get("LASTMILE_RADIUS_FILE", "").strip()
    if not name:
        return RadiusSettings(read_url, write_url)
    path = Path(name)
    try:
        is_open_to_all = bool(path.stat().st_mode & 0o007)
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RadiusMistake(f"LASTMILE_RADIUS_FILE: {name} cannot be read: {reason}") from None
    if is_open_to_all:
        raise RadiusMistake(
            f"LASTMILE_RADIUS_FILE: {name} holds secrets and is open to everybody: chmod o= it"
        )
    try:
        return _read_file(content, read_url, write_url)
    except RadiusMistake as mistake:
        raise RadiusMistake(f"{name}: {mistake}") from None


def _database(env: Mapping[str, str], variable: str) -> str:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    text = env.get(variable, "").strip()
    scheme, sign, rest = text.partition("://")
    driver = _DRIVERS.get(scheme.partition("+")[0])
    is_good = bool(sign) and driver is not None
    if is_good and scheme == "sqlite":
        is_good = rest.startswith("/") and len(rest) > 2 and rest[1] == "/"
    if is_good:
        try:
            make_url(f"{driver}://{rest}")
        except (ArgumentError, ValueError):
            is_good = False
    if not is_good:
        # It may hold a password, so it is not repeated.
        raise RadiusMistake(
            f"{variable} must look like mysql://user:password@radius.example.net/radius; "
            "postgresql:// and sqlite:////a/file are good too"
        )
    return f"{driver}://{rest}"


def _read_file(content: dict[str, Any], read_url: str, write_url: str) -> RadiusSettings:
    _only(content, "", "hold", "types", "nas", "dictionary")
    types = dict(KNOWN_TYPES)
    for name, table in _tables(content, "types"):
        types[name] = _type(name, table, types.get(name))
    nases = tuple(_nas(name, table, types) for name, table in _tables(content, "nas"))
    dictionary = content.get("dictionary")
    if dictionary is not None and not (isinstance(dictionary, str) and Path(dictionary).is_file()):
        raise RadiusMistake("dictionary must be the whole path of a file that is there")
    return RadiusSettings(
        read_url,
        write_url,
        _hold(content.get("hold", {})),
        types,
        nases,
        Path(dictionary) if dictionary else None,
    )


def _tables(content: dict[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
    found = content.get(name, {})
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in found.values()):
        raise RadiusMistake(f"{name} must be tables, like [{name}.something]")
    return list(found.items())


def _only(table: dict[str, Any], path: str, *names: str) -> None:
    for name in table:
        if name not in names:
            raise RadiusMistake(f"{path}{name} is not known; {', '.join(names)} are")


def _take(
    table: dict[str, Any], path: str, name: str, default: Any, is_good: Callable[[Any], bool]
) -> Any:
    value = table.get(name, default)
    if type(value) is not type(default) or not is_good(value):
        raise RadiusMistake(f"{path}{name} makes no sense as it is")
    return value


def _is_name(text: str) -> bool:
    return 0 < len(text) <= 64 and text.isprintable()


def _hold(table: Any) -> HoldSettings:
    if not isinstance(table, dict):
        raise RadiusMistake("hold must be a table")
    _only(table, "hold.", "group", "held_list", "open_list", "held_kbps")
    known = HoldSettings()
    return HoldSettings(
        _take(table, "hold.", "group", known.group, lambda text: not text or _is_name(text)),
        _take(table, "hold.", "held_list", known.held_list, _is_name),
        _take(table, "hold.", "open_list", known.open_list, _is_name),
        _take(table, "hold.", "held_kbps", known.held_kbps, lambda kbps: 0 < kbps < 100_000_000),
    )


def _type(name: str, table: dict[str, Any], known: NasType | None) -> NasType:
    path = f"types.{name}."
    _only(table, path, "open", "held", "change_by", "hold_by")
    known = known or NasType({}, {})
    ways = {}
    for key in ("change_by", "hold_by"):
        text = table.get(key, getattr(known, key).value)
        if text not in [means.value for means in Means]:
            raise RadiusMistake(f"{path}{key} must be one of {', '.join(Means)}")
        ways[key] = Means(text)
    return NasType(
        _attributes(table.get("open", known.open), f"{path}open"),
        _attributes(table.get("held", known.held), f"{path}held"),
        **ways,
    )


def _attributes(table: Any, path: str) -> Mapping[str, str]:
    if not isinstance(table, Mapping) or not all(isinstance(v, str) for v in table.values()):
        raise RadiusMistake(f'{path} must name attributes, like {{ "Filter-Id" = "plan" }}')
    for name, value in table.items():
        try:
            places = {place for _, place, _, _ in Formatter().parse(value) if place is not None}
        except ValueError:
            places = {""}
        if not places <= set(PLACES):
            raise RadiusMistake(f"{path}.{name} may have in braces only {', '.join(PLACES)}")
    return dict(table)


def _nas(name: str, table: dict[str, Any], types: Mapping[str, NasType]) -> NasSettings:
    path = f"nas.{name}."
    _only(table, path, "type", "secret", "address", "port", "swapped")
    try:
        network = ip_network(name)
    except ValueError:
        raise RadiusMistake(
            f'nas.{name}: name it by its address in radacct or a network, [nas."10.0.0.0/24"]'
        ) from None
    kind = _take(table, path, "type", "mikrotik", lambda text: text in types)
    secret = _take(table, path, "secret", "", lambda text: len(text) >= MIN_SECRET_SIGNS)
    address = _take(table, path, "address", "", lambda text: text.isprintable())
    if address and network.num_addresses > 1:
        raise RadiusMistake(f"{path}address cannot be that of a whole network")
    return NasSettings(
        name,
        network,
        kind,
        secret.encode(),
        address,
        _take(table, path, "port", COA_PORT, lambda port: 0 < port < 65_536),
        _take(table, path, "swapped", False, lambda _value: True),
    )
