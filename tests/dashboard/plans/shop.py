"""More plans than the world has, and what became of those of an account."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from core import clock
from core.db import unit_of_work
from models import Isp, Plan
from tests.conftest import Portal
from tests.page import Page, Visitor

FIBER = "alicesub1"
TV = "alicesub2"


def stock(session: Session) -> None:
    """Add plans to follow, to add and to be asked for."""
    session.add_all(
        [
            Plan(id=1001, code="FIBER-100", kind="internet", name="Fiber 100", technology="fiber",
                 price_minor=4900, down_kbps=100_000, up_kbps=100_000,
                 data_included_bytes=10**12, changes_to=["FIBER-300"],
                 plan_id_suffix="FIB10000000000A"),
            Plan(id=1002, code="FIBER-1000", kind="internet", name="Fiber Gig", technology="fiber",
                 price_minor=8500, setup_minor=5000, contract_months=12,
                 early_termination_minor=12_000, down_kbps=1_000_000, up_kbps=1_000_000,
                 changes_to=["FIBER-100", "FIBER-300"]),
            Plan(id=1003, code="FIBER-500", kind="internet", name="Fiber 500", technology="fiber",
                 price_minor=7500, intro_price_minor=5500, intro_months=3,
                 down_kbps=500_000, up_kbps=500_000, changes_to=["FIBER-300"]),
            Plan(id=1004, code="AIR-50", kind="internet", name="Air 50",
                 technology="fixed wireless", price_minor=5400, down_kbps=50_000, up_kbps=10_000),
            Plan(id=1005, code="ELSEWHERE", kind="internet", name="Elsewhere", technology="fiber",
                 price_minor=100, down_kbps=1_000, up_kbps=1_000, areas=["ALDR"]),
            Plan(id=1006, code="TV-FAMILY", kind="tv", name="Family", price_minor=2400,
                 requires=["TV-BASIC"], channels=["Three"]),
            Plan(id=1007, code="TV-KIDS", kind="tv", name="Kids", price_minor=700,
                 requires=["TV-BASIC"], excludes=["TV-FAMILY"], channels=["Four"]),
            Plan(id=1008, code="STATIC-IP", kind="option", name="Static address", price_minor=1000,
                 requires_kind="internet"),
            Plan(id=1009, code="REST", kind="option", name="Paused line", price_minor=600),
        ]
    )  # fmt: skip
    session.execute(
        update(Plan)
        .where(Plan.code == "FIBER-300")
        .values(
            technology="fiber",
            changes_to=["FIBER-100", "FIBER-500", "FIBER-1000", "AIR-50", "ELSEWHERE"],
            typical_latency_ms=9,
            plan_id_suffix="FIB30000000000A",
        )
    )


def offer_pauses(session: Session, **rules: Any) -> None:
    """Let accounts pause; what is paid for meanwhile is the plan REST unless `rules` say else."""
    usual = {"kinds": ["internet", "tv"], "least_days": 7, "most_days": 60, "plan": "REST"}
    isp = session.get_one(Isp, 1)
    isp.billing_rules = {
        **(isp.billing_rules or {}),
        "pause": usual | {"most_days_a_year": 90} | rules,
    }
    isp.revision += 1


@dataclass
class Shop:
    """The portal of an ISP with these plans, and alice, who has a line with Fiber 300."""

    portal: Portal

    def __post_init__(self) -> None:
        with self.portal.app.app_context():
            unit_of_work(stock)
        self.portal.execute("UPDATE isp SET frn = '0031234567', revision = revision + 1")

    def offer_pauses(self, **rules: Any) -> None:
        with self.portal.app.app_context():
            unit_of_work(lambda session: offer_pauses(session, **rules))

    def preview(self, visitor: Visitor, rest: str) -> Page:
        return visitor.get(self.portal.path(f"plans/{rest}"))

    def press(self, visitor: Visitor, rest: str) -> Page:
        """Open the preview and press its button; the answer."""
        return visitor.submit(self.preview(visitor, rest), rest.partition("?")[0])

    def change(self, visitor: Visitor, rest: str) -> Page:
        """The same, and on to the page that says what came of it."""
        answer = self.press(visitor, rest)
        assert answer.status == 303, answer.text
        return visitor.get(answer.location)

    def in_use(self) -> list[tuple[str, str, str | None]]:
        """Alice's subscriptions: plan, first day, day from which it is over."""
        return [
            (code, str(started), None if ended is None else str(ended))
            for code, started, ended in self.portal.rows(
                "SELECT plans.code, started_on, ended_on FROM subscriptions"
                " JOIN plans ON plans.id = plan_id WHERE account_id = :account"
                " ORDER BY subscriptions.id",
                account=self.portal.world.accounts["alice"],
            )
        ]

    def speed(self) -> tuple[int, int]:
        """What is wanted of alice's line, in kbit/s down and up."""
        [(down, up)] = self.portal.rows(
            "SELECT down_kbps, up_kbps FROM lines WHERE account_id = :account",
            account=self.portal.world.accounts["alice"],
        )
        return down, up

    def states(self) -> list[str]:
        return [
            state for (state,) in self.portal.rows("SELECT state FROM plan_changes ORDER BY id")
        ]

    def letters(self, kind: str = "plan_change") -> list[str]:
        """What the messages of a kind tell, the first first."""
        return [
            (json.loads(facts) if isinstance(facts, str) else facts)["what"]
            for (facts,) in self.portal.rows(
                "SELECT facts FROM messages WHERE kind = :kind AND channel = 'email' ORDER BY id",
                kind=kind,
            )
        ]


def at(year: int, month: int, day: int, hour: int = 19) -> AbstractContextManager[None]:
    """The clock at an hour of that day, which is the same day at the ISP."""
    return clock.set_to(datetime(year, month, day, hour, tzinfo=UTC))
