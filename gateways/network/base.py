"""The interface between the portal and the network that carries the lines.

A line is known by its username. Every call is safe to repeat and may raise `GatewayTimeout` or
`GatewayRefused`.
"""

from abc import ABC, abstractmethod
from enum import StrEnum


class NetworkState(StrEnum):
    """What a line lets through: everything, the pages for paying alone, or nothing.

    Emergency calls of a phone line go through while it is held, as the law asks.
    """

    OPEN = "open"
    HELD = "held"
    CLOSED = "closed"


class NetworkGateway(ABC):
    """Sets and reads the state of lines. `title` names it for people."""

    title: str

    @abstractmethod
    def set_state(self, username: str, state: NetworkState) -> None:
        """Bring the line to `state`, also when it is there already."""

    @abstractmethod
    def read_state(self, username: str) -> NetworkState | None:
        """The state the line is in; None for one the network does not know."""
