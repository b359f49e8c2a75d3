"""What is wanted of a line follows from the reasons it is held for."""

from __future__ import annotations

from blueprints.lines import holding
from core import clock
from core.db import unit_of_work
from models import HoldReason
from tests.conftest import Portal
from tests.lines.conftest import Street


def events(portal: Portal) -> list[str]:
    return [
        kind
        for (kind,) in portal.rows("SELECT kind FROM activity WHERE kind LIKE 'line%' ORDER BY id")
    ]


def test_line_is_held_while_any_reason_stands(street: Street) -> None:
    assert street.column("wanted_state") == "open"
    street.hold()
    street.hold(HoldReason.ABUSE)
    assert street.column("wanted_state") == "held"
    street.release()
    assert street.column("wanted_state") == "held"
    street.release(HoldReason.ABUSE)
    assert street.column("wanted_state") == "open"
    assert events(street.portal) == ["line_held", "line_released"]


def test_holding_twice_for_one_reason_holds_once(street: Street) -> None:
    street.hold()
    street.hold()
    assert street.portal.one("SELECT count(*) FROM line_holds") == 1
    street.release()
    street.release()
    assert street.column("wanted_state") == "open"
    assert events(street.portal) == ["line_held", "line_released"]


def test_closed_line_stays_closed_whatever_holds_it(street: Street) -> None:
    street.portal.execute("UPDATE lines SET is_closed = true WHERE username = 'ppp-alice'")
    line_id = street.line_id()
    unit_of_work(lambda session: holding.plan(session, [line_id], clock.now()))
    street.hold()
    street.release()
    assert street.column("wanted_state") == "closed"
    assert events(street.portal) == []


def test_holding_one_line_leaves_others_alone(street: Street) -> None:
    street.hold()
    assert street.column("wanted_state", of="mallory") == "open"
    assert street.column("sync_at", of="mallory") is None


def test_holding_outdates_the_pages_that_are_kept(street: Street) -> None:
    revision = "SELECT revision FROM accounts WHERE number = '1001'"
    before = street.portal.one(revision)
    street.hold()
    assert street.portal.one(revision) == before + 1
