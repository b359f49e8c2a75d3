"""Scheduled payments: through their pages, on their day, once, and never more than is due."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from gateways.payments.sandbox.methods import Behaviour, Saving
from gateways.payments.sandbox.store import Decision
from tests.billing.planned.diary import MONTH_MINOR, Diary
from tests.conftest import Portal, together
from tests.page import BASE

DAY = date(2026, 6, 25)


def own_page(diary: Diary) -> str:
    return f"planned/{diary.planned('public_id')[-1]}"


# It works -------------------------------------------------------------------------------------


def test_payment_is_scheduled_shown_and_taken_on_its_day_once(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    made = diary.schedule(alice, method, DAY, choice="balance")
    assert made.status == 303
    assert "To be taken" in alice.get(made.location).text
    for page in (alice.get(diary.portal.path()), diary.visit(alice)):
        assert "Scheduled: $211.12 on Jun 25, 2026 from Visa ending 4242." in page.text
    with diary.on(DAY - timedelta(days=1), 23):
        diary.work()
    with diary.on(DAY, 5):
        diary.work()
    assert diary.planned() == ["waiting"]
    with diary.on(DAY, 6):
        for _ in range(3):
            diary.work()
    assert diary.planned("state, try_at") == [("done", None)]
    assert diary.taken() == [2 * MONTH_MINOR]
    assert diary.balance() == 0
    assert diary.gateway.calls.count("charge") == 1
    assert "Scheduled:" not in diary.visit(alice).text
    assert "Taken" in diary.visit(alice, own_page(diary)).text


def test_another_amount_is_scheduled_and_the_rest_stays_due(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.schedule(alice, method, DAY, amount="50")
    assert "$161.12" in diary.visit(alice, "schedule").text
    diary.live(DAY)
    assert diary.taken() == [5_000]
    assert diary.balance() == 2 * MONTH_MINOR - 5_000


def test_scheduled_payment_is_changed_and_cancelled(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.schedule(alice, method, DAY, amount="50")
    page = diary.visit(alice, f"{own_page(diary)}/change")
    later = DAY + timedelta(days=3)
    changed = alice.submit(page, "/change", amount="60", day=later.isoformat())
    assert changed.status == 303
    assert diary.planned("amount_minor") == [6_000]
    diary.live(DAY)
    assert diary.taken() == []
    alice.submit(diary.visit(alice, own_page(diary)), "/cancel")
    assert "Cancelled before its day." in diary.visit(alice, own_page(diary)).text
    diary.live(later, DAY)
    assert diary.planned() == ["cancelled"]
    assert diary.taken() == []


def test_what_is_due_without_other_plans_can_be_scheduled_once(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    page = diary.visit(alice, "schedule")
    diary.schedule(alice, method, DAY, choice="balance")
    values = {"method": method, "day": DAY.isoformat(), "choice": "balance"}
    again = alice.submit(page, "/schedule", **values)
    assert again.status == 422
    assert "already paid" in again.text
    assert not diary.visit(alice, "schedule").select("input[value=balance]")


# Less is due ----------------------------------------------------------------------------------


def pay_by_hand(diary: Diary, amount: str) -> None:
    alice = diary.portal.visitor("alice")
    alice.submit(diary.visit(alice, "pay"), "/pay", choice="other", amount=amount, method="")
    [(key, public_id)] = diary.portal.rows("SELECT key, public_id FROM payments WHERE state='sent'")
    diary.portal.bank.decide(key, Decision.PAY)
    diary.portal.visitor().get(f"/pay/{public_id}/return")


def test_less_is_taken_when_less_is_due_and_it_is_said(diary: Diary) -> None:
    diary.schedule(diary.portal.visitor("alice"), diary.save(), DAY, choice="balance")
    pay_by_hand(diary, "200")
    diary.live(DAY)
    assert diary.taken() == [1_112]
    assert [each["amount_minor"] for each in diary.told("less")] == [1_112]


def test_nothing_is_taken_when_nothing_is_due_and_it_is_said(diary: Diary) -> None:
    alice = diary.portal.visitor("alice")
    diary.schedule(alice, diary.save(), DAY, choice="balance")
    pay_by_hand(diary, "211.12")
    diary.live(DAY)
    assert diary.planned("state, failure") == [("cancelled", "nothing_due")]
    assert diary.told() == ["nothing_due"]
    assert "Nothing was due any more" in diary.visit(alice, own_page(diary)).text
    assert diary.gateway.calls.count("charge") == 0


def test_payment_under_way_is_waited_for(diary: Diary) -> None:
    alice = diary.portal.visitor("alice")
    diary.schedule(alice, diary.save(), DAY, choice="balance")
    with diary.on(DAY, 6):
        alice = diary.portal.visitor("alice")
        alice.submit(diary.visit(alice, "pay"), "/pay", choice="other", amount="11.12", method="")
        diary.work()
        assert diary.planned() == ["waiting"]
        key = diary.portal.one("SELECT key FROM payments WHERE state = 'sent'")
        diary.portal.bank.decide(key, Decision.PAY)
    with diary.on(DAY, 7):
        diary.work()
    assert diary.taken() == [20_000]
    assert diary.balance() == 0


# It fails -------------------------------------------------------------------------------------


def test_declined_is_said_and_can_be_tried_again_at_once(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.schedule(alice, method, DAY, choice="balance")
    diary.behave(method, Behaviour.DECLINES)
    diary.live(DAY + timedelta(days=3))
    assert diary.planned() == ["failed"]
    assert diary.told() == ["failed"]
    page = diary.visit(alice, own_page(diary))
    assert "Not taken" in page.text
    assert "The bank says" in page.text
    assert "Did not work" in diary.visit(alice).text
    assert diary.gateway.calls.count("charge") == 1
    still = alice.submit(page, "/try")
    assert "Declined" in alice.get(still.location).text
    diary.behave(method, Behaviour.PAYS)
    paid = alice.submit(diary.visit(alice, own_page(diary)), "/try")
    assert "Paid. Thank you." in alice.get(paid.location).text
    assert diary.planned() == ["done"]
    assert diary.taken() == [2 * MONTH_MINOR]


def test_trying_again_is_refused_when_nothing_is_due_or_a_payment_is_under_way(
    diary: Diary,
) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.schedule(alice, method, DAY, choice="balance")
    diary.behave(method, Behaviour.DECLINES)
    diary.live(DAY)
    page = diary.visit(alice, own_page(diary))
    alice.submit(diary.visit(alice, "pay"), "/pay", choice="balance", method="")
    assert alice.submit(page, "/try").status == 409
    [(key, public_id)] = diary.portal.rows("SELECT key, public_id FROM payments WHERE state='sent'")
    diary.portal.bank.decide(key, Decision.PAY)
    diary.portal.visitor().get(f"/pay/{public_id}/return")
    refused = alice.submit(diary.visit(alice, own_page(diary)), "/try")
    assert refused.status == 409
    assert "already paid" in refused.text


def test_bank_that_wants_a_confirmation_is_said(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save(saving=Saving.CHECKED)
    diary.schedule(alice, method, DAY, choice="balance")
    with diary.on(DAY, 6):
        diary.work()
        assert diary.told() == ["to_confirm"]
        alice = diary.portal.visitor("alice")
        assert "Your bank wants you to confirm it." in diary.visit(alice, own_page(diary)).text
        key = diary.portal.one("SELECT key FROM payments WHERE state = 'sent'")
        diary.portal.bank.decide(key, Decision.CONFIRM)
    with diary.on(DAY, 8):
        diary.work()
    assert diary.planned() == ["done"]
    assert diary.told() == ["to_confirm"]


def test_removed_method_never_fails_silently(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.schedule(alice, method, DAY, choice="balance")
    page = diary.visit(alice, f"methods/{method}/remove")
    assert alice.submit(page, "/remove").status == 303
    assert diary.planned("state, failure") == [("failed", "method_removed")]
    assert diary.told() == ["failed"]
    diary.live(DAY)
    assert diary.taken() == []
    assert diary.told() == ["failed"]


def test_card_that_expires_before_the_day_cannot_be_chosen(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.portal.execute(
        "UPDATE payment_methods SET expires_on = :day", day=DAY - timedelta(days=1)
    )
    refused = diary.schedule(alice, method, DAY, choice="balance")
    assert refused.status == 422
    assert "valid on that day" in refused.text


def test_whoever_left_the_account_pays_no_more(diary: Diary) -> None:
    bob, method = diary.portal.visitor("bob"), diary.save("bob")
    diary.schedule(bob, method, DAY, choice="balance")
    diary.portal.execute(
        "DELETE FROM memberships WHERE customer_id = :id", id=diary.portal.world.customers["bob"]
    )
    diary.live(DAY)
    assert diary.planned("state, failure") == [("failed", "method_removed")]
    assert diary.taken() == []


# Once, whatever happens -----------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["before", "after"])
def test_lost_answer_of_the_bank_takes_it_once(diary: Diary, lost: str) -> None:
    diary.schedule(diary.portal.visitor("alice"), diary.save(), DAY, choice="balance")
    diary.gateway.loses = lambda call: lost if call == "charge" else None
    with diary.on(DAY, 6):
        diary.work()
    diary.gateway.loses = lambda _call: None
    for hour in range(7, 12):
        with diary.on(DAY, hour):
            diary.work()
    assert diary.planned() == ["done"]
    assert diary.taken() == [2 * MONTH_MINOR]


def test_worker_that_dies_before_the_charge_is_followed_by_another(diary: Diary) -> None:
    diary.schedule(diary.portal.visitor("alice"), diary.save(), DAY, choice="balance")

    def die(call: str) -> None:
        raise KeyboardInterrupt(call)

    diary.gateway.before = die
    with diary.on(DAY, 6), pytest.raises(KeyboardInterrupt):
        diary.work()
    assert diary.planned() == ["taking"]
    diary.gateway.before = lambda _call: None
    for hour in range(7, 12):
        with diary.on(DAY, hour):
            diary.work()
    assert diary.planned() == ["done"]
    assert diary.taken() == [2 * MONTH_MINOR]


def test_two_workers_and_the_customer_take_it_once(diary: Diary) -> None:
    diary.schedule(diary.portal.visitor("alice"), diary.save(), DAY, choice="balance")
    with diary.on(DAY, 6):
        for result in together(6, lambda _number: diary.work()):
            assert not isinstance(result, Exception), result
    with diary.on(DAY, 8):
        diary.work()
    assert diary.taken() == [2 * MONTH_MINOR]
    assert diary.gateway.calls.count("charge") == 1


def copies(portal: Portal, path: str, values: dict[str, str], cookies: dict[str, str]) -> set[int]:
    header = "; ".join(f"{name}={value}" for name, value in cookies.items())

    def press(_number: int) -> int:
        client = portal.app.test_client(use_cookies=False)
        answer = client.post(path, data=values, base_url=BASE, headers={"Cookie": header})
        return answer.status_code

    return set(together(50, press))  # type: ignore[arg-type]


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_fifty_copies_of_each_form_count_once(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    action, values = diary.visit(alice, "schedule").form("/schedule")
    values |= {"method": method, "day": DAY.isoformat(), "choice": "balance"}
    assert copies(diary.portal, action, values, alice.cookies()) == {303}
    assert diary.planned() == ["waiting"]
    diary.behave(method, Behaviour.DECLINES)
    diary.live(DAY)
    diary.behave(method, Behaviour.PAYS)
    action, values = diary.visit(alice, own_page(diary)).form("/try")
    assert copies(diary.portal, action, values, alice.cookies()) == {303}
    diary.live(DAY + timedelta(days=1), DAY)
    assert diary.planned() == ["done"]
    assert diary.taken() == [2 * MONTH_MINOR]
    diary.schedule(alice, method, DAY + timedelta(days=2), amount="20")
    action, values = diary.visit(alice, own_page(diary)).form("/cancel")
    assert copies(diary.portal, action, values, alice.cookies()) == {303}
    assert diary.planned() == ["done", "cancelled"]


# Odd input and strangers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"day": "2026-06-20"}, "Choose a day from"),
        ({"day": "2026-06-01"}, "Choose a day from"),
        ({"day": "2026-08-20"}, "Choose a day from"),
        ({"day": ""}, "Choose a day, like"),
        ({"day": "31/07/2026"}, "Choose a day, like"),
        ({"choice": "other", "amount": "a lot"}, "Enter the amount like"),
        ({"choice": "other", "amount": ""}, "Enter the amount like"),
        ({"choice": "other", "amount": "0.50"}, "Enter an amount from"),
        ({"choice": "other", "amount": "10001"}, "Enter an amount from"),
        ({"method": "nothing"}, "Choose a card or bank account"),
        ({"method": ""}, "Choose what to pay with."),
        ({"shown_balance": "5"}, "The amount has changed"),
    ],
)
@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_what_cannot_be_is_refused_with_the_form(
    diary: Diary, values: dict[str, str], words: str
) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    page = diary.visit(alice, "schedule")
    good = {"method": method, "day": DAY.isoformat(), "choice": "balance"}
    refused = alice.submit(page, "/schedule", **good | values)
    assert refused.status == 422
    assert words in refused.text
    assert diary.planned() == []


def test_only_so_many_wait_at_once(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    for number in range(12):
        day = DAY + timedelta(days=number)
        assert diary.schedule(alice, method, day, amount="5").status == 303
    refused = diary.schedule(alice, method, DAY, amount="5")
    assert refused.status == 422
    assert "Cancel one of them first" in refused.text


def test_others_see_it_or_not_and_cannot_change_it(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.schedule(alice, method, DAY, choice="balance")
    path = diary.portal.path(f"billing/{own_page(diary)}")
    bob, vera, mallory = (diary.portal.visitor(name) for name in ("bob", "vera", "mallory"))
    for name in (bob, vera):
        assert not name.get(path).select("main form")
    assert mallory.get(path).status == 404
    _action, values = diary.visit(bob, "schedule").form("/sign-out")
    assert bob.post(f"{path}/cancel", values).status == 404
    diary.save("bob")
    assert diary.schedule(bob, method, DAY, choice="other", amount="5").status == 422
    assert diary.planned() == ["waiting"]


def test_without_a_saved_method_the_page_says_what_to_do(diary: Diary) -> None:
    page = diary.visit(diary.portal.visitor("alice"), "schedule")
    assert "No card or bank account is saved" in page.text
    assert page.select("main a[href$='/methods/']")
