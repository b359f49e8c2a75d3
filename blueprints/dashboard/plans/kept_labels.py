"""Labels as they were shown: kept for good, and public for two years after a plan was withdrawn
(47 CFR 8.1(a)(6))."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from datetime import date
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blueprints.dashboard.plans import labels
from blueprints.dashboard.plans.labels import Label
from core import clock
from core.db import db, unit_of_work
from core.isp import current_isp
from core.money import Money
from models import Isp, Plan, PlanLabel

PUBLIC_MONTHS = 24


@dataclass(frozen=True, slots=True)
class WithdrawnLabel:
    """The last label of a plan that is no longer offered from the day `until_on` on."""

    label: Label
    until_on: date


class Keeping:
    """A duty of the worker: once a day what is shown is compared with what was kept last."""

    def __init__(self) -> None:
        self._looked_on: date | None = None

    def __call__(self) -> int:
        today = clock.today(current_isp().timezone)
        if self._looked_on == today:
            return 0
        kept = unit_of_work(keep)
        self._looked_on = today
        return kept


def keep(session: Session) -> int:
    """Keep what has changed of the labels, within the unit of work that changes plans; how many
    began or ended."""
    session.flush()
    isp = session.get_one(Isp, 1)
    today = clock.today(isp.timezone)
    shown = {
        row.plan_id: row
        for row in session.scalars(select(PlanLabel).where(PlanLabel.until_on.is_(None)))
    }
    begun = []
    changed = 0
    for plan in session.scalars(select(Plan).order_by(Plan.id)):
        label = labels.make(plan, isp, today) if plan.is_offered else None
        last = shown.get(plan.id)
        facts = _facts(label) if label is not None else None
        if (last.facts if last is not None else None) == facts:
            continue
        changed += 1
        if last is not None:
            last.until_on = today
        if label is not None:
            begun.append(
                PlanLabel(plan_id=plan.id, unique_id=label.unique_id, facts=facts, from_on=today)
            )
    session.flush()  # what is over makes room for what follows
    session.add_all(begun)
    session.flush()
    return changed


def list_withdrawn() -> list[WithdrawnLabel]:
    """The last label of each plan that is not offered any more, for two years, the latest first."""
    today = clock.today(current_isp().timezone)
    since_on = clock.month_step(today, -PUBLIC_MONTHS, today.day)
    last = select(func.max(PlanLabel.id)).group_by(PlanLabel.plan_id)
    rows = db.session.scalars(
        select(PlanLabel)
        .join(Plan, Plan.id == PlanLabel.plan_id)
        .where(PlanLabel.id.in_(last), PlanLabel.until_on >= since_on, Plan.is_offered.is_(False))
        .order_by(PlanLabel.until_on.desc(), PlanLabel.id)
    )
    return [
        WithdrawnLabel(_read(row.facts), row.until_on) for row in rows if row.until_on is not None
    ]


_MONEY = ("price", "intro", "setup", "termination", "overage")


def _facts(label: Label) -> dict[str, Any]:
    found: dict[str, Any] = {"currency": label.price.currency}
    for name, value in asdict(label).items():
        found[name] = value["amount_minor"] if isinstance(value, dict) else value
    return found


def _read(facts: dict[str, Any]) -> Label:
    currency = facts["currency"]

    def value(name: str) -> Any:
        found = facts.get(name)
        return Money(found, currency) if name in _MONEY and found is not None else found

    return Label(**{each.name: value(each.name) for each in fields(Label)})
