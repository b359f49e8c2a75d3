"""A network that tests can have fail, and the line of each account."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.lines import holding
from blueprints.lines.syncing import Syncing
from core.db import db, refuse_inside_unit, unit_of_work
from gateways.network.base import NetworkState, Setting
from gateways.network.simulated import SimulatedNetwork
from models import HoldReason, Line
from tests.conftest import Portal


class ShakyNetwork(SimulatedNetwork):
    """The simulated network; `before` and `after` are called around each change."""

    def __init__(self, portal: Portal) -> None:
        path = portal.settings.data / "network.db"
        path.unlink(missing_ok=True)
        super().__init__(path)
        self.calls: list[tuple[str, Setting, Setting | None]] = []
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    def set_line(self, username: str, wanted: Setting, confirmed: Setting | None) -> None:
        refuse_inside_unit("a call to the network")
        self.before()
        super().set_line(username, wanted, confirmed)
        self.calls.append((username, wanted, confirmed))
        self.after()


@dataclass
class Street:
    """The lines of the world and the network that carries them."""

    portal: Portal
    network: ShakyNetwork
    sync: Syncing

    def line_id(self, name: str = "alice") -> int:
        account_id = self.portal.world.accounts[name]
        return db.session.scalars(select(Line.id).where(Line.account_id == account_id)).one()

    def hold(self, reason: HoldReason = HoldReason.UNPAID, name: str = "alice") -> None:
        self._write(holding.hold, reason, name)

    def release(self, reason: HoldReason = HoldReason.UNPAID, name: str = "alice") -> None:
        self._write(holding.release, reason, name)

    def _write(
        self,
        do: Callable[[Session, Sequence[int], HoldReason], object],
        reason: HoldReason,
        name: str,
    ) -> None:
        line_id = self.line_id(name)
        unit_of_work(
            lambda session: do(session, [line_id], reason), self.portal.world.accounts[name]
        )

    def column(self, name: str, of: str = "alice") -> object:
        [value] = self.portal.rows(
            f"SELECT {name} FROM lines WHERE account_id = :id", id=self.portal.world.accounts[of]
        )[0]
        return value

    def reached(self, name: str = "alice") -> NetworkState | None:
        return self.network.read_state(f"ppp-{name}")


@pytest.fixture
def street(ctx: Portal) -> Street:
    network = ShakyNetwork(ctx)
    street = Street(ctx, network, Syncing(network))
    street.sync()
    return street
