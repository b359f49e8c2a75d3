"""Shape of what is typed to plan payments."""

from __future__ import annotations

from datetime import date
from typing import Any

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import BooleanField, HiddenField, RadioField, SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import InputRequired, Length, Optional, ValidationError

from blueprints.billing.planned.arrangements import Every
from blueprints.billing.planned.autopay import MOST_DAYS_BEFORE
from blueprints.billing.starting import Choice
from core.forms import PortalForm
from core.isp import current_isp
from core.money import AmountUnreadable, Money, format_plain, parse_money
from core.words import language


def read_amount(typed: str | None) -> int | None:
    """Minor units as typed; None of an empty field. Raises ValidationError."""
    if not typed or not typed.strip():
        return None
    currency = current_isp().currency
    try:
        return parse_money(typed, currency, language())
    except AmountUnreadable:
        raise ValidationError(
            _("Enter the amount like %(example)s.", example=format_plain(Money(1999, currency)))
        ) from None


def read_day(typed: str | None) -> date:
    """A day as a date field sends it. Raises ValidationError."""
    try:
        return date.fromisoformat((typed or "").strip())
    except ValueError:
        raise ValidationError(_("Choose a day, like 2026-07-31.")) from None


def _method(validator: Any) -> RadioField:
    """A saved method by its public id; whether it can be used is the service's to say."""
    return RadioField(
        _l("Pay with"), choices=[], validate_choice=False, validators=[validator, Length(max=24)]
    )


class ScheduleForm(PortalForm):
    """`due_on` is set once the form is valid, and `amount_minor` when another amount was chosen."""

    method = _method(InputRequired(_l("Choose what to pay with.")))
    choice = RadioField(
        _l("How much?"),
        choices=[SelectChoice(each.value, each.value) for each in (Choice.BALANCE, Choice.OTHER)],
        validators=[InputRequired(_l("Choose how much to pay."))],
    )
    amount = StringField(_l("Amount"), validators=[Length(max=40)])
    day = StringField(_l("On which day?"), validators=[Length(max=20)])
    amount_minor: int | None = None
    due_on: date = date.min

    def validate_amount(self, field: StringField) -> None:
        if self.choice.data == Choice.OTHER:
            self.amount_minor = read_amount(field.data or "?")

    def validate_day(self, field: StringField) -> None:
        self.due_on = read_day(field.data)


class AutopayForm(PortalForm):
    """`ceiling_minor`, `from_minor` and `to_minor` are set once the form is valid."""

    method = _method(InputRequired(_l("Choose what to pay with.")))
    days_before = SelectField(
        _l("When?"),
        choices=[str(number) for number in range(MOST_DAYS_BEFORE + 1)],
        validators=[InputRequired(_l("Choose when to pay."))],
    )
    ceiling = StringField(_l("Ask me first above"), validators=[Length(max=40)])
    range_from = StringField(_l("No early notice from"), validators=[Length(max=40)])
    range_to = StringField(_l("No early notice up to"), validators=[Length(max=40)])
    agreed = BooleanField(
        _l("I agree"), validators=[InputRequired(_l("Tick the box if you agree."))]
    )
    words = HiddenField(validators=[Length(max=64)])
    ceiling_minor: int | None = None
    from_minor: int | None = None
    to_minor: int | None = None

    def validate_ceiling(self, field: StringField) -> None:
        self.ceiling_minor = read_amount(field.data)

    def validate_range_from(self, field: StringField) -> None:
        self.from_minor = read_amount(field.data)

    def validate_range_to(self, field: StringField) -> None:
        self.to_minor = read_amount(field.data)
        if (self.from_minor is None) != (self.to_minor is None):
            raise ValidationError(_("Give both ends of the range, or none."))
        if (self.from_minor or 0) > (self.to_minor or 0):
            raise ValidationError(_("The second amount has to be the larger one."))


class ArrangementForm(PortalForm):
    """How somebody wants to pay what is due: of the preview, and to agree. `begins_on` is set once
    the form is valid."""

    count = SelectField(_l("How?"), choices=[], validate_choice=False)
    first_on = StringField(_l("The first day"), validators=[Length(max=20)])
    every = RadioField(
        _l("Then"),
        choices=[SelectChoice(each.value, each.value) for each in Every],
        default=Every.TWO_WEEKS.value,
        validators=[Optional()],
    )
    method = _method(Optional())
    begins_on: date = date.min

    def validate_first_on(self, field: StringField) -> None:
        self.begins_on = read_day(field.data)

    def validate_count(self, field: StringField) -> None:
        if not (field.data or "").isascii() or not (field.data or "").isdigit():
            raise ValidationError(_("Choose in how many parts you pay."))
