"""The pages of prices."""

from __future__ import annotations

from flask import Response, request
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing.prices import Existing
from blueprints.staff.prices import bp, planning
from blueprints.staff.prices.errors import PriceRefused
from blueprints.staff.prices.forms import PriceForm
from blueprints.staff.prices.planning import NewPrice
from blueprints.staff.views import asking
from core import form_guard
from core.forms import shown
from core.htmx import go_to, render
from core.sessions import signed_in
from core.step_up import recent_password

DONE = ("planned", "withdrawn", "off", "on")


@bp.get("/", endpoint="list")
def price_list() -> Response:
    return render("staff/prices/list.html", plans=planning.list_plans())


@bp.get("/<code>")
def plan(code: str) -> Response:
    return _page(code, shown(PriceForm))


@bp.post("/<code>")
@recent_password
def plan_post(code: str) -> Response | BaseResponse:
    form = PriceForm()
    if not form.validate() or form.from_on.data is None:
        return _page(code, form, 422)
    new = NewPrice(
        code,
        form.price.minor,
        form.from_on.data,
        Existing(form.existing.data),
        signed_in().customer_id,
    )
    try:
        return go_to(
            planning.plan(new, form_guard.arrived_key(), f"/staff/prices/{code}?done=planned")
        )
    except PriceRefused as refusal:
        form.from_on.errors = [refusal.customer_message]
        return _page(code, form, 422)


@bp.get("/<code>/withdraw/<public_id>")
def withdraw(code: str, public_id: str) -> Response:
    return _withdraw_page(code, public_id)


@bp.post("/<code>/withdraw/<public_id>")
@recent_password
def withdraw_post(code: str, public_id: str) -> Response | BaseResponse:
    path = f"/staff/prices/{code}?done=withdrawn"
    change = planning.get_change(code, public_id)
    try:
        return go_to(
            planning.withdraw(
                change.public_id, signed_in().customer_id, form_guard.arrived_key(), path
            )
        )
    except PriceRefused as refusal:
        return _withdraw_page(code, public_id, 409, refusal.customer_message)


def _withdraw_page(code: str, public_id: str, status: int = 200, refusal: str = "") -> Response:
    return render(
        "staff/prices/withdraw.html",
        None,
        status,
        change=planning.get_change(code, public_id),
        refusal=refusal,
    )


@bp.get("/<code>/offering")
def offering(code: str) -> Response:
    return render("staff/prices/offering.html", plan=planning.get_plan(code), refusal="")


@bp.post("/<code>/offering")
@recent_password
def offering_post(code: str) -> Response | BaseResponse:
    is_offered = request.form.get("offer") == "on"
    path = f"/staff/prices/{code}?done={'on' if is_offered else 'off'}"
    try:
        return go_to(planning.offer(code, form_guard.arrived_key(), path, is_offered=is_offered))
    except PriceRefused as refusal:
        return render(
            "staff/prices/offering.html",
            None,
            409,
            plan=planning.get_plan(code),
            refusal=refusal.customer_message,
        )


def _page(code: str, form: PriceForm, status: int = 200) -> Response:
    return render(
        "staff/prices/plan.html",
        None,
        status,
        plan=planning.get_plan(code),
        history=planning.list_history(code),
        form=form,
        first_on=planning.first_day(Existing.DAY),
        done=asking.done(DONE),
    )
