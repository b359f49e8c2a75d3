"""Shape of what is typed into the settings."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l
from wtforms import (
    BooleanField,
    HiddenField,
    PasswordField,
    RadioField,
    SelectField,
    StringField,
    TextAreaField,
)
from wtforms.validators import DataRequired, Length, Regexp

from core.forms import PortalForm, stripped
from core.topics import CHANNELS, Topic


class NameForm(PortalForm):
    name = StringField(
        _l("Name"),
        filters=[stripped],
        validators=[
            DataRequired(_l("Enter your name.")),
            Length(max=200, message=_l("Use at most 200 characters.")),
            Regexp(r"[^\x00-\x1f\x7f]*$", message=_l("Write the name on one line.")),
        ],
    )


class LanguageForm(PortalForm):
    language = RadioField(
        _l("Language"), validators=[DataRequired(_l("Choose one of the languages."))]
    )


class TimeZoneForm(PortalForm):
    time_zone = SelectField(_l("City"), validate_choice=False)


class PasswordForm(PortalForm):
    password = PasswordField(
        _l("New password"),
        validators=[DataRequired(_l("Choose a password.")), Length(max=1024)],
    )


class EmailForm(PortalForm):
    value = StringField(
        _l("E-mail address"),
        filters=[stripped],
        validators=[
            DataRequired(_l("Enter an e-mail address, like name@example.com.")),
            Length(max=254),
        ],
    )
    account = HiddenField()


class PhoneForm(PortalForm):
    value = StringField(
        _l("Phone number that receives text messages"),
        filters=[stripped],
        validators=[
            DataRequired(_l("Enter a phone number with its area code, like +1 541 555 0100.")),
            Length(max=40),
        ],
    )
    account = HiddenField()


class CodeForm(PortalForm):
    code = StringField(
        _l("Code"), validators=[DataRequired(_l("Enter the code that we sent.")), Length(max=40)]
    )


class AddressForm(PortalForm):
    address = TextAreaField(
        _l("New postal address"),
        filters=[stripped],
        validators=[
            DataRequired(_l("Write the new address.")),
            Length(max=400, message=_l("Use at most 400 characters.")),
        ],
    )
    account = HiddenField()


class MessagesForm(PortalForm):
    """A box for each topic and channel, `bills_email` say."""


for topic in Topic:
    for channel in CHANNELS:
        setattr(MessagesForm, f"{topic}_{channel}", BooleanField())
