"""The help page: the same bytes for everyone but who is signed in: they see it in their frame."""

from __future__ import annotations

from flask import Response, g, request

from blueprints.support import bp
from core import constant_pages
from core.htmx import render


@bp.get("/help", endpoint="help")
def help_page() -> Response:
    if g.get("is_personal"):
        return render("support/help.html")
    response = constant_pages.answer("help", lambda: render("support/help.html"))
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag(weak=True)
    response.make_conditional(request)
    return response
