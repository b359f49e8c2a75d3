"""Another price for a plan: planned, told, withdrawn, and on its day."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from blueprints.billing import drafting
from blueprints.dashboard.plans import changing, quoting
from blueprints.dashboard.plans.quoting import When, Wish
from blueprints.staff import catalog
from blueprints.staff.errors import CatalogInvalid
from blueprints.staff.prices import telling
from core import clock, doctor, isp, postman
from core.db import db, unit_of_work
from core.findings import Level
from models import Message, PlanChange
from tests import world
from tests.conftest import Portal, together
from tests.dashboard.plans.shop import FIBER, Shop, at
from tests.page import Page, Visitor

PAGE = "/staff/prices/FIBER-300"
AUGUST_11 = "2026-08-11"


@pytest.fixture
def shop(portal: Portal) -> Shop:
    return Shop(portal)


def plan(
    visitor: Visitor,
    price: str = "75.00",
    from_on: str = AUGUST_11,
    existing: str = "day",
    page: str = PAGE,
) -> Page:
    return visitor.submit(visitor.get(page), page, price=price, from_on=from_on, existing=existing)


def work(portal: Portal) -> int:
    with portal.app.app_context():
        isp.forget()
        done = telling.go_on_due()
        db.session.remove()
    return done


def price_today(portal: Portal) -> str:
    """What staff read as the price of Fiber 300."""
    [price, *_more] = portal.visitor("ben").get(PAGE).select("dl.facts dd")
    return str(price.text_content())


def letters(portal: Portal) -> list[dict[str, Any]]:
    return [
        json.loads(facts) if isinstance(facts, str) else facts
        for (facts,) in portal.rows(
            "SELECT facts FROM messages WHERE kind = 'price_change' AND channel = 'email'"
            " ORDER BY id"
        )
    ]


def bill(portal: Portal, day: date, name: str = "alice") -> list[tuple[str, int]]:
    """The lines of the account's next bill, made on `day`."""
    with portal.app.app_context():
        isp.forget()
        [invoice_id] = world.issue_month(portal.world, (name,), day)
    return [
        (description, amount)
        for description, amount in portal.rows(
            "SELECT description, amount_minor FROM invoice_lines WHERE invoice_id = :id"
            " ORDER BY position",
            id=invoice_id,
        )
    ]


def fiber(lines: list[tuple[str, int]]) -> list[int]:
    return [amount for name, amount in lines if name == "Fiber 300"]


# It works ----------------------------------------------------------------------------------------


def test_price_is_planned_told_in_time_and_counts_on_its_day(shop: Shop) -> None:
    portal = shop.portal
    ben = portal.visitor("ben")
    assert "$65.00" in ben.get("/staff/prices/").text
    answer = plan(ben)
    assert answer.status == 303, answer.text
    shown = ben.get(answer.location)
    assert "The price is planned." in shown.text
    assert "$65.00 → $75.00" in shown.text
    assert "is told on" in shown.text
    assert not shown.select("form[action$='FIBER-300']")
    assert work(portal) == 0
    with at(2026, 7, 11):
        assert work(portal) == 1
        assert work(portal) == 0
    told = letters(portal)
    assert {each["plan"] for each in told} == {"Fiber 300"}
    assert told[0] | {"account": "", "account_number": ""} == {
        "account": "", "account_number": "", "plan": "Fiber 300", "from_on": AUGUST_11,
        "was": "$65.00", "price": "$75.00", "is_bound": False, "is_off": False,
    }  # fmt: skip
    subscribers = portal.one("SELECT count(*) FROM subscriptions WHERE plan_id = 1")
    assert portal.rows("SELECT told_count, unreached_count FROM price_changes") == [
        (subscribers, 0)
    ]
    assert "Aug 11, 2026" in shop.preview(portal.visitor("alice"), "").text
    with at(2026, 8, 10):
        assert work(portal) == 0
        assert "$75.00" not in price_today(portal)
    with at(2026, 8, 11):
        assert "$75.00" in price_today(portal)  # also before the worker comes
        assert work(portal) == 1
        assert work(portal) == 0
    assert portal.rows("SELECT price_minor FROM plans WHERE id = 1") == [(7500,)]
    assert portal.rows("SELECT state, due_at FROM price_changes") == [("done", None)]


