"""What the browser tests live among: the world of all tests, and more people who are alive today.

The world stops its clock in June 2026; the portal that a browser meets runs on the real one. What
depends on the day is therefore made on the day of the run.
"""

from __future__ import annotations

import json
from datetime import date, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app import create_app
from blueprints.auth import service
from blueprints.billing import opening, reversing
from blueprints.lines import holding
from core import clock, ids, search_terms, sessions
from core.db import db, unit_of_work
from core.migrate import upgrade
from core.money import MAX_MINOR
from core.serve import run
from core.settings import read_settings
from models import (
    ENDED,
    Account,
    AccountStatus,
    Arrangement,
    AutopayMandate,
    Contact,
    ContactKind,
    Customer,
    FactorReset,
    HoldReason,
    Isp,
    Line,
    Membership,
    MethodState,
    Payment,
    PaymentMethod,
    PaymentReversal,
    PaymentState,
    Plan,
    PlannedPayment,
    Role,
    Subscription,
)
from tests import crawl, world

PAYERS = 150
"""Customers `payer01`… with one bill to pay, each for one journey; some journeys take two."""

LONG_NAME = "Wolfeschlegelsteinhausenbergerdorff-Llanfairpwllgwyngyllgogerychwyrndrobwllllantysilio"
STATES = (
    PaymentState.CREATED,
    PaymentState.UNKNOWN,
    PaymentState.PROCESSING,
    PaymentState.DECLINED,
    PaymentState.EXPIRED,
    PaymentState.CANCELLED,
)
PHONES = {"caller1": "+15415550161", "caller2": "+15415550162"}
"""Customers who also have a phone on file, each for one journey."""
OTHERS = (
    "held",
    "behind",
    "closed",
    "new",
    "busy",
    "waiting",
    "arab",
    "asker",
    "vast",
    *PHONES,
    "guest",
)
HOUSEHOLD = ("mother", "father")
"""Two accounts that share the address `home@example.net`."""
MOVERS = tuple(f"mover{number}" for number in range(1, 8))
UNREGISTERED = ("guest", "fresh", *HOUSEHOLD, *MOVERS)
"""Accounts without a customer: for the welcome link, for walks that end before the last step, and
one for each journey that registers."""


def build() -> world.World:
    """The world, and beside it: payers; a line held for every reason, and one for what is unpaid
    alone; an account closed, one that
    began today, one with twenty bills; payments in every state; a reader from right to left; some
    who have not registered yet. Needs an empty, migrated database and a context."""
    made = world.build()
    payers = _payers()
    people = [*payers, *OTHERS, *UNREGISTERED[1:]]
    unit_of_work(lambda session: _add_people(session, made, people))
    unit_of_work(lambda session: _add_contacts(session, made))
    today = clock.today("America/Los_Angeles")
    world.issue_month(made, (*payers, "held", "behind", "waiting", "arab"), today)
    for months in range(20):
        world.issue_month(made, ("busy",), _month_of(months))
    unit_of_work(lambda session: _add_states(session, made))
    unit_of_work(lambda session: _add_methods(session, made))
    unit_of_work(lambda session: _add_vast(session, made), made.accounts["vast"])
    unit_of_work(lambda session: _add_what_staff_do(session, made))
    unit_of_work(lambda session: _add_plans(session, made))
    unit_of_work(lambda session: crawl.add_money(session, made))
    unit_of_work(lambda session: _add_usage(session, made))
    unit_of_work(lambda session: crawl.add_plans(session, made))
    unit_of_work(lambda session: crawl.add_phones(session, made))
    unit_of_work(lambda session: _send_refund_back(session, made), made.accounts["alice"])
    return made


INCLUDED_GB = {"held": 40, "vast": 900_000}
"""What the plans of some include; the others have no limit."""


