"""What a line has used when its plan changes: paid once, and nothing is won by changing."""

from __future__ import annotations

from datetime import date

import pytest

from blueprints.dashboard.plans import due
from blueprints.lines.allowances import watching
from core.db import db
from tests.conftest import Portal
from tests.dashboard.plans.shop import Shop, at
from tests.dashboard.plans.test_changing import ask
from tests.dashboard.told import letters
from tests.dashboard.usage.carried import GB, carry, include
from tests.lines.test_allowances import buy, charges, line, sell
from tests.page import Page

JUNE_15, JUNE_20, JUNE_22 = date(2026, 6, 15), date(2026, 6, 20), date(2026, 6, 22)


def look(portal: Portal) -> None:
    with portal.app.app_context():
        watching.look()
        db.session.remove()


def press(shop: Shop, code: str, when: str = "now") -> Page:
    """Press the button that changes alice's internet plan."""
    subscription = shop.portal.one(
        "SELECT s.public_id FROM subscriptions s JOIN plans ON plans.id = plan_id"
        " WHERE kind = 'internet' AND ended_on IS NULL AND account_id = :id",
        id=shop.portal.world.accounts["alice"],
    )
    return shop.press(shop.portal.visitor("alice"), f"{subscription}/change/{code}?when={when}")


def change(shop: Shop, code: str, when: str = "now") -> None:
    answer = press(shop, code, when)
    assert answer.status == 303, answer.text


def unlimited(portal: Portal, code: str) -> None:
    portal.execute(
        "UPDATE plans SET data_included_bytes = NULL, overage_minor = NULL, over_rule = ''"
        " WHERE code = :code",
        code=code,
    )


def overage(portal: Portal) -> list[int]:
    """What was charged for data beyond plans, each time."""
    return [minor for minor, what in charges(portal) if "beyond" in what]


# Charging ---------------------------------------------------------------------------------------


def test_what_the_old_plan_charged_is_not_charged_by_the_new_one(shop: Shop) -> None:
    portal = shop.portal
    sell(portal)
    portal.execute(
        "UPDATE plans SET overage_bytes = :size, overage_minor = 300 WHERE code = 'FIBER-100'",
        size=10 * GB,
    )
    carry(portal, JUNE_20, [(0, 300 * GB)])
    look(portal)
    assert overage(portal) == [4000]
    change(shop, "FIBER-100")
    with at(2026, 6, 21):
        carry(portal, date(2026, 6, 21), [(0, GB)])
        look(portal)
        assert overage(portal) == [4000, 300]
        carry(portal, date(2026, 6, 21), [(0, 9 * GB)])
        look(portal)
    assert overage(portal) == [4000, 300]


def test_blocks_of_the_new_plan_are_charged_from_the_first_on(shop: Shop) -> None:
    portal = shop.portal
    sell(portal)
    carry(portal, JUNE_15, [(0, 350 * GB)])
    look(portal)
    change(shop, "FIBER-100")
    with at(2026, 6, 22):
        carry(portal, JUNE_22, [(0, 350 * GB)])
        look(portal)
    assert overage(portal) == [5000, 7000]


def test_what_was_used_but_not_looked_at_is_charged_before_the_plan_ends(shop: Shop) -> None:
    portal = shop.portal
    sell(portal)
    unlimited(portal, "FIBER-1000")
    carry(portal, JUNE_20, [(0, 210 * GB)])
    change(shop, "FIBER-1000")
    assert overage(portal) == [3000]
    with at(2026, 6, 21):
        carry(portal, date(2026, 6, 21), [(0, 900 * GB)])
        look(portal)
    assert overage(portal) == [3000]


def test_what_was_carried_without_a_limit_does_not_count(shop: Shop) -> None:
    portal = shop.portal
    sell(portal)
    unlimited(portal, "FIBER-300")
    carry(portal, JUNE_20, [(0, 300 * GB)])
    with at(2026, 6, 21):
        change(shop, "FIBER-100")
        look(portal)
        carry(portal, date(2026, 6, 21), [(0, 33 * GB)])
        look(portal)
        assert overage(portal) == [], "a third of 100 GB for the ten days that are left"
        carry(portal, date(2026, 6, 21), [(0, GB)])
        look(portal)
    assert overage(portal) == [1000]


