"""Reading `radacct`: what its sessions carried, as reports.

FreeRADIUS keeps one row a session and overwrites it. A report may come a day late and then is of
that time, so a scan looks at every session that runs and at those that ended since the last scan
less 25 hours: no moment is relied upon after which nothing changes, and no index that the schema
does not come with. Of these rows only those that changed are reported; which these are is known for
as long as the process lives, and what is reported twice counts once. A scan goes on where the
cursor says, in parts, and the next begins after a pause that grows with how long it took.
"""

from __future__ import annotations

import json
import logging
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from sqlalchemy import Connection, Select, and_, literal, or_, select

from gateways.network.base import LONGEST_SESSION, Accounting, Report, ReportKind
from gateways.network.errors import GatewayRefused
from gateways.network.freeradius.database import Columns, Database, columns_of

log = logging.getLogger("lastmile.lines")

ROWS = 2_000
"""Of one part."""
LOOKED_BACK = timedelta(hours=25)
FIRST_LOOK = timedelta(days=35)
"""How old a session may be that ended before the portal read for the first time."""
REST = 20
"""A scan of a second is followed by that many seconds of rest at least."""
GIGAWORD = 1 << 32

NEEDED = (
    "radacctid",
    "acctsessionid",
    "username",
    "nasipaddress",
    "acctstarttime",
    "acctstoptime",
    "acctsessiontime",
    "acctinputoctets",
    "acctoutputoctets",
)
HELPFUL = (
    "acctuniqueid",
    "acctupdatetime",
    "callingstationid",
    "framedipaddress",
    "framedipv6address",
    "framedipv6prefix",
    "acctterminatecause",
)
"""Old schemas lack some."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a scan is: `since` when the last one began (None: there was none), and of the one under
    way when it began, whether it is at the sessions that ended, and the last row it saw."""

    since: float | None = None
    began: float | None = None
    is_at_ended: bool = False
    after: tuple[Any, ...] = ()

    @classmethod
    def read(cls, text: str) -> Self:
        """The cursor that was written so; the first one of anything else, such as that of another
        gateway."""
        try:
            since, began, is_at_ended, after = json.loads(text)
            return cls(since, began, bool(is_at_ended), tuple(after))
        except (TypeError, ValueError):
            return cls()

    def __str__(self) -> str:
        return json.dumps([self.since, self.began, self.is_at_ended, self.after])


@dataclass(frozen=True, slots=True)
class _Said:
    """What was answered at last: with this cursor, of rows with these digests."""

    cursor: str
    met: array[int]
    is_last: bool


class _Digests:
    """Digests of rows as they were, 64 bits each: there may be a million of them."""

    def __init__(self, digests: Iterable[int] = ()) -> None:
        self._sorted = array("q", sorted(digests))

    def __contains__(self, digest: int) -> bool:
        place = bisect_left(self._sorted, digest)
        return place < len(self._sorted) and self._sorted[place] == digest


