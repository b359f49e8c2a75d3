"""The worker brings the switch to what is wanted, and tries again until it is there."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from blueprints.lines.phone import syncing
from blueprints.lines.phone.choosing import stamp_of
from blueprints.lines.phone.errors import NumberNotFound, ShownOtherwise
from blueprints.lines.phone.syncing import NumberSyncing
from blueprints.lines.syncing import PAUSES
from core.db import db
from core.form_keys import ArrivedKey
from gateways.voice.base import Feature, NumberSettings
from gateways.voice.errors import GatewayRefused, GatewayTimeout
from tests.lines.phone.conftest import ALICE, Exchange

CALLER = NumberSettings(frozenset({Feature.CALLER_ID}))
VOICEMAIL = NumberSettings(frozenset({Feature.VOICEMAIL}))


def fail(error: BaseException) -> Callable[[], None]:
    def raise_it() -> None:
        raise error

    return raise_it


def key(number: int) -> ArrivedKey:
    return ArrivedKey(bytes([200 + number]) * 32, "customer:9", b"c" * 32)


def test_choice_reaches_the_switch_in_the_next_round(exchange: Exchange) -> None:
    exchange.choose(Feature.CALLER_ID)
    before = exchange.portal.one("SELECT revision FROM accounts WHERE id = 1")
    assert exchange.sync() == 1
    assert exchange.switch.read_number(ALICE) == exchange.reached() == CALLER
    number = exchange.number()
    assert (number.pending_at, number.sync_at) == (None, None)
    assert exchange.portal.one("SELECT revision FROM accounts WHERE id = 1") > before
    assert exchange.sync() == 0


def test_silent_switch_is_asked_again_with_growing_pauses(
    exchange: Exchange, tick: Callable[..., None]
) -> None:
    exchange.switch.before = fail(GatewayTimeout("no answer from 192.0.2.5"))
    exchange.choose(Feature.CALLER_ID)
    since = exchange.number().pending_at
    for pause in (*PAUSES, PAUSES[-1]):
        assert exchange.sync() == 1
        assert exchange.number().sync_failure == "no answer from 192.0.2.5"
        tick(seconds=pause.total_seconds() - 1)
        assert exchange.sync() == 0
        tick(seconds=1)
    assert exchange.number().pending_at == since
    exchange.switch.before = lambda: None
    assert exchange.sync() == 1
    number = exchange.number()
    assert (number.sync_failure, number.sync_count, number.pending_at) == ("", 0, None)


@pytest.mark.parametrize("error", [GatewayRefused("no such number"), RuntimeError("broken")])
def test_number_that_fails_holds_up_no_other(exchange: Exchange, error: Exception) -> None:
    faults = iter([error])

    def fail_once() -> None:
        if (found := next(faults, None)) is not None:
            raise found

    exchange.switch.before = fail_once
    exchange.choose(Feature.CALLER_ID)
    exchange.choose(Feature.CALLER_ID, name="mallory")
    assert exchange.sync() == 2
    assert exchange.reached("mallory") == CALLER
    assert exchange.number().sync_failure


def test_last_of_two_quick_changes_is_what_the_switch_does(exchange: Exchange) -> None:
    exchange.choose(Feature.CALLER_ID)
    changes = iter([lambda: exchange.choose(Feature.VOICEMAIL)])

    def change_meanwhile() -> None:
        for change in changes:
            change()

    exchange.switch.after = change_meanwhile
    exchange.sync()
    assert exchange.number().pending_at is not None
    exchange.sync()
    assert exchange.switch.calls == [CALLER, VOICEMAIL]
    assert exchange.reached() == VOICEMAIL
    assert exchange.number().pending_at is None


def test_change_that_is_taken_back_while_unanswered_is_set_again(
    exchange: Exchange, tick: Callable[..., None]
) -> None:
    before = exchange.reached()
    exchange.switch.after = fail(GatewayTimeout("the answer was lost"))
    exchange.choose(Feature.CALLER_ID)
    exchange.sync()
    assert exchange.switch.read_number(ALICE) == CALLER
    exchange.switch.after = lambda: None
    exchange.choose(*before.on, quiet_from=before.quiet_from, quiet_until=before.quiet_until)
    assert exchange.number().pending_at is None
    assert exchange.sync() == 1
    assert exchange.switch.read_number(ALICE) == before == exchange.reached()


def test_worker_that_died_leaves_it_to_the_next(
    exchange: Exchange, tick: Callable[..., None]
) -> None:
    exchange.choose(Feature.CALLER_ID)
    exchange.switch.after = fail(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        exchange.sync()
    exchange.switch.after = lambda: None
    assert exchange.sync() == 0
    tick(minutes=3)
    assert exchange.sync() == 1
    assert exchange.reached() == CALLER


def test_without_a_way_to_the_switch_staff_say_that_it_is_done(exchange: Exchange) -> None:
    assert NumberSyncing(None)() == 0
    exchange.choose(Feature.CALLER_ID)
    assert NumberSyncing(None)() == 0
    stamp = stamp_of(syncing.wanted_of(db.session(), exchange.number().id))
    assert syncing.confirm("alicephone", stamp, "/path", key(1)) == "/path"
    assert exchange.reached() == CALLER
    assert exchange.number().pending_at is None


def test_staff_do_not_confirm_what_their_page_did_not_show(exchange: Exchange) -> None:
    exchange.choose(Feature.CALLER_ID)
    stamp = stamp_of(syncing.wanted_of(db.session(), exchange.number().id))
    exchange.choose(Feature.VOICEMAIL)
    with pytest.raises(ShownOtherwise):
        syncing.confirm("alicephone", stamp, "/path", key(1))
    assert exchange.number().pending_at is not None
    with pytest.raises(NumberNotFound):
        syncing.confirm("nothing", stamp, "/path", key(2))


def test_number_that_lags_is_tried_at_once_when_staff_ask(exchange: Exchange) -> None:
    exchange.switch.before = fail(GatewayTimeout("no answer"))
    exchange.choose(Feature.CALLER_ID)
    exchange.sync()
    exchange.switch.before = lambda: None
    assert exchange.sync() == 0
    assert syncing.try_again("alicephone", "/path", key(1)) == "/path"
    assert exchange.sync() == 1
    assert exchange.reached() == CALLER
    assert exchange.number().sync_at is None
