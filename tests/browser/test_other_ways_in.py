"""Getting in where the usual way leads nowhere, as journeys on the thin line, without JavaScript:
a household with one e-mail address, a letter, a text message, a second step that is lost."""

from __future__ import annotations

from playwright.sync_api import Locator, Page, expect

from tests.browser import town
from tests.browser.conftest import PHONE, NewVisitor, Town, Visitor
from tests.browser.test_getting_in import (
    PASSWORD,
    ask_for_code,
    code_for,
    go_on,
    make_id,
    name_account,
)
from tests.browser.test_own_matters import found, sign_in
from tests.browser.test_second_step import add_app, give, give_password, sign_out
from tests.thin_line import ThinLine
from tests.world import PASSWORD as WORLD_PASSWORD

CODE = r"\d{3} \d{3}"


def lose_app(visitor: Visitor, name: str) -> Page:
    """Sign in with the password to an account that an app guards, and have nothing else at hand."""
    visitor.sign_in(name)
    add_app(visitor)
    sign_out(visitor.page)
    page = give_password(visitor, name)
    go_on(page, "I have none of these")
    return page


def open_lost_factors(member: Visitor, name: str) -> Locator:
    """What staff see of somebody who waits for their help."""
    member.page.get_by_role("link", name="Lost factors").click()
    heading = member.page.get_by_role("heading", name=name.title())
    return member.page.locator("section", has=heading)


def test_one_of_a_household_chooses_the_account(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    mother, father = town.HOUSEHOLD
    visitor = new_visitor(viewport=PHONE, java_script_enabled=False)
    page = ask_for_code(visitor, "home@example.net")
    page.get_by_label("Code").fill(code_for(served, "home"))
    go_on(page)
    expect(page.get_by_label(town.account_number(mother))).to_be_visible()
    page.get_by_label(town.account_number(father)).check()
    go_on(page)
    make_id(page, father)
    assert page.url == served.origin + served.path(account=father)
    assert served.wait_for_letter(f"{father}@example.net", "Online account created")
    assert thin.requests
    assert visitor.errors == []


def test_letter_that_staff_print_brings_the_code(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_mover()
    number = town.account_number(name)
    visitor = new_visitor(viewport=PHONE, java_script_enabled=False)
    ask_for_code(visitor, number, "By letter")

    member = new_visitor("ada", viewport=PHONE, java_script_enabled=False)
    member.page.get_by_role("link", name="Letters").click()
    go_on(member.page, f"Print {number}")
    member.page.emulate_media(media="print")
    expect(member.page.get_by_text("Print this page now")).to_be_hidden()
    expect(member.page.get_by_text("1 Mill St")).to_be_visible()
    code = found(r"\d{3}( \d{3}){3}", member.page.inner_text(".letter-page__code"))

    page = name_account(visitor, number)  # days later
    page.get_by_label("Code").fill(code)
    go_on(page)
    make_id(page, name)
    assert page.url == served.origin + served.path(account=name)
    assert thin.requests
    assert visitor.errors + member.errors == []


def test_new_password_is_chosen_by_text_message(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_caller()
    visitor = new_visitor(viewport=PHONE, java_script_enabled=False)
    page = visitor.open("/recover")
    page.get_by_label("ID, e-mail").fill(name)
    go_on(page)
    page.get_by_label("By text message").check()
    go_on(page, "Send")
    text = served.wait_for_letter(town.PHONES[name], "code for a new password")
    page.get_by_label("Code").fill(found(CODE, text))
    go_on(page)
    page.get_by_label("New password").fill(PASSWORD)
    go_on(page, "Save the new password")
    expect(page.get_by_text("Your new password is saved")).to_be_visible()
    sign_in(page, name)
    assert page.url == served.origin + served.path(account=name)
    assert thin.requests
    assert visitor.errors == []


def test_codes_to_two_contacts_replace_a_lost_second_step(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_caller()
    visitor = new_visitor(viewport=PHONE, java_script_enabled=False)
    page = lose_app(visitor, name)
    for contact, words in (
        (f"{name}@example.net", "Your code to sign in"),
        (town.PHONES[name], "is your code at"),
    ):
        go_on(page, "Send the code")
        give(page, found(CODE, served.wait_for_letter(contact, words)))
    expect(page.get_by_text("Your second steps are taken away")).to_be_visible()
    sign_in(page, name, password=WORLD_PASSWORD)
    assert page.url == served.origin + served.path(account=name)
    assert thin.requests
    assert visitor.errors == []


def test_two_members_of_staff_replace_a_lost_second_step(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_payer()
    visitor = new_visitor(viewport=PHONE, java_script_enabled=False)
    go_on(lose_app(visitor, name), "Ask us for help")

    one, another = (
        new_visitor(member, viewport=PHONE, java_script_enabled=False) for member in ("sue", "ada")
    )
    card = open_lost_factors(one, name)
    card.get_by_role("link", name="I have made sure").click()
    one.page.get_by_role("textbox").fill("Came by with an identity card.")
    go_on(one.page, "I have made sure")
    expect(card.get_by_text("Another member has to approve")).to_be_visible()
    expect(card.get_by_role("button", name="Approve")).to_have_count(0)
    open_lost_factors(another, name).get_by_role("button", name="Approve").click()
    expect(another.page.get_by_text("Approved: the factors are taken away.")).to_be_visible()

    letter = served.wait_for_letter(f"{name}@example.net", "steps taken away")
    page = visitor.open(found(r"/activity", letter))
    sign_in(page, name, "**/activity", password=WORLD_PASSWORD)
    expect(page.get_by_text("All second sign-in steps taken away")).to_be_visible()
    assert thin.requests
    assert visitor.errors + one.errors + another.errors == []