def _add_usage(session: Session, made: world.World) -> None:
    """Thirteen months of usage of some; a plan with a limit for two, which is far off or passed."""
    names = ("alice", "busy", "held", "vast", "arab")
    crawl.add_usage(session, names, days=400)
    for number, (name, included) in enumerate(INCLUDED_GB.items()):
        plan = Plan(
            code=f"METERED-{number}",
            kind="internet",
            name=LONG_NAME if name == "vast" else "Air 25",
            price_minor=3900,
            down_kbps=25_000,
            up_kbps=5_000,
            data_included_bytes=included * 10**9,
        )
        session.add(plan)
        session.flush()
        session.execute(
            update(Subscription)
            .where(Subscription.account_id == made.accounts[name], Subscription.plan_id == 1)
            .values(plan_id=plan.id)
        )


def _add_plans(session: Session, made: world.World) -> None:
    """Saved methods, and payments that are planned in every state; they only look, as the worker
    has nothing to do for them. rich has autopay, waiting an arrangement of two parts."""
    today, now = clock.today("America/Los_Angeles"), clock.now()
    methods = {}
    for name, kind, title in (
        ("held", "card", "Visa ending 4242"),
        ("busy", "bank", "Bank account ending 6789"),
        ("rich", "card", "Mastercard ending 4444"),
        ("vast", "card", "Visa ending 3184"),
    ):
        methods[name] = PaymentMethod(
            public_id=f"{name}method",
            key=f"{name}-method",
            account_id=made.accounts[name],
            customer_id=made.customers[name],
            gateway="sandbox",
            gateway_reference=f"pm_{name}",
            kind=kind,
            title=title,
            name=LONG_NAME[:60] if name == "vast" else "",
            is_default=True,
            state="usable",
            created_at=now,
        )
    session.add_all(methods.values())
    session.flush()
    arrangement = Arrangement(
        public_id="waitingarrangement",
        account_id=made.accounts["waiting"],
        customer_id=made.customers["waiting"],
        state="standing",
        total_minor=10_556,
        created_at=now,
    )
    session.add(arrangement)
    session.add(
        AutopayMandate(
            public_id="richmandate",
            account_id=made.accounts["rich"],
            customer_id=made.customers["rich"],
            method_id=methods["rich"].id,
            days_before=3,
            ceiling_minor=20_000,
            consent="I allow it.",
            consent_language="en",
            consent_address="127.0.0.1",
            consented_at=now,
        )
    )
    session.flush()
    for name, kind, state, failure, days in (
        ("held", "scheduled", "waiting", "", 20),
        ("busy", "autopay", "asking", "", 10),
        ("busy", "scheduled", "failed", f"{LONG_NAME} {world.CANARY}", 1),
        ("busy", "scheduled", "done", "", 2),
        ("busy", "scheduled", "cancelled", "nothing_due", 3),
        ("vast", "scheduled", "taking", "to_confirm", 5),
        ("waiting", "instalment", "waiting", "", 10),
        ("waiting", "instalment", "waiting", "", 20),
    ):
        method = methods.get(name)
        session.add(
            PlannedPayment(
                public_id=f"{name}{state}{days}",
                kind=kind,
                account_id=made.accounts[name],
                customer_id=made.customers[name],
                method_id=None if method is None else method.id,
                arrangement_id=arrangement.id if kind == "instalment" else None,
                amount_minor=MAX_MINOR if name == "vast" else 5_278,
                due_on=today + timedelta(days=days),
                state=state,
                failure=failure,
                created_at=now,
                ended_at=now if state in ("failed", "done", "cancelled") else None,
            )
        )


def _add_what_staff_do(session: Session, made: world.World) -> None:
    """Sessions of staff, which the windows of tests take over; words to search by; a letter to
    print; two who have lost their factors, of whom one waits for a second member."""
    search_terms.refresh(session, list(made.accounts.values()))
    crawl.add_letter(session, "alice", made.accounts["alice"])
    for name, prover in (("alice", None), ("bob", made.customers["sue"])):
        session.add(
            FactorReset(
                public_id=f"{name}reset",
                customer_id=made.customers[name],
                state="asked" if prover is None else "proofed",
                how="" if prover is None else f"{LONG_NAME} {world.CANARY}",
                proofed_by_id=prover,
                asked_at=clock.now(),
            )
        )
    for name in world.STAFF:
        sessions.open_session_row(
            session,
            session.get_one(Customer, made.customers[name]),
            is_own_device=False,
            address="127.0.0.1",
            user_agent="tests",
            replaces_token=None,
            is_staff=True,
            has_second_factor=True,
        )


