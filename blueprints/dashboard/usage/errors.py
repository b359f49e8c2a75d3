"""The ways looking at usage can fail."""

from core.errors import NotFound


class LineNotFound(NotFound):
    """The account has no such line."""
