"""What the environment and the file it names say of the ISP's GenieACS, checked.

Its address stands in the environment; where models differ from the standards TR-098 and TR-181, in
a TOML file (`LASTMILE_GENIEACS_FILE`).
"""

from __future__ import annotations

import base64
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_PATH = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*", re.ASCII)
_HOST = re.compile(r"[a-z0-9.:_-]+", re.ASCII)
_BAND = re.compile(r"[0-9.]{0,4}", re.ASCII)
USUAL_FIND_BY = (
    "InternetGatewayDevice.WANDevice.1.WANConnectionDevice.1.WANPPPConnection.1.Username",
    "Device.PPP.Interface.1.Username",
    "VirtualParameters.pppoeUsername",
)
"""All of them what a router says of itself."""
_SET_BY_ISP = re.compile(r"_tags|(Tags|VirtualParameters)\..+")


def is_set_by_isp(path: str) -> bool:
    """Whether the ISP alone says what stands at a path, and no router can say it of itself."""
    return path not in USUAL_FIND_BY and bool(_SET_BY_ISP.fullmatch(path))


@dataclass(frozen=True, slots=True)
class WifiPaths:
    """The parameters of a Wi-Fi network: its name, where its password may stand (the first one that
    the router has is meant), whether it is switched on."""

    name: str
    passwords: tuple[str, ...] = ()
    enabled: str = ""
    band: str = ""


@dataclass(frozen=True, slots=True)
class ModelMap:
    """Where a model keeps its Wi-Fi networks, and the table of what is connected (empty: it does
    not tell)."""

    networks: tuple[WifiPaths, ...] = ()
    hosts: str = ""


def _tr098(number: int, band: str) -> WifiPaths:
    path = f"InternetGatewayDevice.LANDevice.1.WLANConfiguration.{number}"
    return WifiPaths(
        f"{path}.SSID",
        (
            f"{path}.PreSharedKey.1.KeyPassphrase",
            f"{path}.KeyPassphrase",
            f"{path}.PreSharedKey.1.PreSharedKey",
        ),
        f"{path}.Enable",
        band,
    )


def _tr181(number: int) -> WifiPaths:
    return WifiPaths(
        f"Device.WiFi.SSID.{number}.SSID",
        (f"Device.WiFi.AccessPoint.{number}.Security.KeyPassphrase",),
        f"Device.WiFi.SSID.{number}.Enable",
    )


STANDARDS = {
    # By custom the first network is of 2.4 GHz and the fifth of 5 GHz.
    "InternetGatewayDevice": ModelMap(
        (_tr098(1, "2.4"), _tr098(5, "5")), "InternetGatewayDevice.LANDevice.1.Hosts.Host"
    ),
    "Device": ModelMap((_tr181(1), _tr181(2)), "Device.Hosts.Host"),
}
"""By the first word of all that a device says of itself: TR-098 and TR-181."""


