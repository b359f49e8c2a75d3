"""Notices of payment gateways. A notice is believed for its signature, never for its content: the
gateway is asked for the truth (bars 56 and 57)."""

from __future__ import annotations

import logging

from flask import Response, request
from werkzeug.exceptions import NotFound, RequestEntityTooLarge

from blueprints.api import bp
from blueprints.billing import settling
from blueprints.billing.methods import settling as methods
from blueprints.billing.views import payment_gateway
from core import clock
from gateways.payments.errors import NoticeRejected
from gateways.payments.signatures import MAX_NOTICE_BYTES

log = logging.getLogger("lastmile.notices")


@bp.post("/webhooks/payments/<gateway_name>")
def payment_notice(gateway_name: str) -> Response:
    gateway = payment_gateway()
    if gateway is None or gateway.name != gateway_name:
        raise NotFound
    if (request.content_length or 0) > MAX_NOTICE_BYTES:
        raise RequestEntityTooLarge
    body = request.get_data(cache=False)
    try:
        notice = gateway.read_notice(body, dict(request.headers), clock.now())
    except NoticeRejected as rejected:
        log.warning("notice rejected", extra={"reason": rejected.reason})
        return Response("rejected\n", 400, mimetype="text/plain")
    is_ours = settling.take_notice(gateway, notice) or methods.take_notice(gateway, notice)
    return Response("ok\n" if is_ours else "unknown\n", 200, mimetype="text/plain")