def test_bill_that_the_day_lies_in_has_both_prices_and_those_before_stay(shop: Shop) -> None:
    portal = shop.portal
    plan(portal.visitor("ben"))
    with at(2026, 7, 1):
        assert fiber(bill(portal, date(2026, 7, 1))) == [6500]
    with at(2026, 8, 1):
        # 10 of 31 days at 65.00, 21 at 75.00.
        assert fiber(bill(portal, date(2026, 8, 1))) == [2097, 5081]
    with at(2026, 9, 1):
        assert fiber(bill(portal, date(2026, 9, 1))) == [7500]


def test_who_keeps_the_price_is_told_nothing_and_who_begins_pays_the_new_one(shop: Shop) -> None:
    portal = shop.portal
    page = "/staff/prices/FIBER-1000"
    assert plan(portal.visitor("ben"), "99.00", "2026-06-25", "keep", page).status == 303
    with at(2026, 6, 24):
        shop.change(portal.visitor("alice"), f"{FIBER}/change/FIBER-1000?when=now")
    with at(2026, 6, 25):
        assert work(portal) == 1
        wish = Wish(portal.world.accounts["rich"], "richsub1", "FIBER-1000", When.NOW)
        with portal.app.app_context():
            isp.forget()
            assert quoting.quote(db.session(), wish).price_minor == 9900
    with at(2026, 7, 1):
        assert ("Fiber Gig", 8500) in bill(portal, date(2026, 7, 1))
    assert letters(portal) == []


def test_preview_of_a_plan_shows_the_price_that_is_to_follow(shop: Shop) -> None:
    portal = shop.portal
    page = "/staff/prices/FIBER-100"
    plan(portal.visitor("ben"), "59.00", "2026-07-21", "day", page)
    alice = portal.visitor("alice")
    preview = shop.preview(alice, f"{FIBER}/change/FIBER-100")
    assert "From Jul 21, 2026 on, before taxes" in preview.text
    assert "$59.00" in preview.text
    shop.change(alice, f"{FIBER}/change/FIBER-100")
    shown = portal.one("SELECT quote FROM plan_changes")
    agreed = json.loads(shown) if isinstance(shown, str) else shown
    assert agreed["later"] == [["2026-07-21", 5900]]
    with at(2026, 7, 1):
        assert bill(portal, date(2026, 7, 1)) == [tuple(line) for line in agreed["lines"]]


def test_raise_waits_for_the_end_of_a_contract(shop: Shop) -> None:
    portal = shop.portal
    portal.execute(
        "UPDATE subscriptions SET bound_until_on = '2026-09-01'"
        " WHERE plan_id = 1 AND public_id = 'alicesub1'"
    )
    plan(portal.visitor("ben"))
    with at(2026, 7, 11):
        work(portal)
    [of_alice] = [each for each in letters(portal) if each["is_bound"]]
    assert of_alice["from_on"] == "2026-09-01"
    with at(2026, 7, 1):
        bill(portal, date(2026, 7, 1))
    with at(2026, 8, 1):
        assert fiber(bill(portal, date(2026, 8, 1))) == [6500]
    with at(2026, 9, 1):
        assert fiber(bill(portal, date(2026, 9, 1))) == [7500]


# Withdrawing -------------------------------------------------------------------------------------


def withdraw(portal: Portal, visitor: Visitor) -> Page:
    public_id = portal.one("SELECT public_id FROM price_changes ORDER BY id DESC LIMIT 1")
    path = f"{PAGE}/withdraw/{public_id}"
    return visitor.submit(visitor.get(path), path)


