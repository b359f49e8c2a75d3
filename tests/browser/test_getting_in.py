"""Creating an online account and choosing a new password, from the sign-in page to the dashboard,
with the message that comes in between."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser import town
from tests.browser.conftest import NewVisitor, Town, Visitor
from tests.browser.test_journeys import WINDOWS
from tests.thin_line import ThinLine

PASSWORD = "amber-violin-thursday"
every_window = pytest.mark.parametrize("window", WINDOWS)


def go_on(page: Page, button: str = "Go on") -> None:
    page.get_by_role("button", name=re.compile(f"^{button}(?! with)")).click()


def name_account(visitor: Visitor, typed: str) -> Page:
    """From the sign-in page into creating an online account."""
    page = visitor.open("/sign-in")
    page.get_by_role("link", name="Create an online account").click()
    page.get_by_label("Account number").fill(typed)
    go_on(page)
    return page


def ask_for_code(visitor: Visitor, typed: str, way: str = "By e-mail") -> Page:
    page = name_account(visitor, typed)
    expect(page.get_by_label("By e-mail")).to_be_checked()
    page.get_by_label(way).check()
    go_on(page, "Send")
    expect(page.get_by_role("heading", name="Enter the code")).to_be_visible()
    return page


def code_for(served: Town, name: str) -> str:
    found = re.search(r"\d{3} \d{3}", served.wait_for_letter(f"{name}@example.net", "Your code"))
    assert found is not None
    return found.group()


def register(visitor: Visitor, served: Town, name: str) -> Page:
    page = ask_for_code(visitor, town.account_number(name))
    page.get_by_label("Code").fill(code_for(served, name))
    go_on(page)
    make_id(page, name)
    return page


def make_id(page: Page, name: str) -> None:
    page.get_by_label("The ID").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    go_on(page, "Make my")
    page.wait_for_url("**/a/**")


@every_window
def test_subscriber_registers_and_is_at_home(
    new_visitor: NewVisitor, served: Town, window: dict[str, Any]
) -> None:
    visitor = new_visitor(**window)
    name = served.new_mover()
    page = register(visitor, served, name)
    assert page.url.startswith(served.origin + served.path(account=name))
    assert visitor.errors == []
    told = served.wait_for_letter(f"{name}@example.net", "Online account created")
    assert served.origin in told


def test_subscriber_registers_on_a_thin_line_without_script(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    visitor, before = new_visitor(java_script_enabled=False), len(thin.requests)
    page = register(visitor, served, served.new_mover())
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    asked = [request.path for request in thin.requests[before:]]
    assert len([path for path in asked if path.startswith("/register")]) == 8
    # No page before the dashboard waits for anything beside itself.
    of_pages = ("/sign-in", "/register", "/a/", "/static/css/portal")
    assert [path for path in asked if not path.startswith(of_pages)] == []


def test_strength_and_free_ids_are_told_while_one_types(
    new_visitor: NewVisitor, served: Town
) -> None:
    visitor = new_visitor()
    page = ask_for_code(visitor, town.account_number("fresh"))
    page.get_by_label("Code").fill(code_for(served, "fresh"))
    go_on(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    button = page.get_by_role("button", name="Make my")
    page.evaluate("scrollTo(0, 0)")
    place = button.bounding_box()
    page.get_by_label("The ID").press_sequentially("alice", delay=30)
    expect(page.locator("#free")).to_contain_text("Somebody already has this ID")
    page.get_by_label("Password", exact=True).press_sequentially("password123", delay=30)
    expect(page.locator("#strength")).to_have_text(re.compile("many people use it"))
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    expect(page.locator("#strength")).to_have_text("Good: this is hard to guess.")
    page.evaluate("scrollTo(0, 0)")
    assert button.bounding_box() == place  # else a tap on it could miss
    # It waits for a pause in typing, and nothing typed stands in an address.
    assert 2 <= len(asked) <= 8, asked  # of seventeen keys; a busy machine makes pauses
    assert all("?" not in url for url in asked)
    assert visitor.errors == []


def open_recovery_link(visitor: Visitor, served: Town, name: str) -> Page:
    """From the sign-in page to the one on which a new password is chosen, by e-mail."""
    page = visitor.open("/sign-in")
    page.get_by_role("link", name="Password forgotten").click()
    page.get_by_label("ID, e-mail").fill(name)
    go_on(page)
    go_on(page, "Send")
    expect(page.get_by_role("heading", name="Look at your e-mail")).to_be_visible()
    text = served.wait_for_letter(f"{name}@example.net", "/recover/link/")
    found = re.search(r"/recover/link/\S+", text)
    assert found is not None
    return visitor.open(found.group())


@every_window
def test_customer_chooses_a_new_password_by_e_mail(
    new_visitor: NewVisitor, served: Town, window: dict[str, Any]
) -> None:
    name = served.new_payer()
    visitor = new_visitor(**window)
    page = open_recovery_link(visitor, served, name)
    link = urlsplit(page.url).path
    page.get_by_label("New password").fill(PASSWORD)
    go_on(page, "Save the new password")
    expect(page.get_by_text("Your new password is saved")).to_be_visible()
    page.get_by_label("ID or e-mail").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    go_on(page, "Sign in")
    page.wait_for_url("**/a/**")
    assert "no longer works" in visitor.open(link).inner_text("h1")
    assert all("410" in error for error in visitor.errors)
