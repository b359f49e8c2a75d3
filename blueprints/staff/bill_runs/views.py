"""The pages of bill runs."""

from __future__ import annotations

from flask import Response, request
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing import asked_runs
from blueprints.billing.asked_runs import RunDetail
from blueprints.billing.errors import BillRunUnderWay
from blueprints.staff.bill_runs import bp
from blueprints.staff.bill_runs.forms import PreviewForm
from blueprints.staff.views import asking
from core import data_access, form_guard, worker
from core.form_keys import once
from core.forms import shown
from core.htmx import go_to, nothing_new, render
from core.sessions import signed_in
from core.step_up import recent_password

FIELDS = ("number", "amounts of bills")
PURPOSE = "bill run"
_LIST = "/staff/bill-runs/"


@bp.get("/", endpoint="list")
def run_list() -> Response:
    *_, today = asked_runs.latest_day()
    return _list_page(shown(PreviewForm, as_of_on=today))


@bp.post("/")
def preview() -> Response | BaseResponse:
    """Have a day's run added up; it bills nothing."""
    form = PreviewForm()
    as_of_on = form.as_of_on.data if form.validate() else None
    if as_of_on is None:
        return _list_page(form, 422)
    by_id = signed_in().customer_id
    try:
        return go_to(
            once(
                form_guard.arrived_key(),
                lambda session: _LIST + asked_runs.ask_preview(session, as_of_on, by_id),
            )
        )
    except BillRunUnderWay as refusal:
        form.as_of_on.errors = [refusal.customer_message]
    return _list_page(form, 409)


@bp.get("/<public_id>")
def run(public_id: str) -> Response:
    found = asked_runs.get_run(public_id)
    if request.args.get("since", type=int) == found.revision and found.is_open:
        return nothing_new()
    if found.account_ids:
        data_access.note_list(asking.reader(), FIELDS, PURPOSE, found.account_ids)
    return _page(found)


@bp.post("/<public_id>")
@recent_password
def start(public_id: str) -> BaseResponse:
    """Have the worker bill what the page shows."""
    by_id = signed_in().customer_id
    return go_to(
        once(
            form_guard.arrived_key(),
            lambda session: _LIST + asked_runs.ask_run(session, public_id, by_id),
        )
    )


@bp.post("/<public_id>/stop")
def stop(public_id: str) -> BaseResponse:
    by_id = signed_in().customer_id

    def work(session: Session) -> str:
        asked_runs.stop(session, public_id, by_id)
        return _LIST + public_id

    return go_to(once(form_guard.arrived_key(), work))


def _list_page(form: PreviewForm, status: int = 200) -> Response:
    return render("staff/bill_runs.html", None, status, runs=asked_runs.list_runs(), form=form)


def _page(found: RunDetail) -> Response:
    return render(
        "staff/bill_run.html",
        "bill_run",
        run=found,
        is_waiting=found.is_open and not worker.is_alive(),
    )
