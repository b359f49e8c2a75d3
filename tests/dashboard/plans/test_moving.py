"""Moving house through the pages: asked for, decided by staff, and so on its day."""

from __future__ import annotations

import json
from datetime import date

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing.dunning import closing
from blueprints.dashboard.plans import due, moving
from core.db import db, unit_of_work
from models import Area, PlanChange, Tax
from tests import world
from tests.conftest import Portal, together
from tests.dashboard.plans.shop import FIBER, TV, Shop, at
from tests.page import Page, Visitor

OAK = {
    "street": "2 Oak St", "city": "Alder Falls", "region": "OR", "postcode": "97002",
    "on": "2026-07-10", "note": "The key is next door",
}  # fmt: skip


@pytest.fixture
def town(shop: Shop) -> Shop:
    """Fiber is had in Pinecrest alone, and there is another area."""
    with shop.portal.app.app_context():
        unit_of_work(lambda session: session.add(Area(code="ALDR", name="Alder Falls")))
    shop.portal.execute("""UPDATE plans SET areas = '["PINE"]' WHERE technology = 'fiber'""")
    return shop


def work(portal: Portal) -> int:
    with portal.app.app_context():
        done = moving.take_effect_due() + due.take_effect_due()
        db.session.remove()
    return done


def ask(shop: Shop, alice: Visitor, **typed: str) -> Page:
    answer = alice.submit(shop.preview(alice, "move"), "/move", **(OAK | typed))
    return alice.get(answer.location) if answer.status == 303 else answer


def look(shop: Shop, alice: Visitor) -> Page:
    """The page of the move."""
    public_id = shop.portal.one("SELECT public_id FROM moves ORDER BY id DESC LIMIT 1")
    return shop.preview(alice, f"move/{public_id}")


def decide(shop: Shop, what: str, **typed: str) -> Page:
    """Staff's answer to the one move that waits."""
    sue = shop.portal.visitor("sue")
    [link] = [
        a for a in sue.get("/staff/plan-changes").select("main a") if "moves" in a.get("href")
    ]
    page = sue.get(link.get("href"))
    assert "The key is next door" in page.text
    answer = sue.submit(page, f"/{what}", **typed)
    return sue.get(answer.location) if answer.status == 303 else answer


def state(portal: Portal) -> str:
    return str(portal.one("SELECT state FROM moves ORDER BY id DESC LIMIT 1"))


def place(portal: Portal) -> tuple[str, str]:
    """Address on file and area of alice's account."""
    [(value, area)] = portal.rows(
        "SELECT value, area_code FROM contacts JOIN accounts ON accounts.id = account_id"
        " WHERE kind = 'postal' AND ended_on IS NULL AND accounts.id = :id",
        id=portal.world.accounts["alice"],
    )
    return value, area


def test_from_asking_to_the_new_address_with_another_plan(town: Shop) -> None:
    portal = town.portal
    alice = portal.visitor("alice", own_device="y")
    assert "Move house" in town.preview(alice, "").text
    page = ask(town, alice)
    assert "You have asked for it" in page.text
    assert "You have told us already" in town.preview(alice, "move").text
    missing = decide(town, "accept", on="2026-07-10", area="ALDR", plan="")
    assert "Choose the one that follows it" in missing.text
    assert state(portal) == "asked"
    accepted = decide(town, "accept", on="2026-07-10", area="ALDR", plan="AIR-50")
    assert "Accepted" in accepted.text
    assert state(portal) == "planned"
    page = look(town, alice)
    assert "Air 50, $54.00 a month" in page.text
    assert ("FIBER-300", "2025-01-01", "2026-07-10") in town.in_use()
    assert town.letters("move") == ["accepted"]
    assert town.letters() == ["made"]
    assert portal.one("SELECT count(*) FROM charges") == 0
    with at(2026, 7, 10, 6):  # 9 July at the ISP
        assert work(portal) == 0
    assert place(portal) == ("1 Mill St, Pinecrest", "PINE")
    with at(2026, 7, 10, 8):
        assert work(portal) == 2
        assert work(portal) == 0
        alice = portal.visitor("alice")
        assert "The account is at its new address" in alice.get(portal.path()).text
        assert "1001" in portal.visitor("sue").get("/staff/?q=oak").text
    assert place(portal) == ("2 Oak St, Alder Falls OR 97002, US", "ALDR")
    assert town.speed() == (50_000, 10_000)
    assert state(portal) == "done"
    assert town.letters("move") == ["accepted", "done"]
    with at(2026, 8, 1), portal.app.app_context():
        world.issue_month(portal.world, ("alice",), date(2026, 7, 10))
        [(address,)] = portal.rows("SELECT bill_address FROM invoices ORDER BY id DESC LIMIT 1")
    lines = json.loads(address) if isinstance(address, str) else address
    assert lines[0] == "2 Oak St"


