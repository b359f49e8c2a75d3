"""Customers are told how much of what is included is used, once for each threshold and period."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import pytest

from blueprints.lines import accounting
from blueprints.lines.allowances import rules, watching
from blueprints.lines.allowances.standing import list_standings
from core import clock
from gateways.network.base import Report, ReportKind
from tests.conftest import Portal, together
from tests.dashboard.told import letters
from tests.dashboard.usage.carried import GB, carry, include, line_of
from tests.world import NOW


@pytest.mark.parametrize(
    ("used", "reached"),
    [(0, []), (74, []), (75, [75]), (90, [75, 90]), (100, [75, 90, 100]), (9999, [75, 90, 100])],
)
def test_thresholds_that_are_reached(used: int, reached: list[int]) -> None:
    assert rules.crossed(rules.USUAL_PERCENTS, used, 100) == reached
    assert rules.crossed(rules.USUAL_PERCENTS, used, 0) == []


@pytest.fixture
def limited(ctx: Portal) -> Portal:
    include(ctx, 100 * GB)
    return ctx


def use(
    portal: Portal, to_gb: float, name: str = "alice", session: str = "s1", minutes: int = 0
) -> None:
    """The line's session reports that it has carried so much."""
    report = Report(
        ReportKind.INTERIM, "10.0.0.1", clock.now() + timedelta(minutes=minutes), session,
        f"ppp-{name}", 3600 + 60 * minutes, 0, int(to_gb * GB), has_gigawords=True,
    )  # fmt: skip
    with portal.app.app_context():
        accounting.take([report])


def told(portal: Portal) -> list[tuple[str, object]]:
    return [(to, facts["percent"]) for to, facts in letters(portal, "usage_alert")]


def test_each_threshold_is_told_once(limited: Portal) -> None:
    assert watching.look() == 0
    for minutes, to_gb in enumerate((10, 75, 76, 76, 89, 90, 95)):
        use(limited, to_gb, minutes=minutes)
        watching.look()
        watching.look()
    assert told(limited) == [("alice@example.net", 75), ("alice@example.net", 90)]
    assert limited.one("SELECT count(*) FROM lines WHERE look_at IS NOT NULL") == 0


def test_of_several_that_are_reached_at_once_the_highest_is_told(limited: Portal) -> None:
    use(limited, 130)
    watching.look()
    [(to, facts)] = letters(limited, "usage_alert")
    assert (to, facts["percent"], facts["line"]) == ("alice@example.net", 100, "ppp-alice")
    assert (facts["used_bytes"], facts["included_bytes"]) == (130 * GB, 100 * GB)
    assert (facts["last_on"], facts["plan"]) == ("2026-06-30", "Fiber 300")
    assert limited.rows("SELECT percent FROM usage_alerts ORDER BY percent") == [
        (75,), (90,), (100,),
    ]  # fmt: skip


def test_report_that_comes_again_or_late_tells_nothing_again(limited: Portal) -> None:
    use(limited, 80)
    watching.look()
    use(limited, 80)
    use(limited, 5, session="s0", minutes=-600)
    watching.look()
    assert told(limited) == [("alice@example.net", 75)]


def test_next_period_begins_anew(limited: Portal, tick: Callable[..., None]) -> None:
    use(limited, 80)
    watching.look()
    tick(days=15)
    use(limited, 80, session="s2")
    watching.look()
    assert [percent for _to, percent in told(limited)] == [75, 75]
    assert limited.one("SELECT count(DISTINCT period_on) FROM usage_alerts") == 2


def test_usage_of_the_period_before_counts_for_nothing(limited: Portal) -> None:
    carry(limited, date(2026, 5, 31), [(0, 99 * GB)])
    use(limited, 10)
    watching.look()
    assert told(limited) == []


def test_line_without_a_limit_is_not_even_looked_at(ctx: Portal) -> None:
    use(ctx, 9_999)
    assert ctx.one("SELECT count(*) FROM lines WHERE look_at IS NOT NULL") == 0
    assert watching.look() == 0


def test_thresholds_of_ones_own(limited: Portal) -> None:
    limited.execute("UPDATE lines SET alert_percents = '[10, 150]' WHERE username = 'ppp-alice'")
    limited.execute("UPDATE lines SET alert_percents = '[]' WHERE username = 'ppp-mallory'")
    use(limited, 120)
    use(limited, 120, "mallory", "s9")
    watching.look()
    assert told(limited) == [("alice@example.net", 10)]


def test_channels_are_those_chosen_for_data_use(limited: Portal) -> None:
    limited.execute(
        "INSERT INTO contacts (account_id, kind, value, since_on) VALUES (:id, 'phone',"
        " '+15415550199', '2025-01-01')",
        id=limited.world.accounts["alice"],
    )
    for channel, is_on in (("email", False), ("text", True)):
        limited.execute(
            "INSERT INTO message_choices (customer_id, topic, channel, is_on)"
            " VALUES (:id, 'usage', :channel, :is_on)",
            id=limited.world.customers["alice"],
            channel=channel,
            is_on=is_on,
        )
    use(limited, 75)
    watching.look()
    assert told(limited) == [("+15415550199", 75)]


def test_two_workers_at_once_tell_once(limited: Portal) -> None:
    use(limited, 95)

    def work(_number: int) -> int:
        with limited.app.app_context():
            return watching.look()

    results = together(4, work)
    assert not [each for each in results if isinstance(each, Exception)]
    assert told(limited) == [("alice@example.net", 90)]


def test_line_that_is_marked_again_meanwhile_stays_marked(
    limited: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(limited, 10)

    def meanwhile(*arguments: object) -> object:
        limited.execute(
            "UPDATE lines SET look_at = '2026-06-20 19:00:05+00:00' WHERE look_at IS NOT NULL"
        )
        return list_standings(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(f"{watching.__name__}.list_standings", meanwhile)
        watching.look()
    assert limited.one("SELECT count(*) FROM lines WHERE look_at IS NOT NULL") == 1


def test_alerts_are_forgotten_with_the_days(limited: Portal) -> None:
    use(limited, 80)
    watching.look()
    limited.execute(
        "INSERT INTO usage_marks (line_id, period_on, subscription_id, began_on, earned,"
        " carried_bytes, free_bytes, over_bytes, spared_bytes)"
        " SELECT line_id, '2026-06-01', id, '2026-06-20', 0, 0, 0, 0, 0 FROM subscriptions"
        " WHERE line_id = :id AND public_id = 'alicesub1'",
        id=line_of(limited),
    )
    with clock.set_to(NOW + timedelta(days=430)):
        accounting.forget_old()
    assert limited.one("SELECT count(*) FROM usage_alerts") == 0
    assert limited.one("SELECT count(*) FROM usage_marks") == 0
    assert line_of(limited)
