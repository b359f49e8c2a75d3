"""Shape of what is sent to change plans."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l
from wtforms import HiddenField, StringField, TextAreaField
from wtforms.validators import AnyOf, DataRequired, Length

from blueprints.dashboard.plans.quoting import When
from core.forms import DayField, PortalForm


class ChangeForm(PortalForm):
    """That what was shown is wanted; `quote` is its digest."""

    when = HiddenField(validators=[AnyOf([when.value for when in When])])
    on = HiddenField(validators=[Length(max=10)])
    quote = HiddenField(validators=[DataRequired(), Length(max=24)])


class AcceptForm(PortalForm):
    """From which day a change that was asked for counts; with a phone plan, its number."""

    on = DayField(_l("From which day?"), validators=[DataRequired(_l("Choose a day."))])
    number = StringField(_l("Phone number"), validators=[Length(max=40)])


class RefuseForm(PortalForm):
    """Why it cannot be."""

    why = TextAreaField(
        _l("Why not? The customer reads this."),
        validators=[DataRequired(_l("Say why it cannot be.")), Length(max=300)],
    )
