"""What waits for a second member of staff."""

from __future__ import annotations

from flask import Response
from werkzeug.wrappers import Response as BaseResponse

from blueprints.staff.money import approvals as service
from blueprints.staff.money import bp
from blueprints.staff.money.forms import DecisionForm
from blueprints.staff.views import asking
from core.htmx import go_to, render
from core.sessions import signed_in
from core.step_up import recent_password

DONE = ("approved", "refused")
_LIST = "/staff/approvals"
_PATH = "/approvals/<public_id>"


@bp.get("/approvals")
def approvals() -> Response:
    reader = asking.reader()
    return render(
        "staff/money/approvals.html",
        waiting=service.list_waiting(reader),
        unfinished=service.list_unfinished(reader),
        done=asking.done(DONE),
    )


@bp.get(_PATH)
def approval(public_id: str) -> Response:
    return _page(public_id, DecisionForm(formdata=None))


@bp.post(_PATH)
@recent_password
def approval_post(public_id: str) -> Response | BaseResponse:
    form = DecisionForm()
    if not form.validate():
        return _page(public_id, form, 422)
    payment = service.decide(public_id, signed_in().customer_id, is_yes=form.is_yes)
    done = "approved" if form.is_yes else "refused"
    return go_to(payment or f"{_LIST}?done={done}")


def _page(public_id: str, form: DecisionForm, status: int = 200) -> Response:
    found = service.get_waiting(public_id, asking.reader())
    return render("staff/money/approval.html", None, status, waiting=found, form=form)
