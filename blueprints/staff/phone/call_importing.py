"""Importing call records: by `flask calls import`, and on the page of staff."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from flask_babel import gettext as _
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from blueprints.lines.phone import calls
from blueprints.lines.phone.calls import Became, Call
from blueprints.staff.errors import ImportImpossible
from blueprints.staff.import_reader import REFUSAL_COLUMNS, Refusal
from blueprints.staff.phone.call_reader import AHEAD, CallFile, CallLine, CallRow, Rules
from blueprints.staff.rejected_file import RejectedFile
from core import activity, clock, form_keys, ids
from core.db import db, unit_of_work
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.phones import default_country
from models import CallImport, CallRecord, PhoneNumber, Subscription

AT_ONCE = 20
"""Calls in one unit of work: it holds up whoever changes something of their accounts."""


@dataclass(slots=True)
class CallsImported:
    """What became of a file."""

    kept: int = 0
    known: int = 0
    refused: int = 0
    rejected_path: Path | None = None
    rows: list[list[str]] = field(default_factory=list)


OnRefusal = Callable[[CallLine, Refusal], None]


def read_rules() -> Rules:
    """What the ISP's calls are checked against."""
    isp = current_isp()
    return Rules(
        default_country(isp.timezone),
        isp.currency,
        isp.timezone,
        calls.oldest_kept_at(),
        clock.now() + AHEAD,
        isp.billing_rules.call_most_minor,
    )


# From a file, by a command ------------------------------------------------------------------------


def run(path: Path, on_refusal: OnRefusal = lambda _line, _refusal: None) -> CallsImported:
    """Import the file at `path`; refused rows are written beside it, to be mended and imported
    again. Raises ImportImpossible when the file as a whole cannot be read; what was kept before
    stays, and is known when it is read again."""
    rules = read_rules()
    try:
        opened = path.open("rb")
    except OSError as error:
        raise ImportImpossible(f"{path} cannot be read: {error.strerror}") from None
    with opened:
        file = CallFile(opened, rules)
        rejected = RejectedFile(path, file.columns)
        try:
            import_id = unit_of_work(lambda session: _begin(session, path.name, file.columns, None))
            done = CallsImported()

            def refuse(line: CallLine, refusal: Refusal) -> None:
                rejected.add(line, refusal)
                on_refusal(line, refusal)

            _take_all(file, import_id, rules.timezone, done, refuse)
            done.rejected_path = rejected.finish()
        finally:
            rejected.abandon()
    unit_of_work(lambda session: _end(session, import_id, done))
    return done


# By staff, on their page --------------------------------------------------------------------------


def take(content: bytes, name: str, staff_id: int, key: ArrivedKey, path: str) -> str:
    """Import what staff gave on their page; where it is shown, which is `path` with its public id
    for `{id}`. Sent again, it goes on where it was broken off, or changes nothing. Raises
    ImportImpossible before anything is written."""
    rules = read_rules()
    file = CallFile(io.BytesIO(content), rules)
    lines = list(file)  # whether it can be read to its end

    def work(session: Session) -> str:
        made = session.get_one(CallImport, _begin(session, name, file.columns, staff_id))
        return path.format(id=made.public_id)

    found = form_keys.once(key, work)
    row = db.session.execute(
        select(CallImport.id, CallImport.ended_at).where(
            CallImport.public_id == found.rpartition("/")[2]
        )
    ).one()
    if row.ended_at is None:
        done = CallsImported()

        def refuse(line: CallLine, refusal: Refusal) -> None:
            cells = (str(line.line), refusal.column, refusal.sentence, *line.cells)
            done.rows.append([_storable(cell) for cell in cells])

        _take_all(lines, row.id, rules.timezone, done, refuse)
        unit_of_work(lambda session: _end(session, row.id, done))
    return found


def _storable(cell: str) -> str:
    """A cell as text that a database holds: bytes that are not UTF-8, and NUL, stand as signs."""
    return cell.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


# Both ---------------------------------------------------------------------------------------------


def _begin(session: Session, name: str, columns: Sequence[str], imported_by_id: int | None) -> int:
    row = CallImport(
        public_id=ids.public_id(),
        file_name=_storable(name)[:120],
        imported_by_id=imported_by_id,
        imported_at=clock.now(),
        columns=[*REFUSAL_COLUMNS, *columns],
        refused=[],
    )
    session.add(row)
    session.flush()
    return row.id


