"""The log: a line for each request, one reference on all its lines, and nothing secret in any."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from blueprints.auth import service
from core import log
from core.log import LogWhat
from core.observed import Observed
from gateways.payments.sandbox.store import Decision
from tests import crawl
from tests.conftest import Portal
from tests.page import BASE
from tests.world import PASSWORD

CANARY = "canary-7319-4242424242424242"


class Lines:
    """What was written, parsed line by line."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    def write(self, line: str) -> None:
        self.stream.write(line + "\n")

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def all(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def named(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.all if line["event"] == event]

    @property
    def requests(self) -> list[dict[str, Any]]:
        return self.named("request")


@pytest.fixture
def lines(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lines]:
    """Everything that the portal logs, as a real deployment writes it."""
    lines = Lines()
    loggers = [logging.getLogger(), logging.getLogger("lastmile")]
    kept = [(logger, list(logger.handlers), logger.level) for logger in loggers]
    monkeypatch.setattr("sys.stderr", lines.stream)
    log.configure(LogWhat.REQUESTS)
    inner = portal.app.wsgi_app
    portal.app.wsgi_app = Observed(  # type: ignore[method-assign]
        inner._application if isinstance(inner, Observed) else inner,
        lines.write,
        trusts_reference=False,
    )
    yield lines
    portal.app.wsgi_app = inner  # type: ignore[method-assign]
    for logger, handlers, level in kept:
        logger.handlers, logger.level = handlers, level


def test_request_leaves_one_line_that_names_the_route_and_not_the_path(
    portal: Portal, lines: Lines
) -> None:
    alice = portal.visitor()
    alice.sign_in("alice")
    page = alice.get(portal.path("billing/invoices/"), year="2026", state="open")
    line = lines.requests[-1]
    assert line | {"ms": 0, "request": "", "timestamp": ""} == {
        "event": "request",
        "method": "GET",
        "endpoint": "billing.invoice_list",
        "status": 200,
        "ms": 0,
        "bytes": len(page.response.data),
        "address": "127.0.0.1",
        "request": "",
        "level": "info",
        "logger": "lastmile.requests",
        "timestamp": "",
    }
    assert line["ms"] > 0
    assert re.fullmatch(r"[0-9a-f]{12}", line["request"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])
    assert len(lines.requests) == 3  # the sign-in page, signing in, and this
    assert "aliceaccount00" not in lines.text
    assert "year" not in lines.text


def test_every_route_leaves_exactly_one_line(portal: Portal, lines: Lines) -> None:
    crawl.prepare(portal)
    alice = portal.visitor("alice")
    guard = crawl.token_of(alice)
    for endpoint, path in crawl.addresses(portal).items():
        if endpoint == "auth.sign_out":
            continue
        methods = crawl.methods_of(portal.app)[endpoint]
        before = len(lines.requests)
        method = "GET" if "GET" in methods else "POST"
        response = crawl.send(alice, method, path, data=guard if method == "POST" else None)
        [line] = lines.requests[before:]
        assert (line["endpoint"], line["status"]) == (endpoint, response.status_code)


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/nothing-here", "GET", 404),
        ("/help", "POST", 405),
        ("/help", "BREW", 405),
        ("/help?" + "&" * 200, "GET", 413),
    ],
)
def test_refused_request_leaves_one_line_too(
    portal: Portal, lines: Lines, path: str, method: str, status: int
) -> None:
    portal.app.test_client().open(path, base_url=BASE, method=method)
    [line] = lines.requests
    assert line["status"] == status
    assert line["method"] in ("GET", "POST", "other")
    assert line["endpoint"] in ("none", "support.help")


def test_unchanged_page_is_noted_without_a_size(portal: Portal, lines: Lines) -> None:
    alice = portal.visitor("alice", own_device="y")
    held = {"If-None-Match": alice.get(portal.path()).response.headers["ETag"]}
    answer = alice.get(portal.path(), headers=held)
    assert lines.requests[-1]["status"] == 304
    assert "X-Request-Id" not in answer.response.headers


# The reference --------------------------------------------------------------------------------


def test_reference_of_a_failure_stands_on_its_page_and_on_all_its_lines(
    portal: Portal, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_a: Any, **_k: Any) -> None:
        raise RuntimeError("broken")

    alice = portal.visitor("alice")
    monkeypatch.setattr("blueprints.billing.owed.find_due", fails)
    page = alice.get(portal.path("billing/"))
    reference = page.response.headers["X-Request-Id"]
    assert page.status == 500
    assert f"reference {reference}" in page.text
    of_it = [line for line in lines.all if line.get("request") == reference]
    assert [line["event"] for line in of_it] == ["unexpected error", "request"]
    assert "RuntimeError: broken" in of_it[0]["exception"]


