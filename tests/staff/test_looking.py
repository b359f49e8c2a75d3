"""What staff see of an account and its people, and the notes of it."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from core import clock
from models import Contact
from tests.conftest import Portal, Queries
from tests.page import Page
from tests.world import STAFF


def account_path(portal: Portal, rest: str = "", account: str = "alice") -> str:
    return f"/staff/accounts/{portal.world.public_ids[account]}{rest}"


def seen_by(portal: Portal, name: str) -> Page:
    page = portal.visitor(name).get(account_path(portal))
    assert page.status == 200
    return page


@pytest.fixture
def phoned(portal: Portal) -> Portal:
    """Alice has a phone number on file."""
    from sqlalchemy.orm import Session

    from core.db import unit_of_work

    def work(session: Session) -> None:
        session.add(
            Contact(
                account_id=portal.world.accounts["alice"],
                kind="phone",
                value="+15416357813",
                since_on=date(2025, 1, 1),
            )
        )

    with portal.app.app_context():
        unit_of_work(work)
    return portal


SEEN = {
    #           whole contact, address, balance, bills, line, people
    "sue": (False, False, True, False, True, True),
    "ben": (False, True, True, True, False, False),
    "tess": (False, True, False, False, True, False),
    "ada": (True, True, True, True, True, True),
}


@pytest.mark.parametrize("name", STAFF)
def test_each_role_sees_what_its_work_needs(phoned: Portal, name: str) -> None:
    text = seen_by(phoned, name).text
    signs = ("alice@example.net", "1 Mill St", "$211.12", "2026-000007", "ppp-alice", "Owner")
    assert tuple(sign in text for sign in signs) == SEEN[name]
    if not SEEN[name][0]:
        assert "a•••@example.net" in text
        assert "••• 813" in text
        assert "635" not in text


@pytest.mark.parametrize("name", STAFF)
def test_money_does_not_come_by_way_of_activity(portal: Portal, name: str) -> None:
    text = seen_by(portal, name).text
    assert ("Bill of $105.56 issued" in text) is (name == "ada")


def test_account_that_does_not_exist_is_not_found(portal: Portal) -> None:
    sue = portal.visitor("sue")
    assert sue.get("/staff/accounts/0000000000000000").status == 404
    assert sue.get(account_path(portal, "/people/mallorycustomer")).status == 404
    assert sue.get(account_path(portal, "/people/adacustomer")).status == 404
    assert portal.one("SELECT count(*) FROM data_accesses") == 0


def test_each_look_is_noted_and_the_customer_reads_of_it_once_in_an_hour(
    portal: Portal, tick: Any
) -> None:
    sue = portal.visitor("sue")
    for _ in range(3):
        sue.get(account_path(portal))
    noted = portal.rows("SELECT reader, account_id, fields, purpose FROM data_accesses")
    fields = "name, number, contacts masked, place, balance, line, people"
    assert noted == [("Sue", portal.world.accounts["alice"], fields, "account page")] * 3
    told = "SELECT count(*) FROM activity WHERE kind = 'staff_viewed'"
    assert portal.one(told) == 1
    portal.visitor("ben").get(account_path(portal))
    assert portal.one(told) == 2
    tick(minutes=61)
    portal.visitor("sue").get(account_path(portal))
    assert portal.one(told) == 3
    assert "Our staff looked at your account" in portal.visitor("alice").get(portal.path()).text


def test_kept_page_of_the_customer_is_outdated_when_staff_looked(portal: Portal) -> None:
    alice = portal.visitor("alice", own_device="y")
    held = {"If-None-Match": alice.get(portal.path()).response.headers["ETag"]}
    assert alice.get(portal.path(), headers=held).status == 304
    portal.visitor("sue").get(account_path(portal))
    assert "Our staff looked" in alice.get(portal.path(), headers=held).text


def test_who_read_what_is_one_query(portal: Portal) -> None:
    """Whose data, which fields, when, by whom, for a time range (bar 78)."""
    portal.visitor("sue").get(account_path(portal))
    portal.visitor("ben").get(account_path(portal, account="mallory"))
    portal.visitor("ada").get(account_path(portal, "/people/bobcustomer"))
    run = portal.app.test_cli_runner().invoke
    day = clock.today("America/Los_Angeles")
    span = ["--from", day.isoformat(), "--to", day.isoformat()]
    result = run(args=["data", "accesses", *span])
    assert result.exit_code == 0
    assert [line.split("  ")[1:3] for line in result.stdout.splitlines()] == [
        ["Sue", "account 1001"],
        ["Ben", "account 2002"],
        ["Ada", "account 1001 person bobcustomer"],
    ]
    only = run(args=["data", "accesses", "--account", "2002", *span])
    assert len(only.stdout.splitlines()) == 1
    earlier = (day - timedelta(days=1)).isoformat()
    none = run(args=["data", "accesses", "--from", earlier, "--to", earlier])
    assert none.stdout == ""


def test_person_page_tells_how_they_sign_in(portal: Portal) -> None:
    portal.visitor("alice", own_device="y")
    page = portal.visitor("sue").get(account_path(portal, "/people/alicecustomer"))
    assert "Nothing: the password is all they need." in page.text
    assert "127.0.0.1" in page.text
    assert portal.rows("SELECT customer_id, purpose FROM data_accesses") == [
        (portal.world.customers["alice"], "person page")
    ]


@pytest.mark.parametrize("name", STAFF)
def test_pages_take_few_queries(portal: Portal, name: str) -> None:
    visitor = portal.visitor(name)
    for rest in ("", "", "/people/alicecustomer", "/call"):
        with Queries(portal.app) as queries:
            visitor.get(account_path(portal, rest))
        assert queries.count <= 15, queries.statements


# Who gets in ----------------------------------------------------------------------------------


def test_staff_without_a_second_factor_reach_nothing(portal: Portal) -> None:
    """A session of a staff member's that the password alone has opened (bar 11)."""
    visitor = portal.visitor()
    portal.let_in(visitor, "ada", is_staff=False)
    for path in ("/staff/", account_path(portal), "/staff/members"):
        assert visitor.get(path).status == 404


