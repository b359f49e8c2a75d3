"""`python app.py`: one command that serves the portal with everything it needs on one machine.

It migrates, builds the demo once in demo mode, then starts the worker (and the demo's sandbox) as
children and the web processes under granian. Whatever ends it ends them.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from flask import Flask

from core import log
from core.settings import ROOT, Settings, SettingsError, read_settings

_Starter = Callable[[Settings], "subprocess.Popen[bytes]"]

STOP_SECONDS = 5
FIRST_PAUSE_SECONDS = 1.0
LAST_PAUSE_SECONDS = 60.0
# A thread waits while a payment gateway answers (20 s at most), so there are more than cores.
BLOCKING_THREADS = 8


def main(arguments: list[str]) -> None:
    """Serve, or with the argument `worker` only work. Says in one line what prevents it; exit 1."""
    try:
        settings = read_settings()
    except SettingsError as error:
        give_up(str(error))
    if arguments == ["worker"]:
        work(settings)
    elif arguments:
        give_up("usage: python app.py [worker]")
    else:
        serve(settings)


def give_up(reason: str) -> None:
    """Say why in one line and exit 1."""
    sys.stderr.write(f"Lastmile: {reason}\n")
    sys.exit(1)


def _check_port(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            give_up(f"port {port} on {host} is in use: end the other program or set PORT")


def prepare(settings: Settings) -> None:
    """Bring the database to this build's schema; in demo mode build the demo if it is not there."""
    from sqlalchemy import inspect
    from sqlalchemy.exc import SQLAlchemyError

    from app import WrongDatabase, check_database, create_app
    from core.db import db
    from core.migrate import upgrade
    from models import Isp

    app = create_app(settings)
    with app.app_context():
        try:
            try:
                if inspect(db.engine).has_table(Isp.__tablename__):
                    check_database(settings)  # before anything is changed in it
                upgrade(settings)
                check_database(settings)
            except WrongDatabase as error:
                give_up(str(error))
            except SQLAlchemyError as error:
                # After DatabaseError's own words the driver's text begins a new line.
                give_up(f"the database cannot be used: {str(error.args[0]).splitlines()[0]}")
            if settings.is_demo:
                from demo.start import ensure_built

                ensure_built(settings)
        finally:
            # Whoever only watches over the processes from now on needs no connection.
            db.session.remove()
            db.engine.dispose()


def serve(settings: Settings) -> None:
    """Serve until SIGINT or SIGTERM; then end everything that was started."""
    _check_port(settings.host, settings.port)
    if settings.is_demo:
        _check_port("127.0.0.1", settings.sandbox_port)
    prepare(settings)
    run(settings)


def run(settings: Settings) -> None:
    """Serve a database that is ready: the worker and the sandbox as children, then the web."""
    os.environ["LASTMILE_SUPERVISOR"] = str(os.getpid())
    helpers: list[_Starter] = [_start_worker]
    if settings.is_demo:
        helpers.append(_start_sandbox)
    nursery = _Nursery(settings, helpers)
    _announce(settings)
    try:
        run_granian(
            "app:create_served_app",
            factory=True,
            host=settings.host,
            port=settings.port,
            processes=settings.processes,
        )
    finally:
        nursery.end()


class _Nursery:
    """The programs beside the web processes, started again when one of them dies."""

    def __init__(self, settings: Settings, helpers: list[_Starter]) -> None:
        self._settings = settings
        self._children = {start: start(settings) for start in helpers}
        self._is_ending = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        # One that cannot start is tried less and less often, so that it costs nothing.
        pauses = dict.fromkeys(self._children, FIRST_PAUSE_SECONDS)
        started = dict.fromkeys(self._children, time.monotonic())
        while not self._is_ending.wait(FIRST_PAUSE_SECONDS):
            for start, child in list(self._children.items()):
                lived = time.monotonic() - started[start]
                if child.poll() is None:
                    if lived > LAST_PAUSE_SECONDS:
                        pauses[start] = FIRST_PAUSE_SECONDS
                elif lived > pauses[start] and not self._is_ending.is_set():
                    pauses[start] = min(2 * pauses[start], LAST_PAUSE_SECONDS)
                    started[start] = time.monotonic()
                    self._children[start] = start(self._settings)

    def end(self) -> None:
        self._is_ending.set()
        children = list(self._children.values())
        for child in children:
            child.terminate()
        for child in children:
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()


def _start_worker(_settings: Settings) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(ROOT / "app.py"), "worker"])  # noqa: S603


def _start_sandbox(settings: Settings) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own module
        [
            sys.executable,
            "-m",
            "gateways.payments.sandbox.server",
            "--port",
            str(settings.sandbox_port),
            "--data",
            str(settings.data / "sandbox.db"),
            "--portal",
            f"http://127.0.0.1:{settings.port}",
            "--secret-file",
            str(settings.data / "sandbox-secret"),
        ],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
    )


def run_granian(target: str, *, factory: bool, host: str, port: int, processes: int) -> None:
    """Serve the WSGI application `target` with the portal's flags until SIGINT or SIGTERM."""
    from granian import Granian
    from granian.constants import Interfaces
    from granian.log import LogLevels

    Granian(
        target,
        factory=factory,
        address=host,
        port=port,
        interface=Interfaces.WSGI,
        workers=processes,
        blocking_threads=BLOCKING_THREADS,
        backlog=1024,
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_SECONDS,
        log_access=False,
        log_level=LogLevels.error,
        working_dir=Path(ROOT),
    ).serve()


def _announce(settings: Settings) -> None:
    lines = [f"Lastmile is at {settings.public_url} (Ctrl-C ends it)"]
    if settings.is_demo:
        from demo import DEMO_CUSTOMERS

        lines.append("Sign in as")
        lines += [f"  {name:<16} {word:<28} {note}" for name, word, note in DEMO_CUSTOMERS]
        lines.append(
            f"The sandbox bank is at {settings.sandbox_origin}, the mailbox at /demo/mailbox"
        )
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


def _check_mode(app: Flask, settings: Settings) -> None:
    """A worker may be started alone: refuse a database of the other mode (bar 12)."""
    from sqlalchemy.exc import SQLAlchemyError

    from app import WrongDatabase, check_database

    with app.app_context():
        try:
            check_database(settings)
        except WrongDatabase as error:
            give_up(str(error))
        except SQLAlchemyError:
            return  # away for a moment: the worker waits for it


def work(settings: Settings) -> None:
    """Be the worker until SIGTERM, SIGINT or the end of the process that started it."""
    from app import create_app
    from blueprints.billing import payments
    from core import postman, worker

    log.configure()
    supervisor = os.environ.get("LASTMILE_SUPERVISOR")
    worker.end_with_parent(int(supervisor) if supervisor else None)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    app = create_app(settings)
    _check_mode(app, settings)
    payment_gateway = app.extensions["payment_gateway"]
    message_gateway = app.extensions["message_gateway"]

    def ask_about_payments() -> int:
        return payments.ask_due(payment_gateway)

    def send_messages() -> int:
        return postman.send_due(message_gateway, settings.public_url)

    worker.run(app, (ask_about_payments, send_messages), stop)
