"""The only module that reads or writes `HX-` headers: an upgrade of HTMX is this file.

A page and its fragments share one URL, view and template. `render` answers with the named block
for a swap into a part of the page, and with the whole page for everyone else: plain browsers,
boosted links, swaps of the whole body, and the back button.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response, redirect, request
from werkzeug.wrappers import Response as BaseResponse

from core import templates
from core.db import refuse_inside_unit
from core.headers import vary
from core.paths import origin_of, own_path
from core.words import language


class ForeignTarget(Exception):
    """A redirect was asked to leave for an address that is neither ours nor the gateway's."""


def wants_fragment(environ: Mapping[str, Any] | None = None) -> bool:
    """Whether this request (or that of `environ`) swaps a part of the page. It never decides what
    may be seen."""
    environ = request.environ if environ is None else environ
    return (
        environ.get("HTTP_HX_REQUEST") == "true"
        and environ.get("HTTP_HX_REQUEST_TYPE") == "partial"
        and environ.get("HTTP_HX_BOOSTED") != "true"
        and environ.get("HTTP_HX_HISTORY_RESTORE_REQUEST") != "true"
    )


def is_htmx() -> bool:
    return request.headers.get("HX-Request") == "true"


def render(template: str, block: str | None = None, status: int = 200, **context: Any) -> Response:
    """The page `template`, or its `block` alone when a part of the page asked for it."""
    refuse_inside_unit("rendering")
    of_language = language()
    loaded = templates.get(template, of_language)
    context = templates.page_context(of_language) | context
    if block is not None and wants_fragment():
        body = "".join(loaded.blocks[block](loaded.new_context(context)))
    else:
        body = loaded.render(context)
    response = Response(body.strip(), status)
    if block is not None:
        vary(response, "HX-Request")
    return response


def nothing_new() -> Response:
    """The answer to a poll that found nothing (a 304 would reach fetch as the old body)."""
    response = Response(status=204)
    vary(response, "HX-Request")
    return response


def go_to(path: str) -> BaseResponse:
    """Lead on to one of our own pages after a successful change: 303, or for a swap a whole-page
    redirect. Raises ForeignTarget for anything but a path of ours."""
    if own_path(path) is None:
        raise ForeignTarget(path)
    if wants_fragment():
        response = Response(status=204)
        response.headers["HX-Redirect"] = path
        return response
    return redirect(path, 303)


def go_out(url: str, allowed_origin: str) -> BaseResponse:
    """The one redirect to another origin: the payment gateway's hosted page (bar 42)."""
    if origin_of(url) != allowed_origin:
        raise ForeignTarget(url)
    return redirect(url, 303)


def load_again(status: int) -> Response:
    """What a fragment gets when not a part but the whole page is another one: it is loaded anew."""
    response = Response(status=status)
    response.headers["HX-Refresh"] = "true"
    vary(response, "HX-Request")
    return response


def sign_in_again(path: str) -> Response:
    """What a fragment of an expired session gets: the whole page moves to sign-in."""
    response = Response(status=401)
    response.headers["HX-Redirect"] = path
    return response
