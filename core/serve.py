"""`python app.py`: one command that serves the portal with everything it needs on one machine.

The supervisor (`core/supervisor.py`) starts the web processes, which migrate first and build the
demo once in demo mode, then the worker and the demo's sandbox. Whatever ends it ends them.
`python app.py web` is the same without a worker and `python app.py worker` the worker alone, for
several machines.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from core import log, metrics, supervisor
from core.settings import ROOT, Settings, SettingsError, read_settings

if TYPE_CHECKING:
    from flask import Flask

# What a request may still take when its process is to end.
LEAVE_SECONDS = 25
LEAVE_SECONDS_IN_DEMO = 5
# The supervisor's word for its web processes; `--prepared`: the database is ready.
GENERATION = "generation"
PREPARED = "--prepared"


def main(arguments: list[str]) -> None:
    """Serve, or only a part: `web` or `worker`. Says in one line what prevents it; exit 1."""
    try:
        settings = read_settings()
    except SettingsError as error:
        give_up(str(error))
    match arguments:
        case ["worker"]:
            work(settings)
        case []:
            serve(settings, has_worker=True)
        case ["web"]:
            serve(settings, has_worker=False)
        case ["generation", *rest] if supervisor.LISTEN_FDS in os.environ:
            serve_generation(settings, is_prepared=rest == [PREPARED])
        case _:
            give_up("usage: python app.py [web | worker]")


def give_up(reason: str) -> NoReturn:
    """Say why in one line and exit 1."""
    sys.stderr.write(f"Lastmile: {reason}\n")
    sys.exit(1)


def _bind(host: str, port: int, count: int) -> list[socket.socket]:
    try:
        return supervisor.listen(host, port, count)
    except OSError:
        give_up(f"port {port} on {host} is in use: end the other program or set PORT")


def prepare(settings: Settings) -> None:
    """Bring the database to this build's schema; in demo mode build the demo if it is not there."""
    from sqlalchemy.exc import SQLAlchemyError

    from app import WrongDatabase, check_database, create_app
    from core.db import db
    from core.migrate import find_revision, upgrade

    app = create_app(settings)
    with app.app_context():
        try:
            try:
                if find_revision(db.engine) is not None:
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


def serve(settings: Settings, *, has_worker: bool) -> NoReturn:
    """Serve until SIGINT or SIGTERM; then end everything that was started."""
    if settings.is_demo and has_worker:
        _bind("127.0.0.1", settings.sandbox_port, count=0)  # only to see whether it is free
    _supervise(settings, has_worker=has_worker)


def run(settings: Settings, *, has_worker: bool = True) -> NoReturn:
    """Serve a database that is ready, with worker and sandbox or without them."""
    _supervise(settings, PREPARED, has_worker=has_worker)


def _supervise(settings: Settings, *more: str, has_worker: bool) -> NoReturn:
    log.configure(settings.log)
    metrics.share(settings.data)  # before anything counts
    bound = _bind(settings.host, settings.port, settings.processes)
    programs = [supervisor.Program(_own("worker"))] if has_worker else []
    if settings.is_demo and has_worker:
        programs.append(_sandbox(settings))
    watcher = supervisor.Supervisor(
        bound, _own(GENERATION, *more), programs, _leave_seconds(settings)
    )
    sys.exit(watcher.run(lambda: _announce(settings)))


def _leave_seconds(settings: Settings) -> int:
    return LEAVE_SECONDS_IN_DEMO if settings.is_demo else LEAVE_SECONDS


def _own(*arguments: str) -> Sequence[str]:
    """A command of this program, by the path that it was started with: when that leads through a
    link to the present release, what is started later is of the release that is present then."""
    started = Path(sys.argv[0]).absolute()
    program = started if started.name == "app.py" else ROOT / "app.py"
    return (sys.executable, str(program), *arguments)


