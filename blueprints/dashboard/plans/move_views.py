"""The pages of moving house: asking for it, and what became of it."""

from __future__ import annotations

from flask import Response, g, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from blueprints.dashboard.plans import bp, move_showing, moving
from blueprints.dashboard.plans.errors import ChangeRefused
from blueprints.dashboard.plans.forms import MoveForm
from blueprints.dashboard.plans.views import may_change
from core.form_guard import arrived_key
from core.forms import shown
from core.htmx import go_to, render
from core.sessions import signed_in

DONE = ("asked", "undone")


def _path(public_id: str, done: str) -> str:
    account = signed_in().account
    return url_for(
        "plans.move_detail",
        account_public_id=account.public_id if account is not None else "",
        public_id=public_id,
        done=done,
    )


@bp.get("/move")
def move() -> Response:
    return _form_page(shown(MoveForm))


@bp.post("/move")
def move_post() -> Response | BaseResponse:
    form = MoveForm()
    if not form.validate() or form.on.data is None:
        return _form_page(form, 422)
    path = _path("ID", "asked").replace("ID", "{id}")
    address = {name: getattr(form, name).data or "" for name in moving.PARTS}
    to = moving.NewPlace(address, form.on.data, form.note.data or "")
    try:
        return go_to(moving.ask(g.account_id, to, signed_in().customer_id, arrived_key(), path))
    except ChangeRefused as refused:
        form.street.errors = [refused.customer_message]
        return _form_page(form, 409)


def _form_page(form: MoveForm, status: int = 200) -> Response:
    page = move_showing.find_page(g.account_id)
    return render("plans/move.html", None, status, form=form, page=page)


@bp.get("/move/<public_id>")
def move_detail(public_id: str) -> Response:
    return _detail(public_id)


@bp.post("/move/<public_id>/withdraw")
def move_withdraw(public_id: str) -> Response | BaseResponse:
    path = _path(public_id, "undone")
    customer_id, key = signed_in().customer_id, arrived_key()
    try:
        return go_to(moving.withdraw(g.account_id, public_id, customer_id, key, path))
    except ChangeRefused as refused:
        return _detail(public_id, refused.customer_message, 409)


def _detail(public_id: str, refusal: str = "", status: int = 200) -> Response:
    done = request.args.get("done")
    return render(
        "plans/move_detail.html",
        None,
        status,
        move=move_showing.get_move(g.account_id, public_id),
        done=done if done in DONE else "",
        refusal=refusal,
        may_change=may_change(),
    )
