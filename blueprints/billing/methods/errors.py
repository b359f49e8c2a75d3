"""The ways saving a payment method can fail."""

from __future__ import annotations

from flask_babel import gettext as _

from blueprints.billing import gateway_words
from core.errors import NotFound, Refusal


class MethodNotFound(NotFound):
    """There is no such method of this customer on this account."""


class MethodRefused(Refusal):
    """The method cannot be saved."""


class TooManyMethods(MethodRefused):
    """So many are saved or being saved that no further one is begun."""

    @property
    def customer_message(self) -> str:
        return _("You have saved as many as we keep. Remove one first, or wait an hour.")


class SavingSilent(MethodRefused):
    """The gateway did not answer; that it was begun is kept, and it is asked."""

    @property
    def customer_message(self) -> str:
        return _("The payment service did not answer. Nothing is saved yet; try again.")


class SavingDenied(MethodRefused):
    """The gateway refused to begin; `reason` is its sentence, safe to show."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    @property
    def customer_message(self) -> str:
        return gateway_words.translate(self.reason)
