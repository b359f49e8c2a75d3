"""The whole of billing in any order: charges, bill runs that are killed, plan changes, payments
over a bad line, refunds, chargebacks, credit notes, saved methods, planned payments, arrangements,
dunning, and what is told in `beside_payments.py`. After every step the books add up, and everything
that is read from them says the same (bar 51)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule, run_state_machine_as_test
from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import (
    account_statement,
    bill_run,
    crediting,
    export,
    invoicing,
    refunding,
    settling,
    taken_back,
)
from blueprints.billing.dunning import reading as dunning_reading
from blueprints.billing.dunning import taking as dunning
from blueprints.billing.errors import BillRunStopped, BillRunUnderWay
from blueprints.billing.planned import arrangements, foreseeing, scheduling, taking
from blueprints.billing.planned.arrangements import Every
from blueprints.billing.planned.errors import PlanningRefused
from blueprints.billing.starting import Choice
from blueprints.staff.reports import owed
from core import clock, ids, isp
from core.db import db, reading, unit_of_work
from core.errors import Refusal
from core.money import Money
from gateways.payments.errors import GatewayError
from gateways.payments.sandbox.methods import Behaviour, Saving
from gateways.payments.sandbox.store import Decision, Reversing
from models import Charge, Invoice, Payment, Subscription
from tests.billing.beside_payments import NUMBERS, Beside
from tests.billing.conftest import Killed, ShakyGateway
from tests.billing.planned.diary import Diary
from tests.billing.test_machine import LOST, NAMES, survived
from tests.conftest import Base

OWNERS = ("alice", "mallory", "rich")
PLANS = {1: "internet", 2: "tv", 3: "phone"}


class Whole(Beside):
    """Everything of `Billing` and `Beside`, and what else happens to money. Bills come from bill
    runs of the day that it is."""

    issue = None  # type: ignore[assignment]

    def __init__(self) -> None:
        super().__init__()
        self.gateway: ShakyGateway = self.till.gateway
        self.till.portal.app.extensions["payment_gateway"] = self.gateway
        self.diary = Diary(self.till.portal, self.gateway)
        self.methods: dict[str, str] = {}

    @property
    def today(self) -> date:
        return clock.today("America/Los_Angeles")

    @rule(days=st.sampled_from([1, 3, 11, 31, 45]))
    def days_pass(self, days: int) -> None:
        self._pass(days * 86_400)

    # Bills ------------------------------------------------------------------------------------

    @rule(name=NAMES, minor=st.integers(1, 5_000), is_credit=st.booleans())
    def charge(self, name: str, minor: int, *, is_credit: bool) -> None:
        def work(session: Session) -> None:
            session.add(
                Charge(
                    public_id=ids.public_id(),
                    account_id=self.account_id(name),
                    is_credit=is_credit,
                    kind="tv",
                    description="Visit",
                    reason="",
                    amount_minor=minor,
                    created_at=clock.now(),
                )
            )

        unit_of_work(work, self.account_id(name))

    @rule(dies_after=st.sampled_from([None, None, 0, 1, 2]))
    def run_bills(self, dies_after: int | None) -> None:
        """A run of today; a run that is killed leaves what it has issued, and the next goes on."""
        issue, left = bill_run.issue_batch, dies_after

        def dying(*arguments: Any, **more: Any) -> bill_run.Issued:
            nonlocal left
            if left is not None:
                if left == 0:
                    raise Killed
                left -= 1
            return issue(*arguments, **more)

        sizes = {"FIRST_BATCH": 1, "SMALLEST_BATCH": 1, "LARGEST_BATCH": 1, "issue_batch": dying}
        with pytest.MonkeyPatch.context() as patch:
            for attribute, value in sizes.items():
                patch.setattr(bill_run, attribute, value)
            with survived(BillRunUnderWay):
                self._run_bills()

    def _run_bills(self) -> None:
        frame = bill_run.read_frame(self.today)
        try:
            bill_run.run(frame)
        except BillRunStopped as stopped:
            bill_run.run(frame, accepted_minor=stopped.plan.total_minor)

    @rule(name=NAMES, plan_id=st.sampled_from([*PLANS]))
    def change_plan(self, name: str, plan_id: int) -> None:
        """A subscription ends today, or one that has ended begins again."""
        today = self.today

        def work(session: Session) -> None:
            standing = session.scalar(
                select(Subscription).where(
                    Subscription.account_id == self.account_id(name),
                    Subscription.plan_id == plan_id,
                    Subscription.ended_on.is_(None),
                )
            )
            if standing is not None:
                standing.ended_on = max(today, standing.started_on)
                return
            session.add(
                Subscription(
                    public_id=ids.public_id(),
                    account_id=self.account_id(name),
                    plan_id=plan_id,
                    started_on=today,
                )
            )

        unit_of_work(work, self.account_id(name))

    @rule(number=NUMBERS, part=st.sampled_from([None, 1, 500, 5_000]))
    def credit(self, number: int, part: int | None) -> None:
        """A credit note over all that is left of a bill, or over a part of its first line."""

        def work(session: Session) -> None:
            invoice_ids = session.scalars(
                select(Invoice.id).where(Invoice.kind != "credit").order_by(Invoice.id.desc())
            ).all()
            if number < len(invoice_ids):
                amounts = None if part is None else {1: part}
                draft = crediting.draft_credit_note(session, invoice_ids[number], amounts)
                invoicing.issue(session, [draft], "USD")

        with suppress(Refusal):
            unit_of_work(work)

    # Payments that arrive ---------------------------------------------------------------------

    @rule(
        name=NAMES,
        minor=st.integers(100, 40_000),
        decision=st.sampled_from([*[Decision.PAY] * 4, *Decision]),
    )
    def pay(self, name: str, minor: int, decision: Decision) -> None:
        """A payment from its start to what the bank says, in the place of one that is under way."""
        self.gateway.loses = lambda _call: None
        for (public_id,) in self.till.portal.rows(
            "SELECT public_id FROM payments WHERE account_id = :id"
            " AND state IN ('created', 'sent', 'unknown')",
            id=self.account_id(name),
        ):
            settling.cancel(self.account_id(name), public_id, self.gateway)
        with suppress(Refusal):
            self.till.start(name, Choice.OTHER, self.till.key(name), amount_minor=minor)
            self.till.portal.bank.decide(str(self.till.latest("key")), decision)
            settling.settle(self.till.latest_id(), self.gateway)

    @rule(
        name=st.sampled_from(["alice", "mallory"]),
        minor=st.integers(100, 40_000),
        behaviour=st.sampled_from([Behaviour.PAYS, *Behaviour]),
        lost=LOST,
    )
    def pay_with_saved(self, name: str, minor: int, behaviour: Behaviour, lost: str | None) -> None:
        """The form is sent again whatever became of it: the method is charged once."""
        method = self._saved(name, behaviour)
        self.gateway.loses = lambda _call: lost
        key = self.till.key(name)
        before = len(self.till.portal.bank.list_latest(1_000))
        for _ in range(3):
            with survived(Refusal):
                self.till.start(
                    name, Choice.OTHER, key, amount_minor=minor, method_public_id=method
                )
        assert len(self.till.portal.bank.list_latest(1_000)) - before <= 1

    def _saved(self, name: str, behaviour: Behaviour) -> str:
        """The customer's saved method, which the bank treats so from now on."""
        if name not in self.methods:
            self.methods[name] = self.diary.save(name, Saving.CARD)
        self.diary.behave(self.methods[name], behaviour)
        return self.methods[name]

    # What goes back ---------------------------------------------------------------------------

    def _arrived(self, number: int) -> Payment | None:
        """One of the latest payments that have arrived; where there is none, one arrives now."""
        wanted = (
            select(Payment)
            .where(Payment.state == "succeeded", Payment.key.not_like("world%"))
            .order_by(Payment.id.desc())
            .limit(number + 1)
        )
        db.session.expire_all()
        found = db.session.scalars(wanted).all()
        if not found:
            self.pay("alice", 12_345, Decision.PAY)
            db.session.expire_all()
            found = db.session.scalars(wanted).all()
        return found[-1] if found else None

    @rule(
        number=NUMBERS,
        minor=st.integers(1, 30_000),
        lost=LOST,
        decision=st.sampled_from([refunding.approve, refunding.refuse, None]),
    )
    def refund(
        self,
        number: int,
        minor: int,
        lost: str | None,
        decision: Callable[[str, int], None] | None,
    ) -> None:
        payment = self._arrived(number)
        if payment is None:
            return
        account_id, public_id = payment.account_id, payment.public_id
        self.gateway.loses = lambda _call: lost
        staff = self.world.customers
        with survived(Refusal, GatewayError):
            found = refunding.ask_refund(
                account_id, public_id, minor, "Asked for", staff["ben"], f"refund-{ids.public_id()}"
            )
            if decision is not None:
                decision(found, staff["ada"])

    @rule(number=NUMBERS, how=st.sampled_from([*Reversing]), lost=LOST)
    def bank_takes_back(self, number: int, how: Reversing, lost: str | None) -> None:
        payment = self._arrived(number)
        if payment is None:
            return
        payment_id, key = payment.id, payment.key
        self.gateway.loses = lambda _call: lost
        with survived(GatewayError):
            self.till.portal.bank.reverse(key, how)
            taken_back.learn(payment_id, self.gateway)

    # Planned ----------------------------------------------------------------------------------

    @rule(
        name=st.sampled_from(["alice", "mallory"]),
        minor=st.integers(100, 30_000),
        days=st.integers(1, 20),
        behaviour=st.sampled_from([*Behaviour]),
    )
    def schedule(self, name: str, minor: int, days: int, behaviour: Behaviour) -> None:
        method = self._saved(name, behaviour)
        wish = scheduling.Wish(
            self.account_id(name), self.world.customers[name], method, Choice.OTHER,
            minor, None, self.today + timedelta(days=days),
        )  # fmt: skip
        key = self.till.key(name)
        for _ in range(2):
            with suppress(Refusal):
                scheduling.schedule(wish, key, "/planned/{id}")

    @rule(
        name=st.sampled_from(["alice", "mallory"]),
        count=st.integers(1, 4),
        every=st.sampled_from([*Every]),
    )
    def arrange(self, name: str, count: int, every: Every) -> None:
        owed_minor = self.till.portal.one(
            "SELECT balance_minor FROM accounts WHERE id = :id", id=self.account_id(name)
        )
        wish = arrangements.Wish(
            self.account_id(name), self.world.customers[name], count,
            self.today + timedelta(days=1), every, self.methods.get(name), owed_minor,
        )  # fmt: skip
        with suppress(Refusal, PlanningRefused):
            arrangements.agree(wish, self.till.key(name), "/arrangement")

    @rule(name=st.sampled_from(["alice", "mallory"]))
    def give_up(self, name: str) -> None:
        with suppress(Refusal):
            arrangements.give_up(
                self.account_id(name), self.world.customers[name], self.till.key(name), "/"
            )

    # The worker -------------------------------------------------------------------------------

    @rule(lost=LOST)
    def worker(self, lost: str | None) -> None:
        self.gateway.loses = lambda _call: lost
        with survived():
            foreseeing.look_after_ends()
            foreseeing.plan_bills()
            arrangements.judge_standing()
            settling.ask_due(self.gateway)
            refunding.ask_due(self.gateway)
            taking.take_due(self.gateway)

    @rule()
    def dun(self) -> None:
        dunning.run(dunning_reading.read_frame(db.session()))

    def _settle_all(self) -> None:
        """Time passes, the bank answers, a run finishes what one that was killed left."""
        self.gateway.loses = lambda _call: None
        for _ in range(3):
            self._pass(90_000)
            settling.ask_due(self.gateway)
            refunding.ask_due(self.gateway)
        self._run_bills()
        self.books_add_up()
        self.what_is_read_is_what_the_books_say()
        assert not self.till.portal.rows(
            "SELECT account_id, period_from FROM invoices WHERE kind = 'invoice'"
            " GROUP BY account_id, period_from HAVING count(*) > 1"
        )
        super()._settle_all()

    @invariant()
    def each_entry_sums_to_zero(self) -> None:
        assert not self.till.portal.rows(
            "SELECT entry_id FROM journal_lines GROUP BY entry_id HAVING sum(amount_minor) <> 0"
        )

    @invariant()
    def balances_equal_postings(self) -> None:
        assert not self.till.portal.rows(
            "SELECT a.id FROM accounts a LEFT JOIN journal_lines l ON l.account_id = a.id"
            " GROUP BY a.id, a.balance_minor"
            " HAVING a.balance_minor <> coalesce(sum(l.amount_minor), 0)"
        )

    @invariant()
    def numbers_have_no_gap(self) -> None:
        for prefix in ("2026-", "2027-", "CN-2026-", "CN-2027-"):
            numbers = self.till.portal.rows(
                "SELECT number FROM invoices WHERE number LIKE :like ORDER BY number",
                like=f"{prefix}%",
            )
            last = [int(number.rsplit("-", 1)[1]) for (number,) in numbers]
            assert last == [*range(1, len(last) + 1)]

    @invariant()
    def what_is_read_is_what_the_books_say(self) -> None:
        """The statements, the receivables and the journal tell of the same sums."""
        balances = dict(self.till.portal.rows("SELECT id, balance_minor FROM accounts"))
        today = self.today
        with self.till.portal.app.test_request_context(base_url="http://127.0.0.1:8000"):
            for name in OWNERS:
                account_id = self.account_id(name)
                found = account_statement.find_statement(account_id, date(2026, 1, 1), today)
                assert found.closing.amount_minor == balances[account_id]
                assert found.opening + found.charged - found.credited == found.closing
            report = owed.aged(today, today)
            assert report.sums[1] == Money(sum(balances.values()), "USD")
        with reading() as session:
            rows = list(export.postings(session, export.Days(), export.Codes()))
        sides = [
            sum(cell.amount_minor for row in rows if isinstance(cell := row[side], Money))
            for side in (export.COLUMNS.index("debit"), export.COLUMNS.index("credit"))
        ]
        assert sides[0] == sides[1]


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_books_add_up_whatever_happens_in_billing(base: Base) -> None:
    isp._cached.clear()
    machine = type("WholeOnSqlite", (Whole,), {"base": base})
    run_state_machine_as_test(
        machine,
        settings=settings(
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
