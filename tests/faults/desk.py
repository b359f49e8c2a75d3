"""A day of everybody beside those who pay at the bank's page: the bill run, what is taken from
saved cards, vouchers, the bank's file, refunds, credit notes, dunning. Told step by step, as in
`shop.py`, and finished by whoever comes next."""

from __future__ import annotations

import random
from contextlib import suppress
from datetime import timedelta

from sqlalchemy.orm import Session

from blueprints.billing import adjusting, bank_import, bill_run, refunding, settling
from blueprints.billing.bank_files import BankFile, Incoming
from blueprints.billing.dunning import reading as dunning_reading
from blueprints.billing.dunning import taking as dunning
from blueprints.billing.errors import BillRunUnderWay
from blueprints.billing.planned import scheduling, taking
from blueprints.billing.starting import Choice
from blueprints.billing.vouchers import batches, service
from blueprints.billing.vouchers.batches import NewBatch, Printed
from core import clock
from core.db import db, unit_of_work
from core.errors import Refusal
from gateways.payments.sandbox.methods import Saving
from tests import world
from tests.billing.conftest import ShakyGateway, Till
from tests.billing.planned.diary import Diary
from tests.conftest import Portal
from tests.faults.shop import Tell

PROMISES = {
    "redeemed": "SELECT count(*) FROM vouchers v JOIN payments p ON p.id = v.payment_id"
    " JOIN journal_entries e ON e.id = p.entry_id WHERE p.public_id = :what",
    "banked": "SELECT count(*) FROM bank_lines b JOIN payments p ON p.id = b.payment_id"
    " JOIN journal_entries e ON e.id = p.entry_id WHERE b.key = :what",
    "billed": "SELECT count(*) FROM invoices WHERE kind = 'invoice' AND CAST(id AS TEXT) = :what",
    "planned": "SELECT count(*) FROM planned_payments WHERE public_id = :what",
    "taken": "SELECT count(*) FROM payments p JOIN journal_entries e ON e.id = p.entry_id"
    " WHERE p.public_id = :what AND p.planned_id IS NOT NULL",
    "refunding": "SELECT count(*) FROM payment_reversals WHERE public_id = :what",
    "refunded": "SELECT count(*) FROM payment_reversals r JOIN journal_entries e"
    " ON e.id = r.entry_id WHERE r.public_id = :what AND r.state = 'succeeded'",
    "credited": "SELECT count(*) FROM adjustments a JOIN journal_entries e ON e.id = a.entry_id"
    " WHERE a.public_id = :what AND a.state = 'booked'",
    "dunned": "SELECT count(*) FROM dunning_steps WHERE CAST(id AS TEXT) = :what",
}
"""What was acknowledged, and the question that counts it: the answer must be 1."""


