"""Sign in, pay at the bank's own site, see the receipt: on a phone and a desk, with and without
JavaScript."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from gateways.payments.sandbox.faults import Fault
from gateways.payments.sandbox.store import Decision
from tests.browser import town
from tests.browser.conftest import DESK, PHONE, NewVisitor, Town, Visitor

WINDOWS: list[Any] = [
    pytest.param({"viewport": size, "java_script_enabled": scripts}, id=f"{name}-{word}")
    for name, size in (("phone", PHONE), ("desk", DESK))
    for scripts, word in ((True, "script"), (False, "plain"))
]
every_window = pytest.mark.parametrize("window", WINDOWS)
two_windows = pytest.mark.parametrize("window", [WINDOWS[1], WINDOWS[2]])


def go_to_bank(visitor: Visitor, name: str) -> Page:
    """Sign in and press the one button that pays."""
    page = visitor.sign_in(name)
    page.get_by_role("button", name="Pay $").click()
    page.wait_for_url(visitor.town.bank_origin + "/pay/**")
    return page


def choose(page: Page, name: str) -> None:
    page.get_by_role("button", name=re.compile(f"^{name}")).click()


def look_until(page: Page, words: str, *, has_script: bool, tries: int = 40) -> None:
    """Wait for the page to say it: by itself with script, by "Check again" without."""
    if has_script:
        expect(page.locator("#payment")).to_contain_text(words, timeout=30_000)
        return
    for _ in range(tries):
        if words in page.inner_text("#payment"):
            return
        page.wait_for_timeout(700)
        page.get_by_role("link", name="Check again").click()
    raise AssertionError(f"{words!r} did not come: {page.inner_text('#payment')}")


def list_requests(page: Page) -> list[str]:
    """The addresses that the page asks for from now on; grows by itself."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    return asked


def expect_receipt(visitor: Visitor, name: str) -> None:
    page = visitor.page
    expect(page.get_by_role("heading", name="Paid. Thank you.")).to_be_visible()
    assert page.url.startswith(visitor.town.origin + visitor.town.path("billing/payments/", name))
    assert "Nothing more is owed." in page.inner_text("#payment")
    page.get_by_role("link", name="Home").click()
    expect(page.get_by_text("Nothing to pay", exact=True)).to_be_visible()


@every_window
@pytest.mark.parametrize("answer", ["Pay", "Answer twice"])
def test_customer_pays_and_gets_a_receipt(
    new_visitor: NewVisitor, served: Town, window: dict[str, Any], answer: str
) -> None:
    name = served.new_payer()
    visitor = new_visitor(**window)
    choose(go_to_bank(visitor, name), answer)
    expect_receipt(visitor, name)
    assert visitor.errors == []
    assert served.one("SELECT count(*) FROM payments WHERE amount_minor = ? AND account_id = "
                      "(SELECT id FROM accounts WHERE number = ?)",
                      10556, town.account_number(name)) == 1  # fmt: skip


@every_window
def test_bank_may_decline_then_ask_for_confirmation(
    new_visitor: NewVisitor, served: Town, window: dict[str, Any]
) -> None:
    name = served.new_payer()
    visitor = new_visitor(**window)
    page = go_to_bank(visitor, name)
    choose(page, "Decline")
    expect(page.get_by_role("heading", name="Declined: nothing was paid")).to_be_visible()
    page.get_by_role("link", name="Try again").click()
    page.get_by_role("button", name="Go on to payment").click()
    choose(page, "Ask for confirmation")
    page.get_by_role("button", name="Yes").click()
    expect_receipt(visitor, name)
    assert visitor.errors == []


@two_windows
def test_customer_may_cancel_at_the_bank_and_at_home(
    new_visitor: NewVisitor, served: Town, window: dict[str, Any]
) -> None:
    name = served.new_payer()
    page = go_to_bank(new_visitor(**window), name)
    choose(page, "Cancel")
    expect(page.get_by_role("heading", name="Cancelled: nothing was paid")).to_be_visible()
    page.goto(served.origin + served.path(account=name))
    page.get_by_role("button", name="Pay $").click()
    page.wait_for_url(served.bank_origin + "/pay/**")
    page.goto(served.origin + served.path(account=name))
    page.get_by_role("link", name="See where it stands").click()
    page.get_by_role("button", name="Cancel this payment").click()
    expect(page.get_by_role("heading", name="Cancelled: nothing was paid")).to_be_visible()


@two_windows
def test_second_payment_shows_the_first_which_can_be_continued(
    new_visitor: NewVisitor, served: Town, window: dict[str, Any]
) -> None:
    name = served.new_payer()
    visitor = new_visitor(**window)
    page = visitor.sign_in(name)
    page.get_by_role("link", name="Another amount").click()
    page.wait_for_url("**/billing/pay")
    second = visitor.context.new_page()
    second.goto(page.url)
    for tab in (page, second):
        tab.get_by_role("radio", name="All that is due").check()
        tab.get_by_role("button", name="Go on to payment").click()
    expect(second.get_by_role("heading", name="A payment is not finished")).to_be_visible()
    second.get_by_role("button", name="Continue this payment").click()
    choose(second, "Pay")
    visitor.page = second
    expect_receipt(visitor, name)


