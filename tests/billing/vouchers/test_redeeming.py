"""Redeeming a voucher: once under fifty, with a clear no, and not by guessing."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from blueprints.billing.vouchers import batches, codes, service
from blueprints.billing.vouchers.batches import NewBatch, Printed
from blueprints.billing.vouchers.errors import (
    CodeMistyped,
    CodeUnknown,
    VoucherExpired,
    VoucherUsed,
)
from core.throttle import TooManyAttempts
from tests.billing.conftest import Till
from tests.conftest import Portal, together
from tests.page import Page, Visitor

OWNERS = ("alice", "mallory", "rich")


def make(ctx: Portal, till: Till, count: int = 3, **more: Any) -> Printed:
    new = NewBatch("Mill Street", 2_000, count, more.get("expires_on"), ctx.world.customers["ben"])
    made = batches.make(new, till.key("ben", "/staff/vouchers"), ctx.settings.secret)
    assert isinstance(made, Printed)
    return made


def redeem(ctx: Portal, till: Till, typed: str, name: str = "alice", address: str = "") -> str:
    return service.redeem(
        ctx.world.accounts[name],
        ctx.world.customers[name],
        typed,
        till.key(name, "/voucher"),
        "/payments/{id}",
        ctx.settings.secret,
        address or "192.0.2.1",
        (),
    )


def balance(ctx: Portal, name: str = "alice") -> int:
    return int(
        ctx.one("SELECT balance_minor FROM accounts WHERE id = :id", id=ctx.world.accounts[name])
    )


def test_voucher_pays_what_is_due(ctx: Portal, till: Till) -> None:
    owed = balance(ctx)
    path = redeem(ctx, till, make(ctx, till).codes[0].lower().replace(" ", "-"))
    [(public_id, amount, gateway)] = ctx.rows(
        "SELECT public_id, amount_minor, gateway FROM payments ORDER BY id DESC LIMIT 1"
    )
    assert (path, amount, gateway) == (f"/payments/{public_id}", 2_000, "voucher")
    assert balance(ctx) == owed - 2_000
    assert ctx.one("SELECT count(*) FROM vouchers WHERE payment_id IS NOT NULL") == 1


def test_fifty_at_once_redeem_it_once(portal: Portal, ctx: Portal, till: Till) -> None:
    """From three accounts, each try from a network of its own."""
    code = make(ctx, till).codes[0]
    before = sum(balance(ctx, name) for name in OWNERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "TRIES", ((timedelta(minutes=5), 100),))

        def press(number: int) -> str:
            with portal.app.app_context():
                name = OWNERS[number % 3]
                return redeem(portal, till, code, name, f"192.0.2.{number}")

        outcomes = together(50, press)
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1
    refused = [outcome for outcome in outcomes if not isinstance(outcome, str)]
    assert all(isinstance(refusal, VoucherUsed) for refusal in refused), refused[:3]
    assert sum(balance(ctx, name) for name in OWNERS) == before - 2_000


def test_used_expired_cancelled_and_unknown_codes_say_so(ctx: Portal, till: Till) -> None:
    made = make(ctx, till)
    redeem(ctx, till, made.codes[0], "mallory")
    with pytest.raises(VoucherUsed):
        redeem(ctx, till, made.codes[0])
    with pytest.raises(CodeUnknown):
        redeem(ctx, till, codes.make())
    batches.cancel(made.batch.public_id)
    with pytest.raises(VoucherExpired):
        redeem(ctx, till, made.codes[1])
    old = make(ctx, till, expires_on=date(2026, 6, 19))
    with pytest.raises(VoucherExpired):
        redeem(ctx, till, old.codes[0])
    last = make(ctx, till, expires_on=date(2026, 6, 20))
    # What was refused does not lock out whoever has a good one afterwards.
    assert redeem(ctx, till, last.codes[0])
    assert ctx.one("SELECT count(*) FROM vouchers WHERE redeemed_at IS NOT NULL") == 2


def test_slips_are_not_counted_guesses_are(ctx: Portal, till: Till, tick: Any) -> None:
    code = make(ctx, till).codes[0]
    for _ in range(20):
        with pytest.raises(CodeMistyped):
            redeem(ctx, till, code[:-1] + ("2" if code[-1] != "2" else "3"))
    for _ in range(5):
        with pytest.raises(CodeUnknown):
            redeem(ctx, till, codes.make())
    with pytest.raises(TooManyAttempts):
        redeem(ctx, till, code)
    tick(minutes=6)
    assert redeem(ctx, till, code)


def test_nothing_of_a_code_is_stored(ctx: Portal, till: Till) -> None:
    code = codes.clean(make(ctx, till).codes[0])
    stored = repr(ctx.rows("SELECT * FROM vouchers") + ctx.rows("SELECT * FROM voucher_batches"))
    assert code not in stored
    assert code.encode().hex() not in stored


def test_form_of_a_batch_sent_twice_makes_it_once_and_shows_no_codes(
    ctx: Portal, till: Till
) -> None:
    key = till.key("ben", "/staff/vouchers")
    new = NewBatch("Twice", 500, 2, None, ctx.world.customers["ben"])
    first = batches.make(new, key, ctx.settings.secret)
    second = batches.make(new, key, ctx.settings.secret)
    assert isinstance(first, Printed)
    assert second == batches.path_of(first.batch.public_id)
    assert ctx.one("SELECT count(*) FROM vouchers") == 2


# The page -----------------------------------------------------------------------------------------


def press(visitor: Visitor, portal: Portal, typed: str, name: str = "alice") -> Page:
    page = visitor.get(portal.path("billing/voucher", name))
    return visitor.submit(page, "/voucher", voucher=typed)


def test_customer_redeems_on_the_page(portal: Portal, ctx: Portal, till: Till) -> None:
    code = make(ctx, till).codes[0]
    alice = portal.visitor("alice")
    page = alice.get(portal.path("billing/voucher"))
    out = alice.submit(page, "/voucher", voucher=code)
    assert out.status == 303
    assert alice.submit(page, "/voucher", voucher=code).location == out.location
    receipt = alice.get(out.location)
    assert "Paid. Thank you." in receipt.text
    assert "Voucher" in receipt.text
    assert "redeemed before" in press(portal.visitor("bob"), portal, code).text


def test_page_says_what_is_wrong(portal: Portal, ctx: Portal, till: Till) -> None:
    alice = portal.visitor("alice")
    code = make(ctx, till).codes[0]
    for typed, words in (
        ("", "Type the code"),
        (code[:-2], "Look again"),
        ("x" * 200, "60 characters"),
        (codes.grouped(codes.make()), "We do not know this code"),
    ):
        page = press(alice, portal, typed)
        assert page.status == 422
        assert words in page.text, page.text
    for _ in range(4):
        press(alice, portal, codes.make())
    page = press(alice, portal, code)
    assert page.status == 429
    assert "too many tries" in page.text
    assert page.response.headers["Retry-After"]


def test_only_who_may_pay_redeems(portal: Portal) -> None:
    for name, status in (("vera", 403), ("theo", 403), ("mallory", 404), ("bob", 200)):
        assert portal.visitor(name).get(portal.path("billing/voucher")).status == status
