"""The interface between the portal and the network that carries the lines.

A line is known by its username. Every call is safe to repeat and may raise `GatewayTimeout` or
`GatewayRefused`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from core.findings import Finding


class NetworkState(StrEnum):
    """What a line lets through: everything, the pages for paying alone, or nothing.

    Emergency calls of a phone line go through while it is held, as the law asks.
    """

    OPEN = "open"
    HELD = "held"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Setting:
    """What the network makes of a line: whether it is open, and its speeds; None: the network's
    own."""

    state: NetworkState
    down_kbps: int | None = None
    up_kbps: int | None = None


LONGEST_SESSION = timedelta(days=400)
"""A session that claims to be older does not know how old it is."""


class ReportKind(StrEnum):
    """What a NAS says with an accounting report (RFC 2866, 5.1: Acct-Status-Type)."""

    START = "start"
    INTERIM = "interim"
    STOP = "stop"
    REBOOT = "reboot"  # Accounting-On or Accounting-Off: every session of this NAS has ended


@dataclass(frozen=True, slots=True)
class Report:
    """One accounting report of a NAS about a session of a line.

    `at` is when the counters were so, by the clock of the NAS. `up_octets` and `down_octets` count
    from the beginning of the session as the customer sees it (Acct-Input-Octets is what the NAS
    took in: the customer's upload); None where the report has none. Without `has_gigawords` they
    are the lowest 32 bits at least: a NAS may leave out gigawords that are zero (RFC 2869, 5.1), or
    never send any. `session_seconds` (Acct-Session-Time) is None where the report has none.
    """

    kind: ReportKind
    nas: str
    at: datetime
    session: str = ""
    username: str = ""
    session_seconds: int | None = None
    up_octets: int | None = None
    down_octets: int | None = None
    has_gigawords: bool = False
    address: str = ""
    device: str = ""
    cause: str = ""


@dataclass(frozen=True, slots=True)
class Accounting:
    """What a network reported, and from where to read on the next time."""

    reports: tuple[Report, ...]
    cursor: str
    has_more: bool = False


KnownLines = Callable[[Collection[str]], set[str]]
"""Those of some line usernames that the portal knows."""


class NetworkGateway(ABC):
    """Sets lines and reads what they carried, every `read_every`. `title` names it for people."""

    title: str
    read_every: timedelta = timedelta(seconds=30)

    @abstractmethod
    def set_line(self, username: str, wanted: Setting, confirmed: Setting | None) -> None:
        """Bring the line to `wanted`, also when it is there already. `confirmed`: what the network
        was brought to at last, as far as that is known; None before the first time, when no session
        of an open line need be told."""

    @abstractmethod
    def read_state(self, username: str) -> NetworkState | None:
        """The state the line is in; None for one the network does not know."""

    @abstractmethod
    def read_accounting(self, cursor: str) -> Accounting:
        """What was reported since `cursor`, which is empty at first and then what the last answer
        said. A report may be given more than once."""

    @abstractmethod
    def check(self, known_lines: KnownLines) -> Iterator[Finding]:
        """Try every way to the network and say what is wrong with it, changing nothing."""
