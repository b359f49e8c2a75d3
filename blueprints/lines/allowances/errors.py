"""The ways buying more data can fail."""

from __future__ import annotations

from flask_babel import gettext as _

from core.errors import NotFound, Refusal


class NoTopUp(NotFound):
    """No data can be bought for this line beside what is included."""


class PayFirst(Refusal):
    """The line is held for an unpaid bill: more data would not open it."""

    @property
    def customer_message(self) -> str:
        return _("A bill is overdue. Pay it first; then you can buy more data.")


class OfferChanged(Refusal):
    """What is offered, or its price, is not what the page had shown."""

    @property
    def customer_message(self) -> str:
        return _("What we offer has changed since you opened this page. Here is how it is now.")


class BoughtMeanwhile(Refusal):
    """Since the page was opened, data was bought for this line: in another tab, say."""

    @property
    def customer_message(self) -> str:
        return _("Data was bought for this line in the meantime. Buy again only if you want more.")
