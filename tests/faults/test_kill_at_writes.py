"""SIGKILL at any write of paying, billing and importing: nothing acknowledged is lost, every key is
applied once, the books add up, and a restart finishes what was begun (bar 68).

Each kill costs no more than a fork: the child does the work on the test's database and dies at one
of its writes to the file (on PostgreSQL: statements), or at a random moment. That the whole machine
survives is in `test_kill.py`.
"""

from __future__ import annotations

import os
import random
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import pytest
from sqlalchemy import Engine, event

from blueprints.staff import catalog, importing
from core import clock
from gateways.payments.sandbox.store import SandboxStore
from tests import repeats, world
from tests.conftest import Portal
from tests.faults import desk, shop
from tests.faults.disk import OK, Disk, under
from tests.faults.shop import Tell
from tests.staff.conftest import CUT_OVER, DATA, Desk, row

ROWS, BATCH = 12, 3
TIMED = 0.2
"""The share of kills that come by the clock, not at a step."""
LONGEST_SECONDS = 0.2

Work = Callable[[Portal, random.Random, Tell], None]


class Killer:
    """Does work in children that do not live to its end."""

    def __init__(self, portal: Portal, folder: Path, disk: Disk | None) -> None:
        self.portal, self.disk = portal, disk
        self.dice = repeats.dice()
        self.ends: list[int] = []
        self._bank_path = folder / "bank.db"
        self._steps = 0

    @contextmanager
    def bank(self) -> Iterator[None]:
        """The bank's books, open; never across a fork."""
        self.portal.bank = SandboxStore(self._bank_path, clock=clock.now)
        try:
            yield
        finally:
            self.portal.bank.close()

    def kill(self, work: Work) -> list[str]:
        """Do `work` in a child killed at one of its steps or some time; what it had told.

        The first child is left alive, to know how many steps there are.
        """
        at = self.dice.randint(1, self._steps) if self._steps else None
        is_timed = at is not None and self.dice.random() < TIMED
        shop.forget_connections(self.portal)
        seed = self.dice.randrange(10**6)
        readable, writable = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(readable)
            if is_timed:
                # Not caught by anybody, so it ends the process as SIGKILL would.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, self.dice.uniform(0.001, LONGEST_SECONDS))
            self._be_the_child(work, writable, random.Random(seed), None if is_timed else at)
        os.close(writable)
        with os.fdopen(readable, "rb") as pipe:
            told = pipe.read().decode().splitlines()
        end = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert end in (0, -signal.SIGKILL, -signal.SIGALRM), told
        self.ends.append(end)
        if at is None:
            self._steps = int(told[-1].split()[1])
        return [fact for fact in told if not fact.startswith("steps ")]

    def _be_the_child(
        self, work: Work, writable: int, dice: random.Random, at: int | None
    ) -> NoReturn:
        steps = 0

        def step(*_arguments: Any) -> int:
            nonlocal steps
            steps += 1
            if steps == at:
                os.kill(os.getpid(), signal.SIGKILL)
            return OK

        def tell(fact: str) -> None:
            os.write(writable, f"{fact}\n".encode())

        try:
            if self.disk is not None:
                self.disk.before = step
            else:
                event.listen(Engine, "before_cursor_execute", step)
            with self.bank(), self.portal.app.app_context():
                work(self.portal, dice, tell)
            shop.forget_connections(self.portal)
            tell(f"steps {steps}")
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child ends here, whatever it was
            traceback.print_exc()
        finally:
            os._exit(1)


