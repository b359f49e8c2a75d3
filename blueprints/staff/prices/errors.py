"""The ways planning a price can fail. `customer_message` is for staff and says what to do."""

from __future__ import annotations

from datetime import date

from flask_babel import gettext as _

from core.errors import NotFound, Refusal
from core.words import format_day


class PriceNotFound(NotFound):
    """There is no such plan or change of a price."""


class PriceRefused(Refusal):
    """The price cannot be planned or withdrawn so; nothing was written."""


class DayTooNear(PriceRefused):
    """Those who follow could not be told in time; `first_on` is the first day that would do."""

    def __init__(self, first_on: date, last_on: date) -> None:
        super().__init__()
        self.first_on = first_on
        self.last_on = last_on

    @property
    def customer_message(self) -> str:
        return _(
            "Choose a day from %(first)s to %(last)s: whoever follows is told before.",
            first=format_day(self.first_on),
            last=format_day(self.last_on),
        )


class PriceTheSame(PriceRefused):
    """It costs that already."""

    @property
    def customer_message(self) -> str:
        return _("That is what it costs already.")


class PlannedAlready(PriceRefused):
    """Another change of this plan's price waits for its day."""

    @property
    def customer_message(self) -> str:
        return _("Another price is planned for this plan. Withdraw that first.")


class TooLate(PriceRefused):
    """The day has come, or somebody withdrew it."""

    @property
    def customer_message(self) -> str:
        return _("This counts already or was withdrawn. Plan another price instead.")


class NotInFile(PriceRefused):
    """The catalog file leaves the plan out."""

    @property
    def customer_message(self) -> str:
        return _("The catalog file leaves it out: put it there to offer it again.")
