"""What can be chosen for a number, and what is refused."""

from __future__ import annotations

from datetime import date

import pytest
from sqlalchemy.orm import Session

from blueprints.lines.phone import numbers
from blueprints.lines.phone.errors import (
    ForwardingRefused,
    ForwardsAbroad,
    ForwardsBack,
    ForwardsDear,
    ForwardsToItself,
    NoPhonePlan,
    NumberNotFound,
    NumberTaken,
    NumberUnfit,
    NumberUnreadable,
)
from core.db import unit_of_work
from gateways.voice.base import Feature, ForwardWhen, NumberSettings
from models import PhoneNumber, Subscription
from tests.lines.phone.conftest import ALICE, Exchange

FORWARDING, QUIET = Feature.CALL_FORWARDING, Feature.DO_NOT_DISTURB
BLOCK = Feature.INTERNATIONAL_BLOCK
TODAY = date(2026, 6, 20)


def test_choice_is_wanted_and_waits_for_the_switch(exchange: Exchange) -> None:
    assert (
        exchange.choose(FORWARDING, forward_to="(541) 416-6117", forward_when=ForwardWhen.BUSY)
        == "/done"
    )
    number = exchange.number()
    assert exchange.wanted().forward_to == "+15414166117"
    assert number.pending_at == number.sync_at is not None
    kinds = exchange.portal.rows("SELECT kind FROM activity ORDER BY id DESC LIMIT 1")
    assert kinds == [("phone_changed",)]


def test_same_choice_again_changes_nothing(exchange: Exchange) -> None:
    exchange.choose(Feature.VOICEMAIL, QUIET, quiet_from="22:00", quiet_until="07:00")
    assert exchange.number().sync_at is None


def test_number_to_forward_to_is_kept_while_forwarding_is_off(exchange: Exchange) -> None:
    exchange.choose(forward_to="+1 541 416 6117")
    assert exchange.wanted() == NumberSettings(forward_to="+15414166117")
    exchange.choose(forward_to="")
    assert exchange.wanted() == NumberSettings()


@pytest.mark.parametrize(
    ("to", "more", "refusal"),
    [
        ("", (), NumberUnreadable),
        ("541 416", (), NumberUnreadable),
        ("911", (), NumberUnreadable),
        ("maria", (), NumberUnreadable),
        (ALICE, (), ForwardsToItself),
        ("541-555-0171", (), ForwardsToItself),
        ("+1 900 253 0000", (), ForwardsDear),
        ("+44 20 7946 0958", (BLOCK,), ForwardsAbroad),
        ("+1 876 322 2000", (BLOCK,), ForwardsAbroad),
    ],
)
def test_calls_go_to_no_number_that_harms(
    exchange: Exchange, to: str, more: tuple[Feature, ...], refusal: type[ForwardingRefused]
) -> None:
    before = exchange.wanted()
    with pytest.raises(refusal) as raised:
        exchange.choose(FORWARDING, *more, forward_to=to)
    assert raised.value.customer_message
    assert exchange.wanted() == before
    assert exchange.number().sync_at is None


def test_calls_abroad_go_where_they_are_not_blocked(exchange: Exchange) -> None:
    exchange.choose(FORWARDING, forward_to="+44 20 7946 0958")
    assert exchange.wanted().forward_to == "+442079460958"
    with pytest.raises(ForwardsAbroad):
        exchange.choose(FORWARDING, BLOCK, forward_to="+44 20 7946 0958")


def test_calls_do_not_go_round_between_two_numbers_of_an_account(exchange: Exchange) -> None:
    exchange.portal.execute(
        "UPDATE phone_numbers SET account_id = :id WHERE public_id = 'malloryphone'",
        id=exchange.portal.world.accounts["alice"],
    )
    exchange.choose(FORWARDING, forward_to="+15415550172")
    with pytest.raises(ForwardsBack):
        exchange.choose(FORWARDING, forward_to=ALICE, name="mallory", of="alice")


def test_other_accounts_do_not_tell_where_they_forward(exchange: Exchange) -> None:
    exchange.choose(FORWARDING, forward_to=ALICE, name="mallory")
    exchange.choose(FORWARDING, forward_to="+15415550172")
    assert exchange.wanted().forward_to == "+15415550172"


