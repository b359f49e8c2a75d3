"""Shape of what is chosen for a telephone number."""

from __future__ import annotations

import re
from collections.abc import Collection

from flask_babel import gettext as _
from flask_babel import lazy_gettext as _l
from wtforms import BooleanField, HiddenField, SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import Length, ValidationError

from core.forms import PortalForm
from gateways.voice.base import Feature, ForwardWhen, NumberSettings

OF_FEATURE = {
    Feature.CALL_FORWARDING: ("forward_to", "forward_when"),
    Feature.DO_NOT_DISTURB: ("quiet_from", "quiet_until"),
}
"""The fields that say more of a feature."""
_TIME = re.compile(r"([01]?[0-9]|2[0-3])[:.]([0-5][0-9])(?::[0-5][0-9])?")


class NumberForm(PortalForm):
    """A box for each feature, and what two of them need besides; `stamp` is of what was shown."""

    stamp = HiddenField()
    forward_to = StringField(_l("Number to forward to"), validators=[Length(max=40)])
    forward_when = SelectField(
        _l("Which calls"),
        choices=[
            SelectChoice(ForwardWhen.ALWAYS.value, _l("All calls")),
            SelectChoice(ForwardWhen.BUSY.value, _l("When the line is busy")),
            SelectChoice(ForwardWhen.NO_ANSWER.value, _l("When nobody answers")),
        ],
        validate_choice=False,
    )
    quiet_from = StringField(_l("From"), validators=[Length(max=8)])
    quiet_until = StringField(_l("Until"), validators=[Length(max=8)])

    def keep(self, included: Collection[Feature]) -> None:
        """Have fields of what the plan includes alone."""
        for feature in set(Feature) - set(included):
            for name in (feature.value, *OF_FEATURE.get(feature, ())):
                del self[name]

    def validate_forward_when(self, field: SelectField) -> None:
        if field.data not in set(ForwardWhen):
            raise ValidationError(_("Choose which calls are forwarded."))

    def validate_quiet_from(self, field: StringField) -> None:
        self._check_time(field)

    def validate_quiet_until(self, field: StringField) -> None:
        self._check_time(field)
        if field.data and field.data == self.quiet_from.data:
            raise ValidationError(_("Enter another time than the one it begins at."))

    def _check_time(self, field: StringField) -> None:
        typed = (field.data or "").strip()
        if not typed and not self[Feature.DO_NOT_DISTURB.value].data:
            field.data = ""
            return
        found = _TIME.fullmatch(typed)
        if found is None:
            raise ValidationError(_("Enter a time of day like 22:00."))
        field.data = f"{int(found[1]):02}:{found[2]}"

    def settings(self) -> NumberSettings:
        """What was chosen, of a valid form."""

        def text(name: str) -> str:
            return (self[name].data or "").strip() if name in self else ""

        on = frozenset(
            feature for feature in Feature if feature.value in self and self[feature.value].data
        )
        when = ForwardWhen(text("forward_when") or ForwardWhen.ALWAYS)
        return NumberSettings(on, text("forward_to"), when, text("quiet_from"), text("quiet_until"))


for feature in Feature:
    setattr(NumberForm, feature.value, BooleanField())