def _send_refund_back(session: Session, made: world.World) -> None:
    """A part of a payment of alice's that was given back, and that her bank has sent back since."""
    payment = session.scalars(
        select(Payment)
        .where(Payment.account_id == made.accounts["alice"], Payment.state == "succeeded")
        .order_by(Payment.public_id)
        .limit(1)
    ).one()
    for kind, reason in (("refund", "Paid twice"), ("refund_failed", f"Closed. {world.CANARY}")):
        moved = PaymentReversal(
            public_id=f"alice{kind.replace('_', '')}",
            key=f"sandbox:{kind}",
            kind=kind,
            payment_id=payment.id,
            account_id=payment.account_id,
            amount_minor=1_250,
            currency=payment.currency,
            state="processing",
            reason=reason,
            gateway_reference="re_1",
            asked_by_id=made.customers["ben"] if kind == "refund" else None,
            created_at=clock.now(),
        )
        session.add(moved)
        session.flush()
        reversing.book(session, [moved])


def _month_of(months: int) -> date:
    """The first day of the month that lies so many months after January 2025."""
    return date(2025 + months // 12, 1 + months % 12, 1)


def _add_people(session: Session, made: world.World, names: list[str]) -> None:
    isp = session.get_one(Isp, 1)
    isp.languages, isp.revision = ["en", "es", "fr", "ar"], isp.revision + 1
    known = session.scalar(select(Customer.password_hash).where(Customer.sign_in_id == "alice"))
    for name in names:
        account = world._account(session, name, account_number(name))
        made.accounts[name], made.public_ids[name] = account.id, account.public_id
        if name in UNREGISTERED:
            continue
        customer = world._customer(session, name, str(known))
        made.customers[name] = customer.id
        session.add(
            Membership(customer_id=customer.id, account_id=account.id, role=Role.OWNER.value)
        )
    session.flush()
    session.get_one(Account, made.accounts["busy"]).billed_through_on = date(2024, 12, 31)
    session.execute(
        update(Subscription)
        .where(Subscription.account_id == made.accounts["busy"])
        .values(billed_until_on=None)
    )
    session.get_one(Account, made.accounts["busy"]).name = LONG_NAME
    session.get_one(Customer, made.customers["arab"]).language = "ar"
    # waiting has four accounts to choose from, so that one customer meets every kind.
    for name in ("held", "closed", "new"):
        session.add(
            Membership(
                customer_id=made.customers["waiting"],
                account_id=made.accounts[name],
                role=Role.VIEWER.value,
            )
        )


def _add_contacts(session: Session, made: world.World) -> None:
    values = [(name, ContactKind.PHONE, phone) for name, phone in PHONES.items()]
    values += [(name, ContactKind.EMAIL, "home@example.net") for name in HOUSEHOLD]
    session.add_all(
        Contact(
            account_id=made.accounts[name],
            kind=kind.value,
            value=value,
            since_on=date(2025, 1, 1),
        )
        for name, kind, value in values
    )


def _add_states(session: Session, made: world.World) -> None:
    closed = session.get_one(Account, made.accounts["closed"])
    closed.status = AccountStatus.CLOSED.value
    today = clock.today("America/Los_Angeles")
    for name in ("closed", "new"):
        for subscription in session.scalars(
            select(Subscription).where(Subscription.account_id == made.accounts[name])
        ):
            if name == "closed":
                subscription.ended_on = today - timedelta(days=9)
            else:
                subscription.started_on = today
    session.get_one(Account, made.accounts["new"]).opened_on = today
    lines = {
        line.account_id: line
        for line in session.scalars(
            select(Line).where(
                Line.account_id.in_([made.accounts[name] for name in ("held", "behind", "closed")])
            )
        )
    }
    lines[made.accounts["closed"]].is_closed = True
    held = lines[made.accounts["held"]]
    session.flush()
    holding.plan(session, [line.id for line in lines.values()], clock.now())
    for reason in HoldReason:
        holding.hold(session, [held.id], reason, is_noted=False)
    behind = lines[made.accounts["behind"]]
    holding.hold(session, [behind.id], HoldReason.UNPAID, is_noted=False)
    # One under way at most for an account, so these belong to three.
    owners = {PaymentState.CREATED: "waiting", PaymentState.UNKNOWN: "held"}
    for number, state in enumerate(STATES):
        name = owners.get(state, "busy")
        session.add(_payment(made, name, f"{state}payment", state, minutes_ago=number + 1))
    session.add(_payment(made, "asker", "askedpayment", PaymentState.UNKNOWN, minutes_ago=1))


def _add_methods(session: Session, made: world.World) -> None:
    """Saved cards and bank accounts of somebody, in every state that their page shows."""
    today = clock.today("America/Los_Angeles")
    last_month = today.replace(day=1) - timedelta(days=1)
    shown = (
        ("busymethod1", MethodState.USABLE, "Visa ending 4242", today + timedelta(days=9)),
        ("busymethod2", MethodState.USABLE, "Mastercard ending 4444", last_month),
        ("busymethod3", MethodState.USABLE, "Bank account ending 6789", None),
        ("busymethod4", MethodState.ADDING, "", None),
        ("busymethod5", MethodState.FAILED, "", None),
    )
    for number, (public_id, state, title, expires_on) in enumerate(shown):
        session.add(
            PaymentMethod(
                public_id=public_id,
                key=ids.public_id(),
                account_id=made.accounts["busy"],
                customer_id=made.customers["busy"],
                gateway="sandbox",
                gateway_reference=f"pm_{public_id}" if title else None,
                kind="card" if expires_on else "bank",
                title=title,
                name=f"{LONG_NAME[:40]} {world.CANARY}"[:60] if number == 2 else "",
                expires_on=expires_on,
                told_on=today,
                is_default=False,
                state=state.value,
                failure="The bank did not accept the card." if not title and number == 4 else "",
                created_at=clock.now() - timedelta(minutes=number),
            )
        )


def _add_vast(session: Session, made: world.World) -> None:
    """Somebody with the longest of every name and the largest amount there can be."""
    account = session.get_one(Account, made.accounts["vast"])
    account.name = LONG_NAME
    session.get_one(Customer, made.customers["vast"]).name = LONG_NAME
    line = session.scalars(select(Line).where(Line.account_id == account.id)).one()
    line.username = f"{LONG_NAME.lower()[:50]}@dsl.pinecrest.example"
    owed = opening.Opening(
        account.id, account.number, MAX_MINOR - 1, date(2026, 6, 2), LONG_NAME, (LONG_NAME,)
    )
    opening.post_openings(session, [owed], "USD")


def _payment(
    made: world.World, name: str, public_id: str, state: PaymentState, minutes_ago: int
) -> Payment:
    """A payment that only looks: nobody is to ask about it, and the sandbox does not know it."""
    return Payment(
        public_id=public_id,
        key=ids.public_id(),
        account_id=made.accounts[name],
        customer_id=made.customers[name],
        amount_minor=1000 + minutes_ago,
        currency="USD",
        state=state.value,
        gateway="sandbox",
        method="Bank debit" if state is PaymentState.PROCESSING else "",
        decline_reason=world.CANARY if state is PaymentState.DECLINED else "",
        created_at=clock.now() - timedelta(minutes=minutes_ago),
        ended_at=clock.now() if state in ENDED else None,
    )


def main() -> None:
    """Make the town in the data folder of the environment, write `town.json` there, serve it."""
    settings = read_settings()
    app = create_app(settings)
    with app.app_context():
        upgrade(settings)
        made = build()
        links = [f"/welcome/{service.invite(str(account_number('guest')))}"]
        links.append(links[0][:-2] + "zz")
        db.session.remove()
        db.engine.dispose()
    facts = {"public_ids": made.public_ids, "welcome": links[0], "welcome_dead": links[1]}
    (settings.data / "town.json").write_text(json.dumps(facts))
    run(settings)


def account_number(name: str) -> str:
    """The number of an account that the town adds to the world."""
    return f"7{[*_payers(), *OTHERS, *UNREGISTERED[1:]].index(name):03}"


def _payers() -> list[str]:
    return [f"payer{number:02}" for number in range(1, PAYERS + 1)]


if __name__ == "__main__":
    main()
