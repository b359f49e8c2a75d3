"""What staff see and do about telephone numbers."""

from __future__ import annotations

import pytest

from core.db import unit_of_work
from tests import crawl
from tests.conftest import Portal


@pytest.fixture
def phones(portal: Portal) -> Portal:
    with portal.app.app_context():
        unit_of_work(lambda session: crawl.add_phones(session, portal.world))
    return portal


def of_account(portal: Portal, name: str) -> str:
    return f"/staff/accounts/{portal.world.public_ids[name]}/phone"


@pytest.mark.parametrize("name", ["sue", "ben", "tess", "ada"])
def test_desk_lists_what_lags_and_why(phones: Portal, name: str) -> None:
    page = phones.visitor(name).get("/staff/phone")
    assert "no answer from 192.0.2.5" in page.text
    assert "Do not disturb 22:00–07:00 Set to on" in page.text
    assert len(page.select("main section form")) == (4 if name in ("tess", "ada") else 0)
    [missing] = page.select(f"main a[href='{of_account(phones, 'rich')}']")
    assert "Rich" in missing.text_content()
    purposes = phones.rows("SELECT DISTINCT purpose FROM data_accesses")
    assert purposes == [("phone",)]


def test_where_calls_go_is_read_by_whoever_sets_it(phones: Portal) -> None:
    alice = phones.visitor("alice")
    alice.submit(
        alice.get(phones.path("phone/")),
        "/alicephone",
        call_forwarding="y",
        forward_to="541 416 6117",
    )
    for path in ("/staff/phone", of_account(phones, "alice")):
        assert "+1 541-416-6117 · All calls" in phones.visitor("tess").get(path).text
        text = phones.visitor("ben").get(path).text
        assert "••• 117 · All calls" in text
        assert "416" not in text


def test_number_is_given_out_and_taken_back(phones: Portal) -> None:
    tess = phones.visitor("tess")
    path = of_account(phones, "rich")
    page = tess.submit(tess.get(path), "/phone", number="twelve")
    assert page.status == 422
    assert "no telephone number" in page.text
    page = tess.submit(tess.get(path), "/phone", number="541 555 0171")
    assert "in use already" in page.text
    done = tess.submit(tess.get(path), "/phone", number="541 555 0173")
    assert (done.status, done.location) == (303, f"{path}?done=given")
    page = tess.get(done.location)
    assert "+1 541-555-0173" in page.text
    assert phones.one("SELECT number FROM phone_numbers WHERE account_id = 3") == "+15415550173"
    done = tess.submit(page, "/take-back")
    assert "The account has no phone number" in tess.get(done.location).text


def test_number_is_had_from_today_or_since_the_day_that_is_typed(phones: Portal) -> None:
    tess = phones.visitor("tess")
    path = of_account(phones, "rich")
    wrong = tess.submit(tess.get(path), "/phone", number="541 555 0173", since="soon")
    assert wrong.status == 422
    page = tess.get(tess.submit(wrong, "/phone", since="").location)
    asked = "SELECT from_on FROM phone_numbers WHERE account_id = 3 ORDER BY id DESC LIMIT 1"
    assert f"{phones.one(asked)}" == "2026-06-20"
    tess.submit(page, "/take-back")
    tess.submit(tess.get(path), "/phone", number="541 555 0174", since="2026-06-02")
    assert f"{phones.one(asked)}" == "2026-06-02"


def test_desk_lists_a_number_that_is_over_until_the_switch_does_nothing_for_it(
    phones: Portal,
) -> None:
    tess = phones.visitor("tess")
    tess.submit(tess.get(of_account(phones, "alice")), "/take-back")
    page = tess.get("/staff/phone")
    assert "The number is over since Jun 20, 2026." in page.text
    assert "Voicemail Set to off" in page.text
    assert tess.submit(page, "/alicephone/done").status == 303
    assert "The number is over" not in tess.get("/staff/phone").text


def test_stale_page_gives_no_second_number(phones: Portal) -> None:
    ada = phones.visitor("ada")
    path = of_account(phones, "rich")
    old = ada.get(path)
    ada.submit(ada.get(path), "/phone", number="541 555 0173")
    assert "without a number" in ada.submit(old, "/phone", number="541 555 0174").text


def test_change_made_by_hand_is_marked_done(phones: Portal) -> None:
    tess = phones.visitor("tess")
    old = tess.get("/staff/phone")
    done = tess.submit(old, "/alicephone/done")
    assert done.location == "/staff/phone?done=confirmed"
    assert phones.one("SELECT pending_at FROM phone_numbers WHERE public_id = 'alicephone'") is None
    alice = phones.visitor("alice")
    alice.submit(alice.get(phones.path("phone/")), "/alicephone", caller_id="y")
    refused = tess.post("/staff/phone/alicephone/done", old.form("/alicephone/done")[1])
    assert refused.location == done.location  # the same press again
    action, values = tess.get("/staff/phone").form("/malloryphone/done")
    changed = tess.post(action, values | {"stamp": "0"})
    assert changed.status == 409
    assert "Something else is wanted meanwhile" in changed.text


def test_switch_is_tried_again_at_once(phones: Portal) -> None:
    tess = phones.visitor("tess")
    done = tess.submit(tess.get("/staff/phone"), "/alicephone/again")
    assert done.location == "/staff/phone?done=again"
    counts = phones.rows("SELECT sync_count FROM phone_numbers ORDER BY id")
    assert counts == [(0,), (2,)]


def test_phone_plan_is_accepted_with_its_number(phones: Portal) -> None:
    for table in ("call_records", "phone_numbers"):
        phones.execute(f"DELETE FROM {table}")
    phones.execute("UPDATE subscriptions SET ended_on = '2026-06-01' WHERE public_id = 'alicesub3'")
    phones.execute("UPDATE plans SET needs_staff = true WHERE kind = 'phone'")
    alice = phones.visitor("alice")
    preview = alice.get(phones.path("plans/add/VOICE-HOME"))
    assert alice.submit(preview, "/add/VOICE-HOME").status == 303
    wish = phones.one("SELECT public_id FROM plan_changes")
    ben = phones.visitor("ben")
    page = ben.get(f"/staff/plan-changes/{wish}")
    refused = ben.submit(page, "/accept", number="nothing")
    assert refused.status == 422
    assert "no telephone number" in refused.text
    assert ben.submit(refused, "/accept", number="541 555 0199").status == 303
    rows = phones.rows("SELECT account_id, number FROM phone_numbers")
    assert rows == [(phones.world.accounts["alice"], "+15415550199")]
