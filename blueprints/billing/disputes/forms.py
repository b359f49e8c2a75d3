"""Shape of what is written about a bill."""

from __future__ import annotations

from collections.abc import Sequence

from flask_babel import lazy_gettext as _l
from wtforms import RadioField, TextAreaField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, Length

from blueprints.billing.disputes.service import LineChoice
from core.forms import PortalForm
from core.money import format_money
from core.words import language

LONGEST = 2_000


class TextForm(PortalForm):
    text = TextAreaField(
        _l("Your message"),
        filters=[lambda typed: typed.strip() if typed else typed],
        validators=[
            DataRequired(_l("Write what you want to say.")),
            Length(max=LONGEST, message=_l("Use 2000 characters at most.")),
        ],
    )


class DisputeForm(TextForm):
    line = RadioField(_l("Which line is wrong?"), validators=[DataRequired(_l("Choose the line."))])

    def offer(self, lines: Sequence[LineChoice]) -> None:
        self.line.choices = [
            SelectChoice(
                str(line.position), f"{line.description}: {format_money(line.amount, language())}"
            )
            for line in lines
        ]
