"""Pages of staff keep to the budgets of the thin line, as brotli without its headers."""

from __future__ import annotations

import pytest

from core import search_terms
from core.db import unit_of_work
from tests import crawl
from tests.conftest import Portal
from tests.page import FRAGMENT

PAGE, FRAGMENT_BYTES, HEADERS = 5_000, 1_500, 700


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_pages_of_staff_are_light(portal: Portal) -> None:
    crawl.prepare(portal)
    with portal.app.app_context():
        unit_of_work(
            lambda session: search_terms.refresh(session, list(portal.world.accounts.values()))
        )
    ada = portal.visitor("ada")
    # The way in is for maintenance only: it leads on.
    paths = [
        path
        for name, path in crawl.list_gets(portal).items()
        if path.startswith("/staff/") and name != "auth.staff_sign_in"
    ]
    sizes = {}
    for path in [*paths, "/staff/?q=pinecrest"]:
        answer = crawl.send(ada, "GET", path, headers={"Accept-Encoding": "br"})
        if answer.status_code == 303 or answer.mimetype != "text/html":
            continue  # leads on, or is a file
        assert answer.headers["Content-Encoding"] == "br", path
        sizes[path] = len(answer.data) + HEADERS
    assert len(sizes) > 8
    assert {
        path: size for path, size in sizes.items() if size > PAGE and "/join/" not in path
    } == {}
    part = crawl.send(
        ada, "GET", "/staff/?q=pinecrest", headers=FRAGMENT | {"Accept-Encoding": "br"}
    )
    assert len(part.data) + HEADERS <= FRAGMENT_BYTES
