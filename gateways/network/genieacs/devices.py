"""What a device says of itself, as GenieACS keeps it: a tree of parameters, with their `_value`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from core.genieacs_settings import GenieacsSettings, ModelMap, WifiPaths, is_set_by_isp
from gateways.network.equipment import ConnectedDevice, Equipment, WifiNetwork
from gateways.network.genieacs.nbi import Device

LONGEST_NAME = 64
USUAL_INTERVAL = timedelta(minutes=10)
SHORTEST_SILENCE = timedelta(minutes=10)
INTERVALS_MISSED = 3
"""A router is offline when it did not report for so many of its intervals."""
_ROOTS = ("InternetGatewayDevice", "Device")
_INTERVAL = "ManagementServer.PeriodicInformInterval"
_MODEL = "DeviceInfo.ModelName"


def wanted(settings: GenieacsSettings) -> list[str]:
    """What is asked of devices whose model is not known yet. Of passwords only whether they can be
    set: GenieACS may know them."""
    paths = ["_deviceId", "_lastInform", *settings.find_by]
    for root in _ROOTS:
        paths += [f"{root}.{_INTERVAL}", f"{root}.{_MODEL}"]
    maps = [settings.find_map("", root) for root in _ROOTS]
    for model in {id(each): each for each in [*maps, *settings.models.values()]}.values():
        for network in model.networks:
            paths += [network.name, network.enabled]
            paths += [f"{path}._writable" for path in network.passwords]
        paths.append(model.hosts)
    return _without_parts(dict.fromkeys(filter(None, paths)))


def _without_parts(paths: dict[str, None]) -> list[str]:
    """The paths without those that are part of another one, which MongoDB would refuse."""
    return [path for path in paths if not any(parent in paths for parent in _parents(path))]


def _parents(path: str) -> Iterator[str]:
    while "." in path:
        path = path.rpartition(".")[0]
        yield path


def list_of_line(asked: list[Device], username: str, settings: GenieacsSettings) -> list[Device]:
    """Those that are of this line, letter by letter: what GenieACS finds may be more, as it reads
    signs in what is asked for. Where the ISP has said it of one, what others say of themselves
    counts for nothing."""
    by_isp = [each for each in asked if username in names_of(each, settings, is_by_isp=True)]
    return by_isp or [
        each for each in asked if username in names_of(each, settings, is_by_isp=False)
    ]


def names_of(device: Device, settings: GenieacsSettings, *, is_by_isp: bool) -> set[str]:
    """The names of lines that a device has: those that the ISP has given it, or its own word."""
    names: set[str] = set()
    for path in settings.find_by:
        if is_set_by_isp(path) is is_by_isp:
            found = value_of(device, path)
            values = found if isinstance(found, list) else [found]
            names |= {each for each in values if isinstance(each, str) and each}
    return names


def node_of(device: Device, path: str) -> Any:
    """What stands at a path; None where there is nothing."""
    node: Any = device
    for part in path.split("."):
        if not isinstance(node, dict):
            return None
        node = node.get(part)
    return node


def value_of(device: Device, path: str) -> Any:
    """The value of a parameter, or what GenieACS itself noted there; None where there is none."""
    node = node_of(device, path)
    return node.get("_value") if isinstance(node, dict) else node


def map_of(device: Device, settings: GenieacsSettings) -> ModelMap:
    """Where this device keeps what."""
    product_class = node_of(device, "_deviceId._ProductClass")
    return settings.find_map(str(product_class or ""), _root_of(device))


def _root_of(device: Device) -> str:
    return next((root for root in _ROOTS if isinstance(device.get(root), dict)), "")


def describe(device: Device, model: ModelMap, now: datetime) -> Equipment:
    """The router in our own words."""
    heard_at = heard(device)
    silence = max(INTERVALS_MISSED * _interval_of(device), SHORTEST_SILENCE)
    hosts = node_of(device, model.hosts) if model.hosts else None
    return Equipment(
        model=_model_of(device),
        heard_at=heard_at,
        is_online=heard_at is not None and now - heard_at <= silence,
        networks=tuple(
            WifiNetwork(str(key), name, paths.band, password_path(device, paths) is not None)
            for key, paths in enumerate(model.networks)
            if (name := _network_name(device, paths))
        ),
        devices=tuple(_connected(hosts)) if isinstance(hosts, dict) else None,
        devices_at=_told_at(hosts),
        can_refresh=bool(refreshed_part(model)),
    )


def refreshed_part(model: ModelMap) -> str:
    """What a router is asked for anew; empty where nothing is known of its model."""
    return next(filter(None, [model.hosts, *(paths.name for paths in model.networks)]), "")


def heard(device: Device) -> datetime | None:
    """When the device last reported."""
    return _instant(device.get("_lastInform"))


def password_path(device: Device, paths: WifiPaths) -> str | None:
    """The first parameter for a password that the device has and lets be set."""
    for path in paths.passwords:
        node = node_of(device, path)
        if isinstance(node, dict) and node.get("_writable") is not False:
            return path
    return None


def _network_name(device: Device, paths: WifiPaths) -> str:
    """The name of a network that is there and switched on; else empty."""
    name = value_of(device, paths.name)
    is_on = not paths.enabled or value_of(device, paths.enabled) not in (False, 0, "0", "false")
    return clean(name) if is_on else ""


def _connected(hosts: dict[str, Any]) -> Iterator[ConnectedDevice]:
    for number, host in sorted(hosts.items(), key=lambda entry: (len(entry[0]), entry[0])):
        if number.startswith("_") or not isinstance(host, dict):
            continue
        if value_of(host, "Active") in (False, 0, "0", "false"):
            continue
        mac = value_of(host, "MACAddress") or value_of(host, "PhysAddress")
        yield ConnectedDevice(clean(value_of(host, "HostName")), clean(mac).lower())


def _told_at(hosts: Any) -> datetime | None:
    return _instant(hosts.get("_timestamp")) if isinstance(hosts, dict) else None


def _model_of(device: Device) -> str:
    maker = clean(node_of(device, "_deviceId._Manufacturer"))
    model = clean(value_of(device, f"{_root_of(device)}.{_MODEL}"))
    model = model or clean(node_of(device, "_deviceId._ProductClass"))
    return model if model.casefold().startswith(maker.casefold()) else f"{maker} {model}".strip()


def _interval_of(device: Device) -> timedelta:
    seconds = value_of(device, f"{_root_of(device)}.{_INTERVAL}")
    if isinstance(seconds, int | float) and 0 < seconds <= 7 * 86_400:
        return timedelta(seconds=seconds)
    return USUAL_INTERVAL


def _instant(value: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return at.replace(tzinfo=at.tzinfo or UTC) if at is not None else None


def clean(value: Any) -> str:
    """Text for people from whatever a router says."""
    text = value if isinstance(value, str) else ""
    return "".join(sign for sign in text if sign.isprintable()).strip()[:LONGEST_NAME]
