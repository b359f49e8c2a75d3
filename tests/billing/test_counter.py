"""Cash and cheques at the counter: booked at once, once, with what follows from money."""

from __future__ import annotations

import pytest

from blueprints.billing import booking, counter
from blueprints.billing.errors import AmountOutOfBounds, AmountUnusual
from blueprints.billing.verify import find_faults
from core.db import reading
from core.form_keys import ArrivedKey, KeyReused
from tests.billing.conftest import Till
from tests.conftest import Portal, together

RECEIPT = "/receipts/{id}"


def balance(ctx: Portal, name: str = "alice") -> int:
    return int(
        ctx.one("SELECT balance_minor FROM accounts WHERE id = :id", id=ctx.world.accounts[name])
    )


def take(
    ctx: Portal,
    key: ArrivedKey,
    amount_minor: int = 5_000,
    kind: str = booking.CASH,
    *,
    is_sure: bool = False,
) -> str:
    world = ctx.world
    return counter.take(
        world.accounts["alice"],
        amount_minor,
        kind,
        "no. 17",
        world.customers["ben"],
        key,
        RECEIPT,
        is_sure=is_sure,
    )


def test_much_more_than_is_due_is_asked_about(ctx: Portal, till: Till) -> None:
    owed, limit = balance(ctx), 5_000
    with pytest.raises(AmountUnusual):
        take(ctx, till.key("ben"), owed + limit + 1)
    assert balance(ctx) == owed
    key = till.key("ben")
    assert take(ctx, key, owed + limit) == take(ctx, key, owed + limit)  # sent twice
    assert balance(ctx) == -limit
    take(ctx, till.key("ben"), 9_999_900, is_sure=True)
    assert balance(ctx) == -limit - 9_999_900


def test_money_is_booked_at_once_and_settles_the_oldest(ctx: Portal, till: Till) -> None:
    owed = balance(ctx)
    path = take(ctx, till.key("ben"), owed)
    [row] = ctx.rows(
        "SELECT public_id, gateway, method, state, amount_minor, note, taken_by_id, customer_id"
        " FROM payments ORDER BY id DESC LIMIT 1"
    )
    assert path == f"/receipts/{row[0]}"
    ben = ctx.world.customers["ben"]
    assert row[1:] == ("counter", "cash", "succeeded", owed, "no. 17", ben, None)
    assert balance(ctx) == 0
    assert ctx.rows(
        "SELECT ledger, amount_minor FROM journal_lines ORDER BY entry_id DESC, position LIMIT 2"
    ) == [("cash", owed), ("receivable", -owed)]
    assert (
        ctx.one("SELECT count(*) FROM invoice_balances WHERE open_minor > 0 AND account_id = 1")
        == 0
    )


def test_cheque_is_an_account_of_its_own(ctx: Portal, till: Till) -> None:
    take(ctx, till.key("ben"), kind=booking.CHEQUE)
    assert ctx.one("SELECT sum(amount_minor) FROM journal_lines WHERE ledger = 'cheque'") == 5_000


def test_more_than_is_owed_stays_as_credit(ctx: Portal, till: Till) -> None:
    owed = balance(ctx)
    take(ctx, till.key("ben"), owed + 700)
    assert balance(ctx) == -700


def test_owner_gets_the_receipt_and_reads_of_it(ctx: Portal, till: Till) -> None:
    take(ctx, till.key("ben"))
    [receipt] = ctx.rows(
        "SELECT kind, recipient, customer_id FROM messages ORDER BY id DESC LIMIT 1"
    )
    assert receipt == ("receipt", "alice@example.net", ctx.world.customers["alice"])
    assert ctx.one("SELECT count(*) FROM messages") == 3
    assert ctx.one("SELECT count(*) FROM activity WHERE kind = 'payment_received'") == 3


def test_paying_what_is_overdue_lifts_the_hold(ctx: Portal, till: Till) -> None:
    ctx.execute(
        "INSERT INTO line_holds (line_id, reason, since_at) SELECT id, 'unpaid', '2026-06-18'"
        " FROM lines WHERE public_id = 'aliceline00'"
    )
    take(ctx, till.key("ben"), balance(ctx))
    assert ctx.one("SELECT released_at IS NOT NULL FROM line_holds")


def test_another_payment_may_be_under_way_meanwhile(ctx: Portal, till: Till) -> None:
    till.start()
    take(ctx, till.key("ben"))
    assert ctx.rows("SELECT state FROM payments ORDER BY id DESC LIMIT 2") == [
        ("succeeded",),
        ("sent",),
    ]


@pytest.mark.parametrize("amount_minor", [0, -1, counter.MAXIMUM_MINOR + 1])
def test_amounts_that_nobody_hands_over_are_refused(
    ctx: Portal, till: Till, amount_minor: int
) -> None:
    with pytest.raises(AmountOutOfBounds):
        take(ctx, till.key("ben"), amount_minor)


def test_form_sent_many_times_counts_once(portal: Portal, ctx: Portal, till: Till) -> None:
    owed, key = balance(ctx), till.key("ben")

    def press(_number: int) -> str:
        with portal.app.app_context():
            return take(portal, key)

    assert len(set(map(str, together(12, press)))) == 1
    assert balance(ctx) == owed - 5_000
    other = ArrivedKey(key.key_hash, key.subject, b"other" * 6 + b"..")
    with pytest.raises(KeyReused):
        take(ctx, other)


def test_books_say_when_nobody_took_the_money(ctx: Portal, till: Till) -> None:
    take(ctx, till.key("ben"))
    ctx.execute("UPDATE payments SET taken_by_id = NULL WHERE gateway = 'counter'")
    with reading() as session:
        assert any("nothing says where" in fault for fault in find_faults(session))
    ctx.execute(
        "UPDATE payments SET taken_by_id = :id WHERE gateway = 'counter'",
        id=ctx.world.customers["ben"],
    )