def test_plan_that_is_had_there_stays(town: Shop) -> None:
    portal = town.portal
    portal.execute("UPDATE plans SET areas = NULL")
    alice = portal.visitor("alice")
    ask(town, alice)
    decide(town, "accept", on="2026-06-20", area="ALDR", plan="")  # at once
    assert state(portal) == "done"
    assert "the plan that you have" in look(town, alice).text
    assert place(portal)[1] == "ALDR"
    assert town.states() == []


def test_what_else_is_not_had_there_goes_first(town: Shop) -> None:
    portal = town.portal
    portal.execute("""UPDATE plans SET areas = '["PINE"]' WHERE code = 'TV-BASIC'""")
    ask(town, portal.visitor("alice"))
    page = decide(town, "accept", on="2026-07-10", area="ALDR", plan="AIR-50")
    assert page.status == 422
    assert "Local TV cannot be had there" in page.text


def test_contract_goes_on_and_nothing_is_charged_for_the_change(town: Shop) -> None:
    portal = town.portal
    portal.execute(
        "UPDATE subscriptions SET bound_until_on = '2027-01-01', termination_minor = 20000"
        " WHERE public_id = 'alicesub1'"
    )
    portal.execute(
        "UPDATE plans SET setup_minor = 9900, contract_months = 36 WHERE code = 'AIR-50'"
    )
    ask(town, portal.visitor("alice"))
    decide(town, "accept", on="2026-07-10", area="ALDR", plan="AIR-50")
    assert portal.one("SELECT count(*) FROM charges") == 0
    bound = portal.rows("SELECT bound_until_on, termination_minor FROM subscriptions"
                        " ORDER BY id DESC LIMIT 1")  # fmt: skip
    assert [(str(day), minor) for day, minor in bound] == [("2027-01-01", 20000)]


def test_it_is_taken_back_until_its_day_with_the_plan(town: Shop) -> None:
    portal = town.portal
    alice = portal.visitor("alice", own_device="y")
    ask(town, alice)
    decide(town, "accept", on="2026-07-10", area="ALDR", plan="AIR-50")
    change = portal.one("SELECT public_id FROM plan_changes")
    alone = town.preview(alice, f"changes/{change}")
    assert not [form for form in alone.select("form") if form.get("action").endswith("/undo")]
    page = look(town, alice)
    answer = alice.submit(page, "/withdraw")
    assert "It was taken back" in alice.get(answer.location).text
    assert alice.submit(page, "/withdraw").status == 303
    assert town.in_use()[0] == ("FIBER-300", "2025-01-01", None)
    assert town.states() == ["undone"]
    assert town.letters("move") == ["accepted", "undone"]
    with at(2026, 7, 10):
        assert work(portal) == 0
    assert place(portal) == ("1 Mill St, Pinecrest", "PINE")
    assert "Ask to move" in town.preview(alice, "move").text


def test_it_is_taken_back_after_cancelling_was(town: Shop) -> None:
    """Else the account would stay on the plan of the other area, or be billed past its end."""
    portal = town.portal
    ask(town, portal.visitor("alice"))
    decide(town, "accept", on="2026-07-10", area="ALDR", plan="AIR-50")
    alice = portal.visitor("alice")
    answer = alice.submit(town.preview(alice, "end?on=2026-07-20"), "/end")
    ended = alice.get(answer.location)
    refused = alice.submit(look(town, alice), "/withdraw")
    assert refused.status == 409
    assert "Cancelling is planned" in refused.text
    assert state(portal) == "planned"
    quoted = portal.one("SELECT quote FROM plan_changes WHERE is_end")
    agreed = json.loads(quoted) if isinstance(quoted, str) else quoted
    assert alice.submit(ended, "/undo").status == 303
    assert alice.submit(look(town, alice), "/withdraw").status == 303
    assert town.states() == ["undone", "undone"]
    assert town.in_use()[0] == ("FIBER-300", "2025-01-01", None)
    assert town.in_use()[-1] == ("AIR-50", "2026-07-10", "2026-07-10")
    assert [minor for name, minor in agreed["lines"] if name == "Fiber 300"] == [1887]


def test_nobody_moves_who_cancels(town: Shop) -> None:
    portal = town.portal
    alice = portal.visitor("alice")
    ask(town, alice)
    alice.submit(town.preview(alice, "end?on=2026-07-05"), "/end")
    page = decide(town, "accept", on="2026-07-10", area="ALDR", plan="")
    assert page.status == 422
    assert "Cancelling is planned" in page.text
    assert alice.submit(look(town, alice), "/withdraw").status == 303  # it was only asked for


