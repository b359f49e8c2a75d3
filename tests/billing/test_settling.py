"""What a payment settles: the named invoice, the oldest, credit for the rest; which holds end."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from sqlalchemy.orm import Session

from blueprints.billing import booking, drafting, invoicing, ledger, opening, settling
from blueprints.billing.errors import AmountOutOfBounds, InvoiceNotFound, NothingToPay
from blueprints.billing.payments import MAXIMUM_MINOR, MINIMUM_MINOR
from blueprints.billing.starting import Choice
from core import clock
from core.db import unit_of_work
from gateways.payments.sandbox.store import Decision
from models import EntryKind
from tests.billing.conftest import Till
from tests.conftest import Portal
from tests.world import NOW

MONTH_MINOR = 10_556  # alice and mallory owe it for each month


def pay(till: Till, name: str, choice: Choice = Choice.BALANCE, **order: Any) -> None:
    till.start(name, choice, **order)
    till.portal.bank.decide(till.latest("key"), Decision.PAY)
    assert till.settle() == "succeeded"


def open_amounts(portal: Portal, name: str) -> list[int]:
    """Of the account's invoices, the oldest first."""
    return [minor for (minor,) in portal.rows(
        "SELECT b.open_minor FROM invoice_balances b JOIN invoices i ON i.id = b.invoice_id"
        " WHERE i.account_id = :id ORDER BY i.due_on, i.id",
        id=portal.world.accounts[name],
    )]  # fmt: skip


def invoice_ids(portal: Portal, name: str) -> list[str]:
    return [public_id for (public_id,) in portal.rows(
        "SELECT public_id FROM invoices WHERE account_id = :id ORDER BY due_on, id",
        id=portal.world.accounts[name],
    )]  # fmt: skip


def balance(portal: Portal, name: str) -> int:
    return int(
        portal.one(
            "SELECT balance_minor FROM accounts WHERE id = :id", id=portal.world.accounts[name]
        )
    )


def test_balance_pays_everything(till: Till) -> None:
    pay(till, "mallory")
    assert open_amounts(till.portal, "mallory") == [0, 0, 0, 0]
    assert balance(till.portal, "mallory") == 0


def test_other_amount_settles_the_oldest_first(till: Till) -> None:
    pay(till, "mallory", Choice.OTHER, amount_minor=MONTH_MINOR + 100)
    assert open_amounts(till.portal, "mallory") == [0, MONTH_MINOR - 100, MONTH_MINOR, MONTH_MINOR]


def test_named_invoice_is_settled_first_and_the_rest_goes_to_the_oldest(till: Till) -> None:
    """It was paid elsewhere in between, so that some of the payment is left over."""
    named = invoice_ids(till.portal, "mallory")[2]
    till.start("mallory", Choice.INVOICE, invoice_public_id=named)
    account_id = till.portal.world.accounts["mallory"]
    third = till.portal.one("SELECT id FROM invoices WHERE public_id = :id", id=named)
    post_credit(account_id, 100, first_invoice_id=third)
    till.portal.bank.decide(till.latest("key"), Decision.PAY)
    till.settle()
    assert open_amounts(till.portal, "mallory") == [MONTH_MINOR - 100, MONTH_MINOR, 0, MONTH_MINOR]


def post_credit(account_id: int, minor: int, first_invoice_id: int | None = None) -> None:
    def work(session: Session) -> None:
        [entry_id] = ledger.post(
            session,
            [
                ledger.Posting(
                    f"credit:{account_id}:{minor}",
                    EntryKind.ADJUSTMENT,
                    account_id,
                    NOW.date(),
                    "Goodwill",
                    ((ledger.RECEIVABLE, -minor), ("revenue:goodwill", minor)),
                )
            ],
            "USD",
        )
        credit = ledger.Credit(account_id, entry_id, minor, first_invoice_id)
        ledger.allocate(session, [credit], clock.now())

    unit_of_work(work, account_id)


