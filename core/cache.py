"""Which pages a browser may keep, and when a kept one is still true (DESIGN §4).

Only a device that its owner declared "my own device" keeps pages, always asking first
(`private, no-cache` with a weak ETag); everywhere else pages are `no-store`. The tag is computed
from revisions before the view runs, so that an unchanged page costs no query of its own.
"""

from __future__ import annotations

import hashlib

from flask import Response, request

from core import clock
from core.headers import vary
from core.isp import IspView
from core.sessions import SignedIn


def page_state(
    build: str, isp: IspView, signed_in: SignedIn, language: str, *, fragment: bool
) -> tuple[object, ...]:
    """All that the page at this URL depends on, apart from the session's own token."""
    account = signed_in.account
    now = clock.now()
    return (
        build,
        isp.revision,
        language,
        signed_in.customer_id,
        account.role if account else "",
        account.revision if account else "",
        signed_in.customer_revision,
        signed_in.account_count,
        signed_in.is_own_device,
        str(clock.day_of(now, isp.timezone)),
        isp.find_announcement(now) is not None,
        request.path,
        request.query_string,
        fragment,
    )


def page_tag(state: tuple[object, ...], signed_in: SignedIn) -> str:
    """The weak ETag of a page in this state for this session."""
    parts = (*state, signed_in.session_id, signed_in.generation)
    return 'W/"' + hashlib.sha256(repr(parts).encode()).hexdigest()[:16] + '"'


def is_unchanged(tag: str) -> bool:
    """Whether the browser holds the page under this tag."""
    held = request.headers.get("If-None-Match", "")
    return tag in [part.strip() for part in held.split(",")]


def not_modified(tag: str) -> Response:
    """A 304 with as few headers as it may have."""
    response = Response(status=304)
    mark_kept(response, tag)
    return response


def mark_kept(response: Response, tag: str) -> None:
    """Allow the device's own browser to keep this page and to ask whether it is still true."""
    response.headers["ETag"] = tag
    vary(response, "HX-Request")
    response.headers["Cache-Control"] = "private, no-cache"


def mark_personal(response: Response) -> None:
    """Nobody keeps a page about a person."""
    response.headers["Cache-Control"] = "no-store"
