"""Unpaid bills of one account: leaving it alone for a while, and its group."""

from __future__ import annotations

from flask import Response, url_for
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing.dunning import resting
from blueprints.billing.dunning.resting import GroupUnknown, RestDayUnfit
from blueprints.staff import bp
from blueprints.staff import unpaid as service
from blueprints.staff.forms import GroupForm, RestForm
from blueprints.staff.views import asking
from core import form_guard
from core.forms import shown
from core.htmx import go_to, render
from core.sessions import signed_in

_PATH = "/accounts/<public_id>/unpaid"
DONE = ("rested", "ended", "grouped")


@bp.get(_PATH)
def unpaid(public_id: str) -> Response:
    return _page(public_id, shown(RestForm), GroupForm(formdata=None))


@bp.post(_PATH)
def unpaid_rest(public_id: str) -> Response | BaseResponse:
    form = RestForm()
    if form.validate():
        try:
            return go_to(
                resting.rest(
                    service.find_account_id(public_id),
                    form.day,
                    form.reason.data or "",
                    signed_in().customer_id,
                    form_guard.arrived_key(),
                    _done(public_id, "rested"),
                )
            )
        except RestDayUnfit as refusal:
            form.until.errors = [refusal.customer_message]
    return _page(public_id, form, GroupForm(formdata=None), 422)


@bp.post(f"{_PATH}/<rest_id>/end")
def unpaid_rest_end(public_id: str, rest_id: str) -> BaseResponse:
    return go_to(
        resting.end_rest(
            service.find_account_id(public_id),
            rest_id,
            form_guard.arrived_key(),
            _done(public_id, "ended"),
        )
    )


@bp.post(f"{_PATH}/group")
def unpaid_group(public_id: str) -> Response | BaseResponse:
    form = GroupForm()
    try:
        return go_to(
            resting.choose_group(
                service.find_account_id(public_id),
                form.group.data or "",
                form_guard.arrived_key(),
                _done(public_id, "grouped"),
            )
        )
    except GroupUnknown as refusal:
        form.group.errors = [refusal.customer_message]
    return _page(public_id, shown(RestForm), form, 422)


def _done(public_id: str, word: str) -> str:
    return f"{url_for('staff.unpaid', public_id=public_id)}?done={word}"


def _page(public_id: str, form: RestForm, group: GroupForm, status: int = 200) -> Response:
    page = service.look(public_id, asking.reader())
    group.offer(page.groups, page.group_code)
    return render(
        "staff/unpaid.html",
        None,
        status,
        page=page,
        form=form,
        group=group,
        done=asking.done(DONE),
    )
