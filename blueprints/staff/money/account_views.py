"""The money of one account."""

from __future__ import annotations

from flask import Response, request

from blueprints.staff.money import bp, statement
from blueprints.staff.views import asking
from core.htmx import render

DONE = ("credited", "asked", "charged", "uncharged")
HIGHEST_PAGE = 10_000


@bp.get("/accounts/<public_id>/money")
def account(public_id: str) -> Response:
    number = min(max(request.args.get("page", 1, type=int), 1), HIGHEST_PAGE)
    page = statement.read(public_id, number, asking.reader())
    return render("staff/money/account.html", "statement", page=page, done=asking.done(DONE))
