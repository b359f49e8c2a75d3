"""Call records, for staff: giving the switch's files, and what became of them."""

from __future__ import annotations

import hashlib

from flask import Response, request
from flask_babel import lazy_gettext as _l
from werkzeug.wrappers import Response as BaseResponse
from wtforms import TextAreaField

from blueprints.staff.errors import ImportImpossible
from blueprints.staff.phone import bp, call_files
from blueprints.staff.views import asking
from core import form_guard
from core.downloads import csv_answer
from core.forms import PortalForm, shown
from core.htmx import go_to, render
from core.sessions import signed_in

_LIST = "/calls"


class CallsForm(PortalForm):
    """Rows that are pasted, in the place of a file."""

    rows = TextAreaField(_l("Or paste its rows here"))


@bp.get(_LIST)
def calls() -> Response:
    return _page(shown(CallsForm))


@bp.post(_LIST)
def calls_take() -> Response | BaseResponse:
    # What reads files of calls is imported where somebody gives one.
    from blueprints.staff.phone import call_importing

    form = CallsForm()
    given = request.files.get("file")
    content = given.read() if given is not None else b""
    name = (given.filename or "") if given is not None else ""
    if not content:
        content, name = (form.rows.data or "").encode("utf-8", "surrogatepass"), ""
    key = form_guard.arrived_key(file=hashlib.sha256(content).hexdigest())
    staff_id = signed_in().customer_id
    try:
        return go_to(call_importing.take(content, name, staff_id, key, f"/staff{_LIST}/{{id}}"))
    except ImportImpossible as error:
        form.rows.errors = [str(error)]
    return _page(form, 422)


@bp.get(f"{_LIST}/<public_id>")
def call_import(public_id: str) -> Response:
    return render(
        "staff/phone/call_import.html", file=call_files.get_file(public_id, asking.reader())
    )


@bp.get(f"{_LIST}/<public_id>/csv")
def call_refused(public_id: str) -> Response:
    """The refused rows with why, to be mended and given again."""
    columns, rows = call_files.get_refused(public_id, asking.reader())
    return csv_answer("refused_calls.csv", columns, rows)


def _page(form: CallsForm, status: int = 200) -> Response:
    return render("staff/phone/calls.html", None, status, form=form, files=call_files.list_files())