def test_what_a_plan_did_not_charge_is_not_charged_by_the_next(shop: Shop) -> None:
    portal = shop.portal
    sell(portal)
    portal.execute("UPDATE plans SET over_rule = 'slow' WHERE code = 'FIBER-300'")
    carry(portal, JUNE_15, [(0, 180 * GB)])
    look(portal)
    assert line(portal)[1] == 1000
    change(shop, "FIBER-100")
    assert line(portal) == ("open", None, None, None)
    assert overage(portal) == []
    with at(2026, 6, 22):
        carry(portal, JUNE_22, [(0, GB)])
        look(portal)
        assert overage(portal) == [1000]
        change(shop, "FIBER-300")
    assert line(portal)[1] == 1000, "it had used all of it before"


@pytest.mark.parametrize("is_closed", [False, True])
def test_reports_of_the_last_day_are_charged_whatever_is_in_use_since(
    shop: Shop, *, is_closed: bool
) -> None:
    portal = shop.portal
    sell(portal)
    unlimited(portal, "FIBER-1000")
    if is_closed:
        alice = portal.visitor("alice")
        assert alice.submit(shop.preview(alice, "end?on=2026-07-01"), "/end").status == 303
    else:
        change(shop, "FIBER-1000", "next")
    with at(2026, 7, 1):
        with portal.app.app_context():
            due.take_effect_due()
            db.session.remove()
        carry(portal, date(2026, 6, 30), [(0, 140 * GB)])
        look(portal)
    with at(2026, 7, 2):
        carry(portal, date(2026, 6, 30), [(0, 20 * GB)])
        look(portal)
        look(portal)
    assert overage(portal) == [1000, 1000]


# Nothing is won ---------------------------------------------------------------------------------


def test_changing_to_and_fro_gives_no_data_anew(shop: Shop) -> None:
    portal = shop.portal
    sell(portal)
    carry(portal, date(2026, 6, 19), [(0, 100 * GB)])
    look(portal)
    change(shop, "FIBER-100")
    change(shop, "FIBER-300")
    with at(2026, 6, 22):
        carry(portal, JUNE_22, [(0, 100 * GB)])
        look(portal)
        assert overage(portal) == [2000]
        change(shop, "FIBER-100")
        change(shop, "FIBER-300")
    with at(2026, 6, 25):
        carry(portal, date(2026, 6, 25), [(0, 100 * GB)])
        look(portal)
    assert overage(portal) == [2000, 2000]


def test_plan_that_staff_let_begin_within_the_period_counts_on(shop: Shop) -> None:
    portal = shop.portal
    sell(portal)
    public_id = ask(shop)
    sue = portal.visitor("sue")
    page = sue.get(f"/staff/plan-changes/{public_id}")
    assert sue.submit(page, "/accept", on="2026-06-25").status == 303
    carry(portal, date(2026, 6, 24), [(0, 90 * GB)])
    with at(2026, 6, 25):
        with portal.app.app_context():
            assert due.take_effect_due() == 1
            db.session.remove()
        for gigabytes, count in ((10, 0), (5, 1)):
            carry(portal, date(2026, 6, 25), [(0, gigabytes * GB)])
            look(portal)
            assert len(overage(portal)) == count


def test_top_up_that_was_used_stays_used(shop: Shop) -> None:
    portal = shop.portal
    sell(portal)
    buy(portal)
    buy(portal)
    carry(portal, JUNE_20, [(0, 130 * GB)])
    look(portal)
    change(shop, "FIBER-100")
    with at(2026, 6, 22):
        carry(portal, JUNE_22, [(0, 20 * GB)])
        look(portal)
    assert portal.rows("SELECT used_bytes FROM top_up_uses ORDER BY top_up_id") == [
        (20 * GB,), (20 * GB,),
    ]  # fmt: skip
    assert overage(portal) == [1000]


