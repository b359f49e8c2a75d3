"""The base of all forms. The gate in `core/access.py` checks where a form came from before any
view runs, so a form only checks the shape of its fields."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any, TypeVar

from flask import current_app, request
from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from flask_wtf import FlaskForm
from flask_wtf.form import _Auto
from wtforms import DateField, StringField
from wtforms.form import BaseForm
from wtforms.validators import Length, ValidationError

from core import clock, kept_forms
from core.isp import current_isp
from core.money import AmountUnreadable, Money, format_plain, parse_money
from core.sessions import signed_in
from core.words import language

FIRST_DAY, LAST_DAY = date(1990, 1, 1), date(2099, 12, 31)


class PortalForm(FlaskForm):
    """A form whose proof of origin was checked by the gate for every unsafe route at once."""

    class Meta:
        csrf = False

        def wrap_formdata(self, _form: Any, formdata: Any) -> Any:
            """Only the fields of a form: a file or JSON in their place would be no text."""
            return request.form if formdata is _Auto else formdata


def stripped(typed: str | None) -> str | None:
    """What was typed without the spaces around it."""
    return typed.strip() if typed else typed


class AmountField(StringField):
    """An amount of money above zero, as people type it. `minor` is set once it is valid; it is 0
    where nothing was typed in one that `is_optional`."""

    minor: int = 0

    def __init__(self, label: Any, *, is_optional: bool = False, **more: Any) -> None:
        super().__init__(label, validators=[Length(max=40)], **more)
        self.is_optional = is_optional

    def post_validate(self, form: BaseForm, validation_stopped: bool) -> None:
        del form
        if validation_stopped or (self.is_optional and not (self.data or "").strip()):
            return
        currency = current_isp().currency
        try:
            self.minor = parse_money(self.data or "", currency, language())
        except AmountUnreadable:
            self.minor = 0
        if self.minor <= 0:
            example = format_plain(Money(1999, currency))
            raise ValidationError(_("Enter the amount like %(example)s.", example=example))


AnyForm = TypeVar("AnyForm", bound=PortalForm)


def shown(form_class: type[AnyForm], **now: Any) -> AnyForm:
    """The form as its page shows it: with what was typed before the session ran out or the password
    was asked for once more, otherwise with what is so `now`."""
    secret = current_app.config["PORTAL"].secret
    kept = kept_forms.find(secret, signed_in(), request.path) or {}
    return form_class(formdata=None, data={**now, **kept})


class DayField(DateField):
    """A calendar day, empty for none."""

    def process_data(self, value: Any) -> None:
        """Take over a day, or text where it was typed into a form that was kept."""
        if isinstance(value, str):
            self.process_formdata([value])
        else:
            super().process_data(value)

    def process_formdata(self, valuelist: list[str]) -> None:
        """Raises ValueError, with what to do, for anything that is no day of these times."""
        text = valuelist[0].strip()[:40] if valuelist else ""
        self.data, self.raw_data = None, [text] if text else None
        if not text:
            return
        try:
            day = date.fromisoformat(text)
        except ValueError:
            day = date.min
        if not FIRST_DAY <= day <= LAST_DAY:
            raise ValueError(_("Enter the day like %(example)s.", example="2026-03-31"))
        self.data = day


class SpanForm(PortalForm):
    """Which days a page is about, the first and the last one counted, as its address names them:
    the last one is `today` where it names none, and the first one `usual_first` of the last, or
    that of twelve months."""

    from_on = DayField(_l("From"), name="from")
    to_on = DayField(_l("To"), name="to")

    def __init__(self, today: date, usual_first: Callable[[date], date] | None = None) -> None:
        super().__init__(formdata=request.args)
        if self.to_on.data is None and not self.to_on.raw_data:
            self.to_on.data = today
        if self.from_on.data is None and not self.from_on.raw_data:
            self.from_on.data = (usual_first or a_year_until)(self.to_on.data or today)

    def validate_to_on(self, field: DayField) -> None:
        if field.data and self.from_on.data and field.data < self.from_on.data:
            raise ValidationError(_("The last day is before the first one."))

    def days(self) -> tuple[date, date]:
        """The first and the last day of a valid form."""
        if self.from_on.data is None or self.to_on.data is None:
            raise ValueError("the form is not valid")
        return self.from_on.data, self.to_on.data


def a_year_until(day: date) -> date:
    """The first of the twelve months that end on `day`."""
    return clock.month_step(day, -12, day.day) + timedelta(days=1)
