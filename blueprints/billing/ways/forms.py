"""Shape of the form that moves credit."""

from __future__ import annotations

from collections.abc import Sequence

from flask_babel import lazy_gettext as _l
from wtforms import RadioField
from wtforms.fields.choices import SelectChoice
from wtforms.validators import DataRequired

from blueprints.billing.transfers import OwnAccount
from core.forms import AmountField, PortalForm


class MoveForm(PortalForm):
    to = RadioField(_l("To which account"), validators=[DataRequired(_l("Choose the account."))])
    amount = AmountField(_l("Amount"))

    def offer(self, accounts: Sequence[OwnAccount]) -> None:
        self.to.choices = [
            SelectChoice(account.public_id, f"{account.name} · {account.number}")
            for account in accounts
        ]
