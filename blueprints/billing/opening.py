"""Balances brought over from the ISP's old billing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy.orm import Session

from blueprints.billing import invoicing, ledger
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
        invoicing.Draft(
            opening.account_id,
            InvoiceKind.OPENING,
            opening.due_on,
            opening.due_on,
            opening.due_on,
            opening.due_on,
            opening.bill_name,
            tuple(opening.bill_address),
            (
                invoicing.DraftLine(
                    InvoiceLineKind.OPENING,
                    OPENING_LEDGER,
                    "Balance brought forward",
                    opening.amount_minor,
                ),
            ),
            number=f"BF-{opening.number}",
        )
        for opening in openings
        if opening.amount_minor > 0
    ]
    invoicing.issue(session, drafts, currency)
    credits_ = [
        ledger.Posting(
            f"opening:BF-{opening.number}",
            EntryKind.OPENING,
            opening.account_id,
            opening.due_on,
            "Credit brought forward",
            ((ledger.RECEIVABLE, opening.amount_minor), (OPENING_LEDGER, -opening.amount_minor)),
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
    if difference_minor > 0:
        draft = invoicing.Draft(
            opening.account_id,
            InvoiceKind.OPENING,
            opening.due_on,
            opening.due_on,
            opening.due_on,
            opening.due_on,
            opening.bill_name,
            tuple(opening.bill_address),
            (
                invoicing.DraftLine(
                    InvoiceLineKind.OPENING,
                    OPENING_LEDGER,
                    "Balance brought forward, corrected",
                    difference_minor,
                ),
            ),
            number=f"BF-{opening.number}-2",
        )
        invoicing.issue(session, [draft], currency)
        return
    [entry_id] = ledger.post(
        session,
        [
            ledger.Posting(
                f"opening:BF-{opening.number}-2",
                EntryKind.ADJUSTMENT,
                opening.account_id,
                opening.due_on,
                "Balance brought forward, corrected",
                ((ledger.RECEIVABLE, difference_minor), (OPENING_LEDGER, -difference_minor)),
            )
        ],
        currency,
    )
    ledger.allocate(
        session,
        [ledger.Credit(opening.account_id, entry_id, -difference_minor)],
        clock.now(),
    )
