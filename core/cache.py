"""Which pages a browser may keep, and when a kept one is still true (DESIGN §4).

Only a device that its owner declared "my own device" keeps pages, always asking first
(`private, no-cache` with a weak ETag); everywhere else pages are `no-store`. The tag is computed
from revisions before the view runs, so that an unchanged page costs no query of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from flask import Response

from core import clock, htmx
from core.headers import vary
from core.isp import IspView
from core.sessions import SignedIn

CONSTANT_PATHS = ("/sign-in", "/help")
"""Pages that are the same bytes for everyone who is not signed in (core/constant_pages.py)."""


def page_state(
    build: str, environ: Mapping[str, Any], isp: IspView, signed_in: SignedIn, language: str
) -> tuple[object, ...]:
    """All that the page which `environ` asks for depends on, apart from the session's own token."""
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
        signed_in.is_staff,
        signed_in.viewer_id is not None,
        signed_in.has_second_factor,
        signed_in.timezone,
        str(clock.day_of(now, isp.timezone)),
        isp.find_announcement(now) is not None,
        environ["PATH_INFO"],
        environ.get("QUERY_STRING", ""),
        htmx.wants_fragment(environ),
    )


def page_tag(state: tuple[object, ...], signed_in: SignedIn) -> str:
    """The weak ETag of a page in this state for this session."""
    parts = (*state, signed_in.session_id, signed_in.generation)
    return 'W/"' + hashlib.sha256(repr(parts).encode()).hexdigest()[:16] + '"'


def is_held(environ: Mapping[str, Any], tag: str) -> bool:
    """Whether the browser holds the page under this tag."""
    held = environ.get("HTTP_IF_NONE_MATCH", "")
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