def test_line_that_is_stopped_stays_so_with_a_plan_that_includes_as_much(shop: Shop) -> None:
    portal = shop.portal
    sell(portal, "stop")
    carry(portal, date(2026, 6, 19), [(0, 150 * GB)])
    look(portal)
    change(shop, "FIBER-100")
    assert line(portal) == ("held", None, None, "2026-07-01")
    portal.execute("UPDATE plans SET over_rule = 'slow' WHERE code = 'FIBER-300'")
    change(shop, "FIBER-300")
    assert line(portal) == ("open", 1000, 500, "2026-07-01")
    unlimited(portal, "FIBER-1000")
    change(shop, "FIBER-1000")
    assert line(portal) == ("open", None, None, None)
    change(shop, "FIBER-100")
    assert line(portal)[0] == "held"


def test_change_at_once_is_refused_that_would_leave_less_than_is_used(shop: Shop) -> None:
    portal = shop.portal
    sell(portal)
    portal.execute(
        "UPDATE plans SET data_included_bytes = :more WHERE code = 'FIBER-300'", more=300 * GB
    )
    carry(portal, JUNE_15, [(0, 228 * GB)])
    with at(2026, 6, 21):  # two thirds of 300 GB, and a third of 100
        change(shop, "FIBER-100")
    portal.execute("UPDATE plans SET data_included_bytes = :more WHERE code = 'FIBER-1000'",
                   more=3000 * GB)  # fmt: skip
    with at(2026, 6, 22):
        change(shop, "FIBER-300")
        change(shop, "FIBER-1000")
        carry(portal, JUNE_22, [(0, 400 * GB)])
        refused = shop.preview(
            portal.visitor("alice"),
            f"{_fiber_1000(portal)}/change/FIBER-100?when=now",
        )
        assert refused.status == 409
        assert "used more data than this plan would leave you" in refused.text
        change(shop, "FIBER-100", "next")
    assert overage(portal) == []


def _fiber_1000(portal: Portal) -> str:
    return str(
        portal.one(
            "SELECT s.public_id FROM subscriptions s JOIN plans ON plans.id = plan_id"
            " WHERE code = 'FIBER-1000' AND ended_on IS NULL"
        )
    )


def test_plan_without_a_limit_for_an_hour_gives_nothing(shop: Shop) -> None:
    portal = shop.portal
    sell(portal)
    unlimited(portal, "FIBER-1000")
    change(shop, "FIBER-1000")
    carry(portal, JUNE_20, [(0, 400 * GB)])
    page = shop.preview(portal.visitor("alice"), f"{_fiber_1000(portal)}/change/FIBER-100?when=now")
    assert page.status == 409
    with at(2026, 6, 21):
        change(shop, "FIBER-100")
    assert overage(portal) == []


# What is told and shown -------------------------------------------------------------------------


def test_thresholds_are_told_again_where_more_is_included(shop: Shop) -> None:
    portal = shop.portal
    sell(portal)
    portal.execute(
        "UPDATE plans SET data_included_bytes = :more WHERE code = 'FIBER-1000'", more=1000 * GB
    )
    carry(portal, JUNE_20, [(0, 80 * GB)])
    look(portal)
    change(shop, "FIBER-100")
    look(portal)
    change(shop, "FIBER-300")
    change(shop, "FIBER-1000")
    with at(2026, 6, 22):
        # 19 of 30 days of 100 GB and 11 of 1,000 GB
        carry(portal, JUNE_22, [(0, 250 * GB)])
        look(portal)
    told = [(facts["plan"], facts["percent"]) for _to, facts in letters(portal, "usage_alert")]
    assert told == [("Fiber 300", 75), ("Fiber Gig", 75)]


def test_page_says_what_is_included_of_each_plan(shop: Shop) -> None:
    portal = shop.portal
    include(portal, 100 * GB)
    portal.execute(
        "UPDATE plans SET data_included_bytes = :more WHERE code = 'FIBER-1000'", more=1000 * GB
    )
    carry(portal, JUNE_15, [(0, 90 * GB)])
    alice = portal.visitor("alice")
    assert "used of 100 GB in Fiber 300" in alice.get(portal.path("usage/")).text
    change(shop, "FIBER-1000")
    page = alice.get(portal.path("usage/")).text
    assert "used of 430 GB in Fiber Gig" in page
    assert "each plan includes its share by days" in page
