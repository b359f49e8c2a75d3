"""The worker brings the network to what is wanted, and tries again until it is there."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import update

from blueprints.lines.syncing import PAUSES, Syncing
from core import clock
from core.db import unit_of_work
from gateways.network.base import NetworkState, Setting
from gateways.network.errors import GatewayRefused, GatewayTimeout
from models import HoldReason, Line
from tests.conftest import Portal
from tests.lines.conftest import Street


def messages(portal: Portal) -> list[tuple[str, str]]:
    return [
        (channel, recipient)
        for channel, recipient in portal.rows(
            "SELECT channel, recipient FROM messages WHERE kind = 'line_open' ORDER BY id"
        )
    ]


def fail(error: Exception) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


def test_first_round_tells_the_network_of_every_line(street: Street) -> None:
    assert {street.reached(name) for name in ("alice", "mallory", "rich")} == {NetworkState.OPEN}
    assert street.column("sync_at") is None
    assert street.sync() == 0
    assert messages(street.portal) == []


def test_held_line_is_switched_off_and_on_again(street: Street) -> None:
    street.hold()
    assert street.sync() == 1
    assert street.reached() is NetworkState.HELD
    assert street.reached("mallory") is NetworkState.OPEN
    street.release()
    assert street.sync() == 1
    assert street.reached() is NetworkState.OPEN
    assert messages(street.portal) == [("email", "alice@example.net")]


def test_silent_network_is_asked_again_with_growing_pauses(
    street: Street, tick: Callable[..., None]
) -> None:
    street.network.before = fail(GatewayTimeout("no answer from 10.0.0.1"))
    street.hold()
    for pause in (*PAUSES, PAUSES[-1]):
        assert street.sync() == 1
        assert street.column("sync_failure") == "no answer from 10.0.0.1"
        assert street.sync() == 0
        tick(seconds=pause.total_seconds() - 1)
        assert street.sync() == 0
        tick(seconds=1)
    street.network.before = lambda: None
    assert street.sync() == 1
    assert street.reached() is NetworkState.HELD
    assert (street.column("sync_failure"), street.column("sync_count")) == ("", 0)


def test_change_whose_answer_was_lost_is_made_again(
    street: Street, tick: Callable[..., None]
) -> None:
    street.network.after = fail(GatewayTimeout("the answer was lost"))
    street.hold()
    street.sync()
    assert street.reached() is NetworkState.HELD
    assert street.column("reached_state") == "open"
    street.network.after = lambda: None
    tick(seconds=PAUSES[0].total_seconds())
    street.sync()
    assert street.column("reached_state") == "held"


def test_line_that_fails_does_not_hold_up_others(street: Street) -> None:
    street.hold(name="alice")
    street.hold(name="mallory")
    faults = iter([GatewayRefused("no such port"), RuntimeError("broken")])

    def fail_once() -> None:
        if (error := next(faults, None)) is not None:
            raise error

    street.network.before = fail_once
    street.hold(name="rich")
    assert street.sync() == 3
    assert street.reached("rich") is NetworkState.HELD
    assert street.column("sync_failure", of="mallory") == "RuntimeError"


def test_what_is_wanted_meanwhile_is_set_next(street: Street) -> None:
    street.hold()
    street.network.after = street.release
    street.sync()
    assert street.reached() is NetworkState.HELD
    street.network.after = lambda: None
    street.sync()
    assert street.reached() is NetworkState.OPEN
    assert street.column("sync_at") is None


def test_worker_that_died_between_network_and_note_leaves_it_to_the_next(
    street: Street, tick: Callable[..., None]
) -> None:
    street.hold()

    def die() -> None:
        raise KeyboardInterrupt

    street.network.after = die
    try:
        street.sync()
    except KeyboardInterrupt:
        street.network.after = lambda: None
    street.release()
    tick(minutes=3)
    street.sync()
    assert street.reached() is NetworkState.OPEN


def test_release_for_another_reason_is_told_too(street: Street) -> None:
    street.hold(HoldReason.PAUSE)
    street.sync()
    street.release(HoldReason.PAUSE)
    street.sync()
    assert len(messages(street.portal)) == 1


def test_customer_who_wants_no_such_message_gets_none(street: Street) -> None:
    street.portal.execute(
        "INSERT INTO message_choices (customer_id, topic, channel, is_on)"
        " VALUES (:id, 'service', 'email', false)",
        id=street.portal.world.customers["alice"],
    )
    street.hold()
    street.sync()
    street.release()
    street.sync()
    assert messages(street.portal) == []


def test_without_a_network_nothing_is_tried_and_nothing_believed(street: Street) -> None:
    street.hold()
    without = Syncing(None)
    assert without() == 0
    assert street.column("reached_state") is None
    assert street.column("wanted_state") == "held"
    home = street.portal.visitor("alice").get(street.portal.path())
    assert "Your internet is off: a bill is unpaid" in home.text


def test_line_that_was_released_while_the_network_was_away_is_let_out_of_the_garden(
    street: Street, tick: Callable[..., None]
) -> None:
    street.hold()
    street.sync()
    Syncing(None)()
    street.release()
    street.network.calls.clear()
    again = Syncing(street.network)
    street.network.before = fail(GatewayTimeout("no answer from 10.0.0.1"))
    again()
    street.network.before = lambda: None
    # Its tables are right by now, as those of a real one would be; its session is not.
    street.network.set_states([("ppp-alice", NetworkState.OPEN)])
    tick(seconds=PAUSES[0].total_seconds())
    again()
    told = {name: confirmed for name, _wanted, confirmed in street.network.calls}
    assert told["ppp-mallory"] is None, "whose session need not be told"
    assert told["ppp-alice"] is not None
    assert told["ppp-alice"].state is NetworkState.HELD
    assert street.column("reached_state") == "open"
    assert messages(street.portal) == [("email", "alice@example.net")]


def test_page_says_that_the_line_comes_back_and_that_it_is_back(street: Street) -> None:
    street.hold()
    street.sync()
    visitor = street.portal.visitor("alice", own_device="y")
    assert "Your internet is off: a bill is unpaid" in visitor.get(street.portal.path()).text
    street.release()
    assert "Your line is being switched on" in visitor.get(street.portal.path()).text
    street.sync()
    text = visitor.get(street.portal.path()).text
    assert "Your line is open again" in text
    assert "being switched on" not in text


def test_new_speed_is_told_with_what_was_confirmed_before(street: Street) -> None:
    line_id = street.line_id()
    was = Setting(
        NetworkState.OPEN,
        *street.portal.rows("SELECT down_kbps, up_kbps FROM lines WHERE id = :id", id=line_id)[0],
    )
    street.network.calls.clear()
    faster = {"down_kbps": 50_000, "up_kbps": 5_000, "sync_at": clock.now()}
    unit_of_work(
        lambda session: session.execute(update(Line).values(faster).where(Line.id == line_id))
    )
    street.sync()
    wanted = Setting(NetworkState.OPEN, 50_000, 5_000)
    assert street.network.calls == [("ppp-alice", wanted, was)]
    assert street.column("sync_at") is None
    assert street.column("reached_down_kbps") == 50_000
    assert messages(street.portal) == []


def test_speed_wanted_meanwhile_is_brought_next(street: Street) -> None:
    def want_more() -> None:
        street.network.after = lambda: None
        street.portal.execute("UPDATE lines SET up_kbps = 7000 WHERE id = :id", id=street.line_id())

    street.hold()
    street.network.after = want_more
    street.sync()
    street.sync()
    [_name, wanted, _confirmed] = street.network.calls[-1]
    assert (wanted.state, wanted.up_kbps) == (NetworkState.HELD, 7_000)
    assert street.column("sync_at") is None
