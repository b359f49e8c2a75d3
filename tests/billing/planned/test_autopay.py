"""Autopay: consent, notice, limit, tries, and that it never fails or ends silently."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from blueprints.billing.planned import autopay
from core.db import db
from gateways.payments.base import GatewayState, Truth
from gateways.payments.sandbox.methods import Behaviour, Saving
from tests.billing.planned.diary import MONTH_MINOR, TODAY, Diary
from tests.billing.planned.test_scheduling import copies, pay_by_hand
from tests.conftest import together

NOTICE = 3
FIRST = TODAY + timedelta(days=NOTICE)  # both open bills are overdue


def a_day(value: object) -> date:
    return value if isinstance(value, date) else date.fromisoformat(str(value))


# On, changed, off -----------------------------------------------------------------------------


def test_autopay_is_switched_on_with_the_sentence_that_was_shown(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    page = diary.visit(alice, "autopay")
    [words] = [label.text_content() for label in page.select("label[for=agreed]")]
    on = diary.autopay(alice, method, days_before="5", ceiling="300")
    assert on.status == 303
    shown = alice.get(on.location)
    assert "Autopay is on" in shown.text
    [kept] = shown.select("q")
    assert (kept.get("lang"), kept.text_content()) == ("en", words)
    [row] = diary.mandates(
        "consent, consent_language, consent_address, days_before, ceiling_minor, consented_at"
    )
    assert row[:5] == (words, "en", "127.0.0.1", 5, 30_000)
    assert row[5] is not None
    assert [each["consent"] for each in diary.told("autopay_on")] == [words]
    [kind] = diary.portal.rows("SELECT kind FROM activity WHERE kind LIKE 'autopay%'")
    assert kind == ("autopay_on",)


def test_open_bills_are_planned_said_beforehand_and_taken_once(diary: Diary) -> None:
    alice = diary.portal.visitor("alice")
    diary.autopay(alice, diary.save())
    words = "Autopay will take $105.56 on Jun 23, 2026 from Visa ending 4242."
    for page in (alice.get(diary.portal.path()), diary.visit(alice), diary.visit(alice, "autopay")):
        assert words in page.text
    diary.live(FIRST - timedelta(days=1))
    assert diary.taken() == []
    assert [each["due_on"] for each in diary.told("notice")] == [FIRST.isoformat()] * 2
    diary.live(FIRST, FIRST)
    assert diary.taken() == [MONTH_MINOR] * 2
    assert diary.balance() == 0
    diary.live(FIRST + timedelta(days=20), FIRST)
    assert diary.taken() == [MONTH_MINOR] * 2


def test_next_bill_is_taken_so_many_days_before_it_is_due(diary: Diary) -> None:
    diary.autopay(diary.portal.visitor("alice"), diary.save(), days_before="4")
    diary.live(FIRST)
    with diary.on(date(2026, 7, 1)):
        diary.issue(date(2026, 7, 1))
        diary.work()
    day = date(2026, 7, 15) - timedelta(days=4)
    assert a_day(diary.planned("due_on", "autopay")[-1]) == day
    diary.live(day - timedelta(days=NOTICE + 1), date(2026, 7, 1))
    assert len(diary.told("notice")) == 2
    diary.live(day - timedelta(days=1), day - timedelta(days=NOTICE))
    assert len(diary.told("notice")) == 3
    assert len(diary.taken()) == 2
    diary.live(day, day)
    assert len(diary.taken()) == 3
    assert diary.balance() == 0


def test_autopay_is_changed_and_asks_for_consent_anew(diary: Diary) -> None:
    alice, first = diary.portal.visitor("alice"), diary.save()
    second = diary.save(saving=Saving.BANK)
    diary.autopay(alice, first)
    changed = diary.autopay(alice, second, range_from="50", range_to="150")
    assert changed.status == 303
    assert diary.mandates("ended_because, range_from_minor") == [("changed", None), ("", 5_000)]
    assert diary.planned("state", "autopay") == ["cancelled"] * 2 + ["waiting"] * 2
    assert diary.told() == ["autopay_on", "autopay_changed"]


def test_autopay_is_switched_off_at_once(diary: Diary) -> None:
    alice = diary.portal.visitor("alice")
    diary.autopay(alice, diary.save())
    off = alice.submit(diary.visit(alice, "autopay"), "/off")
    assert "From now on you pay your bills yourself." in alice.get(off.location).text
    assert diary.mandates() == ["off"]
    diary.live(FIRST + timedelta(days=2))
    assert diary.planned("state", "autopay") == ["cancelled"] * 2
    assert diary.taken() == []
    assert "Autopay will take" not in alice.get(diary.portal.path()).text
    assert "Autopay is off" not in diary.visit(alice).text  # they know it


def test_autopay_that_was_off_begins_anew(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.autopay(alice, method)
    alice.submit(diary.visit(alice, "autopay"), "/off")
    diary.autopay(alice, method)
    diary.live(FIRST)
    assert diary.taken() == [MONTH_MINOR] * 2


def test_owner_may_switch_off_what_a_payer_switched_on_but_not_change_it(diary: Diary) -> None:
    bob, alice = diary.portal.visitor("bob"), diary.portal.visitor("alice")
    bobs, alices = diary.save("bob"), diary.save()
    page = diary.visit(alice, "autopay")
    diary.autopay(bob, bobs)
    refused = alice.submit(page, "/autopay", method=alices, agreed="y")
    assert refused.status == 422
    assert "Somebody else who shares this account" in refused.text
    page = diary.visit(alice, "autopay")
    assert "Bob" in page.text
    assert not page.select("form[action$='/autopay']")
    alice.submit(page, "/off")
    assert diary.mandates() == ["off"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"agreed": ""}, "Tick the box if you agree."),
        ({"words": "other"}, "The words of the agreement have changed."),
        ({"method": "nothing"}, "Choose a card or bank account"),
        ({"days_before": "11"}, "Not a valid choice"),
        ({"ceiling": "lots"}, "Enter the amount like"),
        ({"range_from": "5"}, "Give both ends"),
        ({"range_from": "50", "range_to": "5"}, "has to be the larger one"),
    ],
)
@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_what_cannot_be_is_refused_with_the_form(
    diary: Diary, values: dict[str, str], words: str
) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save(saving=Saving.BANK)
    good = {"method": method, "agreed": "y"}
    refused = alice.submit(diary.visit(alice, "autopay"), "/autopay", **good | values)
    assert refused.status == 422
    assert words in refused.text
    assert diary.mandates() == []


# Notice ---------------------------------------------------------------------------------------


def test_debit_that_varies_is_said_ten_days_before(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save(saving=Saving.BANK)
    diary.autopay(alice, method)
    diary.work()
    assert [a_day(day) for day in diary.planned("due_on", "autopay")] == [
        TODAY + timedelta(days=10)
    ] * 2
    assert [each["due_on"] for each in diary.told("notice")] == [
        (TODAY + timedelta(days=10)).isoformat()
    ] * 2
    diary.live(TODAY + timedelta(days=9))
    assert diary.portal.one("SELECT count(*) FROM payments WHERE planned_id IS NOT NULL") == 0
    diary.live(TODAY + timedelta(days=13), TODAY + timedelta(days=10))
    assert diary.taken() == [MONTH_MINOR] * 2


def test_debit_within_the_chosen_range_is_said_three_days_before(diary: Diary) -> None:
    method = diary.save(saving=Saving.BANK)
    diary.autopay(diary.portal.visitor("alice"), method, range_from="100", range_to="110")
    assert [a_day(day) for day in diary.planned("due_on", "autopay")] == [FIRST] * 2


@pytest.mark.parametrize(("lowest", "highest"), [("1", "105.55"), ("105.57", "500")])
@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_debit_beyond_the_chosen_range_is_said_ten_days_before(
    diary: Diary, lowest: str, highest: str
) -> None:
    method = diary.save(saving=Saving.BANK)
    alice = diary.portal.visitor("alice")
    diary.autopay(alice, method, range_from=lowest, range_to=highest)
    assert [a_day(day) for day in diary.planned("due_on", "autopay")] == [
        TODAY + timedelta(days=10)
    ] * 2


def test_debit_as_the_one_before_is_said_three_days_before(diary: Diary) -> None:
    method = diary.save(saving=Saving.BANK)
    diary.autopay(diary.portal.visitor("alice"), method)
    diary.live(TODAY + timedelta(days=14))
    assert len(diary.taken()) == 2
    since = date(2026, 7, 5)
    with diary.on(since):
        diary.issue(date(2026, 7, 1))
    day = date(2026, 7, 15)
    diary.live(day - timedelta(days=NOTICE + 1), since)
    assert len(diary.told("notice")) == 2
    diary.live(day - timedelta(days=NOTICE), day - timedelta(days=NOTICE))
    assert len(diary.told("notice")) == 3


def test_notice_that_came_late_moves_the_day(diary: Diary) -> None:
    """The worker was away for days: nobody is surprised."""
    diary.autopay(diary.portal.visitor("alice"), diary.save())
    late = FIRST + timedelta(days=1)
    with diary.on(late):
        diary.work()
    assert diary.taken() == []
    assert [each["due_on"] for each in diary.told("notice")] == [
        (late + timedelta(days=NOTICE)).isoformat()
    ] * 2
    diary.live(late + timedelta(days=NOTICE), late)
    assert len(diary.taken()) == 2


def test_notice_reaches_also_whoever_wants_no_messages(diary: Diary) -> None:
    diary.portal.execute(
        "INSERT INTO message_choices (customer_id, topic, channel, is_on)"
        " VALUES (:id, 'payments', 'email', :off)",
        id=diary.portal.world.customers["alice"],
        off=False,
    )
    diary.autopay(diary.portal.visitor("alice"), diary.save())
    diary.live(FIRST)
    assert diary.told() == ["notice", "notice"]


# Scheduled payments beside it -----------------------------------------------------------------


def test_what_is_scheduled_before_the_due_day_is_not_taken_again(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    with diary.on(TODAY):
        diary.schedule(alice, method, TODAY + timedelta(days=1), choice="balance")
        diary.live(TODAY + timedelta(days=1))
    with diary.on(date(2026, 7, 1)):
        diary.issue(date(2026, 7, 1))
        alice = diary.portal.visitor("alice")
        diary.schedule(alice, method, date(2026, 7, 12), amount="40")
        diary.autopay(alice, method, days_before="9")
    diary.live(date(2026, 7, 20), date(2026, 7, 1))
    assert diary.taken() == [2 * MONTH_MINOR, MONTH_MINOR - 4_000, 4_000]
    assert diary.balance() == 0


def test_what_is_disputed_is_not_taken(diary: Diary) -> None:
    alice = diary.portal.visitor("alice")
    diary.autopay(alice, diary.save())
    latest = diary.portal.one(
        "SELECT public_id FROM invoices WHERE account_id = :id ORDER BY id DESC LIMIT 1",
        id=diary.portal.world.accounts["alice"],
    )
    page = diary.visit(alice, f"invoices/{latest}/dispute")
    alice.submit(page, "/dispute", line="1", text="I never had this at all.")
    [disputed] = diary.portal.rows("SELECT amount_minor FROM disputes")
    diary.live(FIRST)
    assert diary.taken() == [MONTH_MINOR, MONTH_MINOR - disputed[0]]
    assert diary.balance() == disputed[0]


def test_bill_that_was_paid_by_hand_is_not_taken(diary: Diary) -> None:
    diary.autopay(diary.portal.visitor("alice"), diary.save())
    diary.work()
    pay_by_hand(diary, "211.12")
    diary.live(FIRST)
    assert diary.taken() == []
    assert diary.planned("failure", "autopay") == ["nothing_due"] * 2
    assert diary.told("nothing_due")


# Above the limit ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "taken", "state"),
    [
        ("pay", [MONTH_MINOR] * 2, "done"),
        ("skip", [], "cancelled"),
        ("", [], "failed"),
    ],
)
def test_above_the_limit_the_customer_is_asked_first(
    diary: Diary, answer: str, taken: list[int], state: str
) -> None:
    alice = diary.portal.visitor("alice")
    diary.autopay(alice, diary.save(), ceiling="100")
    assert diary.told() == ["ask", "ask", "autopay_on"]
    assert "may it take $105.56" in alice.get(diary.portal.path()).text
    for public_id in diary.planned("public_id", "autopay"):
        if answer:
            page = diary.visit(alice, f"planned/{public_id}")
            assert alice.submit(page, f"/{answer}").status == 303
    diary.live(FIRST + timedelta(days=5))
    assert diary.taken() == taken
    assert diary.planned("state", "autopay") == [state] * 2
    assert diary.mandates() == [""]
    assert len(diary.told("failed")) == (0 if answer else 2)


# It fails -------------------------------------------------------------------------------------


def tries(diary: Diary) -> list[date]:
    return [
        a_day(str(at)[:10])
        for (at,) in diary.portal.rows(
            "SELECT created_at FROM payments WHERE planned_id IS NOT NULL ORDER BY id"
        )
    ]


def test_declined_is_tried_again_on_the_days_of_the_isp_then_said_and_ended(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.autopay(alice, method)
    diary.behave(method, Behaviour.DECLINES)
    diary.live(FIRST + timedelta(days=20))
    days = [FIRST + timedelta(days=number) for number in (0, 2, 6, 13)]
    assert tries(diary) == [day for day in days for _ in range(2)][:-1]  # the last ended autopay
    told = [each.get("next_on") for each in diary.told("failed")]
    assert told == [str(day) for day in days[1:] for _ in range(2)] + [None]
    assert diary.mandates() == ["failed"]
    assert diary.told()[-1] == "autopay_off"
    with diary.on(FIRST + timedelta(days=21)):
        page = diary.visit(diary.portal.visitor("alice"))
        assert "A bill could not be taken in any of the tries." in page.text


def test_try_by_hand_in_between_pays_and_ends_the_tries(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.autopay(alice, method)
    diary.behave(method, Behaviour.DECLINES)
    diary.live(FIRST)
    assert diary.planned("state", "autopay") == ["waiting"] * 2
    diary.behave(method, Behaviour.PAYS)
    with diary.on(FIRST + timedelta(days=1)):
        alice = diary.portal.visitor("alice")
        for public_id in diary.planned("public_id", "autopay"):
            page = diary.visit(alice, f"planned/{public_id}")
            assert "We try again on Jun 25, 2026." in page.text
            assert alice.submit(page, "/try").status == 303
    diary.live(FIRST + timedelta(days=20), FIRST)
    assert diary.taken() == [MONTH_MINOR] * 2
    assert diary.mandates() == [""]


def test_returned_debit_is_presented_twice_more_at_most(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save(saving=Saving.BANK)
    diary.autopay(alice, method, range_from="1", range_to="500")
    diary.behave(method, Behaviour.DECLINES)
    diary.live(FIRST + timedelta(days=30))
    assert diary.mandates() == ["failed"]
    assert len(tries(diary)) <= 3 * 2


def let_the_bank_decline(diary: Diary, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each first try that is on its way be declined after all."""
    ask = diary.gateway.ask

    def decline(key: str) -> Truth:
        truth = ask(key)
        if not key.endswith(":1"):
            return truth
        return replace(truth, state=GatewayState.DECLINED, decline_reason="Not enough money.")

    monkeypatch.setattr(diary.gateway, "ask", decline)


