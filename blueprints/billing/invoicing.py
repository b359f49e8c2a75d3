"""Issuing invoices and credit notes: writing what was drafted, frozen, with its entry.

`issue` writes any number of drafts in one unit of work: the entries, the invoices with their lines,
how far subscriptions are billed, and the credit that applies at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from sqlalchemy import bindparam, case, insert, select, update
from sqlalchemy.orm import Session

from blueprints.billing import ledger, prices
from blueprints.billing.drafting import Draft
from blueprints.billing.dunning import releasing
from blueprints.billing.periods import write_spans
from core import activity, clock, ids
from models import (
    Account,
    Charge,
    Counter,
    EntryKind,
    Invoice,
    InvoiceBalance,
    InvoiceKind,
    InvoiceLine,
    Subscription,
)

# Each series of numbers is gapless within a year: its counter, and how its numbers begin.
_SERIES = {
    InvoiceKind.INVOICE: ("invoice", ""),
    InvoiceKind.CREDIT_NOTE: ("credit_note", "CN-"),
}
_ENTRY_KINDS = {
    InvoiceKind.INVOICE: EntryKind.INVOICE,
    InvoiceKind.OPENING: EntryKind.OPENING,
    InvoiceKind.CREDIT_NOTE: EntryKind.CREDIT_NOTE,
}

# Built once: a bill run executes each a thousand times, and building one costs more than running it
# on few accounts.
_LIST_WITH_CREDIT = select(Account.id).where(
    Account.id.in_(bindparam("accounts", expanding=True)), Account.balance_minor < 0
)
_MOVE_ACCOUNTS = (
    update(Account)
    .where(Account.id == bindparam("billed_account"))
    .values(billed_through_on=bindparam("billed_to"))
)
_MOVE_SUBSCRIPTIONS = (
    update(Subscription)
    .where(Subscription.id == bindparam("billed_subscription"))
    .values(
        billed_until_on=bindparam("billed_until"),
        billed_price_minor=bindparam("billed_price"),
        billed_taxes=bindparam("billed_with"),
        billed_paused=bindparam("billed_as_paused"),
        billed_prices=bindparam("billed_at"),
        # What stood there before the first bill of this portal was paid to somebody else.
        elsewhere_until_on=case(
            (
                Subscription.billed_until_on.is_not(None)
                & Subscription.billed_price_minor.is_(None),
                Subscription.billed_until_on,
            ),
            else_=Subscription.elsewhere_until_on,
        ),
    )
)
_TAKE_CHARGES = (
    update(Charge)
    .where(Charge.id == bindparam("billed_charge"))
    .values(invoice_id=bindparam("billed_invoice"), taxes=bindparam("charge_taxes"))
)
_INSERT_INVOICES = insert(Invoice).returning(Invoice.id, Invoice.number)
_INSERT_LINES = insert(InvoiceLine)
_INSERT_BALANCES = insert(InvoiceBalance)


def _take_numbers(session: Session, drafts: Sequence[Draft]) -> list[Draft]:
    """The drafts with gapless numbers of their year. Locks the counters, so it is called last."""
    numbered: list[Draft] = []
    next_values: dict[str, int] = {}
    for draft in drafts:
        if draft.number:
            numbered.append(draft)
            continue
        series, prefix = _SERIES[draft.kind]
        year = draft.issued_on.year
        name = f"{series}:{year}"
        if name not in next_values:
            counter = session.get(Counter, name, with_for_update=True)
            if counter is None:
                counter = Counter(name=name, next_value=1)
                session.add(counter)
                session.flush()
            next_values[name] = counter.next_value
        numbered.append(replace(draft, number=f"{prefix}{year}-{next_values[name]:06d}"))
        next_values[name] += 1
    for name, next_value in next_values.items():
        session.execute(update(Counter).where(Counter.name == name).values(next_value=next_value))
    return numbered


def issue(
    session: Session, drafts: Sequence[Draft], currency: str, run_id: int | None = None
) -> list[int]:
    """Write the drafts as issued invoices with their entries, and apply the accounts' credit.

    Returns the ids of the invoices in the order of the drafts that have lines. An account's period
    is invoiced once: a second draft for the same account and `period_from` raises IntegrityError.
    A draft that ends a period moves the account's `billed_through_on` to its end. An event tells
    of each, except for opening items.
    """
    now = clock.now()
    _move_on(session, drafts)
    written = [draft for draft in drafts if draft.lines]
    if not written:
        return []
    account_ids = sorted({draft.account_id for draft in written})
    with_credit = set(session.connection().scalars(_LIST_WITH_CREDIT, {"accounts": account_ids}))
    numbered = _take_numbers(session, written)
    invoice_ids = _write(session, numbered, currency, run_id, now)
    activity.record(
        session,
        [
            activity.Event(
                "invoice_issued" if draft.kind == InvoiceKind.INVOICE else "credit_note_issued",
                now,
                account_id=draft.account_id,
                facts={"amount_minor": draft.total_minor, "currency": currency},
            )
            for draft in numbered
            if draft.kind != InvoiceKind.OPENING
        ],
    )
    with_credit |= {draft.account_id for draft in numbered if draft.kind == InvoiceKind.CREDIT_NOTE}
    if with_credit:
        first = {draft.account_id: draft.corrects_id for draft in numbered if draft.corrects_id}
        credits_ = [
            replace(credit, first_invoice_id=first.get(credit.account_id))
            for credit in ledger.list_unused_credits(session, with_credit)
        ]
        ledger.allocate(session, credits_, now)
        day = max(draft.issued_on for draft in numbered)
        releasing.lift_unpaid(session, sorted(with_credit), day)
    return invoice_ids


def _move_on(session: Session, drafts: Sequence[Draft]) -> None:
    """How far accounts and subscriptions are billed once the drafts are issued."""
    connection = session.connection()
    ended = [draft for draft in drafts if draft.ends_period]
    if ended:
        connection.execute(
            _MOVE_ACCOUNTS,
            [{"billed_account": draft.account_id, "billed_to": draft.period_to} for draft in ended],
        )
    marks = [mark for draft in drafts for mark in draft.marks]
    if marks:
        connection.execute(
            _MOVE_SUBSCRIPTIONS,
            [
                {
                    "billed_subscription": mark.subscription_id,
                    "billed_until": mark.until_on,
                    "billed_price": mark.price_minor,
                    "billed_with": mark.taxes,
                    "billed_as_paused": write_spans(mark.paused),
                    "billed_at": prices.to_store(mark.prices),
                }
                for mark in marks
            ],
        )


def _write(
    session: Session, drafts: Sequence[Draft], currency: str, run_id: int | None, now: datetime
) -> list[int]:
    """Entries, invoices, lines and balances of numbered drafts; the ids of the invoices."""
    connection = session.connection()
    postings = [_posting(draft) for draft in drafts]
    posted = [posting for posting in postings if posting.lines]
    entry_of = dict(
        zip(
            [posting.key for posting in posted],
            ledger.post(session, posted, currency),
            strict=True,
        )
    )
    id_of: dict[str, int] = {
        row.number: row.id
        for row in connection.execute(
            _INSERT_INVOICES,
            [
                {
                    "public_id": ids.public_id(),
                    "number": draft.number,
                    "kind": draft.kind.value,
                    "account_id": draft.account_id,
                    "entry_id": entry_of.get(posting.key),
                    "issued_on": draft.issued_on,
                    "due_on": draft.due_on,
                    "period_from": draft.period_from,
                    "period_to": draft.period_to,
                    "bill_name": draft.bill_name,
                    "bill_address": list(draft.bill_address),
                    "total_minor": draft.total_minor,
                    "tax_minor": draft.tax_minor,
                    "currency": currency,
                    "line_count": len(draft.lines),
                    "corrects_id": draft.corrects_id,
                    "run_id": run_id,
                }
                for draft, posting in zip(drafts, postings, strict=True)
            ],
        )
    }
    invoice_ids = [id_of[draft.number] for draft in drafts]
    connection.execute(
        _INSERT_LINES,
        [
            {
                "invoice_id": invoice_id,
                "position": position,
                "kind": line.kind.value,
                "ledger": line.ledger,
                "description": line.description,
                "subscription_id": line.subscription_id,
                "quantity": line.quantity,
                "rate_bp": line.rate_bp,
                "amount_minor": line.amount_minor,
                "period_from": line.period_from,
                "period_to": line.period_to,
                "corrects_position": line.corrects_position,
            }
            for invoice_id, draft in zip(invoice_ids, drafts, strict=True)
            for position, line in enumerate(draft.lines, start=1)
        ],
    )
    balances = [
        {
            "invoice_id": invoice_id,
            "account_id": draft.account_id,
            "open_minor": draft.total_minor,
            "settled_at": None if draft.total_minor else now,
        }
        for invoice_id, draft in zip(invoice_ids, drafts, strict=True)
        if draft.kind != InvoiceKind.CREDIT_NOTE
    ]
    if balances:
        connection.execute(_INSERT_BALANCES, balances)
    taken = [
        {"billed_charge": charge_id, "billed_invoice": invoice_id, "charge_taxes": terms}
        for invoice_id, draft in zip(invoice_ids, drafts, strict=True)
        for charge_id, terms in zip(draft.charge_ids, draft.charge_taxes, strict=True)
    ]
    if taken:
        connection.execute(_TAKE_CHARGES, taken)
    return invoice_ids


def _posting(draft: Draft) -> ledger.Posting:
    """The entry of a draft; without lines where all of it cancels out."""
    sign = -1 if draft.kind == InvoiceKind.CREDIT_NOTE else 1
    by_ledger: dict[str, int] = {ledger.RECEIVABLE: sign * draft.total_minor}
    for line in draft.lines:
        by_ledger[line.ledger] = by_ledger.get(line.ledger, 0) - sign * line.amount_minor
    kind = _ENTRY_KINDS[draft.kind]
    what = "Credit note" if draft.kind == InvoiceKind.CREDIT_NOTE else "Invoice"
    return ledger.Posting(
        key=f"{kind.value}:{draft.number}",
        kind=kind,
        account_id=draft.account_id,
        booked_on=draft.issued_on,
        description=f"{what} {draft.number}",
        lines=tuple((name, minor) for name, minor in by_ledger.items() if minor),
    )
