"""Phone numbers in words that people read, and in those that telephones dial."""

from __future__ import annotations

import pytest

from core.phones import find_phone, format_phone, is_abroad, is_dear
from tests.conftest import Portal


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("+15415550100", "+1 541-555-0100"),
        ("+442079460000", "+44 20 7946 0000"),
        ("+33142345678", "+33 1 42 34 56 78"),
        ("+1", "+1"),
        ("", ""),
        ("ask Ann", "ask Ann"),
    ],
)
def test_number_is_grouped_as_its_country_does(number: str, text: str) -> None:
    assert format_phone(number) == text


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("(541) 416-6117", "+15414166117"),
        ("+44 20 7946 0958", "+442079460958"),
        ("541 416", None),
        ("911", None),
        ("+1 541 416 6117 ext. 5", None),
        ("call me", None),
        ("", None),
        ("+" * 40, None),
    ],
)
def test_number_is_found_as_it_is_dialled_at_home(typed: str, number: str | None) -> None:
    assert find_phone(typed, "US") == number


@pytest.mark.parametrize(
    ("number", "is_far"),
    [
        ("+15414166117", False),
        ("+18002530000", False),
        ("+17877672000", False),  # Puerto Rico
        ("+18763222000", True),  # Jamaica, though dialled as at home
        ("+14165550123", True),
        ("+442079460958", True),
    ],
)
def test_abroad_is_what_is_not_home(number: str, is_far: bool) -> None:
    assert is_abroad(number, "US") is is_far
    assert is_abroad(number, "") is False


def test_dear_is_what_costs_more_than_the_call() -> None:
    assert is_dear("+19002530000")
    assert is_dear("+449061234567")
    assert not is_dear("+15414166117")


def test_support_is_shown_for_people_and_dialled_by_telephones(portal: Portal) -> None:
    [link] = portal.visitor().get("/help").select("main a[href^=tel]")
    assert link.get("href") == "tel:+15415550100"
    assert "".join(link.itertext()) == "+1 541-555-0100"
