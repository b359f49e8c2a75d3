"""Money that the bank took and our books do not know: booked once, as the payment it was."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from click.testing import Result

from blueprints.billing import refunding, settling
from blueprints.billing.reconciling import DailyLook, Finding, find_only_ours, reconcile
from core import clock
from gateways.payments.base import StartOrder
from gateways.payments.errors import GatewayTimeout
from gateways.payments.sandbox.store import Decision, Reversing
from tests.billing.conftest import Till
from tests.conftest import Portal, together
from tests.world import NOW

Tick = Callable[..., None]
PUBLIC_ID = "0123456789abcdef"
SINCE = NOW - timedelta(hours=1)

on_sqlite = pytest.mark.parametrize("engine_kind", ["sqlite"], indirect=True)
"""For what has nothing to do with the engine."""


def forgotten(portal: Portal, decision: Decision | None = Decision.PAY, **changes: Any) -> str:
    """A payment at the bank that our database has never heard of; its key."""
    fields: dict[str, Any] = {
        "key": "forgotten",
        "amount_minor": 6567,
        "currency": "USD",
        "description": "Pinecrest 1001",
        "return_url": f"http://127.0.0.1:8000/pay/{PUBLIC_ID}/return",
        "customer_reference": portal.world.public_ids["alice"],
        "language": "en",
    } | changes
    portal.bank.start(StartOrder(**fields))
    if decision is not None:
        portal.bank.decide(str(fields["key"]), decision)
    return str(fields["key"])


def run(portal: Portal) -> list[Finding]:
    return [done.finding for done in reconcile(portal.gateway, SINCE)]


def row(portal: Portal, columns: str) -> tuple[object, ...]:
    [found] = portal.rows(f"SELECT {columns} FROM payments WHERE key = 'forgotten'")
    return found


def test_forgotten_payment_is_booked_as_what_it_was(ctx: Portal, tick: Tick) -> None:
    balance = ctx.one("SELECT balance_minor FROM accounts WHERE number = '1001'")
    forgotten(ctx)
    tick(days=2)
    assert run(ctx) == [Finding.BOOKED]
    assert row(ctx, "public_id, state, amount_minor, method") == (
        PUBLIC_ID,
        "succeeded",
        6567,
        "Card ending 4242",
    )
    assert (
        ctx.one(f"SELECT booked_on || '' FROM journal_entries WHERE key = 'payment:{PUBLIC_ID}'")
        == "2026-06-20"
    )
    assert ctx.one("SELECT balance_minor FROM accounts WHERE number = '1001'") == balance - 6567


@on_sqlite
def test_receipt_is_found_again_and_not_sent_again(portal: Portal) -> None:
    messages = portal.one("SELECT count(*) FROM messages")
    forgotten(portal)
    with portal.app.app_context():
        run(portal)
    alice = portal.visitor("alice")
    assert alice.get(portal.path(f"billing/payments/{PUBLIC_ID}")).status == 200
    assert portal.one("SELECT count(*) FROM messages") == messages


def test_second_run_and_the_worker_change_nothing(ctx: Portal) -> None:
    forgotten(ctx)
    assert run(ctx) == [Finding.BOOKED]
    entries = ctx.one("SELECT count(*) FROM journal_entries")
    assert run(ctx) == [Finding.KNOWN]
    settling.ask_due(ctx.gateway)
    assert ctx.one("SELECT count(*) FROM journal_entries") == entries


def test_runs_at_once_book_once(portal: Portal) -> None:
    for number in range(3):
        forgotten(portal, key=f"forgotten-{number}")

    def one(_number: int) -> list[Finding]:
        with portal.app.app_context():
            return run(portal)

    for found in together(6, one):
        assert isinstance(found, list), found
    assert portal.one("SELECT count(*) FROM payments WHERE state = 'succeeded'") == 5


def test_debit_on_its_way_is_known_from_then_on(ctx: Portal, tick: Tick) -> None:
    forgotten(ctx, Decision.DEBIT)
    assert run(ctx) == [Finding.ON_ITS_WAY]
    assert row(ctx, "state") == ("processing",)
    assert run(ctx) == [Finding.KNOWN]
    tick(minutes=30)
    settling.ask_due(ctx.gateway)
    assert row(ctx, "state") == ("succeeded",)


def test_payment_under_way_here_is_in_nobodys_way(till: Till) -> None:
    till.start("alice")
    forgotten(till.portal)
    assert sorted(run(till.portal)) == [Finding.BOOKED, Finding.KNOWN]


def test_payment_that_we_gave_up_is_booked(till: Till, tick: Tick) -> None:
    till.start("alice")
    key = till.latest("key")
    till.portal.bank.decide(key, Decision.PAY)
    till.portal.execute(
        "UPDATE payments SET state = 'expired', ask_at = NULL WHERE key = :key", key=key
    )
    assert run(till.portal) == [Finding.BOOKED]
    assert till.entry_count() == 1
    assert run(till.portal) == [Finding.KNOWN]


@on_sqlite
def test_page_that_is_still_open_is_said_and_what_moved_no_money_is_not(ctx: Portal) -> None:
    forgotten(ctx, None)
    forgotten(ctx, Decision.DECLINE, key="declined")
    assert run(ctx) == [Finding.STILL_OPEN]
    assert ctx.one("SELECT count(*) FROM payments") == 2


@on_sqlite
def test_older_payments_are_not_looked_at(ctx: Portal, tick: Tick) -> None:
    forgotten(ctx)
    assert list(reconcile(ctx.gateway, clock.now() + timedelta(seconds=1))) == []


def test_public_id_of_another_payment_is_not_taken(ctx: Portal) -> None:
    taken = ctx.one("SELECT public_id FROM payments ORDER BY id LIMIT 1")
    forgotten(ctx, return_url=f"http://127.0.0.1:8000/pay/{taken}/return")
    assert run(ctx) == [Finding.BOOKED]
    assert row(ctx, "public_id") != (taken,)


@on_sqlite
@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"customer_reference": "nobody"}, Finding.NO_ACCOUNT),
        ({"currency": "EUR"}, Finding.DIFFERS),
        ({"key": "x" * 100}, Finding.NO_ACCOUNT),
    ],
)
def test_what_cannot_be_ours_is_said_and_not_booked(
    ctx: Portal, changes: dict[str, Any], finding: Finding
) -> None:
    forgotten(ctx, **changes)
    assert run(ctx) == [finding]
    assert ctx.one("SELECT count(*) FROM payments") == 2


def test_list_that_breaks_off_keeps_what_was_booked(
    ctx: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten(ctx)
    whole = ctx.gateway.list_since

    def breaks(since):
        yield next(whole(since))
        raise GatewayTimeout("gone")

    monkeypatch.setattr(ctx.gateway, "list_since", breaks)
    found: Counter[Finding] = Counter()
    with contextlib.suppress(GatewayTimeout):
        for done in reconcile(ctx.gateway, SINCE):
            found[done.finding] += 1
    assert found == {Finding.BOOKED: 1}
    assert row(ctx, "state") == ("succeeded",)


# What went back ------------------------------------------------------------------------------


def balance(portal: Portal) -> int:
    return int(portal.one("SELECT balance_minor FROM accounts WHERE number = '1001'"))


def test_what_went_back_of_a_forgotten_payment_is_booked_too(ctx: Portal) -> None:
    before = balance(ctx)
    key = forgotten(ctx)
    ctx.bank.refund(key, "by-hand", 567)
    ctx.bank.reverse(key, Reversing.CHARGEBACK)
    assert run(ctx) == [Finding.BOOKED, Finding.BACK]
    assert balance(ctx) == before
    assert run(ctx) == [Finding.KNOWN]
    kinds = ctx.rows("SELECT kind, amount_minor FROM payment_reversals ORDER BY id")
    assert sorted(kinds) == [("chargeback", 6000), ("refund", 567)]


def test_a_refund_of_ours_is_not_booked_twice(till: Till) -> None:
    """Its answer was lost: it is asked about, not taken for one of the gateway's own."""
    till.start("alice")
    key = str(till.latest("key"))
    till.portal.bank.decide(key, Decision.PAY)
    till.settle()
    till.gateway.loses = lambda call: "after" if call == "refund" else None
    world = till.portal.world
    refunding.ask_refund(
        world.accounts["alice"], till.latest("public_id"), 700, "", world.customers["ben"], "k"
    )
    till.gateway.loses = lambda _call: None
    found = [done.finding for done in reconcile(till.gateway, SINCE)]
    assert found == [Finding.KNOWN, Finding.BACK]
    assert till.portal.rows("SELECT key, state FROM payment_reversals") == [("k", "succeeded")]


