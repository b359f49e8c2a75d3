"""What stays while everything else is exchanged: it holds the listening sockets and watches over
the web processes, the worker and the demo's bank.

The web processes of one build and one set of settings are a generation: a process of its own that
migrates, then runs granian on the sockets that it was handed. On SIGHUP the next generation is
started beside the one that serves. Once it is ready the old one stops accepting, ends what it has
begun and leaves; when it cannot start, the old one goes on and the log says so. Because all of them
accept from the same queues, no connection is refused or lost meanwhile.

The modules imported here stay as they were when the program started, so there are few of them.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

log = logging.getLogger("lastmile.supervisor")

SUPERVISOR = "LASTMILE_SUPERVISOR"
"""Names the process whose end ends its children."""
LISTEN_FDS = "LASTMILE_LISTEN_FDS"
READY_FD = "LASTMILE_READY_FD"

BACKLOG = 1024
FIRST_PAUSE_SECONDS = 1.0
LAST_PAUSE_SECONDS = 60.0
MALLOC = {"MALLOC_ARENA_MAX": "2", "MALLOC_MMAP_THRESHOLD_": str(1024 * 1024)}
"""mallopt(3). By default each thread gets an arena, and pages of every one stay with the process:
in hours of load that was twice the memory."""
LEAVE = signal.SIGUSR1
"""Asks a generation, and then each of its processes, to leave when it is no longer needed."""
_FIRST_SYSTEMD_FD = 3
_ENDS = (signal.SIGTERM, signal.SIGINT)


class _Ended(Exception):
    """SIGTERM or SIGINT arrived."""


@dataclass(frozen=True, slots=True)
class Program:
    """A program beside the web processes, started again when it dies. With `is_exchanged` it is
    also started anew on a reload, beside the one that leaves."""

    command: Sequence[str]
    is_exchanged: bool = True
    is_quiet: bool = False
    folder: Path | None = None


@dataclass(slots=True)
class _Running:
    start: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes]
    is_exchanged: bool
    started: float = field(default_factory=time.monotonic)
    pause: float = FIRST_PAUSE_SECONDS

    def begin(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self.started = process, time.monotonic()


def listen(host: str, port: int, count: int) -> list[socket.socket]:
    """Sockets bound to the address, one for each of `count` web processes, or those that systemd
    handed over. They listen once the first generation does. Raises OSError when the address is
    taken.

    The kernel spreads connections over them evenly; of one socket that all accept from, a process
    that is awake takes nearly everything.
    """
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        handed = int(os.environ.get("LISTEN_FDS", "0"))
        if handed:
            first = _FIRST_SYSTEMD_FD
            return [socket.socket(fileno=number) for number in range(first, first + handed)]
    # Without sharing, so that a second portal does not take half of the first one's visitors.
    _bind(host, port, socket.SO_REUSEADDR).close()
    return [_bind(host, port, socket.SO_REUSEADDR, socket.SO_REUSEPORT) for _ in range(count)]


def _bind(host: str, port: int, *options: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        for option in options:
            bound.setsockopt(socket.SOL_SOCKET, option, 1)
        # Connections inherit it; without it each answer waits 40 ms for an acknowledgement.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def end_with_parent(parent_pid: int | None = None) -> None:
    """Have this process ended when its parent dies (Linux: PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)
    if parent_pid is not None and os.getppid() != parent_pid:
        sys.exit(0)


def handed_over() -> list[int]:
    """The descriptors of the supervisor's sockets, in a generation that it started."""
    return [int(number) for number in os.environ.get(LISTEN_FDS, "").split(",") if number]


def say_ready() -> None:
    """Tell the supervisor, from within a web process, that it can answer."""
    descriptor = os.environ.get(READY_FD)
    if descriptor is not None:
        with contextlib.suppress(OSError):  # it is told once, and a later process tells nobody
            os.write(int(descriptor), b".")


