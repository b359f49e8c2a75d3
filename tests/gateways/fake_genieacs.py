"""A GenieACS of our own over HTTP: the part of its NBI that the portal uses, with faults on demand.

It reads signs in questions as the real one does (`*` for anything, `/…/` for a pattern), gives only
what was asked for, and knows ids in paths that are written as it takes them.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.gateways.conftest import serving

Thing = dict[str, Any]
_TASKS = re.compile(r"/devices/([a-zA-Z0-9\-_%]+)/tasks/?")
_TASK = re.compile(r"/tasks/([a-zA-Z0-9\-_%]+)/?")
_QUERY = re.compile(r"/([a-z]+)/?")


def value(of: Any, *, can_write: bool = True) -> Thing:
    """A parameter as GenieACS keeps it."""
    return {
        "_value": of,
        "_type": "xsd:string",
        "_timestamp": "2026-06-20T18:55:00.000Z",
        "_writable": can_write,
    }


def put(device: Thing, path: str, node: Any) -> None:
    """Let `node` stand at `path`."""
    *parents, last = path.split(".")
    for part in parents:
        device = device.setdefault(part, {"_object": True})
    device[last] = node


def tr098(username: str, number: int = 1, *, heard: str = "2026-06-20T18:58:00.000Z") -> Thing:
    """A router by TR-098, with networks of both bands and two devices of which one has gone."""
    device: Thing = {
        "_id": f"202BC1-BM632w%2D1-00.{number:04d}~",
        "_deviceId": {
            "_Manufacturer": "Acme",
            "_OUI": "202BC1",
            "_ProductClass": "BM632w",
            "_SerialNumber": f"{number:06d}",
        },
        "_lastInform": heard,
        "_tags": [],
    }
    root = "InternetGatewayDevice"
    put(device, f"{root}.ManagementServer.PeriodicInformInterval", value(300))
    wan = f"{root}.WANDevice.1.WANConnectionDevice.1.WANPPPConnection.1.Username"
    put(device, wan, value(username))
    for network, name in ((1, f"Home {number}"), (5, f"Home {number}")):
        path = f"{root}.LANDevice.1.WLANConfiguration.{network}"
        put(device, f"{path}.SSID", value(name))
        put(device, f"{path}.Enable", value(True))
        put(device, f"{path}.PreSharedKey.1.PreSharedKey", value("what it was before"))
    hosts = f"{root}.LANDevice.1.Hosts.Host"
    for host, (name, mac, is_active) in enumerate(
        (("Tablet", "02:00:5E:00:53:01", True), ("Printer", "02:00:5E:00:53:02", False)), 1
    ):
        put(device, f"{hosts}.{host}.HostName", value(name))
        put(device, f"{hosts}.{host}.MACAddress", value(mac))
        put(device, f"{hosts}.{host}.Active", value(is_active))
    put(device, f"{hosts}._timestamp", "2026-06-20T18:55:00.000Z")
    return device


def tr181(username: str, number: int = 1, *, heard: str = "2026-06-20T18:58:00.000Z") -> Thing:
    """A router by TR-181, whose second network is of guests."""
    device: Thing = {
        "_id": f"000000-Router-{number:06d}",
        "_deviceId": {
            "_Manufacturer": "OpenWrt",
            "_ProductClass": "Router",
            "_SerialNumber": f"{number:06d}",
        },
        "_lastInform": heard,
    }
    put(device, "Device.PPP.Interface.1.Username", value(username))
    put(device, "Device.DeviceInfo.ModelName", value("OpenWrt One"))
    for network, name in ((1, "Casa"), (2, "Guests")):
        put(device, f"Device.WiFi.SSID.{network}.SSID", value(name))
        put(device, f"Device.WiFi.SSID.{network}.Enable", value(True))
        path = f"Device.WiFi.AccessPoint.{network}.Security.KeyPassphrase"
        put(device, path, value(""))
    put(device, "Device.Hosts.Host.1.HostName", value("Phone"))
    put(device, "Device.Hosts.Host.1.PhysAddress", value("02:00:5E:00:53:0A"))
    return device


@dataclass
class FakeGenieacs:
    """Devices, tasks and faults. `routers` says how they behave when a task comes: "answer",
    "offline" or "refuse". `fault` is what befalls the next calls whose method it names, such as
    ("POST", "hang"): a status to answer, "hang", "die", "garbage" or "wrong"."""

    url: str = ""
    devices: list[Thing] = field(default_factory=list)
    tasks: list[Thing] = field(default_factory=list)
    done: list[Thing] = field(default_factory=list)
    faults: list[Thing] = field(default_factory=list)
    routers: str = "answer"
    fault: tuple[str, int | str] | None = None
    authorization: str | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    count: int = 0

    def decide(self, method: str, target: str, body: str) -> tuple[int, Any]:
        """Status and answer of a call."""
        parts = urlsplit(target)
        asked = {name: found[0] for name, found in parse_qs(parts.query).items()}
        if method == "POST" and (match := _TASKS.fullmatch(parts.path)):
            return self.take(unquote(match[1]), json.loads(body))
        if method == "DELETE" and (match := _TASK.fullmatch(parts.path)):
            self.tasks = [task for task in self.tasks if task["_id"] != match[1]]
            return 200, ""
        if method == "GET" and (match := _QUERY.fullmatch(parts.path)):
            limit = int(asked.get("limit", 0)) or 1000
            projection = asked.get("projection", "")
            return 200, self.search(match[1], json.loads(asked["query"]), projection, limit)
        return 404, "404 Not Found"

    def search(self, collection: str, query: Thing, projection: str, limit: int) -> list[Thing]:
        """What a question finds."""
        things: list[Thing] = getattr(self, collection)
        is_devices = collection == "devices"
        found = [thing for thing in things if _matches(thing, query, is_devices=is_devices)]
        return [_projected(thing, projection) for thing in found[:limit]]

    def take(self, device_id: str, task: Thing) -> tuple[int, Any]:
        """Queue a task, and do it where the router answers."""
        if not any(device["_id"] == device_id for device in self.devices):
            return 404, "No such device"
        self.count += 1
        task |= {"_id": f"{self.count:024x}", "device": device_id}
        key = task.get("uniqueKey")
        self.tasks = [
            each
            for each in self.tasks
            if key is None or (each["device"], each.get("uniqueKey")) != (device_id, key)
        ]
        self.tasks.append(task)
        if self.routers == "offline":
            return 202, task
        if self.routers == "refuse":
            self.faults.append({"_id": f"{device_id}:task_{task['_id']}", "code": "cwmp.9007"})
            return 202, task
        self.tasks.remove(task)
        self.done.append(task)
        return 200, task


def _values_at(thing: Thing, path: str) -> list[Any]:
    node: Any = thing
    for part in path.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node if isinstance(node, list) else [node]


def _matches(thing: Thing, query: Thing, *, is_devices: bool) -> bool:
    for name, wanted in query.items():
        if name == "$or":
            if not any(_matches(thing, each, is_devices=is_devices) for each in wanted):
                return False
            continue
        is_own = name.rpartition(".")[2].startswith("_")
        path = name if is_own or not is_devices else f"{name}._value"
        if not any(_equals(found, wanted) for found in _values_at(thing, path)):
            return False
    return True


def _equals(found: Any, wanted: str) -> bool:
    """As lib/query of GenieACS expands what is wanted: as it is, as a pattern, with wildcards."""
    if found == wanted:
        return True
    if not isinstance(found, str):
        return False
    pattern = re.fullmatch(r"/(.*?)/(g?i?m?y?)", wanted)
    if pattern and re.search(pattern[1], found):
        return True
    if "*" not in wanted:
        return False
    return bool(re.fullmatch(".*".join(map(re.escape, wanted.split("*"))), found))


def _projected(thing: Thing, projection: str) -> Thing:
    found: Thing = {"_id": thing["_id"]}
    for path in projection.split(","):
        parts, source, target = path.split("."), thing, found
        for part in parts[:-1]:
            if not isinstance(source.get(part), dict):
                break
            source, target = source[part], target.setdefault(part, {})
        else:
            if parts[-1] in source:
                target[parts[-1]] = source[parts[-1]]
    return found


@contextlib.contextmanager
def fake_genieacs() -> Iterator[FakeGenieacs]:
    """A GenieACS on a port of this machine."""
    state = FakeGenieacs()

    class Handler(BaseHTTPRequestHandler):
        def answer_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            state.calls.append((self.command, self.path))
            state.bodies.append(body)
            if self._befalls():
                return
            if state.authorization not in (None, self.headers.get("Authorization")):
                self._say(401, "Unauthorized")
                return
            status, answer = state.decide(self.command, self.path, body)
            self._say(status, answer)

        def _befalls(self) -> bool:
            if state.fault is None or state.fault[0] != self.command:
                return False
            what = state.fault[1]
            if isinstance(what, int):
                self._say(what, "out of order")
            elif what == "hang":
                time.sleep(1.5)
            elif what == "die":
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n[{")
                self.connection.shutdown(socket.SHUT_RDWR)
            else:
                texts = {"garbage": "<html>\x00", "wrong": '{"a": [1]}', "deep": "[" * 100_000}
                self._say(200, texts[what], is_json=False)
            return True

        def _say(self, status: int, answer: Any, *, is_json: bool = True) -> None:
            text = json.dumps(answer) if is_json else answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        do_GET = do_POST = do_DELETE = answer_any  # noqa: N815 - the server's names

        def log_message(self, *_arguments: Any) -> None:
            """Say nothing."""

    with serving(Handler) as url:
        state.url = url
        yield state
