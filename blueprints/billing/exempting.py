"""Accounts that do not pay a tax: exempting them, and ending it. The only writer of exemptions.

What was billed stays as it was billed; bills from the day on that an exemption begins are without
the tax, and days given back are so with the taxes of their bill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import select
from sqlalchemy.orm import Session

from core import activity, clock
from core.db import db, unit_of_work
from models import Account, Tax, TaxExemption

LONGEST_REASON = 200


class ExemptionRefused(Exception):
    """It cannot be so; the text says why."""


@dataclass(frozen=True, slots=True)
class Exemption:
    """That an account does not pay a tax from a day on, until and with another one if there is
    one."""

    account_number: str
    tax_code: str
    tax_name: str
    from_on: date
    to_on: date | None
    reason: str


def exempt(
    account_number: str, tax_code: str, from_on: date, to_on: date | None, reason: str
) -> None:
    """Exempt the account; one that is exempt from this tax already is so from and until these days
    instead. Raises ExemptionRefused."""
    reason = reason.strip()
    if not reason:
        raise ExemptionRefused("say why: the tax office will ask")
    if len(reason) > LONGEST_REASON:
        raise ExemptionRefused(f"the reason is longer than {LONGEST_REASON} characters")
    if to_on is not None and to_on < from_on:
        raise ExemptionRefused("its last day is before its first one")
    account_id, tax_name = _find(account_number, tax_code)

    def work(session: Session) -> None:
        found = session.get(TaxExemption, (account_id, tax_code))
        if found is None:
            found = TaxExemption(account_id=account_id, tax_code=tax_code)
            session.add(found)
        found.from_on, found.to_on, found.reason = from_on, to_on, reason
        _note(session, "tax_exempted", account_id, tax_name)

    unit_of_work(work, account_id)


def end(account_number: str, tax_code: str, last_on: date) -> None:
    """Have the account pay the tax again, from the day after `last_on`. Raises ExemptionRefused."""
    account_id, tax_name = _find(account_number, tax_code)

    def work(session: Session) -> None:
        found = session.get(TaxExemption, (account_id, tax_code))
        if found is None or (found.to_on is not None and found.to_on <= last_on):
            raise ExemptionRefused(f"account {account_number} pays {tax_code} by then")
        if last_on < found.from_on:
            session.delete(found)
        else:
            found.to_on = last_on
        _note(session, "tax_exemption_ended", account_id, tax_name)

    unit_of_work(work, account_id)


def list_exemptions() -> Sequence[Exemption]:
    """Every exemption, by account."""
    rows = db.session.execute(
        select(
            Account.number,
            TaxExemption.tax_code,
            Tax.name,
            TaxExemption.from_on,
            TaxExemption.to_on,
            TaxExemption.reason,
        )
        .join(Account, Account.id == TaxExemption.account_id)
        .join(Tax, Tax.code == TaxExemption.tax_code)
        .order_by(Account.number, TaxExemption.tax_code)
    )
    return [Exemption(*row) for row in rows]


def _find(account_number: str, tax_code: str) -> tuple[int, str]:
    account_id = db.session.scalar(select(Account.id).where(Account.number == account_number))
    if account_id is None:
        raise ExemptionRefused(f"there is no account {account_number}")
    tax_name = db.session.scalar(select(Tax.name).where(Tax.code == tax_code))
    if tax_name is None:
        codes = ", ".join(db.session.scalars(select(Tax.code).order_by(Tax.code)))
        raise ExemptionRefused(f"there is no tax {tax_code}; the catalog has {codes or 'none'}")
    return account_id, tax_name


def _note(session: Session, kind: str, account_id: int, tax_name: str) -> None:
    event = activity.Event(kind, clock.now(), account_id, facts={"tax": tax_name})
    activity.record(session, [event])
