"""The worker reads the network's accounting on from where it ended, whatever fails."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from blueprints.lines.reading import Reading
from core import clock
from gateways.network.base import Accounting, NetworkState
from gateways.network.errors import GatewayTimeout
from gateways.network.simulated import SimulatedNetwork
from tests.conftest import Portal


@pytest.fixture
def network(ctx: Portal) -> SimulatedNetwork:
    path = ctx.settings.data / "network.db"
    path.unlink(missing_ok=True)
    made = SimulatedNetwork(path, clock.now)
    made.set_states([("ppp-alice", NetworkState.OPEN), ("ppp-mallory", NetworkState.OPEN)])
    return made


def down_of(portal: Portal, name: str) -> tuple[int, int]:
    """Bytes down of the line by its sessions and by its days."""
    ways = []
    for table in ("usage_sessions", "usage_days"):
        [row] = portal.rows(
            f"SELECT coalesce(sum({table}.down_bytes), 0) FROM {table}"
            " JOIN lines ON lines.id = line_id WHERE username = :name",
            name=f"ppp-{name}",
        )
        ways.append(int(row[0]))
    return ways[0], ways[1]


def live(reading: Reading, start: datetime, hours: float, minutes: int = 5) -> None:
    for step in range(int(hours * 60 / minutes) + 1):
        with clock.set_to(start + timedelta(minutes=minutes * step)):
            reading()


def test_what_the_network_carried_is_read(ctx: Portal, network: SimulatedNetwork) -> None:
    live(Reading(network), clock.now(), 6)
    by_sessions, by_days = down_of(ctx, "alice")
    assert by_sessions == by_days > 0
    [row] = ctx.rows("SELECT failure, read_at IS NOT NULL FROM usage_sources")
    assert tuple(row) == ("", True)


def test_line_that_is_held_carries_nothing(ctx: Portal, network: SimulatedNetwork) -> None:
    reading, start = Reading(network), clock.now()
    live(reading, start, 2)
    network.set_states([("ppp-alice", NetworkState.HELD)])
    live(reading, start + timedelta(hours=2, minutes=5), 1)
    before = down_of(ctx, "alice")
    live(reading, start + timedelta(hours=4), 3)
    assert down_of(ctx, "alice") == before
    assert down_of(ctx, "mallory") > before or down_of(ctx, "mallory")[0] > 0
    [row] = ctx.rows(
        "SELECT is_stopped FROM usage_sessions WHERE line_id IN"
        " (SELECT id FROM lines WHERE username = 'ppp-alice')"
    )
    assert row[0]


def test_network_that_does_not_answer_is_asked_again_and_nothing_is_lost(
    ctx: Portal, network: SimulatedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, start = Reading(network), clock.now()
    live(reading, start, 1)

    def fail(cursor: str) -> Accounting:
        raise GatewayTimeout(f"nobody answers {cursor}")

    with monkeypatch.context() as patch:
        patch.setattr(network, "read_accounting", fail)
        live(reading, start + timedelta(hours=1), 2)
        [row] = ctx.rows("SELECT failure, read_at < failed_at FROM usage_sources")
        assert row[0].startswith("nobody answers ")
        assert row[1]
    live(reading, start + timedelta(hours=3), 1)
    by_sessions, by_days = down_of(ctx, "alice")
    assert by_sessions == by_days > 0
    [row] = ctx.rows("SELECT failure FROM usage_sources")
    assert row[0] == ""


def test_old_usage_is_forgotten_in_steps(ctx: Portal, network: SimulatedNetwork) -> None:
    start = clock.now() - timedelta(days=500)
    live(Reading(network), start, 4, 30)
    assert ctx.rows("SELECT 1 FROM usage_days WHERE hours IS NOT NULL")
    with clock.set_to(start + timedelta(days=40)):
        Reading(network)()
    kept = "SELECT day_on, hours IS NULL FROM usage_days ORDER BY day_on"
    days = [(str(row[0]), bool(row[1])) for row in ctx.rows(kept)]
    assert days[0][1]
    assert not days[-1][1]
    assert [is_empty for _day, is_empty in days].count(False) == 2 * 36, "of two lines"
    with clock.set_to(start + timedelta(days=440)):
        Reading(network)()
    assert str(ctx.rows(kept)[0][0]) > days[0][0]