@pytest.mark.parametrize("leaves", ["changes", "cancels"])
def test_withdrawn_raise_is_given_back_to_who_leaves_on_the_bill_day(
    shop: Shop, leaves: str
) -> None:
    portal = shop.portal
    plan(portal.visitor("ben"))
    with at(2026, 7, 1):
        bill(portal, date(2026, 7, 1))
    with at(2026, 8, 1):
        assert fiber(bill(portal, date(2026, 8, 1))) == [2097, 5081]
    with at(2026, 8, 3):
        alice = portal.visitor("alice")
        if leaves == "changes":
            shop.change(alice, f"{FIBER}/change/FIBER-100?when=next")
        else:
            alice.submit(shop.preview(alice, "end?on=2026-09-01"), "/end")
        withdraw(portal, portal.visitor("ben"))
    with at(2026, 9, 1):
        # Of who has nothing more it is a credit note.
        given_back = -678 if leaves == "changes" else 678
        assert fiber(bill(portal, date(2026, 9, 1))) == [given_back]
    rows = "SELECT billed_prices IS NULL FROM subscriptions WHERE public_id = 'alicesub1'"
    assert not portal.one(rows)
    if leaves == "changes":
        for month in (10, 11, 12):
            with at(2026, month, 1):
                assert fiber(bill(portal, date(2026, month, 1))) == []
        assert portal.one(rows)  # nothing of it changes any more


def test_lower_price_counts_for_who_leaves_on_the_bill_day(shop: Shop) -> None:
    portal = shop.portal
    portal.execute(
        "UPDATE isp SET billing_rules = :rules, revision = revision + 1",
        rules='{"prices": {"notice_days": 1}}',
    )
    with at(2026, 7, 1):
        bill(portal, date(2026, 7, 1))
    with at(2026, 7, 2):
        plan(portal.visitor("ben"), "45.00", "2026-07-11")
    with at(2026, 7, 3):
        shop.change(portal.visitor("alice"), f"{FIBER}/change/FIBER-100?when=next")
    with at(2026, 8, 1):
        # 21 of July's 31 days at 20.00 less.
        assert fiber(bill(portal, date(2026, 8, 1))) == [-1355]


def test_withdrawn_raise_is_given_back_of_all_that_was_billed_ahead(shop: Shop) -> None:
    portal = shop.portal
    plan(portal.visitor("ben"))
    with at(2026, 7, 1):
        bill(portal, date(2026, 7, 1))
    with at(2026, 8, 1):
        assert fiber(bill(portal, date(2026, 8, 1))) == [2097, 5081]
    with at(2026, 8, 5):
        assert fiber(bill(portal, date(2026, 9, 1))) == [7500]
    with at(2026, 8, 9):
        withdraw(portal, portal.visitor("ben"))
    with at(2026, 10, 1):
        assert fiber(bill(portal, date(2026, 10, 1))) == [6500, -678, -1000]
    with at(2026, 11, 1):
        assert fiber(bill(portal, date(2026, 11, 1))) == [6500]


def test_withdrawn_before_anybody_was_told_nobody_hears_of_it(shop: Shop) -> None:
    portal = shop.portal
    ben = portal.visitor("ben")
    plan(ben)
    answer = withdraw(portal, ben)
    assert answer.status == 303
    assert "It is withdrawn" in ben.get(answer.location).text
    with at(2026, 8, 11):
        assert work(portal) == 0
    assert letters(portal) == []
    assert portal.rows("SELECT price_minor, price_steps FROM plans WHERE id = 1") == [(6500, None)]
    assert plan(ben).status == 303


def test_withdrawn_after_they_were_told_they_hear_that_and_get_back_what_was_billed(
    shop: Shop,
) -> None:
    portal = shop.portal
    plan(portal.visitor("ben"))
    with at(2026, 7, 11):
        work(portal)
    told = len(letters(portal))
    with at(2026, 7, 1):
        bill(portal, date(2026, 7, 1))
    with at(2026, 8, 1):
        assert fiber(bill(portal, date(2026, 8, 1))) == [2097, 5081]
    with at(2026, 8, 10):
        again = portal.visitor("ben")
        assert withdraw(portal, again).status == 303
        assert work(portal) == 1
        assert work(portal) == 0
    off = letters(portal)[told:]
    assert len(off) == told
    assert {each["is_off"] for each in off} == {True}
    with at(2026, 9, 1):
        assert sum(fiber(bill(portal, date(2026, 9, 1)))) == 6500 - (2097 + 5081 - 6500)


