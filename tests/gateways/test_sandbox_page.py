"""The hosted page as a customer uses it, and what the portal then learns."""

import re
from datetime import UTC, datetime

import pytest

from gateways.payments.base import GatewayState
from gateways.payments.sandbox.store import Decision
from tests.gateways.conftest import eventually


@pytest.mark.parametrize(
    ("choice", "state", "method"),
    [
        ("pay", GatewayState.SUCCEEDED, "Card ending 4242"),
        ("decline", GatewayState.DECLINED, "Card ending 0002"),
        ("confirm", GatewayState.SUCCEEDED, "Card ending 3184"),
        ("confirm-failed", GatewayState.DECLINED, "Card ending 3184"),
        ("twice", GatewayState.SUCCEEDED, "Card ending 4242"),
        ("cancel", GatewayState.CANCELLED, ""),
    ],
)
def test_a_choice_sends_the_browser_back_and_decides(sandbox, order, choice, state, method):
    answer = sandbox.choose(sandbox.gateway.start(order).hosted_url, choice)
    assert (answer.status, answer.headers["Location"]) == (303, order.return_url)
    truth = sandbox.gateway.ask(order.key)
    assert (truth.state, truth.method) == (state, method)
    assert (truth.amount_minor, truth.currency) == (order.amount_minor, "USD")
    assert truth.customer_reference == order.customer_reference
    assert bool(truth.decline_reason) == (state is GatewayState.DECLINED)
    assert (truth.gateway_fee_minor is not None) == (state is GatewayState.SUCCEEDED)


@pytest.mark.parametrize(
    ("choice", "state_before"),
    [("late", GatewayState.PENDING), ("debit", GatewayState.PROCESSING)],
)
def test_a_slow_answer_comes_after_the_browser_is_back(sandbox, order, choice, state_before):
    answer = sandbox.choose(sandbox.gateway.start(order).hosted_url, choice)
    assert answer.headers["Location"] == order.return_url
    notices = lambda: [n["type"] for n in sandbox.portal.notices_of(order.key)]  # noqa: E731
    assert eventually(lambda: "payment.succeeded" in notices())
    assert sandbox.gateway.ask(order.key).state is GatewayState.SUCCEEDED
    assert ("payment.processing" in notices()) == (state_before is GatewayState.PROCESSING)


def test_never_answer_sends_nothing_back_and_tells_the_truth(sandbox, order, make_order):
    url = sandbox.gateway.start(order).hosted_url
    location = sandbox.choose(url, "silent").headers["Location"]
    page = sandbox.get(sandbox.url + location).data.decode()
    assert "You can close this window" in page
    assert order.return_url not in page
    assert sandbox.gateway.ask(order.key).state is GatewayState.SUCCEEDED
    later = make_order()
    sandbox.choose(sandbox.gateway.start(later).hosted_url, "pay")
    assert eventually(lambda: bool(sandbox.portal.notices_of(later.key)))
    assert sandbox.portal.notices_of(order.key) == []


def test_answer_twice_repeats_and_shuffles_its_notices(sandbox, order):
    sandbox.choose(sandbox.gateway.start(order).hosted_url, "twice")
    assert eventually(lambda: len(sandbox.portal.notices_of(order.key)) == 3)
    first, second, third = sandbox.portal.notices_of(order.key)
    assert first == third
    assert (first["type"], second["type"]) == ("payment.succeeded", "payment.processing")
    assert first["id"] != second["id"]


def test_a_notice_is_read_by_the_portals_side(sandbox, order):
    started = sandbox.gateway.start(order)
    sandbox.choose(started.hosted_url, "pay")
    assert eventually(lambda: bool(sandbox.portal.notices_of(order.key)))
    body, headers = next(heard for heard in sandbox.portal.heard if order.key.encode() in heard[0])
    notice = sandbox.gateway.read_notice(body, headers, datetime.now(UTC))
    assert (notice.key, notice.reference) == (order.key, started.reference)


def test_a_notice_is_sent_again_until_the_portal_takes_it(sandbox, order):
    sandbox.portal.status = 503
    sandbox.choose(sandbox.gateway.start(order).hosted_url, "pay")
    assert eventually(lambda: len(sandbox.portal.notices_of(order.key)) == 2)
    sandbox.portal.status = 200
    assert eventually(lambda: len(sandbox.portal.notices_of(order.key)) == 3)
    assert len({notice["id"] for notice in sandbox.portal.notices_of(order.key)}) == 1