def test_plan_that_is_not_had_there_cannot_be_the_one_that_follows(town: Shop) -> None:
    ask(town, town.portal.visitor("alice"))
    page = decide(town, "accept", on="2026-07-10", area="ALDR", plan="FIBER-300")
    assert page.status == 422
    assert "Choose the one that follows it" in page.text
    assert state(town.portal) == "asked"


@pytest.mark.parametrize(
    ("second", "words"), [(1001, "Fiber 100 cannot be had there"), (1004, "cannot be chosen here")]
)
def test_of_two_internet_plans_both_have_to_be_had(town: Shop, second: int, words: str) -> None:
    portal = town.portal
    account_id = portal.world.accounts["alice"]
    portal.execute(
        "INSERT INTO lines (public_id, account_id, username, is_closed)"
        " VALUES ('alicesecond', :id, 'ppp-alice-2', false)",
        id=account_id,
    )
    portal.execute(
        "INSERT INTO subscriptions (public_id, account_id, plan_id, line_id, started_on)"
        " SELECT 'alicesub9', :id, :plan, id, '2026-01-01' FROM lines"
        " WHERE public_id = 'alicesecond'",
        id=account_id,
        plan=second,
    )
    ask(town, portal.visitor("alice"))
    page = decide(town, "accept", on="2026-07-10", area="ALDR", plan="AIR-50")
    assert page.status == 422
    assert words in page.text
    assert state(portal) == "asked"


def tax_of_alder(session: Session) -> None:
    kinds = ["internet", "tv", "phone"]
    session.add(Tax(code="ALD", name="Alder", rate_bp=1000, applies_to=kinds, areas=["ALDR"]))


def quoted(portal: Portal) -> list[list[tuple[str, int]]]:
    """The lines that the quotes of the changes kept, the first first."""
    with portal.app.app_context():
        quotes = list(db.session.scalars(select(PlanChange.quote).order_by(PlanChange.id)))
        db.session.remove()
    return [[(name, minor) for name, minor in quote["lines"]] for quote in quotes]


@pytest.mark.parametrize("move_on", ["2026-07-01", "2026-07-10"])
def test_bill_has_the_taxes_of_the_new_area_that_were_shown(town: Shop, move_on: str) -> None:
    portal = town.portal
    with portal.app.app_context():
        unit_of_work(tax_of_alder)
    ask(town, portal.visitor("alice"))
    decide(town, "accept", on=move_on, area="ALDR", plan="AIR-50")
    [agreed] = quoted(portal)
    assert ("Alder" in dict(agreed)) == (move_on == "2026-07-01")
    alice = portal.visitor("alice")
    town.change(alice, "add/TV-FAMILY")
    latest = quoted(portal)[-1]
    assert ("Alder" in dict(latest)) == (move_on == "2026-07-01")
    with at(2026, 7, 1), portal.app.app_context():
        work(portal)
        [invoice_id] = world.issue_month(portal.world, ("alice",), date(2026, 7, 1))
    lines = portal.rows(
        "SELECT description, amount_minor FROM invoice_lines WHERE invoice_id = :id"
        " ORDER BY position",
        id=invoice_id,
    )
    assert [(name, minor) for name, minor in lines] == latest


def test_what_is_not_had_at_the_new_place_is_not_offered(town: Shop) -> None:
    portal = town.portal
    portal.execute("UPDATE plans SET areas = NULL WHERE code = 'FIBER-300'")
    portal.execute("""UPDATE plans SET areas = '["PINE"]' WHERE code = 'TV-FAMILY'""")
    portal.execute("""UPDATE plans SET areas = '["ALDR"]' WHERE code = 'ELSEWHERE'""")
    ask(town, portal.visitor("alice"))
    decide(town, "accept", on="2026-06-25", area="ALDR", plan="")
    alice = portal.visitor("alice")
    assert town.preview(alice, "add/TV-FAMILY").status == 409
    for when in ("now", "next"):
        page = town.preview(alice, f"{FIBER}/change/FIBER-100?when={when}")
        assert page.status == 409
        assert "cannot be chosen here" in page.text
    # What is had there alone can follow from the day of the move on, not before.
    assert town.preview(alice, f"{FIBER}/change/ELSEWHERE?when=now").status == 409
    assert town.preview(alice, f"{FIBER}/change/ELSEWHERE?when=next").status == 200
    assert "Elsewhere" in town.preview(alice, f"{FIBER}/change").text


