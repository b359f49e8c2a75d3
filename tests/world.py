"""The people and accounts that tests live among, made by the portal's own services.

alice owns the account, bob shares it as payer, vera as viewer, theo as technical; mallory owns
another account, and rich a third that is in credit. Of the ISP's own people there is one in each
role, `STAFF`. All have the password `PASSWORD`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from flask import current_app
from sqlalchemy import text
from sqlalchemy.orm import Session

from blueprints.billing import drafting, invoicing, opening, payments, settling, starting
from core import clock, passwords
from core.db import unit_of_work
from gateways.payments.sandbox.client import SandboxInProcess
from gateways.payments.sandbox.store import Decision, SandboxStore
from models import (
    Account,
    Area,
    Contact,
    ContactKind,
    Customer,
    Isp,
    Line,
    Membership,
    Plan,
    Role,
    StaffMember,
    StaffRole,
    Subscription,
    Tax,
)

STAFF = {
    "sue": StaffRole.SUPPORT,
    "ben": StaffRole.BILLING,
    "tess": StaffRole.TECHNICAL,
    "ada": StaffRole.ADMINISTRATOR,
}
PASSWORD = "quiet-lantern-orbit-47"
NOW = datetime(2026, 6, 20, 19, 0, tzinfo=UTC)
"""When every test begins: noon of 20 June 2026 at the ISP."""
CANARY = "<script>canary</script>{{7*7}}"


@dataclass(frozen=True)
class World:
    """Ids and public ids by name."""

    accounts: dict[str, int]
    public_ids: dict[str, str]
    customers: dict[str, int]


def _isp() -> Isp:
    return Isp(
        id=1,
        name="Pinecrest Broadband",
        id_name="Pinecrest ID",
        currency="USD",
        timezone="America/Los_Angeles",
        languages=["en", "es", "fr"],
        support_phone="+15415550100",
        support_email="help@pinecrest.example",
        terms_days=14,
        is_demo=True,
    )


def _plans() -> list[Plan]:
    return [
        Plan(id=1, code="FIBER-300", kind="internet", name="Fiber 300", price_minor=6500,
             down_kbps=300_000, up_kbps=300_000),
        Plan(id=2, code="TV-BASIC", kind="tv", name="Local TV", price_minor=1900,
             channels=["One", "Two"]),
        Plan(id=3, code="VOICE-HOME", kind="phone", name="Home Voice", price_minor=1800),
    ]  # fmt: skip


def _taxes() -> list[Tax]:
    return [
        Tax(code="STATE", name="State communications tax", rate_bp=625, applies_to=["tv", "phone"]),
        Tax(code="E911", name="911 fee", flat_minor=125, applies_to=["phone"]),
    ]


def _account(session: Session, name: str, number: str) -> Account:
    account = Account(
        public_id=f"{name}account00",
        number=number,
        name=f"{name.title()} {CANARY}",
        area_code="PINE",
        bill_day=1,
        opened_on=date(2025, 1, 1),
        billed_through_on=date(2026, 2, 28),
        currency="USD",
    )
    session.add(account)
    session.flush()
    line = Line(
        public_id=f"{name}line00",
        account_id=account.id,
        username=f"ppp-{name}",
        down_kbps=300_000,
        up_kbps=300_000,
    )
    session.add(line)
    session.flush()
    for plan_id in (1, 2, 3):
        session.add(
            Subscription(
                public_id=f"{name}sub{plan_id}",
                account_id=account.id,
                plan_id=plan_id,
                line_id=line.id if plan_id == 1 else None,
                started_on=date(2025, 1, 1),
                billed_until_on=date(2026, 3, 1),
            )
        )
    session.add(
        Contact(
            account_id=account.id,
            kind=ContactKind.EMAIL.value,
            value=f"{name}@example.net",
            since_on=date(2025, 1, 1),
        )
    )
    session.add(
        Contact(
            account_id=account.id,
            kind=ContactKind.POSTAL.value,
            value="1 Mill St, Pinecrest",
            address={"street": "1 Mill St", "city": "Pinecrest", "region": "OR", "country": "US"},
            since_on=date(2025, 1, 1),
        )
    )
    return account


def _customer(session: Session, name: str, password_hash: str) -> Customer:
    customer = Customer(
        public_id=f"{name}customer",
        sign_in_id=name,
        sign_in_key=name,
        email_key=f"{name}@example.net",
        name=name.title(),
        password_hash=password_hash,
        created_at=clock.now(),
    )
    session.add(customer)
    session.flush()
    return customer


def _staff(customer: Customer, role: StaffRole) -> list[StaffMember | Contact]:
    return [
        StaffMember(customer_id=customer.id, role=role.value, added_at=clock.now()),
        Contact(
            customer_id=customer.id,
            kind=ContactKind.EMAIL.value,
            value=f"{customer.sign_in_id}@example.net",
            since_on=date(2025, 1, 1),
        ),
    ]


def build() -> World:
    """Make the world in an empty, migrated database. Alice has March to June invoiced, March and
    April paid, May overdue; mallory has the same unpaid; rich is in credit by 50.00."""
    password_hash = passwords.hash_password(current_app.config["PORTAL"].data, PASSWORD)
    store = SandboxStore(":memory:", clock=clock.now, salt="world", has_notices=False)
    gateway = SandboxInProcess(store)

    def people(session: Session) -> World:
        session.add(_isp())
        session.add(Area(code="PINE", name="Pinecrest"))
        session.add_all([*_plans(), *_taxes()])
        session.flush()
        if session.get_bind().dialect.name == "postgresql":
            # It does not count ids that were given.
            session.execute(text("SELECT setval(pg_get_serial_sequence('plans', 'id'), 3)"))
        accounts = {
            name: _account(session, name, number)
            for name, number in (("alice", "1001"), ("mallory", "2002"), ("rich", "3003"))
        }
        customers = {
            name: _customer(session, name, password_hash)
            for name in ("alice", "bob", "vera", "theo", "mallory", "rich", *STAFF)
        }
        session.flush()
        for name, staff_role in STAFF.items():
            session.add_all(_staff(customers[name], staff_role))
        for name, account, role in (
            ("alice", "alice", Role.OWNER),
            ("bob", "alice", Role.PAYER),
            ("vera", "alice", Role.VIEWER),
            ("theo", "alice", Role.TECHNICAL),
            ("mallory", "mallory", Role.OWNER),
            ("rich", "rich", Role.OWNER),
        ):
            session.add(
                Membership(
                    customer_id=customers[name].id,
                    account_id=accounts[account].id,
                    role=role.value,
                )
            )
        return World(
            {name: account.id for name, account in accounts.items()},
            {name: account.public_id for name, account in accounts.items()},
            {name: customer.id for name, customer in customers.items()},
        )

    with clock.set_to(datetime(2026, 3, 1, 12, tzinfo=UTC)):
        world = unit_of_work(people)
    for month in (3, 4, 5, 6):
        day = date(2026, month, 1)
        with clock.set_to(datetime(2026, month, 1, 20, tzinfo=UTC)):
            issue_month(world, ("alice", "mallory"), day)
        if month in (3, 4):
            with clock.set_to(datetime(2026, month, 9, 20, tzinfo=UTC)):
                pay_all(world, "alice", gateway, store, key=f"world-{month}")
    with clock.set_to(datetime(2026, 6, 2, 20, tzinfo=UTC)):
        unit_of_work(
            lambda session: opening.post_openings(
                session,
                [
                    opening.Opening(
                        world.accounts["rich"], "3003", -5000, date(2026, 6, 2), "Rich", ()
                    )
                ],
                "USD",
            ),
            world.accounts["rich"],
        )
    store.close()
    return world


def issue_month(world: World, names: tuple[str, ...], day: date) -> list[int]:
    """Issue on `day` the invoices of the named accounts' next period, and of that one only."""
    account_ids = [world.accounts[name] for name in names]

    def work(session: Session) -> list[int]:
        oldest = {
            draft.account_id: draft
            for draft in reversed(drafting.draft_next(session, account_ids, day, 14))
        }
        return invoicing.issue(session, [oldest[each] for each in sorted(oldest)], "USD")

    return unit_of_work(work, *account_ids)


def pay_all(
    world: World, name: str, gateway: SandboxInProcess, store: SandboxStore, key: str
) -> None:
    """Pay everything the account owes, through the services, at the sandbox."""
    account_id = world.accounts[name]

    def create(session: Session) -> tuple[int, int]:
        account = session.get_one(Account, account_id)
        new = payments.NewPayment(
            key, account_id, world.customers[name], None, account.balance_minor
        )
        [(payment_id, _public_id)] = payments.create(session, [new], gateway.name)
        return payment_id, account.balance_minor

    payment_id, _amount = unit_of_work(create, account_id)
    starting.send(payment_id, gateway, "http://127.0.0.1:8000/pay/{id}/return")
    store.decide(key, Decision.PAY)
    settling.settle(payment_id, gateway)
