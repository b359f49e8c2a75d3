"""Disputes as staff read and decide them. Each look is noted."""

from __future__ import annotations

from flask import Response
from flask_babel import lazy_gettext as _l
from werkzeug.wrappers import Response as BaseResponse
from wtforms import RadioField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired

from blueprints.billing.disputes import service
from blueprints.billing.disputes.errors import DisputeOver, LineNotDisputable, WaitsForApproval
from blueprints.billing.disputes.forms import TextForm
from blueprints.staff.money import bp, statement
from blueprints.staff.views import asking
from core import data_access, form_guard
from core.forms import shown
from core.htmx import go_to, render
from core.sessions import signed_in
from core.step_up import recent_password

DONE = ("answered", "granted", "refused")
_ONE = "/disputes/<public_id>"
ANSWER, GRANT, REFUSE = "answer", "grant", "refuse"


class AnswerForm(TextForm):
    """What staff write, and whether it decides."""

    what = RadioField(
        _l("What it is"),
        choices=[
            SelectChoice(ANSWER, _l("An answer; it stays open")),
            SelectChoice(GRANT, _l("Yes: give the line back by a credit note")),
            SelectChoice(REFUSE, _l("No: the bill stays as it is")),
        ],
        validators=[DataRequired(_l("Decide."))],
    )


@bp.get("/disputes")
def disputes() -> Response:
    found, decided = service.list_open(), service.list_decided()
    account_ids = sorted({row.account_id for row in (*found, *decided)})
    data_access.note_list(asking.reader(), ("name", "number"), "disputes", account_ids)
    return render("staff/money/disputes.html", disputes=found, decided=decided)


@bp.get(_ONE)
def dispute(public_id: str) -> Response:
    return _page(public_id, shown(AnswerForm, what=ANSWER))


@bp.post(_ONE)
@recent_password
def dispute_post(public_id: str) -> Response | BaseResponse:
    form = AnswerForm()
    if not form.validate():
        return _page(public_id, form, 422)
    try:
        return go_to(_decide(public_id, form.what.data, form.text.data or ""))
    except (DisputeOver, LineNotDisputable, WaitsForApproval) as refusal:
        form.what.errors = [refusal.customer_message]
    return _page(public_id, form, 422)


def _decide(public_id: str, what: str, text: str) -> str:
    """Do what the form says; where it stands now."""
    staff_id, key = signed_in().customer_id, form_guard.arrived_key()
    path = f"/staff/disputes/{public_id}?done="
    if what == GRANT:
        return service.grant(public_id, text, staff_id, key, f"{path}granted")
    if what == REFUSE:
        return service.refuse(public_id, text, staff_id, key, f"{path}refused")
    return service.write(
        service.account_of(public_id),
        public_id,
        text,
        service.Writer(staff_id, is_staff=True),
        key,
        f"{path}answered",
        asking.secret(),
    )


def _page(public_id: str, form: AnswerForm, status: int = 200) -> Response:
    thread = service.get(public_id)
    statement.open_account(thread.row.account_public_id, asking.reader())
    return render(
        "staff/money/dispute.html",
        None,
        status,
        thread=thread,
        form=form,
        done=asking.done(DONE),
    )
