"""Accounting reports, however they arrive: bars 62-64, without a database."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import assume, given
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


def is_of(session: Counted, report: Report) -> bool:
    """Whether the report is of this session, the only one that is known of its id."""
    return counting.which([session], report) is not None


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
    assert not is_of(session, again)
    assert is_of(session, report(300, 1, 1))
    late = replace(report(300, 1, 1), session_seconds=None)
    assert is_of(session, late)


def test_clock_that_is_put_right_makes_no_other_session() -> None:
    """Three hours slow at first, then right."""
    session, _ = told(report(5, 10**6, 10**9), report(10, 10**6, 11 * 10**8))
    for number, minutes in enumerate((15, 20, 25, 30)):
        right = report(minutes, 10**6, (12 + number) * 10**8)
        right = replace(right, at=right.at + timedelta(hours=3))
        assert is_of(session, right)
        session, delta = counting.count(session, right)
        assert delta == Delta(right.at - timedelta(minutes=5), right.at, 0, 10**8)
    late = report(15, 10**6, 12 * 10**8, at=START + timedelta(hours=3, minutes=15))
    assert is_of(session, late), "no other can have run within this one"
    assert counting.count(session, late)[1] is None


@pytest.mark.parametrize("years", [-56, 3])
def test_clock_that_was_years_off_is_forgotten_once_it_is_right(years: int) -> None:
    def off(made: Report) -> Report:
        return replace(made, at=made.at + timedelta(days=365 * years))

    session, _ = told(off(report(5, 1, 1000)), off(report(10, 1, 2000)))
    right = report(15, 1, 3000)
    assert is_of(session, right)
    session, delta = counting.count(session, right)
    assert delta == Delta(right.at - timedelta(minutes=5), right.at, 0, 1000)
    assert (session.started_at, session.seen_at) == (START, right.at)


def test_report_that_came_late_without_its_time_is_of_the_same_session() -> None:
    """Forty minutes late, before or after one that came at once, or again after the end."""
    session, _ = told(report(60, 1, 10**9), report(65, 1, 11 * 10**8))
    kept = replace(report(70, 1, 12 * 10**8), at=START + timedelta(minutes=110))
    live = report(110, 1, 13 * 10**8)
    for arriving in ((kept, live), (live, kept)):
        after = session
        for each in arriving:
            assert is_of(after, each)
            after, _delta = counting.count(after, each)
        assert (after.down_bytes, after.counted_seconds) == (13 * 10**8, 6600)
    stop = report(20, 5, 1000, kind=ReportKind.STOP)
    stopped, _ = told(stop)
    assert is_of(stopped, replace(stop, at=stop.at + timedelta(minutes=40)))
    other = replace(stop, at=stop.at + timedelta(minutes=40), down_octets=1001)
    assert not is_of(stopped, other)


def test_id_given_out_again_before_the_end_was_told_is_another_session() -> None:
    session, _ = told(report(15, 100, 1000), report(30, 200, 2000))
    day = timedelta(days=1)
    for again in (
        report(0, 0, 0, kind=ReportKind.START),
        report(15, 500, 5000),
        report(45, 199, 5000),
        report(45, None, None),
    ):
        assert not is_of(session, replace(again, at=again.at + day))
    nothing, _ = told(report(0, 0, 0, kind=ReportKind.START))
    assert not is_of(nothing, replace(report(15, 5, 5), at=START + day))
    rebooted = counting.close_for_reboot(session, START + timedelta(hours=1))
    assert not is_of(rebooted, replace(report(45, 900, 9000), at=START + day))


@pytest.mark.parametrize(
    "octets", [(-1, 5), (5, -(2**40)), (2**60, 5), (5, 2**63 - 1), (2**70, 2**70)]
)
def test_counters_that_cannot_be_are_as_none_given(octets: tuple[int, int]) -> None:
    good, last = report(15, 100, 1000), report(30, 200, 2000)
    session, deltas = told(good, report(20, *octets, has_gigawords=True))
    assert (session.up_bytes, session.down_bytes, session.is_doubted) == (100, 1000, True)
    assert session.seen_at == START + timedelta(minutes=20)
    assert len(deltas) == 1
    session, deltas = told(good, report(20, *octets, has_gigawords=True), last)
    assert (session.up_bytes, session.down_bytes, session.is_doubted) == (200, 2000, False)
    session, _ = told(good, report(20, *octets, kind=ReportKind.STOP))
    assert (session.is_stopped, session.down_bytes) == (True, 1000)


def test_line_carries_no_more_than_its_speed_lets_through() -> None:
    most = counting.most_a_second(100_000, 20_000)
    assert most == 10 * 100_000_000 // 8
    session, _ = counting.count(counting.begin(report(15, 0, 0)), report(15, 1, 1), most)
    for down, is_believed in ((most * 900 + 1, True), (most * 900 + 2, False), (10**9, True)):
        after, delta = counting.count(session, report(30, 1, down), most)
        assert (delta is not None, after.is_doubted) == (is_believed, not is_believed)
    # What could not be in a quarter of an hour can be in a day.
    after, delta = counting.count(after, report(1440, 1, most * 9000), most)
    assert delta is not None
    assert counting.most_a_second(None, None) == 10**10 // 8


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
        assert is_of(session, each)
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


@given(lives(), st.integers(31, 20_000), st.data())
def test_clock_that_is_put_right_costs_and_doubles_nothing(
    life: tuple[list[Report], list[tuple[int, int]]], minutes: int, data: st.DataObject
) -> None:
    """By whatever it was off, either way, and whenever that is; reports arrive as they are made,
    and some again."""
    reports, truth = life
    assume(reports[-1].session_seconds is not None and reports[-1].has_gigawords)
    since = data.draw(st.integers(0, len(reports)))
    off = timedelta(minutes=data.draw(st.sampled_from([-1, 1])) * minutes)
    sessions: list[Counted] = []
    sums = [0, 0]
    made = [
        replace(each, at=each.at + off) if n >= since else each for n, each in enumerate(reports)
    ]
    for arriving in (each for each in made for _ in range(data.draw(st.integers(1, 2)))):
        place = counting.which(sessions, arriving)
        if place is None:
            place = len(sessions)
            sessions.append(counting.begin(arriving))
        sessions[place], delta = counting.count(sessions[place], arriving)
        if delta is not None:
            assert timedelta(0) <= delta.until_at - delta.from_at <= timedelta(hours=4)
            sums[0] += delta.up_bytes
            sums[1] += delta.down_bytes
    assert (sums[0], sums[1]) == truth[-1]


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