def test_a_refund_that_came_back_without_a_word_is_booked_back(till: Till) -> None:
    till.start("alice")
    key = str(till.latest("key"))
    till.portal.bank.decide(key, Decision.PAY)
    till.settle()
    world = till.portal.world
    refunding.ask_refund(
        world.accounts["alice"], till.latest("public_id"), 700, "", world.customers["ben"], "k"
    )
    owed = balance(till.portal)
    till.portal.bank.reverse(key, Reversing.REFUND_FAILED)
    assert [done.finding for done in reconcile(till.gateway, SINCE)] == [
        Finding.KNOWN,
        Finding.BACK,
    ]
    assert balance(till.portal) == owed - 700
    assert [done.finding for done in reconcile(till.gateway, SINCE)] == [Finding.KNOWN]


def test_what_differs_is_named(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway says that it gave back less than the books have, and not of which refund."""
    till.start("alice")
    till.portal.bank.decide(str(till.latest("key")), Decision.PAY)
    till.settle()
    world = till.portal.world
    refunding.ask_refund(
        world.accounts["alice"], till.latest("public_id"), 700, "", world.customers["ben"], "k"
    )
    whole = till.gateway.list_since

    def less(since):
        return (replace(each, refunded_minor=200) for each in whole(since))

    monkeypatch.setattr(till.gateway, "list_since", less)
    with clock.set_to(clock.now() + timedelta(minutes=1)):
        found = [done.finding for done in reconcile(till.gateway, SINCE)]
    assert found == [Finding.KNOWN, Finding.BACK_DIFFERS]


def test_what_only_our_books_have_is_named(till: Till) -> None:
    till.start("alice")
    till.portal.bank.decide(str(till.latest("key")), Decision.PAY)
    till.settle()
    assert list(find_only_ours(till.gateway, SINCE)) == []
    till.portal.execute(
        "UPDATE payments SET key = 'unknown there' WHERE id = :id", id=till.latest_id()
    )
    [only] = find_only_ours(till.gateway, SINCE)
    assert only.public_id == till.latest("public_id")


def test_the_worker_looks_once_a_day(till: Till, tick: Tick) -> None:
    till.start("alice")
    till.portal.bank.decide(str(till.latest("key")), Decision.PAY)
    till.settle()
    before = balance(till.portal)
    look = DailyLook(till.gateway)
    till.portal.bank.reverse(str(till.latest("key")), Reversing.CHARGEBACK)
    assert look() == 0  # not at once after each start
    tick(minutes=31)
    assert look() == 2
    assert balance(till.portal) > before
    tick(hours=23)
    assert look() == 0
    tick(hours=2)
    assert look() == 1
    assert DailyLook(None)() == 0


def test_a_look_that_breaks_off_is_made_the_next_day(
    till: Till, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_since):
        raise GatewayTimeout("gone")

    monkeypatch.setattr(till.gateway, "list_since", breaks)
    look = DailyLook(till.gateway)
    tick(minutes=31)
    assert look() == 0
    monkeypatch.undo()
    forgotten(till.portal)
    tick(days=1)
    assert look() == 1


# The command ---------------------------------------------------------------------------------


def command(portal: Portal, since: str) -> Result:
    return portal.app.test_cli_runner().invoke(args=["billing", "reconcile", "--since", since])


@on_sqlite
@pytest.mark.parametrize("since", ["2026-06-20", "2026-06-20T11:00-07:00", "2026-06-20T18:00Z"])
def test_command_says_what_it_booked(portal: Portal, since: str) -> None:
    forgotten(portal)
    done = command(portal, since)
    assert done.exit_code == 0
    assert "2026-06-20 19:00  $65.67  account 1001" in done.output
    assert "1 booked, 0 on their way, 0 known before." in done.output


@on_sqlite
def test_command_leaves_to_a_person_what_it_cannot_book(portal: Portal) -> None:
    forgotten(portal, customer_reference="nobody")
    key = forgotten(portal, key="refunded", return_url="http://127.0.0.1:8000/")
    portal.bank.refund(key, "refund-1", 1000)
    done = command(portal, "2026-06-20")
    assert done.exit_code == 1
    assert "NOT BOOKED, no account has this reference" in done.output
    assert "booked what went back  refunded: $10.00 there, $10.00 here" in done.output
    assert "Left for you, see the lines above: 1." in done.output


@on_sqlite
@pytest.mark.parametrize("since", ["yesterday", "2026-06-20T18:00", "2026-13-01", "2030-01-01", ""])
def test_command_refuses_a_day_it_does_not_understand(portal: Portal, since: str) -> None:
    assert command(portal, since).exit_code in (1, 2)


@on_sqlite
def test_command_without_a_gateway_says_so(portal: Portal) -> None:
    portal.app.extensions["payment_gateway"] = None
    assert "no payment gateway" in command(portal, "2026-06-20").output
