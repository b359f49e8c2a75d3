"""Shape of what is typed to get in."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l
from wtforms import BooleanField, HiddenField, PasswordField, StringField
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


class ConfirmForm(PortalForm):
    password = PasswordField(
        _l("Your password"),
        validators=[DataRequired(_l("Enter your password.")), Length(max=1024)],
    )
    next = HiddenField()
