"""What kind of answer a request asks for, and how an answer leads on."""

from __future__ import annotations

import pytest
from flask import Flask

from core import htmx
from core.settings import ROOT
from tests.page import BOOSTED, FRAGMENT

app = Flask(__name__)
ASKS: tuple[tuple[dict[str, str], bool], ...] = (
    ({}, False),
    (FRAGMENT, True),
    (BOOSTED, False),
    ({"HX-Request": "true"}, False),
    ({"HX-Request-Type": "partial"}, False),
    (FRAGMENT | {"HX-Boosted": "true"}, False),
    (FRAGMENT | {"HX-History-Restore-Request": "true"}, False),
    (FRAGMENT | {"HX-Request": "TRUE"}, False),
    (FRAGMENT | {"HX-Request-Type": "full"}, False),
    (FRAGMENT | {"HX-Target": "anything", "HX-Trigger": "anything"}, True),
)


@pytest.mark.parametrize(("headers", "is_fragment"), ASKS)
def test_only_a_swap_into_a_part_gets_the_part(headers: dict[str, str], is_fragment: bool) -> None:
    with app.test_request_context("/", headers=headers):
        assert htmx.wants_fragment() is is_fragment


def test_change_leads_on_with_303_and_in_a_swap_with_the_whole_page() -> None:
    with app.test_request_context("/", method="POST"):
        plain = htmx.go_to("/a/x/")
    with app.test_request_context("/", method="POST", headers=FRAGMENT):
        swap = htmx.go_to("/a/x/")
    with app.test_request_context("/", method="POST", headers=BOOSTED):
        boosted = htmx.go_to("/a/x/")
    assert (plain.status_code, plain.headers["Location"]) == (303, "/a/x/")
    assert (swap.status_code, swap.headers["HX-Redirect"]) == (204, "/a/x/")
    assert boosted.status_code == 303
    assert "HX-Redirect" not in plain.headers


def test_nothing_new_is_empty() -> None:
    answer = htmx.nothing_new()
    assert (answer.status_code, answer.data) == (204, b"")


def test_no_other_module_knows_the_headers_of_htmx() -> None:
    files = [ROOT / "app.py", *(ROOT / "blueprints").rglob("*.py"), *(ROOT / "core").rglob("*.py")]
    reading = {
        path.relative_to(ROOT).as_posix()
        for path in files
        if any(word in path.read_text() for word in ('"HX-Redirect', '"HX-Request"', "HX-Boosted"))
    }
    assert reading <= {"core/htmx.py", "core/cache.py"}  # the cache names what pages vary by
