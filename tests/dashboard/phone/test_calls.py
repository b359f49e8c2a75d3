"""The calls of an account: behind the password, by month, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest

from core.db import unit_of_work
from tests import crawl
from tests.conftest import Portal
from tests.page import FRAGMENT


@pytest.fixture
def phones(portal: Portal) -> Portal:
    with portal.app.app_context():
        unit_of_work(lambda session: crawl.add_phones(session, portal.world))
        portal.execute("DELETE FROM call_records")
        portal.execute("DELETE FROM call_imports")
        portal.execute("DELETE FROM charges")
        unit_of_work(lambda session: crawl.add_calls(session, portal.world, 120))
    return portal


def test_owner_sees_calls_by_month_with_what_they_come_to(phones: Portal) -> None:
    alice = phones.visitor("alice")
    assert alice.get(phones.path("phone/")).select(f"main a[href='{phones.path('phone/calls')}']")
    page = alice.get(phones.path("phone/calls"))
    assert "June 2026" in page.text
    assert "May 2026" in page.text
    count = phones.one(
        "SELECT count(*) FROM call_records WHERE account_id = 1 AND month_on = '2026-06-01'"
    )
    assert f"Calls{count} {count // 2} of them out" in page.text
    first = page.select("tbody tr")[0].text_content()
    assert "From +1 541-416-6117" in first
    assert "Jun 20, 2026, 11:00" in " ".join(first.split())
    assert "1:05" in first
    assert "To +44 20 7946 0958" in page.text
    assert "From a hidden number" in page.text
    assert len(page.select("tbody tr")) == 50
    older = alice.get(phones.path("phone/calls?month=2026-05"))
    assert older.select(".filter[aria-current]")[0].text_content() == "May 2026"
    rest = alice.get(phones.path("phone/calls?page=2"), headers=FRAGMENT)
    assert len(rest.select("tbody tr")) == count - 50


@pytest.mark.parametrize(
    "query", ["?month=soon", "?month=2030-01", "?page=999", "?page=-1", "?page=x"]
)
def test_odd_questions_are_answered(phones: Portal, query: str) -> None:
    assert phones.visitor("alice").get(phones.path(f"phone/calls{query}")).status == 200


def test_calls_ask_for_the_password_once_more(phones: Portal, tick: Callable[..., None]) -> None:
    alice = phones.visitor("alice")
    tick(minutes=11)
    for path in ("phone/calls", "phone/calls/csv?month=2026-05"):
        asked = alice.get(phones.path(path))
        assert asked.location.startswith("/confirm?next=")


@pytest.mark.parametrize("name", ["bob", "vera", "theo"])
def test_others_of_the_account_do_not_see_calls(phones: Portal, name: str) -> None:
    visitor = phones.visitor(name)
    assert not visitor.get(phones.path("phone/")).select("main a[href$='/phone/calls']")
    for path in ("phone/calls", "phone/calls/csv"):
        assert visitor.get(phones.path(path)).status == 403


def test_mallory_and_staff_who_see_the_portal_do_not_either(phones: Portal) -> None:
    assert phones.visitor("mallory").get(phones.path("phone/calls")).status == 404
    ada = phones.visitor("ada")
    path = f"/staff/accounts/{phones.world.public_ids['alice']}/people/alicecustomer/view"
    assert ada.submit(ada.get(path), "/view", reason="a call").status == 303
    assert ada.get(phones.path("phone/calls")).status == 403


def test_csv_has_every_call_of_the_month_and_no_formula(phones: Portal) -> None:
    page = phones.visitor("alice").get(phones.path("phone/calls/csv?month=2026-05"))
    assert page.response.headers["Content-Disposition"] == "attachment; filename=calls_2026-05.csv"
    rows = list(csv.DictReader(io.StringIO(page.source.removeprefix("\ufeff"))))
    assert len(rows) == phones.one(
        "SELECT count(*) FROM call_records WHERE account_id = 1 AND month_on = '2026-05-01'"
    )
    assert rows[-1]["started_at"].startswith("2026-05-31T")
    assert rows[-1]["started_at"].endswith("-07:00")
    assert {row["number"] for row in rows} == {"'+1 541-555-0171"}
    assert {row["direction"] for row in rows} == {"in", "out"}
    assert {row["amount"] for row in rows} == {"0.00", "0.35"}


def test_account_without_calls_says_so(phones: Portal) -> None:
    rich = phones.visitor("rich")
    assert "No calls are on record" in rich.get(phones.path("phone/calls", "rich")).text
    assert "No calls are on record" in rich.get(phones.path("phone/calls/csv", "rich")).text


def test_own_data_has_the_calls_and_numbers(phones: Portal) -> None:
    alice = phones.visitor("alice")
    page = alice.submit(alice.get("/settings/data"), "/data")
    file = alice.get(page.location)
    assert '"call_records"' in file.text
    assert '"+442079460958"' in file.text
    assert '"phone_numbers"' in file.text
    assert "mallory" not in file.text


def test_calls_are_found_after_the_plan(phones: Portal) -> None:
    phones.execute("UPDATE subscriptions SET ended_on = '2026-06-18' WHERE public_id = 'alicesub3'")
    alice = phones.visitor("alice")
    assert alice.get(phones.path()).select(f"main a[href='{phones.path('phone/')}']")
    page = alice.get(phones.path("phone/"))
    assert page.select(f"main a[href='{phones.path('phone/calls')}']")
    theo = phones.visitor("theo")
    assert not theo.get(phones.path()).select(f"main a[href='{phones.path('phone/')}']")
    assert not theo.get(phones.path("phone/")).select("main a[href$='/calls']")


def test_charge_that_was_taken_back_is_charged_no_more(phones: Portal) -> None:
    alice = phones.visitor("alice")
    assert "$0.35" in alice.get(phones.path("phone/calls")).text
    phones.execute("UPDATE charges SET cancelled_at = created_at")
    page = alice.get(phones.path("phone/calls"))
    assert "Charged, before taxes$0.00" in page.text
    assert "$0.35" not in page.text
    assert "0.35" not in alice.get(phones.path("phone/calls/csv")).source