def test_it_cannot_be_withdrawn_on_its_day(shop: Shop) -> None:
    portal = shop.portal
    plan(portal.visitor("ben"), existing="keep", from_on="2026-06-21")
    path = f"{PAGE}/withdraw/{portal.one('SELECT public_id FROM price_changes')}"
    midnight = datetime(2026, 6, 21, 7, tzinfo=UTC)
    with clock.set_to(midnight - timedelta(minutes=5)):
        ben = portal.visitor("ben")
        page = ben.get(path)
    with clock.set_to(midnight):
        assert ben.submit(page, path).status == 409
        assert not ben.get(path).select("form[action*='withdraw']")


# What is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "from_on", "existing", "words"),
    [
        ("75.00", "2026-07-01", "day", "Choose a day from Jul 20, 2026"),
        ("75.00", "2026-06-20", "keep", "Choose a day from Jun 21, 2026"),
        ("75.00", "2030-01-01", "keep", "Choose a day from"),
        ("75.00", "", "day", "Choose a day."),
        ("75.00", "soon", "day", "Enter the day like"),
        ("65.00", AUGUST_11, "day", "That is what it costs already."),
        ("much", AUGUST_11, "day", "Enter the amount like"),
        ("75.00", AUGUST_11, "", "Choose what it means"),
        ("75.00", AUGUST_11, "both", "Not a valid choice"),
    ],
)
def test_what_cannot_be_planned_is_said_at_its_field(
    shop: Shop, price: str, from_on: str, existing: str, words: str
) -> None:
    answer = plan(shop.portal.visitor("ben"), price, from_on, existing)
    assert answer.status == 422
    assert words in answer.text
    assert shop.portal.one("SELECT count(*) FROM price_changes") == 0


def test_notice_is_what_the_catalog_says(shop: Shop) -> None:
    shop.portal.execute(
        'UPDATE isp SET billing_rules = \'{"prices": {"notice_days": 60}}\','
        " revision = revision + 1"
    )
    assert "Choose a day from Aug 19, 2026" in plan(shop.portal.visitor("ben")).text


def test_one_price_at_a_time_also_when_two_plan_at_once(shop: Shop) -> None:
    portal = shop.portal
    ben, ada = portal.visitor("ben"), portal.visitor("ada")
    pages = [(ben, ben.get(PAGE)), (ada, ada.get(PAGE))]

    def press(number: int) -> int:
        visitor, page = pages[number]
        return visitor.submit(page, PAGE, price="75.00", from_on=AUGUST_11, existing="day").status

    assert sorted(map(str, together(2, press))) == ["303", "422"]
    assert portal.one("SELECT count(*) FROM price_changes") == 1


def test_form_sent_twice_plans_once_and_asks_for_the_password_later(shop: Shop, tick: Any) -> None:
    portal = shop.portal
    ben = portal.visitor("ben")
    page = ben.get(PAGE)
    values = {"price": "75.00", "from_on": AUGUST_11, "existing": "day"}
    first = ben.submit(page, PAGE, **values)
    assert ben.submit(page, PAGE, **values).location == first.location
    assert portal.one("SELECT count(*) FROM price_changes") == 1
    tick(minutes=11)
    late = ben.submit(ben.get("/staff/prices/TV-BASIC"), "TV-BASIC", **values)
    assert "/confirm" in late.location
    assert portal.one("SELECT count(*) FROM price_changes") == 1


def test_support_sees_no_prices(shop: Shop) -> None:
    sue = shop.portal.visitor("sue")
    assert sue.get(PAGE).status in (403, 404)
    assert shop.portal.visitor("ben").get("/staff/prices/NONE").status == 404


