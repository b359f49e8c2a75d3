"""The page on which staff find an account."""

from __future__ import annotations

import pytest
from sqlalchemy.orm import Session

from core import search_terms
from core.db import unit_of_work
from tests.conftest import Portal, Queries
from tests.page import FRAGMENT
from tests.world import STAFF


@pytest.fixture
def filled(portal: Portal) -> Portal:
    """The portal with the words by which its accounts are found."""

    def work(session: Session) -> None:
        search_terms.refresh(session, list(portal.world.accounts.values()))

    with portal.app.app_context():
        unit_of_work(work)
    return portal


@pytest.mark.parametrize("name", STAFF)
def test_staff_of_every_role_find_an_account(filled: Portal, name: str) -> None:
    page = filled.visitor(name).get("/staff/", q="1001")
    [link] = page.select("#results a")
    assert link.get("href") == f"/staff/accounts/{filled.world.public_ids['alice']}"
    assert "1 account" in page.text


def test_results_swap_in_alone_while_typing(filled: Portal) -> None:
    sue = filled.visitor("sue")
    fragment = sue.get("/staff/", q="mal", headers=FRAGMENT)
    assert not fragment.select("h1")
    assert [each.get("id") for each in fragment.select("section")] == ["results"]
    assert "Mallory" in fragment.text
    history = sue.get("/staff/", q="mal", headers=FRAGMENT | {"HX-History-Restore-Request": "true"})
    assert history.response.headers["Vary"].count("HX-Request") == 1


def test_what_was_typed_stays_and_nothing_runs(filled: Portal) -> None:
    page = filled.visitor("sue").get("/staff/", q="zz<script>{{7*7}}")
    [field] = page.select("input[name=q]")
    assert field.get("value") == "zz<script>{{7*7}}"
    assert "Nothing fits" in page.text


def test_search_shows_name_number_and_place_and_no_contact(filled: Portal) -> None:
    page = filled.visitor("ada").get("/staff/", q="alice@example.net")
    assert "1001 · Pinecrest" in page.text
    assert "Mill St" not in page.text
    assert page.text.count("alice@example.net") == 0


def test_search_says_that_there_are_more(filled: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blueprints.staff.finding.SHOWN", 2)
    page = filled.visitor("sue").get("/staff/", q="pinecrest")
    assert "The first 2, there are more" in page.text


def test_accounts_shown_are_noted_once_in_an_hour(filled: Portal, tick: object) -> None:
    sue = filled.visitor("sue")
    for typed in ("mal", "mall", "mallo"):
        sue.get("/staff/", q=typed)
    noted = filled.rows("SELECT account_id, reader, fields, purpose FROM data_accesses")
    assert noted == [(filled.world.accounts["mallory"], "Sue", "name, number, place", "search")]
    filled.visitor("ben").get("/staff/", q="mal")
    assert filled.one("SELECT count(*) FROM data_accesses") == 2
    tick(minutes=61)  # type: ignore[operator]
    filled.visitor("sue").get("/staff/", q="mal")
    assert filled.one("SELECT count(*) FROM data_accesses") == 3
    assert filled.one("SELECT count(*) FROM activity WHERE kind = 'staff_viewed'") == 0


def test_searching_takes_as_many_queries_for_one_as_for_many(
    filled: Portal, queries: Queries
) -> None:
    sue, counts = filled.visitor("sue"), []
    for typed in ("pinecrest", "mallory", "pinecrest"):
        before = queries.count
        with queries:
            sue.get("/staff/", q=typed)
        counts.append(queries.count - before)
    assert max(counts) <= 12
    assert counts[1] == counts[2]
