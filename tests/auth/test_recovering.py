"""Choosing a new password without the old one (bars 13, 17, 18, 19, 21)."""

from __future__ import annotations

from collections.abc import Callable

from tests.auth.mail import sent
from tests.auth.test_registering import add_contact
from tests.conftest import Portal
from tests.page import Page, Visitor
from tests.world import PASSWORD

Tick = Callable[..., None]
PHONE = "+15414166117"
NEW = "amber-violin-thursday"
DONE = "/sign-in?done=password-reset"


def ask(visitor: Visitor, who: str = "alice", way: str = "email") -> Page:
    page = visitor.submit(visitor.get("/recover"), "/recover", who=who)
    assert (page.status, page.location) == (303, "/recover/way"), page.text
    page = visitor.submit(visitor.get(page.location), "/way", way=way)
    wanted = {"email": "/recover/sent", "text": "/recover/code"}[way]
    assert (page.status, page.location) == (303, wanted), page.text
    return visitor.get(page.location)


def link(portal: Portal) -> str:
    """The path of the newest link that was sent."""
    return f"/recover/link/{sent(portal, 'recover_link')[-1].facts['token']}"


def test_customer_chooses_a_new_password_by_a_link(portal: Portal) -> None:
    ask(portal.visitor())
    visitor = portal.visitor()  # on another device
    page = visitor.get(link(portal))
    assert "alice" in page.text
    page = visitor.submit(page, link(portal), password=NEW)
    assert (page.status, page.location) == (303, DONE)
    assert "new password is saved" in visitor.get(DONE).text
    assert portal.visitor().sign_in("alice", PASSWORD).status == 422
    assert portal.visitor().sign_in("alice@example.net", NEW).status == 303


def test_customer_chooses_a_new_password_by_a_code(portal: Portal) -> None:
    add_contact(portal, "alice", "phone", PHONE)
    visitor = portal.visitor()
    page = ask(visitor, "1001", "text")
    page = visitor.submit(page, "/code", code=sent(portal, "recover_code")[-1].code)
    assert page.location == "/recover/password"
    page = visitor.submit(visitor.get(page.location), "/password", password=NEW)
    assert (page.status, page.location) == (303, DONE)
    assert portal.visitor().sign_in("alice", NEW).status == 303
