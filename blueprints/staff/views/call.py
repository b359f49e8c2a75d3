"""Verifying whoever calls."""

from __future__ import annotations

from flask import Response
from werkzeug.wrappers import Response as BaseResponse

from blueprints.staff import bp, callers
from blueprints.staff.errors import CodeWrong, ContactUnfit
from blueprints.staff.forms import CallerCodeForm, CallerContactForm
from blueprints.staff.views import asking
from core import form_guard
from core.htmx import go_to, render
from core.sessions import signed_in
from core.throttle import TooManyAttempts

_PATH = "/accounts/<public_id>/call"


@bp.get(_PATH)
def call(public_id: str) -> Response:
    return _page(public_id, CallerContactForm(formdata=None), CallerCodeForm(formdata=None))


@bp.post(_PATH)
def call_send(public_id: str) -> Response | BaseResponse:
    form = CallerContactForm()
    form.offer(callers.list_ways(public_id))
    if form.validate():
        try:
            return go_to(
                callers.send_code(
                    public_id,
                    int(form.contact.data),
                    asking.reader(),
                    f"{signed_in().session_id}",
                    asking.secret(),
                    form_guard.arrived_key(),
                )
            )
        except ContactUnfit as refusal:
            form.contact.errors = [refusal.customer_message]
        except TooManyAttempts as refusal:
            return asking.wait_page(refusal.retry_after_seconds, public_id)
    return _page(public_id, form, CallerCodeForm(formdata=None), 422)


@bp.post(f"{_PATH}/check")
def call_check(public_id: str) -> Response | BaseResponse:
    form = CallerCodeForm()
    if form.validate():
        try:
            return go_to(
                callers.check_code(
                    public_id,
                    form.code.data or "",
                    asking.reader(),
                    f"{signed_in().session_id}",
                    asking.secret(),
                    form_guard.arrived_key(),
                )
            )
        except CodeWrong as refusal:
            form.code.errors = [refusal.customer_message]
        except TooManyAttempts as refusal:
            return asking.wait_page(refusal.retry_after_seconds, public_id)
    return _page(public_id, CallerContactForm(formdata=None), form, 422)


def _page(
    public_id: str, contact: CallerContactForm, code: CallerCodeForm, status: int = 200
) -> Response:
    found = callers.find_call(public_id, asking.reader())
    contact.offer(found.ways)
    code.code.data = None  # what was typed is not shown again
    is_sent = asking.done(("sent",)) is not None or bool(code.errors)
    return render(
        "staff/call.html", None, status, page=found, form=contact, code=code, is_sent=is_sent
    )