class Desk:
    """One day, the `turn`th; whoever lives through it again does what is left."""

    def __init__(self, turn: int) -> None:
        self.turn = turn
        self.now = world.NOW + timedelta(days=31 * turn)

    def __call__(self, portal: Portal, dice: random.Random, tell: Tell) -> None:
        with clock.set_to(self.now):
            self._live(portal, dice, tell)

    def _live(self, portal: Portal, dice: random.Random, tell: Tell) -> None:
        gateway = ShakyGateway(portal)
        portal.app.extensions["payment_gateway"] = gateway
        till, diary = Till(portal, gateway), Diary(portal, gateway)
        parts = [
            lambda: self._bill(portal, tell),
            lambda: self._redeem(portal, till, tell),
            lambda: self._plan_and_take(portal, till, diary, tell),
            lambda: self._read_bank_file(tell),
            lambda: self._refund(portal, tell),
            lambda: self._credit(portal, dice, tell),
            lambda: self._dun(portal, tell),
        ]
        for part in dice.sample(parts, len(parts)):
            part()

    def finish(self, portal: Portal, dice: random.Random, tell: Tell) -> None:
        """Two hours later: nobody who died holds anything any more."""
        self.now += timedelta(hours=2)
        self(portal, dice, tell)
        with clock.set_to(self.now):
            gateway = portal.app.extensions["payment_gateway"]
            for _ in range(3):
                settling.ask_due(gateway)
                refunding.ask_due(gateway)
                taking.take_due(gateway)
            db.session.remove()

    def _bill(self, portal: Portal, tell: Tell) -> None:
        with suppress(BillRunUnderWay):  # one that died; its time runs out
            bill_run.run(bill_run.read_frame(clock.today("America/Los_Angeles")))
            for (invoice_id,) in portal.rows("SELECT id FROM invoices WHERE kind = 'invoice'"):
                tell(f"billed {invoice_id}")

    def _redeem(self, portal: Portal, till: Till, tell: Tell) -> None:
        new = NewBatch("Mill Street", 500, 1, None, portal.world.customers["ben"])
        secret = portal.settings.secret
        made = batches.make(new, till.key("ben", "/staff/vouchers"), secret)
        assert isinstance(made, Printed)
        key, who = till.key("alice", "/voucher"), portal.world.customers["alice"]
        for _ in range(2):
            path = service.redeem(
                portal.world.accounts["alice"], who, made.codes[0], key, "{id}", secret, "", ()
            )
            tell(f"redeemed {path}")

    def _plan_and_take(self, portal: Portal, till: Till, diary: Diary, tell: Tell) -> None:
        account_id, who = portal.world.accounts["mallory"], portal.world.customers["mallory"]
        wish = scheduling.Wish(
            account_id, who, diary.save("mallory", Saving.CARD), Choice.OTHER, 700, None,
            clock.today("America/Los_Angeles") + timedelta(days=1),
        )  # fmt: skip
        with suppress(Refusal):
            tell(f"planned {scheduling.schedule(wish, till.key('mallory'), '{id}')}")
        with clock.set_to(clock.now() + timedelta(days=1, hours=1)):
            taking.take_due(diary.gateway)
            taking.take_due(diary.gateway)
            for (public_id,) in portal.rows(
                "SELECT public_id FROM payments WHERE planned_id IS NOT NULL"
                " AND state = 'succeeded'"
            ):
                tell(f"taken {public_id}")

    def _read_bank_file(self, tell: Tell) -> None:
        day = clock.today("America/Los_Angeles")
        lines = [Incoming(f"{self.turn}-{n}", day, 900, "USD", "", "1001") for n in range(3)]
        file = BankFile(lines, 0)
        bank_import.import_file(
            f"file {self.turn}".encode(),
            file,
            "f.csv",
            None,
            lambda one: tell(f"banked {one.line.key}"),
        )

    def _refund(self, portal: Portal, tell: Tell) -> None:
        paid = portal.rows(
            "SELECT account_id, public_id FROM payments WHERE state = 'succeeded'"
            " AND planned_id IS NOT NULL ORDER BY id DESC LIMIT 1"
        )
        for account_id, public_id in paid:
            with suppress(Refusal):
                found = refunding.ask_refund(
                    account_id, public_id, 300, "Asked for", portal.world.customers["ben"],
                    f"refund-{self.turn}-{public_id}",
                )  # fmt: skip
                tell(f"refunding {found}")
        for (public_id,) in portal.rows(
            "SELECT public_id FROM payment_reversals WHERE state = 'succeeded'"
        ):
            tell(f"refunded {public_id}")

    def _credit(self, portal: Portal, dice: random.Random, tell: Tell) -> None:
        account_id = portal.world.accounts["mallory"]
        [(invoice_id,)] = portal.rows(
            "SELECT max(id) FROM invoices WHERE account_id = :id AND kind <> 'credit'",
            id=account_id,
        )
        wish = adjusting.Wish(
            account_id, "Asked for", portal.world.customers["ben"], f"{self.turn}-{dice.random()}",
            invoice_id=invoice_id, amounts={1: 10},
        )  # fmt: skip

        def work(session: Session) -> str:
            return adjusting.ask_credit(session, wish).public_id

        with suppress(Refusal):
            tell(f"credited {unit_of_work(work, account_id)}")

    def _dun(self, portal: Portal, tell: Tell) -> None:
        dunning.run(dunning_reading.read_frame(db.session()))
        for (step_id,) in portal.rows("SELECT id FROM dunning_steps"):
            tell(f"dunned {step_id}")


def check(portal: Portal) -> None:
    """Each key once, whatever was begun again."""
    for table, what, which in (
        ("invoices", "account_id, period_from", "kind = 'invoice'"),
        ("dunning_steps", "invoice_id, step", "1 = 1"),
        ("bank_lines", "key", "1 = 1"),
        ("payments", "planned_id", "planned_id IS NOT NULL AND state = 'succeeded'"),
        ("payment_reversals", "key", "1 = 1"),
    ):
        many = f"SELECT {what} FROM {table} WHERE {which} GROUP BY {what} HAVING count(*) > 1"
        assert not portal.rows(many), many


def check_bank(portal: Portal) -> None:
    """Once all is finished, our books are the bank's."""
    theirs = {
        row.key: row.amount_minor
        for row in portal.bank.list_latest(100_000)
        if row.state.value == "succeeded"
    }
    ours = dict(
        portal.rows(
            "SELECT key, amount_minor FROM payments WHERE state = 'succeeded'"
            " AND gateway = 'sandbox' AND key NOT LIKE 'world%'"
        )
    )
    assert ours == theirs
    assert sum(row.refunded_minor for row in portal.bank.list_after(0, 100_000)) == portal.one(
        "SELECT coalesce(sum(amount_minor), 0) FROM payment_reversals WHERE state = 'succeeded'"
    )
