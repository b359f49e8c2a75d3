"""Headers of every answer (bar 36), and pages for what goes wrong, which cannot go wrong."""

from __future__ import annotations

import pytest
from flask import Flask
from jinja2 import DictLoader
from werkzeug.test import TestResponse

from core import assets, constant_pages, templates
from core.headers import HSTS
from core.isp import current_isp
from tests import crawl
from tests.conftest import Portal
from tests.page import BASE, FRAGMENT, Visitor
from tests.world import PASSWORD

HTTPS = "https://portal.example.net"


def policy_of(response: TestResponse) -> dict[str, list[str]]:
    parts = response.headers["Content-Security-Policy"].split(";")
    return {part.split()[0]: part.split()[1:] for part in parts}


def check(response: TestResponse, gateway: str | None, *, is_https: bool = False) -> None:
    """Assert what every answer carries, but for a 304."""
    headers = response.headers
    where = f"{response.request.method} {response.request.path} {response.status_code}"
    assert response.status_code != 304
    policy = policy_of(response)
    for directive in ("default-src", "base-uri", "object-src", "frame-ancestors"):
        assert policy[directive] == ["'none'"], where
    assert policy["script-src"] == policy["connect-src"] == ["'self'"], where
    own, style_hash = policy["style-src"]
    assert own == "'self'", where
    assert style_hash.startswith("'sha256-"), where
    assert policy["form-action"] == ["'self'", *([gateway] if gateway else [])], where
    assert "unsafe" not in headers["Content-Security-Policy"], where
    assert "nonce" not in headers["Content-Security-Policy"], where
    assert headers["X-Content-Type-Options"] == "nosniff", where
    assert headers["Referrer-Policy"] == "same-origin", where
    assert headers.get("Strict-Transport-Security") == (HSTS if is_https else None), where
    assert headers["Cache-Control"], where
    assert len(headers.getlist("Cache-Control")) == len(headers.getlist("Vary")) == 1, where


def static_paths(app: Flask) -> list[str]:
    with app.app_context():
        isp = current_isp()
        names = [assets.find(path, isp).name for path in (*assets.SCRIPTS, *assets.STYLESHEETS)]
    return [f"/static/{name}" for name in names]


@pytest.mark.parametrize("who", ["anonymous", "alice", "theo"])
def test_every_answer_carries_the_protecting_headers(portal: Portal, who: str) -> None:
    crawl.prepare(portal)
    visitor = portal.visitor(None if who == "anonymous" else who)
    paths = [*crawl.addresses(portal).values(), *static_paths(portal.app), "/nothing", "/a/x"]
    for path in paths:
        for method in crawl.METHODS:
            check(crawl.send(visitor, method, path), portal.gateway.origin)
        check(crawl.send(visitor, "GET", path, headers=FRAGMENT), portal.gateway.origin)
    for path in ("/sign-in", "/sign-out", portal.path("billing/pay")):
        too_large = crawl.send(visitor, "POST", path, data=b"x" * 1_000_001)
        assert too_large.status_code == 413
        check(too_large, portal.gateway.origin)
    forged = visitor.client.get("/sign-in", base_url="http://elsewhere.example")
    assert forged.status_code == 400
    check(forged, portal.gateway.origin)


def leave_the_demo(portal: Portal) -> None:
    portal.execute("UPDATE isp SET is_demo = :no, revision = revision + 1", no=False)


def test_without_a_gateway_forms_go_to_us_alone(portal: Portal) -> None:
    leave_the_demo(portal)
    with crawl.another_app(portal, is_demo=False, payment_gateway="") as app:
        check(Visitor(app).get("/help").response, None)


def test_over_tls_transport_security_lasts_a_year_and_cookies_belong_to_the_host(
    portal: Portal,
) -> None:
    leave_the_demo(portal)
    with crawl.another_app(portal, is_demo=False, public_url=HTTPS) as app:
        client = app.test_client()
        pages = [client.get("/sign-in", base_url=HTTPS)]
        form = {"sign_in_id": "alice", "password": PASSWORD}
        pages.append(client.post("/sign-in", base_url=HTTPS, data=form))
        assert pages[-1].status_code == 303
        paths = ("/nothing", "/help", portal.path(), *static_paths(app))
        pages += [client.get(path, base_url=HTTPS) for path in paths]
        for page in pages:
            check(page, None, is_https=True)
            for cookie in page.headers.getlist("Set-Cookie"):
                assert cookie.startswith("__Host-")
                assert {"Secure", "HttpOnly", "Path=/"} <= set(cookie.split("; "))
                assert "Domain" not in cookie
    assert int(HSTS.removeprefix("max-age=")) >= 365 * 86400


def test_policy_admits_exactly_the_inlined_styles(portal: Portal) -> None:
    # The page itself is checked by the visitor: its block's hash is the one in the policy.
    page = portal.visitor().get("/sign-in")
    assert len(page.select("style")) == 1


