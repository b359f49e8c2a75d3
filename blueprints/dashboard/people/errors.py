"""The ways in which sharing an account can fail."""

from __future__ import annotations

from flask_babel import gettext as _

from core.errors import NotFound, Refusal


class PersonGone(NotFound):
    """Nobody of this name shares the account."""


class InvitationGone(NotFound):
    """There is no such invitation of this account that still waits."""


class LastOwner(Refusal):
    @property
    def customer_message(self) -> str:
        return _("An account needs an owner. Make somebody else the owner first.")


class AlreadyShares(Refusal):
    """Whoever accepts uses the account already; `account_public_id` says which."""

    def __init__(self, account_public_id: str) -> None:
        super().__init__()
        self.account_public_id = account_public_id


class InvitationDead(Refusal):
    """The link is dead; `why`: unknown, used, expired or withdrawn."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why


class AccountNotShared(NotFound):
    """The customer does not use such an account."""
