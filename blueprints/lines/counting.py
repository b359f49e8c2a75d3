"""What an accounting report says about a session that is known in part. Pure; writes nothing.

Reports come late, twice, in any order, without counters, or not at all (bars 62-64). Within a
session the counters only rise, so a report counts when it is of a later moment of the session than
the last one that counted, and what it counts is how far the counters rose since. What was lost in
between is made up for by the next report that comes. Counters that cannot be are as none given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gateways.network.base import LONGEST_SESSION, Report, ReportKind

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
MOST_OCTETS = 1 << 56
"""More than a session of 400 days carries at 15 Gbit/s."""
TIMES_THE_SPEED = 10
"""How much faster than the portal believes a line may have carried what a report says: its speed
may have been another a moment ago, and some lines burst."""
UNKNOWN_KBPS = 1_000_000
"""The speed of a line of which none is known."""


def most_a_second(down_kbps: int | None, up_kbps: int | None) -> int:
    """The bytes a second, either way, that are believed of a line with these speeds."""
    return (max(down_kbps or 0, up_kbps or 0) or UNKNOWN_KBPS) * 1000 // 8 * TIMES_THE_SPEED


MOST_A_SECOND = most_a_second(None, None)


@dataclass(frozen=True, slots=True)
class Counted:
    """A session as its reports have told it so far.

    `counted_at` and `counted_seconds` are the moment up to which `up_bytes` and `down_bytes` count,
    by the clock and by the session's own time (-1 before any did); `seen_at` is the last moment of
    which anything was heard. While no report tells when it began, `started_at` is the earliest
    moment heard of and `is_start_guessed`. `ended_at` is set by a Stop, a reboot of the NAS, or
    (`is_stale`) for having been silent; only the last of these is taken back. `is_doubted`:
    the last counters given could not be, and so were not counted.
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
    is_doubted: bool = False


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


def which(sessions: Sequence[Counted], report: Report) -> int | None:
    """The place of the session that the report is of, among those of its line that bear its id:
    another may have been given the same id before or since, as happens after the NAS has forgotten
    which it gave out."""
    start = _start_of(report)
    places = [place for place, session in enumerate(sessions) if _is_of(session, report)]
    if places and start is not None:
        return min(places, key=lambda place: abs(sessions[place].started_at - start))
    places += [place for place, session in enumerate(sessions) if _goes_on(session, report)]
    return places[0] if places else None


def _is_of(session: Counted, report: Report) -> bool:
    """Whether it is by the clock."""
    start = _start_of(report)
    if session.is_start_guessed:
        return (start or report.at) >= session.started_at - LATEST
    if start is not None:
        return abs(start - session.started_at) <= CLOCKS_DIFFER
    if session.ended_at is not None and report.at > session.ended_at + CLOCKS_DIFFER:
        return report.kind is not ReportKind.START and session.is_stale
    return report.at >= session.started_at - CLOCKS_DIFFER


def _goes_on(session: Counted, report: Report) -> bool:
    """Whether it is whatever the clock says, which may have been put right in between, or tell when
    a report came instead of when it was made.

    No other session of the line bore the id while this one ran. One that runs goes on where its own
    time and its counters do; of one that ended, the same again is the same.
    """
    start = _start_of(report)
    if start is None:
        return False
    if session.started_at <= start <= session.seen_at - CLOCKS_DIFFER:
        return True
    began_at = session.counted_at - timedelta(seconds=max(0, session.counted_seconds))
    if abs(began_at - session.started_at) > CLOCKS_DIFFER >= abs(began_at - start):
        return True  # so says the clock of the last one that counted
    seconds, octets = report.session_seconds, _octets_of(report)
    if seconds is None or octets is None or report.kind is ReportKind.START:
        return False
    known = (session.up_bytes, session.down_bytes)
    if session.ended_at is not None and not session.is_stale:
        return any(known) and (seconds, octets) == (session.counted_seconds, known)
    # Of one that is known to have carried nothing, nothing can count twice.
    has_wrapped = session.lacks_gigawords and not report.has_gigawords
    is_above = has_wrapped or (octets[0] >= known[0] and octets[1] >= known[1])
    return any(known) and seconds >= session.counted_seconds and is_above


