"""Every page can be used by everyone: axe finds nothing, nothing runs off sideways, the keyboard
is enough, and it reads from right to left."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, ViewportSize, expect

from tests.browser import pages
from tests.browser.conftest import DESK, PHONE, NewVisitor, Town
from tests.browser.test_planning import save_card, today
from tests.browser.test_policy import WATCH, find_breaches
from tests.world import CANARY

[AXE] = Path(__file__).parent.glob("axe-core-*.min.js")
ZOOMED: ViewportSize = {"width": 320, "height": 256}
"""A window of 1280 by 1024 at 400 %."""
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def find_faults(page: Page, options: dict[str, Any]) -> list[str]:
    found = page.evaluate(
        "(options) => axe.run(document, options).then((found) => found.violations.map("
        "(fault) => `${fault.id}: ${fault.nodes.map((node) => node.target).join(' | ')}`))",
        options | {"resultTypes": ["violations"]},
    )
    return list(found)


def overflow(page: Page) -> int:
    """How many pixels the page is wider than its window."""
    return int(page.evaluate("document.scrollingElement.scrollWidth - innerWidth"))


def test_axe_finds_what_is_wrong(new_visitor: NewVisitor) -> None:
    visitor = new_visitor()
    visitor.context.add_init_script(path=AXE)
    page = visitor.open("/sign-in")
    page.emulate_media(color_scheme="dark")
    page.evaluate("document.querySelector('h1').style.color = '#333'")
    page.evaluate("document.querySelector('main').style.inlineSize = '400px'")
    [fault] = find_faults(page, {"runOnly": ["color-contrast"]})
    assert "h1" in fault
    assert overflow(page) > 0


@pytest.mark.parametrize("name", pages.PEOPLE)
def test_axe_finds_nothing_nothing_runs_off_sideways_and_no_policy_is_broken(
    new_visitor: NewVisitor, name: str | None
) -> None:
    """Nor does anything run that was stored (bars 37, 44): the canary stands there as text."""
    visitor = new_visitor()
    visitor.context.add_init_script(WATCH)
    visitor.context.add_init_script(path=AXE)
    page, faults = visitor.page, []
    canaries = 0
    everything = {"runOnly": {"type": "tag", "values": RULES}}
    colours = {"runOnly": ["color-contrast"]}
    for place in pages.walk(visitor, name):
        faults += [f"{place}: {it}" for it in find_breaches(page)]
        canaries += page.get_by_text(CANARY).count()
        for width, size in (("phone", PHONE), ("desk", DESK)):
            page.set_viewport_size(size)
            page.emulate_media(color_scheme="light")
            faults += [f"{place} {width} {it}" for it in find_faults(page, everything)]
            page.emulate_media(color_scheme="dark")
            faults += [f"{place} {width} dark {it}" for it in find_faults(page, colours)]
            if overflow(page) > 0:
                faults.append(f"{place} runs off by {overflow(page)} on a {width}")
        page.set_viewport_size(ZOOMED)
        if overflow(page) > 0:
            faults.append(f"{place} runs off by {overflow(page)} at 400 %")
        page.set_viewport_size(PHONE)
    faults += [error for error in visitor.errors if not error.startswith("Failed to load resource")]
    assert not faults, "\n".join(faults)
    assert canaries or name in (None, "busy", "vast"), "the canary was nowhere printed as it is"


def test_reads_from_right_to_left(new_visitor: NewVisitor, served: Town) -> None:
    for size in (PHONE, DESK):
        page = new_visitor("arab", viewport=size, locale="ar").page
        expect(page.locator("html")).to_have_attribute("dir", "rtl")
        amount, heading = page.locator(".due .money").first, page.locator("h1")
        ends = [part.evaluate("(it) => it.getBoundingClientRect().right") for part in (amount,)]
        main = page.locator("main").bounding_box()
        assert main is not None
        assert ends[0] > main["x"] + main["width"] / 2
        assert heading.evaluate("(it) => getComputedStyle(it).direction") == "rtl"
        assert "$105.56" in amount.inner_text().replace("\u200f", "").replace("\u00a0", "") or (
            "105" in amount.inner_text() or "١٠٥" in amount.inner_text()
        )


# By keyboard ----------------------------------------------------------------------------------

SEEN = """() => {
  const it = document.activeElement, box = it.getBoundingClientRect(), style = getComputedStyle(it);
  const x = box.left + box.width / 2, y = box.top + Math.min(box.height, innerHeight) / 2;
  const top = document.elementFromPoint(x, y);
  return {
    words: (it.labels?.[0] ?? it).textContent.trim(),
    outline: !it.matches(":focus") /* a part of it, with the browser's own ring */
      || style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2,
    clear: top !== null && (it.contains(top) || top.contains(it)),
  };
}"""


def tab_to(page: Page, words: str, tries: int = 40) -> None:
    """Press Tab until what has the focus says `words`; all on the way is seen to have it."""
    for _ in range(tries):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            continue  # past the last one, in the browser's own bars
        seen = page.evaluate(SEEN)
        assert seen["outline"], f"focus cannot be seen on {seen['words']!r}"
        assert seen["clear"], f"{seen['words']!r} has the focus and is covered"
        if words in seen["words"]:
            return
    raise AssertionError(f"Tab does not lead to {words!r}")


@pytest.mark.parametrize("has_script", [True, False], ids=["script", "plain"])
def test_keyboard_is_enough_to_sign_in_and_pay(
    new_visitor: NewVisitor, served: Town, has_script: bool
) -> None:
    name = served.new_payer()
    visitor = new_visitor(java_script_enabled=True)
    if not has_script:
        # The page's own scripts stay away; the test needs its own to look at the focus.
        visitor.context.route("**/static/**/*.js", lambda route: route.abort())
    page = visitor.open("/sign-in")
    tab_to(page, "ID or e-mail")
    page.keyboard.type(name)
    tab_to(page, "Password")
    page.keyboard.type("quiet-lantern-orbit-47")
    tab_to(page, "This is my own device")
    page.keyboard.press("Space")
    expect(page.get_by_label("my own device")).to_be_checked()
    page.keyboard.press("Enter")
    page.wait_for_url("**/a/**")
    tab_to(page, "Bills")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Bills", exact=True)).to_be_focused()
    tab_to(page, "Another amount")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Make a payment")).to_be_focused()
    tab_to(page, "All that is due")
    page.keyboard.press("ArrowDown")
    tab_to(page, "Amount")
    page.keyboard.type("12.50")
    tab_to(page, "Go on to payment")
    page.keyboard.press("Enter")
    page.wait_for_url(served.bank_origin + "/pay/**")
    tab_to(page, "Pay")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Paid. Thank you.")).to_be_visible()
    tab_to(page, "Sign out")
    page.keyboard.press("Enter")
    expect(page.get_by_text("You are signed out.")).to_be_visible()


def press(page: Page, *words: str) -> None:
    """Tab to each of these in turn and press it: Space on a choice, else Enter, and be there."""
    for word in words:
        tab_to(page, word)
        if page.evaluate("['radio', 'checkbox'].includes(document.activeElement.type)"):
            page.keyboard.press("Space")
            continue
        page.evaluate("document.querySelector('h1').dataset.left = ''")
        page.keyboard.press("Enter")
        expect(page.locator("h1:not([data-left])")).to_be_visible()
        if page.locator("[autofocus]").count():
            expect(page.locator(":focus")).to_have_count(1)


def write(page: Page, label: str, words: str) -> None:
    tab_to(page, label)
    page.keyboard.type(words)


def test_keyboard_is_enough_to_save_a_card_and_pay_with_it(
    new_visitor: NewVisitor, served: Town
) -> None:
    visitor = new_visitor(served.new_payer())
    page = visitor.page
    press(page, "Bills", "Saved cards", "Save a card", "Go on to")
    page.wait_for_url(served.bank_origin + "/save/**")
    press(page, "Visa ending 4242")
    expect(page.get_by_text("It is saved.")).to_be_visible()
    press(page, "Bills", "Another amount")
    expect(page.get_by_role("heading", name="Make a payment")).to_be_focused()
    tab_to(page, "Visa ending 4242")  # chosen from the start
    press(page, "Pay now")
    expect(page.get_by_role("heading", name="Paid. Thank you.")).to_be_visible()


def test_keyboard_is_enough_to_plan_payments(new_visitor: NewVisitor, served: Town) -> None:
    name = served.new_payer()
    visitor = new_visitor()
    page = save_card(visitor, name)
    press(page, "Bills", "Autopay", "I allow", "Switch autopay on")
    expect(page.get_by_role("heading", name="Autopay is on")).to_be_visible()
    press(page, "Switch autopay off")
    expect(page.get_by_role("heading", name="Autopay is off")).to_be_visible()
    press(page, "Bills", "Schedule a payment")
    write(page, "On which day?", f"{today() + timedelta(days=5):%m%d%Y}")
    press(page, "Schedule it")
    expect(page.get_by_text("To be taken")).to_be_visible()
    press(page, "Cancel it")
    press(page, "Bills", "More time to pay")
    write(page, "The first day", f"{today() + timedelta(days=5):%m%d%Y}")
    press(page, "Show what", "Agree to these days")
    expect(page.get_by_text("It is agreed")).to_be_visible()


def test_keyboard_is_enough_to_dispute_a_line(new_visitor: NewVisitor, served: Town) -> None:
    page = new_visitor(served.new_payer()).page
    press(page, "Bills")
    expect(page.get_by_role("heading", name="Bills", exact=True)).to_be_focused()
    press(page, "-0", "Something is wrong", "Fiber 300")  # of its number, after the year
    write(page, "Your message", "It was off.")
    press(page, "Send your message")
    expect(page.get_by_text("We have it, and answer here.")).to_be_visible()


def test_keyboard_is_enough_at_the_desk_of_money(new_visitor: NewVisitor, served: Town) -> None:
    """Take cash, give a credit, match a bank transfer, add up the bills."""
    visitor = new_visitor("ben")
    account = f"/staff/accounts/{served.public_ids[served.new_payer()]}"
    page = visitor.open(f"{account}/money")
    press(page, "Take a payment", "Cash", "Book the payment")
    expect(page.get_by_role("heading", name="Receipt")).to_be_visible()
    press(page, "Back to the account", "Give a credit")
    write(page, "Amount", "1")
    write(page, "Reason", "It was off.")
    press(page, "Give the credit")
    expect(page.get_by_text("The credit is booked.")).to_be_visible()
    visitor.open("/staff/bank-lines/malloryline")
    press(page, "the account that is proposed", "Save the decision")
    expect(page.get_by_text("Booked on the account.")).to_be_visible()
    press(page, "Bill runs", "Add it up")
    expect(page.get_by_role("heading", name="What was added up")).to_be_visible()


def test_focus_moves_to_the_summary_of_errors(new_visitor: NewVisitor, served: Town) -> None:
    visitor = new_visitor("alice")
    page = visitor.page
    pages.amount_refused(visitor)
    summary = page.get_by_role("alert")
    expect(summary).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Amount", exact=True)).to_be_focused()
    assert page.get_by_label("Amount", exact=True).get_attribute("aria-invalid") == "true"
    assert page.get_by_label("Amount", exact=True).input_value() == "plenty"


def test_focus_moves_to_the_refusal_at_sign_in(new_visitor: NewVisitor) -> None:
    visitor = new_visitor()
    for provoke in (pages.nothing_typed, pages.wrong_password):
        provoke(visitor)
        expect(visitor.page.get_by_role("alert")).to_be_focused()


def test_skip_link_leads_to_the_content(new_visitor: NewVisitor, served: Town) -> None:
    page = new_visitor("alice").page
    page.get_by_role("link", name="Skip to the content").focus()
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Pay $")).to_be_focused()


# Zoomed in ------------------------------------------------------------------------------------

OUTSIDE = """() => {
  const it = document.activeElement;
  return [it, ...(it.labels ?? [])].filter((part) => {
    const box = part.getBoundingClientRect();
    return box.top < 0 || box.top + Math.min(box.height, 24) > innerHeight;
  }).map((part) => part.id || part.textContent.trim());
}"""
"""What of the focused element and its label cannot be seen in the window."""


@pytest.mark.parametrize("has_script", [True, False], ids=["script", "plain"])
def test_page_at_400_percent_opens_at_its_top_and_shows_fields_with_their_labels(
    new_visitor: NewVisitor, served: Town, has_script: bool
) -> None:
    visitor = new_visitor("rich", viewport=ZOOMED, java_script_enabled=has_script)
    paths = [
        *("/settings/", "/settings/password", "/settings/contacts/add/email", "/settings/messages"),
        *("/activity", "/help", served.path("", "rich"), served.path("people/invite", "rich")),
    ]
    faults = []
    for path in paths:
        page = visitor.open(path)
        box = page.locator("h1").bounding_box()
        assert box is not None
        if page.evaluate("scrollY") != 0 or box["y"] + box["height"] > ZOOMED["height"]:
            faults.append(f"{path} opens at {page.evaluate('scrollY')}, its heading at {box['y']}")
        for _stop in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement === document.body"):
                break
            faults += [f"{path}: {part} is not seen" for part in page.evaluate(OUTSIDE)]
    assert not faults, "\n".join(faults)
