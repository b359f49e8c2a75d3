"""Giving the password once more, and coming back to what was being done (bar 28)."""

from __future__ import annotations

from flask import Response, request, session
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import asking, bp, passkeys, service
from blueprints.auth.errors import SignInRefused
from blueprints.auth.forms import ConfirmForm
from core.htmx import go_to, render
from core.paths import own_path
from core.sessions import PortalSession, signed_in
from core.throttle import TooManyAttempts


@bp.get("/confirm")
def confirm() -> Response:
    form = ConfirmForm(formdata=None)
    form.next.data = own_path(request.args.get("next")) or "/"
    return _page(form)


@bp.post("/confirm")
def confirm_post() -> Response | BaseResponse:
    form = ConfirmForm()
    if not form.validate():
        return _page(form, 422)
    person = signed_in()
    try:
        token = service.confirm_password(
            person, form.password.data or "", asking.browser(), asking.rules()
        )
    except SignInRefused:
        form.password.errors = [service.wrong_password()]
        return _page(form, 422)
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, request.full_path)
    if isinstance(session, PortalSession):
        session.begin(token, service.find_person(token))
    return go_to(own_path(form.next.data) or "/")


def _page(form: ConfirmForm, status: int = 200) -> Response:
    return render(
        "auth/confirm.html",
        None,
        status,
        form=form,
        is_refused=request.args.get("done") == "refused",
        options=passkeys.find_options_to_step_up(signed_in()),
    )
