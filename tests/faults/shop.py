"""An evening of business at the portal's services, told step by step, and what must be true of it
after whatever happened to the machine."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from datetime import date

from blueprints.billing import settling
from blueprints.billing.errors import PaymentUnderWay
from blueprints.billing.starting import Choice
from blueprints.billing.verify import find_faults
from core.db import db, reading
from gateways.payments.base import Notice, Started, StartOrder
from gateways.payments.sandbox.store import Decision
from tests import world
from tests.billing.conftest import ShakyGateway, Till
from tests.conftest import Portal

NAMES = ("alice", "mallory", "rich")
DECISIONS = (Decision.PAY, Decision.PAY, Decision.PAY, Decision.DECLINE)

Tell = Callable[[str], None]


class Lost(AssertionError):
    """Something acknowledged is not there."""


PROMISES = {
    # The row with its key is there before the bank hears of it.
    "at_bank": "SELECT count(*) FROM payments WHERE key = :what",
    "sent": "SELECT count(*) FROM payments p JOIN form_keys f ON f.result = '/payments/' ||"
    " p.public_id WHERE p.public_id = :what AND p.hosted_url IS NOT NULL",
    "succeeded": "SELECT count(*) FROM payments p JOIN journal_entries e ON e.id = p.entry_id"
    " WHERE p.public_id = :what AND p.state = 'succeeded' AND e.key = 'payment:' || p.public_id",
    "declined": "SELECT count(*) FROM payments WHERE public_id = :what AND state = 'declined'",
    "noticed": "SELECT count(*) FROM gateway_notices n JOIN payments p"
    " ON 'event-' || p.key = n.event_id WHERE event_id = :what AND p.ended_at IS NOT NULL",
    "invoiced": "SELECT count(*) FROM invoices WHERE CAST(id AS TEXT) = :what",
    # With all that belongs to it: what is written last is its opening invoice.
    "imported": "SELECT count(*) FROM accounts a JOIN invoices i ON i.account_id = a.id"
    " WHERE a.number = :what AND i.kind = 'opening' AND a.balance_minor = 6567"
    " AND EXISTS (SELECT 1 FROM subscriptions s WHERE s.account_id = a.id)",
}
"""What was acknowledged, and the question that counts it: the answer must be 1."""


class ToldGateway(ShakyGateway):
    """The bank; what it hears of is told before it answers."""

    def __init__(self, portal: Portal, tell: Tell) -> None:
        super().__init__(portal)
        self._tell = tell

    def start(self, order: StartOrder) -> Started:
        self._tell(f"at_bank {order.key}")
        return super().start(order)


def trade(portal: Portal, dice: random.Random, tell: Tell, rounds: int = 1) -> None:
    """Payments begun, decided at the bank, and settled by a question or a notice; invoices."""
    till = Till(portal, ToldGateway(portal, tell))
    for _ in range(rounds):
        for name in dice.sample(NAMES, len(NAMES)):
            try:
                begun = till.start(name, Choice.OTHER, amount_minor=dice.randrange(100, 60_000))
            except PaymentUnderWay:
                continue
            tell(f"sent {begun.public_id}")
            key = portal.one("SELECT key FROM payments WHERE id = :id", id=begun.payment_id)
            portal.bank.decide(key, dice.choice(DECISIONS))
            if dice.random() < 0.5:
                state = settling.settle(begun.payment_id, till.gateway)
                tell(f"{state.value} {begun.public_id}")
            else:
                settling.take_notice(till.gateway, Notice(f"event-{key}", None, key))
                tell(f"noticed event-{key}")
        for invoice_id in world.issue_month(portal.world, (dice.choice(NAMES),), date(2030, 1, 1)):
            tell(f"invoiced {invoice_id}")


def check(portal: Portal, told: Iterable[str], promises: Mapping[str, str] = PROMISES) -> None:
    """What was acknowledged is there, the books add up, and the file is whole."""
    if portal.settings.is_sqlite:
        assert portal.rows("PRAGMA integrity_check") == [("ok",)]
        assert portal.rows("PRAGMA foreign_key_check") == []
    # A notice is stored with its effect or not at all.
    assert not portal.rows(
        "SELECT event_id FROM gateway_notices n JOIN payments p ON 'event-' || p.key = n.event_id"
        " WHERE p.ended_at IS NULL"
    )
    missing = [fact for fact in told if not _is_kept(portal, fact, promises)]
    if missing:
        raise Lost(missing)
    with portal.app.app_context(), reading() as session:
        assert list(find_faults(session)) == []


def _is_kept(portal: Portal, fact: str, promises: Mapping[str, str]) -> bool:
    kind, what = fact.split(" ", 1)
    return bool(portal.one(promises[kind], what=what) == 1)


def finish(portal: Portal) -> None:
    """What people and the worker do after a restart, at once: then our books are the bank's.

    Whoever was at the bank's page pays; what never reached the bank is cancelled.
    """
    gateway = ShakyGateway(portal)
    at_bank = {row.key: row.state for row in portal.bank.list_latest(100_000)}
    open_payments = portal.rows(
        "SELECT id, account_id, public_id, key FROM payments WHERE ended_at IS NULL ORDER BY id"
    )
    for payment_id, account_id, public_id, key in open_payments:
        if key not in at_bank:
            settling.cancel(account_id, public_id, gateway)
            continue
        if not at_bank[key].is_final:
            portal.bank.decide(key, Decision.PAY)
        settling.settle(payment_id, gateway)
    assert not portal.rows("SELECT id FROM payments WHERE ended_at IS NULL")
    ours = dict(portal.rows("SELECT key, state FROM payments WHERE key NOT LIKE 'world%'"))
    theirs = {row.key: row.state.value for row in portal.bank.list_latest(100_000)}
    ended = {"succeeded", "declined"}
    assert {key: state for key, state in ours.items() if state in ended} == {
        key: state for key, state in theirs.items() if state in ended
    }
    assert theirs.keys() <= ours.keys()
    db.session.remove()


def forget_connections(portal: Portal) -> None:
    """Close what the engine holds open, as the end of the process would."""
    with portal.app.app_context():
        db.session.remove()
        db.engine.dispose()
