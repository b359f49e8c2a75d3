"""Shape of what staff type about money. A card number in a text is masked before it is kept."""

from __future__ import annotations

from collections.abc import Sequence

from flask_babel import lazy_gettext as _l
from wtforms import BooleanField, RadioField, SelectField, StringField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired, Length

from blueprints.billing import booking
from core.card_numbers import one_line
from core.forms import AmountField, PortalForm
from models import PlanKind


def reason_field() -> StringField:
    """Why something is done, for other staff to read."""
    return StringField(
        _l("Reason"),
        filters=[one_line],
        validators=[
            DataRequired(_l("Say why, in a few words.")),
            Length(min=4, max=300, message=_l("Say why, in a few words.")),
        ],
    )


class TakeForm(PortalForm):
    amount = AmountField(_l("Amount"))
    kind = RadioField(
        _l("What they pay with"),
        choices=[
            SelectChoice(booking.CASH, _l("Cash")),
            SelectChoice(booking.CHEQUE, _l("Cheque")),
        ],
        validators=[DataRequired(_l("Choose what they pay with."))],
    )
    note = StringField(_l("Note"), filters=[one_line], validators=[Length(max=200)])
    is_sure = BooleanField(_l("The amount is right, although much less is due"))


class CreditForm(PortalForm):
    amount = AmountField(_l("Amount"))
    reason = reason_field()


class RefundForm(PortalForm):
    amount = AmountField(_l("Amount"))
    reason = reason_field()


class ChargeForm(PortalForm):
    amount = AmountField(_l("Amount before tax"))
    description = StringField(
        _l("What it is for"),
        filters=[one_line],
        validators=[
            DataRequired(_l("Say what it is for, as it shall stand on the bill.")),
            Length(max=200),
        ],
    )
    kind = SelectField(
        _l("Taxes"),
        choices=[
            SelectChoice("", _l("None")),
            SelectChoice(PlanKind.INTERNET.value, _l("As for internet")),
            SelectChoice(PlanKind.TV.value, _l("As for TV")),
            SelectChoice(PlanKind.PHONE.value, _l("As for phone")),
            SelectChoice(PlanKind.EQUIPMENT.value, _l("As for equipment")),
            SelectChoice(PlanKind.OPTION.value, _l("As for options")),
        ],
    )
    reason = reason_field()


EVERYTHING = "all"


class CreditNoteForm(PortalForm):
    """All that is left of an invoice, or a part of one of its lines."""

    what = RadioField(_l("What to credit"), validators=[DataRequired(_l("Choose what to credit."))])
    amount = AmountField(_l("How much of it before tax"), is_optional=True)
    reason = reason_field()

    def offer(self, choices: Sequence[tuple[str, str]]) -> None:
        """The lines to choose from, as (position, words)."""
        self.what.choices = [SelectChoice(value, words) for value, words in choices]

    @property
    def position(self) -> int | None:
        """The chosen line; None for the whole invoice."""
        return None if self.what.data == EVERYTHING else int(self.what.data)


class DecisionForm(PortalForm):
    """Two buttons: yes and no."""

    decision = RadioField(
        _l("Decision"), choices=["yes", "no"], validators=[DataRequired(_l("Decide."))]
    )

    @property
    def is_yes(self) -> bool:
        return bool(self.decision.data == "yes")
