"""Accounting reports, however they arrive: bars 62-64, without a database."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprints.lines import counting, spreading
from blueprints.lines.counting import Counted, Delta
from gateways.network.base import Report, ReportKind

START = datetime(2026, 3, 7, 22, 10, 5, tzinfo=UTC)
YEAR = datetime(2026, 1, 1, tzinfo=UTC)
ZONE = "America/Los_Angeles"


def report(minutes: float, up: int | None, down: int | None, **more: object) -> Report:
    facts: dict[str, object] = {
        "kind": ReportKind.INTERIM,
        "nas": "nas",
        "session": "s1",
        "at": START + timedelta(minutes=minutes),
        "session_seconds": int(minutes * 60),
        "up_octets": up,
        "down_octets": down,
    }
    return Report(**(facts | more))  # type: ignore[arg-type]


def told(*reports: Report) -> tuple[Counted, list[Delta]]:
    """The session after its reports in this order, and what it carried by them."""
    session, deltas = counting.begin(reports[0]), []
    for each in reports:
        session, delta = counting.count(session, each)
        deltas += [delta] if delta is not None else []
    return session, deltas


def test_counters_are_counted_by_how_far_they_rose() -> None:
    session, deltas = told(report(15, 100, 1000), report(30, 150, 1800))
    assert [(d.up_bytes, d.down_bytes) for d in deltas] == [(100, 1000), (50, 800)]
    assert (deltas[0].from_at, deltas[0].until_at) == (START, START + timedelta(minutes=15))
    assert (session.up_bytes, session.down_bytes, session.ended_at) == (150, 1800, None)


def test_late_or_repeated_report_lowers_nothing() -> None:
    session, deltas = told(report(30, 150, 1800), report(15, 100, 1000), report(30, 150, 1800))
    assert (session.up_bytes, session.down_bytes) == (150, 1800)
    assert len(deltas) == 1


def test_stop_without_counters_keeps_the_last_known_ones() -> None:
    session, _ = told(
        report(15, 100, 1000), report(20, None, None, kind=ReportKind.STOP, cause="Lost-Carrier")
    )
    assert (session.up_bytes, session.down_bytes) == (100, 1000)
    assert session.ended_at == START + timedelta(minutes=20)


def test_interim_after_the_stop_opens_nothing_and_still_counts_what_is_more() -> None:
    session, deltas = told(
        report(15, 100, 1000),
        report(25, None, None, kind=ReportKind.STOP),
        report(20, 120, 1100),
        report(40, 120, 1100),
    )
    assert session.is_stopped
    assert session.ended_at == START + timedelta(minutes=25)
    assert sum(delta.down_bytes for delta in deltas) == 1100


@pytest.mark.parametrize("sends", [True, False], ids=["gigawords", "none"])
def test_counter_that_wraps_goes_on(sends: bool) -> None:
    true = [3_000_000_000, 5_000_000_000, 9_100_000_000]
    reports = [
        report(15 * (n + 1), 0, value if sends else value % counting.WRAP, has_gigawords=sends)
        for n, value in enumerate(true)
    ]
    session, _ = told(*reports)
    assert session.down_bytes == (true[-1] if sends else 9_100_000_000)
    assert session.lacks_gigawords is not sends


def test_nas_that_leaves_out_gigawords_of_zero_is_not_taken_for_one_that_never_sends_them() -> None:
    session, _ = told(report(15, 0, 3_000_000_000), report(30, 0, 5 * 10**9, has_gigawords=True))
    assert session.down_bytes == 5 * 10**9
    assert not session.lacks_gigawords


def test_id_given_out_again_is_another_session() -> None:
    session, _ = told(report(600, 1, 1, kind=ReportKind.STOP))
    again = report(0, None, None, kind=ReportKind.START, at=START + timedelta(days=1))
    assert not counting.is_of(session, again)
    assert counting.is_of(session, report(300, 1, 1))
    late = replace(report(300, 1, 1), session_seconds=None)
    assert counting.is_of(session, late)


def test_silent_session_is_closed_at_its_last_report_and_comes_back_when_heard_of() -> None:
    session, _ = told(report(15, 1, 1), report(30, 2, 2))
    assert session.interval_seconds == 900
    assert counting.silent_since(START, 900) == START - timedelta(minutes=45)
    stale = replace(session, is_stale=True, ended_at=session.seen_at)
    heard, _ = counting.count(stale, report(120, 3, 3))
    assert heard.ended_at is None
    assert not heard.is_stale
    late, _ = counting.count(stale, report(20, 1, 1))
    assert late.is_stale


def test_reboot_ends_what_began_before_it_with_its_last_report() -> None:
    session, _ = told(report(15, 1, 1))
    at = START + timedelta(hours=2)
    closed = counting.close_for_reboot(session, at)
    assert closed.ended_at == START + timedelta(minutes=15)
    since = replace(session, started_at=at + timedelta(seconds=1))
    assert counting.close_for_reboot(since, at) == since


@st.composite
def lives(draw: st.DrawFn) -> tuple[list[Report], list[tuple[int, int]]]:
    """Reports of one session in the order in which they were made, and its true counters."""
    sends = draw(st.booleans())
    has_time = draw(st.booleans())
    fast = draw(st.sampled_from([10**4, 10**7, 4 * 10**9]))
    truth = [(0, 0)]
    for _ in range(draw(st.integers(1, 12))):
        up, down = truth[-1]
        truth.append((up + draw(st.integers(0, fast)), down + draw(st.integers(0, fast))))
    reports = []
    for number, (up, down) in enumerate(truth):
        kind = ReportKind.INTERIM
        if number == 0:
            kind = ReportKind.START
        elif number == len(truth) - 1:
            kind = ReportKind.STOP
        made = report(15 * number, up, down, kind=kind, has_gigawords=sends)
        if not sends:
            made = replace(made, up_octets=up % counting.WRAP, down_octets=down % counting.WRAP)
        if has_time:
            off = draw(st.integers(-600, 600)) if number else 0
            made = replace(made, at=made.at + timedelta(seconds=off))
        else:
            made = replace(made, session_seconds=None)
        reports.append(made)
    return reports, truth


@given(lives(), st.randoms(use_true_random=False), st.data())
def test_usage_is_the_truth_once_the_last_report_is_in(
    life: tuple[list[Report], list[tuple[int, int]]], chance: random.Random, data: st.DataObject
) -> None:
    """Lost, repeated, late and shuffled reports. Without gigawords a counter may wrap unseen where
    two reports in a row are lost, so that these are shuffled only within what was not lost."""
    reports, truth = life
    lossless = not reports[0].has_gigawords
    lost = set() if lossless else data.draw(st.sets(st.integers(0, max(0, len(reports) - 2))))
    arriving = [each for number, each in enumerate(reports) if number not in lost]
    if not lossless:
        arriving += chance.choices(arriving, k=len(arriving) // 2)
        chance.shuffle(arriving)
    session, known = counting.begin(arriving[0]), (0, 0)
    sums: defaultdict[date, int] = defaultdict(int)
    for each in arriving:
        assert counting.is_of(session, each)
        session, delta = counting.count(session, each)
        assert (session.up_bytes, session.down_bytes) >= known
        assert session.up_bytes >= known[0]
        assert session.down_bytes >= known[1]
        known = (session.up_bytes, session.down_bytes)
        if delta is not None:
            assert min(delta.up_bytes, delta.down_bytes) >= 0
            for day_on, _hour, up, down in spreading.spread(delta, ZONE):
                assert min(up, down) >= 0
                sums[day_on] += up + down
    assert known == truth[-1]
    assert sum(sums.values()) == sum(truth[-1])
    assert session.is_stopped


@given(
    st.integers(0, 365 * 86_400).map(lambda seconds: YEAR + timedelta(seconds=seconds)),
    st.integers(0, 60 * 60 * 60),
    st.integers(0, 2**53),
    st.integers(0, 2**53),
)
def test_what_is_spread_adds_up_over_midnights_and_changes_of_the_clock(
    from_at: datetime, seconds: int, up: int, down: int
) -> None:
    delta = Delta(from_at, from_at + timedelta(seconds=seconds), up, down)
    parts = list(spreading.spread(delta, ZONE))
    assert sum(part[2] for part in parts) == up
    assert sum(part[3] for part in parts) == down
    assert all(min(part[2:]) >= 0 and 0 <= part[1] < 25 for part in parts)
    keys = [part[:2] for part in parts]
    assert keys == sorted(set(keys))
    assert len(parts) <= seconds // 3600 + 2


def test_day_on_which_the_clock_is_set_back_has_twenty_five_hours() -> None:
    begins_at = spreading.start_of_day(date(2026, 11, 1), ZONE)
    delta = Delta(begins_at, begins_at + timedelta(hours=25), 25 * 1000, 25)
    parts = list(spreading.spread(delta, ZONE))
    assert [part[:3] for part in parts] == [(date(2026, 11, 1), n, 1000) for n in range(25)]
