"""Shape of the form that asks what a day's run would bill."""

from __future__ import annotations

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms.validators import InputRequired, ValidationError

from blueprints.billing import asked_runs
from core.forms import DayField, PortalForm
from core.words import format_day


class PreviewForm(PortalForm):
    as_of_on = DayField(_l("Day"), name="day", validators=[InputRequired(_l("Choose a day."))])

    def validate_as_of_on(self, field: DayField) -> None:
        first_on, last_on, _today = asked_runs.latest_day()
        if field.data is not None and not first_on <= field.data <= last_on:
            raise ValidationError(
                _(
                    "Choose a day from %(first)s to %(last)s.",
                    first=format_day(first_on),
                    last=format_day(last_on),
                )
            )
