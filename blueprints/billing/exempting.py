"""Accounts that do not pay a tax: exempting them, and ending it. The only writer of exemptions.

What was billed stays as it was billed; bills from the day on that an exemption begins are without
the tax, and days given back are so with the taxes of their bill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from flask_babel import gettext as _
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from core import activity, clock, revisions
from core.db import db
from core.errors import Refusal
from models import Account, Tax, TaxExemption

LONGEST_REASON = 200
GRANTED, ENDED = "tax_exempted", "tax_exemption_ended"


class ExemptionRefused(Refusal):
    """It cannot be so; the text says why."""


class TaxIsPaid(ExemptionRefused):
    """There is no exemption, or it has ended by then."""

    @property
    def customer_message(self) -> str:
        return _("By that day the account pays this tax already.")


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


@dataclass(frozen=True, slots=True)
class Wish:
    """An exemption to be; `by` is the member of staff who grants it, empty for an operator."""

    account_id: int
    tax_code: str
    from_on: date
    to_on: date | None
    reason: str
    by: str = ""


def exempt(session: Session, wish: Wish) -> None:
    """Exempt the account, within the running unit of work over it; one that is exempt from this tax
    already is so from and until these days instead. Raises ExemptionRefused."""
    reason = wish.reason.strip()
    if not reason:
        raise ExemptionRefused("say why: the tax office will ask")
    if len(reason) > LONGEST_REASON:
        raise ExemptionRefused(f"the reason is longer than {LONGEST_REASON} characters")
    if wish.to_on is not None and wish.to_on < wish.from_on:
        raise ExemptionRefused("its last day is before its first one")
    tax_name = _name_of(session, wish.tax_code)
    found = session.get(TaxExemption, (wish.account_id, wish.tax_code))
    if found is None:
        found = TaxExemption(account_id=wish.account_id, tax_code=wish.tax_code)
        session.add(found)
    found.from_on, found.to_on, found.reason = wish.from_on, wish.to_on, reason
    session.flush()
    until = {} if wish.to_on is None else {"to_on": wish.to_on.isoformat()}
    facts = {"tax": tax_name, "from_on": wish.from_on.isoformat(), **until}
    _note(session, GRANTED, wish.account_id, facts, wish.by)


def end(session: Session, account_id: int, tax_code: str, last_on: date, by: str = "") -> None:
    """Have the account pay the tax again from the day after `last_on`, within the running unit of
    work over it. Raises ExemptionRefused."""
    tax_name = _name_of(session, tax_code)
    found = session.get(TaxExemption, (account_id, tax_code))
    if found is None or (found.to_on is not None and found.to_on <= last_on):
        raise TaxIsPaid(f"the account pays {tax_code} by then")
    if last_on < found.from_on:
        session.delete(found)
    else:
        found.to_on = last_on
    session.flush()
    _note(session, ENDED, account_id, {"tax": tax_name, "to_on": last_on.isoformat()}, by)


def find_account_id(number: str) -> int:
    """The account of a number. Raises ExemptionRefused."""
    found = db.session.scalar(select(Account.id).where(Account.number == number))
    if found is None:
        raise ExemptionRefused(f"there is no account {number}")
    return found


def list_exemptions(account_id: int | None = None) -> Sequence[Exemption]:
    """Every exemption, by account; or those of one account."""
    wanted: Select[*tuple[Any, ...]] = (
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
    if account_id is not None:
        wanted = wanted.where(TaxExemption.account_id == account_id)
    return [Exemption(*row) for row in db.session.execute(wanted)]


def list_taxes() -> list[tuple[str, str]]:
    """Code and name of each tax of the catalog, by name."""
    rows = db.session.execute(select(Tax.code, Tax.name).order_by(Tax.name, Tax.code))
    return [(row.code, row.name) for row in rows]


def _name_of(session: Session, tax_code: str) -> str:
    found = session.scalar(select(Tax.name).where(Tax.code == tax_code))
    if found is None:
        codes = ", ".join(session.scalars(select(Tax.code).order_by(Tax.code)))
        raise ExemptionRefused(f"there is no tax {tax_code}; the catalog has {codes or 'none'}")
    return found


def _note(session: Session, kind: str, account_id: int, facts: dict[str, str], by: str) -> None:
    whose = {"by": by} if by else {}
    event = activity.Event(kind, clock.now(), account_id, facts={**facts, **whose})
    activity.record(session, [event])
    revisions.raise_account(session, account_id)
