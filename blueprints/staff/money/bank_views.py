"""Bank transfers that staff match by hand."""

from __future__ import annotations

from flask import Response
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from werkzeug.wrappers import Response as BaseResponse
from wtforms import HiddenField, RadioField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, Length, ValidationError

from blueprints.billing import bank_import
from blueprints.billing.errors import AccountUnknown
from blueprints.staff.money import bank_lines, bp
from blueprints.staff.views import asking
from core import form_guard
from core.forms import PortalForm, shown
from core.htmx import go_to, render
from core.sessions import signed_in

DONE = ("booked", "ignored")
CONFIRM, OTHER, IGNORE = "confirm", "other", "ignore"
_ONE = "/bank-lines/<public_id>"
_LIST = "/staff/bank-lines?done="


class MatchForm(PortalForm):
    what = RadioField(
        _l("What it is"),
        choices=[
            SelectChoice(CONFIRM, _l("A payment for the account that is proposed")),
            SelectChoice(OTHER, _l("A payment for the account with this number:")),
            SelectChoice(IGNORE, _l("No payment of a customer")),
        ],
        validators=[DataRequired(_l("Choose what it is."))],
    )
    number = StringField(_l("Account number"), validators=[Length(max=40)])
    proposed = HiddenField(validators=[Length(max=40)])

    def validate_number(self, field: StringField) -> None:
        if self.what.data == OTHER and not (field.data or "").strip():
            raise ValidationError(_("Enter the account number."))


@bp.get("/bank-lines")
def bank_line_list() -> Response:
    reader = asking.reader()
    return render(
        "staff/money/bank_lines.html",
        lines=bank_lines.list_open(reader),
        aside=bank_lines.list_aside(reader),
        done=asking.done(DONE),
    )


@bp.get(_ONE)
def bank_line(public_id: str) -> Response:
    return _page(public_id, shown(MatchForm))


@bp.post(_ONE)
def bank_line_post(public_id: str) -> Response | BaseResponse:
    form = MatchForm()
    if not form.validate():
        return _page(public_id, form, 422)
    staff_id, key = signed_in().customer_id, form_guard.arrived_key()
    if form.what.data == IGNORE:
        return go_to(bank_import.ignore(public_id, staff_id, key, f"{_LIST}ignored"))
    try:
        # What is confirmed is the account that the page showed, whatever is proposed by now.
        number = form.proposed.data if form.what.data == CONFIRM else form.number.data
        return go_to(bank_import.assign(public_id, number or "", staff_id, key, f"{_LIST}booked"))
    except AccountUnknown as refusal:
        form.number.errors = [refusal.customer_message]
    return _page(public_id, form, 422)


def _page(public_id: str, form: MatchForm, status: int = 200) -> Response:
    line = bank_lines.get_open(public_id, asking.reader())
    return render("staff/money/bank_line.html", None, status, line=line, form=form)