def test_confirmation_is_a_second_page(sandbox, order):
    url = sandbox.gateway.start(order).hosted_url
    answer = sandbox.choose(url, "ask-confirmation")
    assert (answer.status, answer.headers["Location"]) == (
        303,
        url.removeprefix(sandbox.url) + "/confirm",
    )
    assert "Confirm that it is you" in sandbox.get(f"{url}/confirm").data.decode()
    assert sandbox.gateway.ask(order.key).state is GatewayState.PENDING


def test_the_customer_can_be_sent_back_by_a_form(sandbox, order):
    url = sandbox.gateway.start(order).hosted_url
    assert "checked" in sandbox.get(f"{url}?return=post").data.decode()
    answer = sandbox.choose(url, "pay", **{"return": "post"})
    assert answer.headers["Location"] == url.removeprefix(sandbox.url) + "/back"
    page = sandbox.get(f"{url}/back")
    assert f'<form method="post" action="{order.return_url}">' in page.data.decode()
    assert "form-action 'self' http://127.0.0.1:8000;" in page.headers["Content-Security-Policy"]


def test_the_page_shows_what_is_paid_and_needs_no_script(sandbox, make_order):
    order = make_order(description="<b>Bill</b> & more", amount_minor=123456)
    answer = sandbox.get(sandbox.gateway.start(order).hosted_url)
    page = answer.data.decode()
    assert "$1,234.56" in page
    assert "Pinecrest Broadband" in page
    assert "&lt;b&gt;Bill&lt;/b&gt; &amp; more" in page
    assert "<script" not in page
    assert "style=" not in page
    assert answer.headers["Cache-Control"] == "no-store"
    assert "script-src" not in answer.headers["Content-Security-Policy"]


def test_opening_pages_changes_nothing(sandbox, order):
    url = sandbox.gateway.start(order).hosted_url
    for address in (url, f"{url}/confirm", f"{url}/back", f"{url}?choice=pay", sandbox.url + "/"):
        sandbox.get(address)
    assert sandbox.gateway.ask(order.key).state is GatewayState.PENDING


def test_a_second_choice_does_not_change_the_first(sandbox, order):
    url = sandbox.gateway.start(order).hosted_url
    sandbox.choose(url, "pay")
    assert sandbox.choose(url, "cancel").headers["Location"] == order.return_url
    assert sandbox.gateway.ask(order.key).state is GatewayState.SUCCEEDED
    assert "This payment is complete" in sandbox.get(url).data.decode()


def test_an_unknown_choice_or_page_changes_nothing(sandbox, order):
    url = sandbox.gateway.start(order).hosted_url
    assert sandbox.choose(url, "steal").headers["Location"] == url.removeprefix(sandbox.url)
    assert sandbox.gateway.ask(order.key).state is GatewayState.PENDING
    assert sandbox.choose(f"{sandbox.url}/pay/{'0' * 32}", "pay").status == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_another_site_cannot_choose(sandbox, order, headers):
    url = sandbox.gateway.start(order).hosted_url
    answer = sandbox.browser.request(
        "POST", url, fields={"choice": "pay"}, encode_multipart=False, headers=headers
    )
    assert answer.status == 403
    assert sandbox.gateway.ask(order.key).state is GatewayState.PENDING


def test_another_host_name_is_refused(sandbox):
    assert sandbox.get(f"{sandbox.url}/", Host="rebound.example").status == 421


def test_the_developers_page_lists_payments_and_sets_faults(sandbox, order):
    sandbox.gateway.start(order)
    page = sandbox.get(f"{sandbox.url}/").data.decode()
    assert order.description in page
    assert "No fault is waiting" in page
    fields = {"fault": "drop-after", "count": "2"}
    answer = sandbox.browser.request(
        "POST", f"{sandbox.url}/", fields=fields, encode_multipart=False, redirect=False
    )
    assert answer.status == 303
    page = sandbox.get(f"{sandbox.url}/").data.decode()
    assert len(re.findall("Breaks off after accepting;? ?", page)) == 3


def test_a_decision_by_api_is_the_customers(sandbox, order):
    sandbox.gateway.start(order)
    assert sandbox.control.decide(order.key, Decision.DECLINE) is GatewayState.DECLINED
