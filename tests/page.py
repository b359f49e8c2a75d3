"""A visitor without JavaScript: opens pages, fills in their forms, follows where they lead.

Every page is checked as it is opened: valid markup, one h1 that begins the title, unique ids, a
label for each input, an action in each form, token and key in each signed-in form that posts, no
inline script, no inline style but the hashed block, and no words that run together without styles.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import Any

import html5lib
from flask import Flask
from flask.testing import FlaskClient
from lxml import html as lxml_html
from werkzeug.test import TestResponse

BASE = "http://127.0.0.1:8000"
FRAGMENT = {"HX-Request": "true", "HX-Request-Type": "partial"}
BOOSTED = {"HX-Request": "true", "HX-Request-Type": "full", "HX-Boosted": "true"}

# What styles put beneath or at the end of a line is a word of its own for whoever has no styles.
_RUN_TOGETHER = re.compile(
    r"[^\s<>](?:</\w+>)*<(?:span|bdi|time) class=\"(?:quiet|end|door__end)\"[^>]*>[^<]*"
)


@dataclass
class Page:
    """One answer, parsed."""

    response: TestResponse
    tree: Any
    text: str = field(init=False)

    def __post_init__(self) -> None:
        self.text = " ".join(self.tree.text_content().split()) if self.tree is not None else ""

    @property
    def status(self) -> int:
        return self.response.status_code

    @property
    def location(self) -> str:
        return self.response.headers.get("Location", "")

    @property
    def source(self) -> str:
        """What was sent, before it is parsed; what is not text byte by byte."""
        is_text = (self.response.mimetype or "").startswith("text/") or self.response.is_json
        return self.response.text if is_text else self.response.data.decode("latin-1")

    def select(self, css: str) -> list[Any]:
        return list(self.tree.cssselect(css))

    def form(self, action_ends: str = "") -> tuple[str, dict[str, str]]:
        """Action and prefilled values of the page's form that posts to a path ending so."""
        for form in self.select("form[method=post]"):
            action = form.get("action")
            if action.endswith(action_ends) and not (action_ends == "" and "sign-out" in action):
                return action, {
                    name: value or "" for name, value in form.form_values() if name is not None
                }
        raise AssertionError(f"no form that posts to …{action_ends}")


class Visitor:
    """A browser of one person."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.client: FlaskClient = app.test_client()

    def get(self, path: str, *, headers: dict[str, str] | None = None, **query: Any) -> Page:
        response = self.client.get(path, base_url=BASE, headers=headers, query_string=query or None)
        return self._page(response, headers)

    def post(
        self,
        path: str,
        data: dict[str, Any] | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> Page:
        response = self.client.post(path, base_url=BASE, data=data, headers=headers)
        return self._page(response, headers)

    def submit(self, page: Page, action_ends: str, **values: str) -> Page:
        """Fill `values` into the page's form and send it."""
        action, prefilled = page.form(action_ends)
        return self.post(action, prefilled | values)

    def sign_in(self, sign_in_id: str, password: str | None = None, **values: str) -> Page:
        from tests.world import PASSWORD

        self.get("/sign-in")
        return self.post(
            "/sign-in",
            {"sign_in_id": sign_in_id, "password": password or PASSWORD} | values,
        )

    def cookies(self) -> dict[str, str]:
        return {cookie.key: cookie.value for cookie in (self.client._cookies or {}).values()}

    def _page(self, response: TestResponse, headers: dict[str, str] | None) -> Page:
        is_fragment = (headers or {}).get("HX-Request-Type") == "partial"
        if response.mimetype != "text/html" or not response.data:
            return Page(response, None) if not response.data else _parsed(response)
        if not is_fragment and response.status_code not in (301, 302, 303):
            check_markup(response)
        return _parsed(response)


def _parsed(response: TestResponse) -> Page:
    if response.mimetype != "text/html":
        page = Page(response, None)
        page.text = page.source
        return page
    return Page(response, lxml_html.fromstring(response.text))


# What differs each time that a page is shown, and is nothing but letters, digits, `-` and `_`.
_TOKENS = re.compile(
    r"""(<input type="hidden" name="(?:csrf_token|form_key)" value=")[\w-]+(?=")""", re.ASCII
)

_checked: set[bytes] = set()


def check_markup(response: TestResponse) -> None:
    """What every whole page must hold. Raises AssertionError with what does not."""
    source = response.text
    policy = response.headers["Content-Security-Policy"]
    seen = hashlib.sha256("\n".join((policy, _TOKENS.sub(r"\1", source))).encode()).digest()
    if seen in _checked:
        return  # the same but for its tokens: most tests open what others have opened
    parser = html5lib.HTMLParser(strict=False)
    parser.parse(source)
    errors = [error for error in parser.errors if error[1] != "expected-doctype-but-got-chars"]
    assert not errors, f"invalid markup: {errors[:3]}"
    tree: Any = lxml_html.document_fromstring(source)
    headings: list[Any] = tree.cssselect("h1")
    assert len(headings) == 1, f"{len(headings)} h1"
    heading = " ".join(headings[0].text_content().split())
    title = " ".join(tree.cssselect("title")[0].text_content().split())
    assert title.startswith(heading), f"title {title!r} does not begin with {heading!r}"
    ids = [element.get("id") for element in tree.cssselect("[id]")]
    assert len(ids) == len(set(ids)), f"repeated ids: {[i for i in ids if ids.count(i) > 1]}"
    for element in tree.cssselect("input:not([type=hidden]), select, textarea"):
        name = element.get("id")
        assert name, "an input without id"
        assert tree.cssselect(f"label[for='{name}']"), f"no label for {name}"
    is_signed_in = bool(tree.cssselect("form[action='/sign-out']"))
    for form in tree.cssselect("form"):
        assert form.get("action"), "a form without action"
        if form.get("method") == "post" and is_signed_in:
            assert form.cssselect("input[name=csrf_token]"), "a form without token"
            assert form.cssselect("input[name=form_key]"), "a form without key"
    for script in tree.cssselect("script"):
        assert script.get("src"), "a script without src"
        assert not (script.text or "").strip(), "an inline script"
    run_together = _RUN_TOGETHER.search(source)
    assert not run_together, f"read as one word without styles: {run_together[0]}"
    assert not tree.cssselect("[style], [onclick], [onload], [onsubmit]"), "inline style or handler"
    for style in tree.cssselect("style"):
        digest = base64.b64encode(hashlib.sha256((style.text or "").encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy, "an inline style that the policy does not name"
    _checked.add(seen)
