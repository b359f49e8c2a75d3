"""Shape of what is typed to get in."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l
from wtforms import BooleanField, HiddenField, PasswordField, RadioField, StringField
from wtforms.validators import DataRequired, Length, Regexp

from core.forms import PortalForm


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


class WelcomeForm(PortalForm):
    sign_in_id = StringField(
        _l("The ID you want to sign in with"),
        filters=[lambda typed: typed.strip() if typed else typed],
        validators=[
            DataRequired(_l("Choose an ID.")),
            Regexp(
                r"[A-Za-z0-9][A-Za-z0-9._-]{2,39}$",
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
