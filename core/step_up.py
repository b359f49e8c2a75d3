"""Asking for password or passkey once more before something that matters (bar 28)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar
from urllib.parse import urlencode

from flask import current_app, request
from werkzeug.wrappers import Response as BaseResponse

from core import htmx, kept_forms
from core.access import ViewersOnlyRead
from core.policy import SAFE_METHODS
from core.sessions import signed_in

P = ParamSpec("P")
R = TypeVar("R")


def recent_password(view: Callable[P, R]) -> Callable[P, R | BaseResponse]:
    """Let `view` run only for whoever gave password or passkey within ten minutes.

    Everyone else confirms first and comes back to what was being done. A form that was sent waits
    meanwhile, filled and not sent; the route that shows it again is its own path (`keeps_form`).
    """

    @wraps(view)
    def asked(*arguments: P.args, **values: P.kwargs) -> R | BaseResponse:
        person = signed_in()
        if person.viewer_id is not None:
            raise ViewersOnlyRead
        if person.is_recent:
            return view(*arguments, **values)
        back = request.path
        if request.method in SAFE_METHODS:
            if request.query_string:
                back += "?" + request.query_string.decode("ascii", "replace")
        else:
            kept_forms.keep(
                current_app.config["PORTAL"].secret, person.session_id, request.path, request.form
            )
        path = "/confirm?" + urlencode({"next": back})
        return htmx.sign_in_again(path) if htmx.wants_fragment() else htmx.go_to(path)

    marked: Any = asked
    marked.asks_for_password = True
    return asked
