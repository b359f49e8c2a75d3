"""Credit moved between two accounts of the same owner."""

from __future__ import annotations

from datetime import date

import pytest

from blueprints.billing import transfers
from blueprints.billing.errors import MoreThanCredit
from core.errors import NotFound
from core.form_keys import ArrivedKey
from tests.billing.conftest import Till
from tests.conftest import Portal, together
from tests.world import issue_month


@pytest.fixture
def owner(ctx: Portal) -> Portal:
    """rich owns mallory's account too, which owes."""
    ctx.execute(
        "INSERT INTO memberships (customer_id, account_id, role) VALUES (:customer, :account,"
        " 'owner')",
        customer=ctx.world.customers["rich"],
        account=ctx.world.accounts["mallory"],
    )
    return ctx


def balance(ctx: Portal, name: str) -> int:
    return int(
        ctx.one("SELECT balance_minor FROM accounts WHERE id = :id", id=ctx.world.accounts[name])
    )


def move(ctx: Portal, key: ArrivedKey, minor: int = 3_000, to: str = "mallory") -> str:
    world = ctx.world
    return transfers.move(
        world.customers["rich"], world.accounts["rich"], world.public_ids[to], minor, key, "/done"
    )


def test_credit_leaves_one_account_and_settles_on_the_other(owner: Portal, till: Till) -> None:
    owed = balance(owner, "mallory")
    assert move(owner, till.key("rich")) == "/done"
    assert balance(owner, "rich") == -2_000
    assert balance(owner, "mallory") == owed - 3_000
    assert owner.one("SELECT sum(amount_minor) FROM journal_lines WHERE ledger = 'transfer'") == 0
    kinds = owner.rows("SELECT kind FROM activity WHERE kind LIKE 'credit_m%' ORDER BY kind")
    assert kinds == [("credit_moved_in",), ("credit_moved_out",)]


def test_what_was_moved_away_is_not_used_again(owner: Portal, till: Till) -> None:
    """The opening credit of 50.00 has 20.00 left; the next bill gets no more of it."""
    move(owner, till.key("rich"))
    issue_month(owner.world, ("rich",), date(2026, 3, 1))
    [(total, open_)] = owner.rows(
        "SELECT i.total_minor, b.open_minor FROM invoices i JOIN invoice_balances b"
        " ON b.invoice_id = i.id WHERE i.account_id = :id",
        id=owner.world.accounts["rich"],
    )
    assert total - open_ == 2_000
    assert balance(owner, "rich") == open_


@pytest.mark.parametrize("minor", [5_001, 0, -1])
def test_never_more_than_the_credit(owner: Portal, till: Till, minor: int) -> None:
    with pytest.raises(MoreThanCredit):
        move(owner, till.key("rich"), minor)


def test_only_to_an_account_of_ones_own(ctx: Portal, till: Till) -> None:
    for to in ("mallory", "rich"):
        with pytest.raises(NotFound):
            move(ctx, till.key("rich"), to=to)


def test_many_at_once_move_what_there_is(owner: Portal, till: Till) -> None:
    keys = [till.key("rich") for _ in range(10)]
    owed = balance(owner, "mallory")

    def press(number: int) -> str:
        with owner.app.app_context():
            return move(owner, keys[number], 2_000)

    outcomes = together(10, press)
    assert sum(outcome == "/done" for outcome in outcomes) == 2
    assert balance(owner, "rich") == -1_000
    assert balance(owner, "mallory") == owed - 4_000


def test_same_form_twice_moves_once(owner: Portal, till: Till) -> None:
    key = till.key("rich")
    assert move(owner, key) == move(owner, key)
    assert balance(owner, "rich") == -2_000


def test_page_offers_the_other_account_and_moves(owner: Portal) -> None:
    rich = owner.visitor("rich")
    path = owner.path("billing/credit", "rich")
    page = rich.get(path)
    assert "$50.00" in page.text
    choice = {"to": owner.world.public_ids["mallory"]}
    assert rich.submit(page, "/credit", **choice, amount="60").status == 422
    out = rich.submit(rich.get(path), "/credit", **choice, amount="20.00")
    assert out.location == f"{path}?done=moved"
    assert "is on the other account" in rich.get(out.location).text
    owner.execute(
        "DELETE FROM memberships WHERE customer_id = :id AND account_id = :account",
        id=owner.world.customers["rich"],
        account=owner.world.accounts["mallory"],
    )
    assert "You own no other account" in rich.get(path).text
