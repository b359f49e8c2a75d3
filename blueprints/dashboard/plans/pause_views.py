"""The pages of a pause: the days, the preview before the button, and after it; its early end."""

from __future__ import annotations

from flask import Response, g, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from blueprints.dashboard.plans import bp, pause_quoting, pausing, showing
from blueprints.dashboard.plans.errors import ChangeRefused
from blueprints.dashboard.plans.forms import EndPauseForm, PauseDaysForm, PauseForm
from blueprints.dashboard.plans.views import may_change
from core.db import db
from core.form_guard import arrived_key
from core.htmx import go_to, render
from core.sessions import signed_in

DONE = ("made", "undone", "ended")


def _path(public_id: str, done: str) -> str:
    account = signed_in().account
    return url_for(
        "plans.pause_detail",
        account_public_id=account.public_id if account is not None else "",
        public_id=public_id,
        done=done,
    )


# The days, the preview and the button ------------------------------------------------------------


@bp.get("/pause")
def pause() -> Response:
    if "from_on" not in request.args and "until_on" not in request.args:
        return _choose(None)
    form = PauseDaysForm(formdata=request.args)
    return _choose(form, 200 if form.validate() else 422)


@bp.post("/pause")
def pause_post() -> Response | BaseResponse:
    form = PauseForm()
    days = PauseDaysForm()
    if not days.validate() or not form.validate():
        return _choose(days, 422)
    path = _path("ID", "made").replace("ID", "{id}")
    customer_id, key = signed_in().customer_id, arrived_key()
    try:
        return go_to(
            pausing.pause(g.account_id, days.span, form.quote.data or "", customer_id, key, path)
        )
    except ChangeRefused as refused:
        return _choose(days, 409, refused.customer_message)


def _choose(form: PauseDaysForm | None, status: int = 200, refusal: str = "") -> Response:
    """The page of the days, with the preview of those in a valid `form`."""
    found = pause_quoting.read(db.session(), g.account_id)
    quote = None
    if form is not None and not form.errors:
        try:
            quote = pause_quoting.quote(db.session(), found, form.span)
        except ChangeRefused as refused:
            form.from_on.errors = [refused.customer_message]
            refusal, status = "", 409
    return render(
        "plans/pause.html",
        None,
        status,
        form=form or PauseDaysForm.of_usual(found),
        found=found,
        quote=quote,
        refusal=refusal,
    )


# Afterwards --------------------------------------------------------------------------------------


@bp.get("/pause/<public_id>")
def pause_detail(public_id: str) -> Response:
    return _detail(public_id)


@bp.post("/pause/<public_id>/undo")
def pause_undo(public_id: str) -> Response | BaseResponse:
    path = _path(public_id, "undone")
    customer_id, key = signed_in().customer_id, arrived_key()
    try:
        return go_to(pausing.undo(g.account_id, public_id, customer_id, key, path))
    except ChangeRefused as refused:
        return _detail(public_id, refused.customer_message, 409)


def _detail(public_id: str, refusal: str = "", status: int = 200) -> Response:
    done = request.args.get("done")
    return render(
        "plans/pause_detail.html",
        None,
        status,
        pause=showing.get_pause(g.account_id, public_id),
        done=done if done in DONE else "",
        refusal=refusal,
        may_change=may_change(),
    )


# Ending it early ---------------------------------------------------------------------------------


@bp.get("/pause/<public_id>/end")
def pause_end(public_id: str) -> Response:
    return _end(public_id)


@bp.post("/pause/<public_id>/end")
def pause_end_post(public_id: str) -> Response | BaseResponse:
    form = EndPauseForm()
    if not form.validate():
        return _end(public_id, status=422)
    path = _path(public_id, "ended")
    customer_id, key = signed_in().customer_id, arrived_key()
    try:
        return go_to(
            pausing.end(g.account_id, public_id, form.quote.data or "", customer_id, key, path)
        )
    except ChangeRefused as refused:
        return _end(public_id, refused.customer_message, 409)


def _end(public_id: str, refusal: str = "", status: int = 200) -> Response:
    quote = None
    try:
        quote = pause_quoting.end_quote(db.session(), g.account_id, public_id)
    except ChangeRefused as refused:
        refusal, status = refused.customer_message, 409
    return render(
        "plans/pause_end.html", None, status, quote=quote, public_id=public_id, refusal=refusal
    )
