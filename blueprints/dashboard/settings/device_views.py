"""The page of sessions and trusted devices."""

from __future__ import annotations

from flask import Response, current_app, request
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import asking
from blueprints.dashboard.settings import bp, devices
from core.form_guard import arrived_key
from core.htmx import go_to, render
from core.sessions import signed_in

DONE_WORDS = ("ended", "all-ended", "distrusted")


def _secret() -> bytes:
    secret: bytes = current_app.config["PORTAL"].secret
    return secret


@bp.get("/sessions", endpoint="sessions")
def sessions_page() -> Response:
    done = request.args.get("done")
    page = devices.find_page(signed_in(), _secret(), asking.browser().device_token)
    return render("settings/sessions.html", page=page, done=done if done in DONE_WORDS else None)


@bp.post("/sessions/<name>/end")
def session_end(name: str) -> BaseResponse:
    return go_to(devices.end_one(signed_in(), name, arrived_key(), _secret()))


@bp.post("/sessions/end-others")
def sessions_end_others() -> BaseResponse:
    return go_to(devices.end_others(signed_in(), arrived_key()))


@bp.post("/sessions/devices/<name>/distrust")
def device_distrust(name: str) -> BaseResponse:
    return go_to(devices.distrust(signed_in(), name, arrived_key(), _secret()))
