"""Notices shuffled, repeated and in parallel end as once and in order would (bar 56)."""

from __future__ import annotations

import json
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blueprints.billing.starting import Choice
from core import clock
from gateways.payments.sandbox.notices import notice_body
from gateways.payments.sandbox.store import Decision
from gateways.payments.signatures import signature_header
from tests import repeats
from tests.billing.conftest import ShakyGateway, Till
from tests.conftest import Portal, together
from tests.page import BASE

ENDS = [Decision.PAY, Decision.DECLINE, Decision.TWICE, Decision.CANCEL, Decision.DEBIT]
SENT = repeats.sized(400, 2_000, 10_000)
ROUNDS = repeats.sized(4, 12, 40)


def deliver(portal: Portal, body: bytes) -> int:
    header = signature_header(body, [portal.notice_secret], clock.now())
    answer = portal.app.test_client(use_cookies=False).post(
        "/webhooks/payments/sandbox",
        data=body,
        base_url=BASE,
        headers={"Sandbox-Signature": header},
        content_type="application/json",
    )
    return answer.status_code


def pay_for_a_while(till: Till, dice: random.Random) -> list[bytes]:
    """Payments one after the other on three accounts, settled by nothing; the bank's notices."""
    for _ in range(ROUNDS):
        for name in ("alice", "mallory", "rich"):
            till.start(name, Choice.OTHER, amount_minor=dice.randrange(100, 9_000))
            till.portal.bank.decide(till.latest("key"), dice.choice(ENDS))
            # Given up here, as far as we know, so that the next one can begin.
            till.portal.execute(
                "UPDATE payments SET state = 'expired', ended_at = created_at, ask_at = NULL"
                " WHERE id = :id",
                id=till.latest_id(),
            )
    return [notice_body(notice) for notice in till.portal.bank.list_due_notices(10_000)]


def state(portal: Portal) -> tuple[object, ...]:
    """Everything that notices may change, but for ids that follow from the order."""
    return (
        portal.rows("SELECT key, state, amount_minor FROM payments ORDER BY key"),
        portal.rows("SELECT number, balance_minor FROM accounts ORDER BY number"),
        portal.rows("SELECT key FROM journal_entries ORDER BY key"),
        portal.rows("SELECT event_id FROM gateway_notices ORDER BY event_id"),
        portal.rows(
            "SELECT e.key, sum(a.amount_minor) FROM allocations a JOIN journal_entries e"
            " ON e.id = a.entry_id WHERE e.key NOT LIKE 'payment:%' GROUP BY e.key ORDER BY e.key"
        ),
        portal.one("SELECT count(*) FROM messages"),
    )


def test_shuffled_repeated_and_parallel_notices_count_once(portal: Portal, tick) -> None:
    dice = repeats.dice()
    with portal.app.app_context():
        notices = pay_for_a_while(Till(portal, ShakyGateway(portal)), dice)
    tick(seconds=2)
    many = [body for body in notices for _ in range(dice.randint(1, 5))]
    many += dice.choices(notices, k=SENT - len(many))
    dice.shuffle(many)
    heaps = [many[number::8] for number in range(8)]
    answers = together(8, lambda number: {deliver(portal, body) for body in heaps[number]})
    assert answers == [{200}] * 8
    after = state(portal)
    for body in notices:
        assert deliver(portal, body) == 200
    assert state(portal) == after
    expected = {
        row.key: {"expired": "expired", "cancelled": "expired", "declined": "expired"}.get(
            row.state.value, row.state.value
        )
        for row in portal.bank.list_latest(10_000)
    }
    found = {
        str(key): str(value)
        for key, value in portal.rows("SELECT key, state FROM payments WHERE key NOT LIKE 'world%'")
    }
    assert found == expected
    paid = [row for row in portal.bank.list_latest(10_000) if row.state.value == "succeeded"]
    assert sum(row.amount_minor for row in paid) == portal.one(
        "SELECT coalesce(sum(amount_minor), 0) FROM payments"
        " WHERE state = 'succeeded' AND key NOT LIKE 'world%'"
    )


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.one_of(st.binary(max_size=300), st.dictionaries(st.text(), st.text()).map(json.dumps)),
    st.one_of(st.just(""), st.text(alphabet="tv1=,0123456789abcdef", max_size=90)),
)
def test_whatever_is_not_signed_by_the_bank_writes_nothing(
    portal: Portal, body: bytes | str, signature: str
) -> None:
    answer = portal.app.test_client(use_cookies=False).post(
        "/webhooks/payments/sandbox",
        data=body,
        base_url=BASE,
        headers={"Sandbox-Signature": signature},
        content_type="application/json",
    )
    assert answer.status_code == 400
    assert portal.one("SELECT count(*) FROM gateway_notices") == 0
