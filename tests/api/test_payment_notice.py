"""The address that a payment gateway sends its notices to (bar 56)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from core import clock
from gateways.payments.sandbox.notices import SIGNATURE_HEADER
from gateways.payments.sandbox.store import Decision
from gateways.payments.signatures import MAX_NOTICE_BYTES, signature_header
from tests import crawl
from tests.conftest import Portal
from tests.page import BASE

PATH = "/webhooks/payments/sandbox"


def send(portal: Portal, body: bytes, *, path: str = PATH, **headers: str) -> Any:
    signed = {SIGNATURE_HEADER: signature_header(body, [portal.notice_secret], clock.now())}
    return portal.app.test_client().post(
        path, base_url=BASE, data=body, headers=signed | headers, content_type="application/json"
    )


def notice(key: str, event_id: str = "event-1") -> bytes:
    fields = {"id": event_id, "type": "payment.changed", "key": key, "reference": "r"}
    return json.dumps(fields).encode()


def paid_at_the_bank(portal: Portal) -> str:
    """The key of a payment of alice's that the bank knows as paid and we do not."""
    alice = portal.visitor("alice")
    alice.submit(alice.get(portal.path()), "/pay")
    [(key,)] = portal.rows("SELECT key FROM payments WHERE state = 'sent'")
    portal.bank.decide(key, Decision.PAY)
    return str(key)


def state_of(portal: Portal, key: str) -> str:
    return str(portal.one("SELECT state FROM payments WHERE key = :key", key=key))


def test_notice_settles_its_payment_once(portal: Portal) -> None:
    key = paid_at_the_bank(portal)
    for _ in range(3):
        answer = send(portal, notice(key))
        assert (answer.status_code, answer.data) == (200, b"ok\n")
    assert state_of(portal, key) == "succeeded"
    assert portal.one("SELECT count(*) FROM gateway_notices WHERE event_id = 'event-1'") == 1
    assert portal.one("SELECT balance_minor FROM accounts WHERE public_id = 'aliceaccount00'") == 0


def test_word_of_a_notice_marks_nothing_paid(portal: Portal) -> None:
    alice = portal.visitor("alice")
    alice.submit(alice.get(portal.path()), "/pay")
    [(key,)] = portal.rows("SELECT key FROM payments WHERE state = 'sent'")
    body = json.dumps(
        {"id": "e", "type": "payment.succeeded", "key": key, "reference": "r", "state": "succeeded"}
    ).encode()
    assert send(portal, body).status_code == 200
    assert state_of(portal, key) == "sent"


def test_notice_about_a_payment_that_is_not_ours_writes_nothing(portal: Portal) -> None:
    differs = crawl.watch(portal.app)
    answer = send(portal, notice("someone-elses"))
    assert (answer.status_code, answer.data) == (200, b"unknown\n")
    assert differs() == set()


@pytest.mark.parametrize(
    "forge",
    ["no signature", "wrong secret", "other body", "too old", "too large", "no json", "no id"],
)
def test_forged_notice_is_refused_and_writes_nothing(portal: Portal, forge: str) -> None:
    key = paid_at_the_bank(portal)
    body, secret, sent_at = notice(key), portal.notice_secret, clock.now()
    differs = crawl.watch(portal.app)
    if forge == "wrong secret":
        secret = "another secret"
    if forge == "too old":
        sent_at -= timedelta(minutes=6)
    if forge in ("no json", "no id"):
        body = b"{" if forge == "no json" else b'{"key": "x"}'
    if forge == "too large":
        body = b" " * (MAX_NOTICE_BYTES + 1)
    headers = {SIGNATURE_HEADER: signature_header(body, [secret], sent_at)}
    if forge == "no signature":
        headers = {SIGNATURE_HEADER: ""}
    if forge == "other body":
        body += b" "
    answer = send(portal, body, **headers)
    assert answer.status_code == (413 if forge == "too large" else 400)
    assert differs() == set()
    assert state_of(portal, key) == "sent"


@pytest.mark.parametrize("name", ["stripe", "sandbox%00", "..", "x" * 300])
def test_gateway_that_is_not_ours_has_no_address(portal: Portal, name: str) -> None:
    assert send(portal, notice("k"), path=f"/webhooks/payments/{name}").status_code == 404


def test_without_a_gateway_there_is_no_such_address(portal: Portal) -> None:
    portal.app.extensions["payment_gateway"] = None
    assert send(portal, notice("k")).status_code == 404


def test_notice_needs_no_cookie_and_no_origin_of_ours(portal: Portal) -> None:
    key = paid_at_the_bank(portal)
    headers = {"Origin": "http://localhost:8001", "Sec-Fetch-Site": "cross-site"}
    assert send(portal, notice(key), **headers).status_code == 200
    assert state_of(portal, key) == "succeeded"
