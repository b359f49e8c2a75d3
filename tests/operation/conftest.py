"""The operator's commands on the portal's own database, in this process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import Result

from core import sole_use
from gateways.payments.sandbox.store import Decision
from tests import world
from tests.conftest import Base, Portal


@dataclass
class Operator:
    """Somebody at the command line of a portal that is stopped between commands."""

    portal: Portal
    base: Base
    folder: Path

    def run(self, *arguments: str | Path) -> Result:
        """What `flask ARGUMENTS` does."""
        self.leave()
        return self.portal.app.test_cli_runner().invoke(args=[str(word) for word in arguments])

    def does(self, *arguments: str | Path) -> str:
        """The same for what must succeed; what it said."""
        done = self.run(*arguments)
        assert done.exit_code == 0, done.output
        return done.output

    def refuses(self, *arguments: str | Path) -> str:
        """The same for what must not; what it said."""
        done = self.run(*arguments)
        assert done.exit_code == 1, done.output
        assert len(done.output.splitlines()) <= 2, done.output
        return done.output

    def refuses_after_words(self, *arguments: str | Path) -> str:
        """The same for what first says what it is about to do."""
        done = self.run(*arguments)
        assert done.exit_code == 1, done.output
        assert len(done.output.splitlines()) <= 3, done.output
        return done.output

    def leave(self) -> None:
        """Close this process's connections, as when the portal has ended."""
        self.base.leave()
        for lock in list(sole_use._held):
            sole_use._forget(lock)

    def backup(self, name: str = "one.backup") -> Path:
        path = self.folder / name
        self.does("backup", path)
        return path

    def pay(self, name: str, key: str) -> None:
        """Pay all that the account owes."""
        with self.portal.app.app_context():
            world.pay_all(self.portal.world, name, self.portal.gateway, self.portal.bank, key=key)

    def press_pay(self, name: str) -> str:
        """Pay at the bank through the pages, the browser never coming back; our key."""
        visitor = self.portal.visitor(name)
        visitor.submit(visitor.get(self.portal.path(account=name)), "/pay")
        key = str(self.portal.one("SELECT key FROM payments ORDER BY id DESC LIMIT 1"))
        self.portal.bank.decide(key, Decision.PAY)
        return key

    def payments(self) -> list[tuple[object, ...]]:
        """Every payment with what the customer and the books see of it."""
        return self.portal.rows(
            "SELECT p.key, p.public_id, p.amount_minor, p.state, e.booked_on FROM payments p"
            " LEFT JOIN journal_entries e ON e.id = p.entry_id ORDER BY p.key"
        )

    def books(self) -> list[tuple[object, ...]]:
        return self.portal.rows("SELECT key, account_id FROM journal_entries ORDER BY id")


@pytest.fixture
def operator(portal: Portal, base: Base, tmp_path: Path) -> Operator:
    return Operator(portal, base, tmp_path)
