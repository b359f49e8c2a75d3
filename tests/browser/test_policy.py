"""What a browser enforces: no script but ours, no data left behind (bars 29, 37, 38, 41, 44).

That no page breaks the policy is seen where all pages are walked through (`test_looks.py`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import outside
from tests.browser.conftest import FLAGS, PATIENCE_MS, NewVisitor, Town, Visitor

WATCH = """window.broken = [];
addEventListener("securitypolicyviolation", (event) => {
  window.broken.push(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`);
});"""
INJECT = """() => {
  const script = document.createElement("script");
  script.textContent = "window.ran = true";
  document.body.append(script);
  const image = document.createElement("img");
  document.body.append(image);
  image.setAttribute("onerror", "window.ran = true");
  image.src = "data:,";
}"""


def find_breaches(page: Page) -> list[str]:
    """How the page that was just opened breaks the policy. `WATCH` has to run in it."""
    found = [str(fault) for fault in page.evaluate("window.broken")]
    return found + ["an inline script"] * page.locator("script:not([src])").count()


@pytest.mark.parametrize("name", [None, "alice"])
def test_injected_script_does_not_run(new_visitor: NewVisitor, name: str | None) -> None:
    visitor = new_visitor()
    visitor.context.add_init_script(WATCH)
    page = visitor.open("/sign-in") if name is None else visitor.sign_in(name)
    page.evaluate(INJECT)
    page.wait_for_function("window.broken.length === 2")
    assert page.evaluate("window.ran") is None
    assert all(fault.startswith("script-src") for fault in page.evaluate("window.broken"))


# htmx -----------------------------------------------------------------------------------------


def test_htmx_is_the_version_and_has_the_settings_that_we_chose(new_visitor: NewVisitor) -> None:
    page = new_visitor("alice").page
    assert page.evaluate("htmx.version") == "4.0.1"
    assert page.evaluate(
        "(({history, mode, includeIndicatorCSS, extensions, prefix}) =>"
        " ({history, mode, includeIndicatorCSS, extensions, prefix}))(htmx.config)"
    ) == {
        "history": "reload",
        "mode": "same-origin",
        "includeIndicatorCSS": False,
        "extensions": "none",
        "prefix": "",
    }
    assert page.locator("style").count() == 0
    assert page.evaluate("document.adoptedStyleSheets.length") == 0


@pytest.mark.parametrize(
    "attributes",
    [
        {"hx-on:click": "window.ran = true"},
        {"hx-get": "/help", "hx-vals": "js:{a: window.ran = true}"},
        {"hx-get": "/help", "hx-trigger": "click[window.ran = true]"},
        {"hx-get": "/help", "hx-confirm": "js:window.ran = true"},
    ],
    ids=lambda attributes: next(reversed(attributes)),
)
def test_htmx_evaluates_nothing(new_visitor: NewVisitor, attributes: dict[str, str]) -> None:
    page = new_visitor("alice").page
    page.evaluate(
        """(attributes) => {
          const button = document.createElement("button");
          button.id = "injected";
          for (const [name, value] of Object.entries(attributes)) button.setAttribute(name, value);
          document.querySelector("main").prepend(button);
          try { htmx.process(button); } catch {}
        }""",
        attributes,
    )
    page.click("#injected")
    page.wait_for_timeout(300)
    assert page.evaluate("window.ran") is None


def test_htmx_asks_nobody_but_us(new_visitor: NewVisitor, served: Town) -> None:
    page = new_visitor("alice").page
    answers: list[str] = []
    page.on("response", lambda response: answers.append(response.url))
    page.evaluate(
        """(address) => {
          const button = document.createElement("button");
          button.id = "injected";
          button.setAttribute("hx-get", address);
          document.querySelector("main").prepend(button);
          htmx.process(button);
        }""",
        served.bank_origin + "/health",
    )
    page.click("#injected")
    page.wait_for_timeout(300)
    assert answers == []


# What stays in the browser --------------------------------------------------------------------

STORED = """async () => ({
  local: Object.entries(localStorage), session: Object.entries(sessionStorage),
  databases: await indexedDB.databases(), caches: await caches.keys(),
  workers: (await navigator.serviceWorker.getRegistrations()).length,
})"""
NOTHING: dict[str, Any] = {
    "local": [], "session": [], "databases": [], "caches": [], "workers": 0,
}  # fmt: skip


def visit_some(page: Page) -> None:
    """Move about by boosted links and swapped fragments."""
    for link, heading in (("Bills", "Bills"), ("All bills", "All bills"), ("Payments", "Payments")):
        page.get_by_role("link", name=link, exact=True).click()
        expect(page.get_by_role("heading", level=1, name=heading, exact=True)).to_be_visible()


@pytest.mark.parametrize("is_own_device", [False, True], ids=["any device", "own device"])
def test_nothing_personal_is_left_after_sign_out(
    new_visitor: NewVisitor, served: Town, is_own_device: bool
) -> None:
    visitor = new_visitor()
    page = visitor.sign_in("alice", is_own_device=is_own_device)
    visit_some(page)
    visitor.open(served.path("billing/"))
    assert page.evaluate(STORED) == NOTHING
    assert page.evaluate("document.cookie") == ""
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    assert page.evaluate(STORED) == NOTHING
    kept = {cookie["name"] for cookie in visitor.context.cookies()}
    assert not [name for name in kept if "session" in name]
    for _ in range(3):
        page.go_back()
        page.wait_for_load_state()
        shown = page.content()
        assert "Alice" not in shown
        assert "1001" not in shown
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()


KEPT_FOLDERS = (
    "Cache", "Code Cache", "Local Storage", "Session Storage", "IndexedDB", "Service Worker",
    "File System", "WebStorage", "GPUCache", "blob_storage",
)  # fmt: skip


def left_on_disk(profile: Path, marks: tuple[bytes, ...]) -> list[str]:
    """Files of a browser's storage that hold one of `marks`. Pages are kept compressed, but with
    their address as it is."""
    return [
        path.relative_to(profile).as_posix()
        for name in KEPT_FOLDERS
        for path in (profile / "Default" / name).rglob("*")
        if path.is_file() and any(mark in path.read_bytes() for mark in marks)
    ]


def test_nothing_personal_is_left_on_the_disk_after_sign_out(
    served: Town, chromium: Browser, tmp_path: Path
) -> None:
    """The whole profile of a browser whose owner had declared the device their own."""
    profile = tmp_path / "profile"
    marks = (b"/a/" + served.public_ids["rich"].encode(), b"Rich &lt;", b"3003", b">Rich<")

    def browse(*, is_first: bool) -> None:
        context = chromium.browser_type.launch_persistent_context(
            profile,
            executable_path=str(outside.need("chromium")),
            args=[flag for flag in FLAGS if flag != "--disable-gpu"],
            locale="en-US",
        )
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        visitor = Visitor(served, context, page, [])
        if is_first:
            visitor.sign_in("rich", is_own_device=True)
            for path in ("billing/", "billing/invoices/", ""):
                visitor.open(served.path(path, "rich"))
        else:
            visitor.open(served.path("", "rich"))
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_text("You are signed out.")).to_be_visible()
            page.go_back()
            expect(page.get_by_role("button", name="Sign in")).to_be_visible()
            assert page.evaluate(STORED) == NOTHING
        page.wait_for_timeout(500)
        context.close()

    browse(is_first=True)
    assert left_on_disk(profile, marks), "an own device keeps pages; this looked in the wrong place"
    browse(is_first=False)
    assert left_on_disk(profile, marks) == []


@pytest.mark.parametrize("path", ["/help", "/there-is-no-such-page", "/a/nobody/"])
def test_customer_signs_out_from_pages_of_no_account(new_visitor: NewVisitor, path: str) -> None:
    visitor = new_visitor("alice")
    page = visitor.open(path)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("You are signed out.")).to_be_visible()
    page.go_back()
    page.wait_for_load_state()
    assert "Alice" not in page.content()


def test_session_that_ended_leads_a_fragment_to_sign_in(
    new_visitor: NewVisitor, served: Town
) -> None:
    """Not a sign-in form inside a box: the whole page moves."""
    visitor = new_visitor("busy")
    page = visitor.open(served.path("billing/invoices/", "busy"))
    visitor.context.clear_cookies()
    page.get_by_role("link", name="To pay", exact=True).click()
    page.wait_for_url("**/sign-in**")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")


def test_poll_of_a_session_that_ended_leads_to_sign_in(
    new_visitor: NewVisitor, served: Town
) -> None:
    visitor = new_visitor("asker")
    page = visitor.open(served.path("billing/payments/askedpayment", "asker"))
    visitor.context.clear_cookies()
    page.wait_for_url("**/sign-in**")
