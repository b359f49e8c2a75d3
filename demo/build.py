"""Building the demo: Pinecrest Broadband with a year of history.

The history is lived through day by day with the clock set, by the portal's own services: the
import, invoicing and payments at a sandbox bank in process, in batches. It follows from SEED and
today's date alone, but for salts and password hashes.
"""

from __future__ import annotations

import csv
import hashlib
import heapq
import random
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

from flask import current_app
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from blueprints.auth import service as auth
from blueprints.auth import totp
from blueprints.billing import bill_messages, bill_run, payments, settling
from blueprints.billing.dunning import taking as dunning_steps
from blueprints.billing.dunning.reading import read_frame
from blueprints.billing.dunning.steps import StepKind
from blueprints.billing.methods import adding
from blueprints.billing.methods import settling as methods
from blueprints.billing.periods import Span
from blueprints.billing.planned import (
    autopay,
    autopay_views,
    foreseeing,
    scheduling,
    taking,
)
from blueprints.billing.prices import Existing
from blueprints.billing.starting import Choice
from blueprints.dashboard.plans import changing, moving, pause_quoting, pausing, quoting
from blueprints.lines import holding
from blueprints.staff import catalog, importing, members
from blueprints.staff.prices import planning
from blueprints.staff.prices.planning import NewPrice
from core import activity, clock, form_keys, ids, isp, migrate, passwords, search_terms, words
from core.db import db, unit_of_work
from core.settings import Settings
from demo import DEMO_CUSTOMERS, DEMO_STAFF, DEMO_STAFF_APP, phones, traffic
from demo.habits import SLOTS, Attempt, Habit, attempts, choose
from demo.people import (
    ED,
    GRACE,
    MARIA,
    NAMED_ACCOUNTS,
    NEWCOMER,
    NINA,
    OMAR,
    PETROV_BICYCLES,
    ROSA,
    SHARED,
    NamedAccount,
    newcomer,
)
from gateways.network.base import NetworkState
from gateways.network.simulated import SimulatedNetwork
from gateways.payments.base import StartOrder, Truth
from gateways.payments.sandbox.client import SandboxInProcess
from gateways.payments.sandbox.methods import Saving
from gateways.payments.sandbox.store import Decision, SandboxStore
from gateways.voice.simulated import SimulatedVoice
from models import (
    Account,
    AccountStatus,
    Base,
    Contact,
    ContactKind,
    Counter,
    Customer,
    Factor,
    FactorKind,
    HoldReason,
    Invoice,
    InvoiceKind,
    Isp,
    Line,
    LineHold,
    Membership,
    Message,
    MessageState,
    Payment,
    PaymentMethod,
    PaymentState,
    Plan,
    Role,
    StaffMember,
    StaffRole,
    Subscription,
)

T = TypeVar("T")

SEED = 2_026
MONTHS = 12
HERE = Path(__file__).parent
BUILT = "demo:built"  # a row of `counters`, written last: without it a build was interrupted

UNIT_ACCOUNTS = 60  # as many as a unit of work of 50 ms takes (bar 67)
STAFF_ROLES = (StaffRole.ADMINISTRATOR, StaffRole.BILLING)  # of the members in DEMO_STAFF
DEBIT_DAYS = 3
CALLS_DAY = 2  # of a month, when the switch has reported the calls of the one before
AUTOPAY_AFTER_DAYS = 60
RECEIPTS_KEPT_DAYS = 5  # later ones wait for the worker, so that the mailbox holds some
IMPORTED_CLOSED_DAYS = 80  # those who came over suspended and did not pay are closed then

Progress = Callable[[int, int, str], None]


# Whether it is there -------------------------------------------------------------------------


def is_complete() -> bool:
    """Whether this database holds a demo that was built to its end."""
    return db.session.get(Counter, BUILT) is not None


