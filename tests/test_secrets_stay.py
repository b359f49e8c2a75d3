"""Passwords, tokens, keys and cookies appear in no address, no mail and no error (bar 77)."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

import pytest

from core import postman
from gateways.payments.sandbox.store import Decision
from tests import crawl
from tests.conftest import Portal
from tests.page import FRAGMENT, Page, Visitor
from tests.world import PASSWORD

TYPED = "canary-lantern-9fd2"
LINKS = ("href", "src", "action", "hx-get", "hx-post", "hx-push-url", "formaction", "content")

pytestmark = pytest.mark.parametrize("engine_kind", ["sqlite"])


def addresses_in(page: Page) -> set[str]:
    """Every address that an answer names: in its headers and in its page."""
    headers = page.response.headers
    found = {headers[name] for name in ("Location", "HX-Redirect", "Refresh") if name in headers}
    if page.tree is not None:
        for element in page.tree.iter():
            found |= {element.get(name) for name in LINKS if element.get(name)}
    return {unquote(address) for address in found}


def secrets_of(page: Page) -> set[str]:
    """Token and key as they stand in this answer: they differ in each."""
    if page.tree is None:
        return set()
    fields = page.select("input[name=csrf_token], input[name=form_key]")
    return {field.get("value") for field in fields}


def walk(portal: Portal, visitor: Visitor) -> list[Page]:
    """All pages, whole and in parts, and the answers to forms that are refused."""
    pages = [visitor.get(path) for path in crawl.list_gets(portal).values()]
    pages += [
        visitor._page(crawl.send(visitor, "GET", path, headers=FRAGMENT), FRAGMENT)
        for path in crawl.list_gets(portal).values()
    ]
    nobody = portal.visitor()
    pages += [
        nobody.get(portal.path("billing/pay")),
        nobody.sign_in("alice", TYPED),
        nobody.sign_in(TYPED, TYPED),
        nobody.sign_in("bob", next=f"/accounts?password={TYPED}"),
        visitor.post(portal.path("billing/pay"), {"amount": TYPED}),
        visitor.post(portal.path("billing/pay"), crawl.token_of(visitor) | {"amount": TYPED}),
    ]
    return pages


def test_no_address_holds_a_secret(portal: Portal) -> None:
    crawl.prepare(portal)
    alice = portal.visitor("alice", own_device="y")
    cookies = alice.cookies()
    everywhere = {PASSWORD, TYPED, cookies["session"], cookies["device"]}
    pages = walk(portal, alice)
    found = set().union(*map(addresses_in, pages))
    assert len(found) > 30
    # Where a sign-in was asked to lead is the visitor's own address.
    for page in pages:
        for address in addresses_in(page) - {f"/accounts?password={TYPED}"}:
            assert not [each for each in everywhere | secrets_of(page) if each in address], address
        if page.tree is not None:
            assert not page.select("form[method=get] input[type=password], form:not([method])")
            for form in page.select("form"):
                names = {field.get("name") for field in form.cssselect("[name]")}
                assert form.get("method") == "post" or not names & {"csrf_token", "form_key"}


def test_no_page_repeats_a_password_or_a_cookie(portal: Portal) -> None:
    crawl.prepare(portal)
    alice = portal.visitor("alice", own_device="y")
    cookies = alice.cookies()
    for page in walk(portal, alice):
        text = page.source.replace("autocomplete", "")
        for secret in (PASSWORD, cookies["session"], cookies["device"]):
            assert secret not in text, page.response.request.path
        assert not re.search(rf'type="password"[^>]*value="[^"]*{TYPED}', text)


def test_no_mail_holds_a_secret(portal: Portal) -> None:
    alice = portal.visitor("alice")
    page = alice.get(portal.path())
    cookies = alice.cookies()
    secrets = secrets_of(page) | {PASSWORD, cookies["session"], cookies["device"]}
    out = alice.submit(page, "/pay")
    [(key, public_id)] = portal.rows("SELECT key, public_id FROM payments WHERE state = 'sent'")
    portal.bank.decide(key, Decision.PAY)
    alice.get(f"/pay/{public_id}/return")
    sent: list[Any] = []

    class Postbox:
        def send(self, message: Any) -> None:
            sent.append(message)

    with portal.app.app_context():
        while postman.send_due({"email": Postbox()}, portal.settings.public_url):  # type: ignore[dict-item]
            pass
    assert any(public_id in message.text for message in sent)
    for message in sent:
        for secret in (*secrets, key, out.location):
            assert secret not in repr(message)
