"""Shape of what is sent about a router. `line` says which, so that a form that had to wait for the
password comes back to the same one."""

from __future__ import annotations

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import HiddenField, PasswordField, StringField
from wtforms.validators import DataRequired, Optional, Regexp, ValidationError

from core.forms import PortalForm, stripped

MOST_NAME_BYTES = 32
"""What a Wi-Fi name can be (IEEE 802.11, 9.4.2.2)."""


class LineForm(PortalForm):
    """Which line is meant; empty where the account has one alone."""

    line = HiddenField()


class WifiForm(LineForm):
    """A new name, and a new password unless it stays. `networks` names those that are meant."""

    networks = HiddenField()
    wifi_name = StringField(
        _l("Name of the Wi-Fi"),
        filters=[stripped],
        validators=[
            DataRequired(_l("Enter a name for the Wi-Fi.")),
            Regexp(r"[^\x00-\x1f\x7f]*\Z", message=_l("Write the name on one line.")),
        ],
    )
    # WPA2 (IEEE 802.11, J.4): 8 to 63 signs that can be typed on every keyboard.
    wifi_password = PasswordField(
        _l("New password"),
        validators=[
            Optional(strip_whitespace=False),
            Regexp(
                r"[ -~]{8,63}\Z",
                message=_l("Use 8 to 63 characters: letters without accents, digits and signs."),
            ),
        ],
    )

    def validate_wifi_name(self, field: StringField) -> None:
        """Wi-Fi counts bytes, and letters with accents have two."""
        if len((field.data or "").encode("utf-8", "surrogatepass")) > MOST_NAME_BYTES:
            raise ValidationError(
                _("Use at most 32 characters; accents and pictures count more than once.")
            )
