"""Days of people whose payments are planned: saved methods, the worker's rounds, the messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy.orm import Session

from blueprints.billing import settling
from blueprints.billing.planned import foreseeing, taking
from core import clock, ids, postman
from core.db import db, unit_of_work
from gateways.payments.base import MethodOrder
from gateways.payments.sandbox.methods import Behaviour, Saving
from models import Message, PaymentMethod
from tests import world
from tests.billing.conftest import ShakyGateway
from tests.conftest import Portal
from tests.page import Page, Visitor

ZONE = ZoneInfo("America/Los_Angeles")
TODAY = date(2026, 6, 20)
MONTH_MINOR = 10_556  # alice and mallory owe it for each month; alice two of them


@dataclass
class Diary:
    """The portal, the bank over a line that may be bad, and what happens day by day."""

    portal: Portal
    gateway: ShakyGateway

    def save(self, name: str = "alice", saving: Saving = Saving.CARD, account: str = "") -> str:
        """A method that this customer has saved at the bank; its public id."""
        town = self.portal.world
        account = account or ("mallory" if name == "mallory" else "alice")
        key = f"method-{ids.public_id()}"
        order = MethodOrder(key, "http://127.0.0.1:8000/back", town.public_ids[account], None, "en")
        self.portal.bank.save_method(order)
        truth = self.portal.bank.choose_method(key, saving)

        def work(session: Session) -> str:
            method = PaymentMethod(
                public_id=ids.public_id(),
                key=key,
                account_id=town.accounts[account],
                customer_id=town.customers[name],
                gateway=self.gateway.name,
                gateway_reference=truth.reference,
                kind=truth.kind,
                title=truth.title,
                expires_on=truth.expires_on,
                state="usable",
                created_at=clock.now(),
            )
            session.add(method)
            return method.public_id

        with self.portal.app.app_context():
            return unit_of_work(work, town.accounts[account])

    def behave(self, method: str, behaviour: Behaviour) -> None:
        """Let the bank treat charges of this method so from now on."""
        reference = self.portal.one(
            "SELECT gateway_reference FROM payment_methods WHERE public_id = :id", id=method
        )
        self.portal.bank.set_behaviour(reference, behaviour)

    @contextmanager
    def on(self, day: date, hour: int = 9) -> Iterator[None]:
        """That day at the ISP, at this hour."""
        with clock.set_to(datetime.combine(day, time(hour), ZONE).astimezone(UTC)):
            yield

    def work(self) -> None:
        """Rounds of the worker until it finds nothing more to do."""
        with self.portal.app.app_context():
            foreseeing.look_after_ends()
            foreseeing.plan_bills()
            for _ in range(20):
                done = settling.ask_due(self.gateway) + taking.take_due(self.gateway)
                if not done:
                    break
            db.session.remove()

    def live(self, until: date, since: date = TODAY) -> None:
        """Let the worker run on each morning until and with a day."""
        for number in range((until - since).days + 1):
            with self.on(since + timedelta(days=number)):
                self.work()

    def issue(self, day: date, name: str = "alice") -> None:
        """Issue the next month's bill on `day`, which is now."""
        with self.portal.app.app_context():
            world.issue_month(self.portal.world, (name,), day)
            db.session.remove()

    def visit(self, visitor: Visitor, rest: str = "") -> Page:
        return visitor.get(self.portal.path(f"billing/{rest}"))

    def schedule(self, visitor: Visitor, method: str, day: date, **values: str) -> Page:
        """Schedule what is due, or another amount, as a customer does."""
        if "amount" in values:
            values.setdefault("choice", "other")
        page = self.visit(visitor, "schedule")
        return visitor.submit(page, "/schedule", method=method, day=day.isoformat(), **values)

    def planned(self, columns: str = "state", kind: str = "scheduled") -> list[Any]:
        """Columns of planned payments of a kind, in the order they were made."""
        rows = self.portal.rows(
            f"SELECT {columns} FROM planned_payments WHERE kind = :kind ORDER BY id", kind=kind
        )
        return [row[0] if len(row) == 1 else row for row in rows]

    def taken(self) -> list[int]:
        """What the bank has taken without the customer, in order."""
        return [
            int(minor)
            for (minor,) in self.portal.rows(
                "SELECT amount_minor FROM payments WHERE planned_id IS NOT NULL"
                " AND state = 'succeeded' ORDER BY id"
            )
        ]

    def told(self, what: str | None = None) -> list[Any]:
        """The messages about planned payments: their words, or the facts of those about `what`."""
        rows = self.portal.rows("SELECT facts FROM messages WHERE kind = 'planned' ORDER BY id")
        facts = [json.loads(row) if isinstance(row, str) else row for (row,) in rows]
        if what is None:
            return [each["what"] for each in facts]
        return [each for each in facts if each["what"] == what]

    def compose_letters(self) -> None:
        """Let each message so far be put into words, in every language, as mail and as text."""
        with self.portal.app.app_context():
            for message in db.session.query(Message).filter_by(kind="planned"):
                for language in ("en", "es", "fr"):
                    for channel in ("email", "text"):
                        message.language, message.channel = language, channel
                        made = postman.compose(message, "http://127.0.0.1:8000")
                        assert "None" not in made.text + made.subject
                        assert "%(" not in made.text + made.html + made.subject
            db.session.rollback()

    def balance(self, name: str = "alice") -> int:
        return int(
            self.portal.one(
                "SELECT balance_minor FROM accounts WHERE id = :id",
                id=self.portal.world.accounts[name],
            )
        )

    def autopay(self, visitor: Visitor, method: str, **values: str) -> Page:
        """Switch autopay on, or change it, as a customer does."""
        page = self.visit(visitor, "autopay")
        return visitor.submit(page, "/autopay", method=method, agreed="y", **values)

    def mandates(self, columns: str = "ended_because") -> list[Any]:
        """Columns of the permissions for autopay, in the order they were given."""
        rows = self.portal.rows(f"SELECT {columns} FROM autopay_mandates ORDER BY id")
        return [row[0] if len(row) == 1 else row for row in rows]
