"""The ways a change of plans can fail. `customer_message` is safe to show and says what to do."""

from __future__ import annotations

from flask_babel import gettext as _

from core.errors import NotFound, Refusal


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
