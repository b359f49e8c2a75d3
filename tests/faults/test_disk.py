"""Disk full, I/O error or read-only at each write: a clear answer, no half entry, and normal work
afterwards (bar 70)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from blueprints.staff import catalog, importing
from core import error_pages
from core.db import DatabaseBusy, db
from gateways.payments.sandbox.store import Decision
from tests import repeats, world
from tests.conftest import Portal
from tests.faults import desk as desks
from tests.faults import shop
from tests.faults.disk import FULL, IOERR_FSYNC, IOERR_WRITE, OK, READONLY, Disk, Operation, under
from tests.page import Page, Visitor
from tests.staff.conftest import CUT_OVER, DATA, Desk, row

pytestmark = pytest.mark.parametrize("engine_kind", ["sqlite"])

FAULTS = (FULL, IOERR_WRITE, IOERR_FSYNC, READONLY)
MOST_WRITES = 1000
DAY_WRITES = 900
"""About as many as a day at the desk makes."""


class Trouble:
    """Makes the `number`th write fail, and with `is_lasting` all after it."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.has_struck = False

    def strike(self, number: int, code: int, *, is_lasting: bool) -> None:
        count, self.has_struck = 0, False

        def before(operation: Operation) -> int:
            nonlocal count
            count += 1
            if count == number or (is_lasting and count > number):
                self.has_struck = True
                return code
            return OK

        self.disk.before = before

    def end(self) -> None:
        self.disk.before = lambda _operation: OK


