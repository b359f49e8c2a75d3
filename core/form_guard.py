"""What every form of a page carries: the session's token and the page's one-time key.

Each answer has values of its own, made when its first form asks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from flask import current_app, g, request

from core import csrf, form_keys, kept_forms
from core.form_keys import ArrivedKey
from core.sessions import SignedIn, signed_in

if TYPE_CHECKING:
    from core.flows import FlowInHand

Holder: TypeAlias = "SignedIn | FlowInHand"
"""Whose forms they are: somebody signed in, or a flow that is half gone."""
MAKERS: dict[str, Callable[[Holder], str]] = {
    "csrf_token": lambda holder: csrf.mask(holder.csrf_secret),
    "form_key": lambda holder: form_keys.mint(current_app.config["PORTAL"].secret, holder.subject),
}


def csrf_token() -> str:
    """The session's token, masked for this answer."""
    return _of_this_answer("csrf_token")


def form_key() -> str:
    """The one-time key that all forms of this answer share."""
    return _of_this_answer("form_key")


def arrived_key(**also: str) -> ArrivedKey:
    """The one-time key that the form of this request brought. Raises FormExpired.

    `also` is content of the form that is no field of it: the digest of a file, say. Passwords and
    codes are no part of its content, of which a hash is stored.
    """
    content = {
        name: value for name, value in request.form.items() if not kept_forms.is_never_kept(name)
    }
    content |= also
    holder: Holder = g.get("flow") or signed_in()
    secret = current_app.config["PORTAL"].secret
    typed = request.form.get("form_key", "")
    return form_keys.check(secret, holder.subject, typed, request.path, content)


def made() -> dict[str, bytes]:
    """The values that this answer has used."""
    return {name: g.get(name).encode() for name in MAKERS if name in g}


def _of_this_answer(name: str) -> str:
    if name not in g:
        g.setdefault(name, MAKERS[name](g.get("flow") or signed_in()))
    return str(g.get(name))
