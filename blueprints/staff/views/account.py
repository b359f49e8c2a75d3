"""One account, as far as the role sees it."""

from __future__ import annotations

from flask import Response

from blueprints.staff import bp, looking
from blueprints.staff.views import asking
from core.htmx import render

DONE = ("verified",)


@bp.get("/accounts/<public_id>")
def account(public_id: str) -> Response:
    page = looking.look_at_account(public_id, asking.role(), asking.reader())
    return render("staff/account.html", page=page, done=asking.done(DONE))