def notify(*lines: str) -> None:
    """Tell systemd (sd_notify(3)); does nothing where it does not ask."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told, contextlib.suppress(OSError):
        told.connect(address)
        told.send("\n".join(lines).encode())


class Supervisor:
    """Runs one generation of web processes after the other, and the programs beside them.

    What is told to leave has `leave_seconds` for what it has begun."""

    def __init__(
        self,
        bound: Sequence[socket.socket],
        web: Sequence[str],
        programs: Sequence[Program],
        leave_seconds: float,
    ) -> None:
        self._bound = bound
        self._web_command = web
        self._programs = programs
        self._leave_seconds = leave_seconds
        self._running: list[_Running] = []
        self._leaving: list[tuple[subprocess.Popen[bytes], float]] = []
        self._is_reload_wanted = False

    def run(self, when_ready: Callable[[], None]) -> int:
        """Serve until SIGTERM or SIGINT; the exit code: that of the first generation when it could
        not start, else 0."""
        os.environ[SUPERVISOR] = str(os.getpid())
        with self._woken_by_signals():
            try:
                web, is_ready = self._start_generation()
                if not is_ready:
                    return web.wait() or 1
                self._running.append(_Running(self._restart_web, web, is_exchanged=False))
                for program in self._programs:
                    self._start(program)
                when_ready()
                notify("READY=1")
                while True:
                    self._wait()
                    if self._is_reload_wanted:
                        self._is_reload_wanted = False
                        self._exchange()
                    self._look_after()
            except _Ended:
                return 0
            finally:
                notify("STOPPING=1")
                self._end()

    # Starting.

    def _start_web(self) -> tuple[subprocess.Popen[bytes], int]:
        """A generation, and the pipe on which it says that it is ready."""
        reading, writing = os.pipe()
        numbers = [bound.fileno() for bound in self._bound]
        handed = {LISTEN_FDS: ",".join(map(str, numbers)), READY_FD: str(writing)}
        process = subprocess.Popen(  # noqa: S603 - our own program
            self._web_command,
            env=MALLOC | os.environ | handed,
            pass_fds=(*numbers, writing),
        )
        os.close(writing)
        return process, reading

    def _restart_web(self) -> subprocess.Popen[bytes]:
        process, pipe = self._start_web()
        os.close(pipe)
        return process

    def _start_generation(self) -> tuple[subprocess.Popen[bytes], bool]:
        """A generation, and whether one of its processes can answer; otherwise all have ended.
        Raises _Ended."""
        web, pipe = self._start_web()
        try:
            while not self._wait(pipe):
                self._look_after()
            return web, os.read(pipe, 1) == b"."
        except _Ended:
            self._leave(web)
            raise
        finally:
            os.close(pipe)

    def _start(self, program: Program) -> None:
        def start() -> subprocess.Popen[bytes]:
            out = subprocess.DEVNULL if program.is_quiet else None
            return subprocess.Popen(program.command, stdout=out, cwd=program.folder)  # noqa: S603

        self._running.append(_Running(start, start(), program.is_exchanged))

    # Exchanging.

    def _exchange(self) -> None:
        """Start everything anew, with the code and the settings as they are now."""
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        log.info("reloading")
        web, is_ready = self._start_generation()
        if is_ready:
            # It may take its time twice: until the last connection has gone, and when told to end.
            self._leave(self._running[0].process, LEAVE, 2 * self._leave_seconds)
            self._running[0].begin(web)
            for running in self._running:
                if running.is_exchanged:
                    # Any number of workers may run, so the old one may take its time.
                    self._leave(running.process)
                    running.begin(running.start())
            log.info("reloaded")
        else:
            web.wait()
            log.error("the new web processes do not start: the old ones go on serving")
        notify("READY=1")

    def _leave(
        self,
        process: subprocess.Popen[bytes],
        number: signal.Signals = signal.SIGTERM,
        seconds: float | None = None,
    ) -> None:
        if process.poll() is None:
            process.send_signal(number)
            # granian's processes are killed by their parent when they stay; a little later it is.
            until = time.monotonic() + (seconds or self._leave_seconds) + 3
            self._leaving.append((process, until))

    # Watching.

    def _look_after(self) -> None:
        """Start again what has died, less and less often, so that one that cannot start costs
        nothing; kill what was told to leave and stays."""
        now = time.monotonic()
        for running in self._running:
            lived = now - running.started
            if running.process.poll() is None:
                if lived > LAST_PAUSE_SECONDS:
                    running.pause = FIRST_PAUSE_SECONDS
            elif lived > running.pause:
                running.pause = min(2 * running.pause, LAST_PAUSE_SECONDS)
                running.begin(running.start())
        for process, until in list(self._leaving):
            if process.poll() is not None:
                self._leaving.remove((process, until))
            elif now > until:
                process.kill()

    def _end(self) -> None:
        """End everything that was started; what does not end in time is killed."""
        for process, _until in self._leaving:
            process.terminate()
        for running in self._running:
            self._leave(running.process)
        for process, until in self._leaving:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    # Signals.

    @contextlib.contextmanager
    def _woken_by_signals(self) -> Iterator[None]:
        """Signals arrive as bytes in a pipe, so that nothing is interrupted half-way."""
        self._signals, writing = os.pipe()
        os.set_blocking(self._signals, False)
        os.set_blocking(writing, False)
        before = {number: signal.getsignal(number) for number in (*_ENDS, signal.SIGHUP)}
        for number in before:
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(self._signals)
            os.close(writing)

    def _wait(self, pipe: int | None = None) -> bool:
        """Wait for a signal or something in `pipe`, a second at most; whether there is something
        in it. Raises _Ended."""
        watched = [self._signals] if pipe is None else [self._signals, pipe]
        readable, _, _ = select.select(watched, [], [], FIRST_PAUSE_SECONDS)
        if self._signals in readable:
            arrived = set(os.read(self._signals, 64))
            if arrived.intersection(_ENDS):
                raise _Ended
            self._is_reload_wanted |= signal.SIGHUP in arrived
        return pipe in readable