def test_reference_goes_along_to_the_gateway_calls(
    portal: Portal, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateways.outbound import AllowedOrigin, OutboundClient, OutboundUnreachable

    def calls(*_a: Any, **_k: Any) -> None:
        origin = AllowedOrigin("gateway.example")
        client = OutboundClient([origin], resolve=lambda _host, _port: [])
        with pytest.raises(OutboundUnreachable):
            client.request("POST", "https://gateway.example/pay/key-1?token=x", body=b"{}")
        raise RuntimeError

    alice = portal.visitor("alice")
    monkeypatch.setattr("blueprints.billing.owed.find_due", calls)
    reference = alice.get(portal.path("billing/")).response.headers["X-Request-Id"]
    [line] = lines.named("called")
    assert line["request"] == reference
    assert (line["host"], line["outcome"]) == ("gateway.example", "OutboundUnreachable")
    assert "key-1" not in lines.text


@pytest.mark.parametrize(
    ("given", "is_taken"),
    [
        ("0123456789abcdef0123456789abcdef", True),
        ("Root=1-67891233", False),
        ("short", False),
        ("x" * 65, False),
        ('abcdefgh"}', False),
        ("abcdefgh\x1b[31m", False),
        ("ábcdefghij", False),
        ("abcdefgh\n", False),
    ],
)
@pytest.mark.parametrize("trusts", [True, False])
def test_reference_is_taken_from_a_trusted_proxy_only(
    given: str, is_taken: bool, trusts: bool
) -> None:
    lines = Lines()

    def answer(_environ: Any, start: Any) -> list[bytes]:
        start("200 OK", [])
        return []

    app = Observed(answer, lines.write, trusts_reference=trusts)
    app({"REQUEST_METHOD": "GET", "HTTP_X_REQUEST_ID": given}, lambda *_a: None)  # type: ignore[arg-type]
    assert (lines.requests[0]["request"] == given) == (is_taken and trusts)


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize(("proxies", "address"), [(0, "127.0.0.1"), (1, "203.0.113.9")])
def test_address_follows_the_number_of_proxies(
    portal: Portal, monkeypatch: pytest.MonkeyPatch, proxies: int, address: str
) -> None:
    lines = Lines()
    monkeypatch.setattr(log, "write", lines.write)
    with crawl.another_app(portal, proxy_count=proxies, log=LogWhat.REQUESTS) as app:
        app.test_client().get(
            "/health",
            base_url=BASE,
            headers={"X-Forwarded-For": "203.0.113.9", "X-Request-Id": "proxy-named-it"},
        )
    [line] = lines.requests
    assert line["address"] == address
    assert (line["request"] == "proxy-named-it") == bool(proxies)


FORGED = 'x\r\n{"event": "request"}\x1b[2J\x00\u2028\x9b31m\x7f"'


def test_no_value_forges_a_line_or_moves_the_cursor(lines: Lines) -> None:
    line = log.request_line("GET", "a.b", 200, 0.1, 1, FORGED, "abcdefgh")
    logging.getLogger("lastmile.test").warning("%s", FORGED, extra={"more": FORGED})
    logging.getLogger("other").error(FORGED, exc_info=ValueError(FORGED))
    written = [line, *lines.text.splitlines()]
    assert len(written) == 3
    for each in written:
        assert all(" " <= sign <= "~" for sign in each), each
        assert isinstance(json.loads(each), dict)


def test_quiet_log_has_no_line_for_a_request(
    portal: Portal, capfd: pytest.CaptureFixture[str]
) -> None:
    for what, count in ((LogWhat.QUIET, 0), (LogWhat.EVENTS, 0), (LogWhat.REQUESTS, 1)):
        with crawl.another_app(portal, log=what) as app:
            app.test_client().get("/health", base_url=BASE)
        assert capfd.readouterr().err.count('"event": "request"') == count


# What no line holds ---------------------------------------------------------------------------


def test_canary_in_every_field_token_and_cookie_is_in_no_line(
    portal: Portal, lines: Lines, tmp_path: Any
) -> None:
    """Every form with the canary in every field, then again while the database fails (bar 77)."""
    crawl.prepare(portal)
    alice = portal.visitor("alice")
    pay = alice.get(portal.path("billing/pay"))
    _action, fields = pay.form("/pay")
    guard = crawl.token_of(alice)
    names = {*fields, "sign_in_id", "password", "password_again", "next", "own_device", "code"}
    names |= {"card", "token", "amount", "choice", "invoice", "csrf_token", "form_key"}
    posts = crawl.list_posts(portal)
    posts["auth.welcome_post"] = f"/welcome/{CANARY}"

    def send_all() -> None:
        for endpoint, path in posts.items():
            if endpoint == "auth.sign_out":
                continue
            everything = dict.fromkeys(names, CANARY)
            for data in (everything, everything | guard):
                alice.client.post(
                    f"{path}?next=/{CANARY}&token={CANARY}",
                    base_url=BASE,
                    data=data,
                    headers={"Authorization": f"Bearer {CANARY}", "Referer": f"{BASE}/{CANARY}"},
                )
            alice.client.post(path, base_url=BASE, data=CANARY, content_type="application/json")
            stranger = portal.app.test_client()
            stranger.set_cookie("session", CANARY, domain="127.0.0.1")
            stranger.set_cookie("device", CANARY, domain="127.0.0.1")
            stranger.set_cookie("here", "1", domain="127.0.0.1")
            stranger.post(path, base_url=BASE, data=everything)
        for path in ("/welcome/" + CANARY, f"/{CANARY}", f"/sign-in?next={CANARY}"):
            alice.client.get(path, base_url=BASE)

    send_all()
    logged = len(lines.requests)
    assert logged > 4 * (len(posts) - 1)
    portal.execute("ALTER TABLE sign_in_attempts RENAME TO gone_1")
    portal.execute("ALTER TABLE one_time_links RENAME TO gone_2")
    portal.execute("ALTER TABLE form_keys RENAME TO gone_3")
    send_all()
    assert any(line["status"] == 503 for line in lines.requests)
    assert lines.named("database error")
    assert "canary" not in lines.text
    assert guard["csrf_token"] not in lines.text
    assert guard["form_key"] not in lines.text
    for name, change in (("sign_in_attempts", 1), ("one_time_links", 2), ("form_keys", 3)):
        portal.execute(f"ALTER TABLE gone_{change} RENAME TO {name}")


def test_cookies_that_let_somebody_in_are_in_no_line(portal: Portal, lines: Lines) -> None:
    alice = portal.visitor("alice")
    alice.get(portal.path())
    assert len(alice.cookies()) >= 3
    for value in alice.cookies().values():
        assert value == "1" or value not in lines.text
    assert PASSWORD not in lines.text


# One event for each thing that happened (bar 76) ------------------------------------------------


def events(portal: Portal, kind: str) -> int:
    count: int = portal.one("SELECT count(*) FROM activity WHERE kind = :kind", kind=kind)
    return count


def test_sign_in_leaves_one_event(portal: Portal, lines: Lines) -> None:
    before = events(portal, "signed_in")
    portal.visitor("alice")
    assert events(portal, "signed_in") == before + 1
    assert lines.named("sign-in refused") == lines.named("throttled") == []


@pytest.mark.parametrize("who", ["alice", "nobody-at-all"])
def test_refused_sign_in_leaves_one_event_and_then_being_held_up_one(
    portal: Portal, lines: Lines, who: str
) -> None:
    before = events(portal, "signed_in")
    assert portal.visitor().sign_in(who, "wrong").status == 422
    assert [line["address"] for line in lines.named("sign-in refused")] == ["127.0.0.1"]
    assert portal.visitor().sign_in(who, "wrong").status == 429
    assert [line["limit"] for line in lines.named("throttled")] == ["person"]
    assert len(lines.named("sign-in refused")) == 1
    assert events(portal, "signed_in") == before


def test_denied_role_leaves_one_event_that_says_who(portal: Portal, lines: Lines) -> None:
    theo = portal.visitor("theo")
    assert theo.get(portal.path("billing/")).status == 403
    [line] = lines.named("denied")
    assert (line["why"], line["endpoint"]) == ("role", "billing.overview")
    assert line["customer"] == "theocustomer"


def test_foreign_form_leaves_one_event(portal: Portal, lines: Lines) -> None:
    alice = portal.visitor("alice")
    answer = alice.post(portal.path("billing/pay"), {"csrf_token": "forged"})
    assert answer.status == 403
    [line] = lines.named("denied")
    assert (line["why"], line["customer"]) == ("not from our page", "alicecustomer")


def test_rejected_notice_leaves_one_event(portal: Portal, lines: Lines) -> None:
    portal.app.test_client().post("/webhooks/payments/sandbox", base_url=BASE, data=b"{}")
    assert len(lines.named("notice rejected")) == 1


def test_payment_leaves_one_event_however_often_it_is_told(portal: Portal, lines: Lines) -> None:
    alice = portal.visitor("alice")
    alice.submit(alice.get(portal.path("billing/pay")), "/pay", choice="balance")
    [(public_id, key)] = portal.rows("SELECT public_id, key FROM payments WHERE state = 'sent'")
    portal.bank.decide(key, Decision.PAY)
    before = events(portal, "payment_received")
    for _ in range(3):
        alice.get(f"/pay/{public_id}/return")
    assert events(portal, "payment_received") == before + 1


def test_invoice_leaves_one_event(portal: Portal) -> None:
    invoices = portal.one("SELECT count(*) FROM invoices WHERE kind = 'invoice'")
    assert events(portal, "invoice_issued") == invoices > 0


def test_export_of_the_books_leaves_one_event(portal: Portal) -> None:
    assert portal.app.test_cli_runner().invoke(args=["ledger", "export"]).exit_code == 0
    assert events(portal, "ledger_exported") == 1


def test_invitation_and_registration_leave_one_event_each(portal: Portal) -> None:
    portal.execute(
        "DELETE FROM memberships WHERE account_id = :id", id=portal.world.accounts["rich"]
    )
    with portal.app.app_context():
        token = service.invite("3003")
    visitor = portal.visitor()
    for _ in range(2):
        page = visitor.get(f"/welcome/{token}")
        if page.status == 200:
            sent = visitor.submit(
                page, "/welcome/" + token, sign_in_id="newcomer", password="unlikely-otter-canoe-9"
            )
            assert sent.status == 303, sent.text
    assert (events(portal, "invited"), events(portal, "registered")) == (1, 1)
