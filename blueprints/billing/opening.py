"""Balances brought over from the ISP's old billing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy.orm import Session

from blueprints.billing import drafting, invoicing, ledger
from core import clock
from models import EntryKind, InvoiceKind, InvoiceLineKind

OPENING_LEDGER = "equity:opening"


@dataclass(frozen=True, slots=True)
class Opening:
    """An account's balance on `due_on`, in minor units: positive is owed, negative is credit."""

    account_id: int
    number: str
    amount_minor: int
    due_on: date
    bill_name: str
    bill_address: Sequence[str]


def post_openings(session: Session, openings: Sequence[Opening], currency: str) -> None:
    """Write each opening balance once: what is owed as an opening item due on `due_on`, credit
    as a plain entry. Zero is skipped. A second opening of an account raises IntegrityError."""
    drafts = [
        _draft(opening, opening.amount_minor, f"BF-{opening.number}", "Balance brought forward")
        for opening in openings
        if opening.amount_minor > 0
    ]
    invoicing.issue(session, drafts, currency)
    credits_ = [
        _posting(
            opening,
            opening.amount_minor,
            EntryKind.OPENING,
            f"BF-{opening.number}",
            "Credit brought forward",
        )
        for opening in openings
        if opening.amount_minor < 0
    ]
    ledger.post(session, credits_, currency)


def adjust_opening(
    session: Session, opening: Opening, difference_minor: int, currency: str
) -> None:
    """Post the difference to an opening balance that was corrected in the old billing.

    More owed becomes a further opening item; less owed is credit that settles the first one. The
    caller has checked that the opening is the account's only entry.
    """
    number, text = f"BF-{opening.number}-2", "Balance brought forward, corrected"
    if difference_minor > 0:
        invoicing.issue(session, [_draft(opening, difference_minor, number, text)], currency)
        return
    [entry_id] = ledger.post(
        session,
        [_posting(opening, difference_minor, EntryKind.ADJUSTMENT, number, text)],
        currency,
    )
    ledger.allocate(
        session,
        [ledger.Credit(opening.account_id, entry_id, -difference_minor)],
        clock.now(),
    )


def _draft(opening: Opening, owed_minor: int, number: str, text: str) -> drafting.Draft:
    """An opening item: an invoice of one line, due on the day it is brought over."""
    day = opening.due_on
    line = drafting.DraftLine(InvoiceLineKind.OPENING, OPENING_LEDGER, text, owed_minor)
    return drafting.Draft(
        account_id=opening.account_id,
        kind=InvoiceKind.OPENING,
        issued_on=day,
        due_on=day,
        period_from=day,
        period_to=day,
        bill_name=opening.bill_name,
        bill_address=tuple(opening.bill_address),
        lines=(line,),
        number=number,
    )


def _posting(
    opening: Opening, credit_minor: int, kind: EntryKind, number: str, text: str
) -> ledger.Posting:
    """A credit brought over; `credit_minor` is negative, as on the account."""
    return ledger.Posting(
        key=f"opening:{number}",
        kind=kind,
        account_id=opening.account_id,
        booked_on=opening.due_on,
        description=text,
        lines=((ledger.RECEIVABLE, credit_minor), (OPENING_LEDGER, -credit_minor)),
    )
