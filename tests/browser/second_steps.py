"""The pages of second steps as their buttons lead, for the crawls: somebody sets one up, signs in
with it, and loses it. Without a session at the end."""

from __future__ import annotations

from playwright.sync_api import expect
from pyotp import TOTP

from tests.browser.conftest import Visitor
from tests.world import PASSWORD

LIST = "/settings/second-step"


def key_of_an_app_is_shown(visitor: Visitor) -> None:
    visitor.sign_in(visitor.town.new_payer())
    visitor.open(f"{LIST}/app")
    visitor.page.get_by_role("button", name="Show the key").click()
    visitor.page.wait_for_url("**/app/check")


def key_of_an_app_is_not_confirmed(visitor: Visitor) -> None:
    visitor.page.get_by_label("Code").fill("000000")
    visitor.page.get_by_role("button", name="Go on").click()
    expect(visitor.page.get_by_role("alert")).to_be_visible()


def recovery_codes_are_offered(visitor: Visitor) -> None:
    seed = visitor.page.inner_text("code.key").replace(" ", "")
    visitor.page.get_by_label("Code").fill(TOTP(seed).now())
    visitor.page.get_by_role("button", name="Go on").click()
    visitor.page.wait_for_url("**/recovery-codes?done=added")


def recovery_codes_are_shown(visitor: Visitor) -> None:
    visitor.page.get_by_role("button", name="Show new codes").click()
    expect(visitor.page.get_by_role("link", name="Save as a file")).to_be_visible()


def recovery_codes_are_kept(visitor: Visitor) -> None:
    visitor.page.get_by_role("button", name="I have kept them").click()
    visitor.page.wait_for_url("**?done=codes")


def code_by_email_is_awaited(visitor: Visitor) -> None:
    visitor.open(f"{LIST}/message")
    visitor.page.get_by_role("button", name="Send the code").click()
    visitor.page.wait_for_url("**/message/check")


def last_one_is_to_be_removed(visitor: Visitor) -> None:
    visitor.open(LIST)
    visitor.page.get_by_role("link", name="Remove Authenticator app").click()
    expect(visitor.page.get_by_role("button", name="Remove it")).to_be_visible()


def password_was_right(visitor: Visitor) -> None:
    name = visitor.town.one(
        "SELECT sign_in_id FROM customers JOIN factors ON customer_id = customers.id"
        " ORDER BY factors.id DESC LIMIT 1"
    )
    visitor.page.get_by_role("button", name="Sign out").click()
    page = visitor.open("/sign-in")
    page.get_by_label("ID or e-mail").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("my own device").check()
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/sign-in/second-step")


def second_step_was_wrong(visitor: Visitor) -> None:
    visitor.page.get_by_label("Code", exact=True).fill("000000")
    visitor.page.get_by_role("button", name="Go on").click()
    expect(visitor.page.get_by_role("alert")).to_be_visible()


def everything_is_lost(visitor: Visitor) -> None:
    visitor.page.get_by_role("button", name="I have none of these").click()
    visitor.page.wait_for_url("**/sign-in/lost")


def code_is_awaited(visitor: Visitor) -> None:
    visitor.page.get_by_role("button", name="Send the code").click()
    visitor.page.wait_for_url("**/sign-in/lost?sent=email")


def staff_are_asked(visitor: Visitor) -> None:
    visitor.page.get_by_role("button", name="Ask us for help").click()
    expect(visitor.page.get_by_text("We look into it")).to_be_visible()


PAGES = (
    key_of_an_app_is_shown,
    key_of_an_app_is_not_confirmed,
    recovery_codes_are_offered,
    recovery_codes_are_shown,
    recovery_codes_are_kept,
    code_by_email_is_awaited,
    last_one_is_to_be_removed,
    password_was_right,
    second_step_was_wrong,
    everything_is_lost,
    code_is_awaited,
    staff_are_asked,
)
