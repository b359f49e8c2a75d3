"""Where the time of the hottest pages goes, part by part, in one process without a server.

Each part's own time is taken at the seams of Flask, Jinja, SQLAlchemy and the database's driver,
so that the table stays true however the portal is rearranged. A part that calls another stands
still meanwhile. What counts is processor time: a busy machine changes it little, and these pages
wait for nothing.
"""

from __future__ import annotations

import functools
import importlib
import json
import sqlite3
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from io import BytesIO
from time import thread_time
from typing import Any

from flask import Flask
from jinja2 import Template
from jinja2.filters import FILTERS
from sqlalchemy import Connection, Result
from sqlalchemy.orm import Session

from bench import dataset
from bench.report import Result as Found
from bench.report import Table
from core.settings import ROOT

OWNERS = 250
REQUESTS = {"small": 500, "full": 1_000}
WARM_UP = 300

DATABASE, SQLALCHEMY = "query: the database", "query: what stands around it"
VIEW, RENDER, WORDS = "view and services", "render", "words, money, dates"
CONTEXT, COMPRESS, SESSION = "what every template gets", "compress", "session"
GATE, HEADERS, FLASK = "gate: who, what, unchanged?", "headers", "Flask and Werkzeug"
PARTS = (
    *(FLASK, SESSION, GATE, DATABASE, SQLALCHEMY, VIEW, CONTEXT),
    *(RENDER, WORDS, COMPRESS, HEADERS),
)
PAGES = ("sign-in page", "dashboard, unchanged", "dashboard")


