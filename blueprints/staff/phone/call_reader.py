"""Reading a file of call records: CSV in, checked rows or refusals out.

Pure and streaming: nothing here knows the database. Whether a number is somebody's is not this
module's question.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import BinaryIO
from zoneinfo import ZoneInfo

from flask_babel import gettext as _

from blueprints.staff.errors import ImportImpossible
from blueprints.staff.import_reader import REFUSAL_COLUMNS, Lines, Refusal, next_cells
from core.money import AmountUnreadable, parse_money
from core.phones import find_phone

NEEDED = ("number", "direction", "other", "started_at", "seconds")
COLUMNS = (*NEEDED, "amount", "id")
LONGEST_SECONDS = 7 * 86_400
AHEAD = timedelta(days=1)
"""How far the clock of a switch may go ahead."""
_OUT = {"out", "outgoing", "outbound"}
_IN = {"in", "incoming", "inbound"}
_HIDDEN = {"", "anonymous", "unknown", "private", "restricted", "unavailable", "withheld"}
_DIALLED = re.compile(r"[0-9+*#(][0-9*#()./ \-]{0,39}")
_WITH_TIME = re.compile(r"[0-9-]{8,10}[T ][0-9]{2}:?[0-9]{2}")
"""A day alone would be its midnight."""
_LONGEST_ID = 200


@dataclass(frozen=True, slots=True)
class Rules:
    """What a row is checked against: calls began from `oldest_at` until `newest_at`, and none costs
    more than `dearest_minor`."""

    country: str
    currency: str
    timezone: str
    oldest_at: datetime
    newest_at: datetime
    dearest_minor: int


@dataclass(frozen=True, slots=True)
class CallRow:
    """One call in its final form. `own_id` is the switch's name of it, empty where it has none."""

    number: str
    is_out: bool
    other: str
    started_at: datetime
    seconds: int
    amount_minor: int
    own_id: str

    @property
    def key(self) -> str:
        """What makes it one of a kind. The two ends of a call may share the switch's id of it."""
        if not self.own_id:
            return self.content_key
        return _digest("id", self.own_id, self.number, self.is_out)

    @property
    def content_key(self) -> str:
        """The same for calls of which the same is known, whether they have an id or not."""
        began = self.started_at.astimezone(UTC).isoformat()
        return _digest("content", self.number, self.is_out, self.other, began, self.seconds)


@dataclass(frozen=True, slots=True)
class CallLine:
    """One record as it stands in the file; `cells` are verbatim, without those of an earlier
    refusal."""

    line: int
    cells: tuple[str, ...]
    outcome: CallRow | Refusal


