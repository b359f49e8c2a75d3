"""What can be chosen for a number, and what is refused."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from sqlalchemy.orm import Session

from blueprints.billing.dunning import closing
from blueprints.dashboard.plans import changing
from blueprints.lines.phone import choosing, numbers
from blueprints.lines.phone.errors import (
    ChosenMeanwhile,
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
from core import clock
from core.db import db, unit_of_work
from gateways.voice.base import Feature, ForwardWhen, NumberSettings
from gateways.voice.errors import GatewayTimeout
from models import PhoneNumber, PlanChange, Subscription
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


def test_block_that_the_plan_no_longer_includes_blocks_nothing(exchange: Exchange) -> None:
    exchange.choose(BLOCK)
    exchange.portal.execute("""UPDATE plans SET features = '["call_forwarding"]'""")
    exchange.choose(FORWARDING, forward_to="+44 20 7946 0958")
    assert exchange.wanted().forward_to == "+442079460958"


def test_page_that_showed_something_else_changes_nothing(exchange: Exchange) -> None:
    with pytest.raises(ChosenMeanwhile) as raised:
        exchange.choose(BLOCK, stamp="old")
    assert raised.value.customer_message
    assert BLOCK not in exchange.wanted().on
    before = exchange.wanted()
    more = {"quiet_from": before.quiet_from, "quiet_until": before.quiet_until}
    assert exchange.choose(*before.on, stamp="old", **more) == "/done"  # what is wanted already


def test_number_of_another_account_or_of_a_plan_that_is_over_is_not_found(
    exchange: Exchange,
) -> None:
    with pytest.raises(NumberNotFound):
        exchange.choose(Feature.VOICEMAIL, name="mallory", of="alice")
    exchange.portal.execute("UPDATE subscriptions SET ended_on = '2026-06-20' WHERE plan_id = 3")
    with pytest.raises(NumberNotFound):
        exchange.choose(Feature.VOICEMAIL)


# Giving out ------------------------------------------------------------------------------------


def give(
    exchange: Exchange, name: str, number: str, on: str = "", since: date | None = None
) -> PhoneNumber:
    account_id = exchange.portal.world.accounts[name]
    return unit_of_work(
        lambda session: numbers.give(session, account_id, None, number, on, since),
        account_id,
    )


def take_back(exchange: Exchange) -> None:
    account_id = exchange.portal.world.accounts["alice"]
    unit_of_work(lambda session: numbers.take_back(session, account_id, "alicephone"), account_id)


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
    assert f"{exchange.number().ended_on}" == "2026-06-10"
    assert given.from_on == TODAY


def test_number_is_had_from_the_day_that_is_said_but_from_nobody_else(exchange: Exchange) -> None:
    exchange.portal.execute(
        "UPDATE subscriptions SET ended_on = '2026-06-10' WHERE public_id = 'alicesub3'"
    )
    assert f"{give(exchange, 'rich', ALICE, since=date(2026, 6, 1)).from_on}" == "2026-06-10"


def test_number_that_was_taken_back_does_nothing_at_the_switch(exchange: Exchange) -> None:
    exchange.choose(FORWARDING, forward_to="+15414166117")
    exchange.sync()
    take_back(exchange)
    assert exchange.number().pending_at is not None
    assert exchange.sync() == 1
    assert exchange.switch.read_number(ALICE) == NumberSettings()
    number = exchange.number()
    assert (number.pending_at, number.sync_at) == (None, None)
    assert give(exchange, "rich", ALICE).pending_at is None


def test_number_that_is_given_again_at_once_begins_with_what_the_switch_still_does(
    exchange: Exchange,
) -> None:
    exchange.choose(FORWARDING, forward_to="+15414166117")
    exchange.sync()
    take_back(exchange)
    given = give(exchange, "rich", ALICE)
    assert given.pending_at is not None
    assert NumberSettings.of(given.reached).forward_to == "+15414166117"
    assert exchange.number().sync_at is None
    exchange.sync()
    assert exchange.switch.read_number(ALICE) == NumberSettings()
    assert exchange.sync() == 0


@pytest.mark.parametrize("is_refused", [False, True])
def test_switch_that_hears_late_of_the_end_is_told_of_the_next_again(
    exchange: Exchange, *, is_refused: bool
) -> None:
    take_back(exchange)
    given = iter([lambda: give(exchange, "rich", ALICE, "voicemail")])

    def give_meanwhile() -> None:
        for each in given:
            each()
            if is_refused:
                raise GatewayTimeout("the answer was lost")

    exchange.switch.before = give_meanwhile
    exchange.sync()
    exchange.sync()
    assert exchange.switch.read_number(ALICE) == NumberSettings(frozenset({Feature.VOICEMAIL}))
    assert exchange.sync() == 0


def test_numbers_of_an_account_that_is_closed_are_over(exchange: Exchange) -> None:
    account_id = exchange.portal.world.accounts["alice"]
    exchange.choose(Feature.CALLER_ID)
    exchange.sync()
    unit_of_work(lambda session: closing.close(session, [account_id], TODAY), account_id)
    assert exchange.number().ended_on == TODAY
    assert exchange.number("mallory").ended_on is None
    exchange.sync()
    assert exchange.switch.read_number(ALICE) == NumberSettings()


def test_plan_that_was_taken_back_before_it_began_has_no_number(exchange: Exchange) -> None:
    portal = exchange.portal
    portal.execute(
        "UPDATE subscriptions SET started_on = '2026-07-10' WHERE public_id = 'richsub3'"
    )
    given = give(exchange, "rich", "+15415550173")
    assert f"{given.from_on}" == "2026-07-10"
    portal.execute("UPDATE subscriptions SET ended_on = started_on WHERE public_id = 'richsub3'")
    account_id = portal.world.accounts["rich"]
    assert choosing.list_having(db.session(), account_id) == []
    unit_of_work(lambda session: numbers.end_over(session, [account_id]), account_id)
    ended = portal.rows("SELECT from_on, ended_on FROM phone_numbers WHERE number = '+15415550173'")
    assert [[f"{day}" for day in row] for row in ended] == [["2026-07-10", "2026-07-10"]]


def mini(exchange: Exchange, started_on: date) -> int:
    """A smaller phone plan of alice from the day on, in the place of the one she has."""
    portal = exchange.portal
    portal.execute(
        "INSERT INTO plans (code, kind, name, is_offered, technology, price_minor, setup_minor,"
        " changes_to, requires, channels, streaming, features)"
        """ VALUES ('VOICE-MINI', 'phone', 'Mini', true, '', 900, 0, '[]', '[]', '[]', '[]',"""
        """ '["voicemail"]')"""
    )

    def change(session: Session) -> int:
        begun = Subscription(
            public_id="alicemini",
            account_id=portal.world.accounts["alice"],
            plan_id=portal.one("SELECT id FROM plans WHERE code = 'VOICE-MINI'"),
            started_on=started_on,
        )
        session.add(begun)
        session.flush()
        old = session.query(Subscription).filter_by(public_id="alicesub3").one()
        old.ended_on = started_on
        return begun.id

    return unit_of_work(change, portal.world.accounts["alice"])


def test_plan_that_is_to_follow_waits_for_no_number_of_its_own(exchange: Exchange) -> None:
    portal, account_id = exchange.portal, exchange.portal.world.accounts["alice"]
    began_id = mini(exchange, date(2026, 7, 1))
    old_id = portal.one("SELECT id FROM subscriptions WHERE public_id = 'alicesub3'")
    planned = PlanChange(
        public_id="planned",
        account_id=account_id,
        from_id=old_id,
        to_id=began_id,
        ended=[[old_id, None]],
        effective_on=date(2026, 7, 1),
        state="planned",
        quote={},
        charges=[],
        answer="",
        created_at=clock.now(),
    )
    unit_of_work(lambda session: session.add(planned), account_id)
    with pytest.raises(NoPhonePlan):
        give(exchange, "alice", "+15415550188")
    with clock.set_to(datetime(2026, 7, 1, 12, tzinfo=UTC)):
        unit_of_work(lambda session: numbers.end_over(session, [account_id]), account_id)
        assert exchange.number().ended_on is None

        def begin(session: Session) -> bool:
            return changing.take_effect(session, session.query(PlanChange).one(), [])

        unit_of_work(begin, account_id)
    assert exchange.number().subscription_id == began_id
    assert exchange.number().ended_on is None


def test_import_of_accounts_carries_the_number_over(exchange: Exchange) -> None:
    account_id, began_id = exchange.portal.world.accounts["alice"], mini(exchange, TODAY)
    ended_id = exchange.number().subscription_id
    unit_of_work(lambda session: numbers.carry_over(session, {ended_id}), account_id)
    assert exchange.number().subscription_id == began_id


def test_number_follows_a_change_of_plan(exchange: Exchange) -> None:
    exchange.choose(Feature.VOICEMAIL, FORWARDING, forward_to="+15414166117")
    exchange.sync()
    old_id, began_id = exchange.number().subscription_id, mini(exchange, TODAY)
    unit_of_work(
        lambda session: numbers.follow(session, old_id, began_id),
        exchange.portal.world.accounts["alice"],
    )
    assert exchange.number().pending_at is not None
    exchange.sync()
    assert exchange.reached() == NumberSettings(frozenset({Feature.VOICEMAIL}))
    assert exchange.wanted().forward_to == "+15414166117"
    assert exchange.wanted().forward_when is ForwardWhen.ALWAYS
