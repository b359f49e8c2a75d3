"""The double-entry ledger: posting, and settling invoices with what was paid.

Everything here runs inside a `unit_of_work` over the accounts concerned and takes whole batches;
one payment is a batch of one. Positive amounts on `receivable` are owed by the account.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Select, bindparam, insert, select, update
from sqlalchemy.orm import Session

from blueprints.billing.dunning import again
from core import clock
from core.db import total
from models import (
    Account,
    Allocation,
    EntryKind,
    Invoice,
    InvoiceBalance,
    InvoiceKind,
    JournalEntry,
    JournalLine,
)

RECEIVABLE = "receivable"


class UnbalancedPosting(ValueError):
    """The lines of a posting do not sum to zero: a fault of the caller, nothing is written."""


@dataclass(frozen=True, slots=True)
class Posting:
    """One entry to write. `lines` are (ledger, amount in minor units), the receivable one among
    them; `key` is made from the intent and is unique for good."""

    key: str
    kind: EntryKind
    account_id: int
    booked_on: date
    description: str
    lines: tuple[tuple[str, int], ...]

    @property
    def receivable_minor(self) -> int:
        return sum(amount for ledger, amount in self.lines if ledger == RECEIVABLE)


@dataclass(frozen=True, slots=True)
class Credit:
    """A credit entry and how much of it may settle invoices; `first_invoice_id` comes first."""

    account_id: int
    entry_id: int
    amount_minor: int
    first_invoice_id: int | None = None


@dataclass(frozen=True, slots=True)
class Debit:
    """An entry that takes credit back, and the payment's entry whose invoices open first again."""

    account_id: int
    entry_id: int
    amount_minor: int
    first_entry_id: int | None = None


# Statements that every posting runs are built once: building one costs more than running it, and
# on SQLite all other writers wait meanwhile.
_INSERT_ENTRIES = insert(JournalEntry).returning(JournalEntry.id, JournalEntry.key)
_INSERT_LINES = insert(JournalLine)
_INSERT_ALLOCATIONS = insert(Allocation)
_MOVE_BALANCES = (
    update(Account)
    .where(Account.id == bindparam("moved_account"))
    .values(
        balance_minor=Account.balance_minor + bindparam("moved_minor"),
        revision=Account.revision + 1,
    )
)
_LIST_OPEN = (
    select(InvoiceBalance.account_id, InvoiceBalance.invoice_id, InvoiceBalance.open_minor)
    .join(Invoice, Invoice.id == InvoiceBalance.invoice_id)
    .where(
        InvoiceBalance.account_id.in_(bindparam("accounts", expanding=True)),
        InvoiceBalance.settled_at.is_(None),
    )
    .order_by(InvoiceBalance.account_id, Invoice.due_on, Invoice.id)
)
_SETTLE = (
    update(InvoiceBalance)
    .where(InvoiceBalance.invoice_id == bindparam("settled_invoice"))
    .values(open_minor=bindparam("new_open"), settled_at=bindparam("new_settled_at"))
)


def _unused_query() -> Select[*tuple[Any, ...]]:
    # Correlated, so that only these accounts' allocations are looked at and not everybody's.
    used_minor = (
        select(total(Allocation.amount_minor))
        .where(Allocation.entry_id == JournalLine.entry_id)
        .correlate(JournalLine)
        .scalar_subquery()
    )
    left = -total(JournalLine.amount_minor) - used_minor
    is_of_invoice = (
        select(Invoice.id)
        .where(
            Invoice.entry_id == JournalLine.entry_id,
            Invoice.kind != InvoiceKind.CREDIT_NOTE.value,
        )
        .exists()
    )
    return (
        select(JournalLine.account_id, JournalLine.entry_id, left.label("left_minor"))
        .where(
            JournalLine.account_id.in_(bindparam("accounts", expanding=True)),
            ~is_of_invoice,
        )
        .group_by(JournalLine.account_id, JournalLine.entry_id)
        .having(left != 0)
        .order_by(JournalLine.entry_id)
    )


_LIST_UNUSED = _unused_query()


def post(session: Session, postings: Sequence[Posting], currency: str) -> list[int]:
    """Write the postings and move the accounts' balances; returns the entry ids in order.

    Raises UnbalancedPosting; a key used before raises IntegrityError from the unique key.
    """
    if not postings:
        return []
    for posting in postings:
        if sum(amount for _, amount in posting.lines) or len(posting.lines) < 2:
            raise UnbalancedPosting(posting.key)
    created_at = clock.now()
    # Straight to the connection, and ids looked up by key: the ORM's way of returning them in order
    # is a statement for each row on SQLite.
    connection = session.connection()
    id_of: dict[str, int] = {
        row.key: row.id
        for row in connection.execute(
            _INSERT_ENTRIES,
            [
                {
                    "key": posting.key,
                    "kind": posting.kind.value,
                    "account_id": posting.account_id,
                    "booked_on": posting.booked_on,
                    "description": posting.description,
                    "line_count": len(posting.lines),
                    "created_at": created_at,
                }
                for posting in postings
            ],
        )
    }
    entry_ids = [id_of[posting.key] for posting in postings]
    connection.execute(
        _INSERT_LINES,
        [
            {
                "entry_id": entry_id,
                "position": position,
                "ledger": ledger,
                "account_id": posting.account_id if ledger == RECEIVABLE else None,
                "amount_minor": amount,
                "currency": currency,
            }
            for entry_id, posting in zip(entry_ids, postings, strict=True)
            for position, (ledger, amount) in enumerate(posting.lines, start=1)
        ],
    )
    moved: defaultdict[int, int] = defaultdict(int)
    for posting in postings:
        moved[posting.account_id] += posting.receivable_minor
    connection.execute(
        _MOVE_BALANCES,
        [{"moved_account": account, "moved_minor": minor} for account, minor in moved.items()],
    )
    return entry_ids