def test_what_the_plan_does_not_include_stays_as_it_is(exchange: Exchange) -> None:
    exchange.portal.execute("""UPDATE plans SET features = '["voicemail"]' WHERE kind = 'phone'""")
    exchange.choose(FORWARDING, forward_to="+1 541 416 6117")
    assert exchange.wanted() == NumberSettings(
        frozenset({QUIET}), quiet_from="22:00", quiet_until="07:00"
    )
    exchange.sync()
    assert exchange.reached() == NumberSettings()


def test_number_of_another_account_or_of_a_plan_that_is_over_is_not_found(
    exchange: Exchange,
) -> None:
    with pytest.raises(NumberNotFound):
        exchange.choose(Feature.VOICEMAIL, name="mallory", of="alice")
    exchange.portal.execute("UPDATE subscriptions SET ended_on = '2026-06-20' WHERE plan_id = 3")
    with pytest.raises(NumberNotFound):
        exchange.choose(Feature.VOICEMAIL)


# Giving out ------------------------------------------------------------------------------------


def give(exchange: Exchange, name: str, number: str, on: str = "") -> PhoneNumber:
    account_id = exchange.portal.world.accounts[name]
    return unit_of_work(
        lambda session: numbers.give(session, account_id, None, number, on),
        account_id,
    )


def test_number_is_given_to_the_plan_that_waits_for_one(exchange: Exchange) -> None:
    given = give(exchange, "rich", "+15415550173", "voicemail")
    assert NumberSettings.of(given.wanted) == NumberSettings(frozenset({Feature.VOICEMAIL}))
    assert (given.pending_at, given.sync_count) == (None, 0)
    exchange.sync()
    assert exchange.switch.read_number("+15415550173") == NumberSettings.of(given.wanted)


def test_number_in_use_and_a_second_one_are_refused(exchange: Exchange) -> None:
    with pytest.raises(NumberTaken):
        give(exchange, "rich", ALICE)
    with pytest.raises(NoPhonePlan):
        give(exchange, "alice", "+15415550173")
    with pytest.raises(NumberUnfit):
        numbers.read("12")


def test_number_of_a_plan_that_is_over_can_be_given_anew(exchange: Exchange) -> None:
    exchange.portal.execute(
        "UPDATE subscriptions SET ended_on = '2026-06-10' WHERE public_id = 'alicesub3'"
    )
    given = give(exchange, "rich", ALICE)
    assert f"{given.from_on}" == "2026-06-10"
    assert f"{exchange.number().ended_on}" == "2026-06-10"


def test_number_that_was_taken_back_is_told_to_the_switch_no_more(exchange: Exchange) -> None:
    exchange.choose(Feature.CALLER_ID)
    account_id = exchange.portal.world.accounts["alice"]
    unit_of_work(lambda session: numbers.take_back(session, account_id, "alicephone"), account_id)
    assert exchange.sync() == 0
    assert exchange.number().ended_on is not None
    assert give(exchange, "rich", ALICE).number == ALICE


def test_number_follows_a_change_of_plan(exchange: Exchange) -> None:
    exchange.choose(Feature.VOICEMAIL, FORWARDING, forward_to="+15414166117")
    exchange.sync()
    portal = exchange.portal
    portal.execute(
        "INSERT INTO plans (code, kind, name, is_offered, technology, price_minor, setup_minor,"
        " changes_to, requires, channels, streaming, features)"
        """ VALUES ('VOICE-MINI', 'phone', 'Mini', true, '', 900, 0, '[]', '[]', '[]', '[]',"""
        """ '["voicemail"]')"""
    )

    def change(session: Session) -> None:
        mini = Subscription(
            public_id="alicemini",
            account_id=portal.world.accounts["alice"],
            plan_id=portal.one("SELECT id FROM plans WHERE code = 'VOICE-MINI'"),
            started_on=TODAY,
        )
        session.add(mini)
        session.flush()
        old = session.query(Subscription).filter_by(public_id="alicesub3").one()
        old.ended_on = TODAY
        numbers.follow(session, old.id, mini.id)

    unit_of_work(change, portal.world.accounts["alice"])
    assert exchange.number().pending_at is not None
    exchange.sync()
    assert exchange.reached() == NumberSettings(frozenset({Feature.VOICEMAIL}))
    assert exchange.wanted().forward_to == "+15414166117"
    assert exchange.wanted().forward_when is ForwardWhen.ALWAYS