def _end(session: Session, import_id: int, done: CallsImported) -> None:
    row = session.get_one(CallImport, import_id, populate_existing=True)
    if row.ended_at is not None:
        return
    # What was kept before the import was broken off is known to the one that went on.
    kept = session.scalar(
        select(func.count(CallRecord.id)).where(CallRecord.import_id == import_id)
    )
    row.ended_at = clock.now()
    row.kept_count = kept or 0
    row.known_count = done.kept + done.known - row.kept_count
    row.refused_count = done.refused
    row.refused = done.rows
    event = activity.Event("calls_imported", clock.now(), customer_id=row.imported_by_id)
    activity.record(session, [event])


def _take_all(
    file: Iterable[CallLine],
    import_id: int,
    timezone: str,
    done: CallsImported,
    on_refusal: OnRefusal,
) -> None:
    """Take the records batch by batch, each in a unit of work of its own; refused ones are told in
    the order of the file."""
    lines = iter(file)
    while batch := list(itertools.islice(lines, AT_ONCE)):
        outcomes = _take(batch, import_id, timezone)
        for line, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Refusal):
                done.refused += 1
                on_refusal(line, outcome)
            elif outcome is Became.KEPT:
                done.kept += 1
            else:
                done.known += 1


def _take(batch: Sequence[CallLine], import_id: int, timezone: str) -> list[Became | Refusal]:
    rows = [line.outcome for line in batch if isinstance(line.outcome, CallRow)]
    owners = _Owners(db.session(), {row.number for row in rows})
    made = {
        place: call
        for place, line in enumerate(batch)
        if isinstance(line.outcome, CallRow)
        and (call := owners.call_of(line.outcome, timezone)) is not None
    }
    became: dict[int, Became] = {}
    if made:
        found = unit_of_work(
            lambda session: calls.keep(session, list(made.values()), import_id),
            *{call.account_id for call in made.values()},
        )
        became = dict(zip(made, found, strict=True))
    return [
        line.outcome if isinstance(line.outcome, Refusal) else _outcome(became.get(place))
        for place, line in enumerate(batch)
    ]


def _outcome(became: Became | None) -> Became | Refusal:
    if became is None:
        return Refusal(
            "number",
            "unknown number",
            _("Nobody here had this number on the day of the call, or two had."),
        )
    if became is Became.OTHER:
        return Refusal("id", "other call", _("The id stands for another call already."))
    if became is Became.OTHER_AMOUNT:
        return Refusal(
            "amount", "other amount", _("This call is known already, with another amount.")
        )
    return became


class _Owners:
    """Who had which number on which day."""

    def __init__(self, session: Session, numbers: set[str]) -> None:
        self._by_number: dict[str, list[tuple[int, int, date, date]]] = {}
        rows = session.execute(
            select(
                PhoneNumber.number,
                PhoneNumber.id,
                PhoneNumber.account_id,
                PhoneNumber.from_on,
                PhoneNumber.ended_on,
                Subscription.ended_on.label("plan_ended_on"),
            )
            .join(Subscription, Subscription.id == PhoneNumber.subscription_id)
            .where(
                PhoneNumber.number.in_(numbers),
                or_(PhoneNumber.ended_on.is_(None), PhoneNumber.ended_on > PhoneNumber.from_on),
            )
            .order_by(PhoneNumber.id)
        )
        for row in rows:
            # A number is had no longer than the plan, also before it was ended after it.
            ended_on = min(row.ended_on or date.max, row.plan_ended_on or date.max)
            had = (row.id, row.account_id, row.from_on, ended_on)
            self._by_number.setdefault(row.number, []).append(had)

    def call_of(self, row: CallRow, timezone: str) -> Call | None:
        """The call with whose it is; None where nobody had the number, or it changed hands."""
        day = clock.day_of(row.started_at, timezone)
        had = [
            (number_id, account_id)
            for number_id, account_id, from_on, ended_on in self._by_number.get(row.number, ())
            if from_on <= day <= ended_on
        ]
        if len({account_id for _, account_id in had}) != 1:
            return None
        number_id, account_id = had[-1]
        return Call(
            row.key,
            row.content_key,
            account_id,
            number_id,
            row.is_out,
            row.other,
            row.started_at,
            row.seconds,
            row.amount_minor,
            day.replace(day=1),
        )
