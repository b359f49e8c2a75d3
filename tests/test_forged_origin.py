"""What a request claims about where it came from: host names and proxies (bars 22 and 50)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from core import clock, postman
from core.db import db
from core.settings import ROOT
from gateways.payments.sandbox.store import Decision
from models import Message
from tests import crawl
from tests.conftest import Portal
from tests.page import BASE, Visitor

FORGED_HOSTS = ("evil.example", "127.0.0.1.evil.example", "evil.example:8000", "127.0.0.1@evil", "")
FORGED_HEADERS = {
    "X-Forwarded-Host": "evil.example",
    "X-Host": "evil.example",
    "X-Original-Host": "evil.example",
    "X-Forwarded-Server": "evil.example",
    "X-Forwarded-Port": "666",
    "X-Forwarded-Prefix": "/evil",
    "X-Original-URL": "/evil",
    "X-Rewrite-URL": "/evil",
    "Forwarded": "for=6.6.6.6;host=evil.example;proto=https",
}
KINDS = sorted(path.stem for path in (ROOT / "templates" / "email").glob("*.html"))
CODE = {"code": "123 456", "minutes": 10}
DUNNED = {
    "amount_minor": 6500,
    "currency": "USD",
    "number": "2026-000005",
    "account_number": "1001",
    "account": "aliceaccount00",
    "due_on": "2026-05-15",
    "is_overdue": True,
    "next_step": "hold",
    "next_on": "2026-06-29",
    "has_phone": True,
}
OF_ACCOUNT = {"account_number": "1001", "account": "aliceaccount00"}
FACTS: dict[str, dict[str, Any]] = {
    "account_closed": {},
    "address_change": {"account_number": "1001", "sign_in_id": "alice", "text": "2 Mill St"},
    "already_registered": {},
    "bill_ready": OF_ACCOUNT
    | {"number": "2026-000005", "due_on": "2026-06-15", "invoice": "aninvoice"}
    | {"amount_minor": 500, "open_minor": 400, "currency": "USD", "has_autopay": True},
    "bill_reminder": DUNNED,
    "caller_code": CODE,
    "closed_unpaid": DUNNED,
    "contact_code": CODE,
    "dispute": OF_ACCOUNT
    | {"what": "answered", "dispute": "adispute", "number": "2026-000005", "line": "Local TV"}
    | {"amount_minor": 500, "currency": "USD"},
    "invitation": {"name": "Alice", "token": "atoken", "days": 7},
    "late_fee": DUNNED,
    "line_held": DUNNED,
    "line_open": {"account_number": "1001", "line": "ppp-alice"},
    "method_expiring": OF_ACCOUNT | {"title": "Visa ending 4242", "expires_on": "2026-07-31"},
    "move": OF_ACCOUNT
    | {"what": "accepted", "place": "2 Oak St", "move_on": "2026-07-26", "move": "amove"}
    | {"plan": "Air 50", "answer": ""},
    "not_me": {"sign_in_id": "alice", "event": "signed_in"},
    "not_registered": {},
    "pause": OF_ACCOUNT
    | {"what": "made", "from_on": "2026-07-06", "until_on": "2026-07-26", "pause": "apause"}
    | {"total": "$90.00", "bill_on": "2026-07-01"},
    "payment_reversed": OF_ACCOUNT
    | {"how": "refund", "amount_minor": 500, "currency": "USD", "payment": "apayment"},
    "plan_change": OF_ACCOUNT
    | {"what": "made", "old": "Fiber 300", "new": "Fiber Gig", "effective_on": "2026-07-01"}
    | {"change": "achange", "monthly": "$85.00", "total": "$90.00", "bill_on": "2026-07-01"},
    "price_change": OF_ACCOUNT
    | {"plan": "Fiber 300", "from_on": "2026-08-01", "was": "$65.00", "price": "$75.00"}
    | {"is_bound": False, "is_off": False},
    "planned": OF_ACCOUNT
    | {"what": "notice", "kind": "autopay", "planned": "aplan", "method": "Visa ending 4242"}
    | {"amount_minor": 500, "currency": "USD", "due_on": "2026-07-01", "reason": ""},
    "receipt": {
        "amount_minor": 500,
        "currency": "USD",
        "account_number": "1001",
        "payment": "apayment",
    },
    "recover_link": {"sign_in_id": "alice", "token": "atoken"},
    "refund_failed": OF_ACCOUNT
    | {"amount_minor": 500, "currency": "USD", "payment": "apayment"}
    | {"reason": "The bank did not take the refund."},
    "register_code": CODE,
    "reported_link": {"sign_in_id": "alice", "token": "atoken"},
    "second_step_code": CODE,
    "security": {"event": "password_changed"},
    "staff_link": {"by": "Ada", "days": 7, "token": "atoken"},
    "usage_alert": OF_ACCOUNT
    | {"what": "charged", "amount_minor": 1000, "currency": "USD", "data_bytes": 50 * 10**9}
    | {"percent": 90, "used_bytes": 270 * 10**9, "included_bytes": 300 * 10**9}
    | {"plan": "Air 25", "line": "ppp-alice", "line_id": "aliceline00", "last_on": "2026-06-30"},
    "your_id": {"sign_in_ids": "alice"},
}
ALWAYS_NEW = ("auth.passkey_options",)
"""Answers that hold a challenge, another one each time."""


def has_link(kind: str) -> bool:
    folder = ROOT / "templates" / "email"
    return any("public_url" in path.read_text() for path in folder.glob(f"*{kind}.txt"))


# Messages --------------------------------------------------------------------------------------


def message(kind: str) -> Message:
    return Message(
        public_id="amessage",
        channel="email",
        kind=kind,
        recipient="alice@example.net",
        language="es",
        facts=FACTS[kind],
        state="queued",
        created_at=clock.now(),
    )


def test_every_kind_of_message_is_known_here() -> None:
    assert sorted(FACTS) == KINDS


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("proxies", [0, 1])
def test_forged_hosts_change_no_byte_of_a_message(portal: Portal, kind: str, proxies: int) -> None:
    with crawl.another_app(portal, proxy_count=proxies) as app:
        with app.app_context():
            honest = postman.compose(message(kind), portal.settings.public_url)
        headers = FORGED_HEADERS | {"Host": "evil.example"}
        with app.test_request_context("/", base_url="http://evil.example", headers=headers):
            forged = postman.compose(message(kind), portal.settings.public_url)
    assert forged == honest
    for text in (honest.text, honest.html):
        assert (portal.settings.public_url in text) == has_link(kind)


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("proxies", [0, 1, 2])
def test_receipt_of_a_payment_made_under_forged_headers_is_ours(
    portal: Portal, proxies: int
) -> None:
    with crawl.another_app(portal, proxy_count=proxies) as app:
        app.extensions["payment_gateway"] = portal.gateway
        alice = Visitor(app)
        assert alice.sign_in("alice").status == 303
        page = alice.get(portal.path(), headers=FORGED_HEADERS)
        action, values = page.form("/pay")
        out = alice.post(action, values, headers=FORGED_HEADERS)
        assert out.location.startswith(portal.gateway.origin)
        [(key, public_id)] = portal.rows("SELECT key, public_id FROM payments WHERE state = 'sent'")
        assert f"http://127.0.0.1:8000/pay/{public_id}/return" in str(portal.bank.list_latest(1))
        portal.bank.decide(key, Decision.PAY)
        alice.get(f"/pay/{public_id}/return", headers=FORGED_HEADERS)
        with app.app_context():
            newest = select(Message).order_by(Message.id.desc()).limit(1)
            sent = postman.compose(db.session.scalars(newest).one(), portal.settings.public_url)
    assert "evil" not in repr(sent)
    assert f"http://127.0.0.1:8000/pay/{public_id}/return" in sent.text


# Pages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_unknown_hosts_get_400_on_every_route(portal: Portal) -> None:
    differs = crawl.watch(portal.app)
    client = portal.visitor().client
    for path in (*crawl.addresses(portal).values(), "/nothing"):
        for host in FORGED_HOSTS:
            for method in ("GET", "POST"):
                answer = client.open(path, method=method, headers={"Host": host})
                assert answer.status_code == 400, (method, path, host)
                assert b"evil" not in answer.data
                assert "evil" not in str(answer.headers)
    assert differs() == set()


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("proxies", [0, 1, 2])
def test_forged_headers_change_no_page_and_lead_nowhere_else(portal: Portal, proxies: int) -> None:
    crawl.prepare(portal)
    with crawl.another_app(portal, proxy_count=proxies) as app:
        visitor = Visitor(app)
        gets = crawl.list_gets(portal)
        paths = [path for endpoint, path in gets.items() if endpoint not in ALWAYS_NEW]
        for path in (*paths, "/a/x", "/nothing"):
            plain, forged = (
                visitor.client.get(path, base_url=BASE, headers=headers)
                for headers in ({}, FORGED_HEADERS)
            )
            assert forged.data == plain.data, path
            assert sorted(forged.headers) == sorted(plain.headers), path


# Proxies ---------------------------------------------------------------------------------------

CHAIN = "6.6.6.6, 198.51.100.9, 203.0.113.5"
"""As it arrives: the first is the visitor's invention, each of the others added by a proxy."""