class OwnTime:
    """Processor seconds of each part, without those of the parts that it called."""

    def __init__(self) -> None:
        self.totals: defaultdict[str, float] = defaultdict(float)
        self._stack: list[str] = []
        self._since = 0.0

    def enter(self, part: str) -> None:
        now = thread_time()
        if self._stack:
            self.totals[self._stack[-1]] += now - self._since
        self._stack.append(part)
        self._since = now

    def leave(self) -> None:
        now = thread_time()
        self.totals[self._stack.pop()] += now - self._since
        self._since = now

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, its time counted for `part`."""

        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            self.enter(part)
            try:
                return function(*arguments, **named)
            finally:
                self.leave()

        return call

    def take(self) -> dict[str, float]:
        """What has gathered since the last time."""
        found = dict(self.totals)
        self.totals.clear()
        return found


def _time_methods(own: OwnTime, part: str, owner: type, names: Iterable[str]) -> None:
    for name in names:
        setattr(owner, name, own.timed(part, getattr(owner, name)))


def _time_libraries(own: OwnTime) -> None:
    """Before the application is made: what it binds must be timed already."""
    cursor_class = type("TimedCursor", (sqlite3.Cursor,), {})
    _time_methods(
        own, DATABASE, cursor_class, ("execute", "executemany", "fetchone", "fetchmany", "fetchall")
    )

    class TimedConnection(sqlite3.Connection):
        def cursor(self, *_factory: Any) -> Any:
            return super().cursor(cursor_class)

        def execute(self, *arguments: Any) -> Any:
            return self.cursor().execute(*arguments)

    connect = sqlite3.dbapi2.connect
    driver: Any = sqlite3.dbapi2
    driver.connect = functools.partial(connect, factory=TimedConnection)
    _time_methods(own, SQLALCHEMY, Connection, ("execute", "scalar", "scalars", "exec_driver_sql"))
    _time_methods(own, SQLALCHEMY, Session, ("execute", "scalar", "scalars", "connection", "close"))
    _time_methods(
        own,
        SQLALCHEMY,
        Result,
        ("all", "first", "one", "one_or_none", "scalar", "scalar_one", "scalar_one_or_none"),
    )
    from core.prepared import Prepared

    _time_methods(own, SQLALCHEMY, Prepared, ("all",))
    _time_methods(own, RENDER, Template, ("render", "make_module"))


def _time_application(own: OwnTime, app: Flask) -> None:
    for functions in app.before_request_funcs.values():
        functions[:] = [own.timed(GATE, function) for function in functions]
    portal: Any = importlib.import_module("app")  # what ends an answer there calls this one
    portal.compress = own.timed(COMPRESS, portal.compress)
    for after in app.after_request_funcs.values():
        after[:] = [own.timed(HEADERS, each) for each in after]
    for processors in app.template_context_processors.values():
        processors[:] = [own.timed(CONTEXT, each) for each in processors]
    for name, view in app.view_functions.items():
        app.view_functions[name] = own.timed(VIEW, view)
    for name in ("open_session", "save_session"):
        way: Any = app.session_interface
        setattr(way, name, own.timed(SESSION, getattr(way, name)))
    environment = app.jinja_env
    for name, function in environment.filters.items():
        if name not in FILTERS:
            environment.filters[name] = own.timed(WORDS, function)
    for name in ("gettext", "ngettext", "_"):
        word: Any = environment.globals.get(name)
        if callable(word):
            environment.globals[name] = own.timed(WORDS, word)


# Asking without a server ---------------------------------------------------------------------

Environ = dict[str, Any]


def _environ(path: str, **headers: str) -> Environ:
    return {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "127.0.0.1:8000",
        "HTTP_ACCEPT_ENCODING": "br",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    } | {f"HTTP_{name.upper()}": value for name, value in headers.items()}


def _call(app: Callable[..., Any], environ: Environ) -> tuple[str, dict[str, str], int]:
    told: list[Any] = []

    def start(status: str, headers: list[tuple[str, str]], _error: object = None) -> None:
        told[:] = [status, dict(headers)]

    answer = app(environ, start)
    length = sum(map(len, answer))
    if close := getattr(answer, "close", None):
        close()
    return told[0], told[1], length


def _sets(app: Flask, owners: Iterable[dataset.SignedInOwner]) -> dict[str, list[Environ]]:
    homes, held = [], []
    for owner in owners:
        home = _environ(owner.home, cookie=f"session={owner.token}")
        status, headers, _ = _call(app, dict(home))
        if not status.startswith("200"):
            raise RuntimeError(f"{owner.home} answered {status}")
        homes.append(home)
        held.append(home | {"HTTP_IF_NONE_MATCH": headers["ETag"]})
    return {
        "sign-in page": [_environ("/sign-in")],
        "dashboard, unchanged": held,
        "dashboard": homes,
    }


def _measure(app: Flask, environs: list[Environ], count: int, own: OwnTime | None) -> Any:
    """The median seconds of a request, and of each part when `own` times them."""
    totals, parts = [], defaultdict(list)
    wanted = "304" if "HTTP_IF_NONE_MATCH" in environs[0] else "200"
    call = app if own is None else own.timed(FLASK, app)
    for number in range(-WARM_UP, count):
        environ = dict(environs[number % len(environs)])
        if own is not None:
            own.take()
        began = thread_time()
        status, _, _ = _call(call, environ)
        seconds = thread_time() - began
        if not status.startswith(wanted):
            raise RuntimeError(f"{environ['PATH_INFO']} answered {status}, not {wanted}")
        if number < 0:
            continue
        totals.append(seconds)
        taken = own.take() if own is not None else {}
        for part in PARTS:
            parts[part].append(taken.get(part, 0.0))
    return statistics.median(totals), {
        part: statistics.median(found) for part, found in parts.items()
    }


def measure(accounts: int, count: int, *, is_split: bool) -> dict[str, Any]:
    """Medians in seconds for each page, `is_split` into parts; runs once in a process."""
    from app import create_app
    from bench.bare import app as bare

    source = dataset.make(accounts)
    owners = dataset.open_sessions(source, OWNERS)
    own = OwnTime() if is_split else None
    if own is not None:
        _time_libraries(own)
    # Each page is made: of one that is remembered there is little to be split.
    app = create_app(replace(source.settings(), remembered_pages=0))
    found = {}
    sets = _sets(app, owners)
    if own is not None:
        _time_application(own, app)
    else:
        found["bare Flask route"] = _measure(bare, [_environ("/")], count, None)
    return found | {name: _measure(app, sets[name], count, own) for name in PAGES}


def _elsewhere(accounts: int, count: int, *, is_split: bool) -> dict[str, Any]:
    """`measure` in a process of its own: what it wraps stays wrapped."""
    code = (
        "import json; from bench import profile; "
        f"print(json.dumps(profile.measure({accounts}, {count}, is_split={is_split})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the profile could not be made:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def run(size: str) -> Found:
    """A table of the parts of each page, in microseconds."""
    count = REQUESTS[size]
    whole = _elsewhere(1, count, is_split=False)
    split = _elsewhere(1, count, is_split=True)
    return Found([_table(whole, split, count)])


def _table(whole: Mapping[str, Any], split: Mapping[str, Any], count: int) -> Table:
    rows = [[part, *(_microseconds(split[page][1][part]) for page in PAGES)] for part in PARTS]
    sums = {page: sum(split[page][1].values()) for page in PAGES}
    rows += [
        ["**sum of the parts**", *(_microseconds(sums[page]) for page in PAGES)],
        [
            "the rest: differences of medians, and what measuring costs",
            *(_microseconds(whole[page][0] - sums[page]) for page in PAGES),
        ],
        ["**unmeasured request**", *(_microseconds(whole[page][0]) for page in PAGES)],
    ]
    bare = whole["bare Flask route"][0]
    rows.append(["as a share of it, a bare route", *(f"{bare / whole[p][0]:.3f}" for p in PAGES)])
    note = (
        f"Microseconds of processor time of one request in one process, without a server; medians "
        f"over {count} requests of {OWNERS} owners in turn, `Accept-Encoding: br`. A bare Flask "
        f"route takes {_microseconds(bare)} µs. Nothing is remembered here: each page is made."
    )
    return Table("", ("part", *PAGES), rows, note)


def _microseconds(seconds: float) -> str:
    return f"{seconds * 1e6:,.0f}"
