"""The interface between the portal and the routers at the ends of the lines.

A router is found by the username of its line, anew for each call, so that no call can reach one
that belongs to another line. The errors are those of the network (`errors.py`).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from core.findings import Finding
from gateways.network.base import KnownLines


class Outcome(StrEnum):
    """Whether the router has done it, or will when it next reports."""

    DONE = "done"
    QUEUED = "queued"


@dataclass(frozen=True, slots=True)
class WifiNetwork:
    """A Wi-Fi network of a router. `key` names it in later calls; `band` is like "2.4", or empty
    where it is not known. Without `has_password` only its name can be changed."""

    key: str
    name: str
    band: str = ""
    has_password: bool = True


@dataclass(frozen=True, slots=True)
class ConnectedDevice:
    """Something that is connected to a router; its name may be empty."""

    name: str
    mac: str


@dataclass(frozen=True, slots=True)
class Equipment:
    """A router as it was when it was last heard. `devices` is None where the model does not tell;
    `devices_at` is when it told. Without `can_refresh` it cannot be asked to tell anew."""

    model: str
    heard_at: datetime | None
    is_online: bool
    networks: tuple[WifiNetwork, ...] = ()
    devices: tuple[ConnectedDevice, ...] | None = None
    devices_at: datetime | None = None
    can_refresh: bool = True


@dataclass(frozen=True, slots=True)
class WifiChange:
    """A new name for networks, and a new password unless it stays as it is."""

    keys: Sequence[str]
    name: str
    password: str | None = None

    def __repr__(self) -> str:
        """Without the password: this may stand in a log."""
        return f"WifiChange({self.keys!r}, {self.name!r})"


class EquipmentGateway(ABC):
    """Reads and changes routers. Every call ends within some seconds, and what was asked for twice
    happens once where it is still queued. `title` names it for people.

    All raise NoEquipment, SeveralEquipment, GatewayAway or GatewayRefused, which have changed
    nothing; those that change something also GatewayTimeout.
    """

    title: str

    @abstractmethod
    def read(self, username: str) -> Equipment:
        """The router of a line."""

    @abstractmethod
    def restart(self, username: str) -> Outcome:
        """Have the router start anew."""

    @abstractmethod
    def change_wifi(self, username: str, change: WifiChange) -> Outcome:
        """Change name and password of those networks that `change` names."""

    @abstractmethod
    def refresh(self, username: str) -> Outcome:
        """Have the router say anew what it knows."""

    @abstractmethod
    def check(self, known_lines: KnownLines) -> Iterator[Finding]:
        """Try the way to the routers and say what is wrong with it, changing nothing."""
