"""What customers settle themselves, as journeys on the thin line, without JavaScript: another way
to be reached, an account shared, a forgotten ID or password, "This wasn't me", sessions elsewhere,
language, time zone and messages, the download of everything and the end of the online account."""

from __future__ import annotations

import json
import re

from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, NewVisitor, Town
from tests.browser.test_getting_in import PASSWORD, go_on, open_recovery_link
from tests.thin_line import ThinLine
from tests.world import PASSWORD as WORLD_PASSWORD


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match.group()


def sign_in(page: Page, name: str, leads_to: str = "**/a/**", *, password: str = PASSWORD) -> None:
    page.get_by_label("ID or e-mail").fill(name)
    page.get_by_label("Password", exact=True).fill(password)
    go_on(page, "Sign in")
    page.wait_for_url(leads_to)


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
    sign_in(page, f"friend.{name}")
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
    sign_in(page, name, "**/settings/second-step?done=check")
    expect(page.get_by_text("You told us that something was not you")).to_be_visible()
    assert visitor.open(served.path(account=name)).url == served.origin + served.path(account=name)
    assert thin.requests
    assert visitor.errors == []


def test_password_forgotten_is_chosen_anew_by_the_link(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_payer()
    visitor = new_visitor(viewport=PHONE, java_script_enabled=False)
    page = open_recovery_link(visitor, served, name)
    page.get_by_label("New password").fill(PASSWORD)
    go_on(page, "Save the new password")
    expect(page.get_by_text("Your new password is saved")).to_be_visible()
    sign_in(page, name)
    assert page.url == served.origin + served.path(account=name)
    assert thin.requests
    assert visitor.errors == []


def test_changed_password_ends_the_sessions_elsewhere(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_payer()
    here, elsewhere = (
        new_visitor(name, viewport=PHONE, java_script_enabled=False) for _number in range(2)
    )
    page = here.open("/settings/")
    page.get_by_role("link", name="Password", exact=True).click()
    page.get_by_label("New password").fill("password123")
    go_on(page, "Change the password")
    expect(page.get_by_text("many people use it").first).to_be_visible()
    page.get_by_label("New password").fill(PASSWORD)
    go_on(page, "Change the password")
    expect(page.get_by_text("Your password is changed.")).to_be_visible()
    elsewhere.open(served.path(account=name)).wait_for_url("**/sign-in**")
    sign_in(elsewhere.page, name)
    assert here.open(served.path(account=name)).url == served.origin + served.path(account=name)
    assert served.wait_for_letter(f"{name}@example.net", "Password changed")
    assert thin.requests
    assert all("422" in error for error in here.errors)
    assert elsewhere.errors == []


def test_sessions_elsewhere_are_ended_one_by_one_and_all_at_once(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_payer()
    here, second, third = (
        new_visitor(name, viewport=PHONE, java_script_enabled=False) for _number in range(3)
    )
    page = here.open("/settings/")
    page.get_by_role("link", name="Where you are signed in").click()
    page.get_by_role("button", name="End", exact=False).first.click()
    expect(page.get_by_text("That session has ended.")).to_be_visible()
    others = (second, third)
    out = [other for other in others if "/sign-in" in other.open("/settings/").url]
    assert len(out) == 1
    go_on(page, "End all others")
    expect(page.get_by_text("You are signed out everywhere but here.")).to_be_visible()
    assert all("/sign-in" in other.open("/settings/").url for other in others)
    assert here.open("/settings/").url == f"{served.origin}/settings/"
    assert thin.requests
    assert here.errors == []


def test_customer_downloads_everything_and_closes_the_online_account(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_payer()
    visitor = new_visitor(name, viewport=PHONE, java_script_enabled=False)
    page = visitor.open("/settings/")
    page.get_by_role("link", name="Download your data").click()
    with page.expect_download() as download:
        go_on(page, "Download my data")
    everything = json.loads(download.value.path().read_text("utf-8"))
    assert f"{name}@example.net" in json.dumps(everything)
    page = visitor.open("/settings/")
    page.get_by_role("link", name="Close your online account").click()
    go_on(page, "Close my online account")
    page.wait_for_url("**/sign-in**")
    page.get_by_label("ID or e-mail").fill(name)
    page.get_by_label("Password", exact=True).fill(WORLD_PASSWORD)
    go_on(page, "Sign in")
    expect(page.get_by_text("ID or password is not right.")).to_be_visible()
    assert "/sign-in" in visitor.open("/settings/").url
    assert thin.requests
    assert all("422" in error for error in visitor.errors)


def test_language_time_zone_and_messages_are_chosen(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_payer()
    visitor = new_visitor(name, viewport=PHONE, java_script_enabled=False)
    page = visitor.open("/settings/")
    page.get_by_role("link", name="Which messages you get").click()
    box = page.get_by_label("Bills: By e-mail")
    was = box.is_checked()
    box.set_checked(not was)
    go_on(page, "Save")
    expect(page.get_by_text("Your choice of messages counts")).to_be_visible()
    page = visitor.open("/settings/messages")
    assert page.get_by_label("Bills: By e-mail").is_checked() is not was
    page = visitor.open("/settings/")
    page.get_by_role("link", name="Time zone").click()
    page.get_by_role("link", name="Europe").click()
    page.locator("[name=time_zone]").select_option("Europe/Madrid")
    go_on(page, "Save")
    expect(page.get_by_text("Times are shown in your time zone")).to_be_visible()
    expect(page.get_by_text("Europe/Madrid")).to_be_visible()
    page.get_by_role("link", name="Language").click()
    page.locator("[name=language][value=es]").check()
    go_on(page, "Save")
    expect(page.locator("html")).to_have_attribute("lang", "es")
    assert "Facturas" in visitor.open("/settings/messages").inner_text("main")
    assert thin.requests
    assert visitor.errors == []
