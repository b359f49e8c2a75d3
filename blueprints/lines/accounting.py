"""Taking in accounting reports: sessions, and what each line carried by day and hour.

The only writer of NASes, usage sessions and usage days. Counting is in `counting.py`, spreading
over the hours in `spreading.py`; this is where both meet the database. A unit of work takes as many
reports as fit in its time, all of them or none, so that a report handed in again counts once: it
then is of no later moment than what counted already. A report that cannot be written is left out,
and the NAS that sent it noted, as is one whose counters cannot be.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import bindparam, case, delete, insert, select, update
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.orm import Session

from blueprints.lines import counting
from blueprints.lines.allowances import watching
from blueprints.lines.counting import Counted, Delta
from blueprints.lines.spreading import spread
from core import clock
from core.db import db, unit_of_work
from core.isp import current_isp
from gateways.network.base import Report, ReportKind
from models import Line, Nas, UsageAlert, UsageDay, UsageMark, UsageSession

T = TypeVar("T")

log = logging.getLogger("lastmile.lines")

AT_ONCE = 150
"""Reports in one unit of work, which may last 50 ms."""
HOURS_KEPT = timedelta(days=35)
DAYS_KEPT_MONTHS = 13
SESSIONS_KEPT = timedelta(days=100)
LOOKED_BACK = timedelta(days=30)
"""How long the worker may have been away before hours are kept beyond their time."""

_FAULTS = (DataError, IntegrityError, OverflowError, ValueError)
"""What a report can be at fault for; a database that is away is none of them."""

_COUNTED = tuple(field.name for field in fields(Counted))
_SESSIONS = select(
    UsageSession.id,
    UsageSession.line_id,
    UsageSession.nas_id,
    UsageSession.session,
    *(getattr(UsageSession, name) for name in _COUNTED),
)
_OF_REPORTS = _SESSIONS.where(
    UsageSession.nas_id.in_(bindparam("nases", expanding=True)),
    UsageSession.session.in_(bindparam("names", expanding=True)),
).order_by(UsageSession.started_at.desc())
_RUNNING_ON = _SESSIONS.where(
    UsageSession.nas_id == bindparam("nas_id"), UsageSession.ended_at.is_(None)
)
_UPDATE_SESSION = (
    update(UsageSession)
    .where(UsageSession.id == bindparam("row_id"))
    .values(
        **{name: bindparam(f"to_{name}") for name in _COUNTED},
        # What a later report does not say is still so.
        **{
            name: case((bindparam(f"to_{name}") == "", column), else_=bindparam(f"to_{name}"))
            for name, column in (
                ("address", UsageSession.address),
                ("device", UsageSession.device),
                ("cause", UsageSession.cause),
            )
        },
    )
)
_DAYS = select(UsageDay.line_id, UsageDay.day_on, UsageDay.hours).where(
    UsageDay.line_id.in_(bindparam("lines", expanding=True)),
    UsageDay.day_on.in_(bindparam("days", expanding=True)),
)
_LOCK_LINES = (
    select(Line.id, Line.down_kbps, Line.up_kbps)
    .where(Line.id.in_(bindparam("lines", expanding=True)))
    .order_by(Line.id)
    .with_for_update()
)
_LONGEST = {"address": 45, "device": 64, "cause": 40}


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of reports: how many were taken, the line usernames that nobody has, and how many
    could not be written."""

    report_count: int
    unknown: frozenset[str]
    failed_count: int = 0


@dataclass(slots=True)
class _Known:
    """A session in the unit of work that changes it; `row_id` is None until it is written."""

    row_id: int | None
    line_id: int
    nas_id: int
    session: str
    counted: Counted
    details: dict[str, str]
    is_changed: bool = False


