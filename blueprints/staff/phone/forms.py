"""Shape of what staff type about telephone numbers."""

from __future__ import annotations

from collections.abc import Sequence

from flask_babel import lazy_gettext as _l
from wtforms import SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, Length, Optional

from core.forms import DayField, PortalForm


class GiveForm(PortalForm):
    """Which number, for which subscription (its public id)."""

    number = StringField(
        _l("Phone number"),
        validators=[DataRequired(_l("Enter the phone number.")), Length(max=40)],
    )
    since = DayField(
        _l("In use since"),
        validators=[Optional()],
    )
    subscription = SelectField(_l("Plan"), validate_choice=False)

    def offer(self, plans: Sequence[tuple[str, str]]) -> None:
        """Let one of these be chosen: public ids of subscriptions with the names of their plans."""
        self.subscription.choices = [SelectChoice(value, name) for value, name in plans]