def test_autopay_that_was_switched_off_makes_no_other_try(
    diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save(saving=Saving.BANK)
    diary.autopay(alice, method, range_from="1", range_to="500")
    diary.live(FIRST)
    with diary.on(FIRST, 10):
        alice = diary.portal.visitor("alice")
        alice.submit(diary.visit(alice, "autopay"), "/off")
    assert diary.planned("state", "autopay") == ["taking"] * 2
    let_the_bank_decline(diary, monkeypatch)
    diary.live(FIRST + timedelta(days=30), FIRST + timedelta(days=1))
    assert diary.taken() == []
    assert diary.planned("state", "autopay") == ["failed"] * 2
    assert diary.mandates() == ["off"]
    assert [each.get("next_on") for each in diary.told("failed")] == [None] * 2


def test_bill_declined_after_autopay_was_changed_is_the_new_permissions(
    diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, first = diary.portal.visitor("alice"), diary.save(saving=Saving.BANK)
    second = diary.save()
    diary.autopay(alice, first, range_from="1", range_to="500")
    diary.live(FIRST)
    with diary.on(FIRST, 10):
        diary.autopay(diary.portal.visitor("alice"), second)
    let_the_bank_decline(diary, monkeypatch)
    diary.live(FIRST + timedelta(days=30), FIRST + timedelta(days=1))
    assert diary.taken() == [MONTH_MINOR] * 2
    ids_of = diary.portal.rows(
        "SELECT DISTINCT m.public_id FROM payments p JOIN payment_methods m ON m.id = p.method_id"
        " WHERE p.state = 'succeeded' AND p.planned_id IS NOT NULL"
    )
    assert ids_of == [(second,)]
    assert diary.mandates() == ["changed", ""]


def test_removed_method_ends_autopay_with_a_message_and_a_notice(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.autopay(alice, method)
    alice.submit(diary.visit(alice, f"methods/{method}/remove"), "/remove")
    assert diary.mandates() == ["method_removed"]
    assert diary.told()[-1] == "autopay_off"
    for page in (alice.get(diary.portal.path()), diary.visit(alice)):
        assert "Autopay is off" in page.text
    diary.live(FIRST)
    assert diary.taken() == []
    diary.autopay(alice, diary.save())
    assert "Autopay is off" not in diary.visit(alice).text


def test_expired_card_ends_autopay_with_a_message_and_a_notice(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.autopay(alice, method)
    diary.portal.execute(
        "UPDATE payment_methods SET expires_on = :day WHERE public_id = :id", day=TODAY, id=method
    )
    diary.live(TODAY + timedelta(days=1))
    assert diary.mandates() == ["method_expired"]
    assert diary.told()[-1] == "autopay_off"
    assert "The card it paid with has expired." in diary.visit(alice).text


def test_closed_account_that_is_settled_ends_autopay(diary: Diary) -> None:
    alice = diary.portal.visitor("alice")
    diary.autopay(alice, diary.save())
    diary.portal.execute("UPDATE accounts SET status = 'closed'")
    diary.live(FIRST - timedelta(days=1))
    assert diary.mandates() == [""]  # what is left is still paid
    diary.live(FIRST + timedelta(days=1), FIRST)
    assert diary.taken() == [MONTH_MINOR] * 2
    assert diary.mandates() == ["account_closed"]


# At once --------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_fifty_copies_of_each_form_count_once(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    action, values = diary.visit(alice, "autopay").form("/autopay")
    values |= {"method": method, "agreed": "y", "ceiling": "50"}
    assert copies(diary.portal, action, values, alice.cookies()) == {303}
    assert diary.mandates() == [""]
    assert diary.told() == ["ask", "ask", "autopay_on"]
    for which, word in zip(diary.planned("public_id", "autopay"), ("pay", "skip"), strict=True):
        action, values = diary.visit(alice, f"planned/{which}").form(f"/{word}")
        assert copies(diary.portal, action, values, alice.cookies()) == {303}
    assert diary.planned("state", "autopay") == ["waiting", "cancelled"]
    action, values = diary.visit(alice, "autopay").form("/off")
    assert copies(diary.portal, action, values, alice.cookies()) == {303}
    assert diary.mandates() == ["off"]
    assert len(diary.told("autopay_off")) == 1


def test_toggling_while_the_worker_runs_takes_nothing_twice(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.autopay(alice, method)
    diary.live(FIRST - timedelta(days=1))
    with diary.on(FIRST):
        alice = diary.portal.visitor("alice")
        header = "; ".join(f"{name}={value}" for name, value in alice.cookies().items())
        pages = [diary.visit(alice, "autopay") for _ in range(6)]

        def act(number: int) -> None:
            if number % 2:
                diary.work()
                return
            which = "/off" if number % 4 else "/autopay"
            action, values = pages[number // 2].form(which)
            more = {} if which == "/off" else {"method": method, "agreed": "y"}
            client = diary.portal.app.test_client(use_cookies=False)
            answer = client.post(
                action,
                data=values | more,
                base_url="http://127.0.0.1:8000",
                headers={"Cookie": header},
            )
            assert answer.status_code == 303

        for result in together(12, act):
            assert not isinstance(result, Exception), result
    diary.live(FIRST + timedelta(days=10), FIRST)
    taken = diary.taken()
    assert taken in ([], [MONTH_MINOR], [MONTH_MINOR] * 2)
    assert diary.balance() == 2 * MONTH_MINOR - sum(taken)
    assert diary.mandates("ended_at").count(None) <= 1


def test_schedule_and_autopay_at_the_same_hour_take_what_is_due(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.autopay(alice, method)
    diary.schedule(alice, method, FIRST, amount="211.12")
    diary.live(FIRST - timedelta(days=1))
    with diary.on(FIRST, 6):
        for result in together(6, lambda _number: diary.work()):
            assert not isinstance(result, Exception), result
    for hour in (7, 8, 9):
        with diary.on(FIRST, hour):
            diary.work()
    assert sum(diary.taken()) == 2 * MONTH_MINOR
    assert diary.balance() == 0


def test_letters_can_be_composed_in_every_language(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.autopay(alice, method, ceiling="50")
    alice.submit(diary.visit(alice, "autopay"), "/off")
    diary.autopay(alice, method)
    diary.live(FIRST - timedelta(days=1))
    pay_by_hand(diary, "150")
    diary.live(FIRST)
    assert {"notice", "ask", "autopay_on", "autopay_off", "less"} <= set(diary.told())
    diary.compose_letters()


def test_planning_is_by_permission(diary: Diary) -> None:
    """A bill that the customer left out is not planned again, until autopay is switched on anew."""
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.autopay(alice, method, ceiling="100")
    [first, _second] = diary.planned("public_id", "autopay")
    alice.submit(diary.visit(alice, f"planned/{first}"), "/skip")
    diary.work()
    assert diary.planned("state", "autopay") == ["cancelled", "asking"]
    with diary.portal.app.app_context():
        assert autopay.find_standing(db.session(), diary.portal.world.accounts["alice"])
        db.session.remove()
    diary.autopay(alice, method, ceiling="")
    assert diary.planned("state", "autopay").count("waiting") == 2
