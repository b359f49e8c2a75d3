"""A call to the ISP as its own people take it, on the thin line, without JavaScript: get in with
the second factor, find who calls, make sure that it is them, and start a reset."""

from __future__ import annotations

from playwright.sync_api import expect
from pyotp import TOTP

from tests.browser import town
from tests.browser.conftest import PHONE, NewVisitor, Town, Visitor
from tests.browser.test_getting_in import go_on
from tests.browser.test_own_matters import found
from tests.browser.test_second_step import give, give_password, next_code, sign_out
from tests.thin_line import ThinLine


def set_up_app(visitor: Visitor, name: str) -> str:
    """The first sign-in of a member, who has no second factor yet; the app's key."""
    page = give_password(visitor, name)
    go_on(page, "Use an authenticator app")
    seed = page.inner_text("code.key").replace(" ", "")
    give(page, TOTP(seed).now())
    page.wait_for_url("**/staff/")
    return seed


def test_member_takes_a_call_and_starts_a_reset(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_payer()
    visitor = new_visitor(viewport=PHONE, java_script_enabled=False)
    seed = set_up_app(visitor, "sue")
    sign_out(visitor.page)
    page = give_password(visitor, "sue")
    give(page, next_code(seed))
    page.wait_for_url("**/staff/")

    page.get_by_label("Name, number").fill(town.account_number(name))
    go_on(page, "Find")
    page.locator("#results").get_by_role("link").click()
    page.get_by_role("link", name="Verify a caller").click()
    page.get_by_label("@example.net").check()
    go_on(page, "Send a code")
    letter = served.wait_for_letter(f"{name}@example.net", "the code for your call")
    page.get_by_label("The code that the caller reads").fill(found(r"\d{3} \d{3}", letter))
    go_on(page, "Check")
    expect(page.get_by_text("The code is right")).to_be_visible()

    page.locator("aside, main").get_by_role("link", name=name.title()).click()
    expect(page.get_by_text("A caller was verified")).to_be_visible()
    go_on(page, "Start a reset")
    expect(page.get_by_text("on its way to the contacts on file")).to_be_visible()
    link = found(r"/recover/link/\S+", served.wait_for_letter(f"{name}@example.net", "/recover/"))
    assert link.rpartition("/")[2] not in page.content()
    caller = new_visitor(viewport=PHONE, java_script_enabled=False)
    expect(caller.open(link).get_by_label("New password")).to_be_visible()
    assert thin.requests
    assert visitor.errors + caller.errors == []
