"""The page of arrangements: what is offered, a preview of it, and how the one that stands goes."""

from __future__ import annotations

from flask import Response, g, request
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing.errors import AmountChanged
from blueprints.billing.planned import addresses, arrangements, bp, showing
from blueprints.billing.planned.arrangements import Every, Part
from blueprints.billing.planned.errors import ArrangementRefused, MethodUnusable
from blueprints.billing.planned.forms import ArrangementForm
from blueprints.billing.views import can_pay
from core.form_guard import arrived_key
from core.forms import shown
from core.htmx import go_to, render
from core.sessions import signed_in

DONE_WORDS = ("agreed", "ended")
BY_HAND = "self"
"""In the place of a method: the customer pays each part themselves."""
_WHY_FIELD = dict.fromkeys(("late", "late_first", "early"), "first_on")


@bp.get("/arrangement")
def arrangement() -> Response:
    """With values of the form in its address it shows what they would come to."""
    page = showing.find_arrangement_page(g.account_id, signed_in().customer_id)
    typed = MultiDict(request.args) if "count" in request.args else None
    form = shown(ArrangementForm) if typed is None else ArrangementForm(formdata=typed)
    parts: list[Part] = []
    if typed is not None and page.offer is not None and form.validate():
        try:
            parts = arrangements.divide(
                page.offer, int(form.count.data), form.begins_on, Every(form.every.data)
            )
        except ArrangementRefused as refused:
            form[_WHY_FIELD.get(refused.why, "count")].errors = [refused.customer_message]
    return _page(form, page, parts, 422 if form.errors else 200)


def _page(
    form: ArrangementForm, page: showing.ArrangementPage, parts: list[Part], status: int = 200
) -> Response:
    done = request.args.get("done")
    return render(
        "billing/planned/arrangement.html",
        None,
        status,
        form=form,
        page=page,
        parts=parts,
        can_pay=can_pay(),
        done=done if done in DONE_WORDS else None,
    )


@bp.post("/arrangement")
def arrangement_post() -> Response | BaseResponse:
    form = ArrangementForm()
    if not form.validate():
        return _again(form)
    wish = arrangements.Wish(
        account_id=g.account_id,
        customer_id=signed_in().customer_id,
        count=int(form.count.data),
        first_on=form.begins_on,
        every=Every(form.every.data),
        method_public_id=None if form.method.data in (None, "", BY_HAND) else form.method.data,
        shown_minor=request.form.get("shown", type=int),
    )
    path = addresses.of_account("billing.planned.arrangement") + "?done=agreed"
    try:
        return go_to(arrangements.agree(wish, arrived_key(), path))
    except ArrangementRefused as refused:
        form[_WHY_FIELD.get(refused.why, "count")].errors = [refused.customer_message]
    except AmountChanged as refusal:
        form.count.errors = [refusal.customer_message]
    except MethodUnusable as refusal:
        form.method.errors = [refusal.customer_message]
    return _again(form)


def _again(form: ArrangementForm) -> Response:
    page = showing.find_arrangement_page(g.account_id, signed_in().customer_id)
    return _page(form, page, [], 422)


@bp.post("/arrangement/end")
def arrangement_end() -> BaseResponse:
    path = addresses.of_account("billing.planned.arrangement") + "?done=ended"
    return go_to(arrangements.give_up(g.account_id, signed_in().customer_id, arrived_key(), path))
