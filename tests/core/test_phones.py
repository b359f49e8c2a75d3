"""Phone numbers in words that people read, and in those that telephones dial."""

from __future__ import annotations

import pytest

from core.phones import format_phone
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


def test_support_is_shown_for_people_and_dialled_by_telephones(portal: Portal) -> None:
    [link] = portal.visitor().get("/help").select("main a[href^=tel]")
    assert link.get("href") == "tel:+15415550100"
    assert "".join(link.itertext()) == "+1 541-555-0100"
