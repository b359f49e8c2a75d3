"""What the views of staff read from a request."""

from __future__ import annotations

from collections.abc import Collection

from flask import Response, current_app, g, request

from core.data_access import Reader
from core.htmx import render
from core.sessions import signed_in
from models import StaffRole


def reader() -> Reader:
    """The staff member who asks, for the note of who read what."""
    person = signed_in()
    return Reader(person.customer_id, person.name)


def role() -> StaffRole:
    """Their role, which the gate has found."""
    return StaffRole(g.staff_role)


def secret() -> bytes:
    found: bytes = current_app.config["PORTAL"].secret
    return found


def done(words: Collection[str]) -> str | None:
    """What was just done, if it is one of `words`."""
    word = request.args.get("done")
    return word if word in words else None


def wait_page(seconds: int, account_public_id: str) -> Response:
    """Too much in a short time for this account: when it works again, and the way back."""
    page = render(
        "staff/wait.html", None, 429, retry_after=seconds, account_public_id=account_public_id
    )
    page.headers["Retry-After"] = str(seconds)
    return page
