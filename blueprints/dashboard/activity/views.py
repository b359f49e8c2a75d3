"""The pages of what happened."""

from __future__ import annotations

from flask import Response, request, session
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import recovering
from blueprints.dashboard.activity import bp, not_me, service
from core.db import db
from core.form_guard import arrived_key
from core.htmx import go_to, render
from core.sessions import PortalSession, signed_in

HIGHEST_PAGE = 10_000


@bp.get("")
def event_list() -> Response:
    kind = request.args.get("kind", "all")
    number = min(max(request.args.get("page", 1, type=int), 1), HIGHEST_PAGE)
    page = service.list_events(
        signed_in().customer_id, kind if kind in service.GROUPS else "all", number
    )
    return render("activity/event_list.html", "event_rows", page=page)


@bp.get("/not-me/<stamp>", endpoint="not_me")
def not_me_page(stamp: str) -> Response:
    event = service.get_event(signed_in().customer_id, stamp)
    is_reached = recovering.may_reach(db.session(), signed_in().customer_id)
    return render("activity/not_me.html", event=event, stamp=stamp, is_reached=is_reached)


@bp.post("/not-me/<stamp>")
def not_me_post(stamp: str) -> BaseResponse:
    person = signed_in()
    path = not_me.report(person, service.get_event(person.customer_id, stamp), arrived_key())
    if isinstance(session, PortalSession):
        session.finish()
    response = go_to(path)
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response
