"""An encoding that the browser refuses (`q=0`) is never used (RFC 9110 §12.5.3)."""

from __future__ import annotations

import pytest

from tests import crawl
from tests.conftest import Portal

ACCEPTED = (
    ("br;q=0", "nothing"),
    ("br;q=0.0", "nothing"),
    ("br; q=0, gzip;q=0", "nothing"),
    ("br;q=0, gzip", "gzip"),
    ("gzip;q=0, br;q=0.001", "br"),
    ("*;q=0", "nothing"),
    ("identity", "nothing"),
    ("*", "br"),
    ("BR", "br"),
    ("br;q=nonsense, gzip;q=0", "br or nothing"),
)


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_refused_encoding_is_not_used_by_any_answer(portal: Portal) -> None:
    alice = portal.visitor("alice")
    [script] = alice.get(portal.path()).select("script[src*=portal]")
    paths = ("/sign-in", "/help", "/nothing", portal.path(), "/sign-in?done=expired")
    for accept, expected in ACCEPTED:
        for path in (*paths, script.get("src")):
            answer = crawl.send(alice, "GET", path, headers={"Accept-Encoding": accept})
            found = answer.headers.get("Content-Encoding", "nothing")
            assert found in expected.split(" or "), (path, accept)
            assert "Accept-Encoding" in answer.headers["Vary"], path
