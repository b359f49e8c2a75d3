"""The help page: the same bytes for everyone but who is signed in: they see it in their frame."""

from __future__ import annotations

from flask import Response, g, request

from blueprints.dashboard.plans import kept_labels, labels
from blueprints.support import bp
from core import constant_pages
from core.downloads import csv_answer
from core.htmx import render


@bp.get("/broadband-facts")
def broadband_facts() -> Response:
    return render(
        "support/broadband_facts.html",
        labels=labels.list_labels(),
        withdrawn=kept_labels.list_withdrawn(),
    )


@bp.get("/broadband-facts/csv")
def broadband_facts_csv() -> Response:
    """The labels for programs that compare (47 CFR 8.1(a)(3))."""
    offered = [(label, None) for label in labels.list_labels()]
    withdrawn = [(each.label, each.until_on) for each in kept_labels.list_withdrawn()]
    rows = labels.as_rows([*offered, *withdrawn])
    return csv_answer("broadband_facts.csv", labels.CSV_HEADER, rows)


@bp.get("/help", endpoint="help")
def help_page() -> Response:
    if g.get("is_personal"):
        return render("support/help.html")
    response = constant_pages.answer("help", lambda: render("support/help.html"))
    response.headers["Cache-Control"] = "no-cache"
    response.add_etag(weak=True)
    response.make_conditional(request)
    return response
