"""The ways pages about a router can fail before it is asked."""

from core.errors import NotFound


class EquipmentNotOffered(NotFound):
    """Nothing here can reach routers, or the account has no line that one is at."""
