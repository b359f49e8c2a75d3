"""Shape of what staff type."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import RadioField, SelectField, StringField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, Length, ValidationError

from blueprints.staff.callers import Way
from core.card_numbers import masked_text, one_line
from core.forms import PortalForm
from models import StaffRole

NOTE_SHORTEST, NOTE_LONGEST = 10, 300

ROLES = (
    SelectChoice(StaffRole.SUPPORT.value, _l("Support")),
    SelectChoice(StaffRole.BILLING.value, _l("Billing")),
    SelectChoice(StaffRole.TECHNICAL.value, _l("Technical")),
    SelectChoice(StaffRole.ADMINISTRATOR.value, _l("Administrator")),
)


class CallerContactForm(PortalForm):
    contact = RadioField(
        _l("Where the code goes"), validators=[DataRequired(_l("Choose where the code goes."))]
    )

    def offer(self, ways: Sequence[Way]) -> None:
        """The contacts to choose from."""
        self.contact.choices = [SelectChoice(str(way.contact_id), way.shown) for way in ways]


class CallerCodeForm(PortalForm):
    code = StringField(
        _l("The code that the caller reads to you"),
        validators=[DataRequired(_l("Type the code.")), Length(max=40)],
    )


class ReasonForm(PortalForm):
    reason = StringField(
        _l("Reason"),
        filters=[one_line],
        validators=[
            DataRequired(_l("Say why, in a few words.")),
            Length(min=4, max=180, message=_l("Say why, in a few words.")),
        ],
    )


class NoteForm(PortalForm):
    note = TextAreaField(
        _l("How they proved who they are"),
        filters=[masked_text],
        validators=[
            DataRequired(_l("Say what they showed or told you.")),
            Length(min=NOTE_SHORTEST, max=NOTE_LONGEST, message=_l("Use 10 to 300 characters.")),
        ],
    )


class MemberForm(PortalForm):
    name = StringField(_l("Name"), validators=[DataRequired(_l("Enter the name.")), Length(max=80)])
    email = StringField(
        _l("E-mail address"),
        validators=[
            DataRequired(_l("Enter an e-mail address like name@example.net.")),
            Length(max=254),
        ],
    )
    role = SelectField(_l("Role"), choices=ROLES)


class RoleForm(PortalForm):
    role = SelectField(_l("Role"), choices=(*ROLES, SelectChoice("disabled", _l("Shut out"))))


class RestForm(PortalForm):
    until = StringField(
        _l("Leave it alone until and with"), validators=[DataRequired(_l("Choose a day."))]
    )
    reason = StringField(
        _l("Reason"),
        filters=[one_line],
        validators=[
            DataRequired(_l("Say why, in a few words.")),
            Length(min=4, max=180, message=_l("Say why, in a few words.")),
        ],
    )

    def validate_until(self, field: StringField) -> None:
        try:
            date.fromisoformat(field.data or "")
        except ValueError:
            raise ValidationError(_("Enter a day like 2026-03-31.")) from None

    @property
    def day(self) -> date:
        """The day that was typed, once the form is valid."""
        return date.fromisoformat(self.until.data or "")


class GroupForm(PortalForm):
    group = SelectField(_l("Group"), validate_choice=False)

    def offer(self, groups: Sequence[tuple[str, str]], now: str) -> None:
        """The groups to choose from, and the one it is `now`."""
        self.group.choices = [
            SelectChoice("", _("Usual")),
            *(SelectChoice(*each) for each in groups),
        ]
        self.group.data = now
