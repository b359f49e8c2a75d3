"""What the tests of getting in need beside the portal: one served over TLS, and Set-Cookie read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from http.cookies import Morsel, SimpleCookie

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app import create_app
from core.db import db
from tests.conftest import Portal

HTTPS = "https://my.pinecrest.example"


@pytest.fixture
def https(portal: Portal) -> Iterator[FlaskClient]:
    """A browser that visits the same portal under a public https address, `HTTPS`."""
    app = create_app(replace(portal.settings, public_url=HTTPS))
    yield app.test_client()
    with app.app_context():
        db.session.remove()
        db.engine.dispose()


def set_cookies(response: TestResponse) -> dict[str, Morsel[str]]:
    """The cookies that an answer sets, by name."""
    found: dict[str, Morsel[str]] = {}
    for header in response.headers.getlist("Set-Cookie"):
        found |= SimpleCookie(header)
    return found


def refuse_updates(portal: Portal, table: str) -> None:
    """From now on the database refuses to change a row of `table`."""
    body = (
        "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        if portal.settings.is_sqlite
        else "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    portal.execute(f"CREATE TRIGGER refuse_updates BEFORE UPDATE ON {table} {body}")
