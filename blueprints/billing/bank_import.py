"""Bank transfers: which account each belongs to, and booking it once.

A line whose reference names an account, or a bill of one, is booked at once, whatever its amount.
Where the name or the amount fits one account alone, that is proposed to staff. A line is known by
the bank's own reference of it, so a file read again, or one that overlaps, changes nothing.
Other money under a reference that was used before is never dropped: staff look at it.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from enum import StrEnum
from zoneinfo import ZoneInfo

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import booking
from blueprints.billing.bank_files import BankFile, Incoming
from blueprints.billing.errors import AccountUnknown, DecidedBefore
from core import clock, form_keys, ids, search_terms
from core.db import db, unit_of_work
from core.errors import NotFound
from core.form_keys import ArrivedKey
from core.isp import current_isp
from models import Account, BankImport, BankLine, BankLineState, Invoice, InvoiceBalance

_SHORTEST, _SHORTEST_JOINED = 4, 6
"""Shorter numbers, and years, count only where a reference says nothing else; words that stand
apart are joined only to longer ones. So no date is taken for a number."""
_JOINED = 5
_AT_ONCE = 500
_YEAR = re.compile(r"20[1-9]\d")
_INVOICE = re.compile(r"(?<!\d)(20\d\d)(?:[-/](\d{3,6})|[ /-]?(\d{6}))(?![-/.]?\d)")


class Finding(StrEnum):
    """What became of one line."""

    MATCHED = "matched"
    PROPOSED = "proposed"
    UNMATCHED = "unmatched"
    USED_BEFORE = "reference used before"
    KNOWN = "known"
    OTHER_CURRENCY = "other currency"


@dataclass(frozen=True, slots=True)
class Imported:
    line: Incoming
    finding: Finding
    account_number: str


# Matching -----------------------------------------------------------------------------------------


def normal(number: str) -> str:
    """A number as it is compared: without gaps, signs and leading zeros."""
    return re.sub(r"[^A-Z0-9]", "", number.upper()).lstrip("0")


def candidates(reference: str) -> set[str]:
    """What in a reference may be an account's number: its words, and neighbours joined."""
    words = re.findall(r"[A-Z0-9]+", reference.upper())
    if len(words) == 1:
        return {normal(words[0])} - {""}
    found = {normal(word) for word in words if not _YEAR.fullmatch(word)}
    found = {each for each in found if len(each) >= _SHORTEST}
    joined = {
        normal("".join(words[start:end]))
        for start in range(len(words))
        for end in range(start + 2, min(start + _JOINED, len(words)) + 1)
    }
    return found | {each for each in joined if len(each) >= _SHORTEST_JOINED - (not each.isdigit())}


def invoice_numbers(reference: str) -> dict[str, str]:
    """Numbers of invoices that a reference may name, missing zeros put back, each with the text
    that it was."""
    return {
        f"{found[1]}-{int(found[2] or found[3]):06d}": found[0]
        for found in _INVOICE.finditer(reference)
    }


@dataclass(slots=True)
class Known:
    """What lines are held against: numbers and names of all accounts, and what they owe."""

    numbers: dict[int, str] = field(default_factory=dict)
    by_number: defaultdict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    by_name: defaultdict[tuple[str, ...], set[int]] = field(
        default_factory=lambda: defaultdict(set)
    )
    by_amount: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))

    def add(self, account_id: int, number: str, name: str, balance_minor: int) -> None:
        self.numbers[account_id] = number
        self.by_number[normal(number)].add(account_id)
        if words := _words(name):
            self.by_name[words].add(account_id)
        if balance_minor > 0:
            self.by_amount[balance_minor].add(account_id)

    def find(self, line: Incoming, of_invoice: Mapping[str, int]) -> tuple[Finding, int | None]:
        """What the line is, and the account that it belongs to or is proposed for."""
        rest = line.reference
        named: set[int] = set()
        for number, text in invoice_numbers(line.reference).items():
            if number in of_invoice:
                named.add(of_invoice[number])
                rest = rest.replace(text, " | ")
        for part in rest.split("|"):
            for each in candidates(part):
                named |= self.by_number.get(each, set())
        if len(named) == 1:
            return Finding.MATCHED, next(iter(named))
        if not named:
            for fitting in (
                self.by_name.get(_words(line.payer), set()),
                self.by_amount.get(line.amount_minor, set()),
            ):
                if len(fitting) == 1:
                    return Finding.PROPOSED, next(iter(fitting))
        return Finding.UNMATCHED, None