# The worker --------------------------------------------------------------------------------------


def test_worker_that_is_killed_among_many_goes_on_and_tells_nobody_twice(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal = shop.portal
    plan(portal.visitor("ben"))
    monkeypatch.setattr(telling, "BATCH", 1)
    queue, calls = telling._queue, []

    def dies(*arguments: Any, **more: Any) -> Any:
        result = queue(*arguments, **more)
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("killed")
        return result

    monkeypatch.setattr(telling, "_queue", dies)
    with at(2026, 7, 11, 10):
        work(portal)
    subscribers = portal.one("SELECT count(*) FROM subscriptions WHERE plan_id = 1")
    assert 0 < len(letters(portal)) < subscribers
    with at(2026, 7, 11, 12):
        work(portal)
    told = [each["account_number"] for each in letters(portal)]
    assert len(told) == len(set(told)) == subscribers


def test_worker_that_was_down_on_the_day_for_telling_is_warned_of(shop: Shop) -> None:
    portal = shop.portal
    ben = portal.visitor("ben")
    plan(ben)

    def prices_are_wrong() -> bool:
        with portal.app.app_context():
            [found] = [each for each in doctor.examine(portal.settings) if each.check == "prices"]
        return found.level is Level.WRONG and "FIBER-300" in found.words

    words = "Not everybody who follows was told in time"
    with at(2026, 7, 11):
        assert not prices_are_wrong()
        assert words not in portal.visitor("ben").get(PAGE).text
    with at(2026, 7, 12):
        assert prices_are_wrong()
        assert words in portal.visitor("ben").get(PAGE).text
        work(portal)
        assert not prices_are_wrong()


def test_raise_that_was_not_told_in_time_counts_later(shop: Shop) -> None:
    portal = shop.portal
    plan(portal.visitor("ben"))
    with at(2026, 7, 1):
        bill(portal, date(2026, 7, 1))
    with at(2026, 8, 1):
        assert fiber(bill(portal, date(2026, 8, 1))) == [2097, 5081]
    with at(2026, 8, 20):
        work(portal)
        assert {each["from_on"] for each in letters(portal)} == {"2026-09-19"}
        assert "$65.00" in price_today(portal)
    with at(2026, 9, 1):
        # 18 of 30 days at 65.00, 12 at 75.00; what August's bill had more comes back.
        assert fiber(bill(portal, date(2026, 9, 1))) == [3900, 3000, -678]
    with at(2026, 9, 19):
        work(portal)
        assert "$75.00" in price_today(portal)
    with at(2026, 10, 1):
        assert fiber(bill(portal, date(2026, 10, 1))) == [7500]


def test_two_workers_tell_once(shop: Shop) -> None:
    portal = shop.portal
    plan(portal.visitor("ben"))
    [(change_id,)] = portal.rows("SELECT id FROM price_changes")

    def go_on(_number: int) -> None:
        with portal.app.app_context(), at(2026, 7, 11):
            isp.forget()
            telling._go_on(change_id)
            db.session.remove()

    together(3, go_on)
    told = [each["account_number"] for each in letters(portal)]
    assert len(told) == len(set(told)) > 0


def test_who_said_no_to_news_is_told_a_price_and_who_has_no_address_is_counted(
    shop: Shop,
) -> None:
    portal = shop.portal
    for channel in ("email", "text"):
        portal.execute(
            "INSERT INTO message_choices (customer_id, topic, channel, is_on)"
            f" VALUES (:id, 'service', '{channel}', :no)",
            id=portal.world.customers["alice"],
            no=False,
        )
    portal.execute(
        "UPDATE contacts SET ended_on = '2026-01-01' WHERE account_id = :id",
        id=portal.world.accounts["mallory"],
    )
    portal.execute(
        "UPDATE customers SET email_key = NULL WHERE id = :id",
        id=portal.world.customers["mallory"],
    )
    plan(portal.visitor("ben"))
    with at(2026, 7, 11):
        work(portal)
    accounts = {each["account"] for each in letters(portal)}
    assert "aliceaccount00" in accounts
    assert "malloryaccount00" not in accounts
    assert portal.one("SELECT unreached_count FROM price_changes") == 1


@pytest.mark.parametrize("language", ["en", "es", "fr"])
@pytest.mark.parametrize("channel", ["email", "text"])
@pytest.mark.parametrize("is_off", [False, True])
def test_message_says_old_and_new_price_the_day_and_what_can_be_done(
    shop: Shop, language: str, channel: str, is_off: bool
) -> None:
    facts = {
        "account": "aliceaccount00", "account_number": "1001", "plan": "Fiber 300",
        "from_on": AUGUST_11, "was": "$65.00", "price": "$75.00", "is_bound": True,
        "is_off": is_off,
    }  # fmt: skip
    message = Message(
        public_id="m", channel=channel, kind="price_change", recipient="alice@example.net",
        language=language, facts=facts,
    )  # fmt: skip
    with shop.portal.app.app_context():
        made = postman.compose(message, "https://my.example")
    text = made.text
    assert "$65.00" in text
    assert ("$75.00" in text) is not is_off
    assert "https://my.example/a/aliceaccount00/plans/" in text


# The file and the page ---------------------------------------------------------------------------


def test_file_sets_a_price_until_a_bill_was_made_with_it_and_not_beside_the_page(
    shop: Shop, tmp_path: Any
) -> None:
    portal = shop.portal
    text = (
        '[isp]\nname = "Pinecrest Broadband"\ncurrency = "USD"\n'
        'timezone = "America/Los_Angeles"\nlanguages = ["en", "es", "fr"]\n'
        '[[plans]]\ncode = "FIBER-100"\nkind = "internet"\nname = "Fiber 100"\n'
        "price_minor = PRICE\ndown_kbps = 100000\nup_kbps = 100000\n"
    )

    def load(price: int) -> None:
        path = tmp_path / "catalog.toml"
        path.write_text(text.replace("PRICE", str(price)))
        with portal.app.app_context():
            catalog.load(path)

    load(5100)
    ben = portal.visitor("ben")
    page = "/staff/prices/FIBER-100"
    assert plan(ben, "59.00", AUGUST_11, "keep", page).status == 303
    with pytest.raises(CatalogInvalid, match="must stay 5100: it is 5900 from 2026-08-11"):
        load(4900)
    load(5100)
    assert portal.one("SELECT count(*) FROM plans WHERE price_steps IS NOT NULL") == 1
    with at(2026, 8, 11):
        work(portal)
        with pytest.raises(CatalogInvalid, match="must stay 5900"):
            load(5100)
        load(5900)


@pytest.mark.parametrize("ended_on", [None, "2026-08-20"])
def test_file_does_not_change_a_price_that_is_billed(
    shop: Shop, tmp_path: Any, ended_on: str | None
) -> None:
    portal = shop.portal
    portal.execute(
        "UPDATE subscriptions SET billed_price_minor = 6500, ended_on = :ended_on"
        " WHERE plan_id = 1",
        ended_on=ended_on,
    )
    path = tmp_path / "catalog.toml"
    path.write_text(
        '[isp]\nname = "Pinecrest Broadband"\ncurrency = "USD"\n'
        'timezone = "America/Los_Angeles"\nlanguages = ["en"]\n'
        '[[plans]]\ncode = "FIBER-300"\nkind = "internet"\nname = "Fiber 300"\n'
        "price_minor = 7500\ndown_kbps = 1\nup_kbps = 1\n"
    )
    with (
        portal.app.app_context(),
        pytest.raises(CatalogInvalid, match="must stay 6500: bills have been made"),
    ):
        catalog.load(path)


@pytest.mark.parametrize(
    ("day", "told", "paid"), [(date(2026, 7, 12), True, 7500), (date(2026, 7, 20), False, 6500)]
)
def test_who_stays_after_all_is_told_the_price_or_keeps_theirs(
    shop: Shop, day: date, told: bool, paid: int
) -> None:
    portal = shop.portal
    plan(portal.visitor("ben"))
    with at(2026, 7, 1):
        bill(portal, date(2026, 7, 1))
    with at(2026, 7, 5):
        path = shop.press(portal.visitor("alice"), f"{FIBER}/change/FIBER-100?when=next").location
    with at(2026, 7, 11):
        work(portal)
    assert "1001" not in [each["account_number"] for each in letters(portal)]
    with at(day.year, day.month, day.day):
        alice = portal.visitor("alice")
        assert alice.submit(alice.get(path), "/undo").status == 303
        work(portal)
    of_alice = [each for each in letters(portal) if each["account_number"] == "1001"]
    assert [each["from_on"] for each in of_alice] == ([AUGUST_11] if told else [])
    for month in (8, 9):
        with at(2026, month, 1):
            lines = fiber(bill(portal, date(2026, month, 1)))
    assert lines == [paid]


# Property ----------------------------------------------------------------------------------------


def test_preview_is_the_bill_whatever_prices_are_planned(shop: Shop) -> None:
    """Every plan gets another price on some day; each preview of a change equals the bill."""
    portal = shop.portal
    ben = portal.visitor("ben")
    for place, (code, existing) in enumerate(
        [("FIBER-300", "day"), ("FIBER-100", "bill_day"), ("FIBER-500", "day"),
         ("FIBER-1000", "day"), ("TV-BASIC", "day"), ("VOICE-HOME", "keep")]
    ):  # fmt: skip
        page = f"/staff/prices/{code}"
        assert plan(ben, f"{30 + place}.37", f"2026-07-{20 + place}", existing, page).status == 303
    wishes = [(FIBER, code) for code in ("FIBER-100", "FIBER-500", "FIBER-1000")]
    account_id = portal.world.accounts["alice"]
    with at(2026, 7, 1):
        bill(portal, date(2026, 7, 1))
    for day in (date(2026, 7, 5), date(2026, 7, 19), date(2026, 7, 28)):
        for subscription, code in wishes:
            for when in When:
                with clock.set_to(datetime(day.year, day.month, day.day, 19, tzinfo=UTC)):
                    _check(portal, Wish(account_id, subscription, code, when))


class Undone(Exception):
    """Ends the unit of work that has seen what it wanted."""


def _check(portal: Portal, wish: Wish) -> None:
    with portal.app.app_context():
        isp.forget()
        isp.current_isp()

        def work(session: Any) -> None:
            quote = quoting.quote(session, wish)
            made = PlanChange(
                public_id="x", account_id=wish.account_id, customer_id=None,
                from_id=quote.old.subscription_id if quote.old else None,
                to_plan_id=quote.new.id if quote.new else None, is_end=False, ended=[],
                effective_on=quote.effective_on, state="planned", quote=quote.facts(),
                charges=[], answer="", created_at=clock.now(),
            )  # fmt: skip
            session.add(made)
            session.flush()
            changing._make(session, made, quote)
            session.flush()
            [draft] = drafting.draft_next(session, [wish.account_id], quote.bill_on, 14)
            lines = [(line.description, line.amount_minor) for line in draft.lines]
            assert lines == [(row.description, row.amount.amount_minor) for row in quote.rows]
            raise Undone

        with pytest.raises(Undone):
            unit_of_work(work, wish.account_id)


def test_what_is_paid_while_paused_costs_what_it_costs_on_the_day(shop: Shop) -> None:
    portal = shop.portal
    shop.offer_pauses()
    page = "/staff/prices/REST"
    answer = plan(portal.visitor("ben"), "9.00", "2026-07-21", "day", page)
    assert answer.status == 303, answer.text
    alice = portal.visitor("alice")
    rest = "pause?from_on=2026-08-01&until_on=2026-09-01"
    assert "$9.00" in shop.preview(alice, rest).text
    assert shop.press(alice, rest).status == 303
    for month in (7, 8):
        with at(2026, month, 1):
            lines = bill(portal, date(2026, month, 1))
    assert 900 in [amount for _name, amount in lines]
