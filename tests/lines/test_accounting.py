"""Reports become sessions and days of usage, on both databases: bars 62-65."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from blueprints.lines import accounting, counting
from core import clock
from gateways.network.base import Report, ReportKind
from tests.conftest import Portal

START = datetime(2026, 3, 7, 22, 10, tzinfo=UTC)


def report(minutes: float, down: int | None, name: str = "alice", **more: Any) -> Report:
    """Of the session that began at START; of three bytes down, one went up."""
    up = None if down is None else down // 3
    facts: dict[str, Any] = {
        "kind": ReportKind.INTERIM,
        "nas": "10.0.0.1",
        "session": f"s-{name}",
        "username": f"ppp-{name}",
        "at": START + timedelta(minutes=minutes),
        "session_seconds": int(minutes * 60),
        "up_octets": up,
        "down_octets": down,
        "has_gigawords": True,
    }
    return Report(**(facts | more))


def days(portal: Portal, name: str = "alice") -> dict[str, tuple[int, int]]:
    rows = portal.rows(
        "SELECT day_on, up_bytes, down_bytes FROM usage_days JOIN lines ON lines.id = line_id"
        " WHERE username = :name",
        name=f"ppp-{name}",
    )
    return {str(row[0]): (row[1], row[2]) for row in rows}


def test_reports_become_a_session_and_days_of_usage(ctx: Portal) -> None:
    taken = accounting.take(
        [
            report(0, 0, kind=ReportKind.START, address="100.64.0.9", device="02:00:5e:00:53:01"),
            report(15, 900),
            report(30, 3000, kind=ReportKind.STOP, cause="User-Request"),
        ]
    )
    assert taken == accounting.Taken(3, frozenset())
    [row] = ctx.rows(
        "SELECT down_bytes, up_bytes, is_stopped, address, device, cause FROM usage_sessions"
    )
    assert tuple(row) == (3000, 1000, True, "100.64.0.9", "02:00:5e:00:53:01", "User-Request")
    assert days(ctx) == {"2026-03-07": (1000, 3000)}


def test_reports_taken_twice_count_once(ctx: Portal) -> None:
    reports = [report(15 * n, 1000 * n) for n in range(1, 40)]
    accounting.take(reports)
    before = days(ctx)
    accounting.take([*reversed(reports), *reports])
    assert days(ctx) == before
    assert sum(down for _up, down in before.values()) == 39_000


def test_line_that_nobody_has_is_named_and_holds_up_no_other(ctx: Portal) -> None:
    taken = accounting.take([report(15, 900, "nobody"), report(15, 900)])
    assert taken == accounting.Taken(1, frozenset({"ppp-nobody"}))
    assert days(ctx)


def test_id_given_out_again_after_a_reboot_is_a_session_of_its_own(ctx: Portal) -> None:
    later = START + timedelta(hours=5)
    accounting.take([report(15, 900)])
    accounting.take(
        [
            Report(ReportKind.REBOOT, "10.0.0.1", START + timedelta(hours=4)),
            report(15, 300, at=later + timedelta(minutes=15)),
            report(30, 1200),
        ]
    )
    rows = ctx.rows(
        "SELECT down_bytes, cause, ended_at IS NULL FROM usage_sessions ORDER BY started_at"
    )
    assert [tuple(row) for row in rows] == [(1200, "NAS-Reboot", False), (300, "", True)]


def test_reboot_ends_the_sessions_of_that_nas_alone(ctx: Portal) -> None:
    accounting.take([report(15, 900), report(15, 900, "mallory", nas="10.0.0.2")])
    accounting.take([Report(ReportKind.REBOOT, "10.0.0.1", START + timedelta(hours=1))])
    rows = ctx.rows("SELECT session, ended_at IS NULL FROM usage_sessions ORDER BY session")
    assert [tuple(row) for row in rows] == [("s-alice", False), ("s-mallory", True)]


def test_silent_session_is_closed_at_its_last_report(ctx: Portal) -> None:
    accounting.take([report(15, 900), report(30, 1800)])
    with clock.set_to(START + timedelta(minutes=74)):
        assert accounting.close_silent() == 0
    with clock.set_to(START + timedelta(minutes=76)):
        assert accounting.close_silent() == 1
    [row] = ctx.rows("SELECT is_stale, is_stopped, ended_at = seen_at FROM usage_sessions")
    assert tuple(row) == (True, False, True)
    accounting.take([report(90, 2700)])
    [row] = ctx.rows("SELECT is_stale, ended_at IS NULL, down_bytes FROM usage_sessions")
    assert tuple(row) == (False, True, 2700)


def test_nas_without_gigawords_is_flagged(ctx: Portal) -> None:
    accounting.take(
        [
            report(15, 3 * 10**9, has_gigawords=False),
            report(30, 10**9, has_gigawords=False),
            report(15, 1, "mallory", nas="10.0.0.2"),
        ]
    )
    rows = ctx.rows("SELECT name, lacks_gigawords FROM nases ORDER BY name")
    assert [tuple(row) for row in rows] == [("10.0.0.1", True), ("10.0.0.2", False)]
    [row] = ctx.rows("SELECT down_bytes FROM usage_sessions WHERE session = 's-alice'")
    assert row[0] == 10**9 + counting.WRAP


@pytest.mark.parametrize("octets", [-1, 2**60, 2**62, 2**63 - 1, 2**80])
def test_wrong_counter_becomes_no_usage_and_takes_no_other_with_it(
    ctx: Portal, octets: int
) -> None:
    for _ in range(4):  # together they would be beyond what a column holds
        taken = accounting.take(
            [
                report(15, 900),
                report(30, octets, up_octets=octets),
                report(15, 300, "mallory", nas="10.0.0.2"),
            ]
        )
        assert (taken.report_count, taken.failed_count) == (3, 0)
    assert days(ctx) == {"2026-03-07": (300, 900)}
    assert days(ctx, "mallory") == {"2026-03-07": (100, 300)}
    rows = ctx.rows("SELECT session, is_doubted FROM usage_sessions ORDER BY session")
    assert [tuple(row) for row in rows] == [("s-alice", True), ("s-mallory", False)]
    rows = ctx.rows("SELECT name, doubted_at IS NOT NULL FROM nases ORDER BY name")
    assert [tuple(row) for row in rows] == [("10.0.0.1", True), ("10.0.0.2", False)]
    accounting.take([report(45, 1500)])
    assert days(ctx) == {"2026-03-07": (500, 1500)}
    [row] = ctx.rows("SELECT is_doubted FROM usage_sessions WHERE session = 's-alice'")
    assert not row[0]


def test_line_is_believed_what_its_speed_lets_through(ctx: Portal) -> None:
    [speed] = ctx.rows("SELECT down_kbps FROM lines WHERE username = 'ppp-alice'")[0]
    most = speed * 1250 * 900
    accounting.take([report(15, most + 3, up_octets=0)])
    assert days(ctx) == {}
    accounting.take([report(15, most, up_octets=0, at=START + timedelta(minutes=16))])
    assert days(ctx) == {"2026-03-07": (0, most)}


@pytest.mark.parametrize("place", [0, 3, 6])
def test_report_that_cannot_be_written_is_left_out_and_the_others_are_counted(
    ctx: Portal, place: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the databases take differs, and so the counter is one that is believed here."""
    monkeypatch.setattr(counting, "MOST_OCTETS", 2**70)
    reports = [report(15 * n, 900 * n) for n in range(1, 7)]
    reports.insert(
        place, report(10**5, 2**65, "mallory", up_octets=2**65, session="x", nas="10.0.0.2")
    )
    monkeypatch.setattr(counting, "most_a_second", lambda *_: 2**70)
    taken = accounting.take(reports)
    assert taken == accounting.Taken(6, frozenset(), 1)
    assert days(ctx) == {"2026-03-07": (1800, 5400)}
    assert "a report cannot be counted" in caplog.text
    rows = ctx.rows("SELECT name, doubted_at IS NOT NULL FROM nases ORDER BY name")
    assert [tuple(row) for row in rows] == [("10.0.0.1", False), ("10.0.0.2", True)]


