"""The pages of whoever has lost every second factor."""

from __future__ import annotations

from flask import Response, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import asking, bp, losing_factors
from blueprints.auth.errors import CodeWrong, SignInRefused
from blueprints.auth.forms import CodeForm
from core import flows, form_guard
from core.htmx import go_to, render
from core.throttle import TooManyAttempts
from models import FlowKind


@bp.post("/sign-in/second-step/lost")
def lost_begin() -> Response | BaseResponse:
    try:
        token = losing_factors.begin(flows.in_hand(), asking.rules())
    except SignInRefused:
        return asking.begin_anew("ended")
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, url_for("auth.second_step_page"))
    path = url_for("auth.lost")
    return asking.begin_flow(FlowKind.LOST_FACTORS, token, losing_factors.LASTS, path)


@bp.get("/sign-in/lost")
def lost() -> Response:
    return _page(CodeForm(formdata=None))


def _page(form: CodeForm, status: int = 200) -> Response:
    page = losing_factors.find_page(flows.in_hand())
    return render(
        "auth/lost.html",
        None,
        status,
        form=form,
        page=page,
        way=page.ways[0].value if page.ways else "",
        is_sent=request.args.get("sent") in page.ways or status != 200,
    )


@bp.post("/sign-in/lost")
def lost_post() -> Response | BaseResponse:
    form = CodeForm()
    if not form.validate():
        return _page(form, 422)
    try:
        is_done = losing_factors.give_code(
            flows.in_hand(), form.by.data or "", form.code.data or "", asking.rules()
        )
    except CodeWrong as refusal:
        form.code.errors = [refusal.customer_message]
        return _page(form, 422)
    except SignInRefused:
        return asking.begin_anew("ended")
    except TooManyAttempts as refusal:
        return _wait(refusal)
    return go_to("/sign-in?done=factors-reset" if is_done else url_for("auth.lost"))


def _wait(refusal: TooManyAttempts) -> Response:
    return asking.wait_page(refusal.retry_after_seconds, url_for("auth.lost"))


@bp.post("/sign-in/lost/send")
def lost_send() -> Response | BaseResponse:
    way = request.form.get("by", "")
    path = url_for("auth.lost", sent=way)
    try:
        return go_to(
            losing_factors.send_code(
                flows.in_hand(), way, form_guard.arrived_key(), asking.rules(), path
            )
        )
    except TooManyAttempts as refusal:
        return _wait(refusal)


@bp.post("/sign-in/lost/staff")
def lost_ask() -> BaseResponse:
    flow = flows.in_hand()
    losing_factors.ask_reset(flow.customer_id or 0)
    return go_to(url_for("auth.lost"))
