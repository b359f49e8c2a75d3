"""Creating an online account (bars 13, 16, 17, 18, 21)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.auth.mail import sent
from tests.conftest import Portal
from tests.page import Page, Visitor

Tick = Callable[..., None]
CHOSEN = {"sign_in_id": "richard", "password": "amber-violin-thursday"}
PHONE = "+15414166117"


@pytest.fixture(autouse=True)
def nobody_owns_rich(portal: Portal) -> None:
    """The account 3003 has no customer yet, and its e-mail address belongs to nobody."""
    who = portal.world.customers["rich"]
    portal.execute("DELETE FROM memberships WHERE customer_id = :who", who=who)
    portal.execute("DELETE FROM customers WHERE id = :who", who=who)


def add_contact(
    portal: Portal, account: str, kind: str, value: str, since: str = "2025-01-01"
) -> None:
    portal.execute(
        "INSERT INTO contacts (account_id, kind, value, since_on) VALUES (:id, :kind, :value, :on)",
        id=portal.world.accounts[account], kind=kind, value=value, on=since,
    )  # fmt: skip


def begin(visitor: Visitor, who: str = "3003") -> Page:
    page = visitor.submit(visitor.get("/register"), "/register", who=who)
    assert (page.status, page.location) == (303, "/register/way"), page.text
    return visitor.get(page.location)


def ask(visitor: Visitor, who: str = "3003", way: str = "email") -> Page:
    """As far as the page that asks for the code."""
    page = visitor.submit(begin(visitor, who), "/way", way=way)
    assert (page.status, page.location) == (303, "/register/code"), page.text
    return visitor.get(page.location)


def prove(portal: Portal, visitor: Visitor, who: str = "3003", way: str = "email") -> Page:
    """As far as the page after the code."""
    page = ask(visitor, who, way)
    page = visitor.submit(page, "/code", code=sent(portal, "register_code")[-1].code)
    assert page.status == 303, page.text
    return visitor.get(page.location)


def owner(portal: Portal, account: str = "rich") -> list[str]:
    rows = portal.rows(
        "SELECT c.sign_in_id FROM customers c JOIN memberships m ON m.customer_id = c.id "
        "WHERE m.account_id = :id AND m.role = 'owner'",
        id=portal.world.accounts[account],
    )
    return [row[0] for row in rows]


# It works ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "way"),
    [
        ("3003", "email"),
        (" 30 03 ", "text"),
        ("Rich@Example.net ", "email"),
        ("rich@example.net", "text"),
        ("(541) 416-6117", "text"),
        (PHONE, "email"),
    ],
)
def test_subscriber_registers_and_is_signed_in(portal: Portal, who: str, way: str) -> None:
    add_contact(portal, "rich", "phone", PHONE)
    visitor = portal.visitor()
    page = prove(portal, visitor, who, way)
    [message] = sent(portal, "register_code")
    wanted = {"email": "rich@example.net", "text": PHONE}[way]
    assert (message.channel, message.recipient) == (way, wanted)
    page = visitor.submit(page, "/register/id", **CHOSEN)
    assert (page.status, page.location) == (303, portal.path(account="rich"))
    assert visitor.get(page.location).status == 200
    assert owner(portal) == ["richard"]
    assert portal.visitor().sign_in("richard", CHOSEN["password"]).status == 303
