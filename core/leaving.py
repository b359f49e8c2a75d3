"""How a web process leaves while its successor serves, without losing a request.

The server's own shutdown closes connections that it has accepted and not yet read from, and kept
ones at the moment when the next request may be on its way. So the process first stops accepting,
answers what it is asked with `Connection: close`, and ends when the last connection has gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flask import Flask

from core.supervisor import LEAVE

_LOOK_EVERY_SECONDS = 0.1


def when_asked(app: Flask, listening: Sequence[int]) -> None:
    """Have the process that serves `app` leave on LEAVE. `listening` are the ports' descriptors."""
    places = {_place(descriptor) for descriptor in listening}
    ports = _ports(listening)

    def leave(*_: object) -> None:
        app.wsgi_app = _closing(app.wsgi_app)  # type: ignore[method-assign]
        _stop_accepting(places)
        threading.Thread(target=_end_when_alone, args=(ports,), daemon=True).start()

    signal.signal(LEAVE, leave)


def _place(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _ports(listening: Sequence[int]) -> set[int]:
    ports = set()
    for descriptor in listening:
        with socket.socket(fileno=os.dup(descriptor)) as bound:
            ports.add(int(bound.getsockname()[1]))
    return ports


def _closing(wsgi_app: Callable[..., Any]) -> Callable[..., Any]:
    def answer(environ: Any, start_response: Callable[..., Any]) -> Any:
        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start_response(status, [*headers, ("Connection", "close")], *more)

        return wsgi_app(environ, start)

    return answer


def _descriptors() -> list[int]:
    return [int(path.name) for path in Path("/proc/self/fd").iterdir()]


def _stop_accepting(places: set[tuple[int, int]]) -> None:
    """Put a socket that nobody connects to in the place of the listening ones.

    They are not closed: other processes accept from them, and what waits in their queues is theirs.
    """
    nobodys = socket.socket(socket.AF_UNIX)
    nobodys.bind("")  # a name of the kernel's choice, known to nobody
    nobodys.listen()
    nobodys.setblocking(False)
    for descriptor in _descriptors():
        with contextlib.suppress(OSError):
            if _place(descriptor) in places:
                os.dup2(nobodys.fileno(), descriptor)


def _has_connections(ports: set[int]) -> bool:
    for descriptor in _descriptors():
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as found:
            if found.family in (socket.AF_INET, socket.AF_INET6):
                found.getpeername()  # raises where nobody is at the other end
                if found.getsockname()[1] in ports:
                    return True
    return False


def _end_when_alone(ports: set[int]) -> None:
    """End the process once no connection is left; how long that may take is its parent's matter."""
    alone = 0
    while alone < 2:  # one may have been accepted and not be there yet
        time.sleep(_LOOK_EVERY_SECONDS)
        alone = 0 if _has_connections(ports) else alone + 1
    os.kill(os.getpid(), signal.SIGTERM)