@pytest.mark.parametrize(
    ("proxies", "chain", "address"),
    [
        (0, CHAIN, "127.0.0.1"),
        (1, CHAIN, "203.0.113.5"),
        (2, CHAIN, "198.51.100.9"),
        (1, "203.0.113.5", "203.0.113.5"),
        (2, "203.0.113.5", "127.0.0.1"),  # did not come through both
        (1, "", "127.0.0.1"),
        (1, "6.6.6.6, nonsense", "unknown"),
        (1, "6.6.6.6, ::ffff:203.0.113.5", "203.0.113.5"),
    ],
)
@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_address_is_the_one_that_the_configured_proxies_saw(
    portal: Portal, proxies: int, chain: str, address: str
) -> None:
    with crawl.another_app(portal, proxy_count=proxies) as app:
        visitor = Visitor(app)
        visitor.get("/sign-in")
        headers = {"X-Forwarded-For": chain, "X-Real-IP": "6.6.6.6", "Forwarded": "for=6.6.6.6"}
        values = {"sign_in_id": "alice", "password": "wrong-lantern-orbit"}
        assert visitor.post("/sign-in", values, headers=headers).status == 422
        assert portal.rows("SELECT network FROM sign_in_attempts") == [(address,)]


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("proxies", [0, 1, 2])
def test_invented_addresses_change_no_limit(portal: Portal, proxies: int) -> None:
    with crawl.another_app(portal, proxy_count=proxies) as app:
        visitor = Visitor(app)
        visitor.get("/sign-in")
        statuses = []
        for number in range(11):
            seen = [f"6.6.6.{number}", *["203.0.113.5"] * proxies]
            values = {"sign_in_id": f"c-{number}", "password": "wrong-lantern-orbit"}
            headers = {"X-Forwarded-For": ", ".join(seen)}
            statuses.append(visitor.post("/sign-in", values, headers=headers).status)
    assert statuses == [422] * 10 + [429]


def sign_in_over(app: Any, headers: dict[str, str]) -> Any:
    client = app.test_client()
    client.set_cookie("__Host-here", "1", domain="portal.example.net", secure=True)
    return client.get("/accounts", base_url="http://portal.example.net", headers=headers)


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize("proxies", [0, 1])
def test_scheme_that_a_header_claims_changes_nothing(portal: Portal, proxies: int) -> None:
    """Cookies and headers follow from the public address alone."""
    https = "https://portal.example.net"
    with crawl.another_app(portal, proxy_count=proxies, public_url=https) as app:
        answers = [
            sign_in_over(app, {} if proto is None else {"X-Forwarded-Proto": proto})
            for proto in (None, "http", "https", "javascript", "https, http")
        ]
    assert len({(each.status_code, each.headers["Location"]) for each in answers}) == 1
    assert all(each.headers["Strict-Transport-Security"] for each in answers)
