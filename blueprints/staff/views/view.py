"""Seeing the portal as a customer does, and coming back."""

from __future__ import annotations

from flask import Response, session
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import service as auth
from blueprints.auth.asking import begin_anew, browser
from blueprints.staff import bp, looking, viewing
from blueprints.staff.forms import ReasonForm
from blueprints.staff.views import asking
from core.forms import shown
from core.htmx import go_to, render
from core.sessions import PortalSession, signed_in
from core.step_up import recent_password

_PATH = "/accounts/<account_id>/people/<public_id>/view"


@bp.get(_PATH)
def view(account_id: str, public_id: str) -> Response:
    return _page(account_id, public_id, shown(ReasonForm))


@bp.post(_PATH)
@recent_password
def view_begin(account_id: str, public_id: str) -> Response | BaseResponse:
    form = ReasonForm()
    if not form.validate():
        return _page(account_id, public_id, form, 422)
    token = viewing.begin(account_id, public_id, form.reason.data or "", signed_in(), browser())
    return _become(token, f"/a/{account_id}/")


@bp.post("/view/end")
def view_end() -> BaseResponse:
    person = signed_in()
    token = viewing.end(person) if person.viewer_id is not None else None
    if token is None:
        if person.viewer_id is None:
            return go_to("/")
        if isinstance(session, PortalSession):
            session.finish()
        return begin_anew("ended")
    return _become(token, "/staff/")


def _become(token: str, path: str) -> BaseResponse:
    if isinstance(session, PortalSession):
        session.begin(token, auth.find_person(token))
    response = go_to(path)
    # Pages of the one are not to be seen as the other, by Back or from a cache.
    response.headers["Clear-Site-Data"] = '"cache"'
    return response


def _page(account_id: str, public_id: str, form: ReasonForm, status: int = 200) -> Response:
    page = looking.look_at_person(account_id, public_id, asking.role(), asking.reader())
    return render("staff/view.html", None, status, page=page, form=form)
