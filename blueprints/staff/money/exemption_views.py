"""Taxes that an account does not pay: granting an exemption, and ending it."""

from __future__ import annotations

from flask import Response
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from werkzeug.wrappers import Response as BaseResponse
from wtforms import SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, InputRequired, Length, ValidationError

from blueprints.billing import exempting
from blueprints.billing.exempting import ExemptionRefused
from blueprints.staff.money import bp, exemptions, statement
from blueprints.staff.views import asking
from core import form_guard
from core.card_numbers import one_line
from core.forms import DayField, PortalForm, shown
from core.htmx import go_to, render
from core.sessions import signed_in
from core.step_up import recent_password

DONE = ("exempted", "ended")
_ALL = "/accounts/<public_id>/exemptions"
_ONE = f"{_ALL}/<tax_code>"
_SAY_WHY = _l("Give the number of the certificate, or say why.")


class ExemptForm(PortalForm):
    tax = SelectField(_l("Tax"))
    from_on = DayField(_l("First day"), validators=[InputRequired(_l("Choose a day."))])
    to_on = DayField(_l("Last day"))
    reason = StringField(
        _l("Certificate or reason"),
        filters=[one_line],
        validators=[
            DataRequired(_SAY_WHY),
            Length(min=2, max=exempting.LONGEST_REASON, message=_SAY_WHY),
        ],
    )

    def offer(self, taxes: list[tuple[str, str]]) -> None:
        """The taxes to choose from, as (code, name)."""
        self.tax.choices = [SelectChoice(code, name) for code, name in taxes]

    def validate_to_on(self, field: DayField) -> None:
        if field.data and self.from_on.data and field.data < self.from_on.data:
            raise ValidationError(_("The last day is before the first one."))


class EndForm(PortalForm):
    last_on = DayField(
        _l("Last day without the tax"), validators=[InputRequired(_l("Choose a day."))]
    )


@bp.get(_ALL)
def exemption_list(public_id: str) -> Response:
    return _list_page(public_id, shown(ExemptForm, from_on=exemptions.today()))


@bp.post(_ALL)
@recent_password
def exemption_add(public_id: str) -> Response | BaseResponse:
    form = ExemptForm()
    form.offer(exempting.list_taxes())
    if not form.validate() or form.from_on.data is None:
        return _list_page(public_id, form, 422)
    wish = exempting.Wish(
        statement.find_id(public_id),
        form.tax.data,
        form.from_on.data,
        form.to_on.data,
        form.reason.data or "",
        signed_in().name,
    )
    try:
        return go_to(exemptions.exempt(public_id, wish, form_guard.arrived_key()))
    except ExemptionRefused as refusal:
        form.tax.errors = [refusal.customer_message]
    return _list_page(public_id, form, 422)


def _list_page(public_id: str, form: ExemptForm, status: int = 200) -> Response:
    page = exemptions.look(public_id, asking.reader())
    form.offer(page.taxes)
    return render(
        "staff/money/exemptions.html", None, status, page=page, form=form, done=asking.done(DONE)
    )


@bp.get(_ONE)
def exemption(public_id: str, tax_code: str) -> Response:
    return _page(public_id, tax_code, shown(EndForm, last_on=exemptions.today()))


@bp.post(_ONE)
@recent_password
def exemption_end(public_id: str, tax_code: str) -> Response | BaseResponse:
    form = EndForm()
    if not form.validate() or form.last_on.data is None:
        return _page(public_id, tax_code, form, 422)
    try:
        return go_to(
            exemptions.end(
                public_id,
                tax_code,
                form.last_on.data,
                signed_in().name,
                form_guard.arrived_key(),
            )
        )
    except ExemptionRefused as refusal:
        form.last_on.errors = [refusal.customer_message]
    return _page(public_id, tax_code, form, 422)


def _page(public_id: str, tax_code: str, form: EndForm, status: int = 200) -> Response:
    head, row = exemptions.get(public_id, tax_code, asking.reader())
    return render("staff/money/exemption.html", None, status, head=head, row=row, form=form)
