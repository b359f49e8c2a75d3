"""Shape of the pay form."""

from __future__ import annotations

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import HiddenField, RadioField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, Length, ValidationError

from blueprints.billing.starting import Choice
from core.forms import PortalForm
from core.isp import current_isp
from core.money import AmountUnreadable, Money, format_plain, parse_money
from core.words import language


class PayForm(PortalForm):
    """`amount_minor` is set once the form is valid and another amount was chosen."""

    choice = RadioField(
        _l("How much?"),
        choices=[SelectChoice(choice.value, choice.value) for choice in Choice],
        validators=[InputRequired(_l("Choose how much to pay."))],
    )
    amount = StringField(_l("Amount"), validators=[Length(max=40)])
    invoice = HiddenField(validators=[Length(max=24)])
    method = StringField(_l("How?"), validators=[Length(max=24)])
    amount_minor: int | None = None

    def validate_amount(self, field: StringField) -> None:
        if self.choice.data != Choice.OTHER:
            return
        currency = current_isp().currency
        try:
            self.amount_minor = parse_money(field.data or "", currency, language())
        except AmountUnreadable:
            raise ValidationError(
                _("Enter the amount like %(example)s.", example=format_plain(Money(1999, currency)))
            ) from None
