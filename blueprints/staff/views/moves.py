"""Moves that wait for staff: whether they can be done, from when, and what is had there."""

from __future__ import annotations

from flask import Response
from werkzeug.wrappers import Response as BaseResponse

from blueprints.dashboard.plans import move_showing, moving
from blueprints.dashboard.plans.errors import ChangeRefused
from blueprints.dashboard.plans.forms import AcceptMoveForm, RefuseForm
from blueprints.staff import bp
from blueprints.staff.views import asking
from core import data_access, form_guard
from core.forms import shown
from core.htmx import go_to, render
from core.sessions import signed_in

_LIST = "/staff/plan-changes"
_ONE = "/moves/<public_id>"


@bp.get(_ONE)
def move(public_id: str) -> Response:
    asked = move_showing.get_for_staff(public_id)
    accept = shown(AcceptMoveForm, on=asked.wished_on, area=asked.area_code)
    return _page(asked, accept, shown(RefuseForm))


@bp.post(f"{_ONE}/accept")
def move_accept(public_id: str) -> Response | BaseResponse:
    asked = move_showing.get_for_staff(public_id)
    form = AcceptMoveForm()
    form.offer(move_showing.find_choices(asked.account_id))
    if not form.validate() or form.on.data is None:
        return _page(asked, form, RefuseForm(formdata=None), 422)
    decision = moving.Decision(form.on.data, form.area.data or "", form.plan.data or "")
    staff_id, key = signed_in().customer_id, form_guard.arrived_key()
    try:
        return go_to(moving.accept(public_id, decision, staff_id, key, f"{_LIST}?done=accepted"))
    except ChangeRefused as refusal:
        form.on.errors = [refusal.customer_message]
        return _page(asked, form, RefuseForm(formdata=None), 422)


@bp.post(f"{_ONE}/refuse")
def move_refuse(public_id: str) -> Response | BaseResponse:
    asked = move_showing.get_for_staff(public_id)
    form = RefuseForm()
    if not form.validate():
        return _page(asked, AcceptMoveForm(formdata=None), form, 422)
    staff_id, key = signed_in().customer_id, form_guard.arrived_key()
    why = form.why.data or ""
    try:
        return go_to(moving.refuse(public_id, why, staff_id, key, f"{_LIST}?done=refused"))
    except ChangeRefused as refusal:
        form.why.errors = [refusal.customer_message]
        return _page(asked, AcceptMoveForm(formdata=None), form, 422)


def _page(
    asked: move_showing.AskedMove, accept: AcceptMoveForm, refuse: RefuseForm, status: int = 200
) -> Response:
    choices = move_showing.find_choices(asked.account_id)
    accept.offer(choices)
    data_access.note_list(
        asking.reader(), ("name", "number", "address"), "moves", [asked.account_id]
    )
    return render(
        "staff/move.html", None, status, asked=asked, choices=choices, accept=accept, refuse=refuse
    )
