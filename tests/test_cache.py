"""What a browser may keep, and when a kept page is still true (bar 41)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import brotli
import pytest

from core import clock
from core.policy import POLICY, Who
from tests import crawl
from tests.conftest import Portal
from tests.page import BASE, BOOSTED, FRAGMENT, Visitor
from tests.world import PASSWORD

KEPT = sorted(name for name, rule in POLICY.items() if rule.is_kept)
MAY_BE_IN_A_304 = {"ETag", "Cache-Control", "Vary"}

REFUSED = {"plans.pause_end": 409}
"""What is about something that alice does not have, since with it other pages would be refused."""


def own_device(portal: Portal, name: str = "alice") -> Visitor:
    return portal.visitor(name, own_device="y")


def tag(visitor: Visitor, path: str, **headers: str) -> str:
    response = crawl.send(visitor, "GET", path, headers=headers)
    assert response.status_code == 200
    assert response.headers["ETag"].startswith('W/"')
    return response.headers["ETag"]


def vary(response: Any) -> set[str]:
    return {part.strip() for part in response.headers.get("Vary", "").split(",")}


def test_pages_about_a_person_are_never_kept_elsewhere(portal: Portal) -> None:
    crawl.prepare(portal)
    alice, ada = portal.visitor("alice"), portal.visitor("ada")
    for endpoint, path in crawl.list_gets(portal).items():
        if POLICY[endpoint].who in (Who.EVERYONE, Who.OPERATOR, Who.FLOW):
            continue  # of flows: tests/auth/test_ways_in.py
        who = ada if POLICY[endpoint].who is Who.STAFF else alice
        for headers in ({}, FRAGMENT, BOOSTED):
            response = crawl.send(who, "GET", path, headers=headers)
            if response.status_code in (204, 303):
                continue  # leads on: there is nothing to show in this state
            assert response.status_code == REFUSED.get(endpoint, 200), endpoint
            assert response.headers["Cache-Control"] == "no-store", endpoint
            assert "ETag" not in response.headers
            assert "Cookie" in vary(response)


@pytest.mark.parametrize("endpoint", KEPT)
def test_own_device_keeps_a_page_and_asks_whether_it_is_true(portal: Portal, endpoint: str) -> None:
    crawl.prepare(portal)
    alice = own_device(portal)
    path = crawl.addresses(portal)[endpoint]
    for headers in ({}, FRAGMENT):
        first = crawl.send(alice, "GET", path, headers=headers)
        assert first.headers["Cache-Control"] == "private, no-cache"
        assert {"Cookie", "HX-Request"} <= vary(first)
        again = headers | {"If-None-Match": first.headers["ETag"]}
        for method in ("GET", "HEAD"):
            kept = crawl.send(alice, method, path, headers=again)
            assert (kept.status_code, kept.data) == (304, b"")
            assert kept.headers["ETag"] == first.headers["ETag"]
            assert set(kept.headers.keys()) - {"Date"} == MAY_BE_IN_A_304
            assert vary(kept) == vary(first)


def test_page_and_fragment_have_different_tags(portal: Portal) -> None:
    alice = own_device(portal)
    path = portal.path("billing/invoices/")
    page, fragment = tag(alice, path), tag(alice, path, **FRAGMENT)
    assert page != fragment
    assert tag(alice, path, **BOOSTED) == page
    mixed = crawl.send(alice, "GET", path, headers=FRAGMENT | {"If-None-Match": page})
    assert mixed.status_code == 200
    assert b"<h1" not in mixed.data


def test_several_held_tags_are_understood(portal: Portal) -> None:
    alice = own_device(portal)
    held = f'W/"0123", {tag(alice, portal.path())}'
    assert (
        crawl.send(alice, "GET", portal.path(), headers={"If-None-Match": held}).status_code == 304
    )
    for other in ("*", 'W/"0123"', '"', ""):
        answer = crawl.send(alice, "GET", portal.path(), headers={"If-None-Match": other})
        assert answer.status_code == 200


def bump(table: str) -> Callable[[Portal, Visitor], None]:
    def change(portal: Portal, _visitor: Visitor) -> None:
        portal.execute(f"UPDATE {table} SET revision = revision + 1")

    return change


def change_language(portal: Portal, _visitor: Visitor) -> None:
    portal.execute("UPDATE customers SET language = 'es'")


def change_role(portal: Portal, _visitor: Visitor) -> None:
    portal.execute("UPDATE memberships SET role = 'viewer'")


def get_a_second_account(portal: Portal, _visitor: Visitor) -> None:
    portal.execute(
        "INSERT INTO memberships (customer_id, account_id, role) VALUES (:customer, :account,"
        " 'owner')",
        customer=portal.world.customers["alice"],
        account=portal.world.accounts["rich"],
    )


def sign_in_again(_portal: Portal, visitor: Visitor) -> None:
    assert visitor.sign_in("alice", own_device="y").status == 303


def sign_in_elsewhere(portal: Portal, _visitor: Visitor) -> None:
    portal.visitor("alice")


def start_a_payment(portal: Portal, visitor: Visitor) -> None:
    page = visitor.get(portal.path())
    assert visitor.submit(page, "/pay").location.startswith(portal.gateway.origin)


@pytest.mark.parametrize(
    "change",
    [
        bump("accounts"),
        bump("customers"),
        bump("isp"),
        change_language,
        change_role,
        get_a_second_account,
        sign_in_again,
        sign_in_elsewhere,
        start_a_payment,
    ],
)
def test_kept_page_is_outdated_by(
    portal: Portal, change: Callable[[Portal, Visitor], None]
) -> None:
    alice = own_device(portal)
    before = tag(alice, portal.path())
    assert tag(alice, portal.path()) == before
    change(portal, alice)
    answer = crawl.send(alice, "GET", portal.path(), headers={"If-None-Match": before})
    assert answer.status_code == 200
    assert answer.headers["ETag"] != before


def test_kept_page_is_outdated_by_the_day_at_the_isp(portal: Portal) -> None:
    # It is noon at the ISP; its next day begins at 07:00 UTC.
    alice = own_device(portal)
    before = tag(alice, portal.path())
    with clock.set_to(datetime(2026, 6, 21, 6, 59, tzinfo=UTC)):
        assert tag(alice, portal.path()) == before
    with clock.set_to(datetime(2026, 6, 21, 7, 1, tzinfo=UTC)):
        assert tag(alice, portal.path()) != before


def test_kept_page_is_outdated_by_another_gateway(portal: Portal) -> None:
    alice = own_device(portal)
    with crawl.another_app(portal, payment_gateway="sandbox") as app:
        there = Visitor(app)
        there.client._cookies = alice.client._cookies
        assert tag(there, portal.path()) != tag(alice, portal.path())


def test_one_customers_tag_is_no_others(portal: Portal) -> None:
    alice, bob = own_device(portal), own_device(portal, "bob")
    held = tag(alice, portal.path())
    assert tag(bob, portal.path()) != held
    answer = crawl.send(bob, "GET", portal.path(), headers={"If-None-Match": held})
    assert answer.status_code == 200
    assert tag(alice, portal.path()) != tag(alice, portal.path("?x=1"))


def test_errors_and_changing_pages_are_not_kept_on_an_own_device_either(portal: Portal) -> None:
    crawl.prepare(portal)
    alice = own_device(portal)
    paths = crawl.addresses(portal)
    for path in (
        portal.path("billing/invoices/nothing"),
        paths["billing.pay"],
        paths["billing.payment_detail"],
        paths["dashboard.choose_account"],
    ):
        response = crawl.send(alice, "GET", path)
        assert response.headers["Cache-Control"] == "no-store"
        assert "ETag" not in response.headers


@pytest.mark.parametrize("encoding", ["br", "gzip", "identity"])
def test_compression_leaves_the_weak_tag_alone(portal: Portal, encoding: str) -> None:
    alice = own_device(portal)
    headers = {"Accept-Encoding": encoding}
    held = tag(alice, portal.path())
    assert tag(alice, portal.path(), **headers) == held
    response = crawl.send(alice, "GET", portal.path(), headers=headers)
    assert response.headers.get("Content-Encoding", "identity") == encoding
    assert {"Accept-Encoding", "Cookie", "HX-Request"} <= vary(response)
    assert int(response.headers["Content-Length"]) == len(response.data)
    again = crawl.send(alice, "GET", portal.path(), headers=headers | {"If-None-Match": held})
    assert again.status_code == 304
    assert "Content-Encoding" not in again.headers


def test_expired_session_in_a_fragment_moves_the_whole_page_to_sign_in(
    portal: Portal, tick: Any
) -> None:
    alice = portal.visitor("alice")
    tick(hours=2)
    path = portal.path("billing/invoices/?page=2")
    fragment = crawl.send(alice, "GET", path, headers=FRAGMENT)
    assert (fragment.status_code, fragment.data) == (401, b"")
    leads_to = fragment.headers["HX-Redirect"]
    assert leads_to.startswith("/sign-in?next=%2Fa%2F")
    assert leads_to.endswith("&done=expired")
    assert "Location" not in fragment.headers
    whole = crawl.send(alice, "GET", path)
    assert (whole.status_code, whole.headers["Location"]) == (303, leads_to)


# Pages that are the same for everyone ----------------------------------------------------------


def read_constant(portal: Portal, path: str, encoding: str) -> Any:
    return portal.visitor().client.get(path, base_url=BASE, headers={"Accept-Encoding": encoding})


@pytest.mark.parametrize("path", ["/sign-in", "/help"])
def test_constant_page_is_the_same_for_everyone_and_compressed_once(
    portal: Portal, path: str
) -> None:
    plain = read_constant(portal, path, "identity").data
    for encoding in ("br", "gzip, br;q=0.5", "gzip, deflate, br, zstd"):
        response = read_constant(portal, path, encoding)
        assert response.headers["Content-Encoding"] == "br"
        assert brotli.decompress(response.data) == plain
    for encoding in ("identity", "zstd", ""):
        response = read_constant(portal, path, encoding)
        assert "Content-Encoding" not in response.headers
        assert response.data == plain
    assert vary(response) == {"Accept-Encoding", "Accept-Language", "Cookie"}
    assert b"csrf_token" not in plain
    assert b"form_key" not in plain


def test_constant_page_speaks_the_languages_of_browser_and_customer(portal: Portal) -> None:
    visitor = portal.visitor("alice")
    assert visitor.get("/help", headers={"Accept-Language": "fr"}).select("html[lang=en]")
    assert portal.visitor().get("/help", headers={"Accept-Language": "fr"}).select("html[lang=fr]")


def test_help_page_that_has_not_changed_is_not_sent_again(portal: Portal) -> None:
    visitor = portal.visitor()
    first = crawl.send(visitor, "GET", "/help")
    assert first.headers["Cache-Control"] == "no-cache"
    held = {"If-None-Match": first.headers["ETag"]}
    again = crawl.send(visitor, "GET", "/help", headers=held)
    assert (again.status_code, again.data) == (304, b"")
    assert set(again.headers.keys()) - {"Date"} == MAY_BE_IN_A_304
    portal.execute("UPDATE isp SET support_phone = '+15415550199', revision = revision + 1")
    assert crawl.send(visitor, "GET", "/help", headers=held).status_code == 200


def test_signing_out_clears_what_was_kept(portal: Portal) -> None:
    alice = own_device(portal)
    held = tag(alice, portal.path())
    out = alice.submit(alice.get(portal.path()), "/sign-out")
    assert out.response.headers["Clear-Site-Data"] == '"cache", "storage"'
    answer = crawl.send(alice, "GET", portal.path(), headers={"If-None-Match": held})
    assert crawl.decision(answer) == "sign in"
    assert PASSWORD not in str(answer.headers)
