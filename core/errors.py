"""The bases of all refusals; `app.py` turns them into pages."""

from __future__ import annotations

from flask_babel import gettext as _


class Refusal(Exception):
    """Something that cannot be done, with a sentence for the customer."""

    @property
    def customer_message(self) -> str:
        return _("This cannot be done right now.")


class NotFound(Refusal):
    """It does not exist, or not for whoever asks: both look the same (bar 31). Shown as 404."""
