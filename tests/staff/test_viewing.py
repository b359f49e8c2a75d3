"""Staff who see the portal as a customer does (bar 35)."""

from __future__ import annotations

from typing import Any

import pytest

from core.policy import POLICY, SAFE_METHODS
from tests import crawl
from tests.conftest import Portal
from tests.page import Visitor

REASON = "a call about the bill of May"
END = "/staff/view/end"


def view_path(portal: Portal, name: str = "alice") -> str:
    return f"/staff/accounts/{portal.world.public_ids['alice']}/people/{name}customer/view"


def view(portal: Portal, staff: str = "sue", name: str = "alice") -> Visitor:
    """A staff member who sees what `name` sees."""
    visitor = portal.visitor(staff)
    path = view_path(portal, name)
    out = visitor.submit(visitor.get(path), "/view", reason=REASON)
    assert (out.status, out.location) == (303, portal.path())
    return visitor


@pytest.mark.parametrize("staff", ["sue", "ada"])
def test_staff_see_the_page_of_the_customer_under_a_banner(portal: Portal, staff: str) -> None:
    page = view(portal, staff).get(portal.path())
    assert "$211.12" in page.text
    assert f"{staff.title()}, you see the portal as Alice does." in page.text


def test_banner_with_the_way_back_is_on_every_page(portal: Portal) -> None:
    crawl.prepare(portal)
    visitor = view(portal)
    count = 0
    for path in crawl.list_gets(portal).values():
        page = visitor.get(path)
        if page.tree is not None and page.select(".shell"):
            assert page.select(f"form[action='{END}']"), path
            count += 1
    assert count > 10


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_view_writes_nothing_by_any_route(portal: Portal) -> None:
    crawl.prepare(portal)
    visitor = view(portal)
    guard = crawl.token_of(visitor)
    differs = crawl.watch(portal.app)
    methods = crawl.methods_of(portal.app)
    refused = 0
    for endpoint, path in crawl.addresses(portal).items():
        if POLICY[endpoint].viewers_too:
            continue
        for method in methods[endpoint] - {"OPTIONS"}:
            data = guard | {"choice": "balance"} if method not in SAFE_METHODS else None
            answer = crawl.send(visitor, method, path, data=data)
            assert answer.status_code < 500
            refused += answer.status_code == 403
    assert differs() <= {"data_accesses"}
    assert refused >= 10


def test_reason_is_asked_for_noted_and_read_by_the_customer(portal: Portal) -> None:
    visitor = portal.visitor("sue")
    page = visitor.submit(visitor.get(view_path(portal)), "/view", reason=" ")
    assert page.status == 422
    assert "Say why" in page.text
    view(portal)
    [(purpose, customer_id)] = portal.rows(
        "SELECT purpose, customer_id FROM data_accesses WHERE purpose LIKE 'view%'"
    )
    assert (purpose, customer_id) == (f"view: {REASON}", portal.world.customers["alice"])
    assert "Our staff saw the portal as you do" in portal.visitor("alice").get(portal.path()).text


def test_end_of_the_view_returns_to_the_members_own_session_under_another_id(
    portal: Portal,
) -> None:
    visitor = portal.visitor("sue")
    before = visitor.cookies()["session"]
    visitor.submit(visitor.get(view_path(portal)), "/view", reason=REASON)
    viewed = visitor.cookies()["session"]
    out = visitor.submit(visitor.get(portal.path()), END)
    assert out.location == "/staff/"
    after = visitor.cookies()["session"]
    assert len({before, viewed, after}) == 3
    assert visitor.get("/staff/").status == 200
    for dead in (before, viewed):
        other = portal.visitor()
        other.client.set_cookie("session", dead, domain="127.0.0.1")
        assert other.get("/staff/").location.startswith("/sign-in")
        assert other.get(portal.path()).location.startswith("/sign-in")


def test_end_pressed_again_after_a_lost_answer_leads_to_sign_in(portal: Portal) -> None:
    visitor = view(portal)
    page, token = visitor.get(portal.path()), visitor.cookies()["session"]
    visitor.submit(page, END)
    visitor.client.set_cookie("session", token, domain="127.0.0.1")
    assert visitor.submit(page, END).location.startswith("/sign-in")


def test_view_needs_password_or_passkey_within_ten_minutes(portal: Portal, tick: Any) -> None:
    visitor = portal.visitor("sue")
    page = visitor.get(view_path(portal))
    tick(minutes=11)
    out = visitor.submit(page, "/view", reason=REASON)
    assert out.location.startswith("/confirm?next=")
    assert portal.one("SELECT count(*) FROM sessions WHERE viewer_id IS NOT NULL") == 0


def test_view_ends_after_an_hour(portal: Portal, tick: Any) -> None:
    visitor = view(portal)
    for _ in range(2):
        tick(minutes=29)
        assert visitor.get(portal.path()).status == 200
    tick(minutes=3)
    assert visitor.get(portal.path()).location.startswith("/sign-in")


def test_view_ends_with_the_members_access(portal: Portal) -> None:
    visitor = view(portal)
    portal.execute(
        "UPDATE staff_members SET is_disabled = :yes WHERE customer_id = :id",
        yes=True,
        id=portal.world.customers["sue"],
    )
    assert visitor.get(portal.path()).location.startswith("/sign-in")


def test_view_ends_with_the_members_own_session(portal: Portal) -> None:
    visitor = view(portal)
    portal.execute(
        "UPDATE sessions SET ended_at = created_at WHERE customer_id = :id",
        id=portal.world.customers["sue"],
    )
    assert visitor.get(portal.path()).location.startswith("/sign-in")


def test_signing_out_of_a_view_signs_the_member_out(portal: Portal) -> None:
    visitor = view(portal)
    visitor.submit(visitor.get(portal.path()), "/sign-out")
    assert portal.one("SELECT count(*) FROM sessions WHERE ended_at IS NULL") == 0


def test_second_view_ends_the_first(portal: Portal) -> None:
    visitor = portal.visitor("sue")
    page = visitor.get(view_path(portal))
    own = visitor.cookies()["session"]
    for _ in range(2):  # the first answer was lost
        visitor.client.set_cookie("session", own, domain="127.0.0.1")
        assert visitor.submit(page, "/view", reason=REASON).status == 303
    alive = "SELECT count(*) FROM sessions WHERE viewer_id IS NOT NULL AND ended_at IS NULL"
    assert portal.one(alive) == 1


def test_viewer_sees_no_pages_of_staff(portal: Portal) -> None:
    visitor = view(portal, "ada")
    assert visitor.get("/staff/").status == 404
    assert visitor.get("/staff/members").status == 404


def test_pages_remembered_for_the_customer_and_for_the_viewer_are_never_exchanged(
    portal: Portal,
) -> None:
    alice, visitor = portal.visitor("alice"), view(portal)
    for _ in range(3):
        assert "you see the portal as" not in alice.get(portal.path()).text
        assert "you see the portal as" in visitor.get(portal.path()).text


def test_view_of_someone_elses_person_is_refused(portal: Portal) -> None:
    visitor = portal.visitor("sue")
    for name in ("mallory", "ada"):
        assert visitor.get(view_path(portal, name)).status == 404
        answer = visitor.post(view_path(portal, name), crawl.token_of(visitor) | {"reason": REASON})
        assert answer.status == 404


def test_customer_has_no_view_to_end(portal: Portal) -> None:
    alice = portal.visitor("alice")
    assert alice.post(END, crawl.token_of(alice)).location == "/"
    assert alice.get(portal.path()).status == 200