def test_late_answers_arrive_while_the_customer_looks(
    new_visitor: NewVisitor, served: Town
) -> None:
    """A late card payment and a bank debit, in every window at once: each takes its seconds."""
    looking = []
    for answer, at_first in (("Answer late", "Not finished"), ("Bank debit", "On its way")):
        for window in WINDOWS:
            page = go_to_bank(new_visitor(**window.values[0]), served.new_payer())
            choose(page, answer)
            expect(page.locator("#payment")).to_contain_text(at_first)
            looking.append((page, window.values[0]["java_script_enabled"]))
    for page, has_script in looking:
        look_until(page, "Paid. Thank you.", has_script=has_script)
        expect(page.locator("[hx-trigger]")).to_have_count(0)


@two_windows
def test_bank_that_leads_nowhere_has_still_told_the_truth(
    new_visitor: NewVisitor, served: Town, window: dict[str, Any]
) -> None:
    name = served.new_payer()
    page = go_to_bank(new_visitor(**window), name)
    choose(page, "Never answer")
    assert page.url.startswith(served.bank_origin)
    page.goto(served.origin + served.path(account=name))
    page.get_by_role("link", name="See where it stands").click()
    # It was paid, and cancelling asks first.
    page.get_by_role("button", name="Cancel this payment").click()
    expect(page.get_by_role("heading", name="Paid. Thank you.")).to_be_visible()


@pytest.mark.parametrize("is_at_home", [True, False], ids=["same browser", "another browser"])
def test_bank_may_lead_back_by_a_form(
    new_visitor: NewVisitor, served: Town, is_at_home: bool
) -> None:
    """A POST from another site comes without our cookie: the page shows amount and state only."""
    name = served.new_payer()
    page = go_to_bank(new_visitor(), name)
    if not is_at_home:
        address, page = page.url, new_visitor(java_script_enabled=False).page
        page.goto(address)
    page.get_by_label("Go back by a form").check()
    choose(page, "Pay")
    page.get_by_role("button", name="Return").click()
    expect(page.get_by_role("heading", name="Paid. Thank you.")).to_be_visible()
    assert "$105.56" in page.inner_text("main")
    assert name.title() not in page.inner_text("body")
    page.get_by_role("link", name="Go on to your account").click()
    expect(page).to_have_url(re.compile("/a/" if is_at_home else "/sign-in"))


def test_start_without_an_answer_is_unknown_until_it_is_known(
    new_visitor: NewVisitor, served: Town
) -> None:
    """The page says so, asks again by itself, and stops asking once it knows."""
    looking = []
    for window in WINDOWS:
        name = served.new_payer()
        visitor = new_visitor(**window.values[0])
        page = visitor.sign_in(name)
        served.bank.set_next_faults([Fault.DROP_AFTER])
        page.get_by_role("button", name="Pay $").click()
        expect(page.get_by_role("heading", name="We do not know yet")).to_be_visible()
        public_id = page.url.rsplit("/", 1)[1]
        key = served.one("SELECT key FROM payments WHERE public_id = ?", public_id)
        served.bank.decide(key, Decision.SILENT)  # paid, and no notice tells
        asked = list_requests(page)
        looking.append((page, asked, window.values[0]["java_script_enabled"]))
    for page, _asked, has_script in looking:
        look_until(page, "Paid. Thank you.", has_script=has_script)
    counts = [len(asked) for _page, asked, _has_script in looking]
    assert all(any("since=" in url for url in asked) == js for _page, asked, js in looking)
    looking[0][0].wait_for_timeout(4000)  # longer than the pause between two questions
    assert [len(asked) for _page, asked, _has_script in looking] == counts


def test_form_in_a_swapped_fragment_can_be_sent(new_visitor: NewVisitor, served: Town) -> None:
    """The page learns by asking that the payment is open, and offers to go on or to cancel."""
    page = new_visitor(served.new_payer()).page
    served.bank.set_next_faults([Fault.DROP_AFTER])
    page.get_by_role("button", name="Pay $").click()
    expect(page.get_by_role("heading", name="We do not know yet")).to_be_visible()
    page.evaluate("window.same = true")
    expect(page.get_by_role("button", name="Continue paying")).to_be_visible(timeout=30_000)
    assert page.evaluate("window.same") is True
    page.get_by_role("button", name="Cancel this payment").click()
    expect(page.get_by_role("heading", name="Cancelled: nothing was paid")).to_be_visible()


@pytest.mark.parametrize("is_own_device", [False, True], ids=["any device", "own device"])
def test_back_and_pay_again_makes_one_payment(
    new_visitor: NewVisitor, served: Town, is_own_device: bool
) -> None:
    name = served.new_payer()
    visitor = new_visitor()
    page = visitor.sign_in(name, is_own_device=is_own_device)
    page.get_by_role("button", name="Pay $").dblclick()
    page.wait_for_url(served.bank_origin + "/pay/**")
    page.go_back()
    again = page.get_by_role("button", name="Pay $").or_(
        page.get_by_role("link", name="See where it stands")
    )
    again.click()
    onwards = page.get_by_role("button", name=re.compile("^Continue (paying|this payment)"))
    expect(onwards.or_(page.get_by_role("button", name=re.compile("^Decline")))).to_be_visible()
    if page.url.startswith(served.origin):
        onwards.click()
    choose(page, "Pay")
    expect_receipt(visitor, name)
    count = "SELECT count(*) FROM payments JOIN accounts ON accounts.id = account_id"
    assert served.one(f"{count} WHERE number = ?", town.account_number(name)) == 1
