"""A year of 200 accounts with every way of paying, compared with a table written by hand.

`tests/data/dunning_year.csv` has for each behaviour the steps of one account: the day, the step,
and the month of the bill it is about; of arrangements, what is said, and the month of the bill that
was arranged. Bills of 65.00 are issued on the first of each month, due on the fifteenth, and a late
fee is 7.00. On 20 January some promise to pay on 10 February, or in parts of a third each on
3 February, 17 February and 3 March.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.billing import bill_run, payments, settling
from blueprints.billing.dunning import taking
from blueprints.billing.dunning.reading import read_frame
from blueprints.billing.planned import arrangements, foreseeing
from core import clock, form_keys, ids, isp
from core.db import db, unit_of_work
from core.settings import ROOT
from gateways.payments.base import StartOrder
from gateways.payments.sandbox.store import Decision
from models import (
    Account,
    AutopayMandate,
    Charge,
    CustomerGroup,
    Dispute,
    DisputeState,
    DunningStep,
    Invoice,
    InvoiceBalance,
    Isp,
    Line,
    Membership,
    Message,
    PaymentMethod,
    Subscription,
)
from tests.conftest import Portal

TABLE = ROOT / "tests" / "data" / "dunning_year.csv"
EACH = 10
ARRANGE = ("keeps_promise", "breaks_promise", "keeps_instalments", "breaks_instalments")
EACH_THAT_ARRANGES = 5
ZONE = ZoneInfo("America/Los_Angeles")
RULES = {
    "promise_days": 21,
    "arrangement_after_days": 14,
    "dunning": {
        "fee_minor": 700,
        "holidays": ["2027-11-25", "2027-11-26", "2027-12-24", "2027-12-25"],
    },
}
GROUPS: Mapping[str, Mapping[str, object]] = {
    "gentle": {
        "fee_minor": 0,
        "fee_bp": 150,
        "is_fee_monthly": True,
        "hold_after_days": 0,
        "close_after_days": 0,
    },
    "strict": {
        "reminders": [{"days": 1, "channels": ["email"]}],
        "fee_minor": 0,
        "hold_after_days": 10,
        "close_after_days": 30,
    },
}
ALL = 10**9


@dataclass(frozen=True)
class Wish:
    """To pay so much of what is owed; only the newest bill, or by a bank debit."""

    minor: int = ALL
    leaves_minor: int = 0
    share: int = 100
    is_debit: bool = False
    newest: bool = False


Pays = Callable[[date], Wish | None]


def monthly(day: int, wish: Wish | None = None, since: date | None = None) -> Pays:
    """On this day of each month."""
    wanted = wish or Wish()
    return lambda today: wanted if today.day == day and (since is None or today >= since) else None


def on(days: Mapping[date, Wish], otherwise: Pays = lambda _day: None) -> Pays:
    return lambda today: days.get(today) or otherwise(today)


def until(last: date, pays: Pays) -> Pays:
    return lambda today: pays(today) if today <= last else None


def day(month: int, number: int) -> date:
    return date(2027, month, number)


def half_in_time(today: date) -> Wish | None:
    return {15: Wish(share=50), 20: Wish()}.get(today.day)


def disputes(today: date) -> Wish | None:
    """Pays what comes but not the bill in dispute, and that too once it was refused."""
    if today == day(3, 2):
        return Wish()
    if today.day != 3 or today.month == 1:
        return None
    return Wish(newest=today.month == 2)


PROMPT = monthly(3)
BEHAVIOURS: Mapping[str, Pays] = {
    "prompt": PROMPT,
    "due_day": monthly(15),
    "two_late": monthly(17),
    "eight_late": monthly(23),
    "after_the_fee": monthly(28),
    "after_the_hold": on({day(2, 6): Wish()}, monthly(3, since=day(3, 1))),
    "never": lambda _today: None,
    "after_the_close": on({day(5, 10): Wish()}),
    "half_in_time": half_in_time,
    "below_the_floor": monthly(3, Wish(leaves_minor=400)),
    "keeps_promise": on(
        {day(2, 10): Wish(minor=6500), day(2, 17): Wish()}, monthly(3, since=day(3, 1))
    ),
    "breaks_promise": on({day(2, 16): Wish()}, monthly(3, since=day(3, 1))),
    "keeps_instalments": on(
        {
            day(2, 3): Wish(minor=2167),
            day(2, 17): Wish(minor=2167),
            day(3, 3): Wish(minor=2166),
            day(3, 9): Wish(),
        },
        monthly(3, since=day(4, 1)),
    ),
    "breaks_instalments": on(
        {day(2, 3): Wish(minor=2167), day(2, 24): Wish()}, monthly(3, since=day(3, 1))
    ),
    "disputes": disputes,
    "autopay": monthly(15),
    "bank_debit": monthly(15, Wish(is_debit=True)),
    "gentle_group": on({day(4, 3): Wish()}, monthly(3, since=day(5, 1))),
    "strict_group": lambda _today: None,
    "pays_a_part_after_the_hold": on(
        {day(2, 8): Wish(minor=6500), day(3, 9): Wish()}, monthly(3, since=day(4, 1))
    ),
    "stops_in_november": until(day(10, 31), PROMPT),
    "stops_in_july": until(day(6, 30), PROMPT),
}


@dataclass
class Town:
    """200 accounts and the days they live through."""

    portal: Portal
    behaviour: dict[int, str] = field(default_factory=dict)
    debits: dict[date, list[tuple[int, str, int]]] = field(default_factory=dict)
    payments_made: int = 0

    def instant(self, today: date, at: time) -> datetime:
        return datetime.combine(today, at, ZONE).astimezone(UTC)

    def settle_in(self) -> None:
        def work(session: Session) -> None:
            session.execute(update(Isp).values(billing_rules=RULES, revision=Isp.revision + 1))
            for code, changes in GROUPS.items():
                session.add(CustomerGroup(code=code, name=code, dunning=dict(changes)))
            session.flush()
            for name in BEHAVIOURS:
                for number in range(EACH_THAT_ARRANGES if name in ARRANGE else EACH):
                    account_id = self.add_account(session, name, number)
                    self.behaviour[account_id] = name

        unit_of_work(work)
        isp.forget()

    def add_account(self, session: Session, name: str, number: int) -> int:
        account = Account(
            public_id=ids.public_id(),
            number=f"{name}-{number}",
            name=name,
            bill_day=1,
            opened_on=day(1, 1),
            currency="USD",
            group_code=name.removesuffix("_group") if name.endswith("_group") else None,
        )
        session.add(account)
        session.flush()
        line = Line(public_id=ids.public_id(), account_id=account.id, username=account.number)
        session.add(line)
        session.flush()
        session.add(
            Subscription(
                public_id=ids.public_id(),
                account_id=account.id,
                plan_id=1,
                line_id=line.id,
                started_on=day(1, 1),
            )
        )
        if name == "autopay":
            self.add_mandate(session, account.id)
        return account.id

    def add_mandate(self, session: Session, account_id: int) -> None:
        customer_id = self.portal.world.customers["rich"]
        session.add(Membership(customer_id=customer_id, account_id=account_id, role="owner"))
        method = PaymentMethod(
            public_id=ids.public_id(),
            account_id=account_id,
            customer_id=customer_id,
            gateway="sandbox",
            key=f"card-{account_id}",
            kind="card",
            state="usable",
            created_at=clock.now(),
        )
        session.add(method)
        session.flush()
        session.add(
            AutopayMandate(
                public_id=ids.public_id(),
                account_id=account_id,
                customer_id=customer_id,
                method_id=method.id,
                days_before=0,
                consent="I agree",
                consent_language="en",
                consent_address="192.0.2.7",
                consented_at=clock.now(),
            )
        )

    def named(self, name: str) -> list[int]:
        return [account_id for account_id, found in self.behaviour.items() if found == name]

    def live(self, today: date) -> None:
        with clock.set_to(self.instant(today, time(0, 5))):
            self.bill(today)
            foreseeing.look_after_ends()
        with clock.set_to(self.instant(today, time(7))):
            self.receive_debits(today)
            taking.run(read_frame(db.session()))
        with clock.set_to(self.instant(today, time(12))):
            self.agree(today)
            self.pay(today)
            foreseeing.look_after_ends()

    def bill(self, today: date) -> None:
        with Session(db.engine) as session:
            due = [
                account_id
                for account_id in bill_run.list_due(session, today)
                if account_id in self.behaviour
            ]
        frame = bill_run.Frame(today, 14, "USD")
        if due:
            unit_of_work(partial(bill_run.issue_batch, batch=due, frame=frame), *due)

    def agree(self, today: date) -> None:
        """What staff and customers agree on."""
        if today == day(1, 20):
            for name in ARRANGE:
                for account_id in self.named(name):
                    self.arrange(account_id, name)
        if today == day(1, 14):
            unit_of_work(self.dispute, *self.named("disputes"))
        if today == day(3, 1):
            unit_of_work(
                lambda session: session.execute(
                    update(Dispute).values(state=DisputeState.REFUSED.value)
                )
            )

    def arrange(self, account_id: int, name: str) -> None:
        is_promise = name.endswith("promise")
        secret = self.portal.settings.secret
        wish = arrangements.Wish(
            account_id=account_id,
            customer_id=self.portal.world.customers["rich"],
            count=1 if is_promise else 3,
            first_on=day(2, 10) if is_promise else day(2, 3),
            every=arrangements.Every.TWO_WEEKS,
            method_public_id=None,
            shown_minor=6_500,
        )
        token = form_keys.mint(secret, "tests")
        key = form_keys.check(secret, "tests", token, f"/{account_id}", {})
        arrangements.agree(wish, key, "/")

    def dispute(self, session: Session) -> None:
        for account_id in self.named("disputes"):
            invoice = session.scalars(select(Invoice).where(Invoice.account_id == account_id)).one()
            session.add(
                Dispute(
                    public_id=ids.public_id(),
                    account_id=account_id,
                    invoice_id=invoice.id,
                    position=1,
                    amount_minor=invoice.total_minor,
                    state=DisputeState.OPEN.value,
                    created_at=clock.now(),
                )
            )

    def pay(self, today: date) -> None:
        wishes = {
            account_id: wish
            for account_id, name in self.behaviour.items()
            if (wish := BEHAVIOURS[name](today)) is not None
        }
        if not wishes:
            return
        account_ids = sorted(wishes)
        balances = select(Account.id, Account.balance_minor).where(Account.id.in_(account_ids))
        owed = {row.id: row.balance_minor for row in db.session.execute(balances)}
        news = [new for each in account_ids if (new := self.new(each, wishes[each], owed[each]))]
        made = unit_of_work(
            lambda session: payments.create(session, news, self.portal.gateway.name), *account_ids
        )
        truths = []
        with self.portal.bank.batch():
            for new, (payment_id, public_id) in zip(news, made, strict=True):
                self.portal.gateway.start(self.order(new, public_id))
                wish = wishes[new.account_id]
                self.portal.bank.decide(new.key, Decision.DEBIT if wish.is_debit else Decision.PAY)
                truths.append((payment_id, self.portal.gateway.ask(new.key)))
                if wish.is_debit:
                    self.debits.setdefault(today + timedelta(days=3), []).append(
                        (payment_id, new.key, new.account_id)
                    )
        unit_of_work(lambda session: settling.apply(session, truths), *account_ids)

    def new(self, account_id: int, wish: Wish, owed_minor: int) -> payments.NewPayment | None:
        invoice_id = None
        minor = min(wish.minor, owed_minor * wish.share // 100 - wish.leaves_minor)
        if wish.newest:
            row = db.session.execute(
                select(InvoiceBalance.invoice_id, InvoiceBalance.open_minor)
                .where(InvoiceBalance.account_id == account_id)
                .order_by(InvoiceBalance.invoice_id.desc())
                .limit(1)
            ).one()
            invoice_id, minor = row.invoice_id, row.open_minor
        if minor < payments.MINIMUM_MINOR:
            return None
        self.payments_made += 1
        return payments.NewPayment(
            f"year-{self.payments_made}", account_id, None, invoice_id, minor
        )

    def order(self, new: payments.NewPayment, public_id: str) -> StartOrder:
        account = db.session.execute(
            select(Account.public_id).where(Account.id == new.account_id)
        ).one()
        return StartOrder(
            key=new.key,
            amount_minor=new.amount_minor,
            currency="USD",
            description="a bill",
            return_url=f"http://127.0.0.1:8000/pay/{public_id}/return",
            customer_reference=account.public_id,
            language="en",
        )

    def receive_debits(self, today: date) -> None:
        for payment_id, key, account_id in self.debits.pop(today, []):
            truth = self.portal.gateway.ask(key)
            unit_of_work(partial(settling.apply, truths=[(payment_id, truth)]), account_id)

    def steps(self) -> dict[int, list[tuple[str, str, str]]]:
        """Of each account the steps taken, with the month of the bill."""
        rows = db.session.execute(
            select(
                DunningStep.account_id, DunningStep.taken_on, DunningStep.step, Invoice.issued_on
            )
            .join(Invoice, Invoice.id == DunningStep.invoice_id)
            .where(DunningStep.account_id.in_(self.behaviour))
        )
        found: dict[int, list[tuple[str, str, str]]] = {each: [] for each in self.behaviour}
        for row in rows:
            found[row.account_id].append(
                (row.taken_on.isoformat(), row.step, f"{row.issued_on:%Y-%m}")
            )
        said = select(Message.account_id, Message.created_at, Message.facts).where(
            Message.kind == "planned", Message.account_id.in_(self.behaviour)
        )
        for row in db.session.execute(said):
            on_day = clock.day_of(row.created_at, ZONE.key)
            found[row.account_id].append((on_day.isoformat(), row.facts["what"], "2027-01"))
        return {account_id: sorted(steps) for account_id, steps in found.items()}


def written_by_hand() -> dict[str, list[tuple[str, str, str]]]:
    found: dict[str, list[tuple[str, str, str]]] = {name: [] for name in BEHAVIOURS}
    with TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[row["behaviour"]].append((row["day"], row["step"], row["bill"]))
    return {name: sorted(steps) for name, steps in found.items()}


def differences(town: Town) -> list[str]:
    wanted = written_by_hand()
    found = []
    for account_id, steps in town.steps().items():
        name = town.behaviour[account_id]
        found += [
            f"{name}: {'taken' if step in steps else 'missing'} {' '.join(step)}"
            for step in sorted(set(steps) ^ set(wanted[name]))
        ]
    return sorted(set(found))


@pytest.mark.parametrize("engine_kind", ["sqlite"], indirect=True)
def test_year_goes_as_the_table_says(ctx: Portal) -> None:
    town = Town(ctx)
    start = day(1, 1)
    with clock.set_to(town.instant(start, time(0))):
        town.settle_in()
    assert len(town.behaviour) == 200
    for number in range(365):
        town.live(start + timedelta(days=number))
    assert differences(town) == []
    with clock.set_to(town.instant(day(12, 31), time(20))):
        rows = db.session.execute(
            select(Account.name, Account.status, Line.wanted_state)
            .join(Line, Line.account_id == Account.id)
            .where(Account.id.in_(town.behaviour))
            .distinct()
        ).all()
        states = {row.name: (row.status, row.wanted_state) for row in rows}
    assert len(states) == len(rows)
    closed = {"never", "after_the_close", "strict_group", "stops_in_july"}
    for name, found in states.items():
        if name in closed:
            assert found == ("closed", "closed"), name
        elif name == "stops_in_november":
            assert found == ("active", "held")
        else:
            assert found == ("active", "open"), name
    rates = db.session.scalars(
        select(Charge.amount_minor).where(Charge.account_id == town.named("gentle_group")[0])
    )
    # 1.5 % of 65.00, and of later bills with the fees that came with them.
    assert sorted(rates) == [98, 98, 98, 99, 99, 100]
