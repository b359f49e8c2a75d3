"""Taking the steps of a day, each once: by the worker, or `flask billing dunning`.

Whose turn it is, is looked up without a lock and looked up again in the unit of work that takes the
steps, so a run that is killed, repeated, or twice at once takes none a second time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from flask_babel import force_locale
from flask_babel import gettext as _
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from blueprints.billing.dunning import closing, telling
from blueprints.billing.dunning.reading import Frame, Known, read
from blueprints.billing.dunning.steps import HARDNESS, Step, StepKind, due
from blueprints.lines import holding
from core import activity, clock, ids
from core.db import db, unit_of_work
from models import Account, Charge, DunningStep, HoldReason, Invoice, InvoiceBalance, Line

LOOKED_AT_ONCE = 500
TAKEN_AT_ONCE = 40

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that is due for an account, or was just taken."""

    account_id: int
    account_number: str
    step: Step


def list_owing(session: Session, frame: Frame) -> list[int]:
    """The ids of accounts with an open invoice that is due by now or soon enough to be reminded
    of."""
    policies = (frame.rules.usual, *frame.groups.values())
    ahead = max((-each.days for policy in policies for each in policy.reminders), default=0)
    return list(
        session.scalars(
            select(InvoiceBalance.account_id)
            .join(Invoice, Invoice.id == InvoiceBalance.invoice_id)
            .where(
                InvoiceBalance.settled_at.is_(None),
                Invoice.due_on <= frame.today + timedelta(days=max(ahead, 0)),
            )
            .distinct()
            .order_by(InvoiceBalance.account_id)
        )
    )


def plan(frame: Frame, on_progress: Progress = lambda _done, _all: None) -> list[Taken]:
    """The steps that are due today. Writes nothing."""
    with Session(db.engine) as session:
        owing = list_owing(session, frame)
    found: list[Taken] = []
    for number, batch in enumerate(_batches(owing, LOOKED_AT_ONCE), start=1):
        with Session(db.engine) as session:
            for known, steps in _due(read(session, batch, frame), frame):
                found += [Taken(known.debtor.account_id, known.number, step) for step in steps]
        on_progress(min(number * LOOKED_AT_ONCE, len(owing)), len(owing))
    return found


def run(frame: Frame, on_progress: Progress = lambda _done, _all: None) -> Counter[StepKind]:
    """Take the steps that are due today; how many of each kind."""
    account_ids = list(dict.fromkeys(each.account_id for each in plan(frame)))
    done: Counter[StepKind] = Counter()
    for number, batch in enumerate(_batches(account_ids, TAKEN_AT_ONCE), start=1):
        taken = unit_of_work(partial(take, account_ids=batch, frame=frame), *batch)
        done.update(each.step.kind for each in taken)
        on_progress(min(number * TAKEN_AT_ONCE, len(account_ids)), len(account_ids))
    return done


def take(session: Session, account_ids: Sequence[int], frame: Frame) -> list[Taken]:
    """Take what is due for these accounts, within the running unit of work over them."""
    due_now = list(_due(read(session, account_ids, frame), frame))
    taken = [
        Taken(known.debtor.account_id, known.number, step)
        for known, steps in due_now
        for step in steps
    ]
    if not taken:
        return []
    languages = {known.debtor.account_id: known.language for known, _steps in due_now}
    charge_ids = _charge(session, taken, languages, frame)
    session.connection().execute(
        insert(DunningStep),
        [
            {
                "account_id": each.account_id,
                "invoice_id": each.step.invoice.id,
                "step": each.step.name,
                "taken_on": frame.today,
                "charge_id": charge_ids.get((each.step.invoice.id, each.step.name)),
            }
            for each in taken
        ],
    )
    _hold(session, [each.account_id for each in taken if each.step.kind is StepKind.HOLD])
    closing.close(
        session,
        [each.account_id for each in taken if each.step.kind is StepKind.CLOSE],
        frame.today,
    )
    session.connection().execute(
        update(Account)
        .where(Account.id.in_({each.account_id for each in taken}))
        .values(revision=Account.revision + 1)
    )
    telling.tell(session, [(known, _hardest(steps)) for known, steps in due_now if steps], frame)
    return taken


def _due(known: Sequence[Known], frame: Frame) -> Iterator[tuple[Known, list[Step]]]:
    for each in known:
        yield each, due(each.debtor, each.policy, frame.rules, frame.today)


def _hardest(steps: Sequence[Step]) -> Step:
    """The step that is told: one message for an account and day."""
    return max(steps, key=lambda step: HARDNESS.index(step.kind))


def _charge(
    session: Session, taken: Sequence[Taken], languages: dict[int, str], frame: Frame
) -> dict[tuple[int, str], int]:
    """Late fees as charges that join the next invoice; their ids by invoice and step."""
    fees = [each for each in taken if each.step.kind is StepKind.FEE]
    if not fees:
        return {}
    now = clock.now()
    public_ids = [ids.public_id() for _fee in fees]
    rows = session.connection().execute(
        insert(Charge).returning(Charge.id, Charge.public_id),
        [
            {
                "public_id": public_id,
                "account_id": fee.account_id,
                "is_credit": False,
                "kind": "",
                "description": _description(fee.step, languages[fee.account_id]),
                "reason": fee.step.name,
                "amount_minor": fee.step.amount_minor,
                "created_at": now,
            }
            for fee, public_id in zip(fees, public_ids, strict=True)
        ],
    )
    id_of = {row.public_id: row.id for row in rows}
    activity.record(
        session,
        [
            activity.Event(
                "late_fee_charged",
                now,
                account_id=fee.account_id,
                facts={"amount_minor": fee.step.amount_minor, "currency": frame.currency},
            )
            for fee in fees
        ],
    )
    return {
        (fee.step.invoice.id, fee.step.name): id_of[public_id]
        for fee, public_id in zip(fees, public_ids, strict=True)
    }


def _description(step: Step, language: str) -> str:
    with force_locale(language.replace("-", "_")):
        return _("Late fee for bill %(number)s", number=step.invoice.number)


def _hold(session: Session, account_ids: Sequence[int]) -> None:
    if account_ids:
        line_ids = session.scalars(
            select(Line.id).where(Line.account_id.in_(account_ids), Line.is_closed.is_(False))
        )
        holding.hold(session, list(line_ids), HoldReason.UNPAID)


def _batches(account_ids: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(account_ids), size):
        yield list(account_ids[start : start + size])