def test_what_was_to_end_does_not_come_back_where_it_is_not_had(town: Shop) -> None:
    portal = town.portal
    portal.execute("""UPDATE plans SET areas = '["PINE"]' WHERE code = 'TV-BASIC'""")
    alice = portal.visitor("alice", own_device="y")
    removed = town.change(alice, f"{TV}/remove")
    ask(town, alice)
    decide(town, "accept", on="2026-07-10", area="ALDR", plan="AIR-50")
    refused = alice.submit(removed, "/undo")
    assert refused.status == 409
    assert "cannot be chosen here" in refused.text


def test_staff_refuse_and_say_why(town: Shop) -> None:
    portal = town.portal
    alice = portal.visitor("alice")
    ask(town, alice)
    assert decide(town, "refuse", why="").status == 422
    decide(town, "refuse", why="No line in that street")
    assert "No line in that street" in look(town, alice).text
    assert town.letters("move") == ["refused"]
    assert state(portal) == "refused"


def test_staff_refuse_after_all_until_its_day(town: Shop) -> None:
    portal = town.portal
    account = f"/staff/accounts/{portal.world.public_ids['alice']}"
    alice = portal.visitor("alice")
    ask(town, alice)
    sue = portal.visitor("sue", own_device="y")
    assert "Wants to move" in sue.get(account).text
    decide(town, "accept", on="2026-07-10", area="ALDR", plan="AIR-50")
    page = sue.get(account)
    assert "Moves on Jul 10, 2026" in page.text
    [link] = [a for a in page.select("main a") if "/moves/" in a.get("href")]
    desk = sue.get(link.get("href"))
    assert not [form for form in desk.select("form") if form.get("action").endswith("/accept")]
    assert sue.submit(desk, "/refuse", why="").status == 422
    assert sue.submit(desk, "/refuse", why="The line was cut").status == 303
    assert "The line was cut" in look(town, portal.visitor("alice")).text
    assert (state(portal), town.states()) == ("refused", ["undone"])
    assert town.in_use()[0] == ("FIBER-300", "2025-01-01", None)
    assert town.letters("move") == ["accepted", "refused"]
    assert "Moves on" not in sue.get(account).text
    with at(2026, 7, 10):
        assert work(portal) == 0


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ({"street": " "}, "Write the new address"),
        ({"city": ""}, "Write the town"),
        ({"on": "2026-06-19"}, "from today on"),
        ({"on": "2027-06-19"}, "from today on"),
        ({"on": "2026-09-19"}, "at most 90 days ahead"),
        ({"on": "soon"}, "Enter the day like"),
        ({"note": "x" * 301}, "300"),
    ],
)
def test_what_cannot_be_is_said_at_its_field(town: Shop, typed: dict[str, str], words: str) -> None:
    page = ask(town, town.portal.visitor("alice"), **typed)
    assert page.status == 422
    assert words in page.text
    assert town.portal.one("SELECT count(*) FROM moves") == 0


def test_account_that_was_closed_does_not_move(town: Shop) -> None:
    portal = town.portal
    alice = portal.visitor("alice", own_device="y")
    ask(town, alice)
    decide(town, "accept", on="2026-07-10", area="ALDR", plan="AIR-50")
    account_id = portal.world.accounts["alice"]
    with portal.app.app_context():
        unit_of_work(lambda s: closing.close(s, [account_id], date(2026, 6, 20)), account_id)
    assert state(portal) == "undone"
    with at(2026, 7, 10):
        assert work(portal) == 0
    answer = alice.submit(town.preview(alice, "move"), "/move", **OAK)
    assert answer.status == 409
    assert "This account is closed" in answer.text


def test_two_who_ask_at_once_ask_once_and_of_two_decisions_one_counts(town: Shop) -> None:
    portal = town.portal
    visitors = [portal.visitor("alice") for _ in range(6)]
    pages = [town.preview(visitor, "move") for visitor in visitors]
    together(6, lambda number: visitors[number].submit(pages[number], "/move", **OAK))
    assert portal.one("SELECT count(*) FROM moves") == 1
    staff = [portal.visitor("sue") for _ in range(4)]
    public_id = portal.one("SELECT public_id FROM moves")
    desks = [sue.get(f"/staff/moves/{public_id}") for sue in staff]

    def press(number: int) -> int:
        if number % 2:
            return staff[number].submit(desks[number], "/refuse", why="No").status
        typed = {"on": "2026-07-10", "area": "ALDR", "plan": "AIR-50"}
        return staff[number].submit(desks[number], "/accept", **typed).status

    answers = together(4, press)
    assert answers.count(303) == 1
    assert portal.one("SELECT count(*) FROM plan_changes") == int(state(portal) == "planned")
