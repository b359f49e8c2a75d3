"""Arrangements: what the rules offer, preview, keeping and breaking, and the peace meanwhile."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import pytest

from blueprints.billing.dunning import reading
from core.db import db
from gateways.payments.sandbox.methods import Behaviour, Saving
from tests.billing.planned.diary import MONTH_MINOR, TODAY, Diary
from tests.billing.planned.test_scheduling import copies, pay_by_hand
from tests.page import Page, Visitor

TOMORROW = TODAY + timedelta(days=1)


def preview(diary: Diary, who: Visitor, count: int, first_on: date, every: str = "week") -> Page:
    return diary.visit(who, f"arrangement?count={count}&first_on={first_on}&every={every}")


def agree(diary: Diary, who: Visitor, count: int, first_on: date, **more: str) -> Page:
    every = more.pop("every", "week")
    return who.submit(preview(diary, who, count, first_on, every), "/arrangement", **more)


def states(diary: Diary) -> list[str]:
    return [state for (state,) in diary.portal.rows("SELECT state FROM arrangements ORDER BY id")]


def resting(diary: Diary, day: date) -> set[int]:
    with diary.portal.app.app_context():
        found = reading.list_arranged(db.session(), [1, 2, 3], day)
        db.session.remove()
    return found


def set_rules(diary: Diary, **rules: Any) -> None:
    diary.portal.execute(
        "UPDATE isp SET billing_rules = :rules, revision = revision + 1", rules=json.dumps(rules)
    )


# Agreeing -------------------------------------------------------------------------------------


def test_debt_is_divided_shown_and_agreed_on(diary: Diary) -> None:
    alice = diary.portal.visitor("alice")
    page = preview(diary, alice, 3, TOMORROW, "two_weeks")
    for words in ("Jun 21, 2026", "Jul 5, 2026", "Jul 19, 2026", "$70.38", "$70.37", "$211.12"):
        assert words in page.text
    assert states(diary) == []
    made = agree(diary, alice, 3, TOMORROW, every="two_weeks")
    assert made.status == 303
    shown = alice.get(made.location)
    assert "It is agreed" in shown.text
    assert "$211.12 of $211.12 is still to be paid." in shown.text
    assert diary.planned("amount_minor, state, try_at", "instalment") == [
        (7_038, "waiting", None),
        (7_037, "waiting", None),
        (7_037, "waiting", None),
    ]
    assert diary.told() == ["arrangement_made"]
    assert "As arranged, pay $70.38 by Jun 21, 2026." in alice.get(diary.portal.path()).text


def test_nothing_is_reminded_or_held_until_its_last_day(diary: Diary) -> None:
    account_id = diary.portal.world.accounts["alice"]
    assert resting(diary, TODAY) == set()
    agree(diary, diary.portal.visitor("alice"), 2, TOMORROW)
    last = TOMORROW + timedelta(days=7)
    assert resting(diary, TODAY) == resting(diary, last) == {account_id}
    assert resting(diary, last + timedelta(days=1)) == set()


def test_line_held_for_what_is_unpaid_is_opened(diary: Diary) -> None:
    diary.portal.execute(
        "INSERT INTO line_holds (line_id, reason, since_at) VALUES (1, 'unpaid', :at)",
        at="2026-06-19 12:00:00",
    )
    alice = diary.portal.visitor("alice")
    assert "Your internet is off" in alice.get(diary.portal.path()).text
    agree(diary, alice, 2, TOMORROW)
    assert diary.portal.one("SELECT count(*) FROM line_holds WHERE released_at IS NULL") == 0
    assert "Your internet is off" not in alice.get(diary.portal.path()).text


@pytest.mark.parametrize(
    ("count", "first_on", "every", "words"),
    [
        (1, TODAY + timedelta(days=15), "week", "The first day may be Jul 4, 2026"),
        (4, TOMORROW, "month", "The last day may be Aug 19, 2026"),
        (5, TOMORROW, "week", "Choose in how many parts"),
        (0, TOMORROW, "week", "Choose in how many parts"),
        (2, TODAY, "week", "The first day has to be tomorrow"),
    ],
)
@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_what_the_rules_do_not_allow_is_refused_with_the_form(
    diary: Diary, count: int, first_on: date, every: str, words: str
) -> None:
    refused = preview(diary, diary.portal.visitor("alice"), count, first_on, every)
    assert refused.status == 422
    assert words in refused.text
    assert not refused.select("form[method=post][action$='/arrangement']")


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize(
    "values",
    [
        {"count": "x"},
        {"count": "99999999999999999999"},
        {"count": "²"},
        {"first_on": "soon"},
        {"first_on": "9999-12-31"},
        {"every": "day"},
        {"method": "nothing"},
        {"shown": "1"},
        {"shown": "x"},
    ],
)
def test_odd_values_are_refused_with_the_form(diary: Diary, values: dict[str, str]) -> None:
    alice = diary.portal.visitor("alice")
    page = preview(diary, alice, 2, TOMORROW)
    assert alice.submit(page, "/arrangement", **values).status == 422
    assert states(diary) == []


@pytest.mark.parametrize("engine_kind", ["sqlite"])
@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"arrangement_from_minor": 50_000}, "Arrangements are made from $500.00 on."),
        ({"arrangement_after_days": 3_000}, "too new for an arrangement"),
        ({"arrangements_a_year": 0}, "as many arrangements as we make in a year"),
    ],
)
def test_rules_of_the_isp_say_who_is_offered_one(
    diary: Diary, rules: dict[str, int], words: str
) -> None:
    set_rules(diary, **rules)
    assert words in diary.visit(diary.portal.visitor("alice"), "arrangement").text


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_promise_and_number_of_parts_follow_the_rules(diary: Diary) -> None:
    set_rules(diary, promise_days=0, instalments_most=6)
    page = diary.visit(diary.portal.visitor("alice"), "arrangement")
    options = [each.get("value") for each in page.select("select[name=count] option")]
    assert options == ["2", "3", "4", "5", "6"]


def test_whoever_owes_nothing_is_offered_none(diary: Diary) -> None:
    rich = diary.portal.visitor("rich")
    page = rich.get(diary.portal.path("billing/arrangement", "rich"))
    assert "Nothing is due on this account." in page.text


# Kept and broken ------------------------------------------------------------------------------


def test_paid_in_time_is_kept_and_said(diary: Diary) -> None:
    alice = diary.portal.visitor("alice")
    agree(diary, alice, 2, TODAY + timedelta(days=2))
    pay_by_hand(diary, "105.56")
    diary.live(TODAY + timedelta(days=8))
    assert states(diary) == ["standing"]
    with diary.on(TODAY + timedelta(days=8)):
        pay_by_hand(diary, "105.56")
        diary.work()
    assert states(diary) == ["kept"]
    assert diary.planned("state", "instalment") == ["done", "done"]
    assert diary.told()[-1] == "arrangement_kept"


def test_paid_too_little_by_a_day_is_broken_and_said(diary: Diary) -> None:
    alice = diary.portal.visitor("alice")
    agree(diary, alice, 2, TOMORROW)
    pay_by_hand(diary, "100")
    diary.live(TOMORROW)
    assert states(diary) == ["standing"]
    diary.live(TOMORROW + timedelta(days=1), TOMORROW)
    assert states(diary) == ["broken"]
    assert diary.planned("state", "instalment") == ["cancelled"] * 2
    assert diary.told()[-1] == "arrangement_broken"
    assert resting(diary, TOMORROW) == set()
    diary.live(TOMORROW + timedelta(days=9), TOMORROW)
    assert diary.told().count("arrangement_broken") == 1


def test_new_bill_is_no_part_of_it(diary: Diary) -> None:
    alice = diary.portal.visitor("alice")
    agree(diary, alice, 1, TODAY + timedelta(days=13))
    with diary.on(date(2026, 7, 1)):
        diary.issue(date(2026, 7, 1))
        pay_by_hand(diary, "211.12")
        diary.work()
    assert states(diary) == ["kept"]
    assert diary.balance() == MONTH_MINOR


def test_at_most_so_many_a_year(diary: Diary) -> None:
    set_rules(diary, arrangements_a_year=1)
    alice = diary.portal.visitor("alice")
    agree(diary, alice, 1, TOMORROW)
    assert "arrangement" in diary.visit(alice, "arrangement").text
    diary.live(TOMORROW + timedelta(days=1))
    assert states(diary) == ["broken"]
    with diary.on(TOMORROW + timedelta(days=1)):
        page = diary.visit(diary.portal.visitor("alice"), "arrangement")
        assert "as many arrangements as we make in a year" in page.text


def test_customer_ends_it_and_everything_is_due_again(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    agree(diary, alice, 2, TOMORROW, method=method)
    page = diary.visit(alice, "arrangement")
    ended = alice.submit(page, "/end")
    assert "The arrangement has ended" in alice.get(ended.location).text
    diary.live(TOMORROW + timedelta(days=8))
    assert states(diary) == ["cancelled"]
    assert diary.taken() == []


def test_payer_cannot_end_the_owners_arrangement(diary: Diary) -> None:
    agree(diary, diary.portal.visitor("alice"), 2, TOMORROW)
    bob = diary.portal.visitor("bob")
    page = diary.visit(bob, "arrangement")
    assert not page.select("form[action$='/end']")
    _action, values = page.form("/sign-out")
    assert bob.post(diary.portal.path("billing/arrangement/end"), values).status == 404
    assert states(diary) == ["standing"]


# Reminders ------------------------------------------------------------------------------------


def test_instalment_paid_by_hand_is_reminded_of_once_before_its_day(diary: Diary) -> None:
    agree(diary, diary.portal.visitor("alice"), 2, TODAY + timedelta(days=5))
    diary.live(TODAY + timedelta(days=1))
    assert diary.told() == ["arrangement_made"]
    with diary.on(TODAY + timedelta(days=2), 5):
        diary.work()
    assert diary.told() == ["arrangement_made"]
    diary.live(TODAY + timedelta(days=4), TODAY + timedelta(days=2))
    [said] = diary.told("instalment_due")
    assert (said["amount_minor"], said["due_on"]) == (MONTH_MINOR, "2026-06-25")
    with diary.on(TODAY + timedelta(days=4)):
        pay_by_hand(diary, "105.56")
    diary.live(TODAY + timedelta(days=12), TODAY + timedelta(days=5))
    assert [each["due_on"] for each in diary.told("instalment_due")] == ["2026-06-25", "2026-07-02"]
    assert states(diary) == ["standing"]


def test_what_was_paid_ahead_is_not_reminded_of_but_what_is_left(diary: Diary) -> None:
    agree(diary, diary.portal.visitor("alice"), 2, TODAY + timedelta(days=5))
    pay_by_hand(diary, "150")
    diary.live(TODAY + timedelta(days=12))
    [said] = diary.told("instalment_due")
    assert (said["amount_minor"], said["due_on"]) == (2 * MONTH_MINOR - 15_000, "2026-07-02")


@pytest.mark.parametrize(
    ("rules", "first_day"), [({"instalment_notice_days": 1}, 5), ({"instalment_notice_days": 0}, 0)]
)
@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_reminder_comes_as_many_days_before_as_the_isp_says(
    diary: Diary, rules: dict[str, int], first_day: int
) -> None:
    set_rules(diary, **rules)
    agree(diary, diary.portal.visitor("alice"), 1, TODAY + timedelta(days=6))
    for number in range(7):
        diary.live(TODAY + timedelta(days=number), TODAY + timedelta(days=number))
        is_said = bool(first_day) and number >= first_day
        assert len(diary.told("instalment_due")) == is_said, number


def test_agreed_that_late_and_taken_by_itself_are_not_reminded_of(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    agree(diary, alice, 1, TODAY + timedelta(days=3))
    diary.live(TODAY + timedelta(days=2))
    alice.submit(diary.visit(alice, "arrangement"), "/end")
    agree(diary, alice, 1, TODAY + timedelta(days=9), method=method)
    diary.live(TODAY + timedelta(days=9))
    assert diary.told("instalment_due") == []


def test_instalment_whose_method_is_gone_is_reminded_of(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    agree(diary, alice, 1, TODAY + timedelta(days=9), method=method)
    alice.submit(diary.visit(alice, f"methods/{method}/remove"), "/remove")
    diary.live(TODAY + timedelta(days=8))
    assert diary.told() == ["arrangement_made", "failed", "instalment_due"]
    diary.compose_letters()


# Taken by themselves --------------------------------------------------------------------------


def test_instalments_are_taken_by_themselves_and_it_is_kept(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    agree(diary, alice, 3, TOMORROW, method=method)
    diary.live(TOMORROW + timedelta(days=15))
    assert diary.taken() == [7_038, 7_037, 7_037]
    assert states(diary) == ["kept"]
    assert diary.balance() == 0


def test_what_was_paid_ahead_by_hand_is_not_taken_again(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    agree(diary, alice, 2, TODAY + timedelta(days=2), method=method)
    pay_by_hand(diary, "150")
    diary.live(TODAY + timedelta(days=12))
    assert diary.taken() == [2 * MONTH_MINOR - 15_000]
    assert states(diary) == ["kept"]


def test_declined_instalment_can_be_tried_until_the_day_ends(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    agree(diary, alice, 2, TOMORROW, method=method)
    diary.behave(method, Behaviour.DECLINES)
    diary.live(TOMORROW)
    assert states(diary) == ["standing"]
    assert diary.told() == ["arrangement_made", "failed"]
    [public_id, _] = diary.planned("public_id", "instalment")
    diary.behave(method, Behaviour.PAYS)
    with diary.on(TOMORROW, 20):
        alice = diary.portal.visitor("alice")
        assert alice.submit(diary.visit(alice, f"planned/{public_id}"), "/try").status == 303
    diary.live(TOMORROW + timedelta(days=8), TOMORROW + timedelta(days=1))
    assert states(diary) == ["kept"]


def test_instalment_under_way_when_it_ended_is_not_taken_again(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save(saving=Saving.BANK)
    agree(diary, alice, 2, TOMORROW, method=method)
    diary.live(TOMORROW)
    with diary.on(TOMORROW, 10):
        alice = diary.portal.visitor("alice")
        alice.submit(diary.visit(alice, "arrangement"), "/end")
    assert diary.planned("state", "instalment") == ["taking", "cancelled"]
    diary.portal.execute(  # the gateway never heard of it
        "UPDATE payments SET state = 'expired', hosted_url = NULL, ask_at = NULL,"
        " ended_at = created_at WHERE planned_id IS NOT NULL"
    )
    diary.live(TOMORROW + timedelta(days=8), TOMORROW)
    assert diary.planned("state", "instalment") == ["failed", "cancelled"]
    assert diary.portal.one("SELECT count(*) FROM payments WHERE planned_id IS NOT NULL") == 1


def test_declined_instalment_that_is_not_paid_breaks_it(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    agree(diary, alice, 2, TOMORROW, method=method)
    diary.behave(method, Behaviour.DECLINES)
    diary.live(TOMORROW + timedelta(days=10))
    assert states(diary) == ["broken"]
    assert diary.gateway.calls.count("charge") == 1


def test_autopay_leaves_what_is_arranged_alone_and_pays_the_next_bill(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.autopay(alice, method)
    agree(diary, alice, 2, TODAY + timedelta(days=12))
    diary.live(TODAY + timedelta(days=5))
    assert diary.taken() == []
    assert diary.told("nothing_due") == []
    with diary.on(date(2026, 7, 1)):
        diary.issue(date(2026, 7, 1))
        diary.work()
        pay_by_hand(diary, "105.56")
    with diary.on(date(2026, 7, 9)):
        pay_by_hand(diary, "105.56")
    diary.live(date(2026, 7, 20), date(2026, 7, 2))
    assert states(diary) == ["kept"]
    assert diary.taken() == [MONTH_MINOR]
    assert diary.balance() == 0


def test_autopay_comes_back_to_a_bill_whose_arrangement_was_broken(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.autopay(alice, method)
    agree(diary, alice, 1, TOMORROW)
    diary.live(TOMORROW + timedelta(days=1))
    assert states(diary) == ["broken"]
    diary.live(TOMORROW + timedelta(days=6), TOMORROW + timedelta(days=1))
    assert diary.taken() == [MONTH_MINOR] * 2


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_fifty_copies_of_each_form_count_once(diary: Diary) -> None:
    alice = diary.portal.visitor("alice")
    action, values = preview(diary, alice, 2, TOMORROW).form("/arrangement")
    assert copies(diary.portal, action, values, alice.cookies()) == {303}
    assert states(diary) == ["standing"]
    assert diary.told() == ["arrangement_made"]
    action, values = diary.visit(alice, "arrangement").form("/end")
    assert copies(diary.portal, action, values, alice.cookies()) == {303}
    assert states(diary) == ["cancelled"]
