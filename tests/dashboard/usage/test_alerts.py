"""Choosing when to be told how much is used."""

from __future__ import annotations

import pytest

from tests.conftest import Portal
from tests.dashboard.usage.carried import GB, include
from tests.page import Visitor

PATH = "usage/alerts"


def chosen(portal: Portal) -> object:
    value = portal.one("SELECT alert_percents FROM lines WHERE username = 'ppp-alice'")
    return value.replace(" ", "") if isinstance(value, str) else value


def choose(portal: Portal, alice: Visitor, percents: str) -> object:
    return alice.submit(alice.get(portal.path(PATH)), "/alerts", percents=percents)


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_thresholds_are_shown_and_chosen(portal: Portal) -> None:
    include(portal, 100 * GB)
    alice = portal.visitor("alice")
    assert alice.get(portal.path("usage/")).select(f"main a[href$='/{PATH}']")
    page = alice.get(portal.path(PATH))
    assert page.select("#percents")[0].get("value") == "75, 90, 100"
    answer = alice.submit(page, "/alerts", percents=" 80 %, 50;50 ")
    assert answer.status == 303
    assert "This is when you are told" in alice.get(answer.location).text
    assert chosen(portal) == "[50,80]"
    assert alice.get(portal.path(PATH)).select("#percents")[0].get("value") == "50, 80"


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize(("percents", "stored"), [("", "[]"), ("90 75 100", None)])
def test_none_and_the_usual_ones(portal: Portal, percents: str, stored: object) -> None:
    alice = portal.visitor("alice")
    choose(portal, alice, "10")
    choose(portal, alice, percents)
    assert chosen(portal) == stored


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize(
    "percents", ["0", "301", "-5", "ten", "7.5", "9999", "1 2 3 4 5 6", "\u0663", "x" * 61]
)
def test_what_is_no_threshold_is_refused_at_the_field(portal: Portal, percents: str) -> None:
    alice = portal.visitor("alice")
    page = alice.submit(alice.get(portal.path(PATH)), "/alerts", percents=percents)
    assert page.status == 422
    assert page.select("#percents[aria-invalid=true]")
    assert chosen(portal) is None


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("name", ["bob", "vera", "theo"])
def test_only_the_owner_chooses(portal: Portal, name: str) -> None:
    include(portal, 100 * GB)
    visitor = portal.visitor(name)
    assert visitor.get(portal.path(PATH)).status == 403
    assert not visitor.get(portal.path("usage/")).select(f"main a[href$='/{PATH}']")
    assert portal.visitor("mallory").get(portal.path(PATH)).status == 404
    assert portal.visitor("alice").get(portal.path(PATH), line="malloryline00").status == 404


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_form_sent_twice_counts_once(portal: Portal) -> None:
    alice = portal.visitor("alice")
    page = alice.get(portal.path(PATH))
    first = alice.submit(page, "/alerts", percents="50")
    choose(portal, alice, "60")
    again = alice.submit(page, "/alerts", percents="50")
    assert again.location == first.location
    assert chosen(portal) == "[60]"