def _words(name: str) -> tuple[str, ...]:
    return tuple(sorted(search_terms.fold(name)))


def _read_known(session: Session) -> Known:
    known = Known()
    rows = session.execute(
        select(Account.id, Account.number, Account.name, Account.balance_minor)
    ).yield_per(5_000)
    for account_id, number, name, balance_minor in rows:
        known.add(account_id, number, name, balance_minor)
    open_items = session.execute(
        select(InvoiceBalance.account_id, InvoiceBalance.open_minor).where(
            InvoiceBalance.settled_at.is_(None)
        )
    ).yield_per(5_000)
    for account_id, open_minor in open_items:
        known.by_amount[open_minor].add(account_id)
    return known


def _accounts_of_invoices(session: Session, lines: Iterable[Incoming]) -> dict[str, int]:
    wanted = sorted({number for line in lines for number in invoice_numbers(line.reference)})
    found: dict[str, int] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        rows = session.execute(
            select(Invoice.number, Invoice.account_id).where(
                Invoice.number.in_(wanted[start : start + _AT_ONCE])
            )
        )
        found |= {row.number: row.account_id for row in rows}
    return found


# Importing ----------------------------------------------------------------------------------------


def import_file(
    content: bytes,
    file: BankFile,
    name: str,
    imported_by_id: int | None = None,
    on_line: Callable[[Imported], None] = lambda _line: None,
) -> None:
    """Book and keep what the file holds, one line at a time; one that breaks off is read again.

    `on_line` hears of each once it is committed.
    """
    isp = current_isp()
    session = db.session()
    known = _read_known(session)
    of_invoice = _accounts_of_invoices(session, file.incoming)
    import_id = unit_of_work(
        lambda session: _note_file(session, content, file, name, imported_by_id)
    )
    for line in file.incoming:
        if line.currency != isp.currency:
            on_line(Imported(line, Finding.OTHER_CURRENCY, ""))
            continue
        finding, account_id = known.find(line, of_invoice)
        became = _keep(import_id, line, finding, account_id)
        is_shown = account_id is not None and became is not Finding.KNOWN
        on_line(Imported(line, became, known.numbers.get(account_id or 0, "") if is_shown else ""))


def _note_file(
    session: Session, content: bytes, file: BankFile, name: str, imported_by_id: int | None
) -> int:
    digest = hashlib.sha256(content).digest()
    found = session.scalar(select(BankImport.id).where(BankImport.file_hash == digest))
    if found is not None:
        return found
    row = BankImport(
        public_id=ids.public_id(),
        file_hash=digest,
        file_name=name[:120],
        imported_by_id=imported_by_id,
        imported_at=clock.now(),
        line_count=len(file.incoming),
    )
    session.add(row)
    session.flush()
    return row.id


def _keep(import_id: int, line: Incoming, finding: Finding, account_id: int | None) -> Finding:
    """Keep a line, and book it where it was matched; what became of it."""
    is_matched = finding is Finding.MATCHED and account_id is not None

    def work(session: Session) -> Finding:
        named = _name(session, line)
        if named is None:
            return Finding.KNOWN
        is_sure = (named == line.key and not line.is_copy) or line.is_shared
        state = BankLineState.UNMATCHED
        if account_id is not None and not (is_matched and is_sure):
            state = BankLineState.PROPOSED
        row = BankLine(
            public_id=ids.public_id(),
            import_id=import_id,
            key=named,
            booked_on=line.booked_on,
            amount_minor=line.amount_minor,
            currency=line.currency,
            payer=line.payer,
            reference=line.reference,
            state=state.value,
            account_id=account_id,
        )
        session.add(row)
        session.flush()
        if is_matched and is_sure and account_id is not None:
            _book(session, row, account_id, None)
        return finding if is_sure else Finding.USED_BEFORE

    return unit_of_work(work, *([account_id] if is_matched and account_id is not None else []))


