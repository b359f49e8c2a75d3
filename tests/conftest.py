"""Fixtures: the real application on a real database of each engine, and a small world in it."""

from __future__ import annotations

import contextvars
import gc
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import pytest
from flask import Flask
from hypothesis import settings as hypothesis_settings
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import NullPool

from app import create_app
from blueprints.auth.service import Browser, open_session
from blueprints.billing.verify import find_faults
from core import clock, constant_pages, erasures, isp, prepared
from core.db import db, reading, unit_of_work
from core.migrate import upgrade
from core.settings import Settings
from gateways.network.simulated_equipment import SimulatedEquipment
from gateways.payments.sandbox.client import SandboxInProcess
from gateways.payments.sandbox.secrets import SandboxSecrets
from gateways.payments.sandbox.store import SandboxStore
from tests import groups, outside, pg, repeats, scratch, world
from tests.kept import Kept
from tests.outside import (  # noqa: F401 - pytest finds its hooks here
    pytest_make_collect_report,
    pytest_runtest_makereport,
    pytest_terminal_summary,
)
from tests.page import Visitor

T = TypeVar("T")
SEED = "tests" + "0" * 60

# How much hypothesis tries where a test does not say otherwise (bar 92).
for name, examples, steps in (("default", 200, 8), ("ci", 200, 8), ("nightly", 2_000, 50)):
    hypothesis_settings.register_profile(
        name, max_examples=examples, stateful_step_count=steps, deadline=None, print_blob=True
    )
hypothesis_settings.load_profile(repeats.sized("default", "ci", "nightly"))


def pytest_configure() -> None:
    """Pytest makes its temporary folders in memory, unless it was told where. Bytecode is kept even
    where the environment says otherwise: hundreds of processes would each compile all of it."""
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(scratch.root()))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return groups.scheduler(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        groups.begin_with_the_longest(items)


def pytest_collection_finish() -> None:
    """What is imported by now stays: to look through it for garbage again and again took a tenth of
    the time of most tests."""
    gc.collect()
    gc.freeze()


class Queries:
    """The statements that ran inside a `with` block."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self.statements: list[str] = []

    def _note(self, _c: Any, _cur: Any, statement: str, *_rest: Any) -> None:
        self.statements.append(statement)

    def __enter__(self) -> Self:
        with self._app.app_context():
            self._engine = db.engine
        event.listen(self._engine, "before_cursor_execute", self._note)
        prepared.watchers.append(self.statements.append)
        return self

    def __exit__(self, *_error: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._note)
        prepared.watchers.remove(self.statements.append)

    @property
    def count(self) -> int:
        return len([text for text in self.statements if not text.startswith(("BEGIN", "PRAGMA"))])


@dataclass
class Base:
    """An application with its database, made once for each engine and worker, and reset for each
    test from a copy that holds the world."""

    app: Flask
    settings: Settings
    world: world.World
    reset: Callable[[], None]
    changed: Callable[[frozenset[str]], set[str]]
    """Which of these tables are not as they were after the reset."""
    leave: Callable[[], None]
    """Close this process's connections to the database, as when the portal has ended."""
    books: frozenset[str] = frozenset()
    """The tables that are read to see whether the books add up."""

    def __post_init__(self) -> None:
        with Queries(self.app) as read:
            self._add_up()
        words = set(re.findall(r"\w+", " ".join(read.statements)))
        self.books = frozenset(words & db.metadata.tables.keys())

    def add_up(self) -> None:
        """Assert that the books add up; as they were after the reset, they are known to."""
        if self.changed(self.books):
            self._add_up()

    def _add_up(self) -> None:
        with self.app.app_context(), reading() as session:
            assert list(find_faults(session)) == []


@dataclass
class Portal:
    """What a test uses: the application with a fresh world and its sandbox bank."""

    app: Flask
    settings: Settings
    world: world.World
    bank: SandboxStore
    gateway: SandboxInProcess
    notice_secret: str

    def visitor(self, name: str | None = None, **values: str) -> Visitor:
        """A browser; with a name it is signed in as that customer, or as that member of staff
        after the second factor: by the form when there are `values` for it, otherwise as quickly
        as the form's service does once the password was found right."""
        visitor = Visitor(self.app)
        if name in world.STAFF:
            self.let_in(visitor, name, is_staff=True, has_second_factor=True)
        elif name is not None and not values.keys() - {"own_device"}:
            self.let_in(visitor, name, is_own_device=bool(values))
        elif name is not None:
            assert visitor.sign_in(name, **values).status == 303
        return visitor

    def let_in(
        self,
        visitor: Visitor,
        name: str,
        *,
        is_own_device: bool = False,
        is_staff: bool = False,
        has_second_factor: bool = False,
    ) -> None:
        """Give the browser a session of this person, without a form."""
        browser = Browser("127.0.0.1", "tests", None, None)
        with self.app.app_context():
            opened = unit_of_work(
                lambda session: open_session(
                    session,
                    self.world.customers[name],
                    is_own_device=is_own_device,
                    browser=browser,
                    secret=self.settings.secret,
                    is_staff=is_staff,
                    has_second_factor=has_second_factor,
                )
            )
            db.session.remove()
        cookies = {"session": opened.session_token, "device": opened.device_token, "here": "1"}
        for cookie, value in cookies.items():
            visitor.client.set_cookie(cookie, value, domain="127.0.0.1")

    def path(self, rest: str = "", account: str = "alice") -> str:
        """A path under an account's address."""
        return f"/a/{self.world.public_ids[account]}/{rest}"

    def one(self, sql: str, **values: Any) -> Any:
        """The first column of the only row."""
        with self.app.app_context(), db.engine.connect() as connection:
            return connection.execute(text(sql), values).scalar_one()

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.app.app_context(), db.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql), values)]

    def execute(self, sql: str, **values: Any) -> None:
        """Write past the portal, which takes revisions for the whole truth."""
        self.app.extensions["remembered"].forget()
        with self.app.app_context(), db.engine.connect() as connection:
            connection.execute(text(sql), values)


