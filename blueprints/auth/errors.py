"""The ways of getting in can fail."""

from __future__ import annotations

from flask_babel import gettext as _

from core.errors import NotFound, Refusal


class SignInRefused(Refusal):
    """ID or password is wrong: which one is never said."""

    @property
    def customer_message(self) -> str:
        return _("ID or password is not right. Please check both and try again.")


class LinkDead(Refusal):
    """The one-time link is unknown, used or expired."""


class RecoveryLinkDead(Refusal):
    """The link for a new password no longer works. `why`: used, old, replaced, or unknown where
    there never was such a link."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why


class ResetOverdone(Refusal):
    """A password was chosen with this form already, and it is another one."""


class CodeRefused(Refusal):
    """The code is not the one that was sent, was used, replaced or is too old, or it was not looked
    at because there were too many tries: which of them is never said."""

    @property
    def customer_message(self) -> str:
        return _(
            "This code is not right or no longer valid. If you are sure of it, wait five minutes "
            "and try again, or let us send a new one."
        )


class SignInIdTaken(Refusal):
    @property
    def customer_message(self) -> str:
        return _("Somebody already has this ID. Choose another one.")


class PasswordWeak(Refusal):
    """The password is refused; `reason` says what to do. `is_id_taken`: the ID that was chosen with
    it is refused too, which is said at once."""

    def __init__(self, reason: str, *, is_id_taken: bool = False) -> None:
        super().__init__()
        self.reason = reason
        self.is_id_taken = is_id_taken

    @property
    def customer_message(self) -> str:
        return self.reason


class AlreadyRegistered(Refusal):
    """The account has an owner who signs in."""


class AccountUnknown(Refusal):
    """There is no account with this number."""


class FactorNotFound(NotFound):
    """The customer has no such factor."""


class LastFactor(Refusal):
    @property
    def customer_message(self) -> str:
        return _("You need at least one second step. Add another one first.")


class CodeWrong(Refusal):
    """A code or second factor is not right; what about it is never said."""

    @property
    def customer_message(self) -> str:
        return _("This did not work. Check it and try again, or choose another way.")


class AppCodeWrong(CodeWrong):
    """The code is none that an authenticator app shows now, or it was used already."""

    @property
    def customer_message(self) -> str:
        return _(
            "This code does not count now. It changes every 30 seconds and works once: type the "
            "one that your app shows at this moment. If that is refused too, let your phone set "
            "its clock automatically."
        )


class NothingPending(Refusal):
    """What was to be confirmed was not begun, is done already, or too old."""


class PasskeyRefused(Refusal):
    """A passkey's answer does not hold: `reason` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    @property
    def customer_message(self) -> str:
        return _("This passkey did not work here. Try again, or choose another way.")


class ResetNotAllowed(Refusal):
    """A reset of lost factors stands elsewhere by now, or needs another member of staff."""

    @property
    def customer_message(self) -> str:
        return _("This cannot be done by you, or was done already.")