@pytest.fixture
def trouble(portal: Portal) -> Iterator[Trouble]:
    def checkpoint_often(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA wal_autocheckpoint = 30")

    shop.forget_connections(portal)
    with under(portal.settings.data / "lastmile.db") as disk:
        with portal.app.app_context():
            engine = db.engine
        event.listen(engine, "connect", checkpoint_often)
        try:
            yield Trouble(disk)
        finally:
            event.remove(engine, "connect", checkpoint_often)
            disk.before = lambda _operation: OK
            shop.forget_connections(portal)


def at_each_write(
    portal: Portal, trouble: Trouble, work: Callable[[], None], again: Callable[[], None]
) -> None:
    """Do `work` with a fault at its first write, its second, … until it has no more; after each,
    the disk is well and `again` has to succeed."""
    dice = repeats.dice()
    for number in range(1, MOST_WRITES):
        is_beyond = True
        for code in dice.sample(FAULTS, repeats.sized(1, 2, len(FAULTS))):
            trouble.strike(number, code, is_lasting=dice.random() < 0.5)
            try:
                work()
            finally:
                trouble.end()
            is_beyond = is_beyond and not trouble.has_struck
            again()
            # Else whatever a failed checkpoint left would be added to the next one's writes.
            portal.rows("PRAGMA wal_checkpoint")
        if number % 10 == 0 or is_beyond:
            shop.check(portal, ())
        if is_beyond:
            print(number - 1, "writes")
            assert number > 5
            return
    raise AssertionError("the work has no end")


def is_clear(page: Page) -> bool:
    """Done, or an answer that says in words that it is not, and when to come again."""
    if page.status != 503:
        return page.status in (200, 303)
    assert int(page.response.headers["Retry-After"]) > 0
    # Without any connection to the database there is not even a template to draw.
    return "Nothing was lost" in page.text or page.text.startswith(error_pages.BARE)


def test_payment_meets_a_fault_at_each_write(portal: Portal, trouble: Trouble) -> None:
    alice = portal.visitor("alice")
    number = 0
    sent: dict[str, Any] = {}

    def press() -> Page:
        return alice.post(sent["action"], sent["values"])

    def come_back() -> Page:
        public_id = portal.one("SELECT public_id FROM payments ORDER BY id DESC LIMIT 1")
        return alice.get(f"/pay/{public_id}/return")

    def work() -> None:
        nonlocal number
        number += 1
        action, values = alice.get(portal.path("billing/pay")).form("/pay")
        values |= {"choice": "other", "amount": f"{1 + number / 100:.2f}"}
        sent.update(action=action, values=values)
        assert is_clear(press())
        for key, state in _at_bank(portal):
            if state == "pending":
                portal.bank.decide(key, Decision.PAY)
        assert is_clear(come_back())

    def again() -> None:
        assert press().status == 303
        for key, state in _at_bank(portal):
            if state == "pending":
                portal.bank.decide(key, Decision.PAY)
        assert come_back().status == 303
        amount = 100 + number
        assert portal.rows(
            "SELECT state, count(*) FROM payments WHERE amount_minor = :amount"
            " AND key NOT LIKE 'world%' GROUP BY state",
            amount=amount,
        ) == [("succeeded", 1)]
        assert len([key for key, _ in _at_bank(portal)]) == number

    at_each_write(portal, trouble, work, again)


def _at_bank(ctx: Portal) -> list[tuple[str, str]]:
    return [(row.key, row.state.value) for row in ctx.bank.list_latest(10_000)]


def test_sign_in_meets_a_fault_at_each_write(
    portal: Portal, trouble: Trouble, tick: Callable[..., None]
) -> None:
    visitors: list[Visitor] = []

    def work() -> None:
        tick(minutes=10)
        visitors[:] = [Visitor(portal.app)]
        first = visitors[0].get("/sign-in")
        assert is_clear(first)
        if first.status == 503:
            return
        answer = visitors[0].sign_in("alice")
        assert is_clear(answer)
        home = visitors[0].get(portal.path())
        assert home.status in ((200, 503) if answer.status == 303 else (303, 503))

    def again() -> None:
        tick(minutes=10)
        assert visitors[0].sign_in("alice").status == 303
        assert visitors[0].get(portal.path()).status == 200

    at_each_write(portal, trouble, work, again)


def test_invoice_meets_a_fault_at_each_write(ctx: Portal, trouble: Trouble) -> None:
    issued = [ctx.one("SELECT count(*) FROM invoices")]

    def work() -> None:
        try:
            world.issue_month(ctx.world, ("mallory",), date(2090, 1, 1))
        except DBAPIError:
            assert ctx.one("SELECT count(*) FROM invoices") == issued[-1]

    def again() -> None:
        count = ctx.one("SELECT count(*) FROM invoices")
        assert count - issued[-1] in (0, 1)
        world.issue_month(ctx.world, ("mallory",), date(2090, 1, 1))
        assert ctx.one("SELECT count(*) FROM invoices") == count + 1
        issued.append(count + 1)

    at_each_write(ctx, trouble, work, again)


def test_day_at_the_desk_meets_a_fault_at_some_write(ctx: Portal, trouble: Trouble) -> None:
    """Bill run, planned payment, voucher, bank file, refund, credit note, dunning: what was told is
    there, nothing is there by half or twice, and once the disk is well the day is finished."""
    dice, told = repeats.dice(), set[str]()
    struck = 0
    for turn in range(max(3, repeats.REPEATS // 2)):
        day = desks.Desk(turn)
        trouble.strike(dice.randrange(1, DAY_WRITES), dice.choice(FAULTS), is_lasting=turn % 2 == 0)
        try:
            day(ctx, dice, told.add)
        except (DBAPIError, DatabaseBusy):
            assert trouble.has_struck
        finally:
            trouble.end()
            struck += trouble.has_struck
        shop.check(ctx, told, desks.PROMISES)
        desks.check(ctx)
        day.finish(ctx, dice, told.add)
        shop.check(ctx, told, desks.PROMISES)
        desks.check(ctx)
        desks.check_bank(ctx)
        ctx.rows("PRAGMA wal_checkpoint")
    assert struck > 1
    assert {fact.split(" ")[0] for fact in told} == desks.PROMISES.keys()
    print(len(told), "facts kept;", struck, "faults")


def test_import_meets_a_fault_at_each_write(ctx: Portal, trouble: Trouble, tmp_path: Path) -> None:
    catalog.load(DATA / "catalog.toml")
    desk = Desk(ctx, tmp_path)
    batch = 0
    files: list[Path] = []

    def work() -> None:
        nonlocal batch
        batch += 1
        files[:] = [desk.write(*(row(account_number=f"{batch:04}{number}") for number in range(3)))]
        try:
            importing.run(files[0], cut_over=CUT_OVER, fixed_batch=3)
        except DBAPIError:
            assert _imported(ctx, batch) == 0
        assert not list(tmp_path.glob("*.part"))

    def again() -> None:
        done = _imported(ctx, batch)
        result = importing.run(files[0], cut_over=CUT_OVER, fixed_batch=3)
        assert (result.added, result.unchanged) == (3 - done, done)
        assert _imported(ctx, batch) == 3

    at_each_write(ctx, trouble, work, again)


def _imported(ctx: Portal, batch: int) -> int:
    return int(
        ctx.one("SELECT count(*) FROM accounts WHERE number LIKE :like", like=f"{batch:04}_")
    )


def test_pages_that_only_read_are_shown_while_nothing_can_be_written(
    portal: Portal, trouble: Trouble, tick: Callable[..., None]
) -> None:
    alice = portal.visitor("alice")
    tick(minutes=20)  # so that the time of last use should be noted
    for code in FAULTS:
        trouble.strike(1, code, is_lasting=True)
        for rest in ("", "billing/", "billing/invoices/", "billing/payments/", "billing/pay"):
            assert alice.get(portal.path(rest)).status == 200
        assert trouble.has_struck
        stranger = Visitor(portal.app)
        assert stranger.get("/sign-in").status == 200
        answer = stranger.sign_in("alice")
        assert answer.status == 503
        assert is_clear(answer)
        trouble.end()
    assert alice.get(portal.path()).status == 200


def test_command_says_in_one_line_that_the_disk_is_full(
    portal: Portal, trouble: Trouble, tmp_path: Path
) -> None:
    with portal.app.app_context():
        catalog.load(DATA / "catalog.toml")
        export = Desk(portal, tmp_path).write(row())
    commands = (
        ["accounts", "import", str(export), "--cut-over", "2026-06-01"],
        ["customers", "add", "7001"],
    )
    for arguments in commands:
        trouble.strike(1, FULL, is_lasting=True)
        failed = portal.app.test_cli_runner().invoke(args=arguments)
        trouble.end()
        assert failed.exit_code == 1
        assert "Error: the database cannot be used: database or disk is full" in failed.output
        assert "Traceback" not in failed.output
        assert portal.app.test_cli_runner().invoke(args=arguments).exit_code == 0
