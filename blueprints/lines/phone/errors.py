"""The ways choosing for a telephone number, or giving one out, can fail."""

from __future__ import annotations

from flask_babel import gettext as _

from core.errors import NotFound, Refusal


class NumberNotFound(NotFound):
    """The account has no such number in use."""


class ChosenMeanwhile(Refusal):
    """Something else was chosen since the page was shown."""

    @property
    def customer_message(self) -> str:
        return _(
            "Somebody else has changed this meanwhile. Next to each box stands what holds now;"
            " check what you chose and save again."
        )


class ForwardingRefused(Refusal):
    """Calls cannot go to the number that was typed."""


class NumberUnreadable(ForwardingRefused):
    """It is no telephone number."""

    @property
    def customer_message(self) -> str:
        return _("Enter the number with its area code, like +1 541 555 0100.")


class ForwardsToItself(ForwardingRefused):
    @property
    def customer_message(self) -> str:
        return _("This is the number itself. Enter another one to forward to.")


class ForwardsBack(ForwardingRefused):
    """The other number forwards its calls here: they would go round."""

    @property
    def customer_message(self) -> str:
        return _("That number forwards its own calls here. Switch that off first.")


class ForwardsDear(ForwardingRefused):
    @property
    def customer_message(self) -> str:
        return _("Calls cannot be forwarded to a number that costs extra.")


class ForwardsAbroad(ForwardingRefused):
    @property
    def customer_message(self) -> str:
        return _(
            "This number is abroad, and calls abroad are blocked. Enter another one, or switch the"
            " block off."
        )


class NumberRefused(Refusal):
    """A number cannot be given out so."""


class NoPhonePlan(NumberRefused):
    @property
    def customer_message(self) -> str:
        return _("No phone plan of this account is without a number.")


class NumberUnfit(NumberRefused):
    @property
    def customer_message(self) -> str:
        return _("This is no telephone number. Write it like +1 541 555 0100.")


class NumberTaken(NumberRefused):
    @property
    def customer_message(self) -> str:
        return _("This number is in use already. Take it back there first.")


class ShownOtherwise(Refusal):
    """Something else is wanted of the number than the page showed."""

    @property
    def customer_message(self) -> str:
        return _("Something else is wanted meanwhile. Set what stands here now.")
