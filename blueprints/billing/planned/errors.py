"""The ways in which planning a payment can fail."""

from __future__ import annotations

from flask_babel import gettext as _

from core.errors import NotFound, Refusal


class PlannedNotFound(NotFound):
    """There is no such planned payment on this account, or it is another person's."""


class PlanningRefused(Refusal):
    """It cannot be planned so; nothing was stored."""


class MethodUnusable(PlanningRefused):
    """It is not there, removed, expired by that day, or another person's."""

    @property
    def customer_message(self) -> str:
        return _("Choose a card or bank account that you saved here and that is valid on that day.")


class DayOutOfBounds(PlanningRefused):
    """The day is before `first` or after `last` (both formatted)."""

    def __init__(self, first: str, last: str) -> None:
        super().__init__()
        self.first, self.last = first, last

    @property
    def customer_message(self) -> str:
        return _("Choose a day from %(first)s to %(last)s.", first=self.first, last=self.last)


class TooMuchPlanned(PlanningRefused):
    """So many payments wait for their day that no more is taken."""

    @property
    def customer_message(self) -> str:
        return _("Several payments wait for their day already. Cancel one of them first.")


class NotChangeable(PlanningRefused):
    """Its day has come, it was cancelled, or it is not of a kind that can be changed so."""

    @property
    def customer_message(self) -> str:
        return _("This payment can no longer be changed. Look at where it stands now.")


class AutopayOfAnother(PlanningRefused):
    """Somebody else pays this account's bills by autopay."""

    @property
    def customer_message(self) -> str:
        return _("Somebody else who shares this account pays its bills by autopay.")


class ConsentOutdated(PlanningRefused):
    """The sentence that the page showed is not the one that would be kept."""

    @property
    def customer_message(self) -> str:
        return _("The words of the agreement have changed. Read them again, then agree.")


class ArrangementRefused(PlanningRefused):
    """The ISP's rules allow none, or not this one; `why` is a word, the others what it needs."""

    def __init__(self, why: str, amount: str = "", last: str = "") -> None:
        super().__init__(why)
        self.why, self.amount, self.last = why, amount, last

    @property
    def customer_message(self) -> str:
        return {
            "standing": _("There is an arrangement already. It has to be kept first."),
            "nothing": _("Nothing is due on this account."),
            "small": _("Arrangements are made from %(amount)s on.", amount=self.amount),
            "young": _("This account is too new for an arrangement here. Call us about it."),
            "often": _("There were as many arrangements as we make in a year. Call us about it."),
            "parts": _(
                "Choose in how many parts you pay, each of %(amount)s or more.", amount=self.amount
            ),
            "late": _("The last day may be %(last)s at the latest.", last=self.last),
            "late_first": _("The first day may be %(last)s at the latest.", last=self.last),
            "early": _("The first day has to be tomorrow or later."),
        }[self.why]
