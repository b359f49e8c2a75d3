"""Those who have lost every second factor."""

from __future__ import annotations

from flask import Response
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import losing_factors
from blueprints.staff import bp
from blueprints.staff import resets as service
from blueprints.staff.forms import NoteForm
from blueprints.staff.views import asking
from core.forms import shown
from core.htmx import go_to, render
from core.sessions import signed_in
from core.step_up import recent_password

DONE = ("proofed", "approved", "refused")
_LIST = "/staff/lost-factors"


@bp.get("/lost-factors")
def resets() -> Response:
    found = service.list_resets(asking.reader())
    return render("staff/resets.html", resets=found, done=asking.done(DONE))


@bp.get("/lost-factors/<public_id>/proof")
def reset_proof(public_id: str) -> Response:
    return _page(public_id, shown(NoteForm))


@bp.post("/lost-factors/<public_id>/proof")
@recent_password
def reset_proof_post(public_id: str) -> Response | BaseResponse:
    form = NoteForm()
    if not form.validate():
        return _page(public_id, form, 422)
    losing_factors.proof_reset(public_id, signed_in().customer_id, form.note.data or "")
    return go_to(f"{_LIST}?done=proofed")


@bp.post("/lost-factors/<public_id>/approve")
@recent_password
def reset_approve(public_id: str) -> BaseResponse:
    losing_factors.approve_reset(public_id, signed_in().customer_id)
    return go_to(f"{_LIST}?done=approved")


@bp.post("/lost-factors/<public_id>/refuse")
@recent_password
def reset_refuse(public_id: str) -> BaseResponse:
    losing_factors.refuse_reset(public_id, signed_in().customer_id)
    return go_to(f"{_LIST}?done=refused")


def _page(public_id: str, form: NoteForm, status: int = 200) -> Response:
    found = service.get_reset(public_id, asking.reader())
    return render("staff/reset_proof.html", None, status, reset=found, form=form)
