"""Where a redirect may lead (bar 42)."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.htmx import ForeignTarget, go_out, go_to
from core.paths import origin_of, own_path
from tests import crawl
from tests.conftest import Portal
from tests.page import BASE, FRAGMENT

OURS = "http://127.0.0.1:8000"
BANK = "http://localhost:8001"
TRICKS = (
    "//evil.example", "///evil.example", "////evil.example", "/\\evil.example",
    "\\\\evil.example", "\\/evil.example", "/\\/evil.example", "http:///evil.example",
    "http:/evil.example", "http:evil.example", "https://evil.example", "HTTPS://evil.example",
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", " javascript:alert(1)", "data:text/html,x",
    "vbscript:x", "mailto:a@b", "\t//evil.example", "/\t/evil.example", "/\n/evil.example",
    "/\r/evil.example", "\n/ok", "/ok\n", "/\x00/evil.example", "\x00/ok", " //evil.example",
    " /ok", "/ /evil.example", "/a//evil.example", "/%2f/evil.example", "/%2Fevil.example",
    "/%5cevil.example", "/%5Cevil.example", "/%09/evil.example", "/%0a/evil.example",
    "/%0d%0aSet-Cookie:x=y", "/ok\r\nSet-Cookie: x=y", "evil.example", "@evil.example",
    "?next=x", "#x", "/ok#//evil.example", "/\u2028/evil", "/\u3000/evil",
    "/\uff0fevil.example", "／／evil.example", "/é", "/.//evil.example", "/..//evil.example", "",
    ".", "..", "../x", "/" + "x" * 600, "/<script>", '/"onload="x',
    "http://127.0.0.1:8000@evil.example/", "http://127.0.0.1:8000/ok", "/ok{{7*7}}", "/[::1]",
    "/ok|x", "/ok^x", "/ok`x",
)  # fmt: skip
FOREIGN = (
    "http://localhost:8001.evil.example/", "http://localhost:8001@evil.example/",
    "http://localhost/", "http://localhost:80010/", "http://localhost:800/",
    "https://localhost:8001/", "//localhost:8001/",
    "http://evil.example/http://localhost:8001/", "http://localhost:8001\\@evil.example/",
    "http://user@localhost:8001/", "http://localhost :8001/",
    "http://localhost:8001 .evil.example/", "http://loc\talhost:8001/",
    "\thttp://localhost:8001/", "http://localhost:8001/\nSet-Cookie:x", "http://localhost:0/",
    "http://localhost:99999/", "http://localhost:x/", "http:///localhost:8001/",
    "http:localhost:8001", "javascript:alert(1)//localhost:8001", "http://ｌocalhost:8001/x",
    "http://127.0.0.1:8001/", "http://[::1]:8001/", "", "/pay", "ftp://localhost:8001/",
    "http://", "http://localhost:8001\x00/", "http://localhost:８００１/",
    "http://[localhost:8001/",
)  # fmt: skip


def test_corpus_is_large_enough() -> None:
    assert len(set(TRICKS)) >= 30
    assert len(set(FOREIGN)) >= 30


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/accounts",
        "/a/x/",
        "/a/x/billing/invoices/?page=2&state=open",
        "/a?next=//x",
        "/a/x;y=1",
    ],
)
def test_own_paths_are_taken_as_they_are(path: str) -> None:
    assert own_path(path) == path


@pytest.mark.parametrize("target", TRICKS)
def test_tricks_are_no_paths_of_ours(target: str) -> None:
    assert own_path(target) is None


@given(
    st.text(alphabet="/\\:.@?#%aez0\t\n\r 25fF-_;&=\u3000／", max_size=24) | st.text(max_size=24)
)
@example("/;//x")
@example("/a/..//x")
def test_own_path_never_leaves_the_portal(target: str) -> None:
    path = own_path(target)
    if path is not None:
        joined = urlsplit(urljoin(f"{OURS}/sign-in", path))
        assert f"{joined.scheme}://{joined.netloc}" == OURS
        assert "\\" not in path
        assert path.isascii()
        assert path.isprintable()


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://localhost:8001/pay/1?x=y", BANK),
        ("HTTP://LOCALHOST:8001", BANK),
        ("https://pay.example/", "https://pay.example"),
        ("https://pay.example:443/x", "https://pay.example"),
        ("http://pay.example:80/x", "http://pay.example"),
        ("https://pay.example:80/x", "https://pay.example:80"),
        ("http://[::1]:8001/", "http://[::1]:8001"),
    ],
)
def test_origin_is_scheme_host_and_port(url: str, origin: str) -> None:
    assert origin_of(url) == origin


@pytest.mark.parametrize("url", FOREIGN)
def test_other_addresses_are_not_the_gateways(url: str) -> None:
    assert origin_of(url) != BANK
    with pytest.raises(ForeignTarget):
        go_out(url, BANK)


def test_payment_may_lead_to_the_gateway_and_no_page_to_elsewhere() -> None:
    assert go_out(f"{BANK}/pay/1", BANK).headers["Location"] == f"{BANK}/pay/1"
    for target in (*TRICKS, *FOREIGN, f"{BANK}/pay/1"):
        if target not in ("", "/pay"):
            with pytest.raises(ForeignTarget):
                go_to(target)


# The whole way ---------------------------------------------------------------------------------


def test_sign_in_leads_on_to_our_own_paths_only(portal: Portal) -> None:
    alice = portal.visitor("alice")
    for target in TRICKS:
        page = alice.client.get("/sign-in", base_url=BASE, query_string={"next": target})
        if page.status_code == 200:
            assert b'name="next" type="hidden" value=""' in page.data, target
    for target in (
        "//evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "https://evil.example",
    ):
        answer = portal.visitor().sign_in("alice", next=target)
        assert answer.location == portal.path()
    assert portal.visitor().sign_in("alice", next="/accounts").location == "/accounts"


def test_way_back_from_sign_in_is_our_own_path(portal: Portal) -> None:
    visitor = portal.visitor()
    for path in ("/accounts?x=//evil.example", "/a/x/?next=https://evil.example", "/a/%5cevil/"):
        for headers in ({}, FRAGMENT):
            answer = crawl.send(visitor, "GET", path, headers=headers)
            target = answer.headers.get("Location") or answer.headers["HX-Redirect"]
            assert target.startswith("/sign-in")
            assert own_path(target) == target


def test_forged_host_changes_no_address(portal: Portal) -> None:
    client = portal.app.test_client()
    for headers in ({"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example"}):
        answer = client.get("/accounts", headers=headers)
        assert answer.status_code == 400
        assert b"evil" not in answer.data
    answer = client.get("/accounts", base_url=BASE, headers={"X-Forwarded-Host": "evil.example"})
    assert answer.headers["Location"] == "/sign-in?next=%2Faccounts"
