"""A plain HTTP/1.1 client over kept connections: as many requests as possible, or a fixed rate."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
TIMEOUT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as bytes, and what its answer must be: status and least length of the body."""

    raw: bytes
    status: int = 200
    least_bytes: int = 0
    name: str = ""


def asked(
    port: int,
    path: str,
    headers: dict[str, str] | None = None,
    *,
    method: str = "GET",
    body: bytes = b"",
    status: int = 200,
    least_bytes: int = 0,
    name: str = "",
) -> Asked:
    """A request to the portal on this machine, brotli accepted."""
    lines = {"Host": f"127.0.0.1:{port}", "Accept-Encoding": "br"} | (headers or {})
    if body or method != "GET":
        lines["Content-Length"] = str(len(body))
    head = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
    raw = f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body
    return Asked(raw, status, least_bytes, name or path)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    head: bytes
    body: bytes

    def is_as_wanted(self, request: Asked) -> bool:
        return self.status == request.status and len(self.body) >= request.least_bytes


class Connection:
    """One kept connection, opened again when the server has closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._socket: socket.socket | None = None
        self._rest = b""

    def send(self, raw: bytes) -> None:
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port), TIMEOUT_SECONDS)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._rest = b""
        self._socket.sendall(raw)

    def receive(self) -> Answer:
        """The next answer. Raises OSError when the server ends the connection before its end."""
        data = self._rest
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        head = data[:end]
        status = int(head[9:12])
        found = _LENGTH.search(head)
        if found is None and status not in (204, 304):
            raise OSError("an answer without a length")
        last = end + 4 + (int(found.group(1)) if found and status not in (204, 304) else 0)
        while len(data) < last:
            data += self._more()
        self._rest = data[last:]
        if b"connection: close" in head.lower():
            self.close()
        return Answer(status, head, data[end + 4 : last])

    def _more(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(65_536)
        if not data:
            self.close()
            raise OSError("the server closed the connection")
        return data

    def ask(self, raw: bytes) -> Answer:
        """Send and receive; once more on a new connection when a kept one had been closed."""
        is_kept = self._socket is not None
        try:
            self.send(raw)
            return self.receive()
        except OSError:
            self.close()
            if not is_kept:
                raise
        self.send(raw)
        return self.receive()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def ask(port: int, request: Asked) -> Answer:
    """One answer on a connection of its own. Raises OSError."""
    connection = Connection(port)
    try:
        return connection.ask(request.raw)
    finally:
        connection.close()


def share(found: Sequence[float], part: float) -> float:
    """The value that `part` (0 to 1) of the sorted `found` do not exceed; 0 of none."""
    return found[min(len(found) - 1, int(part * len(found)))] if found else 0.0


@dataclass(slots=True)
class Measured:
    """Latencies in seconds, sorted once finished, and how many answers were not as wanted."""

    latencies: list[float] = field(default_factory=list)
    wrong: int = 0
    seconds: float = 0.0
    statuses: dict[int, int] = field(default_factory=dict)
    named: dict[str, list[float]] = field(default_factory=dict)

    def part(self, part: float) -> float:
        return share(self.latencies, part)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0


def closed_loop(port: int, requests: Sequence[Asked], seconds: float, connections: int) -> Measured:
    """As many requests as one thread with so many connections gets answered, in turn."""
    lines = [Connection(port) for _ in range(connections)]
    following = cycle(requests)
    measured = Measured()
    waiting: list[tuple[Connection, Asked, float]] = []
    began = time.perf_counter()
    for line in lines:
        request = next(following)
        line.send(request.raw)
        waiting.append((line, request, time.perf_counter()))
    while True:
        line, request, sent = waiting.pop(0)
        answer = line.receive()
        now = time.perf_counter()
        measured.latencies.append(now - sent)
        measured.wrong += not answer.is_as_wanted(request)
        if now - began > seconds:
            break
        request = next(following)
        line.send(request.raw)
        waiting.append((line, request, now))
    measured.seconds = time.perf_counter() - began
    for line in lines:
        line.close()
    measured.latencies.sort()
    return measured


def open_loop(
    port: int,
    requests: Sequence[Asked],
    rate: float,
    seconds: float,
    *,
    threads: int = 64,
    count: int | None = None,
) -> Measured:
    """`rate` requests a second for `seconds` (or `count` in all), whatever the server does.

    Each latency counts from the moment for which the request was planned, so that a server that
    stands still is charged for those that had to wait. A lost connection is a wrong answer.
    """
    total = count if count is not None else int(rate * seconds)
    lock = threading.Lock()
    measured = Measured()
    began = time.perf_counter() + 0.2
    taken = 0

    def work() -> None:
        nonlocal taken
        connection = Connection(port)
        while True:
            with lock:
                number, taken = taken, taken + 1
            if number >= total:
                break
            planned = began + number / rate
            if (pause := planned - time.perf_counter()) > 0:
                time.sleep(pause)
            request = requests[number % len(requests)]
            try:
                answer = connection.ask(request.raw)
                status, is_good = answer.status, answer.is_as_wanted(request)
            except (OSError, ValueError):
                connection.close()
                status, is_good = 0, False
            late = time.perf_counter() - planned
            with lock:
                measured.latencies.append(late)
                measured.named.setdefault(request.name, []).append(late)
                measured.wrong += not is_good
                measured.statuses[status] = measured.statuses.get(status, 0) + 1
        connection.close()

    crew = [threading.Thread(target=work) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    measured.seconds = time.perf_counter() - began
    measured.latencies.sort()
    for found in measured.named.values():
        found.sort()
    return measured
