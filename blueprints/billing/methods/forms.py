"""Shape of what is typed about a saved method."""

from __future__ import annotations

from flask_babel import lazy_gettext as _l
from wtforms import StringField
from wtforms.validators import Length, Regexp

from core.card_numbers import masked_text
from core.forms import PortalForm


class NameForm(PortalForm):
    name = StringField(
        _l("Your name for it"),
        filters=[lambda typed: typed.strip() if typed else typed, masked_text],
        validators=[
            Length(max=60, message=_l("Use at most 60 characters.")),
            Regexp(r"[^\x00-\x1f\x7f]*$", message=_l("Write the name on one line.")),
        ],
    )
