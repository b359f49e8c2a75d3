"""The one-time link of a new staff member: ID and password. Signing in asks for a second factor."""

from __future__ import annotations

from flask import Response, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import asking, judging
from blueprints.auth.asking import rules, set_pre_cookie
from blueprints.auth.errors import LinkDead
from blueprints.auth.forms import WelcomeForm
from blueprints.staff import bp, members
from core.htmx import go_to, render


@bp.get("/join/<token>")
def join(token: str) -> Response:
    try:
        return _page(WelcomeForm(formdata=None), token)
    except LinkDead:
        return render("staff/join_dead.html", None, 410)


@bp.post("/join/<token>")
def join_post(token: str) -> Response | BaseResponse:
    form = WelcomeForm()
    try:
        if not asking.is_well_formed(form, lambda: _words_of(token)) or not _join(form, token):
            return _page(form, token, 422)
    except LinkDead:
        return render("staff/join_dead.html", None, 410)
    return go_to("/sign-in?done=registered")


def _join(form: WelcomeForm, token: str) -> bool:
    """Whether the member may sign in now; if not, the form says why."""
    with asking.RefusalsAt(form):
        members.join(token, form.sign_in_id.data or "", form.password.data or "", rules())
    return not form.errors


@bp.post("/join/<token>/strength")
def join_strength(token: str) -> Response:
    """What there is to say of the password that is being typed."""
    try:
        words = _words_of(token)
    except LinkDead:
        return asking.say("")
    return asking.strength([*words, request.form.get("sign_in_id", "")])


def _words_of(token: str) -> list[str]:
    """What is guessed first of the password of whoever has the link. Raises LinkDead."""
    return judging.words_of_customer(members.find_invited(token).customer_id)


def _page(form: WelcomeForm, token: str, status: int = 200) -> Response:
    invited = members.find_invited(token)
    page = render(
        "staff/join.html",
        None,
        status,
        form=form,
        name=invited.name,
        token=token,
        strength_path=url_for("staff.join_strength", token=token),
    )
    return set_pre_cookie(page)
