"""What an account's people see of dunning: what is overdue, and what comes on which day if nothing
is paid."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from blueprints.billing.dunning import reading, telling
from blueprints.billing.dunning.steps import StepKind, coming
from blueprints.lines import opening
from core.db import db
from core.money import Money


@dataclass(frozen=True, slots=True)
class NextStep:
    """A step that hurts, taken on the day `on`; `amount` is the fee, or what is overdue."""

    kind: StepKind
    on: date
    amount: Money


@dataclass(frozen=True, slots=True)
class Outlook:
    """`opens_to_pay`: pressing Pay opens the held line for a quarter of an hour. `rests_until`:
    staff have agreed to leave it alone until then; `is_arranged`: while an arrangement is kept."""

    overdue: Money
    steps: list[NextStep]
    is_held: bool
    opens_to_pay: bool
    has_phone: bool
    rests_until: date | None
    is_arranged: bool


def find_outlook(account_id: int) -> Outlook | None:
    """None while nothing is overdue."""
    session = db.session()
    frame = reading.read_frame(session)
    known = next(iter(reading.read(session, [account_id], frame)), None)
    if known is None:
        return None
    debtor, today = known.debtor, frame.today
    overdue_minor = debtor.overdue_minor(today)
    if not overdue_minor:
        return None
    is_held = debtor.held_on is not None
    return Outlook(
        Money(overdue_minor, frame.currency),
        [
            NextStep(step.kind, step.on, Money(step.amount_minor, frame.currency))
            for step in coming(debtor, known.policy, frame.rules, today)
        ],
        is_held,
        is_held and bool(opening.list_openable(session, account_id)),
        account_id in telling.with_phone(session, [account_id], frame),
        debtor.rests_until,
        debtor.is_arranged,
    )
