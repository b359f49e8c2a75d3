"""The ISP pays through another gateway than the one that keeps somebody's cards."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select

from blueprints.billing import settling
from blueprints.billing.methods import expiring
from blueprints.billing.methods import settling as methods
from blueprints.billing.planned import foreseeing
from core import clock, doctor
from core.db import db
from core.findings import Finding, Level
from models import Payment
from tests.billing.planned.diary import MONTH_MINOR, TODAY, Diary
from tests.billing.planned.test_arrangements import agree

DAY = TODAY + timedelta(days=5)


def move(diary: Diary) -> None:
    """From now on what was saved until now is kept by a gateway that the ISP has left."""
    diary.portal.execute("UPDATE payment_methods SET gateway = 'formerly'")


def doctor_says(diary: Diary) -> Finding:
    with diary.portal.app.app_context():
        found = {each.check: each for each in doctor.examine(diary.portal.settings)}
        db.session.remove()
    return found["payments"]


def test_method_is_shown_as_no_longer_usable_with_what_to_do(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    assert "No longer usable" not in diary.visit(alice, "methods/").text
    move(diary)
    for page in (diary.visit(alice, "methods/"), diary.visit(alice, f"methods/{method}")):
        assert "No longer usable" in page.text
        assert "takes payments through another company now" in page.text
    new = diary.save()
    page = diary.visit(alice, "methods/")
    assert [link.get("href").rsplit("/")[-1] for link in page.select(".rows a")] == [new, method]


def test_nothing_can_be_planned_or_paid_with_it(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    pages = [diary.visit(alice, each) for each in ("schedule", "autopay", "pay")]
    move(diary)
    values = {"choice": "other", "amount": "20", "method": method}
    assert alice.submit(pages[0], "/schedule", day=DAY.isoformat(), **values).status == 422
    assert alice.submit(pages[1], "/autopay", method=method, agreed="y").status == 422
    assert alice.submit(pages[2], "/pay", **values).status == 422
    assert diary.planned() == diary.mandates() == []
    assert diary.portal.one("SELECT count(*) FROM payments WHERE method_id IS NOT NULL") == 0


def test_autopay_ends_with_a_message_and_a_notice_and_takes_nothing(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.autopay(alice, method)
    move(diary)
    page = diary.visit(alice, "autopay")
    assert "No longer usable" in page.text
    assert page.select("main a[href$='/methods/']")
    diary.live(TODAY + timedelta(days=12))
    assert diary.mandates() == ["method_moved"]
    assert diary.planned("state, failure", "autopay") == [("cancelled", "method_moved")] * 2
    assert [each["reason"] for each in diary.told("autopay_off")] == ["method_moved"]
    assert diary.taken() == []
    assert "which does not know the card" in diary.visit(alice).text
    diary.compose_letters()
    diary.autopay(alice, diary.save())
    diary.live(TODAY + timedelta(days=24), TODAY + timedelta(days=12))
    assert diary.taken() == [MONTH_MINOR] * 2


def test_scheduled_payments_and_instalments_say_so(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.schedule(alice, method, DAY, amount="20")
    agree(diary, alice, 1, DAY, method=method)
    move(diary)
    diary.live(DAY)
    assert diary.planned("state, failure") == [("failed", "method_moved")]
    assert diary.planned("failure, try_at", "instalment") == [("method_moved", None)]
    assert [each["reason"] for each in diary.told("failed")] == ["method_moved"] * 2
    assert diary.taken() == []
    [public_id] = diary.planned("public_id")
    page = diary.visit(alice, f"planned/{public_id}")
    assert "takes payments through another company now" in page.text
    diary.compose_letters()


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_slip_in_the_configuration_ends_nothing_for_an_hour(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.autopay(alice, method)
    move(diary)
    with diary.portal.app.app_context():
        duty, start = foreseeing.Foreseeing(), clock.now()
        for minutes, ended in ((0, [""]), (59, [""]), (61, ["method_moved"])):
            with clock.set_to(start + timedelta(minutes=minutes)):
                duty()
            db.session.remove()
            assert diary.mandates() == ended


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_without_any_gateway_plans_wait_and_the_doctor_says_so(diary: Diary) -> None:
    alice, method = diary.portal.visitor("alice"), diary.save()
    diary.autopay(alice, method)
    diary.portal.app.extensions["payment_gateway"] = None
    with diary.on(DAY):
        diary.work()
        assert diary.mandates() == [""]
        assert "No longer usable" not in diary.visit(alice, "methods/").text
        said = doctor_says(diary)
    assert said.level is Level.WRONG
    assert "2 planned payments wait, and nothing is taken." in said.words


def test_payment_under_way_there_is_not_asked_of_another(diary: Diary) -> None:
    alice = diary.portal.visitor("alice")
    page = diary.visit(alice, "pay")
    assert alice.submit(page, "/pay", choice="other", amount="20").status == 303
    diary.portal.execute("UPDATE payments SET gateway = 'formerly' WHERE state = 'sent'")
    [(payment_id,)] = diary.portal.rows("SELECT id FROM payments WHERE gateway = 'formerly'")
    with clock.set_to(clock.now() + timedelta(days=30)):
        diary.work()
        with diary.portal.app.app_context():
            settling.settle(payment_id, diary.gateway)
            state = db.session.scalar(select(Payment.state).where(Payment.id == payment_id))
            db.session.remove()
        assert state == "sent"
        said = doctor_says(diary)
    assert said.level is Level.WRONG
    assert "1 payment is under way at formerly" in said.words


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_new_one_is_offered_first_and_the_old_one_leaves_no_title(diary: Diary) -> None:
    alice, old = diary.portal.visitor("alice"), diary.save()
    diary.portal.execute("UPDATE payment_methods SET is_default = true, expires_on = '2026-06-25'")
    move(diary)
    with diary.portal.app.app_context():
        assert expiring.tell_expiring() == 0
        db.session.remove()
    new = diary.save()
    diary.portal.execute(
        "UPDATE payment_methods SET state = 'adding' WHERE public_id = :id", id=new
    )
    with diary.portal.app.app_context():
        for public_id in (old, new):
            method_id = diary.portal.one(
                "SELECT id FROM payment_methods WHERE public_id = :id", id=public_id
            )
            methods.settle(method_id, diary.gateway)
        db.session.remove()
    rows = "SELECT is_default, state, title FROM payment_methods ORDER BY id"
    assert [row[:2] for row in diary.portal.rows(rows)] == [(False, "usable"), (True, "usable")]
    alice.submit(diary.visit(alice, f"methods/{old}/remove"), "/remove")
    assert diary.portal.rows(rows)[0] == (False, "removed", "")
