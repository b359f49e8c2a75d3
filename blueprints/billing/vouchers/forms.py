"""Shape of what is typed from a voucher, and of a new batch."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l
from wtforms import IntegerField, RadioField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, InputRequired, Length, NumberRange

from blueprints.billing.vouchers.batches import MOST
from core.card_numbers import one_line
from core.forms import AmountField, DayField, PortalForm


class RedeemForm(PortalForm):
    voucher = StringField(
        _l("Code of the voucher"),
        validators=[DataRequired(_l("Type the code of the voucher.")), Length(max=60)],
    )


PAGE, CSV = "page", "csv"


class BatchForm(PortalForm):
    name = StringField(
        _l("Name"),
        filters=[one_line],
        validators=[DataRequired(_l("Enter the name.")), Length(max=80)],
    )
    amount = AmountField(_l("Amount of each"))
    count = IntegerField(
        _l("How many"),
        validators=[
            InputRequired(_l("Enter how many.")),
            NumberRange(1, MOST, _l("Enter a number from 1 to 1000.")),
        ],
    )
    expires_on = DayField(_l("Last day, if there is one"))
    form = RadioField(
        _l("How you want the codes"),
        choices=[
            SelectChoice(PAGE, _l("A page to print")),
            SelectChoice(CSV, _l("A file for the printer (CSV)")),
        ],
        validators=[DataRequired(_l("Choose how you want the codes."))],
    )
