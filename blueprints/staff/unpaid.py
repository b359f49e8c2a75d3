"""What staff see of an account's unpaid bills: the steps that were taken, those that come, and the
days on which nothing happens. Each look is noted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing.dunning.outlook import Outlook, find_outlook
from core import clock, data_access
from core.data_access import Reader
from core.db import db, unit_of_work
from core.errors import NotFound
from core.isp import current_isp
from models import Account, Customer, CustomerGroup, DunningRest, DunningStep, Invoice

STEPS_SHOWN = 12
RESTS_SHOWN = 5
FIELDS = ("number", "balance", "steps", "rests")
PURPOSE = "unpaid bills"


@dataclass(frozen=True, slots=True)
class StepRow:
    kind: str
    invoice_number: str
    taken_on: date


@dataclass(frozen=True, slots=True)
class RestRow:
    public_id: str
    until_on: date
    reason: str
    made_by: str
    is_standing: bool


@dataclass(frozen=True, slots=True)
class UnpaidPage:
    public_id: str
    number: str
    group_code: str
    groups: list[tuple[str, str]]
    outlook: Outlook | None
    steps: list[StepRow]
    rests: list[RestRow]


def find_account_id(public_id: str) -> int:
    """Raises NotFound."""
    found = db.session.scalar(select(Account.id).where(Account.public_id == public_id))
    if found is None:
        raise NotFound
    return found


def look(public_id: str, reader: Reader) -> UnpaidPage:
    """The page about one account, noted before it is read. Raises NotFound."""
    account_id = find_account_id(public_id)

    def note(session: Session) -> None:
        data_access.note(session, reader, FIELDS, PURPOSE, account_id=account_id)

    unit_of_work(note)
    account = db.session.execute(
        select(Account.number, Account.group_code).where(Account.id == account_id)
    ).one()
    groups = db.session.execute(
        select(CustomerGroup.code, CustomerGroup.name).order_by(CustomerGroup.name)
    ).all()
    return UnpaidPage(
        public_id,
        account.number,
        account.group_code or "",
        [(row.code, row.name) for row in groups],
        find_outlook(account_id),
        _steps(account_id),
        _rests(account_id),
    )


def _steps(account_id: int) -> list[StepRow]:
    rows = db.session.execute(
        select(DunningStep.step, Invoice.number, DunningStep.taken_on)
        .join(Invoice, Invoice.id == DunningStep.invoice_id)
        .where(DunningStep.account_id == account_id)
        .order_by(DunningStep.taken_on.desc(), DunningStep.id.desc())
        .limit(STEPS_SHOWN)
    )
    return [StepRow(row.step.split(":")[0], row.number, row.taken_on) for row in rows]


def _rests(account_id: int) -> list[RestRow]:
    today = clock.today(current_isp().timezone)
    rows = db.session.execute(
        select(
            DunningRest.public_id,
            DunningRest.until_on,
            DunningRest.reason,
            DunningRest.ended_at,
            Customer.name,
        )
        .outerjoin(Customer, Customer.id == DunningRest.made_by_id)
        .where(DunningRest.account_id == account_id)
        .order_by(DunningRest.made_at.desc(), DunningRest.id.desc())
        .limit(RESTS_SHOWN)
    )
    return [
        RestRow(
            row.public_id,
            row.until_on,
            row.reason,
            row.name or "",
            row.ended_at is None and row.until_on >= today,
        )
        for row in rows
    ]