def discard_unfinished(settings: Settings) -> None:
    """Empty the database of a build that was interrupted. Does nothing to one without an ISP.

    Raises RuntimeError when the ISP in it is not the demo's.
    """
    is_demo = db.session.scalar(select(Isp.is_demo))
    if is_demo is None:
        return
    if not is_demo:
        raise RuntimeError("this database was not made by the demo")
    db.session.remove()
    db.engine.dispose()
    Base.metadata.drop_all(db.engine)
    with db.engine.connect() as connection:
        connection.execute(text("DROP TABLE IF EXISTS alembic_version"))
    db.engine.dispose()
    migrate.upgrade(settings)
    for path in settings.data.glob("sandbox.db*"):
        path.unlink()
    SimulatedNetwork(settings.data / "network.db").forget()
    SimulatedVoice(settings.data / "voice.db").forget()


# Building ------------------------------------------------------------------------------------


def build(progress: Progress | None = None, export: Path = HERE / "customers_export.csv") -> None:
    """Build the demo in an empty, migrated database; the application's context must be there.

    `progress` hears how many of how many steps are done, and what is being done; `export` holds
    the accounts beside the named ones.
    """
    tell = progress or (lambda _done, _total, _what: None)
    settings: Settings = current_app.config["PORTAL"]
    with ids.seeded(SEED), ExitStack() as stack:
        bank = SandboxStore(
            settings.data / "sandbox.db",
            clock=clock.now,
            hosted_base=settings.sandbox_origin,
            salt=f"demo {SEED}",
            has_notices=False,
            debit_seconds=timedelta(days=DEBIT_DAYS).total_seconds(),
        )
        stack.callback(bank.close)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lastmile-demo-")))
        copy = folder / "customers_export.csv"
        copy.write_bytes(export.read_bytes())  # refused rows are written beside the export
        _History(settings, bank, copy, tell).live()


