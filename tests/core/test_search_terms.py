"""The words by which staff find an account."""

from __future__ import annotations

from datetime import date

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from core import search_terms
from core.db import db, reading, unit_of_work
from core.search_terms import Mending, fold
from models import Contact
from tests.conftest import Portal


def refresh_all(portal: Portal) -> None:
    ids = list(portal.world.accounts.values())
    unit_of_work(lambda session: search_terms.refresh(session, ids))


def add_contact(portal: Portal, name: str, kind: str, value: str, **more: object) -> None:
    contact = {"account_id": portal.world.accounts[name], "since_on": date(2025, 1, 1)} | more

    def work(session: Session) -> None:
        session.add(Contact(kind=kind, value=value, **contact))
        search_terms.refresh(session, [portal.world.accounts[name]])

    unit_of_work(work)


def found(portal: Portal, typed: str, most: int = 20) -> list[str]:
    """Whose accounts are found, by name."""
    names = {account_id: name for name, account_id in portal.world.accounts.items()}
    hits = search_terms.find(db.session(), typed, most)
    return [names[account_id] for account_id in hits.account_ids]


def faults() -> list[str]:
    with reading() as session:
        return list(search_terms.find_faults(session))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Zoë O'Hara-Łuk", ["zoe", "o", "hara", "łuk"]),
        ("maria.lopez@example.net", ["maria", "lopez", "example", "net"]),
        ("STRASSE Straße", ["strasse", "strasse"]),
        ("P-10021/7", ["p", "10021", "7"]),
        ("名前 太郎", ["名前", "太郎"]),
        ("٣٤", ["٣٤"]),
        ("  ", []),
        ("x" * 200, ["x" * 80]),
    ],
)
def test_words_are_folded(text: str, words: list[str]) -> None:
    assert fold(text) == words


@pytest.mark.parametrize("typed", ["ali", "ALICE", "100", "ppp alice", "alice@exa", "bob", "theo"])
def test_account_is_found_by_the_beginning_of_any_word(ctx: Portal, typed: str) -> None:
    refresh_all(ctx)
    assert found(ctx, typed) == ["alice"]


def test_every_word_has_to_fit(ctx: Portal) -> None:
    refresh_all(ctx)
    assert sorted(found(ctx, "mill pine")) == ["alice", "mallory", "rich"]
    assert found(ctx, "mill mallo") == ["mallory"]
    assert found(ctx, "mill zebra") == []


@pytest.mark.parametrize("typed", ["", " ", "a", "%", "_", "'", "a%", "al_ce", "\\", '"'])
def test_what_is_no_word_finds_nothing(ctx: Portal, typed: str) -> None:
    refresh_all(ctx)
    assert found(ctx, typed) == []


@pytest.mark.parametrize(
    "typed",
    [
        "+1 541 635 7813", "(541) 635-7813", "541.635.78", "5416357813", "001 541 635", "15416",
        "635 7813", "6357813", "7813", "1 541 635 7813", "01 541",
    ],
)  # fmt: skip
def test_phone_is_found_in_any_form(ctx: Portal, typed: str) -> None:
    refresh_all(ctx)
    add_contact(ctx, "mallory", "phone", "+15416357813")
    assert found(ctx, typed) == ["mallory"]


def test_phone_of_another_country_is_found_with_its_leading_zero(ctx: Portal) -> None:
    add_contact(ctx, "rich", "phone", "+442079460123")
    assert found(ctx, "020 7946 0123") == found(ctx, "0044 20 79") == ["rich"]


def test_more_than_are_shown_is_said(ctx: Portal) -> None:
    refresh_all(ctx)
    assert search_terms.find(db.session(), "pine", 3).has_more is False
    hits = search_terms.find(db.session(), "pine", 2)
    assert (len(hits.account_ids), hits.has_more) == (2, True)


def test_contact_that_was_replaced_is_not_found(ctx: Portal) -> None:
    add_contact(ctx, "rich", "email", "old@example.org", ended_on=date(2026, 6, 1))
    assert found(ctx, "old") == []


def test_terms_follow_what_changes_and_equal_a_rebuild(ctx: Portal) -> None:
    assert len(faults()) == 3  # the world does not fill them
    refresh_all(ctx)
    assert faults() == []
    ctx.execute("UPDATE accounts SET name = 'Zelda' WHERE id = 1")
    [fault] = faults()
    assert "account 1001: 1 words missing" in fault
    refresh_all(ctx)
    assert faults() == []
    assert found(ctx, "zel") == ["alice"]


def test_customers_own_name_and_contacts_count_for_their_accounts(ctx: Portal) -> None:
    bob = ctx.world.customers["bob"]

    def work(session: Session) -> None:
        session.add(
            Contact(customer_id=bob, kind="phone", value="+15035550123", since_on=date(2026, 1, 1))
        )
        session.execute(text("UPDATE customers SET name = 'Robert' WHERE id = :id"), {"id": bob})
        search_terms.refresh_of_customer(session, bob)

    unit_of_work(work)
    assert found(ctx, "robert") == found(ctx, "503 555 01") == ["alice"]
    assert faults() != []  # of the others, which nobody has filled


def test_worker_fills_what_is_missing_and_mends_what_is_wrong(ctx: Portal) -> None:
    mending = Mending()
    assert mending() == 1
    assert mending() == 0
    assert faults() == []
    ctx.execute("DELETE FROM search_terms WHERE term LIKE 'a%'")
    assert mending() == 0  # tomorrow
    assert Mending()() == 1
    assert faults() == []


def test_mending_what_is_right_takes_no_turn_of_the_writers(
    ctx: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    refresh_all(ctx)

    def fails(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(search_terms, "unit_of_work", fails)
    assert Mending()() == 1
