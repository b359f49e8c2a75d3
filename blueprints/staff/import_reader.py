"""Reading the export of an ISP's old billing: CSV in, checked rows or refusals out.

Pure and streaming: nothing here knows the database, and never more than one record is held. What
the catalog knows (plans, areas, languages) comes in through `Rules`. Whether an account number or
a line username is taken is not this module's question.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import BinaryIO, TypeVar

import phonenumbers
from email_validator import EmailNotValidError, validate_email

from blueprints.staff.errors import ImportImpossible
from core.money import AmountUnreadable, parse_money
from core.phones import find_phone
from models import PlanKind

T = TypeVar("T")

COLUMNS = (
    "account_number",
    "name",
    "email",
    "phone",
    "street",
    "city",
    "region",
    "postcode",
    "country",
    "language",
    "plan_code",
    "add_on_codes",
    "line_username",
    "status",
    "activated_on",
    "bill_day",
    "opening_balance",
    "area",
)
# What a file of refused rows has in front of them; read back, these columns are passed over.
REFUSAL_COLUMNS = ("line", "column", "reason")

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
MAX_LINE_BYTES = 65_536
MAX_RECORD_LINES = 20  # a record that goes on longer is a quote that was never closed
MAX_CELL = 1000
_MAX_LENGTHS = {
    "account_number": 40,
    "name": 200,
    "email": 254,
    "phone": 40,
    "street": 200,
    "city": 80,
    "region": 60,
    "postcode": 20,
    "line_username": 120,
}
STATUSES = ("active", "suspended", "closed")
# Where people write the month before the day: the United States and what follows their habit.
_MONTH_FIRST = frozenset({"US", "AS", "FM", "GU", "MH", "MP", "PH", "PR", "PW", "UM", "VI"})
_ISO_DAY = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})(?:[ T][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?)?"
)
_SLASHED_DAY = re.compile(r"([0-9]{1,2})/([0-9]{1,2})/([0-9]{4})")
_FIRST_YEAR, _LAST_YEAR = 1900, 2199


# What comes out ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlanRule:
    """What the reader needs to know of a plan."""

    code: str
    kind: str
    requires: tuple[str, ...] = ()
    requires_kind: str | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What a row is checked against. `country` is the ISP's own, taken where a row has none."""

    plans: Mapping[str, PlanRule]
    areas: frozenset[str]
    languages: tuple[str, ...]
    currency: str
    country: str


@dataclass(frozen=True, slots=True)
class AccountRow:
    """One row in its final form: phone in E.164, amounts in minor units, texts in NFC."""

    number: str
    name: str
    email: str | None
    phone: str | None
    address: dict[str, str] | None
    language: str
    plan_codes: tuple[str, ...]
    username: str
    status: str
    activated_on: date
    bill_day: int
    opening_minor: int
    area_code: str | None
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row is refused: the column to look at, the reason in few words and in a sentence."""

    column: str
    reason: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it stands in the file; `line` is the physical line where it starts, from 1.

    `cells` are verbatim, without the columns of an earlier refusal; `end_offset` is how many bytes
    of the file have been read after it.
    """

    line: int
    cells: tuple[str, ...]
    end_offset: int
    outcome: AccountRow | Refusal


