"""Signing out: from every page, by POST, leaving nothing behind (bars 25, 29)."""

from __future__ import annotations

from collections.abc import Callable

from core.access import POLICY, Who
from tests import crawl
from tests.conftest import Portal
from tests.page import Page, Visitor


def check_signed_out(visitor: Visitor, page: Page) -> None:
    assert (page.status, page.location) == (303, "/sign-in?done=signed-out")
    assert page.response.headers["Clear-Site-Data"] == '"cache", "storage"'
    assert page.response.headers["Cache-Control"] == "no-store"
    assert "session" not in visitor.cookies()
    assert "You are signed out." in visitor.get(page.location).text


def test_customer_signs_out_on_every_page(portal: Portal) -> None:
    for endpoint, path in crawl.list_gets(portal).items():
        if POLICY[endpoint].who is Who.EVERYONE:
            continue
        visitor = portal.visitor("alice")
        page = visitor.submit(visitor.get(path), "/sign-out")
        check_signed_out(visitor, page)
        assert visitor.get(portal.path()).status == 303


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
