"""Accounting that a RADIUS server posts, as `rlm_rest` of FreeRADIUS does: one report a request.

It is answered once it is written, and with a status that has the server keep it otherwise.
"""

from __future__ import annotations

import hmac
import logging

from flask import Response, current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from blueprints.api import bp
from blueprints.lines import accounting as taking
from blueprints.lines import reading
from core import clock
from core.settings import Settings
from gateways.network.freeradius.posted import PostedWrong, read_posted

log = logging.getLogger("lastmile.lines")

MAX_BYTES = 65_536


@bp.post("/accounting/radius")
def accounting() -> Response:
    settings: Settings = current_app.config["PORTAL"]
    if not _brings_token(settings.accounting_token):
        # Not 404, which FreeRADIUS takes for an answer: the report would be lost.
        answer = Response("wrong token\n", 401, mimetype="text/plain")
        answer.headers["WWW-Authenticate"] = 'Basic realm="accounting"'
        return answer
    if (request.content_length or 0) > MAX_BYTES:
        raise RequestEntityTooLarge
    try:
        report = read_posted(request.get_data(cache=False), clock.now(), settings.radius)
    except PostedWrong as wrong:
        log.warning("a posted report makes no sense", extra={"why": str(wrong)})
        return Response(f"{wrong}\n", 400, mimetype="text/plain")
    if report is not None:
        if taking.take([report]).unknown:
            log.warning("accounting names lines that nobody has", extra={"lines": 1})
        reading.note_posted()
    return Response(status=204)


def _brings_token(token: str) -> bool:
    """Whether the request has it, as a bearer's or as the password of whatever user; never where
    there is none."""
    given = request.authorization
    if given is None or not token:
        return False
    brought = (given.token if given.type == "bearer" else given.password) or ""
    return hmac.compare_digest(token.encode(), brought.encode())
