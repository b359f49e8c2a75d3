"""Changes of plans that wait for staff: whether they can be done, and from when."""

from __future__ import annotations

from flask import Response
from werkzeug.wrappers import Response as BaseResponse

from blueprints.dashboard.plans import changing, move_showing, showing
from blueprints.dashboard.plans.errors import ChangeRefused
from blueprints.dashboard.plans.forms import AcceptForm, RefuseForm
from blueprints.lines.phone import numbers
from blueprints.lines.phone.errors import NumberRefused
from blueprints.staff import bp
from blueprints.staff.views import asking
from core import clock, data_access, form_guard
from core.forms import shown
from core.htmx import go_to, render
from core.isp import current_isp
from core.sessions import signed_in

DONE = ("accepted", "refused")
_LIST = "/staff/plan-changes"
_ONE = "/plan-changes/<public_id>"


@bp.get("/plan-changes")
def plan_changes() -> Response:
    asked = showing.list_asked()
    moves = move_showing.list_asked()
    account_ids = sorted({row.account_id for row in asked} | {row.account_id for row in moves})
    fields = ("name", "number", "address") if moves else ("name", "number")
    data_access.note_list(asking.reader(), fields, "plan changes", account_ids)
    return render("staff/plan_changes.html", asked=asked, moves=moves, done=asking.done(DONE))


@bp.get(_ONE)
def plan_change(public_id: str) -> Response:
    today = clock.today(current_isp().timezone)
    return _page(public_id, shown(AcceptForm, on=today), shown(RefuseForm))


@bp.post(f"{_ONE}/accept")
def plan_change_accept(public_id: str) -> Response | BaseResponse:
    form = AcceptForm()
    if not form.validate() or form.on.data is None:
        return _page(public_id, form, RefuseForm(formdata=None), 422)
    staff_id, key = signed_in().customer_id, form_guard.arrived_key()
    path, typed = f"{_LIST}?done=accepted", (form.number.data or "").strip()
    try:
        number = numbers.read(typed) if typed else ""
        return go_to(changing.accept(public_id, form.on.data, staff_id, key, path, number))
    except NumberRefused as refusal:
        form.number.errors = [refusal.customer_message]
        return _page(public_id, form, RefuseForm(formdata=None), 422)
    except ChangeRefused as refusal:
        form.on.errors = [refusal.customer_message]
        return _page(public_id, form, RefuseForm(formdata=None), 422)


@bp.post(f"{_ONE}/refuse")
def plan_change_refuse(public_id: str) -> Response | BaseResponse:
    form = RefuseForm()
    if not form.validate():
        return _page(public_id, AcceptForm(formdata=None), form, 422)
    staff_id, key = signed_in().customer_id, form_guard.arrived_key()
    try:
        return go_to(
            changing.refuse(public_id, form.why.data or "", staff_id, key, f"{_LIST}?done=refused")
        )
    except ChangeRefused as refusal:
        form.why.errors = [refusal.customer_message]
        return _page(public_id, AcceptForm(formdata=None), form, 422)


def _page(public_id: str, accept: AcceptForm, refuse: RefuseForm, status: int = 200) -> Response:
    asked = showing.get_for_staff(public_id)
    data_access.note_list(asking.reader(), ("name", "number"), "plan changes", [asked.account_id])
    return render("staff/plan_change.html", None, status, asked=asked, accept=accept, refuse=refuse)