def test_customer_sees_that_there_is_no_such_page(portal: Portal) -> None:
    alice = portal.visitor("alice")
    assert alice.get("/staff/").status == alice.get("/staff/nothing").status == 404


def test_session_marked_as_staffs_is_nothing_without_the_row(portal: Portal) -> None:
    visitor = portal.visitor()
    portal.let_in(visitor, "alice", is_staff=True)
    assert visitor.get("/staff/").status == 404


def test_disabled_member_is_out_on_the_next_request(portal: Portal) -> None:
    sue = portal.visitor("sue")
    assert sue.get("/staff/").status == 200
    portal.execute(
        "UPDATE staff_members SET is_disabled = :yes WHERE customer_id = :id",
        yes=True,
        id=portal.world.customers["sue"],
    )
    assert sue.get("/staff/").status == 404


def test_changed_role_counts_from_the_next_request(portal: Portal) -> None:
    ada = portal.visitor("ada")
    portal.execute(
        "UPDATE staff_members SET role = 'technical' WHERE customer_id = :id",
        id=portal.world.customers["ada"],
    )
    assert ada.get("/staff/members").status == 403
    assert "alice@example.net" not in ada.get(account_path(portal)).text


@pytest.mark.parametrize(("minutes", "is_in"), [(29, True), (30, False)])
def test_staff_are_out_after_half_an_hour_without_use(
    portal: Portal, tick: Any, minutes: int, is_in: bool
) -> None:
    sue = portal.visitor("sue")
    tick(minutes=minutes)
    assert (sue.get("/staff/").status == 200) is is_in


def test_staff_are_out_after_twelve_hours(portal: Portal, tick: Any) -> None:
    sue = portal.visitor("sue")
    for _ in range(28):
        tick(minutes=25)
        assert sue.get("/staff/").status == 200
    tick(minutes=20)
    assert sue.get("/staff/").location.startswith("/sign-in")


def test_staff_still_answer_during_maintenance(portal: Portal) -> None:
    sue, alice = portal.visitor("sue"), portal.visitor("alice")
    portal.execute(
        "INSERT INTO maintenance (id, is_on, from_at, until_at, messages) VALUES"
        " (1, :yes, :at, :until, '{}')",
        yes=True,
        at="2026-06-20 18:00:00" + ("" if portal.settings.is_sqlite else "+00"),
        until="2026-06-20 22:00:00" + ("" if portal.settings.is_sqlite else "+00"),
    )
    portal.execute("UPDATE isp SET revision = revision + 1")
    assert alice.get(portal.path()).status == 503
    assert sue.get(account_path(portal)).status == 200
