"""What the scripts add, and that a page stands without them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Route, expect

from tests.browser.conftest import NewVisitor, Town


def test_password_can_be_shown_and_hidden(new_visitor: NewVisitor) -> None:
    page = new_visitor().open("/sign-in")
    field = page.get_by_label("Password", exact=True)
    field.fill("secret words")
    page.get_by_role("button", name="Show password").click()
    expect(field).to_have_attribute("type", "text")
    page.get_by_role("button", name="Hide password").click()
    expect(field).to_have_attribute("type", "password")
    expect(field).to_have_value("secret words")


def test_caps_lock_is_said_while_it_is_on(new_visitor: NewVisitor) -> None:
    page = new_visitor().open("/sign-in")
    for is_on, words in ((True, "Caps Lock is on"), (False, "")):
        page.eval_on_selector(
            "[name=password]",
            "(field, on) => field.dispatchEvent("
            "new KeyboardEvent('keyup', {key: 'A', modifierCapsLock: on}))",
            is_on,
        )
        expect(page.get_by_role("status")).to_have_text(words)


def test_no_button_without_a_script_to_serve_it(new_visitor: NewVisitor) -> None:
    page = new_visitor(java_script_enabled=False).open("/sign-in")
    assert page.locator("button:visible").all_inner_texts() == ["Sign in"]
    assert "Caps Lock" not in page.inner_text("body")


def test_large_script_waits_for_a_quiet_line_and_for_no_form(
    new_visitor: NewVisitor, served: Town
) -> None:
    """It is not needed before sign-in: what a person waits for goes first."""
    visitor = new_visitor()
    with visitor.page.expect_request(re.compile("htmx")):
        visitor.open("/sign-in")
    quick = new_visitor()
    asked: list[str] = []
    quick.page.on("request", lambda request: asked.append(urlsplit(request.url).path))
    quick.sign_in("alice")
    quick.page.wait_for_load_state()
    assert asked.index(served.path()) < asked.index(next(p for p in asked if "htmx" in p))


def test_boosted_link_moves_title_address_and_focus(new_visitor: NewVisitor, served: Town) -> None:
    page = new_visitor("alice").page
    page.evaluate("window.same = true")
    page.get_by_role("link", name="Bills", exact=True).click()
    expect(page).to_have_title("Bills – Pinecrest Broadband")
    assert page.url == served.origin + served.path("billing/")
    expect(page.get_by_role("heading", level=1)).to_be_focused()
    expect(page.locator(".bar [aria-current]")).to_have_text("Bills")
    assert page.evaluate("window.same") is True
    page.go_back()
    expect(page).to_have_title("Your account – Pinecrest Broadband")


def test_filter_swaps_its_list_and_keeps_the_address(new_visitor: NewVisitor, served: Town) -> None:
    page = new_visitor("busy").open(served.path("billing/invoices/", "busy"))
    page.evaluate("window.same = true")
    page.get_by_role("link", name="To pay", exact=True).click()
    expect(page.locator("#state-open")).to_have_attribute("aria-current", "true")
    expect(page.locator("#state-open")).to_be_focused()
    page.get_by_role("link", name="Older").click()
    expect(page.get_by_text("Page 2 of 2")).to_be_visible()
    assert "state=open" in page.url
    assert "page=2" in page.url
    assert page.evaluate("window.same") is True
    page.go_back()
    expect(page.get_by_text("Page 1 of 2")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_have_text("All bills")


@pytest.mark.parametrize("failure", ["connectionreset", "timedout"])
def test_link_whose_fetch_fails_is_followed_plainly(
    new_visitor: NewVisitor, served: Town, failure: str
) -> None:
    visitor = new_visitor("alice")
    page = visitor.page

    def fail_for_htmx(route: Route) -> None:
        if "hx-request" in route.request.headers:
            route.abort(failure)
        else:
            route.continue_()

    page.route("**/a/**", fail_for_htmx)
    page.evaluate("window.same = true")
    page.get_by_role("link", name="Bills", exact=True).click()
    expect(page).to_have_title("Bills – Pinecrest Broadband")
    assert page.evaluate("window.same") is None


def test_page_that_asks_again_stays_when_nothing_is_new(
    new_visitor: NewVisitor, served: Town
) -> None:
    page = new_visitor("asker").page
    with page.expect_request(re.compile("since=")) as poll:
        page.goto(served.origin + served.path("billing/payments/askedpayment", "asker"))
    answer = poll.value.response()
    assert answer is not None
    assert answer.status == 204
    expect(page.get_by_role("heading", name="We do not know yet")).to_be_visible()
