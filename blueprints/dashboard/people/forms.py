"""Shape of what is typed to share an account."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l
from wtforms import RadioField, StringField
from wtforms.validators import DataRequired, Length, Regexp

from blueprints.auth.forms import WelcomeForm
from core.forms import PortalForm, stripped
from models import Role

ROLES = [role.value for role in Role]
"""The words for them stand in the templates, each with what it allows."""


class InviteForm(PortalForm):
    invitee = StringField(
        _l("Their e-mail address or phone number"),
        filters=[stripped],
        validators=[
            DataRequired(_l("Enter an e-mail address or a phone number.")),
            Length(max=254),
        ],
    )
    role = RadioField(
        _l("What they may do"),
        choices=ROLES,
        validators=[DataRequired(_l("Choose what they may do."))],
    )


class RoleForm(PortalForm):
    role = RadioField(
        _l("What they may do"),
        choices=ROLES,
        validators=[DataRequired(_l("Choose what they may do."))],
    )


LONGEST_NAME = 200


class InvitedForm(WelcomeForm):
    name = StringField(
        _l("Your name"),
        filters=[stripped],
        validators=[
            DataRequired(_l("Enter your name.")),
            Length(max=LONGEST_NAME, message=_l("Use at most 200 characters.")),
            Regexp(r"[^\x00-\x1f\x7f]*$", message=_l("Write the name on one line.")),
        ],
    )
