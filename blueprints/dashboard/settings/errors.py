"""The ways in which setting something can fail."""

from __future__ import annotations

from flask_babel import gettext as _

from core.errors import NotFound, Refusal


class ContactUnreadable(Refusal):
    """What was typed is neither an e-mail address nor a phone number; `kind` says which was
    asked for."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    @property
    def customer_message(self) -> str:
        if self.kind == "email":
            return _("Enter an e-mail address, like name@example.com.")
        return _("Enter a phone number with its area code, like +1 541 555 0100.")


class ContactOnFile(Refusal):
    @property
    def customer_message(self) -> str:
        return _("We have this one already.")


class LastContact(Refusal):
    """It is the only e-mail address or phone number that is left."""

    @property
    def customer_message(self) -> str:
        return _("This is the last way to reach you. Add another one first.")


class ContactInUse(Refusal):
    """A second step sends its codes there."""

    @property
    def customer_message(self) -> str:
        return _("Your second step sends its codes there. Remove that step first.")


class WrongCode(Refusal):
    @property
    def customer_message(self) -> str:
        return _("This is not the code, or it is too old. Check it, or have a new one sent.")


class ChangeGone(NotFound):
    """There is no such pending contact, it ran out, or it was taken back."""


class ContactGone(NotFound):
    """There is no such contact on file, or not for this customer."""


class SessionGone(NotFound):
    """There is no such session or device, it has ended, or it is somebody else's."""


class SecurityOff(Refusal):
    """No channel would be left for what concerns security."""

    @property
    def customer_message(self) -> str:
        return _("Security messages need at least one way to reach you.")


class StaffCannotClose(Refusal):
    """Whoever works for the ISP is shut out by an administrator first."""

    @property
    def customer_message(self) -> str:
        return _("You are on the staff. Ask an administrator to end your access first.")
