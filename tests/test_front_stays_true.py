"""What a customer sees is what is there, whoever changed it: each thing that anybody does to an
account is done while its pages are remembered and kept (core/front.py; bar 41)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from blueprints.billing import settling
from blueprints.billing.reconciling import reconcile
from blueprints.staff import catalog
from core import clock, maintenance
from core.isp import MaintenanceWindow
from gateways.payments.base import StartOrder
from gateways.payments.sandbox.store import Decision
from tests import crawl, world
from tests.conftest import Portal
from tests.staff.conftest import DATA, Desk, row
from tests.test_front import KEPT, ask, is_remembered, text, without_values

# What is written is the same on both engines.
pytestmark = pytest.mark.parametrize("engine_kind", ["sqlite"], indirect=True)

Act = Callable[[Portal], None]
PEOPLE = ("alice", "vera", "theo")


class Reader:
    """Somebody whose own device keeps each page of an account as it was opened last."""

    def __init__(self, portal: Portal, name: str, paths: list[str]) -> None:
        self.visitor = portal.visitor(name, own_device="y")
        self.paths = [path for path in paths if self._opens(path)]
        self.kept: dict[str, tuple[str, str]] = {}

    def _opens(self, path: str) -> bool:
        return ask(self.visitor, path).status_code == 200

    def open_all(self) -> None:
        """Open every page, so that it is remembered and kept."""
        for path in self.paths:
            ask(self.visitor, path)
            answer = ask(self.visitor, path)
            assert is_remembered(answer)
            self.kept[path] = (answer.headers["ETag"], without_values(text(answer)))

    def look(self) -> dict[str, str]:
        """What this person sees: the page that is sent, or else the one that is kept."""
        seen = {}
        for path, (tag, page) in self.kept.items():
            answer = ask(self.visitor, path, headers={"If-None-Match": tag})
            is_still = answer.status_code == 304
            seen[path] = page if is_still else without_values(text(answer))
            sent = ask(self.visitor, path)
            assert without_values(text(sent)) == seen[path], path
        return seen


def key_of(portal: Portal) -> str:
    return str(portal.one("SELECT key FROM payments ORDER BY id DESC LIMIT 1"))


def press_pay(portal: Portal) -> None:
    bob = portal.visitor("bob")
    assert bob.submit(bob.get(portal.path()), "/pay").status == 303


def settle(portal: Portal) -> None:
    payment_id = portal.one("SELECT id FROM payments ORDER BY id DESC LIMIT 1")
    with portal.app.app_context():
        settling.settle(payment_id, portal.gateway)


def at_the_bank(decision: Decision) -> Act:
    def act(portal: Portal) -> None:
        portal.bank.decide(key_of(portal), decision)
        settle(portal)

    return act


def nobody_answers(portal: Portal) -> None:
    """The bank has never heard of the payment, and the worker is told so."""
    portal.execute("UPDATE payments SET key = 'lost' WHERE state = 'sent'")
    settle(portal)


def reconcile_what_was_forgotten(portal: Portal) -> None:
    order = StartOrder(
        key="forgotten",
        amount_minor=6567,
        currency="USD",
        description="Pinecrest 1001",
        return_url="http://127.0.0.1:8000/pay/0123456789abcdef/return",
        customer_reference=portal.world.public_ids["alice"],
        language="en",
    )
    portal.bank.start(order)
    portal.bank.decide("forgotten", Decision.PAY)
    with portal.app.app_context():
        assert list(reconcile(portal.gateway, clock.now() - timedelta(hours=1)))


def issue_a_bill(portal: Portal) -> None:
    with portal.app.app_context():
        world.issue_month(portal.world, ("alice",), date(2026, 7, 1))


def sign_in_elsewhere(portal: Portal) -> None:
    for name in PEOPLE:
        portal.visitor(name)


def load_catalog(portal: Portal) -> None:
    loaded = catalog.read_file(DATA / "catalog.toml")
    plans = [plan | {"name": f"New {plan['name']}"} for plan in loaded.plans]
    with portal.app.app_context():
        catalog.store(replace(loaded, plans=plans))


def announce(portal: Portal) -> None:
    now = clock.now()
    window = MaintenanceWindow(
        False, now + timedelta(hours=1), now + timedelta(hours=2), (("", "Soon."),)
    )
    with portal.app.app_context():
        maintenance.set_window(window, portal.settings.data)


def import_again(**changes: str) -> Act:
    """The account's row in the old billing's export, as it is here but for `changes`."""

    def act(portal: Portal) -> None:
        folder = Path(portal.settings.data)
        theirs = row(
            account_number="1001",
            line_username="ppp-alice",
            plan_code="FIBER-300",
            activated_on="2025-01-01",
            bill_day="1",
            area="PINE",
            opening_balance="0",
        )
        with portal.app.app_context():
            result = Desk(portal, folder).take(theirs | changes)
        assert result.changed == 1, result

    return act


def nothing(_portal: Portal) -> None:
    """Time passes."""


ACTS: dict[str, tuple[Act, Act, float]] = {
    # what is done before the pages are opened, what while they are kept, hours that then pass
    "a payment is begun": (nothing, press_pay, 0),
    "a payment arrives": (press_pay, at_the_bank(Decision.PAY), 0),
    "a payment is declined": (press_pay, at_the_bank(Decision.DECLINE), 0),
    "a payment is cancelled": (press_pay, at_the_bank(Decision.CANCEL), 0),
    "a debit is on its way": (press_pay, at_the_bank(Decision.DEBIT), 0),
    "a payment becomes unknown": (press_pay, nobody_answers, 0),
    "a forgotten payment is booked": (nothing, reconcile_what_was_forgotten, 0),
    "a bill is issued": (nothing, issue_a_bill, 0),
    "they sign in elsewhere": (nothing, sign_in_elsewhere, 0.1),
    "plans are renamed": (nothing, load_catalog, 0),
    "maintenance is announced": (nothing, announce, 0),
    "what was announced is over": (announce, nothing, 2.5),
    "the account is held": (nothing, import_again(status="suspended"), 0),
    "the account is closed": (nothing, import_again(status="closed"), 0),
    "the account is renamed": (nothing, import_again(name="Somebody Else"), 0),
}


@pytest.mark.parametrize("what", ACTS)
def test_page_shows_what_is_there_when(
    portal: Portal, tick: Callable[..., None], what: str
) -> None:
    before, act, hours = ACTS[what]
    before(portal)
    readers = open_all(portal)
    tick(minutes=2)
    act(portal)
    tick(hours=hours)
    assert_all_see_what_is_there(portal, readers)


def test_bill_is_overdue_from_midnight_at_the_isp(
    portal: Portal, tick: Callable[..., None]
) -> None:
    press_pay(portal)
    at_the_bank(Decision.PAY)(portal)
    issue_a_bill(portal)  # due on 15 July
    tick(days=25, hours=11, minutes=57)
    readers = open_all(portal)
    tick(minutes=4)
    assert_all_see_what_is_there(portal, readers[:2])  # the third sees no money


def open_all(portal: Portal) -> list[Reader]:
    addresses = crawl.addresses(portal)
    readers = [Reader(portal, name, [addresses[each] for each in KEPT]) for name in PEOPLE]
    for reader in readers:
        reader.open_all()
    return readers


def assert_all_see_what_is_there(portal: Portal, readers: list[Reader]) -> None:
    """What is seen equals what is made without any memory, and is not what was kept."""
    seen = [reader.look() for reader in readers]
    portal.app.extensions["remembered"].forget()
    made = [
        {path: without_values(text(ask(reader.visitor, path))) for path in reader.kept}
        for reader in readers
    ]
    assert seen == made
    kept = [{path: page for path, (_tag, page) in reader.kept.items()} for reader in readers]
    assert made != kept
