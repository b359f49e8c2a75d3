"""Whatever is sent twice, at once, late or from two tabs: one payment, one entry."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from blueprints.billing import settling
from gateways.payments.sandbox.store import Decision
from gateways.payments.signatures import signature_header
from tests.conftest import Portal, together
from tests.page import BASE, Page, Visitor


def form_of(visitor: Visitor, portal: Portal) -> dict[str, str]:
    """The values of the one-press pay form on the first page."""
    _action, values = visitor.get(portal.path()).form("/pay")
    return values


def start(portal: Portal, visitor: Visitor, **values: str) -> Page:
    return visitor.post(portal.path("billing/pay"), form_of(visitor, portal) | values)


def the_payment(portal: Portal) -> tuple[str, str]:
    """Key and public id of the latest payment that test made."""
    return portal.rows("SELECT key, public_id FROM payments ORDER BY id DESC LIMIT 1")[0]


def entries(portal: Portal, public_id: str) -> int:
    return int(
        portal.one(
            "SELECT count(*) FROM journal_entries WHERE key = :key", key=f"payment:{public_id}"
        )
    )


def send_notice(portal: Portal, key: str, event_id: str, kind: str = "payment.succeeded") -> int:
    body = json.dumps({"id": event_id, "type": kind, "key": key, "reference": "r"}).encode()
    from core import clock

    header = signature_header(body, [portal.notice_secret], clock.now())
    response = portal.app.test_client().post(
        "/webhooks/payments/sandbox",
        data=body,
        base_url=BASE,
        headers={"Sandbox-Signature": header, "Content-Type": "application/json"},
    )
    return response.status_code


def test_fifty_copies_of_a_form_make_one_payment_and_fifty_equal_redirects(portal: Portal) -> None:
    alice = portal.visitor("alice")
    values = form_of(alice, portal)
    cookies = "; ".join(f"{name}={value}" for name, value in alice.cookies().items())

    def press(_number: int) -> tuple[int, str]:
        answer = portal.app.test_client(use_cookies=False).post(
            portal.path("billing/pay"), data=values, base_url=BASE, headers={"Cookie": cookies}
        )
        return answer.status_code, answer.headers.get("Location", "")

    answers = together(50, press)
    assert len(set(answers)) == 1, set(answers)
    assert answers[0][0] == 303  # type: ignore[index]
    assert portal.one("SELECT count(*) FROM payments WHERE state = 'sent'") == 1
    assert len(portal.bank.list_latest(100)) == 1


def test_same_form_again_leads_to_the_same_page(portal: Portal) -> None:
    alice = portal.visitor("alice")
    values = form_of(alice, portal)
    first = alice.post(portal.path("billing/pay"), values)
    again = alice.post(portal.path("billing/pay"), values)
    assert first.location == again.location


def test_same_form_after_the_payment_leads_to_the_receipt(portal: Portal) -> None:
    alice = portal.visitor("alice")
    values = form_of(alice, portal)
    alice.post(portal.path("billing/pay"), values)
    key, public_id = the_payment(portal)
    portal.bank.decide(key, Decision.PAY)
    alice.get(f"/pay/{public_id}/return")
    assert alice.post(portal.path("billing/pay"), values).location.endswith(public_id)
    assert entries(portal, public_id) == 1


def test_same_key_with_other_content_is_refused(portal: Portal) -> None:
    alice = portal.visitor("alice")
    values = form_of(alice, portal)
    alice.post(portal.path("billing/pay"), values)
    changed = alice.post(portal.path("billing/pay"), values | {"choice": "other", "amount": "5"})
    assert changed.status in (403, 409)
    assert portal.one("SELECT count(*) FROM payments WHERE state = 'sent'") == 1


def test_second_tab_is_shown_the_payment_under_way(portal: Portal) -> None:
    alice = portal.visitor("alice")
    one, two = form_of(alice, portal), form_of(alice, portal)
    alice.post(portal.path("billing/pay"), one)
    second = alice.post(portal.path("billing/pay"), two)
    assert second.status == 409
    assert "Cancel this payment" in second.text


def test_two_people_who_pay_at_once_make_one_payment(portal: Portal) -> None:
    people = [portal.visitor(name) for name in ("alice", "bob")] * 5
    forms = [form_of(person, portal) for person in people]
    answers = together(
        10, lambda number: people[number].post(portal.path("billing/pay"), forms[number]).status
    )
    assert sorted(set(answers)) == [303, 409]  # type: ignore[type-var]
    assert portal.one("SELECT count(*) FROM payments WHERE state = 'sent'") == 1


def test_return_notice_and_worker_at_once_make_one_entry(portal: Portal) -> None:
    start(portal, portal.visitor("alice"))
    key, public_id = the_payment(portal)
    portal.bank.decide(key, Decision.PAY)
    portal.execute("UPDATE payments SET ask_at = created_at WHERE public_id = :id", id=public_id)

    def come(number: int) -> object:
        if number % 3 == 0:
            return Visitor(portal.app).get(f"/pay/{public_id}/return").status
        if number % 3 == 1:
            return send_notice(portal, key, f"event-{number}")
        with portal.app.app_context():
            return settling.ask_due(portal.gateway)

    answers = together(12, come)
    assert not [answer for answer in answers if isinstance(answer, Exception)], answers
    assert entries(portal, public_id) == 1
    assert (
        portal.one("SELECT state FROM payments WHERE public_id = :id", id=public_id) == "succeeded"
    )


def test_notice_that_is_repeated_counts_once(portal: Portal) -> None:
    start(portal, portal.visitor("alice"))
    key, public_id = the_payment(portal)
    portal.bank.decide(key, Decision.PAY)
    assert set(together(8, lambda _: send_notice(portal, key, "event-1"))) == {200}
    assert entries(portal, public_id) == 1
    assert portal.one("SELECT count(*) FROM gateway_notices WHERE event_id = 'event-1'") == 1


def test_forged_notice_writes_nothing(portal: Portal) -> None:
    start(portal, portal.visitor("alice"))
    key, public_id = the_payment(portal)
    portal.bank.decide(key, Decision.PAY)
    response = portal.app.test_client().post(
        "/webhooks/payments/sandbox",
        data=json.dumps({"id": "e", "type": "t", "key": key, "reference": "r"}),
        base_url=BASE,
        headers={"Sandbox-Signature": "t=1,v1=00"},
    )
    assert response.status_code == 400
    assert entries(portal, public_id) == 0


@pytest.mark.parametrize("paid_first", [True, False])
def test_cancel_against_pay_ends_as_the_bank_says(portal: Portal, paid_first: bool) -> None:
    alice = portal.visitor("alice")
    start(portal, alice)
    key, public_id = the_payment(portal)
    page = alice.get(portal.path(f"billing/payments/{public_id}"))
    if paid_first:
        portal.bank.decide(key, Decision.PAY)
    alice.submit(page, "/cancel")
    state = portal.one("SELECT state FROM payments WHERE public_id = :id", id=public_id)
    assert state == ("succeeded" if paid_first else "cancelled")
    assert entries(portal, public_id) == int(paid_first)


def test_money_that_arrives_for_a_payment_given_up_is_booked(
    portal: Portal, tick: Callable[..., None]
) -> None:
    start(portal, portal.visitor("alice"))
    key, public_id = the_payment(portal)
    portal.bank.decide(key, Decision.PAY)
    portal.execute(
        "UPDATE payments SET state = 'expired', ended_at = created_at, ask_at = NULL"
        " WHERE public_id = :id",
        id=public_id,
    )
    tick(minutes=3)
    assert send_notice(portal, key, "late") == 200
    assert entries(portal, public_id) == 1


def test_other_sum_than_the_button_said_is_not_charged(portal: Portal) -> None:
    alice = portal.visitor("alice")
    old = form_of(alice, portal)
    answer = alice.post(portal.path("billing/pay"), old | {"shown_balance": "1"})
    assert answer.status == 422
    assert "has changed to $211.12" in answer.text
    assert portal.one("SELECT count(*) FROM payments WHERE key NOT LIKE 'world%'") == 0
