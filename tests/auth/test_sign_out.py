"""Signing out: from every page, by POST, leaving nothing behind (bars 25, 29)."""

from __future__ import annotations

from collections.abc import Callable

from core.policy import POLICY, Who
from tests import crawl
from tests.conftest import Portal
from tests.page import Page, Visitor


def check_signed_out(visitor: Visitor, page: Page) -> None:
    assert (page.status, page.location) == (303, "/sign-in?done=signed-out")
    assert page.response.headers["Clear-Site-Data"] == '"cache", "storage"'
    assert page.response.headers["Cache-Control"] == "no-store"
    assert "session" not in visitor.cookies()
    assert "You are signed out." in visitor.get(page.location).text


# Pages for whoever is not signed in yet, and answers that are no page of a person.
NO_WAY_OUT = {
    "static",
    "health",
    "auth.sign_in",
    "auth.staff_sign_in",
    "auth.welcome",
    "auth.register",
    "auth.recover",
    "auth.recover_link",
    "auth.find_id",
    "auth.passkey_options",
    "staff.join",
    "demo.mailbox",
    "demo.mailbox_message",
    "dashboard.index",  # leads on
    "billing.payment_return",  # leads on whoever may see the payment
    "billing.method_return",
    "support.broadband_facts_csv",  # a file
}


def test_customer_signs_out_on_every_page(portal: Portal) -> None:
    paths = crawl.list_gets(portal)
    everyones = {name for name, rule in POLICY.items() if rule.who is Who.EVERYONE} & set(paths)
    assert {name for name in everyones if not POLICY[name].greets} == NO_WAY_OUT
    flows = {name for name, rule in POLICY.items() if rule.who is Who.FLOW}
    for name, path in paths.items():
        if name in NO_WAY_OUT | flows:
            continue
        visitor = portal.visitor("ada" if POLICY[name].who is Who.STAFF else "alice")
        shown = visitor.get(path)
        if shown.status == 303 or shown.tree is None:
            continue  # leads on, or is a file: there is no page in this state
        page = visitor.submit(shown, "/sign-out")
        check_signed_out(visitor, page)
        assert visitor.get(portal.path()).status == 303


def test_customer_signs_out_on_pages_that_say_no(portal: Portal) -> None:
    crawl.prepare(portal)
    theo = portal.visitor("theo")
    pages = [
        theo.get("/nothing"),
        theo.get(portal.path("billing/")),
        theo.get(portal.path(account="mallory")),
        theo.get("/help", a="\0"),
        theo.get("/help?" + "&" * 100),
        theo.post("/help"),
        theo.post("/sign-out"),
        theo.get(f"/pay/{crawl.ids(portal)['payment']}/return"),
    ]
    assert [page.status for page in pages] == [404, 403, 404, 400, 413, 405, 403, 200]
    for page in pages:
        visitor = portal.visitor("theo")
        own = visitor.get("/help").form("/sign-out")[1]
        _action, values = page.form("/sign-out")
        assert set(values) == set(own)
        assert page.response.headers["Cache-Control"] == "no-store"
        assert "Cookie" in page.response.headers["Vary"]
    check_signed_out(theo, theo.submit(pages[0], "/sign-out"))


def test_pages_open_to_everyone_show_nothing_of_a_session_that_is_over(portal: Portal) -> None:
    constant = portal.visitor().get("/help").response.data
    visitor = portal.visitor("alice")
    assert b"Alice" in visitor.get("/help").response.data
    token = visitor.cookies()["session"]
    visitor.submit(visitor.get("/help"), "/sign-out")
    visitor.client.set_cookie("session", token, domain="127.0.0.1")
    assert visitor.get("/help").response.data == constant
    assert "sign-out" not in visitor.get("/nothing").response.text


def test_sign_out_ends_this_session_alone(portal: Portal) -> None:
    phone, desk = portal.visitor("alice"), portal.visitor("alice")
    phone.submit(phone.get(portal.path()), "/sign-out")
    assert desk.get(portal.path()).status == 200


def test_sign_out_sent_twice_says_the_same(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    action, values = visitor.get(portal.path()).form("/sign-out")
    check_signed_out(visitor, visitor.post(action, values))
    check_signed_out(visitor, visitor.post(action, values))


def test_sign_out_of_a_session_that_ran_out_clears_the_browser_too(
    portal: Portal, tick: Callable[..., None]
) -> None:
    visitor = portal.visitor("alice")
    action, values = visitor.get(portal.path()).form("/sign-out")
    tick(hours=1)
    check_signed_out(visitor, visitor.post(action, values))
    assert portal.one("SELECT count(*) FROM sessions WHERE ended_at IS NULL") == 0


def test_sign_out_is_no_link(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    assert visitor.get("/sign-out").status == 405
    assert visitor.get(portal.path()).status == 200


def test_other_sites_sign_nobody_out(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    _, values = visitor.get(portal.path()).form("/sign-out")
    assert visitor.post("/sign-out").status == 403
    foreign = {"Origin": "https://evil.example"}
    assert visitor.post("/sign-out", values, headers=foreign).status == 403
    assert visitor.get(portal.path()).status == 200


def test_device_stays_known_after_signing_out(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    device = visitor.cookies()["device"]
    visitor.submit(visitor.get(portal.path()), "/sign-out")
    visitor.sign_in("alice")
    assert visitor.cookies()["device"] == device