def list_open_invoices(
    session: Session, account_ids: Iterable[int]
) -> dict[int, list[tuple[int, int]]]:
    """For each account its unsettled invoices, oldest due first, as (invoice id, minor units)."""
    rows = session.connection().execute(_LIST_OPEN, {"accounts": list(account_ids)})
    found: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for account_id, invoice_id, open_minor in rows:
        found[account_id].append((invoice_id, open_minor))
    return found


def list_unused_credits(session: Session, account_ids: Iterable[int]) -> list[Credit]:
    """Credit entries of the accounts that have not settled anything with all of their amount.

    What was taken back and could be covered by such credit uses it up, the oldest first.
    """
    rows = session.connection().execute(_LIST_UNUSED, {"accounts": list(account_ids)}).all()
    taken: defaultdict[int, int] = defaultdict(int)
    for row in rows:
        taken[row.account_id or 0] += max(-row.left_minor, 0)
    credits_: list[Credit] = []
    for row in rows:
        account_id = row.account_id or 0
        gone_minor = min(taken[account_id], max(row.left_minor, 0))
        taken[account_id] -= gone_minor
        if row.left_minor > gone_minor:
            credits_.append(Credit(account_id, row.entry_id, row.left_minor - gone_minor))
    return credits_


def allocate(session: Session, credits_: Sequence[Credit], settled_at: datetime) -> None:
    """Settle open invoices with `credits_`: the named invoice first, then the oldest due.

    What finds no open invoice stays credit on the account. Writes allocations and the derived
    open amounts.
    """
    open_by_account = list_open_invoices(session, {credit.account_id for credit in credits_})
    allocations: list[Mapping[str, object]] = []
    left_open: dict[int, int] = {}
    for credit in credits_:
        invoices = open_by_account.get(credit.account_id, [])
        order = sorted(invoices, key=lambda pair: pair[0] != credit.first_invoice_id)
        rest_minor = credit.amount_minor
        for invoice_id, open_minor in order:
            still_open = left_open.get(invoice_id, open_minor)
            part = min(rest_minor, still_open)
            if part <= 0:
                continue
            left_open[invoice_id] = still_open - part
            rest_minor -= part
            allocations.append(
                {
                    "invoice_id": invoice_id,
                    "entry_id": credit.entry_id,
                    "amount_minor": part,
                    "created_at": settled_at,
                }
            )
    if not allocations:
        return
    session.connection().execute(_INSERT_ALLOCATIONS, allocations)
    session.connection().execute(
        _SETTLE,
        [
            {
                "settled_invoice": invoice_id,
                "new_open": open_minor,
                "new_settled_at": settled_at if open_minor == 0 else None,
            }
            for invoice_id, open_minor in left_open.items()
        ],
    )


def reopen(session: Session, debit: Debit, at: datetime) -> None:
    """Open invoices again as far as a posted debit makes the account owe more: credit that was not
    used covers it first. Those that the named payment settled come first, then the latest due.

    What no settled invoice is left for is owed beside them.
    """
    balance_minor = session.execute(
        select(Account.balance_minor).where(Account.id == debit.account_id)
    ).scalar_one()
    paid_by_it = (
        select(total(Allocation.amount_minor))
        .where(
            Allocation.invoice_id == Invoice.id,
            Allocation.entry_id == debit.first_entry_id,
        )
        .scalar_subquery()
    )
    rows = session.execute(
        select(
            Invoice.id, Invoice.total_minor, InvoiceBalance.open_minor, paid_by_it.label("by_it")
        )
        .join(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
        .where(InvoiceBalance.account_id == debit.account_id)
        .order_by(Invoice.due_on.desc(), Invoice.id.desc())
    ).all()
    open_minor = {row.id: row.open_minor for row in rows}
    need_minor = min(max(balance_minor, 0) - sum(open_minor.values()), debit.amount_minor)
    parts: defaultdict[int, int] = defaultdict(int)
    for most in ({row.id: row.by_it for row in rows}, {row.id: row.total_minor for row in rows}):
        for row in rows:
            settled_minor = row.total_minor - row.open_minor - parts[row.id]
            part = min(need_minor, settled_minor, most[row.id])
            if part > 0:
                parts[row.id] += part
                need_minor -= part
    reopened = {invoice_id: part for invoice_id, part in parts.items() if part}
    if not reopened:
        return
    session.connection().execute(
        _INSERT_ALLOCATIONS,
        [
            {
                "invoice_id": invoice_id,
                "entry_id": debit.entry_id,
                "amount_minor": -part,
                "created_at": at,
            }
            for invoice_id, part in reopened.items()
        ],
    )
    again.begin(session, [invoice_id for invoice_id in reopened if not open_minor[invoice_id]])
    session.connection().execute(
        _SETTLE,
        [
            {
                "settled_invoice": invoice_id,
                "new_open": open_minor[invoice_id] + part,
                "new_settled_at": None,
            }
            for invoice_id, part in reopened.items()
        ],
    )
