"""The ways a change of plans can fail. `customer_message` is safe to show and says what to do."""

from __future__ import annotations

from datetime import date

from flask_babel import gettext as _
from flask_babel import ngettext

from core.errors import NotFound, Refusal
from core.words import format_day


class PlanNotFound(NotFound):
    """There is no such plan, subscription or change for this account."""


class ChangeRefused(Refusal):
    """The change cannot be made; nothing was written."""


class NotOffered(ChangeRefused):
    """The catalog does not let this account change so."""

    @property
    def customer_message(self) -> str:
        return _("This plan cannot be chosen here. Choose one of those that are listed.")


class ChangeUnderWay(ChangeRefused):
    """Another change of the same plan waits for its day or for staff."""

    @property
    def customer_message(self) -> str:
        return _("A change of this is already planned. Take that back first to choose another.")


class Needs(ChangeRefused):
    """Another plan has to be there as well; `names` are those that are missing."""

    def __init__(self, names: str) -> None:
        super().__init__()
        self.names = names

    @property
    def customer_message(self) -> str:
        return _("This needs %(plans)s as well. Add that first.", plans=self.names)


class StandsAgainst(ChangeRefused):
    """It cannot stand beside a plan that is in use."""

    def __init__(self, names: str) -> None:
        super().__init__()
        self.names = names

    @property
    def customer_message(self) -> str:
        return _("This cannot be had together with %(plans)s.", plans=self.names)


class NeededBy(ChangeRefused):
    """Other plans in use need the one that is to end."""

    def __init__(self, names: str) -> None:
        super().__init__()
        self.names = names

    @property
    def customer_message(self) -> str:
        return _("%(plans)s cannot be had without this. Remove that first.", plans=self.names)


class PayFirst(ChangeRefused):
    """The line is held for an unpaid bill."""

    @property
    def customer_message(self) -> str:
        return _("A bill is overdue. Pay it first; then you can change your plan.")


class UsedMore(ChangeRefused):
    """At once it would leave less data in the period than is used already."""

    @property
    def customer_message(self) -> str:
        return _(
            "You have used more data than this plan would leave you in this period. "
            "Choose it from the next bill day on."
        )


class PausedThen(ChangeRefused):
    """Nothing changes while the account is paused."""

    def __init__(self, until_on: date) -> None:
        super().__init__()
        self.until_on = until_on

    @property
    def customer_message(self) -> str:
        return _(
            "Your service is paused on that day. Choose a day from %(day)s on, or end the pause"
            " first.",
            day=format_day(self.until_on),
        )


class PauseUnderWay(ChangeRefused):
    """A pause waits or runs already."""

    @property
    def customer_message(self) -> str:
        return _("A pause is already planned. Take it back first to choose other days.")


class PauseTooSoon(ChangeRefused):
    """It would begin before it can, which is on `first_on`."""

    def __init__(self, first_on: date) -> None:
        super().__init__()
        self.first_on = first_on

    @property
    def customer_message(self) -> str:
        return _("A pause can begin from %(day)s on.", day=format_day(self.first_on))


class PauseTooFar(ChangeRefused):
    """It would begin later than can be planned."""

    def __init__(self, last_on: date) -> None:
        super().__init__()
        self.last_on = last_on

    @property
    def customer_message(self) -> str:
        return _("A pause can begin until %(day)s.", day=format_day(self.last_on))


class PauseLength(ChangeRefused):
    """It would be too short or too long."""

    def __init__(self, least: int, most: int) -> None:
        super().__init__()
        self.least, self.most = least, most

    @property
    def customer_message(self) -> str:
        return _("A pause lasts from %(least)s to %(most)s days.", least=self.least, most=self.most)


class PauseDaysUsed(ChangeRefused):
    """So many days are not left of the year."""

    def __init__(self, year: int, left: int) -> None:
        super().__init__()
        self.year, self.left = year, left

    @property
    def customer_message(self) -> str:
        return ngettext(
            "In %(year)s there is %(num)s day left to pause.",
            "In %(year)s there are %(num)s days left to pause.",
            self.left,
            year=self.year,
        )


class NothingToPause(ChangeRefused):
    """The account has no plan that can rest."""

    @property
    def customer_message(self) -> str:
        return _("None of your plans can be paused.")


class ChangeWithin(ChangeRefused):
    """A change is planned for a day of the pause."""

    def __init__(self, day: date) -> None:
        super().__init__()
        self.day = day

    @property
    def customer_message(self) -> str:
        return _(
            "A change of your plans is planned for %(day)s. Choose days before or after it, or take"
            " it back.",
            day=format_day(self.day),
        )


class PauseOver(ChangeRefused):
    """It does not run any more, or not yet."""

    @property
    def customer_message(self) -> str:
        return _("This pause does not run now. Look at it again.")


class MoveUnderWay(ChangeRefused):
    """The account moves already."""

    @property
    def customer_message(self) -> str:
        return _("You have told us already that you move. Take that back first.")


class SameAddress(ChangeRefused):
    """The account is there already."""

    @property
    def customer_message(self) -> str:
        return _("This is the address that we have. Write the new one.")


class NotHadThere(ChangeRefused):
    """The account has plans that cannot be had in the area; `names` are those."""

    def __init__(self, names: str) -> None:
        super().__init__()
        self.names = names

    @property
    def customer_message(self) -> str:
        return _(
            "%(plans)s cannot be had there. Ask the customer to remove it first.", plans=self.names
        )


class PlanMissing(ChangeRefused):
    """The internet plan is not had there, and none was chosen in its place."""

    @property
    def customer_message(self) -> str:
        return _("The plan that they have cannot be had there. Choose the one that follows it.")


class AccountClosed(ChangeRefused):
    """Nothing changes on an account that is closed."""

    @property
    def customer_message(self) -> str:
        return _("This account is closed. Talk to us to open it again.")


class QuoteChanged(ChangeRefused):
    """What it costs, or from when, is no longer what the page showed."""

    @property
    def customer_message(self) -> str:
        return _("What this costs has changed since the page was opened. Check it and go on.")


class NotUndoable(ChangeRefused):
    """It has taken effect, or was decided otherwise."""

    @property
    def customer_message(self) -> str:
        return _("This can no longer be taken back. Make another change instead.")


class EndUnderWay(ChangeRefused):
    """Everything is to end; what else is planned stays as it is until that is taken back."""

    @property
    def customer_message(self) -> str:
        return _("Cancelling is planned for this account. It has to be taken back first.")


class DayOutOfBounds(ChangeRefused):
    """Staff chose a day on which it cannot begin."""

    @property
    def customer_message(self) -> str:
        return _("Choose a day from today on, at most 90 days ahead.")


class DecidedMeanwhile(ChangeRefused):
    """Somebody decided about it, or it was taken back, or the account was closed."""

    @property
    def customer_message(self) -> str:
        return _("This was decided or taken back meanwhile.")


class TermsChanged(ChangeRefused):
    """The plan costs or binds otherwise than when it was asked for."""

    @property
    def customer_message(self) -> str:
        return _(
            "Price or terms of the plan have changed since it was asked for. Refuse, and ask the"
            " customer to choose again."
        )
