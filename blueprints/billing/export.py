"""The books for an accountant's tools, all of them or of some days: as CSV, one line for each
posting, and in the form of beancount 3, which is a second opinion on our sums."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, func, select, true
from sqlalchemy.orm import Session

from blueprints.billing.ledger import RECEIVABLE
from core.db import total
from core.downloads import Cell
from core.money import Money, format_plain
from models import Account, JournalEntry, JournalLine

_ROOTS = {
    "revenue": "Income:Revenue",
    "tax": "Liabilities:Tax",
    "gateway": "Assets:Gateway",
    "cash": "Assets:Cash",
    "cheque": "Assets:Cheques",
    "bank": "Assets:Bank",
    "voucher": "Assets:Vouchers",
    "adjustment": "Income:Adjustments",
    "transfer": "Assets:Transfers",
    "equity": "Equity",
}
_BATCH = 5_000
_BEANCOUNT_ACCOUNT = re.compile(
    r"(Assets|Liabilities|Equity|Income|Expenses)(:[A-Z0-9][A-Za-z0-9-]*)+"
)
COLUMNS = (
    "date",
    "entry",
    "kind",
    "description",
    "ledger",
    "code",
    "account",
    "debit",
    "credit",
    "currency",
)


class MapUnreadable(ValueError):
    """A file of account codes is not one; the message says where."""


@dataclass(frozen=True, slots=True)
class Days:
    """From `first_on` until and with `last_on`; None: from the first, until the last entry."""

    first_on: date | None = None
    last_on: date | None = None

    def hold(self) -> ColumnElement[bool]:
        """Whether an entry was booked in these days."""
        wanted: ColumnElement[bool] = true()
        if self.first_on is not None:
            wanted &= JournalEntry.booked_on >= self.first_on
        if self.last_on is not None:
            wanted &= JournalEntry.booked_on <= self.last_on
        return wanted


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of the bookkeeping by account of our books. `revenue:*` is for all that begin so
    and have none of their own; what has none keeps our name."""

    by_ledger: Mapping[str, str] = field(default_factory=dict)

    def of(self, ledger: str) -> str | None:
        """The code of an account of our books, None where there is none."""
        root = ledger.partition(":")[0]
        return self.by_ledger.get(ledger) or self.by_ledger.get(f"{root}:*")

    def check_beancount(self) -> None:
        """Raises MapUnreadable for a code that is no account of beancount."""
        for ledger, code in self.by_ledger.items():
            if not _BEANCOUNT_ACCOUNT.fullmatch(code):
                raise MapUnreadable(
                    f"{ledger}: {code} is no beancount account like Income:Internet"
                )


def read_codes(lines: Iterator[str]) -> Codes:
    """Codes as CSV: a line for each, `revenue:tv,4010`. Raises MapUnreadable."""
    found: dict[str, str] = {}
    for number, row in enumerate(csv.reader(lines), start=1):
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells[:2] == ["ledger", "code"]):
            continue
        if len(cells) != 2 or not all(cells):
            raise MapUnreadable(f"line {number} must be an account of the books, a comma, its code")
        if cells[0] in found:
            raise MapUnreadable(f"line {number} names {cells[0]} a second time")
        found[cells[0]] = cells[1][:80]
    return Codes(found)


# CSV ------------------------------------------------------------------------------------------


def count_postings(session: Session, days: Days) -> int:
    """How many lines `postings` would give."""
    return int(
        session.scalar(
            select(func.count())
            .select_from(JournalLine)
            .join(JournalEntry, JournalEntry.id == JournalLine.entry_id)
            .where(days.hold())
        )
        or 0
    )


def postings(session: Session, days: Days, codes: Codes) -> Iterator[tuple[Cell, ...]]:
    """A row under COLUMNS for each posting, in the order in which they were booked. What is debited
    and what is credited sum to the same."""
    for entry, lines in _entries(session, days):
        for line in lines:
            amount = Money(line.amount_minor, line.currency)
            debit, credit = (amount, None) if amount.amount_minor > 0 else (None, -amount)
            yield (
                entry.booked_on,
                entry.key,
                entry.kind,
                entry.description,
                line.ledger,
                codes.of(line.ledger) or line.ledger,
                line.number,
                debit,
                credit,
                line.currency,
            )


# Beancount ------------------------------------------------------------------------------------


def _component(text: str) -> str:
    """A part of a beancount account: a capital or a digit, then letters, digits and hyphens."""
    cleaned = re.sub(r"[^A-Za-z0-9-]", "-", text).strip("-") or "X"
    return cleaned[0].upper() + cleaned[1:]


def account_name(ledger: str, number: str | None) -> str:
    """The beancount account of a line; receivables are one account for each subscriber."""
    if ledger == RECEIVABLE:
        return f"Assets:Receivable:A{_component(number or '')}"
    kind, _, rest = ledger.partition(":")
    root = _ROOTS.get(kind) or f"Equity:{_component(kind)}"
    return f"{root}:{_component(rest)}" if rest else root


class _Names:
    """Beancount accounts by ledger and account number, each its own: `7/1` and `7.1` would both
    become `A7-1`, so the later one is given another ending. What has a code is the code."""

    def __init__(self, codes: Codes) -> None:
        self._codes = codes
        self._names: dict[tuple[str, str | None], str] = {}
        self._taken: set[str] = set()

    def of(self, ledger: str, number: str | None) -> str:
        """The same name each time; a new one for what was not asked for before."""
        code = self._codes.of(ledger)
        if code is not None:
            return code
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