def test_over_payment_becomes_credit_and_settles_what_is_issued_next(till: Till) -> None:
    portal = till.portal
    pay(till, "mallory", Choice.OTHER, amount_minor=4 * MONTH_MINOR + 3_000)
    assert balance(portal, "mallory") == -3_000
    account_id = portal.world.accounts["mallory"]
    issue(account_id, date(2026, 7, 1))
    assert open_amounts(portal, "mallory")[-1] == MONTH_MINOR - 3_000
    assert balance(portal, "mallory") == MONTH_MINOR - 3_000


def issue(account_id: int, day: date) -> None:
    unit_of_work(
        lambda session: invoicing.issue(
            session, drafting.draft_next(session, [account_id], day, 14), "USD"
        ),
        account_id,
    )


def test_several_credits_settle_one_invoice_after_the_other(till: Till) -> None:
    account_id = till.portal.world.accounts["rich"]  # already in credit by 50.00
    post_credit(account_id, 4_000)
    post_credit(account_id, 7_000)
    issue(account_id, date(2026, 4, 20))  # March and April
    assert open_amounts(till.portal, "rich") == [0, 2 * MONTH_MINOR - 16_000]
    used = till.portal.rows(
        "SELECT sum(a.amount_minor) FROM allocations a JOIN journal_entries e ON e.id = a.entry_id"
        " WHERE e.account_id = :id GROUP BY a.entry_id ORDER BY a.entry_id",
        id=account_id,
    )
    assert [int(minor) for (minor,) in used] == [5_000, 4_000, 7_000]


@pytest.mark.parametrize("minor", [MINIMUM_MINOR, MAXIMUM_MINOR])
def test_amounts_at_the_bounds_are_taken(till: Till, minor: int) -> None:
    pay(till, "rich", Choice.OTHER, amount_minor=minor)
    assert balance(till.portal, "rich") == -5_000 - minor


@pytest.mark.parametrize(
    "minor", [None, 0, -1, MINIMUM_MINOR - 1, MAXIMUM_MINOR + 1, 2**31, 2**53, 2**63]
)
def test_amounts_out_of_bounds_are_refused_and_nothing_is_stored(
    till: Till, minor: int | None
) -> None:
    before = till.portal.one("SELECT count(*) FROM payments")
    with pytest.raises(AmountOutOfBounds):
        till.start("alice", Choice.OTHER, amount_minor=minor)
    assert till.portal.one("SELECT count(*) FROM payments") == before
    assert till.portal.one("SELECT count(*) FROM form_keys") == 0


def test_invoice_of_another_account_is_not_found(till: Till) -> None:
    theirs = invoice_ids(till.portal, "mallory")[0]
    with pytest.raises(InvoiceNotFound):
        till.start("alice", Choice.INVOICE, invoice_public_id=theirs)


def test_what_is_paid_is_not_paid_again(till: Till) -> None:
    paid = invoice_ids(till.portal, "alice")[0]
    with pytest.raises(NothingToPay):
        till.start("alice", Choice.INVOICE, invoice_public_id=paid)
    with pytest.raises(NothingToPay):
        till.start("rich", Choice.BALANCE)


def test_debit_on_its_way_is_taken_off_what_can_be_paid(till: Till) -> None:
    till.start("mallory", Choice.OTHER, amount_minor=MONTH_MINOR)
    till.portal.bank.decide(till.latest("key"), Decision.DEBIT)
    till.settle()
    till.start("mallory")
    assert till.latest("amount_minor") == 3 * MONTH_MINOR


# Holds --------------------------------------------------------------------------------------------


def hold(portal: Portal, name: str, *reasons: str) -> None:
    for reason in reasons:
        portal.execute(
            "INSERT INTO line_holds (line_id, reason, since_at)"
            " SELECT id, :reason, '2026-06-01 00:00:00' FROM lines WHERE account_id = :id",
            reason=reason,
            id=portal.world.accounts[name],
        )


