"""The pages on which an account's owner says who shares it."""

from __future__ import annotations

from flask import Response, current_app, g, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import asking
from blueprints.dashboard.people import bp, service
from blueprints.dashboard.people.errors import LastOwner
from blueprints.dashboard.people.forms import InviteForm, RoleForm
from blueprints.dashboard.settings.errors import ContactUnreadable
from core.form_guard import arrived_key
from core.forms import shown
from core.htmx import go_to, render
from core.sessions import signed_in
from core.step_up import recent_password
from core.throttle import TooManyAttempts
from models import Role

DONE_WORDS = ("invited_person", "invitation_withdrawn", "role_changed", "person_removed")


def _list_path() -> str:
    account = signed_in().account
    return url_for("people.person_list", account_public_id=account.public_id if account else "")


@bp.get("/a/<account_public_id>/people")
def person_list() -> Response:
    done = request.args.get("done")
    return render(
        "people/person_list.html",
        page=service.list_people(g.account_id),
        own_id=signed_in().customer_id,
        done=done if done in DONE_WORDS else None,
    )


# Inviting ---------------------------------------------------------------------------------------


@bp.get("/a/<account_public_id>/people/invite")
@recent_password
def invite() -> Response:
    return _invite_page(shown(InviteForm, role=Role.VIEWER.value))


@bp.post("/a/<account_public_id>/people/invite")
@recent_password
def invite_post() -> Response | BaseResponse:
    form = InviteForm()
    if not form.validate():
        return _invite_page(form, 422)
    try:
        path = service.invite(
            g.account_id,
            signed_in().customer_id,
            form.invitee.data or "",
            Role(form.role.data),
            arrived_key(),
            current_app.config["PORTAL"].secret,
        )
    except ContactUnreadable as refusal:
        form.invitee.errors = [refusal.customer_message]
        return _invite_page(form, 422)
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, _list_path())
    return go_to(path)


def _invite_page(form: InviteForm, status: int = 200) -> Response:
    return render("people/invite.html", None, status, form=form)


@bp.post("/a/<account_public_id>/people/invitations/<public_id>/withdraw")
def invitation_withdraw(public_id: str) -> BaseResponse:
    customer_id = signed_in().customer_id
    return go_to(service.withdraw(g.account_id, customer_id, public_id, arrived_key()))


# One person -------------------------------------------------------------------------------------


@bp.get("/a/<account_public_id>/people/<public_id>")
@recent_password
def person(public_id: str) -> Response:
    found = service.get_person(g.account_id, public_id)
    return _person_page(shown(RoleForm, role=found.role), public_id)


@bp.post("/a/<account_public_id>/people/<public_id>")
@recent_password
def person_post(public_id: str) -> Response | BaseResponse:
    form = RoleForm()
    if not form.validate():
        return _person_page(form, public_id, 422)
    try:
        path = service.change_role(g.account_id, public_id, Role(form.role.data), arrived_key())
    except LastOwner as refusal:
        form.role.errors = [refusal.customer_message]
        return _person_page(form, public_id, 422)
    return go_to(path)


@bp.post("/a/<account_public_id>/people/<public_id>/remove")
@recent_password
def person_remove(public_id: str) -> Response | BaseResponse:
    try:
        path = service.remove(g.account_id, public_id, arrived_key())
    except LastOwner as refusal:
        form = RoleForm(formdata=None, data={"role": Role.OWNER.value})
        form.role.errors = [refusal.customer_message]
        return _person_page(form, public_id, 422)
    return go_to(path)


@bp.get("/a/<account_public_id>/people/<public_id>/remove")
def person_remove_page(public_id: str) -> BaseResponse:
    """Where a removal leads that had to wait for the password: back to the person."""
    service.get_person(g.account_id, public_id)
    return go_to(f"{_list_path()}/{public_id}")


def _person_page(form: RoleForm, public_id: str, status: int = 200) -> Response:
    found = service.get_person(g.account_id, public_id)
    is_self = found.customer_id == signed_in().customer_id
    return render("people/person.html", None, status, form=form, person=found, is_self=is_self)


# Leaving ----------------------------------------------------------------------------------------


@bp.get("/settings/leave/<public_id>")
def leave(public_id: str) -> Response:
    return _leave_page(public_id)


@bp.post("/settings/leave/<public_id>")
def leave_post(public_id: str) -> Response | BaseResponse:
    try:
        path = service.leave(public_id, signed_in().customer_id, arrived_key())
    except LastOwner as refusal:
        return _leave_page(public_id, refusal.customer_message, 422)
    return go_to(path)


def _leave_page(public_id: str, refusal: str = "", status: int = 200) -> Response:
    account = service.get_shared(signed_in().customer_id, public_id)
    if account.is_last_owner and not refusal:
        refusal = LastOwner().customer_message
    return render(
        "people/leave.html",
        None,
        status,
        refusal=refusal,
        number=account.number,
        public_id=public_id,
    )