def write_export(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    """Write rows of an export, each with all its columns, to `path`."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@dataclass(slots=True)
class _Payer:
    """An account as the demo's people see it."""

    account_id: int
    public_id: str
    number: str
    language: str
    habit: Habit
    dice: random.Random
    customer_id: int | None = None
    paid_until: date | None = None  # from this day on nothing is paid


@dataclass(slots=True)
class _Debit:
    """A payment from a bank account that has not arrived yet."""

    payment_id: int
    key: str
    account_id: int


@dataclass
class _History:
    """A year of the ISP, lived through from the cut-over until this morning."""

    settings: Settings
    bank: SandboxStore
    export: Path
    tell: Progress
    payers: dict[int, _Payer] = field(default_factory=dict)
    wishes: list[Attempt] = field(default_factory=list)  # a heap
    debits: dict[date, list[_Debit]] = field(default_factory=lambda: defaultdict(list))
    by_number: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sold = catalog.read_file(HERE / "catalog.toml")
        self.terms_days: int = sold.isp["terms_days"]
        self.currency: str = sold.isp["currency"]
        self.zone = ZoneInfo(sold.isp["timezone"])
        self.now = clock.now()
        self.today = clock.day_of(self.now, self.zone.key)
        self.cut_over = clock.month_step(self.today.replace(day=1), -MONTHS, 1)
        self.gateway = SandboxInProcess(self.bank)
        self.dice = random.Random(f"{SEED} {self.today}")
        catalog.store(sold, is_demo=True)
        isp.forget()

    def instant(self, day: date, at: time) -> datetime:
        return datetime.combine(day, at, self.zone).astimezone(UTC)

    def live(self) -> None:
        days = (self.today - self.cut_over).days
        steps = days + 12
        self.tell(0, steps, "Importing accounts")
        with clock.set_to(self.instant(self.cut_over, time(6))):
            self.import_accounts()
            phones.give_out(SEED)
        self.plan_openings()
        for number in range(days):
            day = self.cut_over + timedelta(days=number)
            self.tell(12 + number, steps, f"Living through {day:%B %Y}")
            self.live_day(day)
        with clock.set_to(self.instant(self.today, time(0, 1))):
            self.bill(self.today)
            self.open_newcomer()
            self.finish()
        self.tell(steps, steps, "Done")

    def live_day(self, day: date) -> None:
        with clock.set_to(self.instant(day, time(0, 1))):
            self.bill(day)
        with clock.set_to(self.instant(day, time(7, self.dice.randrange(60)))):
            self.settle_debits(day)
            self.take_planned()
            self.dun(day)
            self.look_after_imported(day)
            self.close_accounts(day)
        with clock.set_to(self.instant(day, time(8, self.dice.randrange(60)))):
            self.register_people(day)
            self.plan_payments(day)
            self.change_plans(day)
            if day.day == CALLS_DAY and day > self.today - timedelta(days=63):
                self.take_calls(clock.month_step(day, -1, 1), day)
        for slot, hour in zip(range(SLOTS), (11, 19), strict=True):
            with clock.set_to(self.instant(day, time(hour, self.dice.randrange(60)))):
                self.pay(day, slot)

    # Accounts and people

    def import_accounts(self) -> None:
        rows = [named.as_row(self.today) for named in NAMED_ACCOUNTS]
        for path in (self.export, write_export(self.export.parent / "named.csv", rows)):
            importing.run(path, cut_over=self.cut_over, fixed_batch=UNIT_ACCOUNTS)
        unit_of_work(
            lambda session: session.execute(
                update(Account)
                .where(Account.number == PETROV_BICYCLES)
                .values(group_code="BUSINESS")
            )
        )
        named_by_number = {named.number: named for named in NAMED_ACCOUNTS}
        accounts = db.session.execute(
            select(Account.id, Account.public_id, Account.number, Account.language).order_by(
                Account.id
            )
        ).all()
        for account in accounts:
            dice = random.Random(f"{SEED} {account.number}")
            payer = _Payer(*account, habit=choose(dice), dice=dice)
            named = named_by_number.get(account.number)
            if named is not None:
                payer.habit = named.habit
                if named.paid_until_days:
                    payer.paid_until = self.today - timedelta(days=named.paid_until_days)
            elif dice.random() < 0.03:
                payer.paid_until = self.today - timedelta(days=dice.randint(10, 120))
            self.payers[account.id] = payer
            self.by_number[account.number] = account.id

    def register_people(self, day: date) -> None:
        """The named customers register some days after the cut-over, and sign in now and then."""
        for named in NAMED_ACCOUNTS:
            if named.owner and day == self.cut_over + timedelta(days=named.joined_days):
                self.register(named.owner, named.number)
        if day == self.cut_over + timedelta(days=20):
            self.share_accounts()
            self.add_staff()
            self.add_second_step(ED)
        if day.day == 17:
            self.note_sign_ins(day)

    def register(self, sign_in_id: str, number: str) -> None:
        [customer] = [each for each in DEMO_CUSTOMERS if each.sign_in_id == sign_in_id]
        rules = auth.SignInRules(self.settings.secret, self.settings.data, ())
        auth.register(auth.invite(number), sign_in_id, customer.password, rules)
        self.payers[self.by_number[number]].customer_id = db.session.scalar(
            select(Customer.id).where(Customer.sign_in_key == sign_in_id)
        )

    def share_accounts(self) -> None:
        passwords_by_id = {each.sign_in_id: each.password for each in DEMO_CUSTOMERS}
        hashes = {
            sign_in_id: passwords.hash_password(self.settings.data, passwords_by_id[sign_in_id])
            for sign_in_id, *_ in SHARED
        }

        def work(session: Session) -> None:
            for sign_in_id, name, number, role in SHARED:
                customer_id = session.scalar(
                    select(Customer.id).where(Customer.sign_in_key == sign_in_id)
                )
                if customer_id is None:
                    customer = Customer(
                        public_id=ids.public_id(),
                        sign_in_id=sign_in_id,
                        sign_in_key=sign_in_id,
                        email_key=f"{sign_in_id}@example.net",
                        name=name,
                        password_hash=hashes[sign_in_id],
                        created_at=clock.now(),
                    )
                    session.add(customer)
                    session.flush()
                    customer_id = customer.id
                account_id = self.by_number[number]
                session.add(
                    Membership(
                        customer_id=customer_id, account_id=account_id, role=Role(role).value
                    )
                )
                if role == Role.OWNER:
                    self.payers[account_id].customer_id = customer_id
            search_terms.refresh(session, [self.by_number[number] for _, _, number, _ in SHARED])

        unit_of_work(work)

    def add_second_step(self, number: str) -> None:
        """Let the owner of an account have codes by e-mail, which come to the demo's mailbox."""
        payer, now = self.payers[self.by_number[number]], clock.now()

        def work(session: Session) -> None:
            contact_id = session.scalar(
                select(Contact.id).where(
                    Contact.account_id == payer.account_id,
                    Contact.kind == ContactKind.EMAIL.value,
                )
            )
            session.add(
                Factor(
                    public_id=ids.public_id(),
                    customer_id=payer.customer_id,
                    kind=FactorKind.EMAIL.value,
                    contact_id=contact_id,
                    created_at=now,
                    confirmed_at=now,
                )
            )
            event = activity.Event("factor_added", now, customer_id=payer.customer_id)
            activity.record(session, [event])

        unit_of_work(work)

    def add_staff(self) -> None:
        """Two members of staff, so that one approves what the other asks for; the mailbox shows
        their second step."""
        rules = auth.SignInRules(self.settings.secret, self.settings.data, ())
        for member, role in zip(DEMO_STAFF, STAFF_ROLES, strict=True):
            name = member.sign_in_id.replace(".", " ").title()
            link = members.add(name, f"{member.sign_in_id}@example.net", role)
            members.join(link, member.sign_in_id, member.password, rules)

        def work(session: Session) -> None:
            for member in DEMO_STAFF:
                customer_id = session.scalars(
                    select(Customer.id).where(Customer.sign_in_key == member.sign_in_id)
                ).one()
                totp.give(session, customer_id, DEMO_STAFF_APP, self.settings.secret)

        unit_of_work(work)

    def note_sign_ins(self, day: date) -> None:
        def work(session: Session) -> None:
            activity.record(
                session,
                [
                    activity.Event(
                        "signed_in",
                        clock.now(),
                        customer_id=customer_id,
                        facts={"address": "203.0.113.7", "user_agent": "Mozilla/5.0 (Android)"},
                    )
                    for customer_id in session.scalars(select(Customer.id).order_by(Customer.id))
                ],
            )

        if day > self.cut_over + timedelta(days=30):
            unit_of_work(work)

    def open_newcomer(self) -> None:
        path = write_export(self.export.parent / "newcomer.csv", [newcomer(self.today)])
        importing.run(path, cut_over=self.today)
        account = db.session.execute(
            select(Account.id, Account.public_id, Account.number, Account.language).where(
                Account.number == NEWCOMER
            )
        ).one()
        self.payers[account.id] = _Payer(*account, habit=Habit.STEADY, dice=self.dice)
        self.by_number[account.number] = account.id
        self.record("account_opened", [account.id])
        self.register("sam.rivera", NEWCOMER)

    # Bills

    def bill(self, day: date) -> None:
        """Issue the bills of every account whose next period begins today, as the bill run does."""
        with Session(db.engine) as session:
            due = bill_run.list_due(session, day)
        frame = bill_run.Frame(day, self.terms_days, self.currency)
        for batch in _batches(due):
            issued = unit_of_work(partial(self.issue, batch=batch, frame=frame), *batch)
            for draft in issued.drafts:
                if draft.kind is InvoiceKind.INVOICE and draft.total_minor:
                    payer = self.payers[draft.account_id]
                    self.wish(
                        attempts(payer.habit, draft.account_id, day, draft.due_on, payer.dice)
                    )

    def issue(
        self, session: Session, batch: Sequence[int], frame: bill_run.Frame
    ) -> bill_run.Issued:
        """Issue the bills of a batch, and tell those who use the portal: the mailbox holds what is
        of use, and not thousands of letters."""
        issued = bill_run.issue_batch(session, batch, frame)
        online = select(Membership.account_id)
        told = select(Invoice.id).where(
            Invoice.id.in_(issued.invoice_ids), Invoice.account_id.in_(online)
        )
        bill_messages.tell(session, session.scalars(told).all())
        return issued

    def plan_openings(self) -> None:
        """What people do about the balance that came over."""
        rows = db.session.execute(
            select(Account.id, Account.status, Account.balance_minor, LineHold.reason)
            .outerjoin(Line, Line.account_id == Account.id)
            .outerjoin(LineHold, LineHold.line_id == Line.id)
            .order_by(Account.id)
        ).all()
        for account_id, status, balance_minor, held_for in rows:
            dice = self.payers[account_id].dice
            share = 0.6 if status == AccountStatus.CLOSED else 0.7 if held_for else 0.95
            if balance_minor > 0 and dice.random() < share:
                day = self.cut_over + timedelta(days=dice.randint(1, 40 if held_for else 25))
                self.wish([Attempt(day, dice.randrange(SLOTS), account_id)])
            elif held_for and balance_minor > 0:
                self.payers[account_id].paid_until = self.cut_over

    def wish(self, wishes: Iterable[Attempt]) -> None:
        for wish in wishes:
            paid_until = self.payers[wish.account_id].paid_until
            if paid_until is None or wish.day < paid_until:
                heapq.heappush(self.wishes, wish)

    # Payments

    def pay(self, day: date, slot: int) -> None:
        """Make the payments that people wish to make now."""
        due: dict[int, Attempt] = {}
        while self.wishes and (self.wishes[0].day, self.wishes[0].slot) <= (day, slot):
            wish = heapq.heappop(self.wishes)
            due[wish.account_id] = wish
        if day == self.today - timedelta(days=3) and slot == 0:
            ahead = self.by_number["10200028"]
            due[ahead] = Attempt(day, slot, ahead, extra_minor=15_000)
        if day == self.today - timedelta(days=1) and slot == 1:
            shop = self.by_number[PETROV_BICYCLES]
            due[shop] = Attempt(day, slot, shop, Decision.DEBIT)
        for batch in _batches(sorted(due)):
            self.pay_batch(day, [due[account_id] for account_id in batch])

    def pay_batch(self, day: date, wishes: Sequence[Attempt]) -> None:
        amounts = self.amounts(wishes)
        wishes = [wish for wish in wishes if amounts[wish.account_id] >= payments.MINIMUM_MINOR]
        if not wishes:
            return
        news = [
            payments.NewPayment(
                key=f"demo-{ids.public_id()}",
                account_id=wish.account_id,
                customer_id=self.payers[wish.account_id].customer_id,
                invoice_id=None,
                amount_minor=amounts[wish.account_id],
            )
            for wish in wishes
        ]
        account_ids = [wish.account_id for wish in wishes]
        created = unit_of_work(
            lambda session: payments.create(session, news, self.gateway.name), *account_ids
        )
        with self.bank.batch():
            for new, (_payment_id, public_id), wish in zip(news, created, wishes, strict=True):
                self.gateway.start(self.order(new, public_id))
                self.bank.decide(new.key, wish.decision)
        truths = [
            (payment_id, self.gateway.ask(new.key))
            for new, (payment_id, _public_id) in zip(news, created, strict=True)
        ]
        states = self.apply(truths, account_ids)
        for new, (payment_id, _), state in zip(news, created, states, strict=True):
            if state is PaymentState.PROCESSING:
                self.debits[day + timedelta(days=DEBIT_DAYS + 1)].append(
                    _Debit(payment_id, new.key, new.account_id)
                )

    def apply(
        self, truths: Sequence[tuple[int, Truth]], account_ids: Sequence[int]
    ) -> list[PaymentState]:
        return unit_of_work(lambda session: settling.apply(session, truths), *account_ids)

    def amounts(self, wishes: Sequence[Attempt]) -> dict[int, int]:
        """What each would pay now: its share of what is owed and not on its way already."""
        account_ids = [wish.account_id for wish in wishes]
        owed = {
            row.id: row.balance_minor
            for row in db.session.execute(
                select(Account.id, Account.balance_minor).where(Account.id.in_(account_ids))
            )
        }
        for account_id, amount_minor in db.session.execute(
            select(Payment.account_id, Payment.amount_minor).where(
                Payment.account_id.in_(account_ids),
                Payment.state == PaymentState.PROCESSING.value,
            )
        ):
            owed[account_id] -= amount_minor
        return {
            wish.account_id: min(
                max(0, owed[wish.account_id]) * wish.percent // 100 + wish.extra_minor,
                payments.MAXIMUM_MINOR,
            )
            for wish in wishes
        }

    def order(self, new: payments.NewPayment, public_id: str) -> StartOrder:
        payer = self.payers[new.account_id]
        return StartOrder(
            key=new.key,
            amount_minor=new.amount_minor,
            currency=self.currency,
            description=f"{isp.current_isp().name} {payer.number}",
            return_url=f"{self.settings.public_url}/pay/{public_id}/return",
            customer_reference=payer.public_id,
            language=payer.language,
        )

    # Planned payments

    def plan_payments(self, day: date) -> None:
        """Omar's bills are paid by autopay for most of the year and Maria's from the latest on;
        Nina has scheduled what her shop owes."""
        if day == self.cut_over + timedelta(days=AUTOPAY_AFTER_DAYS):
            self.switch_autopay_on(OMAR, days_before=10)
        if day == self.today - timedelta(days=5):
            self.switch_autopay_on(MARIA, days_before=0, ceiling_minor=25_000)
        if day == self.today - timedelta(days=2):
            self.schedule(PETROV_BICYCLES, self.today + timedelta(days=6))

    def change_plans(self, day: date) -> None:
        """Grace gets a faster plan on her next bill day; Nina has asked for a phone line; Omar's
        line will rest while he is away; Maria has told that she moves, and has chosen what her
        phone does."""
        if day == self.today - timedelta(days=1):
            self.change_plan(GRACE, "FIBER-300", follows="FIBER-100")
            self.change_plan(NINA, "VOICE-HOME")
            self.move(MARIA, self.today + timedelta(days=25))
            self.pause(OMAR, self.today + timedelta(days=12), days=21)
        if day == self.today - timedelta(days=40):
            maria = self.payers[self.by_number[MARIA]]
            customer_id = maria.customer_id or 0
            phones.choose(maria.account_id, customer_id, self.arrived_key(customer_id))

    def change_plan(self, number: str, code: str, follows: str | None = None) -> None:
        payer = self.payers[self.by_number[number]]
        customer_id = payer.customer_id or 0
        old = db.session.scalar(
            select(Subscription.public_id)
            .join(Plan, Plan.id == Subscription.plan_id)
            .where(Subscription.account_id == payer.account_id, Plan.code == follows)
        )
        wish = quoting.Wish(payer.account_id, old, code)
        with words.speaking("en"):
            shown = quoting.quote(db.session(), wish).digest
            changing.change(wish, shown, customer_id, self.arrived_key(customer_id), "/{id}")

    def move(self, number: str, day: date) -> None:
        payer = self.payers[self.by_number[number]]
        customer_id = payer.customer_id or 0
        address = {"street": "7 Falls View", "city": "Alder Falls", "region": "OR"}
        to = moving.NewPlace(address | {"postcode": "97002"}, day, "A gate; please call first.")
        moving.ask(payer.account_id, to, customer_id, self.arrived_key(customer_id), "/{id}")

    def pause(self, number: str, first: date, days: int) -> None:
        payer = self.payers[self.by_number[number]]
        customer_id = payer.customer_id or 0
        span = Span(first, first + timedelta(days=days))
        with words.speaking("en"):
            found = pause_quoting.read(db.session(), payer.account_id)
            shown = pause_quoting.quote(db.session(), found, span).digest
            key = self.arrived_key(customer_id)
            pausing.pause(payer.account_id, span, shown, customer_id, key, "/{id}")

    def arrived_key(self, customer_id: int) -> form_keys.ArrivedKey:
        """The key of a form that a customer of the demo sends."""
        key_hash = hashlib.sha256(ids.public_id().encode()).digest()
        return form_keys.ArrivedKey(key_hash, f"customer:{customer_id}", bytes(32))

    def save_method(self, payer: _Payer, saving: Saving) -> str:
        """Save a method on the bank's page, as its customer would; its public id."""
        customer_id = payer.customer_id or 0
        key = self.arrived_key(customer_id)
        address = f"{self.settings.public_url}/methods/{{id}}/return"
        saved = adding.add(payer.account_id, customer_id, key, "/", self.gateway, address)
        self.bank.choose_method(key.intent, saving)
        [method_id] = db.session.scalars(
            select(PaymentMethod.id).where(PaymentMethod.public_id == saved.public_id)
        )
        methods.settle(method_id, self.gateway)
        return saved.public_id

    def switch_autopay_on(
        self, number: str, days_before: int, ceiling_minor: int | None = None
    ) -> None:
        payer = self.payers[self.by_number[number]]
        payer.paid_until = clock.today(self.zone.key)
        customer_id = payer.customer_id or 0
        with words.speaking("en"):
            wish = autopay.Wish(
                account_id=payer.account_id,
                customer_id=customer_id,
                method_public_id=self.save_method(payer, Saving.CARD),
                days_before=days_before,
                ceiling_minor=ceiling_minor,
                range_from_minor=None,
                range_to_minor=None,
                consent=autopay_views.consent(),
                language="en",
                address="203.0.113.7",
            )
            autopay.switch_on(wish, self.arrived_key(customer_id), "/")

    def schedule(self, number: str, day: date) -> None:
        payer = self.payers[self.by_number[number]]
        customer_id = payer.customer_id or 0
        with words.speaking("en"):
            wish = scheduling.Wish(
                account_id=payer.account_id,
                customer_id=customer_id,
                method_public_id=self.save_method(payer, Saving.BANK),
                choice=Choice.BALANCE,
                amount_minor=None,
                shown_minor=None,
                due_on=day,
            )
            scheduling.schedule(wish, self.arrived_key(customer_id), "/")

    def take_planned(self) -> None:
        """What the worker does about planned payments."""
        foreseeing.look_after_ends()
        foreseeing.plan_bills()
        while taking.take_due(self.gateway):
            pass

    def settle_debits(self, day: date) -> None:
        for batch in _batches(self.debits.pop(day, [])):
            with self.bank.batch():
                truths = [(debit.payment_id, self.gateway.ask(debit.key)) for debit in batch]
            self.apply(truths, [debit.account_id for debit in batch])

    # Lines

    def record(self, kind: str, account_ids: Sequence[int]) -> None:
        def work(session: Session) -> None:
            now = clock.now()
            activity.record(
                session,
                [activity.Event(kind, now, account_id=account_id) for account_id in account_ids],
            )

        unit_of_work(work, *account_ids)

    def dun(self, day: date) -> None:
        """Take the steps about unpaid bills; many of those whose line is held then pay."""
        frame = read_frame(db.session())
        planned = list(dict.fromkeys(each.account_id for each in dunning_steps.plan(frame)))
        for batch in _batches(planned):
            taken = unit_of_work(
                partial(dunning_steps.take, account_ids=batch, frame=frame), *batch
            )
            for each in taken:
                if each.step.kind is StepKind.HOLD:
                    dice = self.payers[each.account_id].dice
                    if dice.random() < 0.55:
                        later = day + timedelta(days=dice.randint(1, 9))
                        self.wish([Attempt(later, dice.randrange(SLOTS), each.account_id)])

    def look_after_imported(self, day: date) -> None:
        """Staff release those who came over suspended and owe nothing any more."""
        if (day - self.cut_over).days not in range(2, IMPORTED_CLOSED_DAYS, 3):
            return
        rows = db.session.execute(
            select(Account.id, Line.id)
            .join(Line, Line.account_id == Account.id)
            .join(LineHold, LineHold.line_id == Line.id)
            .where(
                LineHold.reason == HoldReason.IMPORTED.value,
                LineHold.released_at.is_(None),
                Account.balance_minor <= 0,
            )
            .order_by(Account.id)
        ).all()
        if not rows:
            return

        account_ids = [account_id for account_id, _ in rows]
        line_ids = [line_id for _, line_id in rows]
        unit_of_work(
            lambda session: holding.release(session, line_ids, HoldReason.IMPORTED), *account_ids
        )

    def close_accounts(self, day: date) -> None:
        """Close accounts as the import does: by a row that says so."""
        closing: list[Mapping[str, str]] = [
            named.as_row(self.today, is_closed=True)
            for named in NAMED_ACCOUNTS
            if _closes_on(named, self.today) == day
        ]
        if (day - self.cut_over).days == IMPORTED_CLOSED_DAYS:
            held = set(
                db.session.scalars(
                    select(Account.number)
                    .join(Line, Line.account_id == Account.id)
                    .join(LineHold, LineHold.line_id == Line.id)
                    .where(
                        LineHold.reason == HoldReason.IMPORTED.value,
                        LineHold.released_at.is_(None),
                    )
                )
            )
            with self.export.open(encoding="utf-8-sig", newline="") as file:
                rows = [row for row in csv.DictReader(file) if row["account_number"] in held]
            closing += [row | {"status": "Closed"} for row in _first_of_each(rows)]
        if closing:
            path = write_export(self.export.parent / f"closed-{day}.csv", closing)
            importing.run(path, cut_over=day, fixed_batch=UNIT_ACCOUNTS)

    def take_calls(self, month: date, until: date) -> None:
        """The switch's records of those of the named accounts that have a phone."""
        callers = [self.by_number[number] for number in (MARIA, OMAR, PETROV_BICYCLES, ROSA)]
        phones.import_calls(self.export.parent, callers, month, until)

    def connect(self) -> None:
        """Have the simulated network know every line as it should be."""
        network = current_app.extensions["network_gateway"]
        if not isinstance(network, SimulatedNetwork):
            return
        lines = db.session.execute(select(Line.username, Line.wanted_state)).all()
        network.set_states((line.username, NetworkState(line.wanted_state)) for line in lines)
        unit_of_work(
            lambda session: session.execute(
                update(Line).values(
                    reached_state=Line.wanted_state,
                    reached_down_kbps=func.coalesce(Line.slow_down_kbps, Line.down_kbps),
                    reached_up_kbps=func.coalesce(Line.slow_up_kbps, Line.up_kbps),
                    sync_at=None,
                )
            )
        )

    def plan_price(self) -> None:
        """One that is planned, of which those who follow are told in two weeks."""
        biller = db.session.scalars(
            select(StaffMember.customer_id).order_by(StaffMember.customer_id).limit(1)
        ).one()
        price = NewPrice(
            "TV-SPORTS", 1700, self.today + timedelta(days=45), Existing.BILL_DAY, biller
        )
        planning.plan(price, self.arrived_key(biller), "/staff/prices/TV-SPORTS")

    def finish(self) -> None:
        """Receipts of long ago were sent long ago; then the mark that everything is there."""
        self.take_calls(self.today.replace(day=1), self.today)
        traffic.tell(self.now, self.zone.key)
        self.connect()
        phones.connect()
        self.plan_price()
        kept_from = clock.now() - timedelta(days=RECEIPTS_KEPT_DAYS)

        def work(session: Session) -> None:
            session.execute(
                update(Message)
                .where(Message.created_at < kept_from)
                .values(state=MessageState.SENT.value, sent_at=Message.created_at, try_at=None)
            )
            session.add(Counter(name=BUILT, next_value=1))

        unit_of_work(work)


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), UNIT_ACCOUNTS):
        yield items[start : start + UNIT_ACCOUNTS]


def _closes_on(named: NamedAccount, today: date) -> date | None:
    return None if named.closed_days is None else today - timedelta(days=named.closed_days)


def _first_of_each(rows: Sequence[dict[str, str]]) -> Iterator[dict[str, str]]:
    """The rows without those that repeat a number, which the import refused."""
    seen: set[str] = set()
    for row in rows:
        if row["account_number"] not in seen:
            seen.add(row["account_number"])
            yield row
