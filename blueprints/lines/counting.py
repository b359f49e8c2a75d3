"""What an accounting report says about a session that is known in part. Pure; writes nothing.

Reports come late, twice, in any order, without counters, or not at all (bars 62-64). Within a
session the counters only rise, so a report counts when it is of a later moment of the session than
the last one that counted, and what it counts is how far the counters rose since. What was lost in
between is made up for by the next report that comes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gateways.network.base import Report, ReportKind

WRAP = 1 << 32
"""Where counters without gigawords begin anew."""
CLOCKS_DIFFER = timedelta(minutes=25)
"""How far two reports may disagree about when their session began: twice the ten minutes by which
a clock may be wrong, one of them having been put right in between, and some delay."""
LATEST = timedelta(hours=25)
"""How late a report may be."""
SILENT_INTERVALS = 3
FIRST_INTERVAL = timedelta(minutes=15)
"""How often a session is taken to report until two of its reports tell."""
SHORTEST_INTERVAL, LONGEST_INTERVAL = timedelta(minutes=1), timedelta(hours=6)


@dataclass(frozen=True, slots=True)
class Counted:
    """A session as its reports have told it so far.

    `counted_at` and `counted_seconds` are the moment up to which `up_bytes` and `down_bytes` count,
    by the clock and by the session's own time (-1 before any did); `seen_at` is the last moment of
    which anything was heard. While no report tells when it began, `started_at` is the earliest
    moment heard of and `is_start_guessed`. `ended_at` is set by a Stop, a reboot of the NAS, or
    (`is_stale`) for having been silent; only the last of these is taken back.
    """

    started_at: datetime
    counted_at: datetime
    counted_seconds: int
    seen_at: datetime
    up_bytes: int = 0
    down_bytes: int = 0
    interval_seconds: int = int(FIRST_INTERVAL.total_seconds())
    ended_at: datetime | None = None
    is_stale: bool = False
    is_stopped: bool = False
    is_start_guessed: bool = False
    lacks_gigawords: bool = False


@dataclass(frozen=True, slots=True)
class Delta:
    """Bytes that a session carried from `from_at` until `until_at`; both are the same where the
    clock of the NAS tells no span."""

    from_at: datetime
    until_at: datetime
    up_bytes: int
    down_bytes: int


def begin(report: Report) -> Counted:
    """A session of which this is the first report to come, whichever it is."""
    start = _start_of(report)
    first_at = start or report.at
    return Counted(first_at, first_at, -1, first_at, is_start_guessed=start is None)


def is_of(session: Counted, report: Report) -> bool:
    """Whether a report that bears the session's id is of this session, not of another that was
    given the same id before or since, as happens after the NAS has forgotten which it gave out."""
    start = _start_of(report)
    if session.is_start_guessed:
        return (start or report.at) >= session.started_at - LATEST
    if start is not None:
        return abs(start - session.started_at) <= CLOCKS_DIFFER
    if session.ended_at is not None and report.at > session.ended_at + CLOCKS_DIFFER:
        return report.kind is not ReportKind.START and session.is_stale
    return report.at >= session.started_at - CLOCKS_DIFFER


def count(session: Counted, report: Report) -> tuple[Counted, Delta | None]:
    """The session after the report, and what it carried since the last one that counted, if this
    one is of a later moment."""
    session = _with_start(session, report)
    seconds = _seconds_of(session, report)
    after, delta = session, None
    if (
        report.up_octets is not None
        and report.down_octets is not None
        and seconds > session.counted_seconds
    ):
        after, delta = _raise(session, report, seconds, report.up_octets, report.down_octets)
    seen_at = max(after.seen_at, report.at)
    if report.kind is ReportKind.STOP:
        if not after.is_stopped:
            after = replace(after, is_stopped=True, is_stale=False, ended_at=report.at)
    elif after.is_stale and report.at > after.seen_at:
        after = replace(after, is_stale=False, ended_at=None)
    return replace(after, seen_at=seen_at), delta


def close_for_reboot(session: Counted, at: datetime) -> Counted:
    """The session once its NAS said that it began anew at `at`: it ended with its last report. One
    that began later is of the new beginning."""
    if session.started_at > at or (session.ended_at is not None and not session.is_stale):
        return session
    return replace(session, ended_at=session.seen_at, is_stale=False)


def silent_since(now: datetime, interval_seconds: int) -> datetime:
    """A session that reports at this interval and was not heard of since then is stale."""
    return now - SILENT_INTERVALS * timedelta(seconds=interval_seconds)


def _start_of(report: Report) -> datetime | None:
    if report.kind is ReportKind.START:
        return report.at - timedelta(seconds=report.session_seconds or 0)
    if report.session_seconds is None:
        return None
    return report.at - timedelta(seconds=report.session_seconds)


def _with_start(session: Counted, report: Report) -> Counted:
    """The session with its beginning as the report tells it, where that was guessed before."""
    start = _start_of(report)
    if not session.is_start_guessed or (start is None and report.at >= session.started_at):
        return session
    started_at = start or report.at
    earlier = int((session.started_at - started_at).total_seconds())
    counted = session.counted_seconds
    return replace(
        session,
        started_at=started_at,
        counted_seconds=counted + earlier if counted >= 0 else counted,
        is_start_guessed=start is None,
    )


def _seconds_of(session: Counted, report: Report) -> int:
    """How old the session was: by its own count, which no clock disturbs, or by the clock."""
    if report.session_seconds is not None:
        return report.session_seconds
    return max(0, int((report.at - session.started_at).total_seconds()))


def _raise(
    session: Counted, report: Report, seconds: int, up_octets: int, down_octets: int
) -> tuple[Counted, Delta | None]:
    up = _counter(session.up_bytes, up_octets, report.has_gigawords)
    down = _counter(session.down_bytes, down_octets, report.has_gigawords)
    interval = session.interval_seconds
    if report.kind is ReportKind.INTERIM:
        passed = timedelta(seconds=seconds - session.counted_seconds)
        interval = int(min(max(passed, SHORTEST_INTERVAL), LONGEST_INTERVAL).total_seconds())
    until_at = max(report.at, session.counted_at)
    has_wrapped = up > up_octets or down > down_octets
    after = replace(
        session,
        counted_at=until_at,
        counted_seconds=seconds,
        up_bytes=up,
        down_bytes=down,
        interval_seconds=interval,
        lacks_gigawords=session.lacks_gigawords or (has_wrapped and not report.has_gigawords),
    )
    if (up, down) == (session.up_bytes, session.down_bytes):
        return after, None
    return after, Delta(
        session.counted_at, until_at, up - session.up_bytes, down - session.down_bytes
    )


def _counter(known: int, octets: int, has_gigawords: bool) -> int:
    """The counter in full: never lower than it was. What has gigawords is taken as it is; of what
    has none, the least number that ends in these 32 bits and is not below what is known."""
    if octets >= known:
        return octets
    if has_gigawords:
        return known
    return octets + -((octets - known) // WRAP) * WRAP