class Reader:
    """Reads the accounting of one database. `is_swapped` says of a NAS that it calls the customer's
    upload output."""

    def __init__(self, database: Database, is_swapped: Callable[[str], bool]) -> None:
        self._database = database
        self._is_swapped = is_swapped
        self._seen = _Digests()
        self._met = array("q")
        self._said = _Said("", array("q"), is_last=False)
        self._took = 0.0
        self._rest_until = 0.0

    def read(self, text: str) -> Accounting:
        """The next part of a scan from the cursor on."""
        cursor = Cursor.read(text)
        if self._said.cursor == text:  # what was said with it has been taken in
            self._met.extend(self._said.met)
            if self._said.is_last:
                self._seen, self._met = _Digests(self._met), array("q")
        self._said = _Said("", array("q"), is_last=False)
        began = time.monotonic()
        if cursor.began is None:
            if began < self._rest_until:
                return Accounting((), text)
            self._met, self._took = array("q"), 0.0
        met = array("q")
        with self._database.reading() as connection:
            found, then = self._scan(connection, cursor, met)
        self._took += time.monotonic() - began
        if then.began is None:
            self._rest_until = time.monotonic() + REST * self._took
        self._said = _Said(str(then), met, is_last=then.began is None)
        return Accounting(tuple(found), str(then), has_more=then.began is not None)

    def _scan(
        self, connection: Connection, cursor: Cursor, met: array[int]
    ) -> tuple[list[Report], Cursor]:
        if cursor.began is None:
            cursor = replace(cursor, began=self._database.now(connection))
        assert cursor.began is not None  # noqa: S101 - for the type
        columns = columns_of(self._database.table(connection, "radacct"))
        missing = [name for name in NEEDED if name not in columns]
        if missing:
            raise GatewayRefused(f"{self._database.name}: radacct lacks {', '.join(missing)}")
        last = cursor.began - FIRST_LOOK.total_seconds() if cursor.since is None else cursor.since
        since = last - LOOKED_BACK.total_seconds()
        query, order = (self._ended if cursor.is_at_ended else self._running)(columns, since)
        if cursor.after:
            query = query.where(_is_after(order, self._keys(cursor)))
        rows = connection.execute(query.order_by(*order).limit(ROWS)).all()
        reports = self._report(rows, met)
        if len(rows) == ROWS:
            key = (rows[-1].stopped, rows[-1].id) if cursor.is_at_ended else (rows[-1].running_key,)
            after = tuple(float(each) if not isinstance(each, int | str) else each for each in key)
            return reports, replace(cursor, after=after)
        if not cursor.is_at_ended:
            return reports, replace(cursor, is_at_ended=True, after=())
        reports += self._reloads(connection, since, met)
        return reports, Cursor(since=cursor.began)

    def _keys(self, cursor: Cursor) -> tuple[Any, ...]:
        if not cursor.is_at_ended:
            return cursor.after
        return (self._database.moment(cursor.after[0]), cursor.after[1])

    def _running(self, columns: Columns, _since: float) -> tuple[Select[Any], tuple[Any, ...]]:
        """PostgreSQL's schema has an index of the running by this name; elsewhere the index by
        which they are found has the row's id in it."""
        unique = columns.get("acctuniqueid")
        by = columns["radacctid"]
        if self._database.dialect == "postgresql" and unique is not None:
            by = unique
        query = self._select(columns).add_columns(by.label("running_key"))
        return query.where(columns["acctstoptime"].is_(None)), (by,)

    def _ended(self, columns: Columns, since: float) -> tuple[Select[Any], tuple[Any, ...]]:
        stopped = columns["acctstoptime"]
        query = self._select(columns).where(stopped >= self._database.moment(since))
        return query, (stopped, columns["radacctid"])

    def _select(self, columns: Columns) -> Select[Any]:
        seconds = self._database.seconds

        def text(name: str) -> Any:
            return columns[name] if name in columns else literal("")

        update = columns.get("acctupdatetime")
        return select(
            columns["radacctid"].label("id"),
            columns["acctsessionid"].label("session"),
            text("acctuniqueid").label("unique_id"),
            columns["username"].label("username"),
            columns["nasipaddress"].label("nas"),
            seconds(columns["acctstarttime"]).label("started"),
            (literal(None) if update is None else seconds(update)).label("updated"),
            seconds(columns["acctstoptime"]).label("stopped"),
            columns["acctsessiontime"].label("seconds"),
            columns.get("acctinterval", literal(None)).label("interval"),
            columns["acctinputoctets"].label("octets_in"),
            columns["acctoutputoctets"].label("octets_out"),
            text("framedipaddress").label("address"),
            text("framedipv6address").label("address6"),
            text("framedipv6prefix").label("prefix6"),
            text("callingstationid").label("device"),
            text("acctterminatecause").label("cause"),
        )

    def _report(self, rows: Any, met: array[int]) -> list[Report]:
        reports = []
        for row in rows:
            digest = hash(
                (
                    row.id,
                    row.started,
                    row.updated,
                    row.stopped,
                    row.seconds,
                    row.octets_in,
                    row.octets_out,
                    str(row.address),
                )
            )
            met.append(digest)
            if digest not in self._seen:
                try:
                    report = as_report(row, is_swapped=self._is_swapped(plain(row.nas)))
                except (OSError, OverflowError, TypeError, ValueError):
                    log.warning("a row of radacct makes no sense", extra={"row": row.id})
                    continue
                if report is not None:
                    reports.append(report)
        return reports

    def _reloads(self, connection: Connection, since: float, met: array[int]) -> list[Report]:
        """That access servers began anew, where FreeRADIUS notes that instead of ending their
        sessions in `radacct`."""
        found = self._database.find_table(connection, "nasreload")
        if found is None:
            return []
        columns = columns_of(found)
        when = self._database.seconds(columns["reloadtime"])
        query = select(columns["nasipaddress"].label("nas"), when.label("at")).where(
            columns["reloadtime"] >= self._database.moment(since)
        )
        reports = []
        for row in connection.execute(query):
            name = plain(row.nas)
            digest = hash(("reload", name, row.at))
            met.append(digest)
            if digest not in self._seen:
                reports.append(Report(ReportKind.REBOOT, name, _instant(row.at)))
        return reports


