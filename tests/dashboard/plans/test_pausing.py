"""Pausing through the pages: what it saves, when it begins and ends, and back."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import select

from blueprints.billing.dunning import closing
from blueprints.billing.periods import Span, cost_of, cut, without
from blueprints.dashboard.plans import changing, due, pause_quoting, pausing, quoting
from blueprints.dashboard.plans.errors import ChangeRefused, PlanNotFound
from blueprints.dashboard.plans.quoting import When, Wish
from blueprints.lines import holding
from core import clock, form_keys
from core.db import db, unit_of_work
from models import HoldReason, Line, Pause, Plan, Subscription
from tests import world
from tests.conftest import Portal, Queries, together
from tests.dashboard.plans.shop import FIBER, Shop, at
from tests.page import Page, Visitor

JULY = "pause?from_on=2026-07-06&until_on=2026-07-26"
"""Twenty of July's 31 days."""


def next_bill(portal: Portal, day: date) -> list[tuple[str, int]]:
    """Issue alice's next bill on `day`; its lines."""
    with portal.app.app_context():
        [invoice_id] = world.issue_month(portal.world, ("alice",), day)
    return [
        (description, amount)
        for description, amount in portal.rows(
            "SELECT description, amount_minor FROM invoice_lines WHERE invoice_id = :id"
            " ORDER BY position",
            id=invoice_id,
        )
    ]


def work(portal: Portal) -> int:
    with portal.app.app_context():
        done = pausing.take_effect_due()
        db.session.remove()
    return done


def plan(shop: Shop, alice: Visitor, rest: str = JULY) -> Page:
    """Press the button of the preview; the page that shows the pause."""
    answer = alice.submit(shop.preview(alice, rest), "/pause")
    assert answer.status == 303, answer.text
    return alice.get(answer.location)


def planned(portal: Portal) -> tuple[Visitor, str]:
    """Alice, signed in just now, and the path of her pause."""
    public_id = portal.one("SELECT public_id FROM pauses ORDER BY id DESC LIMIT 1")
    return portal.visitor("alice"), portal.path(f"plans/pause/{public_id}")


def agreed(portal: Portal) -> list[tuple[str, int]]:
    """The lines that the pause's quote kept."""
    with portal.app.app_context():
        [quote] = db.session.scalars(select(Pause.quote))
        db.session.remove()
    return [(description, amount) for description, amount in quote["lines"]]


def line(portal: Portal) -> tuple[str, list[str]]:
    """What is wanted of alice's line, and why it is held."""
    [state] = portal.rows("SELECT wanted_state FROM lines WHERE username = 'ppp-alice'")[0]
    held = portal.rows(
        "SELECT reason FROM line_holds JOIN lines ON lines.id = line_id"
        " WHERE username = 'ppp-alice' AND released_at IS NULL ORDER BY reason"
    )
    return state, [reason for (reason,) in held]


# It works ---------------------------------------------------------------------------------------


def test_without_rules_there_are_no_pauses(shop: Shop) -> None:
    alice = shop.portal.visitor("alice")
    assert "Pause your service" not in shop.preview(alice, "").text
    assert shop.preview(alice, "pause").status == 404