def test_static_file_lives_for_good_under_its_own_hash_only(portal: Portal) -> None:
    visitor = portal.visitor()
    for path in static_paths(portal.app):
        response = crawl.send(visitor, "GET", path)
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        stem, _, rest = path.rpartition("-")
        older = crawl.send(visitor, "GET", f"{stem}-0123456789.{rest.split('.', 1)[1]}")
        assert (older.status_code, older.headers["Cache-Control"]) == (200, "no-cache")
        assert older.data == response.data
        assert "Set-Cookie" not in response.headers
    for path in ("/static/../app.py", "/static/css/portal.css", "/static/%2e%2e/models.py"):
        assert crawl.send(visitor, "GET", path).status_code == 404


# What goes wrong -------------------------------------------------------------------------------


def test_each_kind_of_failure_has_a_page(portal: Portal) -> None:
    theo, nobody = portal.visitor("theo"), portal.visitor()
    assert "Page not found" in nobody.get("/nothing").text
    assert "Page not found" in theo.get("/a/nothing/").text
    assert "not yours to open" in theo.get(portal.path("billing/")).text
    wrong = nobody.post("/help")
    assert "does not work here" in wrong.text
    assert set(wrong.response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert "too large" in nobody.post("/sign-in", {"password": "x" * 1_000_001}).text
    assert "too old" in theo.post("/sign-out").text


def test_too_many_tries_have_a_page_that_says_when(portal: Portal) -> None:
    nobody = portal.visitor()
    for _ in range(12):
        page = nobody.sign_in("nobody-knows", "wrong-password-1")
        if page.status == 429:
            break
    assert page.status == 429
    assert int(page.response.headers["Retry-After"]) > 0
    assert "Try again in" in page.text


def test_unexpected_error_has_a_page_and_says_nothing_of_its_cause(portal: Portal) -> None:
    with crawl.another_app(portal) as app:
        view = app.view_functions["support.help"]

        def broken() -> None:
            raise ZeroDivisionError("secret detail")

        app.view_functions["support.help"] = broken  # type: ignore[assignment]
        page = Visitor(app).get("/help")
        app.view_functions["support.help"] = view
    assert page.status == 500
    assert "Something went wrong on our side" in page.text
    assert "secret" not in page.response.text


@pytest.mark.parametrize("path", ["/nothing", "/help", "/sign-in", "/accounts"])
def test_error_page_with_broken_templates_is_constant_bytes(portal: Portal, path: str) -> None:
    with crawl.another_app(portal) as app:
        visitor = Visitor(app)
        assert visitor.sign_in("alice").status == 303
        constant_pages._pages.clear()
        app.jinja_env.loader = DictLoader({"errors/error.html": "{{ no such thing"})
        app.extensions["templates"] = templates.Templates(app.jinja_env)
        response = crawl.send(visitor, "GET", path)
        assert response.status_code in (404, 500)
        assert b"<h1>Something went wrong" in response.data
        check(response, portal_gateway(app))
        expired = crawl.send(visitor, "POST", "/sign-out", headers={"Origin": "null"})
        assert expired.status_code == 403
        assert b"<h1>Something went wrong" in expired.data


def portal_gateway(app: Flask) -> str | None:
    gateway = app.extensions["payment_gateway"]
    return gateway.origin if gateway else None


def test_with_the_database_away_every_page_is_constant_bytes(portal: Portal) -> None:
    away = "postgresql+psycopg://nobody@127.0.0.1:9/none"
    with crawl.another_app(portal, database_url=away) as app:
        client = app.test_client()
        client.set_cookie("session", "a-token", domain="127.0.0.1")
        for path in ("/", "/help", "/sign-in", "/nothing", "/accounts", portal.path()):
            response = client.get(path, base_url=BASE)
            assert response.status_code in (404, 503), path
            assert b"<h1>Something went wrong" in response.data
            assert response.headers["Content-Security-Policy"]
        assert client.get("/health", base_url=BASE).status_code == 503
        busy = client.get("/accounts", base_url=BASE)
        assert (busy.status_code, busy.headers["Retry-After"]) == (503, "10")


def test_health_tells_of_portal_and_worker(portal: Portal) -> None:
    response = crawl.send(portal.visitor(), "GET", "/health")
    assert response.status_code == 200
    assert response.json == {"status": "ok", "worker": False, "backup_age_hours": None}
    assert response.headers["Cache-Control"] == "no-store"


def test_trailing_slash_leads_to_our_own_path(portal: Portal) -> None:
    visitor = portal.visitor()
    for path in ("/a/x", "//elsewhere.example/a/x", "/a//x", "/\\elsewhere.example"):
        response = visitor.client.get(path, base_url=BASE)
        target = response.headers.get("Location", "/")
        assert target.startswith(("/", BASE + "/"))
        assert not target.startswith(("//", "/\\"))
