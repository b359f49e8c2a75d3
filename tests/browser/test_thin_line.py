"""What a person sees on a thin line, and when the answer to a press is lost on it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from gateways.payments.base import GatewayState
from tests.browser import town
from tests.browser.conftest import NewVisitor, Town
from tests.browser.test_planning import save_card
from tests.thin_line import Loss, Request, ThinLine

SENT = "Sent. Waiting for the answer…"
SLOW = "No answer yet. It may have arrived all the same. You can press again: it counts once."
# While a page is awaited nobody can look at the one that is there but its own script. It notes what
# the page says and presses again each time it says something; its clock is five times as fast.
WATCH = """
const wait = setTimeout, seen = [];
window.setTimeout = (work, ms, ...more) => wait(work, ms / 5, ...more);
new MutationObserver(() => {
  const form = document.querySelector("form[action$='/billing/pay']");
  const said = document.querySelector(".waiting")?.textContent;
  if (!form || said === undefined || said == seen.at(-1)?.[1]) return;
  seen.push([form.ariaBusy, said]);
  localStorage.seen = JSON.stringify(seen);
  if (said) form.querySelector("button").click();
}).observe(document, { subtree: true, childList: true, characterData: true });
"""


@pytest.fixture
def line(served: Town) -> Iterator[ThinLine]:
    """The line to the portal, at full speed; what a test loses on it is not lost after it."""
    served.line.requests.clear()
    yield served.line
    served.line.lose = None


def lose_presses(line: ThinLine, loss: Loss, count: int = 99) -> list[Request]:
    """Lose so many answers to a press of a button; the list grows with what was lost."""
    lost: list[Request] = []

    def plan(request: Request) -> Loss | None:
        if request.method != "POST" or len(lost) == count:
            return None
        lost.append(request)
        return loss

    line.lose = plan
    return lost


def payments_of(served: Town, name: str) -> int:
    count = "SELECT count(*) FROM payments JOIN accounts ON accounts.id = account_id"
    return int(served.one(f"{count} WHERE number = ?", town.account_number(name)))


def press_pay(page: Page) -> None:
    page.get_by_role("button", name="Pay $").click(no_wait_after=True)


def test_pressed_button_says_so_and_works_again_when_no_answer_comes(
    new_visitor: NewVisitor, served: Town, line: ThinLine
) -> None:
    name = served.new_payer()
    visitor = new_visitor()
    visitor.page.add_init_script(WATCH)
    page = visitor.sign_in(name)
    lost = lose_presses(line, Loss(is_reset=False), 1)
    press_pay(page)
    expect(page.get_by_role("heading", name="Choose how this payment ends")).to_be_visible()
    # Pressed in haste it was not sent, as it was on its way; later it was.
    assert [request.method for request in line.requests].count("POST") == 3
    assert len(lost) == 1
    assert payments_of(served, name) == 1
    page.goto(served.origin + "/help")
    seen = json.loads(page.evaluate("localStorage.seen"))
    assert seen[:3] == [["true", ""], ["true", SENT], [None, SLOW]]


def test_button_is_fresh_when_the_person_comes_back(new_visitor: NewVisitor, served: Town) -> None:
    page = new_visitor(served.new_payer()).page
    press_pay(page)
    page.wait_for_url(served.bank_origin + "/pay/**")
    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert page.locator("[aria-busy=true]").count() == 0
    assert page.get_by_text(SENT).count() == 0


@pytest.mark.parametrize("has_script", [True, False], ids=["script", "plain"])
@pytest.mark.parametrize("kept", [0, 60], ids=["nothing came", "a part came"])
def test_lost_answer_to_paying_and_pressed_again_is_one_payment(
    new_visitor: NewVisitor, served: Town, line: ThinLine, has_script: bool, kept: int
) -> None:
    """Chromium sends again by itself on connections that it used before, as often as it has such
    ones, and then says that no answer came; the person goes back and finds the payment."""
    name = served.new_payer()
    page = new_visitor(name, java_script_enabled=has_script).page
    lost = lose_presses(line, Loss(kept))
    with page.expect_event("requestfailed", lambda request: request.method == "POST"):
        press_pay(page)
    page.wait_for_url("chrome-error://**", wait_until="commit")
    line.lose = None
    page.goto(served.origin + served.path(account=name))
    page.get_by_role("link", name="See where it stands").click()
    page.get_by_role("button", name="Continue paying").click()
    page.wait_for_url(served.bank_origin + "/pay/**")
    assert len(lost) >= (2 if kept == 0 else 1)
    assert payments_of(served, name) == 1


@pytest.mark.parametrize("kept", [0, 60], ids=["nothing came", "a part came"])
def test_lost_answer_to_paying_with_a_saved_card_is_taken_once(
    new_visitor: NewVisitor, served: Town, line: ThinLine, kept: int
) -> None:
    """It is taken at once; neither Chromium, which sends again, nor the person takes it twice."""
    name = served.new_payer()
    visitor = new_visitor(java_script_enabled=kept == 0)
    save_card(visitor, name)
    page = visitor.open(served.path("billing/pay", name))
    page.get_by_label("Visa ending 4242").check()
    lost = lose_presses(line, Loss(kept))
    with page.expect_event("requestfailed", lambda request: request.method == "POST"):
        page.get_by_role("button", name="Pay now").click(no_wait_after=True)
    page.wait_for_url("chrome-error://**", wait_until="commit")
    line.lose = None
    page.goto(served.origin + served.path("billing/", name))
    expect(page.get_by_text("Nothing to pay")).to_be_visible()
    assert page.get_by_role("button", name="Pay $").count() == 0
    assert len(lost) >= (2 if kept == 0 else 1)
    assert payments_of(served, name) == 1
    account = served.public_ids[name]
    taken = [it for it in served.bank.list_books() if account in it.customer_reference]
    assert [it.state for it in taken] == [GatewayState.SUCCEEDED]


@pytest.mark.parametrize("kept", [0, 60], ids=["nothing came", "a part came"])
def test_lost_answer_to_a_change_of_plan_and_to_more_data_counts_once(
    new_visitor: NewVisitor, served: Town, line: ThinLine, kept: int
) -> None:
    name = served.new_payer()
    page = new_visitor(name, java_script_enabled=kept == 0).page
    of_account = "IN (SELECT id FROM accounts WHERE number = ?)"
    of_line = f"IN (SELECT id FROM lines WHERE account_id {of_account})"
    for path, button, found in (
        ("plans/add/TV-FAMILY", "Add Family", f"plan_changes WHERE account_id {of_account}"),
        ("usage/top-up", "Buy ", f"top_ups WHERE line_id {of_line}"),
    ):
        page.goto(served.origin + served.path(path, name))
        lost = lose_presses(line, Loss(kept))
        with page.expect_event("requestfailed", lambda request: request.method == "POST"):
            page.get_by_role("button", name=re.compile(f"^{button}")).click(no_wait_after=True)
        page.wait_for_url("chrome-error://**", wait_until="commit")
        line.lose = None
        page.goto(served.origin + served.path(path.partition("/")[0] + "/", name))
        assert served.one(f"SELECT count(*) FROM {found}", town.account_number(name)) == 1
        assert len(lost) >= (2 if kept == 0 else 1)


def test_link_whose_answer_breaks_off_leads_on_all_the_same(
    new_visitor: NewVisitor, served: Town, line: ThinLine
) -> None:
    """HTMX gets half an answer; the link is then followed as if there were no script."""
    page = new_visitor("alice").page
    page.evaluate("window.same = true")
    lost: list[Request] = []

    def plan(request: Request) -> Loss | None:
        if lost or request.path != served.path("billing/"):
            return None
        lost.append(request)
        return Loss(900)

    line.lose = plan
    page.get_by_role("link", name="Bills", exact=True).click()
    expect(page).to_have_title("Bills – Pinecrest Broadband")
    assert lost
    assert page.evaluate("window.same") is None
