"""The demo's mailbox."""

from __future__ import annotations

from flask import Response, current_app
from werkzeug.exceptions import NotFound

from blueprints.demo import bp
from core import clock, codes
from core.htmx import render
from demo import DEMO_STAFF_APP
from gateways.messages.mailbox import Mailbox
from models import Channel


def _mailbox() -> Mailbox:
    gateway = current_app.extensions["message_gateways"].get(Channel.EMAIL)
    if not isinstance(gateway, Mailbox):
        raise NotFound
    return gateway


@bp.get("/demo/mailbox")
def mailbox() -> Response:
    from pyotp import TOTP

    code = TOTP(DEMO_STAFF_APP).at(clock.now())
    return render("demo/mailbox.html", messages=_mailbox().list_latest(), code=codes.grouped(code))


@bp.get("/demo/mailbox/<public_id>")
def mailbox_message(public_id: str) -> Response:
    message = _mailbox().find(public_id)
    if message is None:
        raise NotFound
    return render("demo/mailbox_message.html", message=message)
