"""Finding out one's own ID (bars 13 and 17)."""

from __future__ import annotations

import pytest

from tests import crawl
from tests.auth.mail import sent
from tests.auth.test_registering import PHONE, add_contact
from tests.conftest import Portal
from tests.page import Page, Visitor


def ask(visitor: Visitor, who: str, way: str = "email") -> Page:
    page = visitor.submit(visitor.get("/forgot-id"), "/forgot-id", who=who)
    page = visitor.submit(visitor.get(page.location), "/way", way=way)
    assert (page.status, page.location) == (303, "/forgot-id/sent")
    return visitor.get(page.location)


@pytest.mark.parametrize("who", ["1001", "alice@example.net", PHONE])
@pytest.mark.parametrize("way", ["email", "text"])
def test_id_goes_to_a_contact_and_not_to_the_screen(portal: Portal, who: str, way: str) -> None:
    add_contact(portal, "alice", "phone", PHONE)
    page = ask(portal.visitor(), who, way)
    [message] = sent(portal, "your_id")
    assert message.recipient == {"email": "alice@example.net", "text": PHONE}[way]
    assert message.facts["sign_in_ids"] == "alice"
    assert "alice" not in page.response.text.lower()


def test_household_gets_all_its_ids_in_one_message(portal: Portal) -> None:
    add_contact(portal, "mallory", "email", "alice@example.net")
    ask(portal.visitor(), "alice@example.net")
    [message] = sent(portal, "your_id")
    assert message.facts["sign_in_ids"] == "alice, mallory"


def test_id_that_is_typed_finds_nothing(portal: Portal) -> None:
    ask(portal.visitor(), "alice")
    assert sent(portal, "your_id") == []


def test_letter_is_no_way(portal: Portal) -> None:
    visitor = portal.visitor()
    page = visitor.submit(visitor.get("/forgot-id"), "/forgot-id", who="1001")
    page = visitor.get(page.location)
    assert "By letter" not in page.text
    differs = crawl.watch(portal.app)
    assert visitor.submit(page, "/way", way="post").status == 422
    assert differs() == set()


def test_without_a_gateway_for_texts_none_are_offered(portal: Portal) -> None:
    gateways = portal.app.extensions["message_gateways"]
    held = dict(gateways)
    try:
        gateways.pop("text", None)
        visitor = portal.visitor()
        page = visitor.submit(visitor.get("/forgot-id"), "/forgot-id", who="1001")
        page = visitor.get(page.location)
        assert "By text message" not in page.text
        assert visitor.submit(page, "/way", way="text").status == 422
    finally:
        gateways.update(held)
