"""What customers settle themselves, as journeys on the thin line, without JavaScript: another way
to be reached, an account shared, a forgotten ID, and "This wasn't me"."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.conftest import PHONE, NewVisitor, Town
from tests.browser.test_getting_in import PASSWORD, go_on
from tests.thin_line import ThinLine


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match.group()


def test_new_address_counts_once_its_code_was_entered(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_payer()
    visitor = new_visitor(name, viewport=PHONE, java_script_enabled=False)
    page = visitor.open(served.path(account=name))
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("link", name="How we reach you").click()
    page.get_by_role("link", name="Add an e-mail address").click()
    page.get_by_label("E-mail address").fill(f"{name}@example.org")
    go_on(page, "Send the code")
    letter = served.wait_for_letter(f"{name}@example.org", "Your code")
    page.get_by_label("Code").fill(found(r"\d{3} \d{3}", letter))
    go_on(page, "Let it count")
    expect(page.get_by_text(f"{name}@example.org").first).to_be_visible()
    told = served.wait_for_letter(f"{name}@example.net", "reach you")
    assert f"{name}@example.org" not in told
    assert thin.requests
    assert visitor.errors == []


def test_owner_shares_the_account_with_somebody_new(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_payer()
    owner = new_visitor(name, viewport=PHONE, java_script_enabled=False)
    page = owner.open("/settings/")
    page.get_by_role("link", name="Who shares account").click()
    page.get_by_role("link", name="Invite somebody").click()
    page.get_by_label("E-mail").fill(f"friend.{name}@example.org")
    page.get_by_label("Payer").check()
    go_on(page, "Send the invitation")
    expect(page.get_by_text("The invitation is on its way.")).to_be_visible()
    letter = served.wait_for_letter(f"friend.{name}@example.org", "/invitation/")
    guest = new_visitor(viewport=PHONE, java_script_enabled=False)
    page = guest.open(found(r"/invitation/\S+", letter))
    page.get_by_label("Your name").fill("A Friend")
    page.get_by_label("The ID").fill(f"friend.{name}")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    go_on(page, "Make my")
    page.get_by_label("ID or e-mail").fill(f"friend.{name}")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    go_on(page, "Sign in")
    page.wait_for_url("**/a/**")
    assert page.url == served.origin + served.path(account=name)
    assert thin.requests
    assert owner.errors + guest.errors == []


def test_forgotten_id_comes_by_e_mail(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_payer()
    visitor = new_visitor(viewport=PHONE, java_script_enabled=False)
    page = visitor.open("/sign-in")
    page.get_by_role("link", name="ID forgotten").click()
    page.get_by_label("Account number").fill(f"{name}@example.net")
    go_on(page)
    go_on(page, "Send")
    expect(page.get_by_role("heading", name="It is on its way")).to_be_visible()
    assert name in served.wait_for_letter(f"{name}@example.net", "asked for the ID")
    assert name not in page.inner_text("main")
    assert thin.requests
    assert visitor.errors == []


def test_whoever_was_it_not_gets_back_in_by_a_new_password(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_payer()
    visitor = new_visitor(name, viewport=PHONE, java_script_enabled=False)
    page = visitor.open("/activity?kind=sign-in")
    page.get_by_role("link", name="Not me").first.click()
    go_on(page, "This was not me")
    page.wait_for_url("**/sign-in**")
    letter = served.wait_for_letter(f"{name}@example.net", "/recover/link/")
    page = visitor.open(found(r"/recover/link/\S+", letter))
    page.get_by_label("New password").fill(PASSWORD)
    go_on(page, "Save the new password")
    page.get_by_label("ID or e-mail").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    go_on(page, "Sign in")
    page.wait_for_url("**/a/**")
    assert thin.requests
    assert visitor.errors == []
