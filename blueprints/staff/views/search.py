"""Finding an account: the first page of staff."""

from __future__ import annotations

from flask import Response, request

from blueprints.staff import bp, finding
from blueprints.staff.views import asking
from core.htmx import render


@bp.get("/")
def search() -> Response:
    results = finding.search(request.args.get("q", ""), asking.reader())
    return render("staff/search.html", "results", results=results)