class _Book:
    """What the reports of one unit of work change, read once and written once."""

    def __init__(
        self,
        session: Session,
        nases: dict[str, int],
        names: Sequence[str],
        most_a_second: dict[int, int],
    ) -> None:
        self._session = session
        self._most_a_second = most_a_second
        self._timezone = current_isp().timezone
        self._known: defaultdict[tuple[int, str], list[_Known]] = defaultdict(list)
        self._by_row: dict[int, _Known] = {}
        self._hours: defaultdict[tuple[int, date], dict[int, list[int]]] = defaultdict(dict)
        for row in session.execute(
            _OF_REPORTS, {"nases": sorted(nases.values()), "names": sorted(set(names))}
        ):
            self._remember(row)

    def _remember(self, row: Any) -> _Known:
        if row.id not in self._by_row:
            known = _Known(
                row.id,
                row.line_id,
                row.nas_id,
                row.session,
                Counted(**{name: getattr(row, name) for name in _COUNTED}),
                dict.fromkeys(_LONGEST, ""),
            )
            self._by_row[row.id] = known
            self._known[row.nas_id, row.session].append(known)
        return self._by_row[row.id]

    def take(self, report: Report, nas_id: int, line_id: int) -> None:
        """Count a report of a session."""
        of_name = self._known[nas_id, report.session]
        of_line = [each for each in of_name if each.line_id == line_id]
        place = counting.which([each.counted for each in of_line], report)
        if place is None:
            known = _Known(
                None, line_id, nas_id, report.session, counting.begin(report), {}, is_changed=True
            )
            of_name.append(known)
        else:
            known = of_line[place]
        after, delta = counting.count(known.counted, report, self._most_a_second[line_id])
        known.is_changed = known.is_changed or after != known.counted
        known.counted = after
        for name, longest in _LONGEST.items():
            known.details[name] = getattr(report, name)[:longest] or known.details.get(name, "")
        if delta is not None:
            self._add(line_id, delta)

    def end_all(self, nas_id: int, at: datetime) -> None:
        """End the sessions of a NAS that began anew at `at`."""
        for row in self._session.execute(_RUNNING_ON, {"nas_id": nas_id}):
            self._remember(row)
        for of_name in self._known.values():
            for known in of_name:
                if known.nas_id == nas_id:
                    after = counting.close_for_reboot(known.counted, at)
                    if after != known.counted:
                        known.counted, known.is_changed = after, True
                        known.details["cause"] = "NAS-Reboot"

    def _add(self, line_id: int, delta: Delta) -> None:
        for day_on, hour, up, down in spread(delta, self._timezone):
            sums = self._hours[line_id, day_on].setdefault(hour, [0, 0])
            sums[0] += up
            sums[1] += down

    def write(self) -> None:
        """Write what is new or changed."""
        connection = self._session.connection()
        changed = [each for of_name in self._known.values() for each in of_name if each.is_changed]
        new = [_row_of(each) for each in changed if each.row_id is None]
        old = [
            {"row_id": each.row_id}
            | {f"to_{name}": value for name, value in _values_of(each).items()}
            for each in changed
            if each.row_id is not None
        ]
        if new:
            connection.execute(insert(UsageSession), new)
        if old:
            connection.execute(_UPDATE_SESSION, old)
        lacking = {each.nas_id for each in changed if each.counted.lacks_gigawords}
        if lacking:
            connection.execute(
                update(Nas)
                .where(Nas.id.in_(lacking), Nas.lacks_gigawords.is_(False))
                .values(lacks_gigawords=True)
            )
        _doubt(self._session, {each.nas_id for each in changed if each.counted.is_doubted})
        add_hours(self._session, self._hours)


def _values_of(known: _Known) -> dict[str, Any]:
    # Not `astuple`: it copies each value deeply, which takes longer than writing them.
    values = {name: getattr(known.counted, name) for name in _COUNTED}
    return values | {name: known.details.get(name, "") for name in _LONGEST}


def _row_of(known: _Known) -> dict[str, Any]:
    return {
        "line_id": known.line_id,
        "nas_id": known.nas_id,
        "session": known.session,
        **_values_of(known),
    }


def take(reports: Iterable[Report]) -> Taken:
    """Take in reports, in units of work of their own, in the order given; those of lines that
    nobody has are left out and named."""
    count, failed_count, unknown = 0, 0, set[str]()
    for some in _in_parts(reports):
        taken = _take_what_can_be(some)
        count += taken.report_count
        failed_count += taken.failed_count
        unknown |= taken.unknown
    return Taken(count, frozenset(unknown), failed_count)


