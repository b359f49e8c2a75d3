"""The pages of somebody who was invited."""

from __future__ import annotations

from flask import Response, g, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import asking
from blueprints.dashboard.people import accepting, bp
from blueprints.dashboard.people.errors import AlreadyShares, InvitationDead
from blueprints.dashboard.people.forms import LONGEST_NAME, InvitedForm
from core.access import greet
from core.form_guard import arrived_key
from core.htmx import go_to, render
from core.sessions import signed_in
from core.throttle import TooManyAttempts


@bp.get("/invitation/<token>")
def invitation(token: str) -> Response:
    try:
        return _page(InvitedForm(formdata=None), token)
    except InvitationDead as dead:
        return _dead_page(dead)


@bp.post("/invitation/<token>")
def invitation_post(token: str) -> Response | BaseResponse:
    form = InvitedForm()
    try:
        if not asking.is_well_formed(form, lambda: _words_of(form, token)) or not _register(
            form, token
        ):
            return _page(form, token, 422)
    except InvitationDead as dead:
        return _dead_page(dead)
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, url_for("auth.sign_in"))
    return go_to("/sign-in?done=registered")


def _register(form: InvitedForm, token: str) -> bool:
    """Whether the customer was made; if not, the form says why."""
    with asking.RefusalsAt(form):
        accepting.register(
            token,
            form.name.data or "",
            form.sign_in_id.data or "",
            form.password.data or "",
            asking.rules(),
        )
    return not form.errors


@bp.post("/invitation/<token>/strength")
def invitation_strength(token: str) -> Response:
    """What there is to say of the password that is being typed."""
    typed = [request.form.get(name, "") for name in ("name", "sign_in_id")]
    try:
        return asking.strength(accepting.words_of(token, *typed))
    except InvitationDead:
        return asking.say("")


@bp.post("/invitation/<token>/accept")
def invitation_accept(token: str) -> Response | BaseResponse:
    try:
        return go_to(accepting.accept(token, signed_in().customer_id, arrived_key()))
    except AlreadyShares as shares:
        return go_to(f"/a/{shares.account_public_id}/")
    except InvitationDead as dead:
        return _dead_page(dead)


def _words_of(form: InvitedForm, token: str) -> list[str]:
    """What is guessed first of the password. Raises InvitationDead."""
    return accepting.words_of(token, (form.name.data or "")[:LONGEST_NAME], "")


def _page(form: InvitedForm, token: str, status: int = 200) -> Response:
    opened = accepting.open_invitation(token)
    page = render(
        "people/invitation.html",
        None,
        status,
        form=form,
        opened=opened,
        token=token,
        strength_path=url_for("people.invitation_strength", token=token),
    )
    return page if g.get("is_personal") else asking.set_pre_cookie(page)


def _dead_page(dead: InvitationDead) -> Response:
    greet()
    return render("people/invitation_dead.html", None, 410, why=dead.why)