def _settings(folder: Path, url: str) -> Settings:
    return Settings(
        data=folder,
        database_url=url,
        secret=b"k" * 64,
        is_demo=True,
        host="127.0.0.1",
        port=8000,
        public_url="http://127.0.0.1:8000",
        processes=1,
        proxy_count=0,
        shared_networks=(),
        payment_gateway="",
        smtp_url="",
        mail_from="",
        equipment_gateway="simulated",
    )


def _make_world(app: Flask, settings: Settings) -> world.World:
    with app.app_context():
        upgrade(settings)
        made = world.build()
        db.session.remove()
        db.engine.dispose()
    return made


def _sqlite_base(folder: Path) -> Base:
    path, copy = folder / "lastmile.db", folder / "world.db"
    settings = _settings(folder, f"sqlite:///{path}")
    app = create_app(settings)
    made = _make_world(app, settings)
    with create_engine(settings.database_url, poolclass=NullPool).connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(path, copy)

    def rows(connection: Any, tables: Iterable[str]) -> dict[str, list[Any]]:
        return {
            table: connection.exec_driver_sql(f"SELECT * FROM {table}").fetchall()
            for table in tables
        }

    with create_engine(f"sqlite:///{copy}", poolclass=NullPool).connect() as connection:
        were = rows(connection, db.metadata.tables)

    def changed(tables: frozenset[str]) -> set[str]:
        with app.app_context(), db.engine.connect() as connection:
            are = rows(connection, tables)
        return {table for table in tables if are[table] != were[table]}

    def leave() -> None:
        with app.app_context():
            db.session.remove()
            db.engine.dispose()

    def reset() -> None:
        leave()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        shutil.copyfile(copy, path)

    return Base(app, settings, made, reset, changed, leave)


def _postgresql_base(folder: Path) -> Base:
    outside.need("postgresql")
    server = pg.server()
    server.create("world")
    template = _settings(folder, server.url("world"))
    made = _make_world(create_app(template), template)
    settings = _settings(folder, server.url("portal"))
    app = create_app(settings)

    kept = Kept(server, "portal", "world")

    def part() -> None:
        with app.app_context():
            db.session.remove()
            db.engine.dispose()

    def leave() -> None:
        part()
        kept.leave()

    def reset() -> None:
        part()
        kept.put_back()

    return Base(app, settings, made, reset, kept.changed, leave)


_bases: dict[str, Base] = {}


@pytest.fixture(params=["sqlite", "postgresql"])
def engine_kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def base(engine_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Base:
    if engine_kind not in _bases:
        folder = tmp_path_factory.mktemp(engine_kind)
        make = _sqlite_base if engine_kind == "sqlite" else _postgresql_base
        _bases[engine_kind] = make(folder)
    return _bases[engine_kind]


@pytest.fixture
def portal(base: Base) -> Iterator[Portal]:
    """The portal on a fresh world at `world.NOW`; after the test its books must add up (bar 51)."""
    base.reset()
    isp._cached.clear()
    constant_pages._pages.clear()
    base.app.extensions["remembered"].forget()
    shutil.rmtree(base.settings.data / "mailbox", ignore_errors=True)
    (base.settings.data / "mailbox").mkdir()
    (base.settings.data / erasures.NAME).unlink(missing_ok=True)  # ids are the same in each world
    with clock.set_to(world.NOW):
        bank = SandboxStore(base.settings.data / f"bank-{os.urandom(4).hex()}.db", clock=clock.now)
        secrets = SandboxSecrets.of([SEED])
        gateway = SandboxInProcess(bank, secrets)
        base.app.extensions["payment_gateway"] = gateway
        routers = base.settings.data / "equipment.db"
        routers.unlink(missing_ok=True)
        base.app.extensions["equipment_gateway"] = SimulatedEquipment(routers)
        yield Portal(base.app, base.settings, base.world, bank, gateway, secrets.notice_secrets[0])
        bank.close()
        base.add_up()


@pytest.fixture
def ctx(portal: Portal) -> Iterator[Portal]:
    """The portal inside an application context, to call services directly."""
    with portal.app.app_context():
        yield portal
        db.session.remove()


@pytest.fixture
def tick() -> Iterator[Callable[..., None]]:
    """`tick(minutes=5)` moves the clock of this test on."""
    stack: list[Any] = []

    def move(**delta: float) -> None:
        moved = clock.set_to(clock.now() + timedelta(**delta))
        moved.__enter__()
        stack.append(moved)

    yield move
    for moved in reversed(stack):
        moved.__exit__(None, None, None)


@pytest.fixture
def queries(portal: Portal) -> Queries:
    return Queries(portal.app)


def together(count: int, work: Callable[[int], T]) -> list[T | Exception]:
    """Run `work(number)` in `count` threads released at one moment, each with this test's clock;
    the results in order, an exception in place of the result where one was raised."""
    barrier = threading.Barrier(count)
    results: list[Any] = [None] * count

    def one(number: int) -> None:
        barrier.wait()
        try:
            results[number] = work(number)
        except Exception as error:  # noqa: BLE001 - handed to the test
            results[number] = error

    threads = [
        threading.Thread(target=contextvars.copy_context().run, args=(one, number))
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def answered(ask: Callable[[], int]) -> int:
    """The status of an answer; one that says "busy, try again" is asked for again."""
    for _ in range(20):
        status = ask()
        if status != 503:
            break
    return status