def test_name_that_no_database_takes_holds_up_no_other(ctx: Portal) -> None:
    taken = accounting.take([report(15, 900), report(15, 900, "\ud800"), report(30, 1800)])
    assert (taken.report_count, taken.failed_count) == (2, 1)
    assert days(ctx) == {"2026-03-07": (600, 1800)}


def test_clock_of_the_server_is_put_right_within_a_session(ctx: Portal) -> None:
    slow = timedelta(hours=3)
    accounting.take([replace(report(5, 900), at=START + timedelta(minutes=5) - slow)])
    accounting.take([report(10, 1200)])
    accounting.take([report(15, 1500), report(10, 1200)])
    assert ctx.rows("SELECT count(*) FROM usage_sessions") == [(1,)]
    assert sum(down for _up, down in days(ctx).values()) == 1500


@pytest.mark.parametrize("seed", range(5))
def test_usage_is_the_truth_whatever_became_of_the_packets(ctx: Portal, seed: int) -> None:
    """Forty sessions of two lines over ten days and a change of the clock: 20 % of the packets
    lost (the last of each arrives), repeated, up to 25 hours late, clocks off by ten minutes."""
    chance = random.Random(seed)
    packets: list[tuple[float, Report]] = []
    truth: dict[str, int] = dict.fromkeys(("alice", "mallory"), 0)
    for name in truth:
        begin = START
        for number in range(20):
            length, down = chance.randrange(2, 48), 0
            off = timedelta(seconds=chance.randrange(-600, 600))
            for step in range(length + 1):
                down += chance.randrange(3 * 10**9)
                kind = ReportKind.INTERIM
                if step in (0, length):
                    kind = ReportKind.START if step == 0 else ReportKind.STOP
                    down = 0 if step == 0 else down
                made = report(15 * step, down, name, kind=kind, session=f"{name}{number % 7}")
                made = replace(made, at=begin + timedelta(minutes=15 * step) + off)
                if step < length and chance.random() < 0.2:
                    continue
                late = chance.choice((0, 0, 0, chance.randrange(25 * 3600)))
                packets.append((made.at.timestamp() + late, made))
                if chance.random() < 0.1:
                    packets.append((made.at.timestamp() + late + chance.randrange(9999), made))
            truth[name] += down
            begin += timedelta(minutes=15 * length + chance.randrange(1, 120))
    packets.sort(key=lambda packet: packet[0])
    accounting.take(each for _arrives_at, each in packets)
    for name, down in truth.items():
        of_days = days(ctx, name)
        assert sum(day[1] for day in of_days.values()) == down
        [sums] = ctx.rows(
            "SELECT count(*), sum(usage_sessions.down_bytes), sum(usage_sessions.up_bytes)"
            " FROM usage_sessions JOIN lines ON lines.id = line_id WHERE username = :name",
            name=f"ppp-{name}",
        )
        assert (sums[0], sums[1]) == (20, down)
        assert sums[2] == sum(day[0] for day in of_days.values())


def test_hours_of_a_day_add_up_to_the_day(ctx: Portal) -> None:
    accounting.take([report(60 * 30, 10**6 + 7, kind=ReportKind.STOP)])
    rows = ctx.rows("SELECT day_on, up_bytes, down_bytes FROM usage_days ORDER BY day_on")
    line_id = ctx.rows("SELECT id FROM lines WHERE username = 'ppp-alice'")[0][0]
    found = accounting.list_hours(line_id, date(2026, 3, 8))
    assert len(rows) == 2
    assert sum(down for _up, down in found) == rows[1][2]
    assert len(found) == 21, "until 21:10 of a day without its third hour"


def test_within_a_unit_of_work_that_fails_nothing_is_counted(
    ctx: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(accounting, "add_hours", fail)
        with pytest.raises(OSError, match="disk"):
            accounting.take([report(15, 900)])
    assert not ctx.rows("SELECT 1 FROM usage_sessions")
    accounting.take([report(15, 900)])
    assert days(ctx) == {"2026-03-07": (300, 900)}
