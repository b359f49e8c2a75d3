"""Plans changed, a TV package tried, more data bought, the service cancelled and kept: as journeys
on the thin line, without JavaScript."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser import town
from tests.browser.conftest import PHONE, NewVisitor, Town, Visitor
from tests.browser.test_getting_in import go_on
from tests.thin_line import ThinLine


@pytest.fixture
def visitor(new_visitor: NewVisitor, thin: ThinLine) -> Visitor:
    """Somebody without script, on a phone, at the end of a thin line."""
    assert not thin.lose
    return new_visitor(viewport=PHONE, java_script_enabled=False)


def open_plans(visitor: Visitor, name: str) -> Page:
    page = visitor.sign_in(name)
    page.get_by_role("link", name="Change your plans").click()
    return page


def in_use(served: Town, name: str) -> str:
    """The codes of the plans of somebody's account that have no last day."""
    found = served.one(
        "SELECT group_concat(code, ' ') FROM (SELECT code FROM subscriptions JOIN plans"
        " ON plans.id = plan_id JOIN accounts ON accounts.id = account_id"
        " WHERE ended_on IS NULL AND number = ? ORDER BY code)",
        town.account_number(name),
    )
    return str(found)


def test_customer_changes_the_plan_and_takes_it_back(visitor: Visitor, served: Town) -> None:
    name = served.new_payer()
    page = open_plans(visitor, name)
    before = in_use(served, name)
    page.get_by_role("link", name="Change Fiber 300").click()
    page.get_by_role("link", name="Choose Fiber 500").click()
    expect(page.get_by_text("500 Mbit/s down")).to_be_visible()
    total = page.locator(".rows__sum .end").inner_text()
    go_on(page, "Change to Fiber 500")
    expect(page.get_by_text("It is planned")).to_be_visible()
    assert page.locator(".rows__sum .end").inner_text() == total  # what was agreed to
    assert in_use(served, name) != before
    served.wait_for_letter(f"{name}@example.net", "Fiber 500")
    go_on(page, "Take it back")
    expect(page.get_by_text("It was taken back")).to_be_visible()
    assert in_use(served, name) == before
    assert visitor.errors == []


def test_customer_tries_a_package_for_a_day(visitor: Visitor, served: Town) -> None:
    name = served.new_payer()
    page = open_plans(visitor, name)
    before = in_use(served, name)
    page.get_by_role("link", name="Family", exact=True).click()
    expect(page.get_by_text("Family alone, with taxes")).to_be_visible()
    go_on(page, "Add Family")
    expect(page.get_by_text("It is done")).to_be_visible()
    assert "TV-FAMILY" in in_use(served, name)
    served.wait_for_letter(f"{name}@example.net", "Family")
    go_on(page, "Take it back")
    expect(page.get_by_text("Everything stays as it was, and it costs nothing.")).to_be_visible()
    assert in_use(served, name) == before
    assert visitor.errors == []


def test_customer_buys_more_data_in_two_presses(visitor: Visitor, served: Town) -> None:
    name = served.new_payer()
    page = visitor.sign_in(name)
    page.get_by_role("link", name="Data use").click()
    page.get_by_role("link", name="More data").click()
    page.get_by_role("button", name=re.compile("^Buy ")).click()
    expect(page.get_by_role("heading", name="Bought", exact=True)).to_be_visible()
    expect(page.get_by_text("Bought besides, until")).to_be_visible()
    bought = "SELECT count(*) FROM top_ups JOIN lines ON lines.id = line_id WHERE username = ?"
    assert served.one(bought, f"ppp-{name}") == 1
    assert visitor.errors == []


def test_customer_cancels_and_stays(visitor: Visitor, served: Town) -> None:
    name = served.new_payer()
    page = open_plans(visitor, name)
    page.get_by_role("link", name="Cancel your service").click()
    go_on(page, "Cancel your service")
    expect(page.get_by_text("It is planned")).to_be_visible()
    go_on(page, "Take it back")
    expect(page.get_by_text("Everything stays as it was, and it costs nothing.")).to_be_visible()
    page.get_by_role("link", name="Home").click()
    expect(page.get_by_text("Switched on")).to_be_visible()
    assert visitor.errors == []