def _sandbox(settings: Settings) -> supervisor.Program:
    command = (
        *(sys.executable, "-m", "gateways.payments.sandbox.server"),
        *("--port", str(settings.sandbox_port)),
        *("--data", str(settings.data / "sandbox.db")),
        *("--portal", f"http://{settings.public_host}:{settings.port}"),
        *("--secret-file", str(settings.data / "sandbox-secret")),
    )
    return supervisor.Program(command, is_exchanged=False, is_quiet=True, folder=ROOT)


def serve_generation(settings: Settings, *, is_prepared: bool) -> None:
    """Be one generation of web processes on the supervisor's socket, until SIGTERM."""
    from core import web_server

    supervisor.end_with_parent(int(os.environ[supervisor.SUPERVISOR]))
    os.environ[supervisor.SUPERVISOR] = str(os.getpid())
    web_server.signal_to_end()
    _load()
    if not is_prepared:
        _prepare_apart(settings)
    web_server.run(
        "app:create_served_app",
        factory=True,
        sockets=[socket.socket(fileno=number) for number in supervisor.handed_over()],
        leave_seconds=_leave_seconds(settings),
    )


def _load() -> None:
    """Import the application before the web processes are forked: they share what is not changed,
    and Python does not look through it for garbage, which would change all of it."""
    gc.disable()
    import_module("app")
    gc.freeze()
    gc.enable()


def _prepare_apart(settings: Settings) -> None:
    """`prepare` in a process that ends with it: what serves keeps no memory of migrations."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        supervisor.end_with_parent(parent)
        prepare(settings)
        sys.exit()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        sys.exit(abs(code))


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
    """Be the worker until SIGTERM, SIGINT, SIGHUP or the end of the process that started it."""
    from app import create_app
    from blueprints.billing import reconciling, refunding, settling
    from blueprints.billing.methods import expiring
    from blueprints.billing.methods import settling as methods
    from blueprints.billing.planned import foreseeing, taking
    from blueprints.dashboard.plans import due as plans
    from blueprints.dashboard.plans import kept_labels
    from blueprints.dashboard.plans import moving as moves
    from blueprints.dashboard.plans import pausing as pauses
    from blueprints.lines.allowances.watching import Watching
    from blueprints.lines.phone.syncing import NumberSyncing
    from blueprints.lines.reading import Reading
    from blueprints.lines.syncing import Syncing
    from blueprints.staff.prices import telling as prices
    from core import nightly, postman, search_terms, worker

    log.configure(settings.log)
    parent = os.environ.get(supervisor.SUPERVISOR)
    supervisor.end_with_parent(int(parent) if parent else None)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    app = create_app(settings)
    _check_mode(app, settings)
    payment_gateway = app.extensions["payment_gateway"]
    gateways = app.extensions["message_gateways"]

    def ask_about_payments() -> int:
        return settling.ask_due(payment_gateway)

    def ask_about_refunds() -> int:
        return refunding.ask_due(payment_gateway)

    def ask_about_methods() -> int:
        return methods.ask_due(payment_gateway)

    def take_planned_payments() -> int:
        return taking.take_due(payment_gateway)

    def send_messages() -> int:
        return postman.send_due(gateways, settings.public_url)

    jobs = (nightly.BACKUP, nightly.BILL_RUN, nightly.DUNNING)
    nights = [nightly.Nightly(job, settings) for job in jobs]
    asked_run = nightly.Asked(nightly.ASKED_RUN, settings)
    mend_terms = search_terms.Mending()
    asking = (ask_about_payments, ask_about_refunds, ask_about_methods, expiring.ExpiryWatch())
    planning = (take_planned_payments, foreseeing.Foreseeing())
    network = app.extensions["network_gateway"]
    telling = (
        plans.take_effect_due,
        pauses.take_effect_due,
        moves.take_effect_due,
        prices.go_on_due,
        kept_labels.Keeping(),
        Syncing(network),
        NumberSyncing(app.extensions["voice_gateway"]),
        Reading(network),
        Watching(),
        send_messages,
        reconciling.DailyLook(payment_gateway),
    )
    worker.run(app, (*asking, *planning, *telling, *nights, asked_run, mend_terms), stop)