@dataclass(frozen=True, slots=True)
class GenieacsSettings:
    """The interface to the north (NBI) of a GenieACS. `find_by`: where the username of its line
    stands in a device. `models`: by product class, in which `*` stands for anything."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    find_by: tuple[str, ...] = USUAL_FIND_BY
    models: Mapping[str, ModelMap] = field(default_factory=dict)

    def find_map(self, product_class: str, root: str) -> ModelMap:
        """Where a model keeps what: by the first entry that fits, or the standard of `root`."""
        for pattern, found in self.models.items():
            if fnmatchcase(product_class, pattern):
                return found
        return STANDARDS.get(root, ModelMap())


class GenieacsMistake(ValueError):
    """Something cannot be as it is set; the text names it."""


def read_genieacs(env: Mapping[str, str]) -> GenieacsSettings:
    """The settings of the gateway `genieacs`. Raises GenieacsMistake."""
    url, headers = _address(env.get("LASTMILE_GENIEACS_URL", "").strip())
    headers |= _headers(env.get("LASTMILE_GENIEACS_HEADERS", "").strip())
    name = env.get("LASTMILE_GENIEACS_FILE", "").strip()
    if not name:
        return GenieacsSettings(url, headers)
    try:
        content = tomllib.loads(Path(name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise GenieacsMistake(f"LASTMILE_GENIEACS_FILE: {name} cannot be read: {reason}") from None
    try:
        _only(content, "", "find_by", "models")
        return GenieacsSettings(url, headers, _find_by(content), _models(content))
    except GenieacsMistake as mistake:
        raise GenieacsMistake(f"{name}: {mistake}") from None


def _address(text: str) -> tuple[str, dict[str, str]]:
    """The address without user and password, which become a header."""
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        host, port = "", None
    is_good = bool(_HOST.fullmatch(host)) and parts.scheme in ("http", "https")
    if not is_good or parts.path not in ("", "/") or parts.query or parts.fragment:
        # It may hold a password, so it is not repeated.
        raise GenieacsMistake(
            "LASTMILE_GENIEACS_URL must look like http://10.0.0.20:7557 or "
            "https://user:password@acs.example.net"
        )
    shown = f"[{host}]" if ":" in host else host
    url = f"{parts.scheme}://{shown}" + (f":{port}" if port else "")
    if parts.username is None:
        return url, {}
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return url, {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def _headers(text: str) -> dict[str, str]:
    try:
        found: Any = json.loads(text) if text else {}
    except ValueError:
        found = None
    is_good = isinstance(found, dict) and all(
        isinstance(value, str) and (name + value).isascii() and (name + value).isprintable()
        for name, value in found.items()
    )
    if not is_good:
        # They hold a key, so they are not repeated.
        raise GenieacsMistake(
            'LASTMILE_GENIEACS_HEADERS must be JSON like {"Authorization": "Bearer …"}'
        )
    return dict(found)


def _only(table: dict[str, Any], path: str, *names: str) -> None:
    for name in table:
        if name not in names:
            raise GenieacsMistake(f"{path}{name} is not known; {', '.join(names)} are")


def _path(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _PATH.fullmatch(value) or len(value) > 250:
        raise GenieacsMistake(f'{where} must be a parameter, like "Device.WiFi.SSID.1.SSID"')
    return value


def _find_by(content: dict[str, Any]) -> tuple[str, ...]:
    found = content.get("find_by", list(USUAL_FIND_BY))
    if not isinstance(found, list) or not found:
        raise GenieacsMistake("find_by must be a list of parameters")
    return tuple(_path(each, "find_by") for each in found)


def _models(content: dict[str, Any]) -> dict[str, ModelMap]:
    tables = content.get("models", {})
    if not isinstance(tables, dict) or not all(isinstance(each, dict) for each in tables.values()):
        raise GenieacsMistake('models must be tables, like [models."HG8245*"]')
    return {name: _model(table, f'models."{name}".') for name, table in tables.items()}


def _model(table: dict[str, Any], path: str) -> ModelMap:
    _only(table, path, "networks", "hosts")
    networks = table.get("networks", [])
    if not isinstance(networks, list) or not all(isinstance(each, dict) for each in networks):
        raise GenieacsMistake(f"{path}networks must be a list of tables")
    hosts = table.get("hosts", "")
    return ModelMap(
        tuple(_network(each, f"{path}networks.") for each in networks),
        _path(hosts, f"{path}hosts") if hosts != "" else "",
    )


def _network(table: dict[str, Any], path: str) -> WifiPaths:
    _only(table, path, "name", "passphrase", "enabled", "band")
    band = table.get("band", "")
    if not isinstance(band, str) or not _BAND.fullmatch(band):
        raise GenieacsMistake(f'{path}band must be like "2.4" or "5"')
    optional = {
        name: _path(table[name], path + name) for name in ("passphrase", "enabled") if name in table
    }
    return WifiPaths(
        _path(table.get("name"), path + "name"),
        (optional["passphrase"],) if "passphrase" in optional else (),
        optional.get("enabled", ""),
        band,
    )
