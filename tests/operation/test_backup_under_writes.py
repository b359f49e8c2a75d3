"""A backup taken while payments are booked as fast as the machine does (bar 73).

It shows one earlier moment: every payment acknowledged before it began is in it, its books add up,
and it can be restored by the command. How fast the machine wrote is printed, aim 200 a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from sqlalchemy.orm import Session

from blueprints.billing import payments, settling
from blueprints.billing.payments import NewPayment
from core import clock
from core.db import db, unit_of_work
from gateways.payments.base import GatewayState, Truth
from tests.conftest import Portal
from tests.operation.conftest import Operator
from tests.world import NOW

WRITERS = 3
LONGEST_SECONDS = 20


@dataclass
class Stream:
    """Writers that book payments one by one and note each once it is committed."""

    portal: Portal
    acknowledged: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    longest_seconds: float = 0.0

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)
        ]

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self.seconds = time.monotonic() - self._began

    def _write(self, writer: int) -> None:
        name = ("alice", "mallory", "rich")[writer % 3]
        end = time.monotonic() + LONGEST_SECONDS
        number = 0
        with self.portal.app.app_context(), clock.set_to(NOW):
            while not self._stop.is_set() and time.monotonic() < end:
                number += 1
                began = time.monotonic()
                try:
                    self._pay(name, f"stream-{writer}-{number}")
                except Exception as error:  # noqa: BLE001 - handed to the test
                    self.failures.append(error)
                    return
                self.longest_seconds = max(self.longest_seconds, time.monotonic() - began)
            db.session.remove()

    def _pay(self, name: str, key: str) -> None:
        account_id = self.portal.world.accounts[name]
        truth = Truth(
            f"ref-{key}", GatewayState.SUCCEEDED, 100, "USD", self.portal.world.public_ids[name],
            "Card ending 4242", "",
        )  # fmt: skip

        def work(session: Session) -> None:
            new = NewPayment(key, account_id, None, None, 100)
            [(payment_id, _public_id)] = payments.create(session, [new], "sandbox")
            settling.apply(session, [(payment_id, truth)])

        unit_of_work(work, account_id)
        self.acknowledged.append(key)


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + LONGEST_SECONDS
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_backup_under_a_stream_of_payments_restores_to_an_earlier_moment(
    operator: Operator, record_property: Callable[[str, object], None]
) -> None:
    portal, file = operator.portal, operator.folder / "one.backup"
    with Stream(portal) as stream:
        wait_until(lambda: len(stream.acknowledged) >= 60 or bool(stream.failures))
        before = set(stream.acknowledged)
        done = portal.app.test_cli_runner().invoke(args=["backup", str(file)])
        during = set(stream.acknowledged) - before
        wait_until(lambda: len(stream.acknowledged) >= len(before) + len(during) + 10)
    assert stream.failures == []
    assert done.exit_code == 0, done.output
    assert during, "nobody wrote while the backup was made"
    rate = len(stream.acknowledged) / stream.seconds
    engine = "SQLite" if portal.settings.is_sqlite else "PostgreSQL"
    words = (
        f"{engine:<11} {rate:5.0f} payments/s, {len(before)} before, {len(during)} during, "
        f"longest wait {stream.longest_seconds * 1000:.0f} ms"
    )
    record_property("table: a backup under a stream of payments", [words])

    operator.does("restore", "--yes", file)
    operator.does("ledger", "verify")
    restored = {key for (key,) in portal.rows("SELECT key FROM payments") if "stream" in key}
    assert before <= restored
    assert restored < set(stream.acknowledged)
    for writer in range(WRITERS):  # of each writer everything up to one moment
        numbers = {int(key.rsplit("-", 1)[1]) for key in restored if f"-{writer}-" in key}
        assert numbers == set(range(1, len(numbers) + 1))
