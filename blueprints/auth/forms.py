"""Shape of what is typed to get in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flask_babel import lazy_gettext as _l
from wtforms import BooleanField, HiddenField, PasswordField, RadioField, StringField
from wtforms.validators import DataRequired, InputRequired, Length, Regexp

from core.forms import PortalForm
from models import Channel


class SignInForm(PortalForm):
    sign_in_id = StringField(
        _l("ID or e-mail address"),
        validators=[DataRequired(_l("Enter your ID or your e-mail address.")), Length(max=254)],
    )
    password = PasswordField(
        _l("Password"),
        validators=[DataRequired(_l("Enter your password.")), Length(max=1024)],
    )
    own_device = BooleanField(_l("This is my own device"))
    next = HiddenField()


class WhoForm(PortalForm):
    """The first page of a way in."""

    who = StringField(
        _l("Account number, phone number or e-mail address"),
        validators=[
            DataRequired(
                _l("Enter your account number, your phone number or your e-mail address.")
            ),
            Length(max=254),
        ],
    )


class WhoOrIdForm(WhoForm):
    who = StringField(
        _l("ID, e-mail address, account number or phone number"),
        validators=[
            DataRequired(_l("Enter your ID, e-mail address, account number or phone number.")),
            Length(max=254),
        ],
    )


class WayForm(PortalForm):
    """`ways` are those that are offered now, whoever asks."""

    way = RadioField(
        _l("Which way?"), validators=[InputRequired(_l("Choose how we may reach you."))]
    )

    def __init__(self, ways: Sequence[Channel], **more: Any) -> None:
        super().__init__(**more)
        self.way.choices = [(way.value, way.value) for way in ways]


class SentCodeForm(PortalForm):
    code = StringField(
        _l("Code"),
        validators=[DataRequired(_l("Enter the code from our message.")), Length(max=60)],
    )


class WhichForm(PortalForm):
    """Which of several accounts, or IDs, that are proven to be one's own."""

    which = RadioField(
        _l("Which one?"),
        validators=[InputRequired(_l("Choose one."))],
    )

    def __init__(self, choices: Sequence[str], **more: Any) -> None:
        super().__init__(**more)
        self.which.choices = [(choice, choice) for choice in choices]


class NewPasswordForm(PortalForm):
    password = PasswordField(
        _l("New password"),
        validators=[DataRequired(_l("Choose a password.")), Length(max=1024)],
    )


LONGEST_ID = 40


class WelcomeForm(PortalForm):
    sign_in_id = StringField(
        _l("The ID you want to sign in with"),
        filters=[lambda typed: typed.strip() if typed else typed],
        validators=[
            DataRequired(_l("Choose an ID.")),
            Regexp(
                rf"[A-Za-z0-9][A-Za-z0-9._-]{{2,{LONGEST_ID - 1}}}$",
                message=_l("Use 3 to 40 letters, digits, points or hyphens."),
            ),
        ],
    )
    password = PasswordField(
        _l("Password"),
        validators=[DataRequired(_l("Choose a password.")), Length(max=1024)],
    )


def _code_field() -> StringField:
    return StringField(
        _l("Code"),
        validators=[DataRequired(_l("Enter the code.")), Length(max=60, message=_l("Too long."))],
    )


class SecondStepForm(PortalForm):
    code = _code_field()
    by = HiddenField()
    trust = BooleanField(_l("Do not ask on this device for 30 days"))


class CodeForm(PortalForm):
    """A code that confirms something, or the way that it belongs to."""

    code = _code_field()
    by = HiddenField()


class PasskeyForm(PortalForm):
    """What a passkey answered, put together by script."""

    credential = HiddenField(validators=[DataRequired(), Length(max=20_000)])
    name = StringField(_l("A name for it"), validators=[Length(max=80)])
    own_device = BooleanField()
    trust = BooleanField()
    next = HiddenField()


class ContactForm(PortalForm):
    """Where codes are to go."""

    contact = RadioField(
        _l("Where shall the codes go?"),
        validators=[DataRequired(_l("Choose one."))],
    )


class ConfirmForm(PortalForm):
    password = PasswordField(
        _l("Your password"),
        validators=[DataRequired(_l("Enter your password.")), Length(max=1024)],
    )
    next = HiddenField()