def standing(portal: Portal, name: str) -> set[str]:
    return {reason for (reason,) in portal.rows(
        "SELECT reason FROM line_holds h JOIN lines l ON l.id = h.line_id"
        " WHERE l.account_id = :id AND h.released_at IS NULL",
        id=portal.world.accounts[name],
    )}  # fmt: skip


def test_paying_ends_the_hold_for_unpaid_and_no_other(till: Till) -> None:
    hold(till.portal, "mallory", "unpaid", "staff", "abuse", "imported")
    hold(till.portal, "alice", "unpaid")
    pay(till, "mallory")
    assert standing(till.portal, "mallory") == {"staff", "abuse", "imported"}
    assert standing(till.portal, "alice") == {"unpaid"}


def test_hold_stays_while_anything_is_overdue(till: Till) -> None:
    hold(till.portal, "mallory", "unpaid")
    pay(till, "mallory", Choice.OTHER, amount_minor=2 * MONTH_MINOR)
    assert standing(till.portal, "mallory") == {"unpaid"}


def test_hold_ends_when_only_what_is_not_due_yet_is_open(till: Till) -> None:
    """June's bill falls due on the 15th, and it is the 20th: a later one is issued first."""
    account_id = till.portal.world.accounts["mallory"]
    issue(account_id, date(2026, 7, 1))
    hold(till.portal, "mallory", "unpaid")
    pay(till, "mallory", Choice.OTHER, amount_minor=4 * MONTH_MINOR)
    assert standing(till.portal, "mallory") == set()
    assert balance(till.portal, "mallory") == MONTH_MINOR


def test_hold_ends_with_the_entry_or_not_at_all(
    till: Till, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What comes after it in the transaction fails: neither entry nor release is kept."""
    hold(till.portal, "mallory", "unpaid")
    till.start("mallory")
    till.portal.bank.decide(till.latest("key"), Decision.PAY)

    def fail(*_arguments: object) -> None:
        raise RuntimeError("the machine stops here")

    with monkeypatch.context() as patch:
        patch.setattr(booking, "_queue_receipts", fail)
        with pytest.raises(RuntimeError, match="stops here"):
            till.settle()
    assert standing(till.portal, "mallory") == {"unpaid"}
    assert till.entry_count() == 0
    assert till.settle() == "succeeded"
    assert standing(till.portal, "mallory") == set()


# Openings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("difference", "owed"),
    [(700, -4_300), (5_000, 0), (6_000, 1_000), (-800, -5_800)],
)
def test_corrected_opening_posts_the_difference_only(
    till: Till, difference: int, owed: int
) -> None:
    account_id = till.portal.world.accounts["rich"]
    rich = opening.Opening(account_id, "3003", -5_000, date(2026, 6, 2), "Rich", ())
    unit_of_work(
        lambda session: opening.adjust_opening(session, rich, difference, "USD"), account_id
    )
    assert balance(till.portal, "rich") == owed


def test_of_several_that_are_applied_at_once_each_outdates_its_pages(till: Till) -> None:
    started = [till.start(name) for name in ("alice", "mallory")]
    keys = [key for (key,) in till.portal.rows("SELECT key FROM payments ORDER BY id DESC LIMIT 2")]
    till.portal.bank.decide(keys[1], Decision.PAY)
    till.portal.bank.decide(keys[0], Decision.DECLINE)
    truths = [
        (each.payment_id, till.portal.bank.ask(key))
        for each, key in zip(started, reversed(keys), strict=True)
    ]
    revisions = "SELECT revision FROM accounts WHERE number IN ('1001', '2002') ORDER BY number"
    before = till.portal.rows(revisions)
    ids = [till.portal.world.accounts[name] for name in ("alice", "mallory")]
    states = unit_of_work(lambda session: settling.apply(session, truths), *ids)
    assert states == ["succeeded", "declined"]
    after = till.portal.rows(revisions)
    assert all(new > old for (old,), (new,) in zip(before, after, strict=True))
