"""granian with the portal's flags, on sockets that are open already, and able to leave."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from granian._granian import SocketHolder
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server.mp import MPServer

from core import supervisor
from core.settings import ROOT

# A thread waits while a payment gateway answers (20 s at most), so there are more than cores.
BLOCKING_THREADS = 8
# For the whole header of a request, also of the next one on a kept connection.
HEADER_SECONDS = 30
# More than any browser sends; granian's own limit would hold 400 kB for each connection.
MAX_HEADER_BYTES = 64 * 1024
TELL_AGAIN_SECONDS = 0.2


def run(
    target: str, *, factory: bool, sockets: Sequence[socket.socket], leave_seconds: float = 5
) -> None:
    """Serve the WSGI application `target` until SIGINT or SIGTERM, with one process for each
    socket. What has been begun may take `leave_seconds`; on supervisor.LEAVE once more as long."""
    signal_to_end()
    # A process that granian forks has granian's own handlers until it sets others, and would only
    # note there that it was told to end.
    os.register_at_fork(after_in_child=signal_to_end)
    # Only now, so that a machine whose portal cannot start refuses and another one is asked.
    for bound in sockets:
        bound.listen(supervisor.BACKLOG)
    _Server(
        target,
        factory=factory,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,  # browsers speak HTTP/2 to the proxy; here it would be a second door
        http1_settings=HTTP1Settings(
            header_read_timeout=HEADER_SECONDS * 1000, max_buffer_size=MAX_HEADER_BYTES
        ),
        workers=len(sockets),
        blocking_threads=BLOCKING_THREADS,
        backlog=supervisor.BACKLOG,
        respawn_failed_workers=True,
        log_access=False,
        log_level=LogLevels.error,
        working_dir=Path(ROOT),
    ).serve_on(sockets, leave_seconds)


def signal_to_end() -> None:
    """Have the signals that tell a process to end do so at once."""
    for number in (signal.SIGTERM, signal.SIGINT, supervisor.LEAVE):
        signal.signal(number, signal.SIG_DFL)


_Untyped: Any = MPServer  # its methods carry no types


class _Server(_Untyped):
    """On Linux granian would open a socket for each process itself, and those that wait in its
    queue would be lost when the process leaves."""

    def serve_on(self, sockets: Sequence[socket.socket], leave_seconds: float) -> None:
        self._sockets = sockets
        self._leave_seconds = leave_seconds
        self._is_leaving = threading.Event()
        self.serve()

    def startup(self, *arguments: Any) -> None:
        signal.signal(supervisor.LEAVE, self._leave)
        super().startup(*arguments)

    def _init_shared_socket(self) -> None:
        pass

    def _drop_shared_socket(self) -> None:
        pass

    def _spawn_worker(self, idx: int, *target: Any, **more: Any) -> Any:
        bound = self._sockets[idx]
        self._ssp = None
        self._shd = SocketHolder(bound.fileno(), False, supervisor.BACKLOG)  # type: ignore[call-arg]
        self._sso = bound
        return super()._spawn_worker(idx, *target, **more)

    def signal_handler_interrupt(self, *_: object) -> None:
        self._is_leaving.clear()
        super().signal_handler_interrupt()

    def _leave(self, *_: object) -> None:
        self.signal_handler_interrupt()
        self._is_leaving.set()

    def _stop_workers(self) -> None:
        """End the processes; when another generation serves already, once they are alone."""
        if self._is_leaving.is_set():
            for process in self.wrks:
                process.interrupt_by_parent = True
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.inner.pid, supervisor.LEAVE)
            until = time.monotonic() + self._leave_seconds
            # SIGTERM meanwhile makes it short.
            while (
                self._is_leaving.is_set() and time.monotonic() < until and self._is_anyone_there()
            ):
                time.sleep(TELL_AGAIN_SECONDS)
        until = time.monotonic() + self._leave_seconds
        while time.monotonic() < until and self._is_anyone_there():
            # Told until they have ended: one that is just starting may miss it.
            for process in self.wrks:
                process.terminate()
                process.join(TELL_AGAIN_SECONDS)
        for process in self.wrks:
            process.kill()
            process.join()
        self.wrks.clear()

    def _is_anyone_there(self) -> bool:
        return any(process.is_alive() for process in self.wrks)