def test_from_the_list_to_a_pause_and_onto_the_bill(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses()
    alice = portal.visitor("alice")
    [link] = [a for a in shop.preview(alice, "").select("main a") if "pause" in a.get("href")]
    page = alice.get(link.get("href"))
    assert "From Jun 21, 2026" in page.text
    assert "you have 90 days left" in page.text
    preview = shop.preview(alice, JULY)
    # 20 of 31 days of 65.00 and of 19.00 (with 6.25 %) less, 3.87 for the pause more.
    for words in ("$51.09", "Fiber 300, Local TV", "Home Voice", "$6.00", "70 days"):
        assert words in preview.text
    page = plan(shop, alice)
    assert "It is planned" in page.text
    assert "will be paused from Jul 6, 2026" in alice.get(portal.path()).text
    assert (
        "Pause planned"
        in portal.visitor("sue").get(f"/staff/accounts/{portal.world.public_ids['alice']}").text
    )
    with at(2026, 7, 1):
        assert next_bill(portal, date(2026, 7, 1)) == agreed(portal)
    with at(2026, 7, 6, 6):  # 5 July at the ISP
        assert work(portal) == 0
        assert line(portal) == ("open", [])
    with at(2026, 7, 6, 8):
        assert work(portal) == 1
        assert work(portal) == 0
    assert line(portal) == ("held", ["pause"])
    assert "Your service is paused" in alice.get(portal.path()).text
    with at(2026, 7, 26, 8):
        assert work(portal) == 1
    assert line(portal) == ("open", [])
    assert shop.letters("pause") == ["made", "over"]
    with at(2026, 8, 1):
        assert ("Fiber 300", 6500) in next_bill(portal, date(2026, 8, 1))


def test_days_that_were_billed_are_given_back_once(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses(plan="")
    alice = portal.visitor("alice")
    plan(shop, alice, "pause?from_on=2026-06-24&until_on=2026-07-08")
    with at(2026, 7, 1):
        lines = next_bill(portal, date(2026, 7, 1))
    assert lines == agreed(portal)
    # 24 of July's days charged, 7 of June's given back.
    assert [amount for name, amount in lines if name == "Fiber 300"] == [5032, -1517]
    with at(2026, 8, 1):
        lines = next_bill(portal, date(2026, 8, 1))
    assert [amount for name, amount in lines if name == "Fiber 300"] == [6500]


def test_days_that_were_paid_elsewhere_are_not_given_back_after_a_run_ahead(shop: Shop) -> None:
    """Neither for a pause, nor when it ends, nor for a change at once."""
    portal = shop.portal
    shop.offer_pauses(plan="", notice_days=0)
    portal.execute(
        "UPDATE subscriptions SET billed_price_minor = NULL, billed_taxes = NULL"
        " WHERE account_id = :id",
        id=portal.world.accounts["alice"],
    )
    june = "pause?from_on=2026-06-22&until_on=2026-07-10"
    with at(2026, 6, 21):
        next_bill(portal, date(2026, 7, 1))
        alice = portal.visitor("alice")
        assert "A pause can begin from Jul 1, 2026" in shop.preview(alice, june).text
        page = shop.preview(alice, f"{FIBER}/change/FIBER-500?when=now")
        assert "At once" not in page.text
        account_id = portal.world.accounts["alice"]
        with portal.app.app_context():
            unit_of_work(lambda s: closing.close(s, [account_id], date(2026, 6, 21)), account_id)
    with at(2026, 8, 1):
        lines = next_bill(portal, date(2026, 8, 1))
    # All of July, and nothing of June.
    assert [amount for name, amount in lines if name == "Fiber 300"] == [6500]


def test_it_is_taken_back_until_it_begins_also_after_a_bill(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses()
    plan(shop, portal.visitor("alice"))
    with at(2026, 7, 1):
        next_bill(portal, date(2026, 7, 1))
        alice, path = planned(portal)
        page = alice.get(path)
        answer = alice.submit(page, "/undo")
        assert "It was taken back" in alice.get(answer.location).text
        assert alice.submit(page, "/undo").status == 303
    with at(2026, 7, 6):
        assert work(portal) == 0
    assert line(portal) == ("open", [])
    assert shop.letters("pause") == ["made", "undone"]
    with at(2026, 8, 1):
        lines = next_bill(portal, date(2026, 8, 1))
    assert sum(amount for name, amount in lines if name == "Fiber 300") == 6500 + 4194
    assert [amount for name, amount in lines if name == "Paused line"] == [-387]
    assert "you have 90 days left" in shop.preview(portal.visitor("alice"), "pause").text


def test_ended_early_it_is_open_and_paid_for_from_today(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses()
    plan(shop, portal.visitor("alice"))
    with at(2026, 7, 1):
        next_bill(portal, date(2026, 7, 1))
    with at(2026, 7, 5):
        alice, path = planned(portal)
        page = alice.get(path)
    with at(2026, 7, 6, 8):
        work(portal)
        alice = portal.visitor("alice")
        assert alice.submit(page, "/undo").status in (403, 409)
        assert portal.one("SELECT state FROM pauses") == "running"
    with at(2026, 7, 16):
        alice, path = planned(portal)
        page = alice.get(path)
        preview = alice.get(page.select("main a.button")[0].get("href"))
        assert "You pay for the days that are left" in preview.text
        done = alice.submit(preview, "/end")
        assert "Your service is on again" in alice.get(done.location).text
        assert line(portal) == ("open", [])
        assert alice.submit(preview, "/end").status == 303  # sent twice it counts once
    assert shop.letters("pause") == ["made", "ended"]
    with at(2026, 8, 1):
        lines = next_bill(portal, date(2026, 8, 1))
        assert lines == agreed(portal)
    # Ten of July's days that were not charged.
    assert [amount for name, amount in lines if name == "Fiber 300"] == [6500, 2097]
    assert [amount for name, amount in lines if name == "Paused line"] == [-194]
    assert "you have 80 days left" in shop.preview(portal.visitor("alice"), "pause").text


def test_what_has_begun_takes_the_least_days_of_the_year(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses()
    plan(shop, portal.visitor("alice"))
    with at(2026, 7, 7):
        work(portal)
        alice, path = planned(portal)
        end = alice.get(f"{path}/end")
        alice.submit(end, "/end")
        assert "you have 83 days left" in shop.preview(alice, "pause").text


def test_pause_without_internet_leaves_the_line_open(shop: Shop) -> None:
    shop.offer_pauses(kinds=["tv"], notice_days=0, plan="")
    plan(shop, shop.portal.visitor("alice"), "pause?from_on=2026-06-20&until_on=2026-07-01")
    assert line(shop.portal) == ("open", [])
    assert shop.portal.one("SELECT state FROM pauses") == "running"


@pytest.mark.parametrize(
    ("rest", "status", "words"),
    [
        ("from_on=2026-06-20&until_on=2026-07-01", 409, "begin from Jun 21, 2026"),
        ("from_on=2027-06-20&until_on=2027-07-01", 409, "can begin until"),
        ("from_on=2026-07-06&until_on=2026-07-10", 409, "from 7 to 60 days"),
        ("from_on=2026-07-06&until_on=2026-09-20", 409, "from 7 to 60 days"),
        ("from_on=2026-07-06&until_on=2026-07-06", 422, "after the first day"),
        ("from_on=soon&until_on=2026-07-06", 422, "Enter the day like"),
        ("from_on=2026-07-06", 422, "Choose a day"),
    ],
)
def test_days_that_cannot_be_are_refused(shop: Shop, rest: str, status: int, words: str) -> None:
    shop.offer_pauses()
    page = shop.preview(shop.portal.visitor("alice"), f"pause?{rest}")
    assert page.status == status
    assert words in page.text


def test_year_has_so_many_days_and_a_pause_may_cross_into_the_next(shop: Shop) -> None:
    shop.offer_pauses(most_days_a_year=30)
    alice = shop.portal.visitor("alice")
    refused = shop.preview(alice, "pause?from_on=2026-07-01&until_on=2026-08-05")
    assert "there are 30 days left to pause" in refused.text
    with at(2026, 12, 1):
        alice = shop.portal.visitor("alice")
        page = shop.preview(alice, "pause?from_on=2026-12-05&until_on=2027-01-20")
        assert "3 days" in page.text  # of 2026
        assert "11 days" in page.text  # of 2027


def test_overdue_bill_is_paid_first_and_the_holds_do_not_disturb_each_other(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses()
    alice = portal.visitor("alice")
    plan(shop, alice)
    with portal.app.app_context():
        line_id = db.session.scalars(select(Line.id).where(Line.username == "ppp-alice")).one()
        db.session.remove()

        def hold(reason: HoldReason, *, is_to_hold: bool) -> None:
            act = holding.hold if is_to_hold else holding.release
            unit_of_work(lambda session: act(session, [line_id], reason))

        hold(HoldReason.UNPAID, is_to_hold=True)
        with at(2026, 7, 6):
            work(portal)
            assert line(portal) == ("held", ["pause", "unpaid"])
            hold(HoldReason.UNPAID, is_to_hold=False)
            assert line(portal) == ("held", ["pause"])
            hold(HoldReason.UNPAID, is_to_hold=True)
        with at(2026, 7, 26):
            work(portal)
            assert line(portal) == ("held", ["unpaid"])
        refused = shop.preview(alice, "pause?from_on=2026-07-06&until_on=2026-07-26")
        assert "A bill is overdue" in refused.text


def test_contract_lasts_as_much_longer_and_less_when_it_ends_early(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses()
    portal.execute(
        "UPDATE subscriptions SET bound_until_on = '2026-12-01', termination_minor = 20000"
        " WHERE public_id = 'alicesub1'"
    )
    bound = "SELECT bound_until_on FROM subscriptions WHERE public_id = 'alicesub1'"
    alice = portal.visitor("alice")
    assert "longer, until Dec 21, 2026" in shop.preview(alice, JULY).text
    plan(shop, alice)
    assert str(portal.one(bound)) == "2026-12-01"
    with at(2026, 7, 6):
        work(portal)
        assert str(portal.one(bound)) == "2026-12-21"
    with at(2026, 7, 16):
        alice, path = planned(portal)
        alice.submit(alice.get(f"{path}/end"), "/end")
    assert str(portal.one(bound)) == "2026-12-11"


BIND = (
    "UPDATE subscriptions SET bound_until_on = :day, termination_minor = 20000"
    " WHERE public_id = 'alicesub1'"
)


def bound(portal: Portal) -> list[tuple[str, str]]:
    """Until when alice's contracts bind, by their plans."""
    return [
        (code, str(day))
        for code, day in portal.rows(
            "SELECT plans.code, bound_until_on FROM subscriptions"
            " JOIN plans ON plans.id = plan_id"
            " WHERE account_id = :id AND bound_until_on IS NOT NULL ORDER BY subscriptions.id",
            id=portal.world.accounts["alice"],
        )
    ]


def test_contract_of_the_plan_that_follows_gets_shorter_too_when_it_ends_early(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses(plan="")
    portal.execute(BIND, day="2026-08-20")
    plan(shop, portal.visitor("alice"), "pause?from_on=2026-06-22&until_on=2026-08-01")
    with at(2026, 6, 22):
        work(portal)
    assert bound(portal) == [("FIBER-300", "2026-09-29")]
    with at(2026, 7, 2):
        shop.change(portal.visitor("alice"), f"{FIBER}/change/FIBER-500?when=next")
    assert bound(portal) == [("FIBER-300", "2026-09-29"), ("FIBER-500", "2026-09-29")]
    with at(2026, 7, 3):
        alice, path = planned(portal)
        alice.submit(alice.get(f"{path}/end"), "/end")
    assert bound(portal) == [("FIBER-300", "2026-08-31"), ("FIBER-500", "2026-08-31")]
    with at(2026, 8, 21):
        page = shop.preview(portal.visitor("alice"), "end?on=2026-09-05")
        assert page.status == 200
        assert "contract ended early" not in page.text


def test_own_contract_of_the_plan_that_follows_is_not_cut(shop: Shop) -> None:
    """It binds for twelve months from its first day on, and the one before it longer by a pause."""
    portal = shop.portal
    shop.offer_pauses(plan="")
    portal.execute(BIND, day="2027-07-20")
    plan(shop, portal.visitor("alice"), "pause?from_on=2026-06-22&until_on=2026-08-01")
    with at(2026, 6, 22):
        work(portal)
    with at(2026, 7, 2):
        shop.change(portal.visitor("alice"), f"{FIBER}/change/FIBER-1000?when=next")
    assert bound(portal) == [("FIBER-300", "2027-08-29"), ("FIBER-1000", "2027-08-29")]
    with at(2026, 7, 3):
        alice, path = planned(portal)
        alice.submit(alice.get(f"{path}/end"), "/end")
    assert bound(portal) == [("FIBER-300", "2027-07-31"), ("FIBER-1000", "2027-08-01")]


def test_contract_gets_longer_with_the_plan_that_is_to_follow(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses(plan="")
    portal.execute(BIND, day="2026-12-20")
    alice = portal.visitor("alice")
    shop.change(alice, f"{FIBER}/change/FIBER-500?when=next")  # from 1 July on
    page = shop.preview(alice, "pause?from_on=2026-06-22&until_on=2026-07-01")
    for words in ("Contract of Fiber 500", "longer, until Dec 29, 2026"):
        assert words in page.text
    assert "Contract of Fiber 300" not in page.text
    plan(shop, alice, "pause?from_on=2026-06-22&until_on=2026-07-01")
    with at(2026, 6, 22):
        work(portal)
    assert bound(portal) == [("FIBER-300", "2026-12-29"), ("FIBER-500", "2026-12-29")]


@pytest.mark.parametrize("is_rule", [True, False])
def test_contract_gets_longer_by_the_rule_that_was_agreed_to(shop: Shop, is_rule: bool) -> None:
    portal = shop.portal
    shop.offer_pauses(prolongs_contract=is_rule)
    portal.execute(BIND, day="2026-12-01")
    plan(shop, portal.visitor("alice"))
    shop.offer_pauses(prolongs_contract=not is_rule)
    with at(2026, 7, 6):
        work(portal)
    assert bound(portal) == [("FIBER-300", "2026-12-21" if is_rule else "2026-12-01")]


def test_contract_ends_on_its_day_where_that_is_the_rule(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses(prolongs_contract=False, notice_days=0)
    portal.execute("UPDATE subscriptions SET bound_until_on = '2026-12-01'")
    plan(shop, portal.visitor("alice"), "pause?from_on=2026-06-20&until_on=2026-07-10")
    assert {str(day) for (day,) in portal.rows("SELECT bound_until_on FROM subscriptions"
            " WHERE account_id = :id AND bound_until_on IS NOT NULL",
            id=portal.world.accounts["alice"])} == {"2026-12-01"}  # fmt: skip


def test_preview_takes_six_queries(shop: Shop) -> None:
    shop.offer_pauses()
    alice = shop.portal.visitor("alice")
    shop.preview(alice, JULY)
    with Queries(shop.portal.app) as queries:
        assert shop.preview(alice, JULY).status == 200
    assert queries.count <= 6


# Beside changes of plans ------------------------------------------------------------------------


def test_nothing_changes_while_it_is_paused(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses()
    alice = portal.visitor("alice")
    plan(shop, alice, "pause?from_on=2026-06-25&until_on=2026-07-20")
    page = shop.preview(alice, f"{FIBER}/change/FIBER-100")  # from 1 July on
    assert page.status == 409
    assert "Choose a day from Jul 20, 2026" in page.text
    assert shop.preview(alice, f"{FIBER}/change/FIBER-100?when=now").status == 200
    assert shop.preview(alice, "add/REST").status == 409
    [rest] = portal.rows("SELECT public_id FROM subscriptions ORDER BY id DESC LIMIT 1")[0]
    assert shop.preview(alice, f"{rest}/remove").status == 409
    assert "Paused line" not in shop.preview(alice, "").text


def test_change_that_is_planned_is_not_paused_over(shop: Shop) -> None:
    shop.offer_pauses()
    alice = shop.portal.visitor("alice")
    shop.change(alice, f"{FIBER}/change/FIBER-100")  # from 1 July on
    page = shop.preview(alice, "pause?from_on=2026-06-25&until_on=2026-07-20")
    assert page.status == 409
    assert "is planned for Jul 1, 2026" in page.text
    assert shop.preview(alice, JULY).status == 200


def test_plan_that_comes_before_the_pause_is_paused_too(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses(plan="")
    alice = portal.visitor("alice")
    plan(shop, alice)
    shop.change(alice, f"{FIBER}/change/FIBER-100")  # from 1 July on
    with at(2026, 7, 1):
        lines = next_bill(portal, date(2026, 7, 1))
    assert [amount for name, amount in lines if name == "Fiber 100"] == [790, 948]


def test_cancelling_while_paused_is_possible_and_taken_back_revives_nothing(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses()
    plan(shop, portal.visitor("alice"), "pause?from_on=2026-06-25&until_on=2026-07-20")
    with at(2026, 6, 26):
        work(portal)
        alice, _path = planned(portal)
        preview = shop.preview(alice, "end?on=2026-07-10")
        assert "Paused line" in preview.text
        change = alice.submit(preview, "/end").location
    with at(2026, 6, 28):
        alice, path = planned(portal)
        alice.submit(alice.get(f"{path}/end"), "/end")
        alice.submit(alice.get(change), "/undo")
    assert [row for row in shop.in_use() if row[0] == "REST"] == [
        ("REST", "2026-06-25", "2026-06-28")
    ]
    assert shop.in_use()[0] == ("FIBER-300", "2025-01-01", None)


@pytest.mark.parametrize("day", [date(2026, 6, 24), date(2026, 6, 30)])
def test_account_that_is_closed_is_not_paused_any_more(shop: Shop, day: date) -> None:
    portal = shop.portal
    shop.offer_pauses()
    page = plan(shop, portal.visitor("alice"), "pause?from_on=2026-06-25&until_on=2026-07-20")
    account_id = portal.world.accounts["alice"]
    with at(2026, 6, day.day):
        work(portal)
        with portal.app.app_context():
            unit_of_work(lambda session: closing.close(session, [account_id], day), account_id)
    state = "undone" if day.day == 24 else "done"
    assert portal.one("SELECT state FROM pauses") == state
    assert line(portal) == ("closed", [])
    with at(2026, 7, 20):
        assert work(portal) == 0
    assert page.status == 200


# It counts once ---------------------------------------------------------------------------------


def key(number: int) -> form_keys.ArrivedKey:
    return form_keys.ArrivedKey(number.to_bytes(32), "test", b"")


def test_of_two_members_who_pause_at_once_one_does(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses()
    account_id, customer_id = portal.world.accounts["alice"], portal.world.customers["alice"]
    spans = [Span(date(2026, 7, 6), date(2026, 7, 20 + number)) for number in range(8)]

    def press(number: int) -> str:
        with portal.app.app_context():
            try:
                found = pause_quoting.read(db.session(), account_id)
                shown = pause_quoting.quote(db.session(), found, spans[number]).digest
                db.session.rollback()
                return pausing.pause(
                    account_id, spans[number], shown, customer_id, key(number), "/{id}"
                )
            finally:
                db.session.remove()

    answers = together(len(spans), press)
    assert len([answer for answer in answers if isinstance(answer, str)]) == 1
    assert portal.one("SELECT count(*) FROM pauses") == 1
    assert shop.letters("pause") == ["made"]


def test_pause_and_changes_at_once_leave_one_that_counts(shop: Shop) -> None:
    """A pause over 1 July, changes from that day on, and cancelling before it."""
    portal = shop.portal
    shop.offer_pauses()
    account_id, customer_id = portal.world.accounts["alice"], portal.world.customers["alice"]
    span = Span(date(2026, 6, 25), date(2026, 7, 20))
    wishes = [
        Wish(account_id, FIBER, "FIBER-100", When.NEXT),
        Wish(account_id, None, None, on=date(2026, 7, 1)),
    ]

    def press(number: int) -> str:
        with portal.app.app_context():
            try:
                if number % 3 < 2:
                    wish = wishes[number % 3]
                    shown = quoting.quote(db.session(), wish).digest
                    db.session.rollback()
                    return changing.change(wish, shown, customer_id, key(number), "/{id}")
                found = pause_quoting.read(db.session(), account_id)
                shown = pause_quoting.quote(db.session(), found, span).digest
                db.session.rollback()
                return pausing.pause(account_id, span, shown, customer_id, key(number), "/{id}")
            finally:
                db.session.remove()

    together(9, press)
    paused = portal.one("SELECT count(*) FROM pauses")
    within = portal.one("SELECT count(*) FROM plan_changes WHERE NOT is_end")
    assert not (paused and within)
    # Whoever cancels first is not paused beyond that day.
    if paused and portal.one("SELECT count(*) FROM plan_changes WHERE is_end"):
        assert portal.one("SELECT min(id) FROM pauses") == 1


def test_terms_that_were_not_shown_are_not_agreed_to(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses()
    alice = portal.visitor("alice")
    preview = shop.preview(alice, JULY)
    portal.execute("UPDATE plans SET price_minor = 900 WHERE code = 'REST'")
    answer = alice.submit(preview, "/pause")
    assert answer.status == 409
    assert "has changed since the page was opened" in answer.text
    assert portal.one("SELECT count(*) FROM pauses") == 0
    assert alice.submit(answer, "/pause").status == 303


# The bill equals the preview, and days are paid for once ----------------------------------------


def owed(portal: Portal, bill_day: int) -> dict[int, int]:
    """What each of alice's subscriptions costs in all for the days that bills are about, from what
    it is, whatever bills said meanwhile."""
    found: dict[int, int] = {}
    pauses = list(db.session.scalars(select(Pause).where(Pause.state != "undone")))
    rows = db.session.execute(
        select(Subscription, Plan)
        .join(Plan, Plan.id == Subscription.plan_id)
        .where(Subscription.account_id == portal.world.accounts["alice"])
    )
    for subscription, plan_ in rows:
        holes = [
            Span(pause.from_on, pause.until_on) for pause in pauses if plan_.kind in pause.kinds
        ]
        if subscription.billed_until_on is None:
            continue
        first = max(subscription.started_on, date(2026, 3, 1))
        found[subscription.id] = sum(
            cost_of(plan_.price_minor, part, period)
            for use in without(Span(first, subscription.billed_until_on), holes)
            for part, period in cut(use, bill_day)
        )
    return {each: minor for each, minor in found.items() if minor}


def charged(portal: Portal) -> dict[int, int]:
    """What the bills came to for each of them."""
    found: dict[int, int] = defaultdict(int)
    for subscription_id, minor, kind in portal.rows(
        "SELECT subscription_id, invoice_lines.amount_minor, invoices.kind FROM invoice_lines"
        " JOIN invoices ON invoices.id = invoice_id"
        " WHERE subscription_id IS NOT NULL AND account_id = :id",
        id=portal.world.accounts["alice"],
    ):
        found[subscription_id] += -minor if kind == "credit" else minor
    return {each: minor for each, minor in found.items() if minor}


class Life:
    """Some months of an account at random: each step something is changed, or refused."""

    def __init__(self, shop: Shop, seed: int) -> None:
        self.portal = shop.portal
        self.dice = random.Random(seed)
        self.account_id = self.portal.world.accounts["alice"]
        self.customer_id = self.portal.world.customers["alice"]
        self.count = 0
        self.agreed: tuple[date, list[tuple[str, int]]] | None = None

    def key(self) -> form_keys.ArrivedKey:
        self.count += 1
        return key(self.count)

    def change(self) -> None:
        [public_id] = db.session.scalars(
            select(Subscription.public_id)
            .join(Plan, Plan.id == Subscription.plan_id)
            .where(
                Subscription.account_id == self.account_id,
                Plan.kind == "internet",
                Subscription.ended_on.is_(None),
            )
        )
        code = self.dice.choice(("FIBER-100", "FIBER-300"))
        self._make(Wish(self.account_id, public_id, code, self.dice.choice(tuple(When))))

    def add_or_remove(self) -> None:
        for wish in (
            Wish(self.account_id, None, "TV-FAMILY", self.dice.choice(tuple(When))),
            Wish(self.account_id, "alicesub2", None),
        ):
            if self.dice.random() < 0.5:
                self._make(wish)
                return

    def cancel(self) -> None:
        day = clock.today("America/Los_Angeles") + timedelta(days=self.dice.randint(0, 60))
        self._make(Wish(self.account_id, None, None, on=day))

    def _make(self, wish: Wish) -> None:
        quote = quoting.quote(db.session(), wish)
        db.session.rollback()
        changing.change(wish, quote.digest, self.customer_id, self.key(), "/{id}")
        self._agree(quote)

    def undo_change(self) -> None:
        public_id = self._one("SELECT public_id FROM plan_changes ORDER BY id DESC LIMIT 1")
        if public_id:
            changing.undo(self.account_id, public_id, self.customer_id, self.key(), "/")
            self.agreed = None

    def pause(self) -> None:
        first = clock.today("America/Los_Angeles") + timedelta(days=self.dice.randint(1, 20))
        span = Span(first, first + timedelta(days=self.dice.randint(7, 45)))
        found = pause_quoting.read(db.session(), self.account_id)
        quote = pause_quoting.quote(db.session(), found, span)
        db.session.rollback()
        pausing.pause(self.account_id, span, quote.digest, self.customer_id, self.key(), "/{id}")
        self._agree(quote)

    def undo_pause(self) -> None:
        public_id = self._one("SELECT public_id FROM pauses ORDER BY id DESC LIMIT 1")
        if public_id:
            pausing.undo(self.account_id, public_id, self.customer_id, self.key(), "/")
            self.agreed = None

    def end_pause(self) -> None:
        public_id = self._one("SELECT public_id FROM pauses ORDER BY id DESC LIMIT 1")
        if public_id:
            quote = pause_quoting.end_quote(db.session(), self.account_id, public_id)
            db.session.rollback()
            pausing.end(self.account_id, public_id, quote.digest, self.customer_id, self.key(), "/")
            self._agree(quote)

    def close(self) -> None:
        today = clock.today("America/Los_Angeles")
        unit_of_work(lambda s: closing.close(s, [self.account_id], today), self.account_id)
        self.agreed = None

    def _agree(self, quote: quoting.Quote | pause_quoting.PauseQuote) -> None:
        rows = [(row.description, row.amount.amount_minor) for row in quote.rows]
        self.agreed = (quote.bill_on, rows)

    def _one(self, sql: str) -> str | None:
        rows = self.portal.rows(sql)
        return rows[0][0] if rows else None

    def step(self) -> None:
        act = self.dice.choice(
            [self.change, self.add_or_remove, self.pause, self.pause, self.pause, self.undo_pause,
             self.end_pause, self.end_pause, self.undo_change, self.undo_change]
            + [self.cancel] * (self.dice.random() < 0.3) + [self.close] * (self.dice.random() < 0.1)
        )  # fmt: skip
        try:
            act()
        except (ChangeRefused, PlanNotFound, ValueError):
            db.session.rollback()
        finally:
            db.session.remove()

    def bill(self, today: date) -> None:
        """Issue what is due, and compare it with what was agreed to last."""
        agreed_, self.agreed = self.agreed, None
        before = self._one("SELECT max(id) FROM invoices") or 0
        world.issue_month(self.portal.world, ("alice",), today)
        lines = [
            (description, amount)
            for description, amount in self.portal.rows(
                "SELECT description, amount_minor FROM invoice_lines WHERE invoice_id > :id"
                " ORDER BY position",
                id=before,
            )
        ]
        if agreed_ is not None and agreed_[0] == today and lines:
            assert lines in (agreed_[1], [(name, -minor) for name, minor in agreed_[1]])


def days(first: date, last: date) -> Iterator[date]:
    for ahead in range((last - first).days + 1):
        yield first + timedelta(days=ahead)


@pytest.mark.parametrize("seed", range(16))
def test_bills_are_what_was_shown_and_days_are_paid_for_once(shop: Shop, seed: int) -> None:
    """Whatever is paused, changed, taken back, ended, cancelled or closed, on whichever bill day
    and in whichever time zone."""
    portal = shop.portal
    life = Life(shop, seed)
    shop.offer_pauses(most_days_a_year=300, notice_days=seed % 2)
    bill_day = life.dice.choice((1, 1, 15, 28, 31))
    zone = life.dice.choice(("America/Los_Angeles", "Pacific/Auckland", "UTC"))
    portal.execute("UPDATE isp SET timezone = :zone, revision = revision + 1", zone=zone)
    portal.execute("UPDATE accounts SET bill_day = :day WHERE number = '1001'", day=bill_day)
    with portal.app.app_context():
        # The world's bills are of whole months; what they said is not what is tested here.
        was = charged(portal)
        base = owed(portal, bill_day)
        db.session.remove()
        for day in days(date(2026, 6, 20), date(2026, 12, 10)):
            with clock.set_to(datetime(day.year, day.month, day.day, 19, tzinfo=UTC)):
                today = clock.today(zone)
                due.take_effect_due()
                pausing.take_effect_due()
                db.session.remove()
                through, opened = portal.rows(
                    "SELECT billed_through_on, opened_on FROM accounts WHERE number = '1001'"
                )[0]
                del opened
                if date.fromisoformat(str(through)) < today and life.dice.random() < 0.7:
                    life.bill(today)
                if day < date(2026, 10, 20) and life.dice.random() < 0.2:
                    life.step()
        now = charged(portal)
        should = owed(portal, bill_day)
    gained = {each: now.get(each, 0) - was.get(each, 0) for each in {*now, *was}}
    wanted = {each: should.get(each, 0) - base.get(each, 0) for each in {*should, *base}}
    assert {k: v for k, v in gained.items() if v} == {k: v for k, v in wanted.items() if v}
