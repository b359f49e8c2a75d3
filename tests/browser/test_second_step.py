"""Second steps as a journey on the thin line, without JavaScript: set one up, sign in with it, with
a code by e-mail, with a recovery code, and lose everything."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from playwright.sync_api import Page, expect
from pyotp import TOTP

from tests.browser.conftest import PHONE, NewVisitor, Town, Visitor
from tests.thin_line import ThinLine
from tests.world import PASSWORD

LIST = "/settings/second-step"


def give_password(visitor: Visitor, name: str) -> Page:
    page = visitor.open("/sign-in")
    page.get_by_label("ID or e-mail").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/sign-in/second-step**")
    return page


def give(page: Page, code: str) -> None:
    page.get_by_label("Code", exact=True).fill(code)
    page.get_by_role("button", name="Go on").click()


def sign_out(page: Page) -> None:
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/sign-in?done=signed-out")


def add_app(visitor: Visitor) -> tuple[str, list[str]]:
    """Add an app and keep the recovery codes; returns its key and the codes."""
    page = visitor.open(f"{LIST}/app")
    page.get_by_role("button", name="Show the key").click()
    seed = page.inner_text("code.key").replace(" ", "")
    give(page, TOTP(seed).now())
    page.get_by_role("button", name="Show new codes").click()
    expect(page.locator(".codes code")).to_have_count(10)
    codes = page.locator(".codes code").all_inner_texts()
    page.get_by_role("button", name="I have kept them").click()
    expect(page.get_by_text("10 left")).to_be_visible()
    return seed, codes


def next_code(seed: str) -> str:
    """The code of the next half minute: the one of this was used up."""
    return TOTP(seed).at(datetime.now(UTC) + timedelta(seconds=30))


def mailed_code(visitor: Visitor, name: str) -> str:
    """The code of the newest message to `name` in the demo's mailbox."""
    reader = visitor.context.new_page()
    for _ in range(60):
        reader.goto(visitor.town.origin + "/demo/mailbox")
        found = re.search(r"your code is (\d{3} \d{3})", reader.inner_text("main"))
        if found and f"{name}@example.net" in reader.inner_text("main"):
            reader.close()
            return found[1]
        reader.wait_for_timeout(500)
    raise AssertionError("no code came")


def test_journey_of_second_steps_without_script(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_payer()
    visitor = new_visitor(name, viewport=PHONE, java_script_enabled=False)
    seed, codes = add_app(visitor)
    sign_out(visitor.page)

    page = give_password(visitor, name)
    give(page, next_code(seed))
    page.wait_for_url("**/a/**")

    page = visitor.open(f"{LIST}/message")
    page.get_by_role("button", name="Send the code").click()
    give(page, mailed_code(visitor, name))
    page.wait_for_url("**?done=added")
    sign_out(page)

    page = give_password(visitor, name)
    page.get_by_role("link", name="Recovery code").click()
    give(page, codes[0])
    page.wait_for_url("**/a/**")
    expect(visitor.open(LIST).get_by_text("9 left")).to_be_visible()
    sign_out(visitor.page)

    page = give_password(visitor, name)
    page.get_by_role("button", name="I have none of these").click()
    page.get_by_role("button", name="Ask us for help").click()
    expect(page.get_by_text("We look into it")).to_be_visible()
    assert thin.requests
    assert visitor.errors == []