class _Refused(Exception):
    def __init__(self, column: str, reason: str, sentence: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(column, reason, sentence)


# The file ------------------------------------------------------------------------------------


class Lines:
    """The physical lines of a file, with push-back: a record that goes wrong returns its lines."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._waiting: deque[bytes] = deque()
        self.line = 0  # of the line last taken
        self.offset = 0
        first = self._read()
        if first.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ImportImpossible("the file is in UTF-16: save it as UTF-8")
        if first:
            self._waiting.append(first.removeprefix(BYTE_ORDER_MARK))

    def _read(self) -> bytes:
        read = self._file.readline(MAX_LINE_BYTES + 1)
        if len(read) > MAX_LINE_BYTES:
            raise ImportImpossible(
                f"line {self.line + 1} is longer than {MAX_LINE_BYTES} bytes: "
                "this does not look like a CSV file"
            )
        return read

    def take(self) -> bytes:
        """The next line, empty at the end. Raises ImportImpossible when it is too long."""
        taken = self._waiting.popleft() if self._waiting else self._read()
        if taken:
            self.line += 1
            self.offset += len(taken)
        return taken

    def give_back(self, lines: Sequence[bytes]) -> None:
        self._waiting.extendleft(reversed(lines))
        self.line -= len(lines)
        self.offset -= sum(len(line) for line in lines)


def _decode(line: bytes) -> str:
    # Bytes that are not UTF-8 survive as lone surrogates: their row is refused and written back.
    return line.decode("utf-8", "surrogateescape")


def next_cells(lines: Lines) -> tuple[int, list[str], bool] | None:
    """The next record as (first line, cells, whether its quotes are sound), None at the end.

    A record whose quotes are not sound consists of its first line alone.
    """
    first = lines.line + 1
    taken: list[bytes] = []

    def feed() -> Iterator[str]:
        while len(taken) < MAX_RECORD_LINES and (line := lines.take()):
            taken.append(line)
            yield _decode(line)

    try:
        return first, next(csv.reader(feed(), strict=True)), True
    except StopIteration:
        return None
    except csv.Error:
        lines.give_back(taken[1:])
        return first, [_decode(taken[0]).rstrip("\r\n")], False


class Export:
    """An export opened for reading. Iterating gives every record in order, without blank lines.

    `columns` are the names of COLUMNS in the order of this file. Raises ImportImpossible, at once
    or while iterating, when the file as a whole cannot be read.
    """

    def __init__(self, file: BinaryIO, rules: Rules) -> None:
        self._lines = Lines(file)
        self._rules = rules
        names = self._read_header()
        self._places = [names.index(name) for name in COLUMNS]
        self._dropped = {place for place, name in enumerate(names) if name in REFUSAL_COLUMNS}
        self._width = len(names)
        self.columns = tuple(name for name in names if name in COLUMNS)

    def _read_header(self) -> list[str]:
        record = next_cells(self._lines)
        names = [name.strip().lower() for name in record[1]] if record else []
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            hint = " (columns are separated by commas)" if len(names) < 2 else ""
            raise ImportImpossible(
                f"the first line must name the columns{hint}; missing: {', '.join(missing)}"
            )
        strange = [name for name in names if name not in (*COLUMNS, *REFUSAL_COLUMNS)]
        if strange:
            raise ImportImpossible(
                "the first line names columns that are not known; remove them from the file: "
                + ", ".join(name or "(one without a name)" for name in strange)
            )
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ImportImpossible(f"the first line names a column twice: {', '.join(twice)}")
        return names

    def __iter__(self) -> Iterator[Record]:
        while (record := next_cells(self._lines)) is not None:
            line, cells, is_sound = record
            if not any(cell.strip() for cell in cells):
                continue
            outcome: AccountRow | Refusal
            try:
                outcome = _read_cells(cells, is_sound, self._places, self._width, self._rules)
            except _Refused as refused:
                outcome = refused.refusal
            if self._dropped and is_sound:
                cells = [cell for place, cell in enumerate(cells) if place not in self._dropped]
            yield Record(line, tuple(cells), self._lines.offset, outcome)


def _read_cells(
    cells: list[str], is_sound: bool, places: Sequence[int], width: int, rules: Rules
) -> AccountRow:
    if not is_sound:
        raise _Refused(
            "", "malformed quotes", "A quotation mark is not closed, or stands inside a cell."
        )
    if len(cells) != width:
        raise _Refused(
            "",
            "wrong number of columns",
            f"The row has {len(cells)} columns instead of {width}.",
        )
    texts = {}
    for column, place in zip(COLUMNS, places, strict=True):
        text = unicodedata.normalize("NFC", cells[place].strip())
        if not text.isprintable():
            text = _readable(column, text)
        if len(text) > _MAX_LENGTHS.get(column, MAX_CELL):
            limit = _MAX_LENGTHS.get(column, MAX_CELL)
            raise _Refused(column, "too long", f"The cell holds more than {limit} characters.")
        texts[column] = text
    return _read_row(texts, rules)


def _readable(column: str, text: str) -> str:
    """The text with line breaks and tabs made plain, where they can have been meant."""
    if column == "street":
        text = "\n".join(line for part in text.splitlines() if (line := " ".join(part.split())))
    elif column in ("name", "city", "region"):
        text = " ".join(part for part in re.split(r"[\r\n\t]+", text) if part)
    for character in text:
        kind = unicodedata.category(character)
        if kind == "Cs":
            raise _Refused(column, "not UTF-8", "The cell holds bytes that are not UTF-8 text.")
        if kind in ("Cc", "Zl", "Zp") and not (character == "\n" and column == "street"):
            raise _Refused(
                column,
                "unreadable character",
                "The cell holds a line break, tab or control character.",
            )
    return text


# A row ---------------------------------------------------------------------------------------


def _read_row(texts: Mapping[str, str], rules: Rules) -> AccountRow:
    def required(column: str, what: str) -> str:
        if not texts[column]:
            raise _Refused(column, f"missing {what}", f"Each account needs its {what}.")
        return texts[column]

    def read(column: str, reader: Callable[..., T], *more: object) -> T:
        try:
            return reader(texts[column], *more)
        except Unreadable as error:
            raise _Refused(column, error.reason, error.sentence) from None

    number = required("account_number", "account number")
    name = required("name", "name")
    country = read("country", read_country, rules.country)
    email = read("email", read_email) if texts["email"] else None
    phone = read("phone", read_phone, country) if texts["phone"] else None
    plan = read("plan_code", read_plan, rules.plans)
    add_ons = read("add_on_codes", read_add_ons, plan, rules.plans)
    language = texts["language"].lower() or rules.languages[0]
    warnings = list_missing_requirements((plan, *add_ons), rules.plans)
    if language not in rules.languages:
        language = rules.languages[0]
        warnings = (*warnings, f"language {texts['language']} is not offered, {language} is used")
    return AccountRow(
        number=number,
        name=name,
        email=email,
        phone=phone,
        address=_read_address(texts, country),
        language=language,
        plan_codes=(plan, *add_ons),
        username=required("line_username", "line username"),
        status=read("status", read_status),
        activated_on=read("activated_on", read_day, rules.country in _MONTH_FIRST),
        bill_day=read("bill_day", read_bill_day),
        opening_minor=read("opening_balance", read_amount, rules.currency, rules.languages[0]),
        area_code=read("area", read_area, rules.areas),
        warnings=warnings,
    )


def _read_address(texts: Mapping[str, str], country: str) -> dict[str, str] | None:
    parts = {part: texts[part] for part in ("street", "city", "region", "postcode")}
    return parts | {"country": country} if any(parts.values()) else None


def list_missing_requirements(
    codes: Sequence[str], plans: Mapping[str, PlanRule]
) -> tuple[str, ...]:
    """What the catalog would ask for beside `codes`; it binds changes, not what is imported."""
    kinds = {plans[code].kind for code in codes}
    missing = []
    for code in codes:
        plan = plans[code]
        missing += [f"{code} without {needed}" for needed in plan.requires if needed not in codes]
        if plan.requires_kind is not None and plan.requires_kind not in kinds:
            missing.append(f"{code} without a plan of kind {plan.requires_kind}")
    return tuple(missing)


# Cells ---------------------------------------------------------------------------------------


class Unreadable(ValueError):
    """A cell cannot be taken as it is: the reason in few words, and a sentence with a way out."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(reason)
        self.reason, self.sentence = reason, sentence


def read_country(text: str, default: str) -> str:
    """A country as two capitals. Raises Unreadable."""
    country = text.upper() or default
    if country and country not in phonenumbers.SUPPORTED_REGIONS:
        raise Unreadable("unknown country", f"{text!r} is no country in two letters, like US.")
    return country


def read_email(text: str) -> str:
    """An e-mail address in lower case; whether it receives mail is not asked. Raises Unreadable."""
    try:
        return validate_email(text, check_deliverability=False).normalized.lower()
    except EmailNotValidError:
        raise Unreadable("invalid email", f"{text!r} is no e-mail address.") from None


def read_phone(text: str, country: str) -> str:
    """A phone number in E.164, as dialled within `country` or with +. Raises Unreadable."""
    found = find_phone(text, country)
    if found is None:
        raise Unreadable("invalid phone", f"{text!r} is no phone number that can be called.")
    return found


def read_plan(text: str, plans: Mapping[str, PlanRule]) -> str:
    """The code of a plan in the catalog. Raises Unreadable."""
    if text not in plans:
        raise Unreadable("unknown plan", f"The catalog has no plan {text!r}.")
    return text


def read_add_ons(text: str, plan: str, plans: Mapping[str, PlanRule]) -> tuple[str, ...]:
    """The codes between semicolons; a second internet plan is no add-on. Raises Unreadable."""
    codes = tuple(code for part in text.split(";") if (code := part.strip()))
    for code in codes:
        if code not in plans:
            raise Unreadable("unknown add-on", f"The catalog has no plan {code!r}.")
        if plans[code].kind == plans[plan].kind == PlanKind.INTERNET and code != plan:
            raise Unreadable(
                "unknown add-on", f"{code!r} is an internet plan, like the plan itself."
            )
    if len({plan, *codes}) != 1 + len(codes):
        raise Unreadable("repeated add-on", "An add-on is named twice.")
    return codes


def read_status(text: str) -> str:
    """One of STATUSES. Raises Unreadable."""
    status = text.lower()
    if status not in STATUSES:
        raise Unreadable("unknown status", f"{text!r} is none of active, suspended and closed.")
    return status


def read_day(text: str, is_month_first: bool) -> date:
    """A day as 2024-02-29, with or without a time, or as 02/29/2024. Raises Unreadable."""
    parts = None
    if found := _ISO_DAY.fullmatch(text):
        parts = found[1], found[2], found[3]
    elif found := _SLASHED_DAY.fullmatch(text):
        parts = (found[3], found[1], found[2]) if is_month_first else (found[3], found[2], found[1])
    if parts is not None and _FIRST_YEAR <= int(parts[0]) <= _LAST_YEAR:
        try:
            return date(int(parts[0]), int(parts[1]), int(parts[2]))
        except ValueError:
            pass
    example = "09/30/2024" if is_month_first else "30/09/2024"
    raise Unreadable(
        "impossible date", f"{text!r} is no day. Write it like 2024-09-30 or {example}."
    )


def read_bill_day(text: str) -> int:
    """The day of the month on which a bill period begins, 1 to 31. Raises Unreadable."""
    if not re.fullmatch(r"[0-9]{1,2}", text) or not 1 <= int(text) <= 31:
        raise Unreadable("bill day out of range", f"{text!r} is no day of a month, from 1 to 31.")
    return int(text)


def read_amount(text: str, currency: str, language: str) -> int:
    """Minor units; empty is zero, and an amount in brackets is negative. Raises Unreadable."""
    if not text:
        return 0
    try:
        return parse_money(text, currency, language)
    except AmountUnreadable:
        raise Unreadable(
            "malformed amount",
            f"{text!r} is no amount of {currency}. Write it like 1204.00 or -12.50.",
        ) from None


def read_area(text: str, areas: Collection[str]) -> str | None:
    """The code of an area in the catalog, or None where there is none. Raises Unreadable."""
    if text and text not in areas:
        raise Unreadable("unknown area", f"The catalog has no area {text!r}.")
    return text or None
