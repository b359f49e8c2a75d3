"""What becomes of a payment when the bank is silent, late, or tells us what we did not expect."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from blueprints.billing import settling, starting
from blueprints.billing.errors import GatewaySilent, NothingToPay, PaymentUnderWay
from core import clock
from gateways.payments.base import GatewayState, Notice, Truth
from gateways.payments.errors import GatewayRefused, GatewayUnknownKey
from gateways.payments.sandbox.store import Decision, SandboxStore
from models import PaymentState
from tests.billing.conftest import RETURN_URL, Till
from tests.world import NOW

Tick = Callable[..., None]


def lose(till: Till, call: str, what: str) -> None:
    """Let every call of one kind be lost."""
    till.gateway.loses = lambda made: what if made == call else None


def start_unanswered(till: Till, what: str = "after") -> None:
    lose(till, "start", what)
    with pytest.raises(GatewaySilent):
        till.start()
    till.gateway.loses = lambda _call: None


def test_payment_whose_start_was_not_answered_is_unknown_and_still_under_way(till: Till) -> None:
    start_unanswered(till)
    assert till.latest("state") == "unknown"
    with pytest.raises(PaymentUnderWay):
        till.start()


def test_payment_that_the_bank_knows_in_other_words_is_taken_back(till: Till) -> None:
    """The customer chose another language after the answer was lost."""
    start_unanswered(till)
    till.portal.execute("UPDATE accounts SET language = 'es' WHERE number = '1001'")
    account_id = till.portal.world.accounts["alice"]
    again = starting.resume(account_id, till.latest("public_id"), till.gateway, RETURN_URL)
    assert (again.hosted_url, till.latest("state")) == (None, "cancelled")
    assert till.start().hosted_url


def test_continuing_leads_to_the_page_that_the_lost_answer_named(till: Till) -> None:
    start_unanswered(till)
    till.settle()
    account_id = till.portal.world.accounts["alice"]
    for _ in range(2):
        again = starting.resume(account_id, till.latest("public_id"), till.gateway, RETURN_URL)
        assert (again.hosted_url or "").startswith(till.gateway.origin)
    assert till.gateway.calls.count("start") == 2
    assert len(till.portal.bank.list_latest(9)) == 1


def test_payment_that_never_arrived_expires_after_the_start_can_no_longer_be_on_its_way(
    till: Till, tick: Tick
) -> None:
    start_unanswered(till, "before")
    assert till.settle() == "unknown"
    tick(seconds=61)
    assert till.settle() == "expired"
    assert till.start().hosted_url


def test_start_that_arrives_after_its_payment_ended_is_taken_back(till: Till) -> None:
    """Cancelled in another tab while the start is on its way: the bank's page leads nowhere."""

    def cancel_meanwhile(call: str) -> None:
        if call == "start":
            till.gateway.before = lambda _call: None
            assert settling.cancel(
                till.portal.world.accounts["alice"], till.latest("public_id"), till.gateway
            ) is PaymentState.CANCELLED  # fmt: skip

    till.gateway.before = cancel_meanwhile
    assert till.start().hosted_url is None
    assert till.latest("state") == "cancelled"
    assert till.portal.bank.ask(till.latest("key")).state is GatewayState.CANCELLED


def test_start_is_not_sent_again_after_a_day(till: Till, tick: Tick) -> None:
    key = till.key("alice")
    lose(till, "start", "before")
    with pytest.raises(GatewaySilent):
        till.start(key=key)
    till.gateway.loses = lambda call: "before" if call == "ask" else None
    tick(hours=24)
    assert till.start(key=key).hosted_url is None
    assert till.gateway.calls == ["start", "ask"]


def test_bank_that_denies_a_payment_it_has_answered_is_not_believed_at_once(
    till: Till, tick: Tick, monkeypatch: pytest.MonkeyPatch
) -> None:
    till.start()
    denies = lambda _self, key: (_ for _ in ()).throw(GatewayUnknownKey(key))  # noqa: E731
    monkeypatch.setattr(SandboxStore, "ask", denies)
    monkeypatch.setattr(SandboxStore, "cancel", denies)
    tick(minutes=10)
    assert till.settle() == "unknown"
    account_id = till.portal.world.accounts["alice"]
    assert settling.cancel(account_id, till.latest("public_id"), till.gateway) == "unknown"
    tick(hours=13)
    assert till.settle() == "expired"


