"""Shape of a price that is to be planned."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l
from wtforms import RadioField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, InputRequired

from blueprints.billing.prices import Existing
from core.forms import AmountField, DayField, PortalForm


class PriceForm(PortalForm):
    price = AmountField(_l("New price a month, before tax"))
    from_on = DayField(_l("From which day?"), validators=[InputRequired(_l("Choose a day."))])
    existing = RadioField(
        _l("Those who have the plan then"),
        choices=[
            SelectChoice(Existing.KEEP.value, _l("keep their price")),
            SelectChoice(Existing.DAY.value, _l("follow on that day")),
            SelectChoice(Existing.BILL_DAY.value, _l("follow from their next bill day on")),
        ],
        validators=[DataRequired(_l("Choose what it means for those who have the plan."))],
    )
