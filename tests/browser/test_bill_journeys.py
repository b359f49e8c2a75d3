"""A bill and a statement of account downloaded, and a line of a bill disputed, as journeys on the
thin line, without JavaScript."""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import PHONE, NewVisitor, Town, Visitor
from tests.browser.test_getting_in import go_on
from tests.thin_line import ThinLine


def open_bills(visitor: Visitor, name: str) -> Page:
    page = visitor.sign_in(name)
    page.get_by_role("link", name="Bills", exact=True).click()
    return page


def open_bill(visitor: Visitor, name: str) -> Page:
    page = open_bills(visitor, name)
    page.get_by_role("table", name="Latest bills").get_by_role("link").first.click()
    return page


def download(page: Page, link: str) -> Path:
    with page.expect_download() as coming:
        page.get_by_role("link", name=link).click()
    path = coming.value.path()
    assert coming.value.suggested_filename.endswith((".pdf", ".csv"))
    return Path(path)


@pytest.mark.parametrize("which", ["bill", "statement of account"])
def test_customer_downloads_what_is_owed_as_pdf_and_csv(
    new_visitor: NewVisitor, served: Town, thin: ThinLine, which: str
) -> None:
    visitor = new_visitor(viewport=PHONE, java_script_enabled=False)
    if which == "bill":
        page = open_bill(visitor, served.new_payer())
        links = ("Download as PDF", "as CSV")
    else:
        page = open_bills(visitor, served.new_payer())
        page.get_by_role("link", name="Statement of account").click()
        go_on(page, "Show these days")
        links = ("as PDF", "as CSV")
    printed = download(page, links[0]).read_bytes()
    assert printed.startswith(b"%PDF-")
    assert len(printed) <= 60_000
    rows = list(csv.DictReader(download(page, links[1]).read_text("utf-8-sig").splitlines()))
    if which == "bill":
        assert sum(Decimal(row["Amount"]) for row in rows) == Decimal("105.56")
    else:
        assert [row["Balance"] for row in (rows[0], rows[-1])] == ["0.00", "105.56"]
    assert thin.requests
    assert visitor.errors == []


def test_customer_disputes_a_line_and_staff_answer(
    new_visitor: NewVisitor, served: Town, thin: ThinLine
) -> None:
    """Both sides read the thread; the customer takes it back in the end."""
    name = served.new_payer()
    visitor = new_visitor(viewport=PHONE, java_script_enabled=False)
    page = open_bill(visitor, name)
    page.get_by_role("link", name="Something is wrong with this bill").click()
    go_on(page, "Send")  # nothing is chosen yet
    page.get_by_role("radio").first.check()
    page.get_by_label("Your message").fill("It was off for a week.")
    go_on(page, "Send")
    expect(page.get_by_text("We have it, and answer here.")).to_be_visible()
    thread = served.one(
        "SELECT disputes.public_id FROM disputes JOIN accounts ON accounts.id = account_id"
        " WHERE accounts.public_id = ?",
        served.public_ids[name],
    )

    desk = new_visitor("ben", viewport=PHONE, java_script_enabled=False)
    answering = desk.open("/staff/")
    answering.get_by_role("link", name="Disputes").click()
    answering.locator(f"a[href$='{thread}']").click()
    expect(answering.get_by_text("It was off for a week.")).to_be_visible()
    answering.get_by_label("Your message").fill("On which days?")
    answering.get_by_label("An answer; it stays open").check()
    go_on(answering, "Send")
    expect(answering.get_by_text("Your answer is in the thread")).to_be_visible()

    page.get_by_role("link", name="Home").click()
    page.get_by_role("link", name="Bills", exact=True).click()
    page.get_by_role("link", name="What you wrote").click()
    page.get_by_role("main").get_by_role("listitem").get_by_role("link").click()
    expect(page.get_by_text("On which days?")).to_be_visible()
    go_on(page, "Withdraw it")
    expect(page.get_by_text("Withdrawn. The bill counts as it is.")).to_be_visible()
    assert thin.requests
    assert visitor.errors + desk.errors == []
