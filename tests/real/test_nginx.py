"""The whole journey through the nginx sample: TLS, HTTP/2, and headers that nobody can forge."""

from __future__ import annotations

import http.client
import json
import socket
import sqlite3
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests import outside
from tests.browser.conftest import FLAGS, PATIENCE_MS, PHONE
from tests.real import nginx
from tests.real.conftest import Street
from tests.world import PASSWORD

PROTOCOLS = """() => performance.getEntriesByType("navigation")
  .concat(performance.getEntriesByType("resource"))
  .map((entry) => [new URL(entry.name).pathname, entry.nextHopProtocol])"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = outside.need("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(program), args=list(FLAGS))
        yield browser
        browser.close()


@pytest.mark.parametrize("has_script", [True, False], ids=["script", "plain"])
def test_customer_pays_over_tls_with_http_2(
    street: Street, chromium: Browser, has_script: bool
) -> None:
    origin = street.proxy.origin
    context = chromium.new_context(
        ignore_https_errors=True, viewport=PHONE, locale="en-US", java_script_enabled=has_script
    )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    answer = page.goto(origin + "/sign-in")
    assert answer is not None
    assert answer.headers["strict-transport-security"].startswith("max-age=63072000")
    page.get_by_label("ID or e-mail").fill("payer41" if has_script else "payer42")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/a/**")
    cookies = {cookie["name"]: cookie for cookie in context.cookies()}
    assert cookies
    for name, cookie in cookies.items():
        assert name.startswith("__Host-"), name
        assert cookie["secure"]
        assert cookie["httpOnly"]
        assert cookie["path"] == "/"
    page.get_by_role("button", name="Pay $").click()
    page.wait_for_url(f"http://localhost:{street.machine.bank_port}/pay/**")
    page.get_by_role("button", name="Pay", exact=False).first.click()
    expect(page.get_by_role("heading", name="Paid. Thank you.")).to_be_visible()
    assert page.url.startswith(origin + "/a/")
    if has_script:
        page.get_by_role("link", name="Home").click()
        expect(page.get_by_text("Nothing to pay", exact=True)).to_be_visible()
    page.goto(origin + "/help")
    used = page.evaluate(PROTOCOLS)
    assert used
    assert {protocol for _path, protocol in used if protocol} == {"h2"}, used
    assert complaints == []
    context.close()


def test_plain_http_leads_to_https(street: Street) -> None:
    with closing(
        http.client.HTTPConnection("localhost", street.proxy.plain_port, timeout=10)
    ) as connection:
        connection.request("GET", "/help?a=1")
        answer = connection.getresponse()
        answer.read()
    assert (answer.status, answer.headers["Location"]) == (301, street.proxy.origin + "/help?a=1")


def test_another_name_gets_no_certificate_and_no_page(street: Street) -> None:
    ours = ssl.create_default_context()
    with (
        closing(socket.create_connection(("127.0.0.1", street.proxy.port))) as plain,
        pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"),
    ):
        ours.wrap_socket(plain, server_hostname="evil.example")
    assert street.proxy.ask("GET", "/sign-in", headers={"Host": "evil.example"}).status == 421


def test_pages_arrive_as_the_portal_made_them(street: Street) -> None:
    """No second compression, no header twice, nothing of the server's version."""
    through = street.proxy.ask("GET", "/sign-in", headers={"Accept-Encoding": "br, gzip"})
    assert through.headers["Content-Encoding"] == "br"
    for name in ("Strict-Transport-Security", "Content-Security-Policy", "Cache-Control"):
        assert len(through.headers.get_all(name) or []) == 1, name
    assert through.headers["Server"] == "nginx"
    assert "Content-Encoding" not in street.proxy.ask("GET", "/sign-in").headers


def test_forged_addresses_count_for_nothing(street: Street) -> None:
    """Limits see the address that nginx saw, whatever the client says (bar 50)."""
    cookie = str(street.proxy.ask("GET", "/sign-in").headers["Set-Cookie"]).split(";")[0]
    forged = "198.51.100.7"
    for name in ("X-Forwarded-For", "X_Forwarded_For", "X-Real-IP", "Forwarded"):
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": cookie,
            name: forged if name != "Forwarded" else f"for={forged}",
        }
        body = "sign_in_id=nobody&password=wrong"
        assert street.proxy.ask("POST", "/sign-in", body, headers).status in (422, 429)
    with closing(sqlite3.connect(street.machine.data / "lastmile.db")) as database:
        networks = {row[0] for row in database.execute("SELECT network FROM sign_in_attempts")}
    assert networks == {"127.0.0.1"}


def test_portal_that_is_away_is_said_plainly(tmp_path: Path) -> None:
    with nginx.running(tmp_path / "away", ["127.0.0.1:9"]) as proxy:
        said = proxy.ask("GET", "/sign-in")
    assert said.status == 503
    assert said.headers["Retry-After"] == "10"
    assert b"it counts only once" in said.body
    check_headers(said)


def check_headers(said: nginx.Said) -> None:
    for name in (
        *("Strict-Transport-Security", "Content-Security-Policy", "X-Content-Type-Options"),
        *("Referrer-Policy", "Cache-Control"),
    ):
        assert len(said.headers.get_all(name) or []) == 1, name


def test_what_nginx_refuses_has_the_headers_of_every_page(street: Street) -> None:
    """Bars 36 and 46: too large a body, too long an address, too large a header."""
    for path, method, headers in (
        ("/sign-in", "POST", {"Content-Length": "1000001"}),
        ("/" + "a" * 9000, "GET", {}),
        ("/sign-in", "GET", {"X-Long": "a" * 9000}),
        ("/sign-in", "TRACE", {}),
    ):
        said = street.proxy.ask(method, path, headers=headers)
        assert 400 <= said.status < 500
        assert b"nginx/" not in said.body
        check_headers(said)


def test_health_says_that_all_is_well(street: Street) -> None:
    assert json.loads(street.proxy.ask("GET", "/health").body)["status"] == "ok"
    assert street.proxy.ask("GET", "/metrics").status == 404
