"""The pages of plans: what is in use, comparing, the preview before the button, and after it."""

from __future__ import annotations

from datetime import date

from flask import Response, g, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from blueprints.dashboard.plans import bp, changing, quoting, showing
from blueprints.dashboard.plans.errors import ChangeRefused
from blueprints.dashboard.plans.forms import ChangeForm
from blueprints.dashboard.plans.quoting import When, Wish
from core import clock
from core.db import db
from core.form_guard import arrived_key
from core.htmx import go_to, render
from core.isp import current_isp
from core.money import Money
from core.policy import OWNS
from core.sessions import signed_in
from models import Role

DONE = ("made", "undone")


def _change_path(public_id: str, done: str) -> str:
    account = signed_in().account
    return url_for(
        "plans.change",
        account_public_id=account.public_id if account is not None else "",
        public_id=public_id,
        done=done,
    )


def may_change() -> bool:
    """Whether this customer may change what the account subscribes to."""
    account = signed_in().account
    return account is not None and Role(account.role) in OWNS


@bp.get("/", endpoint="list")
def plan_list() -> Response:
    return render("plans/list.html", page=showing.find_page(g.account_id), may_change=may_change())


@bp.get("/<public_id>/change")
def compare(public_id: str) -> Response:
    in_use, offers = showing.find_offers(g.account_id, public_id)
    return render("plans/compare.html", in_use=in_use, offers=offers, may_change=may_change())


@bp.get("/channels")
def channels() -> Response:
    wanted = request.args.get("q", "").strip()[:60]
    found = showing.find_tv(g.account_id, wanted)
    return render(
        "plans/channels.html",
        "channel_rows",
        wanted=wanted,
        channels=found.channels[: showing.CHANNELS_SHOWN],
        channel_count=len(found.channels),
        apps=found.apps,
        may_change=may_change(),
    )


# The preview, and the button -----------------------------------------------------------------


@bp.get("/<public_id>/change/<code>")
def switch(public_id: str, code: str) -> Response:
    return _preview(Wish(g.account_id, public_id, code, _when(request.args.get("when"))))


@bp.post("/<public_id>/change/<code>")
def switch_post(public_id: str, code: str) -> Response | BaseResponse:
    return _make(public_id, code)


@bp.get("/add/<code>")
def add(code: str) -> Response:
    return _preview(Wish(g.account_id, None, code, _when(request.args.get("when") or When.NOW)))


@bp.post("/add/<code>")
def add_post(code: str) -> Response | BaseResponse:
    return _make(None, code)


@bp.get("/<public_id>/remove")
def remove(public_id: str) -> Response:
    return _preview(Wish(g.account_id, public_id, None))


@bp.post("/<public_id>/remove")
def remove_post(public_id: str) -> Response | BaseResponse:
    return _make(public_id, None)


@bp.get("/end")
def end() -> Response:
    return _preview(Wish(g.account_id, None, None, on=_asked_day(request.args.get("on"))))


@bp.post("/end")
def end_post() -> Response | BaseResponse:
    return _make(None, None)


def _asked_day(text: str | None) -> date | None:
    """The day on which everything is to end; None for the end of the period that is paid for."""
    try:
        return date.fromisoformat(text or "")
    except ValueError:
        return None


def _when(word: str | None) -> When:
    return When.NOW if word == When.NOW else When.NEXT


def _preview(wish: Wish, refusal: str = "", status: int = 200) -> Response:
    try:
        changing.check_day(wish.on)
        quote = quoting.quote(db.session(), wish)
    except ChangeRefused as refused:
        return render(
            "plans/preview.html",
            "quote",
            409,
            wish=wish,
            quote=None,
            refusal=refused.customer_message,
            action=request.path,
        )
    return render(
        "plans/preview.html",
        "quote",
        status,
        wish=wish,
        quote=quote,
        plan=showing.view_plan(quote.new) if quote.new is not None else None,
        action=request.path,
        termination=Money(quote.term.left_minor, quote.total.currency),
        today=clock.today(current_isp().timezone),
        refusal=refusal,
    )


def _make(public_id: str | None, code: str | None) -> Response | BaseResponse:
    form = ChangeForm()
    on = _asked_day(form.on.data) if public_id is None and code is None else None
    wish = Wish(g.account_id, public_id, code, _when(form.when.data), on)
    if not form.validate():
        return _preview(wish, status=422)
    path = _change_path("ID", "made").replace("ID", "{id}")
    try:
        return go_to(
            changing.change(
                wish, form.quote.data or "", signed_in().customer_id, arrived_key(), path
            )
        )
    except ChangeRefused as refused:
        return _preview(wish, refused.customer_message, 409)


# Afterwards --------------------------------------------------------------------------------------


@bp.get("/changes/<public_id>")
def change(public_id: str) -> Response:
    return _change_page(public_id)


@bp.post("/changes/<public_id>/undo")
def undo(public_id: str) -> Response | BaseResponse:
    path = _change_path(public_id, "undone")
    try:
        return go_to(
            changing.undo(g.account_id, public_id, signed_in().customer_id, arrived_key(), path)
        )
    except ChangeRefused as refused:
        return _change_page(public_id, refused.customer_message, 409)


def _change_page(public_id: str, refusal: str = "", status: int = 200) -> Response:
    done = request.args.get("done")
    return render(
        "plans/change.html",
        None,
        status,
        change=showing.get_change(g.account_id, public_id),
        done=done if done in DONE else "",
        refusal=refusal,
        may_change=may_change(),
    )
