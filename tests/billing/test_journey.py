"""Sign in, see what is owed, pay it: with plain forms, as a visitor without JavaScript would."""

from __future__ import annotations

from gateways.payments.sandbox.store import Decision
from tests.conftest import Portal


def test_customer_signs_in_pays_and_sees_the_balance_change(portal: Portal) -> None:
    alice = portal.visitor("alice")
    home = alice.get(portal.path())
    assert "$211.12" in home.text
    out = alice.submit(home, "/pay", choice="balance")
    assert out.status == 303
    assert out.location.startswith(portal.gateway.origin)
    [(key, public_id)] = portal.rows("SELECT key, public_id FROM payments WHERE state = 'sent'")
    portal.bank.decide(key, Decision.PAY)
    back = alice.get(f"/pay/{public_id}/return")
    assert back.location == portal.path(f"billing/payments/{public_id}")
    receipt = alice.get(back.location)
    assert "Paid. Thank you." in receipt.text
    assert "Nothing to pay" in alice.get(portal.path()).text
    assert portal.one("SELECT balance_minor FROM accounts WHERE public_id = 'aliceaccount00'") == 0