@dataclass(slots=True)
class _Balance:
    """What a beancount account holds before the days, and after them."""

    currency: str
    before_minor: int = 0
    after_minor: int = 0


def beancount(session: Session, days: Days = Days(), codes: Codes = Codes()) -> Iterator[str]:
    """The lines of a beancount file: accounts, what they held before the days, every entry, and a
    check of each balance."""
    first_on = session.scalar(select(func.min(JournalEntry.booked_on)))
    last_on = session.scalar(select(func.max(JournalEntry.booked_on)))
    if first_on is None or last_on is None:
        yield "; no entry yet"
        return
    names = _Names(codes)
    balances = _balances(session, days, names)
    if not balances:
        yield "; no entry until then"
        return
    # An account must be open before the day on which it first has something.
    begin_on = max(days.first_on or first_on, first_on) - timedelta(days=1)
    end_on = min(days.last_on or last_on, last_on)
    currency = next(iter(balances.values())).currency
    yield 'option "title" "Lastmile"'
    yield f'option "operating_currency" "{currency}"'
    yield f'option "inferred_tolerance_default" "{currency}:0"'
    for name, balance in balances.items():
        yield f"{begin_on} open {name} {balance.currency}"
    brought = {name: one for name, one in balances.items() if one.before_minor}
    if brought:
        yield ""
        yield f'{begin_on} * "brought forward"'
        for name, balance in brought.items():
            yield f"  {name}  {_amount(balance.before_minor, balance.currency)}"
    for entry, lines in _entries(session, days):
        yield ""
        yield f"{entry.booked_on} * {_quoted(entry.key)}"
        for line in lines:
            name = names.of(line.ledger, line.number)
            yield f"  {name}  {_amount(line.amount_minor, line.currency)}"
    check_on = max(end_on, begin_on) + timedelta(days=1)
    for name, balance in balances.items():
        # Beancount forgives two units of the last digit unless it is told not to.
        amount = format_plain(Money(balance.after_minor, balance.currency))
        yield f"{check_on} balance {name} {amount} ~ 0 {balance.currency}"


def _balances(session: Session, days: Days, names: _Names) -> dict[str, _Balance]:
    """Of each beancount account what it holds. Up to the last entry, receivables are what the
    accounts' own balances say: that is what makes the check a second opinion."""
    until = _sums(session, Days(None, days.last_on))
    before = _sums(session, Days(None, days.first_on - timedelta(days=1))) if days.first_on else {}
    last_on = session.scalar(select(func.max(JournalEntry.booked_on)))
    is_all = days.last_on is None or (last_on is not None and last_on <= days.last_on)
    kept = (
        dict(session.execute(select(Account.number, Account.balance_minor)).all()) if is_all else {}
    )
    found: dict[str, _Balance] = {}
    for (ledger, number, currency), sum_minor in until.items():
        balance = found.setdefault(names.of(ledger, number), _Balance(currency))
        balance.before_minor += before.get((ledger, number, currency), 0)
        is_kept = ledger == RECEIVABLE and number in kept
        balance.after_minor += kept[number] if is_kept and number is not None else sum_minor
    return found


def _sums(session: Session, days: Days) -> dict[tuple[str, str | None, str], int]:
    rows = session.execute(
        select(
            JournalLine.ledger,
            Account.number,
            JournalLine.currency,
            total(JournalLine.amount_minor).label("minor"),
        )
        .join(JournalEntry, JournalEntry.id == JournalLine.entry_id)
        .outerjoin(Account, Account.id == JournalLine.account_id)
        .where(days.hold())
        .group_by(JournalLine.ledger, Account.number, JournalLine.currency)
        .order_by(JournalLine.ledger, Account.number)
    )
    return {(row.ledger, row.number, row.currency): row.minor for row in rows}


# Both -----------------------------------------------------------------------------------------


def _entries(session: Session, days: Days) -> Iterator[tuple[Row[Any], list[Row[Any]]]]:
    """Every entry of the days with its lines, in batches."""
    last_id = 0
    while True:
        found = session.execute(
            select(
                JournalEntry.id,
                JournalEntry.booked_on,
                JournalEntry.key,
                JournalEntry.kind,
                JournalEntry.description,
            )
            .where(JournalEntry.id > last_id, days.hold())
            .order_by(JournalEntry.id)
            .limit(_BATCH)
        )
        entries: Sequence[Any] = found.all()
        if not entries:
            return
        lines: Sequence[Any] = session.execute(
            select(
                JournalLine.entry_id,
                JournalLine.ledger,
                Account.number,
                JournalLine.amount_minor,
                JournalLine.currency,
            )
            .join(JournalEntry, JournalEntry.id == JournalLine.entry_id)
            .outerjoin(Account, Account.id == JournalLine.account_id)
            .where(
                JournalLine.entry_id > last_id, JournalLine.entry_id <= entries[-1].id, days.hold()
            )
            .order_by(JournalLine.entry_id, JournalLine.position)
        ).all()
        by_entry: dict[int, list[Row[Any]]] = {}
        for line in lines:
            by_entry.setdefault(line.entry_id, []).append(line)
        for entry in entries:
            yield entry, by_entry.get(entry.id, [])
        last_id = entries[-1].id
