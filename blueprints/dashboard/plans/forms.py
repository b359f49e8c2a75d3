"""Shape of what is sent to change plans."""

from __future__ import annotations

from datetime import timedelta

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import HiddenField, SelectField, StringField, TextAreaField
from wtforms.validators import AnyOf, DataRequired, InputRequired, Length, ValidationError

from blueprints.billing.periods import Span
from blueprints.dashboard.plans import changing
from blueprints.dashboard.plans.errors import DayOutOfBounds
from blueprints.dashboard.plans.move_showing import Choices
from blueprints.dashboard.plans.pause_quoting import Situation
from blueprints.dashboard.plans.quoting import When
from core.forms import DayField, PortalForm, stripped


class ChangeForm(PortalForm):
    """That what was shown is wanted; `quote` is its digest."""

    when = HiddenField(validators=[AnyOf([when.value for when in When])])
    on = HiddenField(validators=[Length(max=10)])
    quote = HiddenField(validators=[DataRequired(), Length(max=24)])


class PauseDaysForm(PortalForm):
    """From which day on the account is to be paused, and until when."""

    from_on = DayField(_l("From which day?"), validators=[InputRequired(_l("Choose a day."))])
    until_on = DayField(
        _l("Back again from which day?"), validators=[InputRequired(_l("Choose a day."))]
    )

    @classmethod
    def of_usual(cls, found: Situation) -> PauseDaysForm:
        """The first days that can be chosen."""
        first_on = found.first_on
        until_on = first_on + timedelta(days=found.rules.least_days)
        return cls(formdata=None, data={"from_on": first_on, "until_on": until_on})

    def validate_until_on(self, field: DayField) -> None:
        """Raises ValidationError for a day that is not after the first."""
        if field.data and self.from_on.data and field.data <= self.from_on.data:
            raise ValidationError(_("It has to be back after the first day."))

    @property
    def span(self) -> Span:
        """The days of a valid form."""
        if self.from_on.data is None or self.until_on.data is None:
            raise ValueError("the form is not valid")
        return Span(self.from_on.data, self.until_on.data)


class PauseForm(PortalForm):
    """That the pause that was shown is wanted; `quote` is its digest."""

    quote = HiddenField(validators=[DataRequired(), Length(max=24)])


class EndPauseForm(PauseForm):
    """That its end today is wanted, as it was shown."""


class AcceptForm(PortalForm):
    """From which day a change that was asked for counts; with a phone plan, its number."""

    on = DayField(_l("From which day?"), validators=[DataRequired(_l("Choose a day."))])
    number = StringField(_l("Phone number"), validators=[Length(max=40)])


class MoveForm(PortalForm):
    """Where somebody moves to."""

    street = TextAreaField(
        _l("New address: street and number"),
        filters=[stripped],
        validators=[DataRequired(_l("Write the new address.")), Length(max=200)],
    )
    city = StringField(
        _l("Town"),
        filters=[stripped],
        validators=[DataRequired(_l("Write the town.")), Length(max=80)],
    )
    region = StringField(_l("State or region"), filters=[stripped], validators=[Length(max=40)])
    postcode = StringField(_l("Postcode"), filters=[stripped], validators=[Length(max=20)])
    on = DayField(
        _l("From which day do you live there?"), validators=[InputRequired(_l("Choose a day."))]
    )
    note = TextAreaField(
        _l("Anything that we should know (optional)"),
        filters=[stripped],
        validators=[Length(max=300)],
    )

    def validate_on(self, field: DayField) -> None:
        """Raises ValidationError for a day on which staff could not let it begin."""
        try:
            changing.check_day(field.data)
        except DayOutOfBounds as refused:
            raise ValidationError(refused.customer_message) from refused


class AcceptMoveForm(AcceptForm):
    """From which day, in which area, and with which plan an account is at its new place."""

    area = SelectField(_l("In which area does it lie?"))
    plan = SelectField(_l("Internet plan there"))

    def offer(self, choices: Choices) -> None:
        """What can be chosen."""
        self.area.choices = choices.areas
        self.plan.choices = [("", _("The one that they have")), *choices.plans]


class RefuseForm(PortalForm):
    """Why it cannot be."""

    why = TextAreaField(
        _l("Why not? The customer reads this."),
        validators=[DataRequired(_l("Say why it cannot be.")), Length(max=300)],
    )