def _digest(*facts: object) -> str:
    text = "\0".join(str(fact) for fact in facts)
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class _Refused(Exception):
    def __init__(self, column: str, reason: str, sentence: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(column, reason, sentence)


class CallFile:
    """A file opened for reading. Iterating gives every record in order, without blank lines.

    `columns` are its columns without those of an earlier refusal. Raises ImportImpossible, at once
    or while iterating, when the file as a whole cannot be read.
    """

    def __init__(self, file: BinaryIO, rules: Rules) -> None:
        self._lines = Lines(file)
        self._rules = rules
        record = next_cells(self._lines)
        self._names = [name.strip().lower() for name in record[1]] if record else []
        self._check_header()
        self.columns = tuple(name for name in self._names if name not in REFUSAL_COLUMNS)

    def _check_header(self) -> None:
        missing = [name for name in NEEDED if name not in self._names]
        if missing:
            raise ImportImpossible(
                _(
                    "The first line must name the columns. Missing: %(names)s",
                    names=", ".join(missing),
                )
            )
        known = (*COLUMNS, *REFUSAL_COLUMNS)
        wrong = sorted({name for name in self._names if name not in known})
        wrong += sorted({name for name in self._names if self._names.count(name) > 1})
        if wrong:
            raise ImportImpossible(
                _(
                    "The first line names columns that are not known, or twice: %(names)s",
                    names=", ".join(name or "?" for name in wrong),
                )
            )

    def __iter__(self) -> Iterator[CallLine]:
        while (record := next_cells(self._lines)) is not None:
            line, cells, is_sound = record
            if not any(cell.strip() for cell in cells):
                continue
            outcome: CallRow | Refusal
            try:
                outcome = self._read(cells, is_sound)
            except _Refused as refused:
                outcome = refused.refusal
            if is_sound:
                cells = [
                    cell
                    for place, cell in enumerate(cells)
                    if place >= len(self._names) or self._names[place] not in REFUSAL_COLUMNS
                ]
            yield CallLine(line, tuple(cells), outcome)

    def _read(self, cells: Sequence[str], is_sound: bool) -> CallRow:
        if not is_sound:
            raise _Refused(
                "",
                "malformed quotes",
                _("A quotation mark is not closed, or stands inside a cell."),
            )
        if len(cells) != len(self._names):
            raise _Refused(
                "",
                "wrong number of columns",
                _(
                    "The row has %(found)s columns instead of %(wanted)s.",
                    found=len(cells),
                    wanted=len(self._names),
                ),
            )
        texts = dict.fromkeys(COLUMNS, "") | {
            name: _bare(cell) for name, cell in zip(self._names, cells, strict=True)
        }
        return _read_row(texts, self._rules)


def _read_row(texts: dict[str, str], rules: Rules) -> CallRow:
    is_out = _direction(texts["direction"])
    return CallRow(
        _number(texts["number"], rules.country),
        is_out,
        _other(texts["other"], rules.country, is_out=is_out),
        _started_at(texts["started_at"], rules),
        _seconds(texts["seconds"]),
        _amount(texts["amount"], rules),
        _own_id(texts["id"]),
    )


def _bare(cell: str) -> str:
    """A cell without the sign that keeps a spreadsheet from taking it for a formula."""
    text = cell.strip()
    return text[1:] if text.startswith(("'+", "'-", "'=", "'@")) else text


def _number(text: str, country: str) -> str:
    found = find_phone(text, country)
    if found is None:
        raise _Refused(
            "number", "no number", _("%(text)s is no telephone number.", text=repr(text[:40]))
        )
    return found


def _direction(text: str) -> bool:
    if text.lower() in _OUT:
        return True
    if text.lower() in _IN:
        return False
    raise _Refused("direction", "no direction", _("The direction is neither in nor out."))


def _other(text: str, country: str, *, is_out: bool) -> str:
    if text.lower() in _HIDDEN:
        if is_out:
            raise _Refused("other", "nobody called", _("A call out must say whom it went to."))
        return ""
    if not _DIALLED.fullmatch(text):
        raise _Refused(
            "other", "no number", _("%(text)s is no telephone number.", text=repr(text[:40]))
        )
    return find_phone(text, country) or re.sub(r"[^0-9+*#]", "", text)


def _started_at(text: str, rules: Rules) -> datetime:
    try:
        found = datetime.fromisoformat(text if _WITH_TIME.match(text) else "")
    except ValueError:
        raise _Refused(
            "started_at",
            "no time",
            _("Write when the call began like 2026-03-31T14:05:09-07:00."),
        ) from None
    if found.tzinfo is None:
        found = _at_isp(found, rules.timezone)
    try:
        found = found.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        found = datetime.max.replace(tzinfo=UTC)
    if found > rules.newest_at:
        raise _Refused("started_at", "in the future", _("The call has not begun yet."))
    if found < rules.oldest_at:
        raise _Refused("started_at", "too old", _("The call is older than call records are kept."))
    return found


def _at_isp(found: datetime, timezone: str) -> datetime:
    """A time without its zone is the ISP's. Twice a year an hour is twice, or not at all."""
    zone = ZoneInfo(timezone)
    first, second = found.replace(tzinfo=zone), found.replace(tzinfo=zone, fold=1)
    if first.utcoffset() != second.utcoffset():
        raise _Refused(
            "started_at",
            "ambiguous time",
            _("The clock was changed in this hour. Write the time with its zone, like -07:00."),
        )
    return first


def _seconds(text: str) -> int:
    if re.fullmatch(r"[0-9]{1,6}", text) and int(text) <= LONGEST_SECONDS:
        return int(text)
    raise _Refused("seconds", "no length", _("Write the length in whole seconds."))


def _amount(text: str, rules: Rules) -> int:
    if not text:
        return 0
    try:
        minor = parse_money(text, rules.currency)
    except AmountUnreadable:
        minor = -1
    if minor > rules.dearest_minor:
        raise _Refused("amount", "too dear", _("No single call costs so much."))
    if minor < 0:
        raise _Refused(
            "amount",
            "no amount",
            _("Write what the call costs like 1.25, with no more decimals than the currency has."),
        )
    return minor


def _own_id(text: str) -> str:
    if len(text) > _LONGEST_ID:
        raise _Refused("id", "too long", _("The id is longer than 200 characters."))
    return text