def test_refusal_to_say_where_a_payment_stands_is_silence(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    till.start()

    def refuse(_self: SandboxStore, _key: str) -> Truth:
        raise GatewayRefused("bad request", "No.")

    monkeypatch.setattr(SandboxStore, "ask", refuse)
    assert till.settle() == "unknown"


def test_silence_to_a_cancel_leaves_the_payment_unknown(till: Till) -> None:
    till.start()
    lose(till, "cancel", "after")
    account_id = till.portal.world.accounts["alice"]
    assert settling.cancel(account_id, till.latest("public_id"), till.gateway) == "unknown"
    assert till.settle() == "cancelled"


def test_notice_of_late_money_is_followed_up_though_the_bank_is_silent(
    till: Till, tick: Tick
) -> None:
    """The payment had ended here, the notice is answered, so nobody would ask again but we."""
    till.start()
    key = till.latest("key")
    till.portal.bank.decide(key, Decision.SILENT)
    till.portal.execute(
        "UPDATE payments SET state = 'expired', ended_at = created_at, ask_at = NULL"
        " WHERE key = :key",
        key=key,
    )
    lose(till, "ask", "before")
    assert settling.take_notice(till.gateway, Notice("late", None, key))
    for _ in range(3):
        tick(minutes=30)
        settling.ask_due(till.gateway)
    assert till.latest("state") == "expired"
    till.gateway.loses = lambda _call: None
    tick(hours=6)
    assert settling.ask_due(till.gateway) == 1
    assert (till.latest("state"), till.entry_count()) == ("succeeded", 1)
    assert till.latest("ask_at") is None


def test_bank_that_says_no_ends_the_questions_about_an_ended_payment(
    till: Till, tick: Tick
) -> None:
    till.start()
    key = till.latest("key")
    till.portal.bank.decide(key, Decision.DECLINE)
    assert till.settle() == "declined"
    lose(till, "ask", "before")
    settling.take_notice(till.gateway, Notice("again", None, key))
    till.gateway.loses = lambda _call: None
    tick(hours=1)
    assert settling.ask_due(till.gateway) == 1
    assert till.latest("ask_at") is None
    assert till.latest("state") == "declined"


def test_visits_of_the_return_page_do_not_put_off_the_worker(till: Till, tick: Tick) -> None:
    till.start()
    planned = till.latest("ask_at")
    visitor = till.portal.visitor()
    for _ in range(8):
        visitor.get(f"/pay/{till.latest('public_id')}/return")
    assert till.latest("ask_at") == planned
    tick(minutes=2)
    assert settling.ask_due(till.gateway) == 1


def test_debit_that_is_on_its_way_does_not_become_a_page_again(till: Till) -> None:
    till.start()
    till.portal.bank.decide(till.latest("key"), Decision.DEBIT)
    assert till.settle() == "processing"
    truth = replace(till.gateway.ask(till.latest("key")), state=GatewayState.PENDING)
    state = settling.apply_one(
        till.latest_id(), till.portal.world.accounts["alice"], truth, "sandbox", None
    )
    assert state == "processing"


def test_debit_under_way_for_a_payment_given_up_here_is_taken_up_again(till: Till) -> None:
    till.start()
    till.portal.bank.decide(till.latest("key"), Decision.DEBIT)
    till.portal.execute("UPDATE payments SET state = 'expired', ended_at = created_at"
                        " WHERE id = :id", id=till.latest_id())  # fmt: skip
    assert till.settle() == "processing"
    assert till.latest("ended_at") is None


@pytest.mark.parametrize(
    "lie",
    [{"amount_minor": 1}, {"currency": "EUR"}, {"customer_reference": "mallory"}],
    ids=["amount", "currency", "customer"],
)
def test_truth_that_is_not_our_intent_books_nothing(
    till: Till, lie: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    till.start()
    till.portal.bank.decide(till.latest("key"), Decision.PAY)
    truth = replace(till.gateway.ask(till.latest("key")), **lie)  # type: ignore[arg-type]
    account_id = till.portal.world.accounts["alice"]
    state = settling.apply_one(till.latest_id(), account_id, truth, "sandbox", "event")
    assert (state, till.entry_count()) == ("unknown", 0)
    assert till.portal.one("SELECT count(*) FROM gateway_notices") == 0
    assert any(record.levelname == "CRITICAL" for record in caplog.records)


def test_one_payment_that_cannot_be_settled_does_not_hold_up_the_others(
    till: Till, tick: Tick
) -> None:
    till.start("alice")
    bad = till.latest("key")
    till.start("mallory")
    good = till.latest("key")
    till.portal.bank.decide(good, Decision.PAY)

    def break_off(key: str) -> Truth:
        if key == bad:
            raise KeyError(key)
        return till.portal.bank.ask(key)

    till.gateway.ask = break_off  # type: ignore[method-assign]
    tick(minutes=10)
    assert settling.ask_due(till.gateway) == 2
    assert till.latest("state") == "succeeded"


# A month of a bank that is away again and again (bar 54) ----------------------------------------


def outages(dice: random.Random, start: datetime, days: int) -> list[tuple[datetime, datetime]]:
    """Times at which the bank does not answer: from ten seconds to six hours, some each day."""
    return [
        (begin, begin + timedelta(seconds=dice.uniform(10, 6 * 3600)))
        for day in range(days)
        for _ in range(2)
        for begin in [start + timedelta(days=day, seconds=dice.uniform(0, 86_400))]
    ]


@pytest.fixture
def seed() -> int:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")
    return seed


def test_in_a_month_no_payment_stays_unknown_for_a_day(till: Till, tick: Tick, seed: int) -> None:
    dice = random.Random(seed)
    away = outages(dice, NOW, 31)

    def is_lost(call: str) -> str | None:
        if any(begin <= clock.now() < end for begin, end in away):
            return dice.choice(["before", "after"])
        return dice.choice(["before", "after", None]) if call == "start" else None

    till.gateway.loses = is_lost
    unknown_since: dict[int, datetime] = {}
    worst = timedelta(0)
    names = ("alice", "mallory", "rich")
    for _hour in range(30 * 24):
        if dice.random() < 0.2:
            name = dice.choice(names)
            choice = starting.Choice.OTHER
            try:
                till.start(name, choice, amount_minor=dice.randrange(100, 5000))
                till.portal.bank.decide(till.latest("key"), dice.choice([*Decision]))
            except (GatewaySilent, PaymentUnderWay):
                pass
        for _ in range(3):
            tick(minutes=20)
            settling.ask_due(till.gateway)
        now = clock.now()
        unknown = {row for (row,) in till.portal.rows(
            "SELECT id FROM payments WHERE state = 'unknown'")}  # fmt: skip
        unknown_since = {row: unknown_since.get(row, now) for row in unknown}
        worst = max([worst, *(now - since for since in unknown_since.values())])
    assert worst < timedelta(hours=24)
    tick(days=2)
    till.gateway.loses = lambda _call: None
    settling.ask_due(till.gateway)
    ours = dict(till.portal.rows("SELECT key, state FROM payments WHERE key NOT LIKE 'world%'"))
    assert len(ours) > 30
    for row in till.portal.bank.list_latest(1000):
        paid_here = ours[row.key] == PaymentState.SUCCEEDED
        paid_there = till.portal.bank.ask(row.key).state is GatewayState.SUCCEEDED
        assert paid_here == paid_there, row


def test_bank_debit_may_take_ten_banking_days(till: Till, tick: Tick) -> None:
    bank = SandboxStore(":memory:", clock=clock.now, debit_seconds=14 * 86_400)
    till.gateway._store = bank
    till.start()
    bank.decide(till.latest("key"), Decision.DEBIT)
    assert till.settle() == "processing"
    before = len(till.gateway.calls)
    for _hour in range(24 * 13):
        tick(hours=1)
        settling.ask_due(till.gateway)
    assert till.latest("state") == "processing"
    # A few questions on the first day, then one a day.
    assert 13 <= len(till.gateway.calls) - before <= 20
    with pytest.raises(NothingToPay):
        till.start()
    tick(days=2)
    settling.ask_due(till.gateway)
    assert (till.latest("state"), till.entry_count()) == ("succeeded", 1)
    bank.close()


def test_unknown_payment_is_asked_about_at_five_minutes_an_hour_and_then_daily(
    till: Till, tick: Tick
) -> None:
    till.gateway.loses = lambda _call: "before"
    with pytest.raises(GatewaySilent):
        till.start()
    asked: list[float] = []
    for seconds in [5] * 120 + [60] * 120 + [600] * 6 * 80:
        tick(seconds=seconds)
        if settling.ask_due(till.gateway):
            asked.append((clock.now() - NOW) / timedelta(hours=1))
    assert [round(hours * 60) for hours in asked if 1 / 30 < hours < 2] == [5, 60]
    day = [4, 7, 10, 13, 16, 19, 22, 23]
    assert [round(hours) for hours in asked if hours > 2] == [*day, 47, 71]
