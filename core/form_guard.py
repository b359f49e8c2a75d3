"""What every form of a page carries: the session's token and the page's one-time key.

Each answer has values of its own, made when the page first asks for them.
"""

from __future__ import annotations

from flask import current_app, g

from core import csrf, form_keys
from core.sessions import signed_in


def csrf_token() -> str:
    """The session's token, masked for this answer."""
    if "csrf_token" not in g:
        g.csrf_token = csrf.mask(signed_in().csrf_secret)
    return str(g.csrf_token)


def form_key() -> str:
    """The one-time key that all forms of this page share."""
    if "form_key" not in g:
        portal = current_app.config["PORTAL"]
        g.form_key = form_keys.mint(portal.secret, signed_in().subject)
    return str(g.form_key)
