"""The books in the form of beancount 3, for an accountant's tools and as a second opinion."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blueprints.billing.ledger import RECEIVABLE
from core.db import total
from core.money import Money, format_plain
from models import Account, JournalEntry, JournalLine

_ROOTS = {
    "revenue": "Income:Revenue",
    "tax": "Liabilities:Tax",
    "gateway": "Assets:Gateway",
    "equity": "Equity",
}
_BATCH = 5_000


def _component(text: str) -> str:
    """A part of a beancount account: a capital or a digit, then letters, digits and hyphens."""
    cleaned = re.sub(r"[^A-Za-z0-9-]", "-", text).strip("-") or "X"
    return cleaned[0].upper() + cleaned[1:]


def account_name(ledger: str, number: str | None) -> str:
    """The beancount account of a line; receivables are one account for each subscriber."""
    if ledger == RECEIVABLE:
        return f"Assets:Receivable:A{_component(number or '')}"
    kind, _, rest = ledger.partition(":")
    return f"{_ROOTS[kind]}:{_component(rest)}" if rest else _ROOTS[kind]


class _Names:
    """Beancount accounts by ledger and account number, each its own: `7/1` and `7.1` would both
    become `A7-1`, so the later one is given another ending."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str | None], str] = {}
        self._taken: set[str] = set()

    def of(self, ledger: str, number: str | None) -> str:
        """The same name each time; a new one for what was not asked for before."""
        known = self._names.get((ledger, number))
        if known is not None:
            return known
        name = plain = account_name(ledger, number)
        copies = 1
        while name in self._taken:
            copies += 1
            name = f"{plain}-{copies}"
        self._taken.add(name)
        self._names[ledger, number] = name
        return name


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _amount(minor: int, currency: str) -> str:
    return f"{format_plain(Money(minor, currency))} {currency}"


def beancount(session: Session) -> Iterator[str]:
    """The lines of a beancount file: accounts, every entry, and a check of each balance."""
    first_on = session.scalar(select(func.min(JournalEntry.booked_on)))
    last_on = session.scalar(select(func.max(JournalEntry.booked_on)))
    if first_on is None or last_on is None:
        yield "; no entry yet"
        return
    names = session.execute(
        select(
            JournalLine.ledger,
            Account.number,
            JournalLine.currency,
            total(JournalLine.amount_minor),
        )
        .outerjoin(Account, Account.id == JournalLine.account_id)
        .group_by(JournalLine.ledger, Account.number, JournalLine.currency)
        .order_by(JournalLine.ledger, Account.number)
    ).all()
    currency = names[0][2]
    accounts = _Names()
    yield 'option "title" "Lastmile"'
    yield f'option "operating_currency" "{currency}"'
    yield f'option "inferred_tolerance_default" "{currency}:0"'
    for ledger, number, in_currency, _sum in names:
        yield f"{first_on} open {accounts.of(ledger, number)} {in_currency}"
    yield from _entries(session, accounts)
    balances = session.execute(
        select(Account.number, Account.balance_minor, Account.currency).order_by(Account.number)
    )
    kept = {number: (balance, in_currency) for number, balance, in_currency in balances}
    check_on = last_on + timedelta(days=1)
    for ledger, number, in_currency, sum_minor in names:
        balance = kept[number][0] if ledger == RECEIVABLE else sum_minor
        # Beancount forgives two units of the last digit unless it is told not to.
        amount = format_plain(Money(balance, in_currency))
        yield f"{check_on} balance {accounts.of(ledger, number)} {amount} ~ 0 {in_currency}"


def _entries(session: Session, accounts: _Names) -> Iterator[str]:
    last_id = 0
    while True:
        entries = session.execute(
            select(JournalEntry.id, JournalEntry.booked_on, JournalEntry.key)
            .where(JournalEntry.id > last_id)
            .order_by(JournalEntry.id)
            .limit(_BATCH)
        ).all()
        if not entries:
            return
        lines = session.execute(
            select(
                JournalLine.entry_id,
                JournalLine.ledger,
                Account.number,
                JournalLine.amount_minor,
                JournalLine.currency,
            )
            .outerjoin(Account, Account.id == JournalLine.account_id)
            .where(JournalLine.entry_id > last_id, JournalLine.entry_id <= entries[-1].id)
            .order_by(JournalLine.entry_id, JournalLine.position)
        ).all()
        by_entry: dict[int, list[str]] = {}
        for entry_id, ledger, number, minor, currency in lines:
            by_entry.setdefault(entry_id, []).append(
                f"  {accounts.of(ledger, number)}  {_amount(minor, currency)}"
            )
        for entry_id, booked_on, key in entries:
            yield ""
            yield f"{booked_on} * {_quoted(key)}"
            yield from by_entry.get(entry_id, ())
        last_id = entries[-1].id