def _is_after(order: tuple[Any, ...], keys: tuple[Any, ...]) -> Any:
    first, *rest = order
    if not rest:
        return first > keys[0]
    return or_(first > keys[0], and_(first == keys[0], rest[0] > keys[1]))


def as_report(row: Any, *, is_swapped: bool) -> Report | None:
    """What a row of `radacct` says; None of one whose times say nothing."""
    started, updated, stopped = row.started, row.updated, row.stopped
    seconds = None if row.seconds is None else max(0, int(row.seconds))
    is_taken_over = stopped is not None and started is not None and stopped < started
    if is_taken_over:
        stopped = None  # it is of a former session with this id
    at = stopped if stopped is not None else updated
    if at is None and started is not None:
        at = started + (seconds or 0)
    if at is None:
        return None
    if seconds is None and started is not None:
        seconds = max(0, int(at - started))
    if seconds is not None and seconds > LONGEST_SESSION.total_seconds():
        seconds = None
    up, down = row.octets_in, row.octets_out
    # FreeRADIUS writes a start over whatever the row holds, and an interim report whose start was
    # lost as if it had begun then: times that are the same do not say of when the counters are.
    is_new = stopped is None and updated is not None and updated == started and bool(seconds)
    if is_new and not is_taken_over and row.interval is None:
        return None  # the next report tells
    if is_new:
        seconds, up, down = 0, None, None
    kind = ReportKind.STOP if stopped is not None else ReportKind.INTERIM
    if stopped is None and (is_new or (not seconds and not up and not down)):
        kind = ReportKind.START
    if up is None or down is None or (not up and not down and kind is not ReportKind.START):
        up = down = None  # FreeRADIUS writes 0 where a report has none
    elif is_swapped:
        up, down = down, up
    return Report(
        kind,
        plain(row.nas),
        _instant(at),
        str(row.unique_id or row.session),
        str(row.username or ""),
        seconds,
        None if up is None else int(up),
        None if down is None else int(down),
        # Its 64 bits have them if the NAS sends any.
        has_gigawords=max(up or 0, down or 0) >= GIGAWORD,
        address=plain(row.address) or plain(row.address6) or str(row.prefix6 or ""),
        device=str(row.device or ""),
        cause=str(row.cause or ""),
    )


def plain(address: Any) -> str:
    """An address without the length that PostgreSQL may add to it."""
    return str(address or "").partition("/")[0]


def _instant(seconds: Any) -> datetime:
    return datetime.fromtimestamp(float(seconds), UTC)
