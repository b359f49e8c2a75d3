"""A script in every stored field, followed through all pages and mails into a browser: none runs,
though here no policy stands behind the escaping (bar 44)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from playwright.sync_api import Browser
from sqlalchemy import JSON, String, Text, select
from sqlalchemy.exc import IntegrityError

from core import postman
from core.db import db
from models import Base, Message
from tests import crawl
from tests.conftest import Base as Deployment
from tests.conftest import Portal
from tests.page import BASE, FRAGMENT

PAYLOAD = (
    "</title></textarea></style>\"'><img src=x onerror=ran()><script>ran()</script>"
    "<svg onload=ran()></svg><a href=javascript:ran()>{{7*7}}${7*7}"
)
# What other rows or the code find by its value, and the logo, which is the ISP's own markup.
KEYS = {
    "public_id", "key", "state", "status", "kind", "role", "currency", "timezone", "language",
    "languages", "accent", "accent_dark", "logo_svg", "code", "area_code", "password_hash",
    "gateway", "channel", "sign_in_key", "email_key", "revision", "purpose", "plan_code", "unit",
    "applies_to", "result", "subject", "version_num", "bill_on", "price_steps",
    "paused", "billed_paused", "billed_prices", "billed_edges", "later",
    "quiet_from", "quiet_until", "forward_when",
}  # fmt: skip


def with_payload(value: Any) -> Any:
    """A JSON value with the payload in place of each text that is no key."""
    if isinstance(value, dict):
        return {
            name: each if name in KEYS or name == "payment" else with_payload(each)
            for name, each in value.items()
        }
    if isinstance(value, list):
        return [with_payload(each) for each in value]
    return PAYLOAD if isinstance(value, str) else value


def fill(portal: Portal) -> list[str]:
    """Put the payload into every text of every table; the columns that took it."""
    for name, table in portal.rows(
        "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'"
    ):
        assert table
        portal.execute(f"DROP TRIGGER {name}")
    filled = []
    for table in Base.metadata.sorted_tables:
        for column in table.columns:
            where = f"{table.name}.{column.name}"
            if column.name in KEYS or column.foreign_keys:
                continue
            with suppress(IntegrityError):  # one of a fixed list of words
                if isinstance(column.type, JSON):
                    _fill_json(portal, table.name, column.name)
                    filled.append(where)
                elif isinstance(column.type, String | Text):
                    portal.execute(
                        f"UPDATE {table.name} SET {column.name} = :payload || rowid",
                        payload=PAYLOAD,
                    )
                    filled.append(where)
    portal.execute("UPDATE isp SET revision = revision + 1")
    return filled


def _fill_json(portal: Portal, table: str, column: str) -> None:
    keys = [key.name for key in Base.metadata.tables[table].primary_key.columns]
    which = " AND ".join(f"{key} = :{key}" for key in keys)
    for *row, value in portal.rows(f"SELECT {', '.join(keys)}, {column} FROM {table}"):
        new = json.dumps(with_payload(json.loads(value or "null")))
        values = dict(zip(keys, row, strict=True))
        portal.execute(f"UPDATE {table} SET {column} = :new WHERE {which}", new=new, **values)


def documents(portal: Portal) -> Iterator[tuple[str, str]]:
    """Every page and fragment as each person gets it, and every mail; where it is from, and it."""
    people = {
        name: portal.visitor(name, own_device="y") for name in ("alice", "theo", "mallory", "rich")
    } | {"ada": portal.visitor("ada"), None: portal.visitor()}
    columns = fill(portal)
    assert {
        "isp.name", "plans.name", "accounts.name", "accounts.number", "customers.name",
        "contacts.value", "invoices.number", "invoice_lines.description", "payments.method",
        "payments.decline_reason", "taxes.name", "areas.name", "activity.facts",
    } <= set(columns), columns  # fmt: skip
    for name, visitor in people.items():
        for path in crawl.list_gets(
            portal, name if name in ("mallory", "rich") else "alice"
        ).values():
            for headers in ({}, FRAGMENT):
                answer = visitor.client.get(path, base_url=BASE, headers=headers)
                assert answer.status_code < 500, path
                if answer.mimetype == "text/html":
                    yield f"{name} {path}", answer.text
    wrong = people[None].client.post(
        "/sign-in", base_url=BASE, data={"sign_in_id": PAYLOAD, "password": PAYLOAD}
    )
    yield "sign-in with the payload", wrong.text
    with portal.app.app_context():
        for message in db.session.scalars(select(Message)):
            made = postman.compose(message, portal.settings.public_url)
            assert "\n" not in made.subject
            yield f"mail {message.kind}", made.html


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_script_in_any_stored_field_runs_nowhere(
    portal: Portal, base: Deployment, chromium: Browser
) -> None:
    crawl.prepare(portal)
    try:
        _show_all(portal, chromium)
    finally:
        base.reset()  # these books would not add up


def _show_all(portal: Portal, chromium: Browser) -> None:
    page = chromium.new_page()
    ran: list[str] = []
    place = ""
    page.expose_function("ran", lambda: ran.append(place))
    page.set_content(f"<p>{PAYLOAD}")
    page.wait_for_timeout(100)
    assert len(ran) >= 3  # it would run
    ran.clear()
    shown = 0
    for place, text in documents(portal):
        page.set_content(text, wait_until="commit")
        assert page.locator("a[href^='javascript:'], img[src=x], svg[onload]").count() == 0, place
        shown += "onerror=ran()" in page.inner_text("body")
        assert "${7*7}" in text or "7*7" not in text, place
        assert "{{7*7}}" in text or "7*7" not in text, place
    page.wait_for_timeout(300)
    page.close()
    assert ran == []
    assert shown > 20, "the payload was hardly anywhere printed as it is"
