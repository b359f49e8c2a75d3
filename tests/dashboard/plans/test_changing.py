"""Changing plans through the pages: what it costs, from when, once, and back."""

from __future__ import annotations

import json
import random
from datetime import UTC, date, datetime, timedelta

import pytest

from blueprints.billing.dunning import closing
from blueprints.dashboard.plans import changing, due, quoting
from blueprints.dashboard.plans.errors import ChangeRefused
from blueprints.dashboard.plans.quoting import When, Wish
from core import clock, form_keys
from core.db import db, unit_of_work
from tests import world
from tests.conftest import Portal, together
from tests.dashboard.plans.shop import FIBER, TV, Shop, at

JULY_1 = "2026-07-01"
GIG = f"{FIBER}/change/FIBER-1000"
FAMILY = "add/TV-FAMILY"


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
        done = due.take_effect_due()
        db.session.remove()
    return done


# It works ---------------------------------------------------------------------------------------


def test_from_the_list_to_a_faster_plan_at_once_and_onto_the_bill(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice")
    home = alice.get(portal.path())
    listed = alice.get(
        next(a.get("href") for a in home.select("main a") if "plans/" in a.get("href"))
    )
    assert "Fiber 300" in listed.text
    compared = alice.get(portal.path(f"plans/{FIBER}/change"))
    assert [h.text for h in compared.select("main h2")] == [
        "Fiber 300", "Fiber 100", "Air 50", "Fiber 500", "Fiber Gig",
    ]  # fmt: skip
    preview = shop.preview(alice, f"{GIG}?when=now")
    # 11 of June's 30 days: 65.00 is given back and 85.00 charged for them.
    for words in ("$23.83", "$31.17", "$85.00", "Fiber Gig: set-up", "$50.00", "Nothing"):
        assert words in preview.text
    assert "leaving earlier costs $120.00" in preview.text
    done = shop.change(alice, f"{GIG}?when=now")
    assert "It is done" in done.text
    assert shop.in_use()[0] == ("FIBER-300", "2025-01-01", "2026-06-20")
    assert shop.in_use()[-1] == ("FIBER-1000", "2026-06-20", None)
    assert shop.speed() == (1_000_000, 1_000_000)
    assert portal.one("SELECT count(*) FROM lines WHERE sync_at IS NOT NULL") == 1
    assert shop.letters() == ["made"]
    shown = portal.one("SELECT quote FROM plan_changes")
    quote = json.loads(shown) if isinstance(shown, str) else shown
    with at(2026, 7, 1):
        assert next_bill(portal, date(2026, 7, 1)) == [tuple(line) for line in quote["lines"]]
    assert "Fiber Gig" in alice.get(portal.path()).text


def test_from_the_next_bill_day_the_line_follows_on_that_day(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice")
    page = shop.change(alice, f"{FIBER}/change/FIBER-100")
    assert "It is planned" in page.text
    assert shop.in_use()[0] == ("FIBER-300", "2025-01-01", JULY_1)
    assert shop.in_use()[-1] == ("FIBER-100", JULY_1, None)
    assert "Planned changes" in shop.preview(alice, "").text
    assert "Fiber 100" not in alice.get(portal.path()).text
    with at(2026, 7, 1, 6):  # 30 June at the ISP
        assert work(portal) == 0
        assert shop.speed() == (300_000, 300_000)
    with at(2026, 7, 1, 8):
        assert work(portal) == 1
        assert work(portal) == 0
    assert shop.speed() == (100_000, 100_000)
    assert shop.states() == ["done"]
    with at(2026, 7, 1):
        assert [line for line in next_bill(portal, date(2026, 7, 1)) if "Fiber" in line[0]] == [
            ("Fiber 100", 4900)
        ]


def test_it_is_taken_back_until_its_day_and_costs_nothing(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice")
    planned = shop.change(alice, GIG)
    assert portal.one("SELECT count(*) FROM charges WHERE cancelled_at IS NULL") == 1
    undone = alice.submit(planned, "/undo")
    assert "It was taken back" in alice.get(undone.location).text
    assert shop.in_use()[0] == ("FIBER-300", "2025-01-01", None)
    assert portal.one("SELECT count(*) FROM charges WHERE cancelled_at IS NULL") == 0
    assert shop.letters() == ["made", "undone"]
    # Sent once more, and from the page that was open before.
    assert alice.submit(planned, "/undo").status == 303
    with at(2026, 7, 1):
        assert work(portal) == 0
        assert [line for line in next_bill(portal, date(2026, 7, 1)) if "Fiber" in line[0]] == [
            ("Fiber 300", 6500)
        ]
    assert shop.speed() == (300_000, 300_000)


def test_set_up_fee_comes_back_with_the_tax_that_was_taken(shop: Shop) -> None:
    portal = shop.portal
    portal.execute("""UPDATE taxes SET applies_to = '["internet"]' WHERE code = 'STATE'""")
    alice = portal.visitor("alice")
    planned = shop.change(alice, GIG)
    took = dict(next_bill(portal, date(2026, 7, 1)))  # a run ahead of its day
    assert took["State communications tax"] == 844  # 6.25 % of 85.00 and 50.00
    portal.execute(
        "INSERT INTO tax_exemptions (account_id, tax_code, from_on, reason)"
        " VALUES (:id, 'STATE', '2026-06-20', 'C-77')",
        id=portal.world.accounts["alice"],
    )
    alice.submit(planned, "/undo")
    with at(2026, 8, 1):
        lines = next_bill(portal, date(2026, 8, 1))
    assert ("Fiber Gig: set-up", -5000) in lines
    # What was taken with both comes back; nothing is taken any more.
    assert [amount for name, amount in lines if name == "State communications tax"] == [-844]


def test_what_was_billed_before_it_was_taken_back_is_given_back(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice")
    planned = shop.change(alice, GIG)
    next_bill(portal, date(2026, 7, 1))  # a run ahead of its day
    alice.submit(planned, "/undo")
    with at(2026, 8, 1):
        lines = next_bill(portal, date(2026, 8, 1))
    assert sum(amount for name, amount in lines if "Fiber" in name) == 2 * 6500 - 8500 - 5000


def test_line_is_not_changed_of_an_account_that_was_closed_before(shop: Shop) -> None:
    portal = shop.portal
    shop.change(portal.visitor("alice"), GIG)
    portal.execute("UPDATE subscriptions SET ended_on = started_on WHERE started_on > '2026-06-20'")
    with at(2026, 7, 1):
        assert work(portal) == 1
    assert shop.states() == ["undone"]
    assert shop.speed() == (300_000, 300_000)


def test_line_that_used_up_its_data_is_fast_again_with_a_plan_that_has_more(shop: Shop) -> None:
    portal = shop.portal
    portal.execute(
        "UPDATE lines SET slow_down_kbps = 1000, slow_up_kbps = 1000,"
        " limited_until_on = '2026-07-01' WHERE username = 'ppp-alice'"
    )
    shop.change(portal.visitor("alice"), f"{GIG}?when=now")
    assert portal.rows(
        "SELECT slow_down_kbps, limited_until_on FROM lines WHERE username = 'ppp-alice'"
    ) == [(None, None)]


def test_what_was_used_before_a_plan_began_does_not_count_against_it(shop: Shop) -> None:
    portal = shop.portal
    portal.execute(
        "INSERT INTO usage_days (line_id, day_on, up_bytes, down_bytes)"
        " SELECT id, '2026-06-10', 0, 5000000000000 FROM lines WHERE username = 'ppp-alice'"
    )
    portal.execute(
        "UPDATE plans SET overage_minor = 500, overage_bytes = 100000000000"
        " WHERE code = 'FIBER-100'"
    )
    shop.change(portal.visitor("alice"), f"{FIBER}/change/FIBER-100?when=now")
    assert portal.one("SELECT count(*) FROM charges") == 0


# Adding and removing --------------------------------------------------------------------------


def test_package_is_added_with_all_it_costs_and_given_back_within_a_day(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice", own_device="y")
    assert "Family" in shop.preview(alice, "").text
    preview = shop.preview(alice, FAMILY)
    assert "$25.50" in preview.text  # 24.00 and 6.25 % of it
    assert "24 hours" in preview.text
    added = shop.change(alice, FAMILY)
    assert ("TV-FAMILY", "2026-06-20", None) in shop.in_use()
    with at(2026, 6, 21, 18):
        alice.submit(added, "/undo")
    assert shop.in_use()[-1] == ("TV-FAMILY", "2026-06-20", "2026-06-20")
    with at(2026, 7, 1):
        assert "Family" not in {name for name, _amount in next_bill(portal, date(2026, 7, 1))}


def test_package_is_not_free_for_a_day_where_the_isp_says_so(shop: Shop) -> None:
    shop.portal.execute(
        "UPDATE isp SET billing_rules = :rules, revision = revision + 1",
        rules=json.dumps({"tv_free_day": False}),
    )
    alice = shop.portal.visitor("alice", own_device="y")
    assert "24 hours" not in shop.preview(alice, FAMILY).text
    added = shop.change(alice, FAMILY)
    assert not added.select("form[action$='/undo']")


def test_rent_begins_when_staff_hand_the_equipment_over(shop: Shop) -> None:
    """47 USC 562 (c)."""
    shop.portal.execute("UPDATE plans SET kind = 'equipment' WHERE code = 'STATIC-IP'")
    alice = shop.portal.visitor("alice")
    assert "We look at whether it can be done" in shop.preview(alice, "add/STATIC-IP").text
    shop.change(alice, "add/STATIC-IP")
    assert shop.states() == ["asked"]
    assert "STATIC-IP" not in {code for code, _from, _until in shop.in_use()}
    public_id = shop.portal.one("SELECT public_id FROM plan_changes")
    sue = shop.portal.visitor("sue")
    page = sue.get(f"/staff/plan-changes/{public_id}")
    assert sue.submit(page, "/accept", on="2026-06-25").status == 303
    assert ("STATIC-IP", "2026-06-25", None) in shop.in_use()


def test_channels_are_found_with_the_packages_that_have_them(shop: Shop) -> None:
    alice = shop.portal.visitor("alice")
    found = shop.preview(alice, "channels?q=THR")
    assert [row.text_content().split() for row in found.select("#channel-rows li")] == [
        ["Three", "Family"]
    ]
    assert found.select("#channel-rows a[href$='/add/TV-FAMILY']")
    assert "You have it" in shop.preview(alice, "channels?q=one").text
    assert "No channel is called so" in shop.preview(alice, "channels?q=nothing").text


def test_package_stays_after_a_day(shop: Shop) -> None:
    alice = shop.portal.visitor("alice", own_device="y")
    added = shop.change(alice, FAMILY)
    with at(2026, 6, 21, 20):
        answer = alice.submit(added, "/undo")
    assert answer.status == 409
    assert "can no longer be taken back" in answer.text
    assert shop.in_use()[-1] == ("TV-FAMILY", "2026-06-20", None)


def test_plan_is_removed_with_the_period_that_is_paid_for(shop: Shop) -> None:
    alice = shop.portal.visitor("alice")
    shop.change(alice, f"{TV}/remove")
    assert ("TV-BASIC", "2025-01-01", JULY_1) in shop.in_use()
    again = shop.preview(alice, f"{TV}/remove")
    assert again.status == 409
    assert "already planned" in again.text


@pytest.mark.parametrize(
    ("before", "rest", "words"),
    [
        ((), "add/TV-BASIC", "cannot be chosen here"),
        ((), "add/FIBER-100", "cannot be chosen here"),
        ((), f"{FIBER}/change/ELSEWHERE", "cannot be chosen here"),
        ((), f"{TV}/change/TV-FAMILY", "cannot be chosen here"),
        ((FAMILY,), f"{TV}/remove", "Family cannot be had without this"),
        ((FAMILY,), "add/TV-KIDS", "cannot be had together with Family"),
        ((f"{TV}/remove",), FAMILY, "needs Local TV"),
        ((GIG,), f"{FIBER}/change/FIBER-100", "already planned"),
    ],
)
def test_what_the_catalog_does_not_allow_is_refused_and_says_what_to_do(
    shop: Shop, before: tuple[str, ...], rest: str, words: str
) -> None:
    alice = shop.portal.visitor("alice")
    for each in before:
        shop.change(alice, each)
    stood = shop.in_use()
    page = shop.preview(alice, rest)
    assert page.status == 409
    assert words in page.text
    assert shop.in_use() == stood


def test_nothing_of_others_and_nothing_unknown_is_found(shop: Shop) -> None:
    alice = shop.portal.visitor("alice")
    for rest in ("mallorysub1/change", "mallorysub1/change/FIBER-1000", "mallorysub2/remove",
                 "add/NOTHING", f"{FIBER}/change/NOTHING", "changes/nothing"):  # fmt: skip
        assert shop.preview(alice, rest).status == 404, rest


def test_who_owes_pays_first(shop: Shop) -> None:
    portal = shop.portal
    portal.execute(
        "INSERT INTO line_holds (line_id, reason, since_at) SELECT id, 'unpaid', :now FROM lines"
        " WHERE account_id = :account",
        now=str(clock.now()),
        account=portal.world.accounts["alice"],
    )
    page = shop.preview(portal.visitor("alice"), GIG)
    assert "Pay it first" in page.text


def test_only_an_owner_changes_and_others_see(shop: Shop) -> None:
    portal = shop.portal
    for name, expected in (("bob", 200), ("vera", 200), ("theo", 403)):
        page = shop.preview(portal.visitor(name), "")
        assert page.status == expected
        assert not page.select("a[href*='/remove']")
    for name in ("bob", "vera", "theo", "mallory"):
        assert shop.preview(portal.visitor(name), GIG).status in (403, 404)


# The end ----------------------------------------------------------------------------------------


def test_everything_ends_on_a_day_and_the_account_is_closed_then(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice")
    preview = shop.preview(alice, "end?on=2026-07-10")
    assert preview.status == 200
    # Nine of July's 31 days of 65.00, 19.00 and 18.00.
    for words in ("$18.87", "$5.52", "$5.23"):
        assert words in preview.text
    done = alice.get(alice.submit(preview, "/end").location)
    assert "It is planned" in done.text
    assert {ended for _code, _started, ended in shop.in_use()} == {"2026-07-10"}
    assert shop.preview(alice, GIG).status == 409
    with at(2026, 7, 9):
        assert work(portal) == 0
    with at(2026, 7, 10):
        assert work(portal) == 1
    assert portal.one("SELECT status FROM accounts WHERE number = '1001'") == "closed"
    assert portal.one("SELECT wanted_state FROM lines WHERE username = 'ppp-alice'") == "closed"
    with at(2026, 7, 12):
        lines = next_bill(portal, date(2026, 7, 12))
    assert [amount for name, amount in lines if name == "Fiber 300"] == [1887]


def test_end_is_taken_back_until_its_day(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice")
    done = alice.get(alice.submit(shop.preview(alice, "end"), "/end").location)
    stood = shop.in_use()
    assert {ended for _code, _started, ended in stood} == {JULY_1}
    alice.submit(done, "/undo")
    assert {ended for _code, _started, ended in shop.in_use()} == {None}
    with at(2026, 7, 1):
        assert work(portal) == 0
    assert portal.one("SELECT status FROM accounts WHERE number = '1001'") == "active"


@pytest.mark.parametrize("day", ["2026-06-19", "2027-01-01"])
def test_end_on_a_day_that_cannot_be_is_refused(shop: Shop, day: str) -> None:
    page = shop.preview(shop.portal.visitor("alice"), f"end?on={day}")
    assert page.status == 409
    assert "at most 90 days ahead" in page.text


# Staff decide -----------------------------------------------------------------------------------


def ask(shop: Shop) -> str:
    page = shop.change(shop.portal.visitor("alice"), f"{FIBER}/change/AIR-50")
    assert "You have asked for it" in page.text
    assert shop.in_use()[-1][0] != "AIR-50"
    return str(shop.portal.one("SELECT public_id FROM plan_changes"))


def test_staff_accept_from_a_day(shop: Shop) -> None:
    portal = shop.portal
    public_id = ask(shop)
    sue = portal.visitor("sue")
    assert "Air 50 instead of Fiber 300" in sue.get("/staff/plan-changes").text
    page = sue.get(f"/staff/plan-changes/{public_id}")
    wrong = sue.submit(page, "/accept", on="2027-06-20")
    assert "at most 90 days ahead" in wrong.text
    answer = sue.submit(page, "/accept", on="2026-06-25")
    assert "Accepted" in sue.get(answer.location).text
    assert shop.in_use()[-1] == ("AIR-50", "2026-06-25", None)
    assert shop.states() == ["planned"]
    with at(2026, 6, 25):
        work(portal)
    assert shop.speed() == (50_000, 10_000)
    assert shop.letters() == ["made"]


def test_staff_refuse_and_say_why(shop: Shop) -> None:
    portal = shop.portal
    public_id = ask(shop)
    sue = portal.visitor("sue")
    page = sue.get(f"/staff/plan-changes/{public_id}")
    assert sue.submit(page, "/refuse", why="").status == 422
    sue.submit(page, "/refuse", why="No free antenna")
    alice = portal.visitor("alice")
    assert "No free antenna" in alice.get(portal.path(f"plans/changes/{public_id}")).text
    assert shop.letters() == ["refused"]
    late = sue.submit(page, "/accept", on="2026-06-25")
    assert late.status == 422
    assert shop.states() == ["refused"]


def test_staff_decide_where_nobody_can_tell_which_line_it_is(shop: Shop) -> None:
    portal = shop.portal
    portal.execute("UPDATE subscriptions SET line_id = NULL WHERE public_id = 'alicesub1'")
    alice = portal.visitor("alice")
    assert shop.preview(alice, f"{FIBER}/change").text.count("We decide about this") == 1
    portal.execute(
        "INSERT INTO lines (public_id, account_id, username, is_closed) VALUES"
        " ('alicesecond', :id, 'ppp-alice-2', false)",
        id=portal.world.accounts["alice"],
    )
    assert shop.preview(alice, f"{FIBER}/change").text.count("We decide about this") == 4
    page = shop.change(alice, f"{FIBER}/change/FIBER-100?when=now")
    assert "You have asked for it" in page.text
    assert shop.states() == ["asked"]


# It counts once ---------------------------------------------------------------------------------


def test_fifty_presses_at_once_change_once(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice")
    preview = shop.preview(alice, f"{GIG}?when=now")
    presses = [portal.visitor("alice") for _ in range(50)]
    action, values = preview.form("FIBER-1000")

    def press(number: int) -> int:
        if number % 2:  # another page of the same customer, with a key of its own
            return presses[number].submit(preview, "FIBER-1000").status
        return alice.post(action, values).status

    answers = together(50, press)
    assert not [answer for answer in answers if isinstance(answer, Exception)]
    assert [row for row in shop.in_use() if row[0] == "FIBER-1000"] == [
        ("FIBER-1000", "2026-06-20", None)
    ]
    assert shop.states() == ["done"]
    assert portal.one("SELECT count(*) FROM charges") == 1
    assert shop.letters() == ["made"]


def test_of_two_different_changes_at_once_one_counts(shop: Shop) -> None:
    portal = shop.portal
    wishes = [
        Wish(portal.world.accounts["alice"], FIBER, code, When.NOW)
        for code in ("FIBER-100", "FIBER-1000", "FIBER-500") * 6
    ]

    def press(number: int) -> str:
        with portal.app.app_context():
            try:
                wish = wishes[number]
                shown = quoting.quote(db.session(), wish).digest
                db.session.rollback()
                key = form_keys.ArrivedKey(bytes([number]) * 32, "test", b"")
                return changing.change(wish, shown, portal.world.customers["alice"], key, "/{id}")
            finally:
                db.session.remove()

    answers = together(len(wishes), press)
    assert len([answer for answer in answers if isinstance(answer, str)]) == 1
    assert all(isinstance(answer, (str, ChangeRefused, Exception)) for answer in answers)
    standing = [row for row in shop.in_use() if row[2] is None and row[0].startswith("FIBER")]
    assert len(standing) == 1


def test_price_that_has_risen_meanwhile_is_shown_again_first(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice")
    preview = shop.preview(alice, GIG)
    portal.execute("UPDATE plans SET price_minor = 9000 WHERE code = 'FIBER-1000'")
    answer = alice.submit(preview, "FIBER-1000")
    assert answer.status == 409
    assert "has changed since the page was opened" in answer.text
    assert "$90.00" in answer.text
    assert shop.states() == []
    assert alice.submit(answer, "FIBER-1000").status == 303


# What must not be gained, or lost ------------------------------------------------------------


def close(portal: Portal, day: date) -> None:
    """The account is closed for unpaid bills."""
    account_id = portal.world.accounts["alice"]
    with portal.app.app_context():
        unit_of_work(lambda session: closing.close(session, [account_id], day), account_id)
        db.session.remove()


def test_account_closed_while_a_change_is_planned_owes_nothing_for_it(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice", own_device="y")
    planned = shop.change(alice, GIG)
    with at(2026, 6, 21):
        close(portal, date(2026, 6, 21))
        assert shop.states() == ["undone"]
        again = alice.submit(planned, "/undo")
        assert again.status == 303
        assert {ended for _code, _started, ended in shop.in_use()} == {"2026-06-21", JULY_1}
    with at(2026, 7, 1):
        assert work(portal) == 0
        lines = next_bill(portal, date(2026, 7, 1))
    assert all(amount > 0 for _name, amount in lines)  # a credit note gives June's rest back
    assert "Fiber Gig: set-up" not in {name for name, _amount in lines}
    with portal.app.app_context(), at(2026, 9, 1):
        assert world.issue_month(portal.world, ("alice",), date(2026, 9, 1)) == []


def test_end_in_the_future_is_not_billed_once_the_account_was_closed(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice")
    alice.submit(shop.preview(alice, "end?on=2026-09-10"), "/end")
    with at(2026, 6, 25):
        close(portal, date(2026, 6, 25))
    assert {ended for _code, _started, ended in shop.in_use()} == {"2026-06-25"}
    assert shop.states() == ["undone"]


def test_internet_ends_with_the_service_alone(shop: Shop) -> None:
    page = shop.preview(shop.portal.visitor("alice"), f"{FIBER}/remove")
    assert page.status == 409
    assert shop.in_use()[0] == ("FIBER-300", "2025-01-01", None)


@pytest.mark.parametrize(
    "terms",
    ["contract_months = 36", "early_termination_minor = 99900", "down_kbps = 1000"],
)
def test_terms_that_were_not_shown_are_not_agreed_to(shop: Shop, terms: str) -> None:
    portal = shop.portal
    alice = portal.visitor("alice")
    preview = shop.preview(alice, GIG)
    portal.execute(f"UPDATE plans SET {terms} WHERE code = 'FIBER-1000'")
    assert alice.submit(preview, "FIBER-1000").status == 409
    assert shop.states() == []


def test_staff_accept_no_other_terms_than_were_asked_for(shop: Shop) -> None:
    portal = shop.portal
    public_id = ask(shop)
    portal.execute("UPDATE plans SET price_minor = 19900 WHERE code = 'AIR-50'")
    sue = portal.visitor("sue")
    page = sue.submit(sue.get(f"/staff/plan-changes/{public_id}"), "/accept", on="2026-06-25")
    assert page.status == 422
    assert "have changed since it was asked for" in page.text
    assert shop.states() == ["asked"]


def test_contract_is_what_it_was_when_it_began_and_goes_on_with_a_dearer_plan(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice")
    shop.change(alice, f"{GIG}?when=now")
    portal.execute("UPDATE plans SET early_termination_minor = 99900 WHERE code = 'FIBER-1000'")
    portal.execute("UPDATE plans SET price_minor = 9000 WHERE code = 'FIBER-500'")
    portal.execute(
        """UPDATE plans SET changes_to = '["FIBER-500", "FIBER-100"]' WHERE code = 'FIBER-1000'"""
    )
    portal.execute("UPDATE plans SET changes_to = '[\"FIBER-100\"]' WHERE code = 'FIBER-500'")
    gig = portal.one("SELECT public_id FROM subscriptions ORDER BY id DESC LIMIT 1")
    assert "$120.00" in shop.preview(alice, f"{gig}/change/FIBER-100").text
    shop.change(alice, f"{gig}/change/FIBER-500?when=now")
    dearer = portal.one("SELECT public_id FROM subscriptions ORDER BY id DESC LIMIT 1")
    assert "$120.00" in shop.preview(alice, f"{dearer}/change/FIBER-100").text


def test_fee_for_leaving_early_is_billed_when_it_is_over(shop: Shop) -> None:
    portal = shop.portal
    portal.execute(
        "UPDATE subscriptions SET bound_until_on = '2027-01-01', termination_minor = 20000"
        " WHERE public_id = 'alicesub1'"
    )
    alice = portal.visitor("alice")
    preview = shop.preview(alice, "end?on=2026-08-10")
    assert "On a later bill, once" in preview.text
    alice.submit(preview, "/end")
    with at(2026, 7, 1):
        assert 20000 not in {amount for _name, amount in next_bill(portal, date(2026, 7, 1))}
    with at(2026, 8, 10):
        work(portal)
        next_bill(portal, date(2026, 8, 10))
        assert portal.one("SELECT count(*) FROM charges WHERE invoice_id IS NOT NULL") == 1


def test_package_is_given_back_for_nothing_once(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice", own_device="y")
    alice.submit(shop.change(alice, FAMILY), "/undo")
    again = shop.preview(alice, FAMILY)
    assert "24 hours" not in again.text
    page = shop.change(alice, FAMILY)
    assert not [form for form in page.select("form") if form.get("action").endswith("/undo")]


def test_day_of_an_end_means_nothing_elsewhere(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice")
    action, values = shop.preview(alice, f"{TV}/remove").form("/remove")
    assert alice.post(action, values | {"on": "2026-06-20"}).status == 303
    assert ("TV-BASIC", "2025-01-01", JULY_1) in shop.in_use()


def test_what_cannot_stand_together_does_not_after_taking_back(shop: Shop) -> None:
    portal = shop.portal
    alice = portal.visitor("alice")
    shop.change(alice, FAMILY)
    family = portal.one("SELECT public_id FROM subscriptions ORDER BY id DESC LIMIT 1")
    removal = shop.change(alice, f"{family}/remove")
    shop.change(alice, "add/TV-KIDS?when=next")
    page = alice.submit(removal, "/undo")
    assert page.status == 409
    assert "cannot be had together with" in page.text


def test_addition_that_waits_blocks_neither_another_nor_the_end(shop: Shop) -> None:
    alice = shop.portal.visitor("alice")
    shop.change(alice, "add/STATIC-IP?when=next")
    shop.change(alice, "add/TV-FAMILY?when=next")
    shop.change(alice, f"{FIBER}/change/FIBER-100")
    preview = shop.preview(alice, "end?on=2026-08-10")
    alice.submit(preview, "/end")
    ends = {code: ended for code, _started, ended in shop.in_use()}
    assert ends == {
        "FIBER-300": JULY_1, "FIBER-100": "2026-08-10", "TV-BASIC": "2026-08-10",
        "VOICE-HOME": "2026-08-10", "STATIC-IP": "2026-08-10", "TV-FAMILY": "2026-08-10",
    }  # fmt: skip
    with at(2026, 7, 1):
        work(shop.portal)
    assert shop.speed() == (100_000, 100_000)


def test_introductory_price_is_not_lost_by_taking_back(shop: Shop) -> None:
    alice = shop.portal.visitor("alice")
    alice.submit(shop.change(alice, f"{FIBER}/change/FIBER-500"), "/undo")
    assert "$55.00" in shop.preview(alice, f"{FIBER}/change/FIBER-500").text


def test_days_paid_elsewhere_are_not_charged_again(shop: Shop) -> None:
    portal = shop.portal
    portal.execute(
        "UPDATE subscriptions SET billed_price_minor = NULL, billed_until_on = '2026-07-01'"
        " WHERE public_id = 'alicesub1'"
    )
    alice = portal.visitor("alice")
    preview = shop.preview(alice, f"{GIG}?when=now")
    assert "At once" not in preview.text
    alice.submit(preview, "FIBER-1000")
    assert shop.in_use()[-1] == ("FIBER-1000", JULY_1, None)


# The bill equals the preview ------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_bill_is_the_preview_to_the_minor_unit(shop: Shop, seed: int) -> None:
    """Whatever was changed before, on whichever day."""
    portal, dice = shop.portal, random.Random(seed)
    bill_day = dice.choice((1, 15, 28, 31))
    portal.execute(
        "UPDATE accounts SET bill_day = :day, billed_through_on = :through WHERE number = '1001'",
        day=bill_day,
        through=str(clock.month_step(date(2026, 7, 1), 0, bill_day) - timedelta(days=1)),
    )
    quote = None
    moment = datetime(2026, 6, 20, 19, tzinfo=UTC)
    for number in range(dice.randint(1, 4)):
        moment += timedelta(days=dice.randint(0, 2))
        with clock.set_to(moment), portal.app.app_context():
            account_id = portal.world.accounts["alice"]
            [subscription] = [
                public_id
                for (public_id,) in portal.rows(
                    "SELECT subscriptions.public_id FROM subscriptions JOIN plans"
                    " ON plans.id = plan_id WHERE kind = 'internet' AND ended_on IS NULL"
                    " AND account_id = :account",
                    account=account_id,
                )
            ]
            code = dice.choice(("FIBER-100", "FIBER-300", "FIBER-500", "FIBER-1000"))
            wish = Wish(
                account_id, subscription, code, dice.choice((When.NOW, When.NOW, When.NEXT))
            )
            try:
                made = quoting.quote(db.session(), wish)
                db.session.rollback()
                key = form_keys.ArrivedKey(bytes([number]) * 32, "test", b"")
                changing.change(wish, made.digest, portal.world.customers["alice"], key, "/{id}")
            except ChangeRefused:
                db.session.rollback()
            else:
                quote = made
            db.session.remove()
    if quote is None:
        with clock.set_to(moment), portal.app.app_context():
            wish = Wish(account_id, None, "STATIC-IP", When.NOW)
            quote = quoting.quote(db.session(), wish)
            db.session.rollback()
            key = form_keys.ArrivedKey(b"k" * 32, "test", b"")
            changing.change(wish, quote.digest, portal.world.customers["alice"], key, "/{id}")
            db.session.remove()
    with clock.set_to(datetime(2026, 7, 31, 20, tzinfo=UTC)):
        lines = next_bill(portal, quote.bill_on)
    assert lines == [(row.description, row.amount.amount_minor) for row in quote.rows] or lines == [
        (row.description, -row.amount.amount_minor) for row in quote.rows
    ]
