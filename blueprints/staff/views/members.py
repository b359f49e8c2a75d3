"""The ISP's own people, for administrators."""

from __future__ import annotations

from flask import Response
from werkzeug.wrappers import Response as BaseResponse

from blueprints.staff import bp
from blueprints.staff import members as service
from blueprints.staff.errors import EmailUnclear, LastAdministrator, MemberExists
from blueprints.staff.forms import MemberForm, RoleForm
from blueprints.staff.views import asking
from core import form_guard
from core.form_keys import once
from core.forms import shown
from core.htmx import go_to, render
from core.sessions import signed_in
from core.step_up import recent_password
from models import StaffRole

DONE = ("written", "changed")
_LIST = "/staff/members?done=changed"


@bp.get("/members")
def members() -> Response:
    return _page(shown(MemberForm))


@bp.post("/members")
@recent_password
def member_add() -> Response | BaseResponse:
    form = MemberForm()
    if form.validate():
        try:
            service.add_and_write(
                form.name.data or "",
                form.email.data or "",
                StaffRole(form.role.data),
                signed_in().name,
                form_guard.arrived_key(),
            )
            return go_to("/staff/members?done=written")
        except (EmailUnclear, MemberExists) as refusal:
            form.email.errors = [refusal.customer_message]
    return _page(form, 422)


@bp.get("/members/<public_id>")
def member(public_id: str) -> Response:
    return _member_page(public_id, shown(RoleForm))


@bp.post("/members/<public_id>")
@recent_password
def member_change(public_id: str) -> Response | BaseResponse:
    """Another role, or shut out, or let in again: one form, so that it is decided at once."""
    form = RoleForm()
    if not form.validate():
        return _member_page(public_id, form, 422)
    try:
        return go_to(
            once(
                form_guard.arrived_key(),
                lambda session: service.change(session, public_id, form.role.data, _LIST),
            )
        )
    except LastAdministrator as refusal:
        form.role.errors = [refusal.customer_message]
    return _member_page(public_id, form, 422)


def _page(form: MemberForm, status: int = 200) -> Response:
    found = service.list_members()
    return render(
        "staff/members.html", None, status, members=found, form=form, done=asking.done(DONE)
    )


def _member_page(public_id: str, form: RoleForm, status: int = 200) -> Response:
    found = service.get_member(public_id)
    if form.role.data is None:
        form.role.data = service.DISABLED if found.is_disabled else found.role
    return render("staff/member.html", None, status, member=found, form=form)
