"""Reading what a bank says arrived on the ISP's account: CSV with a column map, or ISO 20022
camt.053.

Pure: nothing here knows the database. Banks do not keep their references unique, so what a line
says decides with them whether it is a new one. Money that left the account, and what is only
announced, is passed over. XML is read without a document type, so that nothing in it is expanded or
fetched.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from core.money import AmountUnreadable, parse_money

MAX_BYTES = 50_000_000
COLUMNS = ("date", "amount", "payer", "reference", "key", "currency", "account")
NEEDED = ("date", "amount")
AGAIN = "again:"
_NO_REFERENCES = ("", "NONREF", "NOREF", "NOTPROVIDED", "NOTAVAILABLE")
"""What banks write where they have none."""
_LONGEST_ACCOUNT, _LONGEST_OWN = 40, 66
_ORDERS = {"dmy": "%d.%m.%Y", "mdy": "%m.%d.%Y", "ymd": "%Y.%m.%d"}


class FileUnreadable(Exception):
    """The file cannot be read as a whole; nothing of it was taken. The text says why."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """Money that arrived. `key` is the bank's own reference of it, or else what makes it one of a
    kind: its content, and how many of the same came before it in the file.

    `other_key` is its name where the reference was used for other money before; empty where there
    is no reference. `is_shared`: the file itself uses the reference for different lines.
    `is_copy`: a line before it in the file has the same reference and content.
    """

    key: str
    booked_on: date
    amount_minor: int
    currency: str
    payer: str
    reference: str
    other_key: str = ""
    is_shared: bool = False
    is_copy: bool = False


_Read = tuple[str, str, Incoming] | None
"""The bank account, the bank's reference and the line without its names; None was passed over."""


@dataclass(frozen=True, slots=True)
class BankFile:
    """What a file holds: money that arrived, and how many lines were passed over."""

    incoming: list[Incoming]
    passed_over: int


def read(
    content: bytes, currency: str, columns: Mapping[str, str], day_order: str = "ymd"
) -> BankFile:
    """The file, whichever it is. `columns` says which column of a CSV is what (COLUMNS); `currency`
    is of lines that do not name theirs. Raises FileUnreadable."""
    if len(content) > MAX_BYTES:
        raise FileUnreadable("it is larger than 50 MB: this is no statement of a bank")
    if content.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        return _named(_camt(content))
    return _named(_csv(content, currency, columns, day_order))


def _named(lines: Iterator[_Read]) -> BankFile:
    """Give the lines their names."""
    read_lines = list(lines)
    found = [line for line in read_lines if line is not None]
    contents: defaultdict[str, set[str]] = defaultdict(set)
    for account, own, line in found:
        contents[_reference_key(account, own)].add(_content(account, line))
    seen: Counter[tuple[str, str]] = Counter()
    incoming: list[Incoming] = []
    for account, own, line in found:
        key, content = _reference_key(account, own), _content(account, line)
        seen[key, content] += 1
        number = seen[key, content]
        if not key:
            incoming.append(replace(line, key=f"content:{content}:{number}"))
            continue
        other_key = f"{AGAIN}{_digest((key, content))}:{number}"
        is_copy = number > 1
        incoming.append(
            replace(
                line,
                key=other_key if is_copy else key,
                other_key=other_key,
                is_shared=len(contents[key]) > 1,
                is_copy=is_copy,
            )
        )
    return BankFile(incoming, len(read_lines) - len(found))


def _reference_key(account: str, own: str) -> str:
    """The bank's own name for a line, within the account; empty where it gives none."""
    if not own:
        return ""
    return f"bank:{account}:{own}" if account else f"bank:{own}"


def _own(text: str) -> str:
    """The reference that a bank writes; empty where it says that there is none."""
    bare = re.sub(r"[\W_]", "", text).upper()
    is_one = bare not in _NO_REFERENCES and bare.strip("0")
    return _tidy(text, _LONGEST_OWN) if is_one else ""


def _content(account: str, line: Incoming) -> str:
    return _digest(
        (account, line.booked_on, line.amount_minor, line.currency, line.payer, line.reference)
    )


def _digest(facts: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:40]


def _tidy(text: str, longest: int) -> str:
    return " ".join(text.replace("\0", " ").split())[:longest]


# CSV ----------------------------------------------------------------------------------------------


def _csv(
    content: bytes, currency: str, columns: Mapping[str, str], day_order: str
) -> Iterator[_Read]:
    text = _decoded(content)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text))
    try:
        header = [cell.strip() for cell in next(rows)]
        place = {name: _place_of(header, columns.get(name, name), name) for name in COLUMNS}
        for row in rows:
            if any(cell.strip() for cell in row):
                yield _csv_line(row, place, currency, day_order, rows.line_num)
    except StopIteration:
        raise FileUnreadable("it is empty") from None
    except csv.Error as error:
        raise FileUnreadable(f"line {rows.line_num}: {error}") from None


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")


def _delimiter(text: str) -> str:
    first = text.split("\n", 1)[0]
    return max(",;\t", key=first.count)


def _place_of(header: list[str], column: str, name: str) -> int | None:
    for place, found in enumerate(header):
        if found.casefold() == column.casefold():
            return place
    if name in NEEDED:
        raise FileUnreadable(
            f"it has no column {column!r} for the {name}; its columns are {', '.join(header)}. "
            f"Say which one it is with --map {name}=COLUMN"
        )
    return None