def _name(session: Session, line: Incoming) -> str | None:
    """The key under which a line is kept; None when it is there already."""
    held = session.scalar(select(BankLine).where(BankLine.key == line.key))
    if held is None:
        return line.key
    if not line.other_key or line.is_copy or _is_same(held, line):
        return None
    known = session.scalar(select(BankLine.id).where(BankLine.key == line.other_key))
    return None if known is not None else line.other_key


def _is_same(held: BankLine, line: Incoming) -> bool:
    """Whether a line of the same reference is the same money."""
    names = ("booked_on", "amount_minor", "currency", "payer", "reference")
    return all(getattr(held, name) == getattr(line, name) for name in names)


def _book(session: Session, row: BankLine, account_id: int, staff_id: int | None) -> None:
    zone = ZoneInfo(current_isp().timezone)
    noon = datetime.combine(row.booked_on, time(12), zone).astimezone(UTC)
    payment = booking.book_arrival(
        session,
        booking.Arrival(
            key=f"bank:{row.public_id}",
            account_id=account_id,
            gateway=booking.BANK,
            amount_minor=row.amount_minor,
            taken_by_id=staff_id,
            note=row.reference[:200],
        ),
        min(noon, clock.now()),
    )
    row.account_id = account_id
    row.payment_id = payment.id
    row.decided_by_id = staff_id
    row.state = BankLineState.MATCHED.value
    session.flush()


# What staff decide --------------------------------------------------------------------------------


def assign(public_id: str, account_number: str, staff_id: int, key: ArrivedKey, path: str) -> str:
    """Book a line on the account of this number; the same form twice counts once. Returns `path`.
    Raises NotFound for the line, AccountUnknown, DecidedBefore."""
    _line_id(public_id)
    account_id = _find_account(account_number.strip())
    if account_id is None:
        raise AccountUnknown
    current_isp()  # read now: asking within the unit would take a second connection meanwhile

    def work(session: Session) -> str:
        _book(session, _take_open(session, public_id), account_id, staff_id)
        return path

    return form_keys.once(key, work, account_id)


def _find_account(number: str) -> int | None:
    """The account of this number, with gaps, signs and leading zeros or without."""
    bare = re.sub(r"[^A-Za-z0-9]", "", number)
    found = db.session.execute(
        select(Account.id, Account.number).where(
            Account.number.in_({number, bare, bare.upper(), normal(number)})
        )
    ).all()
    exact = [row.id for row in found if row.number == number]
    fitting = exact or [row.id for row in found]
    return fitting[0] if len(fitting) == 1 else None


def ignore(public_id: str, staff_id: int, key: ArrivedKey, path: str) -> str:
    """Say that a line is no customer's payment; it can be booked later all the same. Returns
    `path`. Raises NotFound, and DecidedBefore for one that was booked."""
    _line_id(public_id)

    def work(session: Session) -> str:
        row = _take_open(session, public_id)
        row.state = BankLineState.IGNORED.value
        row.account_id = None
        row.decided_by_id = staff_id
        return path

    return form_keys.once(key, work)


def _line_id(public_id: str) -> int:
    found = db.session.scalar(select(BankLine.id).where(BankLine.public_id == public_id))
    if found is None:
        raise NotFound
    return found


def _take_open(session: Session, public_id: str) -> BankLine:
    row = session.scalars(
        select(BankLine).where(BankLine.public_id == public_id).with_for_update()
    ).one()
    if row.state == BankLineState.MATCHED:
        raise DecidedBefore
    return row
