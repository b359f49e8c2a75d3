"""The ways loading, importing and copying can fail; each text is one line for who runs it."""

from __future__ import annotations

from flask_babel import gettext as _

from core.errors import NotFound, Refusal


class CatalogInvalid(Exception):
    """The catalog file cannot be used, and nothing was written. The text names the key."""


class ImportImpossible(Exception):
    """The export as a whole cannot be imported: unreadable, wrong columns, or no ISP yet."""


class CopyImpossible(Exception):
    """The copy cannot begin or go on, because of the source or the target. The text says why."""


class RowRefused(CopyImpossible):
    """PostgreSQL would not take a row as it is."""

    def __init__(self, table: str, where: str, column: str | None, why: str) -> None:
        subject = f"its {column}" if column else "it"
        super().__init__(f"table {table}, {where}: {subject} {why}")
        self.table, self.where, self.column = table, where, column


class CopyInterrupted(Exception):
    """The target went away. What was committed is there, and the next run goes on behind it."""


class MemberUnknown(NotFound):
    """There is no such staff member."""


class MemberExists(Refusal):
    @property
    def customer_message(self) -> str:
        return _("A staff member with this e-mail address signs in already.")


class EmailUnclear(Refusal):
    @property
    def customer_message(self) -> str:
        return _("Enter an e-mail address like name@example.net.")


class LastAdministrator(Refusal):
    @property
    def customer_message(self) -> str:
        return _("Somebody has to stay administrator. Make another one first.")


class CodeWrong(Refusal):
    @property
    def customer_message(self) -> str:
        return _("This is not the code that we sent last, or its time is over.")


class NoWayToReset(Refusal):
    @property
    def customer_message(self) -> str:
        return _(
            "No contact on file may have a link. Ask them to come, and put a new contact on file."
        )


class ContactUnfit(Refusal):
    @property
    def customer_message(self) -> str:
        return _("No code can go to this contact. Choose another one.")
