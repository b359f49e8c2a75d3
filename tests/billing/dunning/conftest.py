"""The policy of the tests, and days on which steps are taken."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from blueprints.billing.dunning import taking
from blueprints.billing.dunning.reading import read_frame
from blueprints.billing.dunning.steps import StepKind
from core import clock, isp
from core.db import db
from tests.conftest import Portal

ZONE = ZoneInfo("America/Los_Angeles")


@dataclass
class Dunning:
    """The portal, and the steps that are taken in it."""

    portal: Portal

    def decide(self, **policy: Any) -> None:
        """Set what the ISP decides."""
        self.portal.execute(
            "UPDATE isp SET billing_rules = :rules, revision = revision + 1",
            rules=json.dumps({"dunning": policy}),
        )
        isp.forget()

    @contextmanager
    def on(self, day: date, hour: int = 9) -> Iterator[None]:
        """Stand at an hour of a day at the ISP."""
        with clock.set_to(datetime.combine(day, time(hour), ZONE).astimezone(UTC)):
            yield

    def run(self, day: date | None = None) -> Counter[StepKind]:
        if day is None:
            return taking.run(read_frame(db.session()))
        with self.on(day):
            return taking.run(read_frame(db.session()))

    def steps(self, name: str = "alice") -> list[tuple[str, str]]:
        """The steps taken for an account: the name, and the month of the bill."""
        return [
            (step, str(issued_on)[:7])
            for step, issued_on in self.portal.rows(
                "SELECT step, issued_on FROM dunning_steps JOIN invoices"
                " ON invoices.id = invoice_id WHERE dunning_steps.account_id = :id"
                " ORDER BY dunning_steps.id",
                id=self.portal.world.accounts[name],
            )
        ]

    def messages(self, name: str = "alice") -> list[tuple[str, str, str]]:
        """The messages about it: kind, channel, recipient."""
        return [
            (kind, channel, recipient)
            for kind, channel, recipient in self.portal.rows(
                "SELECT kind, channel, recipient FROM messages WHERE account_id = :id"
                " AND kind IN ('bill_reminder', 'late_fee', 'line_held', 'closed_unpaid',"
                " 'line_open') ORDER BY id",
                id=self.portal.world.accounts[name],
            )
        ]

    def line(self, name: str = "alice") -> str:
        return str(
            self.portal.one(
                "SELECT wanted_state FROM lines WHERE account_id = :id",
                id=self.portal.world.accounts[name],
            )
        )


@pytest.fixture
def dunning(ctx: Portal) -> Dunning:
    return Dunning(ctx)
