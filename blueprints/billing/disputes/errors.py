"""Why nothing can be disputed, or said any more."""

from __future__ import annotations

from flask_babel import gettext as _

from core.errors import NotFound, Refusal


class DisputeNotFound(NotFound):
    """There is no such dispute on this account."""


class LineNotDisputable(Refusal):
    """Nothing is left of the line to give back, or it is a tax."""

    @property
    def customer_message(self) -> str:
        return _("Choose a line of this bill of which something is left to pay or to give back.")


class DisputedBefore(Refusal):
    """The line is disputed already: show that one."""

    def __init__(self, public_id: str) -> None:
        super().__init__()
        self.public_id = public_id

    @property
    def customer_message(self) -> str:
        return _("You have written to us about this line already.")


class DisputeOver(Refusal):
    """It is decided or withdrawn."""

    @property
    def customer_message(self) -> str:
        return _("This is decided already. Look at how it stands now.")


class WaitsForApproval(Refusal):
    """It is granted, and the credit waits for a second member of staff."""

    @property
    def customer_message(self) -> str:
        return _("The credit waits for a second member of staff. They decide now.")
