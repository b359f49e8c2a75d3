"""What is said of a line's usage, on both databases."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from blueprints.dashboard.usage import service
from blueprints.dashboard.usage.errors import LineNotFound
from blueprints.dashboard.usage.service import AsOf, Carried, Period
from blueprints.lines import accounting
from blueprints.lines.spreading import start_of_day
from core import clock
from gateways.network.base import Report, ReportKind
from tests.conftest import Portal
from tests.dashboard.usage.carried import GB, carry, connect, include, line_of, read
from tests.world import NOW

TODAY = date(2026, 6, 20)


def period(portal: Portal, today: date = TODAY) -> Period:
    line_id = line_of(portal)
    terms = service.find_terms(portal.world.accounts["alice"], line_id, today)
    return service.find_period(line_id, terms, today)


def test_line_that_carried_nothing(ctx: Portal) -> None:
    found = period(ctx)
    assert (found.span.from_on, found.span.last_on) == (date(2026, 6, 1), date(2026, 6, 30))
    assert (found.used, found.expected_bytes, found.days_left) == (Carried(0, 0), 0, 11)
    assert [day for day, _carried in found.days] == [date(2026, 6, day) for day in range(1, 21)]
    line_id = line_of(ctx)
    assert service.list_months(line_id, TODAY) == []
    assert service.list_hours(line_id, TODAY) == []
    assert service.list_days(line_id, date(2025, 6, 1), TODAY) == []
    assert service.list_sessions(line_id, 1) == service.SessionList((), 1, 1)


def test_period_counts_its_own_days_and_line_alone(ctx: Portal) -> None:
    for day in (date(2026, 5, 31), date(2026, 6, 1), date(2026, 6, 19), date(2026, 7, 1)):
        carry(ctx, day, [(1, 10), (2, 20)])
    carry(ctx, date(2026, 6, 2), [(500, 500)], line_of(ctx, "mallory"))
    found = period(ctx)
    assert found.used == Carried(6, 60)
    assert dict(found.days)[date(2026, 6, 1)] == Carried(3, 30)
    assert dict(found.days)[date(2026, 6, 2)] == Carried(0, 0)


@pytest.mark.parametrize(
    ("bill_day", "today", "from_on", "last_on"),
    [
        (1, "2026-06-20", "2026-06-01", "2026-06-30"),
        (20, "2026-06-20", "2026-06-20", "2026-07-19"),
        (21, "2026-06-20", "2026-05-21", "2026-06-20"),
        (31, "2026-02-28", "2026-02-28", "2026-03-30"),
        (31, "2026-02-27", "2026-01-31", "2026-02-27"),
        (29, "2028-02-29", "2028-02-29", "2028-03-28"),
    ],
)
def test_period_is_that_of_the_bill(
    ctx: Portal, bill_day: int, today: str, from_on: str, last_on: str
) -> None:
    ctx.execute("UPDATE accounts SET bill_day = :day", day=bill_day)
    day = date.fromisoformat(today)
    for outside in (date.fromisoformat(from_on) - timedelta(days=1), day + timedelta(days=1)):
        carry(ctx, outside, [(7, 7)])
    carry(ctx, day, [(1, 1)])
    found = period(ctx, day)
    assert (str(found.span.from_on), str(found.span.last_on)) == (from_on, last_on)
    assert found.used == Carried(1, 1)
    assert found.days_left == (found.span.until_on - day).days >= 1


@pytest.mark.parametrize(
    ("included", "used", "left"),
    [(None, 40, None), (100, 0, 100), (100, 40, 60), (100, 100, 0), (100, 130, -30)],
)
def test_what_is_left_of_what_is_included(
    ctx: Portal, included: int | None, used: int, left: int | None
) -> None:
    include(ctx, None if included is None else included * GB)
    carry(ctx, date(2026, 6, 3), [(0, used * GB)])
    found = period(ctx)
    assert found.left_bytes == (None if left is None else left * GB)
    assert found.allowance is not None
    assert found.allowance.plan_name == "Fiber 300"


def test_plan_of_another_line_or_one_that_ended_includes_nothing(ctx: Portal) -> None:
    include(ctx, GB)
    ctx.execute("UPDATE subscriptions SET line_id = :id", id=line_of(ctx, "mallory"))
    assert period(ctx).allowance is None
    ctx.execute("UPDATE subscriptions SET line_id = NULL")
    assert period(ctx).left_bytes == GB, "a plan that names no line is of the account's"
    ctx.execute("UPDATE subscriptions SET ended_on = '2026-06-20' WHERE plan_id = 1")
    assert period(ctx).allowance is None


def test_plan_that_began_within_the_period_includes_its_share_and_counts_from_there(
    ctx: Portal,
) -> None:
    include(ctx, 100 * GB)
    ctx.execute("UPDATE subscriptions SET started_on = '2026-06-10' WHERE plan_id = 1")
    carry(ctx, date(2026, 6, 9), [(0, 70 * GB)])
    carry(ctx, date(2026, 6, 10), [(0, 40 * GB)])
    found = period(ctx)
    assert found.allowance is not None
    assert found.allowance.included_bytes == 70 * GB
    assert (found.used.total_bytes, found.left_bytes) == (110 * GB, 30 * GB)


def test_pace_is_that_of_the_days_that_are_over(ctx: Portal) -> None:
    for day in range(1, 20):
        carry(ctx, date(2026, 6, day), [(0, GB)])
    assert period(ctx).expected_bytes == 30 * GB
    carry(ctx, TODAY, [(0, 50 * GB)])
    assert period(ctx).expected_bytes == 69 * GB, "at least what is used already"
    assert period(ctx, date(2026, 6, 1)).expected_bytes is None, "nothing follows from one day"


@pytest.mark.parametrize(
    ("day", "hours"), [("2026-03-08", 23), ("2026-06-20", 24), ("2026-11-01", 25)]
)
def test_hours_of_days_on_which_the_clock_changes(ctx: Portal, day: str, hours: int) -> None:
    """A connection from midnight to midnight carries as much each hour."""
    day_on = date.fromisoformat(day)
    begins = start_of_day(day_on, "America/Los_Angeles")
    connect(ctx, begins, 60 * hours, 4 * hours * 1000)
    found = service.list_hours(line_of(ctx), day_on)
    assert [carried for _at, carried in found] == [Carried(1000, 4000)] * hours
    assert [at for at, _carried in found] == [
        begins + timedelta(hours=number) for number in range(hours)
    ]
    [(only, whole)] = service.list_days(line_of(ctx), day_on - timedelta(days=1), day_on)
    assert (only, whole) == (day_on, Carried(1000 * hours, 4000 * hours))


def test_connection_over_a_month_end_is_in_both_months(ctx: Portal) -> None:
    begins = start_of_day(date(2026, 5, 31), "America/Los_Angeles")
    connect(ctx, begins, 60 * 48, 48_000)
    line_id = line_of(ctx)
    assert service.list_months(line_id, TODAY) == [
        (date(2026, 6, 1), Carried(6_000, 24_000)),
        (date(2026, 5, 1), Carried(6_000, 24_000)),
    ]
    assert [day for day, _ in service.list_days(line_id, date(2026, 5, 1), TODAY)] == [
        date(2026, 5, 31), date(2026, 6, 1),
    ]  # fmt: skip


def test_thirteen_months_and_none_before_the_first_known(ctx: Portal) -> None:
    carry(ctx, date(2025, 5, 31), [(9, 9)])
    carry(ctx, date(2025, 6, 1), [(1, 1)])
    carry(ctx, date(2026, 2, 28), [(1, 1)])
    months = service.list_months(line_of(ctx), TODAY)
    assert len(months) == service.MONTHS
    assert months[0] == (date(2026, 6, 1), Carried(0, 0))
    assert months[-1] == (date(2025, 6, 1), Carried(1, 1))
    assert sum(carried.total_bytes for _month, carried in months) == 4


def as_of(portal: Portal) -> AsOf:
    return service.find_terms(portal.world.accounts["alice"], line_of(portal), TODAY).as_of


def test_as_of_says_up_to_when_everything_is_counted(ctx: Portal) -> None:
    assert as_of(ctx) == AsOf(None, is_behind=False)
    read(ctx)
    assert as_of(ctx) == AsOf(NOW, is_behind=False)
    at = NOW - timedelta(minutes=9)
    running = Report(
        ReportKind.INTERIM, "10.0.0.1", at, "s1", "ppp-alice", 900, 10, 10, has_gigawords=True
    )
    accounting.take([running])
    assert as_of(ctx) == AsOf(at, is_behind=False), "a session that runs is behind the reading"
    read(ctx, NOW - timedelta(hours=3), "the network did not answer")
    assert as_of(ctx) == AsOf(NOW - timedelta(hours=3), is_behind=True)


def test_network_that_never_answered_is_behind(ctx: Portal) -> None:
    read(ctx, failure="the network did not answer")
    ctx.execute("UPDATE usage_sources SET read_at = NULL")
    assert as_of(ctx) == AsOf(None, is_behind=True)


def test_sessions_are_the_newest_first_with_their_device_masked(ctx: Portal) -> None:
    for day in (3, 5, 4):
        at = datetime(2026, 6, day, 8, tzinfo=UTC)
        connect(ctx, at, 90, 4_000, address="100.64.0.9", device="02:00:5e:00:53:01")
    found = service.list_sessions(line_of(ctx), 1)
    assert [view.started_at.day for view in found.sessions] == [5, 4, 3]
    first = found.sessions[0]
    assert (first.seconds, first.up_bytes, first.down_bytes) == (5400, 1000, 4000)
    assert (first.address, first.device) == ("100.64.0.9", "…53:01")
    assert service.list_sessions(line_of(ctx, "mallory"), 1).sessions == ()


def test_page_of_sessions_beyond_the_last_is_the_last(ctx: Portal) -> None:
    begins = datetime(2026, 6, 1, tzinfo=UTC)
    for number in range(service.SESSIONS_SHOWN + 1):
        connect(ctx, begins + timedelta(hours=number), 30, 100)
    last = service.list_sessions(line_of(ctx), 2)
    assert (len(last.sessions), last.page, last.page_count) == (1, 2, 2)
    assert service.list_sessions(line_of(ctx), 99) == last
    assert service.list_sessions(line_of(ctx), -1).page == 1


@pytest.mark.parametrize(
    ("device", "masked"), [("", ""), ("abc", "abc"), ("02:00:5e:00:53:01", "…53:01")]
)
def test_mask(device: str, masked: str) -> None:
    assert service.mask(device) == masked


def test_lines_that_run_come_first_and_others_lines_do_not_exist(ctx: Portal) -> None:
    ctx.execute(
        "INSERT INTO lines (public_id, account_id, username, is_closed, wanted_state, sync_count,"
        " sync_failure) VALUES ('second', :id, 'ppp-second', FALSE, 'open', 0, '')",
        id=ctx.world.accounts["alice"],
    )
    ctx.execute("UPDATE lines SET is_closed = TRUE WHERE username = 'ppp-alice'")
    lines = service.list_lines(ctx.world.accounts["alice"])
    assert [line.username for line in lines] == ["ppp-second", "ppp-alice"]
    first = service.get_line(lines, None)
    assert first is not None
    assert first.username == "ppp-second"
    with pytest.raises(LineNotFound):
        service.get_line(lines, "malloryline00")
    assert service.get_line([], None) is None
    assert clock.now() == NOW
