"""Clients that ask again and again, and count what went wrong."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

FORM = {"Content-Type": "application/x-www-form-urlencoded"}
PAUSE_SECONDS = 0.02


@dataclass(slots=True)
class Load:
    """What the clients of one load met; `faults` are answers that broke off or say 5xx."""

    answers: int = 0
    faults: list[str] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class Client:
    """One client: how it connects, what it asks for, and whether it keeps its connection."""

    connect: Callable[[], http.client.HTTPConnection]
    method: str
    path: str
    expected: int
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None
    keeps: bool = False

    def run(self, load: Load) -> None:
        connection = self.connect()
        while not load.stop.wait(PAUSE_SECONDS):
            began = time.monotonic()
            try:
                connection.request(self.method, self.path, self.body, self.headers)
                answer = connection.getresponse()
                answer.read()
                load.answers += 1
                if answer.status != self.expected:
                    load.faults.append(f"{self.method} {self.path}: {answer.status}")
            except (OSError, http.client.HTTPException) as error:
                after = time.monotonic() - began
                load.faults.append(f"{self.method} {self.path}: {error!r} after {after:.2f} s")
                connection.close()
            if not self.keeps:
                connection.close()
        with suppress(OSError):
            connection.close()


@contextmanager
def under_load(clients: list[Client]) -> Iterator[Load]:
    """The clients at work during the block, each in its thread."""
    load = Load()
    threads = [threading.Thread(target=client.run, args=(load,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()
