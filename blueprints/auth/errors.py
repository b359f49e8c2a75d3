"""The ways of getting in can fail."""

from __future__ import annotations

from flask_babel import gettext as _

from core.errors import Refusal


class SignInRefused(Refusal):
    """ID or password is wrong: which one is never said."""

    @property
    def customer_message(self) -> str:
        return _("ID or password is not right. Please check both and try again.")


class LinkDead(Refusal):
    """The one-time link is unknown, used or expired."""


class SignInIdTaken(Refusal):
    @property
    def customer_message(self) -> str:
        return _("Somebody already has this ID. Choose another one.")


class PasswordWeak(Refusal):
    """The password is refused; `reason` says what to do."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    @property
    def customer_message(self) -> str:
        return self.reason


class AlreadyRegistered(Refusal):
    """The account has an owner who signs in."""


class AccountUnknown(Refusal):
    """There is no account with this number."""
