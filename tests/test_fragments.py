"""Pages with a part that HTMX swaps: as a browser, HTMX and the back button ask for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.policy import POLICY
from core.settings import ROOT
from gateways.payments.sandbox.store import Decision
from tests import crawl
from tests.conftest import Portal
from tests.page import BOOSTED, FRAGMENT, Visitor

BACK_BUTTON = {
    "HX-Request": "true",
    "HX-Request-Type": "full",
    "HX-History-Restore-Request": "true",
}
FRAGMENTS = {
    "activity.event_list": "event-rows",
    "billing.invoice_list": "invoice-rows",
    "billing.payment_list": "payment-rows",
    "billing.payment_detail": "payment",
    "billing.account_statement": "statement-rows",
    "phone.calls": "call-rows",
    "plans.channels": "channel-rows",
    "plans.switch": "quote",
    "staff.bill_runs.run": "bill-run",
    "staff.money.account": "statement",
    "staff.search": "results",
    "usage.period": "hours",
    "usage.sessions": "session-rows",
}
each_page = pytest.mark.parametrize(("endpoint", "element"), FRAGMENTS.items())


def test_list_of_fragments_is_complete() -> None:
    called = re.compile(r'render\(\s*"([a-z_/.]+)",\s*"([a-z_]+)"')
    found = {
        match
        for path in (ROOT / "blueprints").rglob("*.py")
        for match in called.findall(Path(path).read_text())
    }
    assert {block.replace("_", "-") for _template, block in found} == set(FRAGMENTS.values())


def reader(portal: Portal, endpoint: str) -> Visitor:
    """Somebody who may open the page, with something to see on it."""
    crawl.prepare(portal)
    return portal.visitor("ada" if POLICY[endpoint].staff else "alice")


@each_page
def test_browser_gets_the_whole_page(portal: Portal, endpoint: str, element: str) -> None:
    page = reader(portal, endpoint).get(crawl.addresses(portal)[endpoint])
    assert len(page.select("h1")) == len(page.select(f"main #{element}")) == 1
    assert "HX-Request" in page.response.headers["Vary"]


@each_page
def test_htmx_gets_the_block_alone(portal: Portal, endpoint: str, element: str) -> None:
    alice = reader(portal, endpoint)
    path = crawl.addresses(portal)[endpoint]
    fragment = alice.get(path, headers=FRAGMENT)
    assert fragment.tree.get("id") == element
    assert not fragment.select("h1, nav.bar, script, style")
    assert "HX-Request" in fragment.response.headers["Vary"]
    inside = alice.get(path).select(f"#{element}")[0]
    assert " ".join(inside.text_content().split()) == fragment.text


@each_page
@pytest.mark.parametrize(
    "headers",
    [
        BOOSTED,
        BACK_BUTTON,
        FRAGMENT | {"HX-Boosted": "true"},
        FRAGMENT | {"HX-History-Restore-Request": "true"},
    ],
)
def test_boosted_link_and_back_button_get_the_whole_page(
    portal: Portal, endpoint: str, element: str, headers: dict[str, str]
) -> None:
    alice = reader(portal, endpoint)
    path = crawl.addresses(portal)[endpoint]
    page = crawl.send(alice, "GET", path, headers=headers)
    assert page.data.count(b"<h1") == 1
    assert f'id="{element}"' in page.text


def test_page_without_a_fragment_is_whole_for_htmx_too(portal: Portal) -> None:
    alice = portal.visitor("alice")
    page = crawl.send(alice, "GET", portal.path(), headers=FRAGMENT)
    assert page.data.count(b"<h1") == 1


def test_poll_without_news_is_empty_and_with_news_is_the_block(portal: Portal) -> None:
    alice = portal.visitor("alice")
    alice.submit(alice.get(portal.path()), "/pay")
    [(public_id, key)] = portal.rows("SELECT public_id, key FROM payments WHERE state = 'sent'")
    path = portal.path(f"billing/payments/{public_id}")
    poll = alice.get(path).select("#payment")[0].get("hx-get")
    nothing = alice.get(poll, headers=FRAGMENT)
    assert (nothing.status, nothing.response.data) == (204, b"")
    portal.bank.decide(key, Decision.PAY)
    portal.visitor().get(f"/pay/{public_id}/return")
    news = alice.get(poll, headers=FRAGMENT)
    assert "Paid. Thank you." in news.text
    assert news.tree.get("hx-get") is None


def test_refusal_in_a_fragment_is_the_alert_alone(portal: Portal) -> None:
    alice = portal.visitor("alice")
    absent = alice.get(portal.path("billing/payments/nothing"), headers=FRAGMENT)
    assert absent.status == 404
    assert absent.tree.get("role") == "alert"
    old = alice.post(portal.path("billing/pay"), {"choice": "balance"}, headers=FRAGMENT)
    assert old.status == 403
    assert old.tree.get("role") == "alert"


def test_links_that_swap_and_plain_links_have_one_address(portal: Portal) -> None:
    alice = portal.visitor("alice")
    for endpoint in FRAGMENTS:
        for link in alice.get(crawl.addresses(portal)[endpoint]).select("a[hx-get]"):
            assert link.get("href") == link.get("hx-get")


def test_forms_that_pay_are_plain(portal: Portal) -> None:
    alice = portal.visitor("alice")
    for path in (portal.path(), portal.path("billing/"), portal.path("billing/pay")):
        for form in alice.get(path).select("form"):
            assert form.get("hx-ignore") is not None
            assert not [
                name for name in form.attrib if name.startswith("hx-") and name != "hx-ignore"
            ]