@pytest.fixture
def killer(portal: Portal, tmp_path: Path) -> Iterator[Killer]:
    def checkpoint_often(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA wal_autocheckpoint = 40")

    shop.forget_connections(portal)
    with ExitStack() as stack:
        disk = None
        if portal.settings.is_sqlite:
            disk = stack.enter_context(under(portal.settings.data / "lastmile.db"))
            event.listen(Engine, "connect", checkpoint_often)
            stack.callback(event.remove, Engine, "connect", checkpoint_often)
        yield Killer(portal, tmp_path, disk)
        shop.forget_connections(portal)


def repeat(portal: Portal) -> range:
    """How many kills; fewer on PostgreSQL, whose own process is not the one that dies."""
    return range(repeats.REPEATS if portal.settings.is_sqlite else max(3, repeats.REPEATS // 5))


def test_paying_killed_at_any_write(portal: Portal, killer: Killer) -> None:
    told: list[str] = []
    for _ in repeat(portal):
        told += killer.kill(shop.trade)
        shop.check(portal, told)
        with killer.bank(), portal.app.app_context():
            shop.finish(portal)
        shop.check(portal, told)
    print(len(told), "facts kept; ended with", killer.ends)
    assert killer.ends.count(0) < len(killer.ends)


def bill(portal: Portal, dice: random.Random, tell: Tell) -> None:
    for name in dice.sample(shop.NAMES, len(shop.NAMES)):
        for invoice_id in world.issue_month(portal.world, (name,), date(2090, 1, 1)):
            tell(f"invoiced {invoice_id}")


def test_billing_killed_at_any_write(portal: Portal, killer: Killer) -> None:
    told: list[str] = []
    for _ in repeat(portal):
        told += killer.kill(bill)
        shop.check(portal, told)
        assert not portal.rows(
            "SELECT account_id, period_from FROM invoices GROUP BY 1, 2 HAVING count(*) > 1"
        )
    with portal.app.app_context():
        bill(portal, killer.dice, told.append)
    shop.check(portal, told)
    # Month by month without a gap.
    for account_id, begin, end, count in portal.rows(
        "SELECT account_id, min(period_from), max(period_from), count(*) FROM invoices"
        " WHERE kind = 'invoice' GROUP BY account_id"
    ):
        first, last = (date.fromisoformat(str(day)) for day in (begin, end))
        assert count == (last.year - first.year) * 12 + last.month - first.month + 1, account_id


def test_desk_killed_at_any_write(portal: Portal, killer: Killer) -> None:
    """Bill run, planned payment, voucher, bank file, refund, credit note, dunning."""
    told: set[str] = set()
    for turn in repeat(portal):
        day = desk.Desk(turn)
        told.update(killer.kill(day))
        shop.check(portal, told, desk.PROMISES)
        desk.check(portal)
        with killer.bank(), portal.app.app_context():
            day.finish(portal, killer.dice, told.add)
            desk.check_bank(portal)
        shop.check(portal, told, desk.PROMISES)
        desk.check(portal)
    print(len(told), "facts kept; ended with", killer.ends)
    assert {fact.split(" ")[0] for fact in told} == desk.PROMISES.keys()


def test_import_killed_at_any_write_is_finished_by_another(
    portal: Portal, killer: Killer, tmp_path: Path
) -> None:
    if not portal.settings.is_sqlite:  # the world named its plans' ids itself
        portal.one("SELECT setval(pg_get_serial_sequence('plans', 'id'), 100)")
    with portal.app.app_context():
        catalog.load(DATA / "catalog.toml")
    desk = Desk(portal, tmp_path)
    told: list[str] = []
    for turn in repeat(portal):
        numbers = [f"{turn:04}{number:02}" for number in range(ROWS)]
        export = desk.write(*(row(account_number=number) for number in numbers))
        told += killer.kill(importer(export, numbers))
        shop.check(portal, told)
        done = stored(portal, turn)
        assert done % BATCH == 0
        with portal.app.app_context():
            result = importing.run(export, cut_over=CUT_OVER, fixed_batch=BATCH)
        assert (result.added, result.unchanged, result.changed) == (ROWS - done, done, 0)
        told += [f"imported {number}" for number in numbers]
    shop.check(portal, told)


def importer(export: Path, numbers: list[str]) -> Work:
    def work(_portal: Portal, _dice: random.Random, tell: Tell) -> None:
        acknowledged = iter(numbers)

        def progress(_offset: int) -> None:
            for _ in range(BATCH):
                tell(f"imported {next(acknowledged)}")

        importing.run(export, cut_over=CUT_OVER, fixed_batch=BATCH, on_progress=progress)

    return work


def stored(portal: Portal, turn: int) -> int:
    return int(portal.one("SELECT count(*) FROM accounts WHERE number LIKE :n", n=f"{turn:04}__"))