def _csv_line(
    row: list[str], place: Mapping[str, int | None], currency: str, day_order: str, number: int
) -> _Read:
    def cell(name: str) -> str:
        at = place[name]
        return row[at].strip() if at is not None and at < len(row) else ""

    in_currency = cell("currency").upper() or currency
    try:
        amount_minor = parse_money(cell("amount"), in_currency)
    except (AmountUnreadable, LookupError):
        raise FileUnreadable(f"line {number}: {cell('amount')!r} is no amount") from None
    booked_on = _day(cell("date"), day_order)
    if booked_on is None:
        raise FileUnreadable(f"line {number}: {cell('date')!r} is no day; see --days")
    if amount_minor <= 0:
        return None
    payer, reference = _tidy(cell("payer"), 200), _tidy(cell("reference"), 400)
    line = Incoming("", booked_on, amount_minor, in_currency, payer, reference)
    return _tidy(cell("account"), _LONGEST_ACCOUNT), _own(cell("key")), line


def _day(text: str, order: str) -> date | None:
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        pass
    try:
        return datetime.strptime(re.sub(r"[/-]", ".", text), _ORDERS[order]).date()  # noqa: DTZ007
    except ValueError:
        return None


# camt.053 -----------------------------------------------------------------------------------------


def _camt(content: bytes) -> Iterator[_Read]:
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import fromstring

    try:
        root = fromstring(content, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise FileUnreadable(f"it is no XML that can be read: {error}") from None
    statements = [found for found in root.iter() if _name(found) == "Stmt"]
    if not statements:
        raise FileUnreadable("it holds no statement (Stmt): camt.053 is what can be read")
    for statement in statements:
        account = _text(statement, "Acct", "Id", "IBAN") or _text(
            statement, "Acct", "Id", "Othr", "Id"
        )
        account = _tidy(account, _LONGEST_ACCOUNT)
        for entry in _children(statement, "Ntry"):
            yield from _entry(entry, account)


def _entry(entry: Any, account: str) -> Iterator[_Read]:
    """What arrived with one entry: each of its transactions, or the entry as a whole where they do
    not say their amounts."""
    state = _text(entry, "Sts", "Cd") or _text(entry, "Sts")
    is_credit = _text(entry, "CdtDbtInd") == "CRDT" and _text(entry, "RvslInd") != "true"
    if not is_credit or state not in ("BOOK", ""):
        yield None
        return
    whole = _amount(entry)
    if whole is None:
        raise FileUnreadable("an entry has no amount")
    day = _text(entry, "BookgDt", "Dt") or _text(entry, "BookgDt", "DtTm")
    booked_on = _day(day, "ymd")
    if booked_on is None:
        raise FileUnreadable(f"{day!r} is no day of booking")
    reference = _own(_text(entry, "AcctSvcrRef"))
    details = [
        transaction
        for group in _children(entry, "NtryDtls")
        for transaction in _children(group, "TxDtls")
    ]
    amounts = [_amount(transaction) or _amount_of_details(transaction) for transaction in details]
    known = [amount[0] for amount in amounts if amount is not None]
    if len(details) < 2 or len(known) < len(details) or sum(known) != whole[0]:
        details, amounts = details[:1] or [entry], [whole]
    for number, (transaction, amount) in enumerate(zip(details, amounts, strict=True), start=1):
        if amount is not None:
            payer, words = _tidy(_payer(transaction), 200), _tidy(_words(entry, transaction), 400)
            own = _own(_text(transaction, "Refs", "AcctSvcrRef")) or reference
            own += f":{number}" if own and len(details) > 1 else ""
            yield account, own, Incoming("", booked_on, *amount, payer, words)


def _payer(transaction: Any) -> str:
    return _text(transaction, "RltdPties", "Dbtr", "Nm") or _text(
        transaction, "RltdPties", "Dbtr", "Pty", "Nm"
    )


def _words(entry: Any, transaction: Any) -> str:
    """All that says what it is for."""
    parts = []
    for information in _children(transaction, "RmtInf"):
        parts += [_own_text(part) for part in _children(information, "Ustrd")]
        for structured in _children(information, "Strd"):
            parts.append(_text(structured, "CdtrRefInf", "Ref"))
            parts += [_text(part, "Nb") for part in _children(structured, "RfrdDocInf")]
    end_to_end = _text(transaction, "Refs", "EndToEndId")
    parts.append("" if end_to_end == "NOTPROVIDED" else end_to_end)
    parts.append(_text(transaction, "AddtlTxInf"))
    if not any(parts):
        parts.append(_text(entry, "AddtlNtryInf"))
    return " ".join(part for part in parts if part)


def _amount_of_details(transaction: Any) -> tuple[int, str] | None:
    for details in _children(transaction, "AmtDtls"):
        for kind in _children(details, "TxAmt"):
            return _amount(kind)
    return None


def _amount(element: Any) -> tuple[int, str] | None:
    for found in _children(element, "Amt"):
        currency = str(found.get("Ccy", "")).upper()
        try:
            return parse_money(_own_text(found), currency), currency
        except (AmountUnreadable, LookupError):
            raise FileUnreadable(f"{_own_text(found)!r} is no amount") from None
    return None


def _name(element: Any) -> str:
    """The name of an element in whichever version of the namespace."""
    return str(element.tag).rpartition("}")[2]


def _children(element: Any, name: str) -> list[Any]:
    return [child for child in element if _name(child) == name]


def _own_text(element: Any) -> str:
    return (element.text or "").strip()


def _text(element: Any, *path: str) -> str:
    """The text of the first element at the path; empty where there is none."""
    for name in path:
        found = _children(element, name)
        if not found:
            return ""
        element = found[0]
    return _own_text(element)
