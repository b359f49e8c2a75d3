"""Shape of what is typed about usage."""

from __future__ import annotations

import re

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import StringField
from wtforms.validators import Length, ValidationError

from blueprints.lines.allowances.rules import HIGHEST_PERCENT, MOST_PERCENTS
from core.forms import PortalForm


class AlertsForm(PortalForm):
    """Thresholds in percent; `chosen` is set once the form is valid, the lowest first."""

    percents = StringField(_l("Tell me at so many percent"), validators=[Length(max=60)])
    chosen: tuple[int, ...] = ()

    def validate_percents(self, field: StringField) -> None:
        parts = re.split(r"[\s,;%]+", (field.data or "").strip(" ,;%"))
        numbers = {int(part) for part in parts if re.fullmatch(r"[0-9]{1,3}", part)}
        if any(not re.fullmatch(r"[0-9]{0,3}", part) for part in parts) or any(
            not 1 <= number <= HIGHEST_PERCENT for number in numbers
        ):
            raise ValidationError(
                _("Enter whole numbers from 1 to %(most)s, like 75, 90, 100.", most=HIGHEST_PERCENT)
            )
        if len(numbers) > MOST_PERCENTS:
            raise ValidationError(_("Enter at most %(most)s of them.", most=MOST_PERCENTS))
        self.chosen = tuple(sorted(numbers))