def _take_what_can_be(reports: Sequence[Report]) -> Taken:
    """Take in all of them, or else each half, and so on to the one that is at fault."""
    try:
        return _take_all(reports)
    except _FAULTS:
        if len(reports) == 1:
            log.exception("a report cannot be counted")
            _note_fault(reports[0])
            return Taken(0, frozenset(), 1)
    half = len(reports) // 2
    first, rest = _take_what_can_be(reports[:half]), _take_what_can_be(reports[half:])
    return Taken(
        first.report_count + rest.report_count,
        first.unknown | rest.unknown,
        first.failed_count + rest.failed_count,
    )


def _take_all(reports: Sequence[Report]) -> Taken:
    line_ids = _find_lines({each.username for each in reports if each.username})
    fit = [
        each
        for each in reports
        if each.kind is ReportKind.REBOOT or (each.username in line_ids and each.session)
    ]
    unknown = {each.username for each in reports if each.username not in line_ids}
    if fit:
        unit_of_work(partial(_take, reports=fit, line_ids=line_ids))
    return Taken(len(fit), frozenset(unknown - {""}))


def _note_fault(report: Report) -> None:
    try:
        unit_of_work(lambda session: _doubt(session, _find_nases(session, [report]).values()))
    except _FAULTS:
        log.warning("nor can its access server be noted")


def _in_parts(things: Iterable[T]) -> Iterator[list[T]]:
    """As many at a time as one unit of work takes."""
    rest = iter(things)
    while some := list(islice(rest, AT_ONCE)):
        yield some


def _find_lines(usernames: set[str]) -> dict[str, int]:
    rows = db.session.execute(select(Line.username, Line.id).where(Line.username.in_(usernames)))
    return {row.username: row.id for row in rows}


def _take(session: Session, reports: Sequence[Report], line_ids: dict[str, int]) -> None:
    # Two nodes that take in reports of the same line wait here for each other.
    lines = session.execute(
        _LOCK_LINES,
        {"lines": sorted({line_ids[each.username] for each in reports if each.username})},
    )
    most = {line.id: counting.most_a_second(line.down_kbps, line.up_kbps) for line in lines}
    nases = _find_nases(session, reports)
    book = _Book(session, nases, [each.session for each in reports], most)
    for report in reports:
        if report.kind is ReportKind.REBOOT:
            book.end_all(nases[report.nas], report.at)
        else:
            book.take(report, nases[report.nas], line_ids[report.username])
    book.write()


def _find_nases(session: Session, reports: Sequence[Report]) -> dict[str, int]:
    """The id of each NAS that reports, those heard of for the first time among them."""
    names = sorted({each.nas for each in reports})
    rebooted = {each.nas: each.at for each in reports if each.kind is ReportKind.REBOOT}
    found = {
        row.name: row.id
        for row in session.execute(select(Nas.id, Nas.name).where(Nas.name.in_(names)))
    }
    now = clock.now()
    for name in names:
        if name not in found:
            nas = Nas(name=name)
            session.add(nas)
            session.flush()
            found[name] = nas.id
    session.execute(update(Nas).where(Nas.id.in_(found.values())).values(heard_at=now))
    for name, at in rebooted.items():
        session.execute(update(Nas).where(Nas.id == found[name]).values(rebooted_at=at))
    return found


def _doubt(session: Session, nas_ids: Collection[int]) -> None:
    """Note that these reported what cannot be."""
    if nas_ids:
        session.execute(update(Nas).where(Nas.id.in_(nas_ids)).values(doubted_at=clock.now()))


Hours = dict[tuple[int, date], dict[int, list[int]]]
"""Bytes up and down of each hour that anything came in, by line and day."""


def add_hours(session: Session, found: Hours) -> None:
    """Add bytes to the days of lines, within a unit of work that holds the lines, and have the
    worker look at what follows."""
    if not found:
        return
    rows = session.execute(
        _DAYS,
        {
            "lines": sorted({line_id for line_id, _ in found}),
            "days": sorted({day_on for _, day_on in found}),
        },
    )
    hours_of = {(row.line_id, row.day_on): row.hours for row in rows}
    values = []
    for (line_id, day_on), sums in found.items():
        hours = list(hours_of.get((line_id, day_on)) or ())
        hours += [0] * (2 * max(sums) + 2 - len(hours))
        for hour, (up, down) in sums.items():
            hours[2 * hour] += up
            hours[2 * hour + 1] += down
        values.append(
            {
                "line_id": line_id,
                "day_on": day_on,
                "up_bytes": sum(up for up, _ in sums.values()),
                "down_bytes": sum(down for _, down in sums.values()),
                "hours": hours,
            }
        )
    session.connection().execute(_upsert_day(session.get_bind().dialect.name), values)
    watching.mark(session, {line_id for line_id, _day_on in found})