def count(
    session: Counted, report: Report, most_a_second: int = MOST_A_SECOND
) -> tuple[Counted, Delta | None]:
    """The session after the report, and what it carried since the last one that counted, if this
    one is of a later moment. `most_a_second`: the bytes that the line can carry either way."""
    session = _with_start(session, report)
    seconds = _seconds_of(session, report)
    after, delta = session, None
    if (
        report.up_octets is not None
        and report.down_octets is not None
        and seconds > session.counted_seconds
    ):
        octets = _octets_of(report)
        counted = octets and _raise(session, report, seconds, octets, most_a_second)
        after, delta = counted or (replace(session, is_doubted=True), None)
    seen_at = max(after.seen_at, report.at)
    if report.kind is ReportKind.STOP:
        if not after.is_stopped:
            after = replace(after, is_stopped=True, is_stale=False, ended_at=report.at)
    elif after.is_stale and report.at > session.seen_at:
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


def _octets_of(report: Report) -> tuple[int, int] | None:
    """Up and down; None where there are none, or none that can be."""
    up, down = report.up_octets, report.down_octets
    if up is None or down is None or not (0 <= up <= MOST_OCTETS and 0 <= down <= MOST_OCTETS):
        return None
    return up, down


def _raise(
    session: Counted, report: Report, seconds: int, octets: tuple[int, int], most_a_second: int
) -> tuple[Counted, Delta | None] | None:
    """The session with these counters; None where the line cannot have carried that in the time."""
    up = _counter(session.up_bytes, octets[0], report.has_gigawords)
    down = _counter(session.down_bytes, octets[1], report.has_gigawords)
    up_more, down_more = up - session.up_bytes, down - session.down_bytes
    passed = timedelta(seconds=seconds - max(0, session.counted_seconds))
    # Counters may be as old as the report before; and nobody knows of what time the first ones are
    # of a session that does not tell its age.
    time = max(passed, timedelta(seconds=session.interval_seconds))
    if session.is_start_guessed:
        time = max(time, LATEST)
    if max(up_more, down_more) > most_a_second * int(time.total_seconds()):
        return None
    interval = session.interval_seconds
    if report.kind is ReportKind.INTERIM:
        interval = int(min(max(passed, SHORTEST_INTERVAL), LONGEST_INTERVAL).total_seconds())
    started_at, seen_at = session.started_at, session.seen_at
    from_at, until_at = session.counted_at, max(report.at, session.counted_at)
    off = abs(report.at - session.counted_at - passed)
    if report.session_seconds is not None and off > CLOCKS_DIFFER:
        # The clock was put right in between; if that was much, what it said before is no use.
        start = report.at - timedelta(seconds=seconds)
        from_at, until_at = report.at - passed, report.at
        started_at = start if off > LATEST else min(start, started_at)
        seen_at = report.at if off > LATEST else seen_at
    from_at = max(from_at, until_at - LONGEST_SESSION)
    has_wrapped = up > octets[0] or down > octets[1]
    after = replace(
        session,
        started_at=started_at,
        counted_at=until_at,
        counted_seconds=seconds,
        seen_at=seen_at,
        up_bytes=up,
        down_bytes=down,
        interval_seconds=interval,
        lacks_gigawords=session.lacks_gigawords or (has_wrapped and not report.has_gigawords),
        is_doubted=False,
    )
    return after, Delta(from_at, until_at, up_more, down_more) if up_more or down_more else None


def _counter(known: int, octets: int, has_gigawords: bool) -> int:
    """The counter in full: never lower than it was. What has gigawords is taken as it is; of what
    has none, the least number that ends in these 32 bits and is not below what is known."""
    if octets >= known:
        return octets
    if has_gigawords:
        return known
    return octets + -((octets - known) // WRAP) * WRAP
