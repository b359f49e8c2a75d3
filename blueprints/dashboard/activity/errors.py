"""The ways in which looking at what happened can fail."""

from core.errors import NotFound


class EventGone(NotFound):
    """There is no such event of this customer's own."""