def _upsert_day(engine: str) -> Any:
    if engine == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as insert_on_sqlite

        new: Any = insert_on_sqlite(UsageDay)
    else:
        from sqlalchemy.dialects.postgresql import insert as insert_on_postgresql

        new = insert_on_postgresql(UsageDay)
    return new.on_conflict_do_update(
        index_elements=["line_id", "day_on"],
        set_={
            "up_bytes": UsageDay.up_bytes + new.excluded.up_bytes,
            "down_bytes": UsageDay.down_bytes + new.excluded.down_bytes,
            "hours": new.excluded.hours,
        },
    )


def list_hours(line_id: int, day_on: date) -> list[tuple[int, int]]:
    """Bytes up and down of each hour of a day, from midnight to the last hour that anything came
    in; empty where the hours are not kept any more."""
    hours = db.session.scalar(
        select(UsageDay.hours).where(UsageDay.line_id == line_id, UsageDay.day_on == day_on)
    )
    return list(zip(hours[::2], hours[1::2], strict=True)) if hours else []


def close_silent() -> int:
    """Close the sessions that were not heard of for three of their intervals at their last report
    (bar 64); returns how many."""
    now = clock.now()
    rows = db.session.execute(
        select(UsageSession.id, UsageSession.seen_at, UsageSession.interval_seconds).where(
            UsageSession.ended_at.is_(None),
            UsageSession.seen_at < now - counting.SILENT_INTERVALS * counting.SHORTEST_INTERVAL,
        )
    ).all()
    silent = [
        {"row_id": row.id, "heard_at": row.seen_at}
        for row in rows
        if row.seen_at < counting.silent_since(now, row.interval_seconds)
    ]

    def close(session: Session, some: Sequence[dict[str, Any]]) -> None:
        session.connection().execute(
            update(UsageSession)
            .where(
                UsageSession.id == bindparam("row_id"),
                UsageSession.seen_at == bindparam("heard_at"),
            )
            .values(ended_at=UsageSession.seen_at, is_stale=True),
            list(some),
        )

    for some in _in_parts(silent):
        unit_of_work(partial(close, some=some))
    return len(silent)


def forget_old() -> None:
    """Forget what is older than it is kept (hours, days, sessions), line by line: that way each
    unit of work is short, however much is kept."""
    now = clock.now()
    today = clock.day_of(now, current_isp().timezone)
    no_hours_on = today - HOURS_KEPT
    first_on = clock.month_step(today.replace(day=1), -DAYS_KEPT_MONTHS, 1)

    def work(session: Session, line_ids: Sequence[int]) -> None:
        session.execute(
            update(UsageDay)
            .where(
                UsageDay.line_id.in_(line_ids),
                UsageDay.day_on < no_hours_on,
                UsageDay.day_on >= no_hours_on - LOOKED_BACK,
                UsageDay.hours.is_not(None),
            )
            .values(hours=None)
        )
        session.execute(
            delete(UsageDay).where(UsageDay.line_id.in_(line_ids), UsageDay.day_on < first_on)
        )
        session.execute(
            delete(UsageAlert).where(
                UsageAlert.line_id.in_(line_ids), UsageAlert.period_on < first_on
            )
        )
        session.execute(
            delete(UsageMark).where(UsageMark.line_id.in_(line_ids), UsageMark.period_on < first_on)
        )
        session.execute(
            delete(UsageSession).where(
                UsageSession.line_id.in_(line_ids),
                UsageSession.started_at < now - SESSIONS_KEPT,
                UsageSession.ended_at.is_not(None),
            )
        )

    for line_ids in _in_parts(db.session.scalars(select(Line.id).order_by(Line.id)).all()):
        unit_of_work(partial(work, line_ids=line_ids))
