"""The pages of one's own data: taking it along, and closing the online account."""

from __future__ import annotations

from flask import Response, current_app, session
from werkzeug.wrappers import Response as BaseResponse

from blueprints.dashboard.settings import bp, closing, exporting
from blueprints.dashboard.settings.errors import StaffCannotClose
from core import erasures
from core.erasures import ErasureNotNoted
from core.form_guard import arrived_key
from core.htmx import go_to, render
from core.sessions import PortalSession, signed_in
from core.step_up import recent_password


@bp.get("/data")
@recent_password
def data() -> Response:
    return render("settings/data.html")


@bp.post("/data")
@recent_password
def data_post() -> BaseResponse:
    return go_to(exporting.begin(signed_in(), arrived_key()))


@bp.get("/data/everything")
@recent_password
def data_file() -> Response | BaseResponse:
    customer_id = signed_in().customer_id
    if not exporting.may_fetch(customer_id):
        return go_to("/settings/data")
    secret = current_app.config["PORTAL"].secret
    response = Response(exporting.everything(customer_id, secret), mimetype="application/json")
    response.headers["Content-Disposition"] = 'attachment; filename="my-data.json"'
    return response


@bp.get("/close")
@recent_password
def close() -> Response:
    return render("settings/close.html", refusal="")


@bp.post("/close")
@recent_password
def close_post() -> Response | BaseResponse:
    portal = current_app.config["PORTAL"]
    lists = erasures.folders(portal)
    try:
        path = closing.close(signed_in().customer_id, arrived_key(), portal.secret, lists)
    except (StaffCannotClose, ErasureNotNoted) as refusal:
        return render("settings/close.html", None, 422, refusal=refusal.customer_message)
    if isinstance(session, PortalSession):
        session.finish()
    response = go_to(path)
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response
