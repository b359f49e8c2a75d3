"""Saving a card, autopay, a scheduled payment and an arrangement, as journeys on the thin line,
without JavaScript: from the bills to what the message says."""

from __future__ import annotations

import re
from datetime import date, timedelta

from playwright.sync_api import Page, expect

from core import clock
from tests.browser.conftest import PHONE, NewVisitor, Town, Visitor
from tests.thin_line import ThinLine


def go_on(page: Page, button: str) -> None:
    page.get_by_role("button", name=button).click()


def today() -> date:
    return clock.today("America/Los_Angeles")


def in_words(day: date) -> str:
    return f"{day:%b} {day.day}, {day.year}"


def save_card(visitor: Visitor, name: str) -> Page:
    """From a page that asks for a card to the bank's own site and back."""
    page = visitor.sign_in(name)
    page.get_by_role("link", name="Bills", exact=True).click()
    page.get_by_role("link", name="Schedule a payment").click()
    page.get_by_role("link", name="Save a card or bank account").click()
    page.get_by_role("link", name="Save a card or a bank account").click()
    go_on(page, "Go on to")
    page.wait_for_url(visitor.town.bank_origin + "/save/**")
    page.get_by_role("button", name=re.compile("^Visa ending 4242")).first.click()
    expect(page.get_by_text("It is saved.")).to_be_visible()
    return page


def test_customer_saves_a_card_and_switches_autopay_on_and_off(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_payer()
    visitor = new_visitor(viewport=PHONE, java_script_enabled=False)
    page = save_card(visitor, name)
    page.get_by_role("link", name="Bills", exact=True).first.click()
    page.get_by_role("link", name="Autopay").click()
    page.get_by_label("When?").select_option(label="3 days before the due day")
    page.get_by_label(re.compile("^I allow Pinecrest Broadband")).check()
    go_on(page, "Switch autopay on")
    day = in_words(today() + timedelta(days=11))
    words = f"Autopay will take $105.56 on {day} from Visa ending 4242."
    expect(page.get_by_text(words)).to_be_visible()
    letter = served.wait_for_letter(f"{name}@example.net", "are paid from Visa ending 4242")
    assert "I allow Pinecrest Broadband to take" in letter
    page.get_by_role("link", name="Home").click()
    expect(page.get_by_text(words)).to_be_visible()
    page.get_by_role("link", name="See or change").click()
    page.get_by_role("link", name="Autopay").click()
    go_on(page, "Switch autopay off")
    expect(page.get_by_text("From now on you pay your bills yourself.")).to_be_visible()
    served.wait_for_letter(f"{name}@example.net", "Autopay was switched off")
    assert thin.requests
    assert visitor.errors == []


def test_customer_schedules_a_payment_changes_and_cancels_it(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    visitor = new_visitor(viewport=PHONE, java_script_enabled=False)
    page = save_card(visitor, served.new_payer())
    page.get_by_role("link", name="Bills", exact=True).first.click()
    page.get_by_role("link", name="Schedule a payment").click()
    day = today() + timedelta(days=5)
    page.get_by_label("Another amount").check()
    page.get_by_label("Amount", exact=True).fill("40")
    page.get_by_label("On which day?").fill(day.isoformat())
    go_on(page, "Schedule it")
    expect(page.get_by_text("To be taken")).to_be_visible()
    page.get_by_role("link", name="Home").click()
    words = f"Scheduled: $40.00 on {in_words(day)} from Visa ending 4242."
    expect(page.get_by_text(words)).to_be_visible()
    page.get_by_role("link", name="See or change").click()
    page.get_by_role("link", name="Change it").click()
    page.get_by_label("Amount", exact=True).fill("45")
    go_on(page, "Save")
    expect(page.get_by_text("$45.00")).to_be_visible()
    go_on(page, "Cancel it")
    expect(page.get_by_text("Cancelled before its day.")).to_be_visible()
    assert thin.requests
    assert visitor.errors == []


def test_customer_arranges_to_pay_in_parts(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    name = served.new_payer()
    visitor = new_visitor(viewport=PHONE, java_script_enabled=False)
    page = visitor.sign_in(name)
    page.get_by_role("link", name="Bills", exact=True).click()
    page.get_by_role("link", name="More time to pay").click()
    first = today() + timedelta(days=4)
    page.get_by_label("How?").select_option(label="In 2 parts")
    page.get_by_label("The first day").fill(first.isoformat())
    page.get_by_label("Then").select_option(label="every week")
    go_on(page, "Show what that comes to")
    for day in (first, first + timedelta(days=7)):
        expect(page.get_by_text(in_words(day))).to_be_visible()
    go_on(page, "Agree to these days")
    expect(page.get_by_text("It is agreed")).to_be_visible()
    letter = served.wait_for_letter(f"{name}@example.net", "in 2 parts")
    assert "we send no reminders and switch nothing off" in letter
    page.get_by_role("link", name="Home").click()
    expect(page.get_by_text(f"As arranged, pay $52.78 by {in_words(first)}.")).to_be_visible()
    assert thin.requests
    assert visitor.errors == []
