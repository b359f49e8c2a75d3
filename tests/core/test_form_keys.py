"""One-time keys of forms: bound to a person, a path, a content and 48 hours."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from core import clock, form_keys
from core.db import reading, unit_of_work
from core.form_keys import ArrivedKey, FormExpired, KeyReused, check, mint
from tests import world
from tests.conftest import Portal, together

SECRET, ALICE, PATH = b"s" * 32, "customer:1", "/a/x/billing/pay"
CONTENT = {"choice": "balance"}


def arrive(value: str, subject: str = ALICE, path: str = PATH, **content: str) -> ArrivedKey:
    return check(SECRET, subject, value, path, content or CONTENT)


def test_key_arrives_as_itself_each_time() -> None:
    value = mint(SECRET, ALICE)
    assert arrive(value) == arrive(value)
    assert len(arrive(value).intent) == 48
    assert len({mint(SECRET, ALICE) for _ in range(50)}) == 50


def test_path_and_key_make_different_intents() -> None:
    value = mint(SECRET, ALICE)
    intents = {arrive(value).intent, arrive(value, path="/other").intent}
    assert len(intents | {arrive(mint(SECRET, ALICE)).intent}) == 3


def test_content_is_part_of_the_key_but_not_of_its_intent() -> None:
    value = mint(SECRET, ALICE)
    one, other = arrive(value, amount="1"), arrive(value, amount="2")
    assert one.intent == other.intent
    assert one.content_hash != other.content_hash
    assert arrive(value, a="1", b="2") == arrive(value, b="2", a="1")


@pytest.mark.parametrize("left", [{"a": "1", "b": "2"}, {"a": "1\0b\x012"}, {"a": "1\x01"}])
def test_names_and_values_do_not_run_into_each_other(left: dict[str, str]) -> None:
    value = mint(SECRET, ALICE)
    assert arrive(value, **left).content_hash != arrive(value, a="1").content_hash


def test_key_of_another_person_or_secret_is_refused() -> None:
    with pytest.raises(FormExpired):
        arrive(mint(SECRET, "customer:2"))
    with pytest.raises(FormExpired):
        arrive(mint(b"t" * 32, ALICE))


def test_key_lives_for_48_hours() -> None:
    with clock.set_to(world.NOW):
        value = mint(SECRET, ALICE)
    for delta, is_valid in (
        (timedelta(), True),
        (timedelta(hours=47, minutes=59), True),
        (timedelta(hours=48, minutes=1), False),
        (timedelta(minutes=-1), True),
        (timedelta(minutes=-5), False),
    ):
        with clock.set_to(world.NOW + delta):
            if is_valid:
                arrive(value)
            else:
                with pytest.raises(FormExpired):
                    arrive(value)


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda b: base64.b64encode(b).decode()))
def test_anything_else_is_refused(value: str) -> None:
    with pytest.raises(FormExpired):
        arrive(value)


def test_every_changed_character_is_noticed() -> None:
    value = mint(SECRET, ALICE)
    raw = base64.urlsafe_b64decode(value)
    for place in range(len(raw)):
        forged = bytearray(raw)
        forged[place] ^= 1
        with pytest.raises(FormExpired):
            arrive(base64.urlsafe_b64encode(bytes(forged)).decode())


def consume(key: ArrivedKey, result: str) -> None:
    unit_of_work(lambda session: form_keys.consume(session, key, result))


def test_second_arrival_finds_where_the_first_led(ctx: Portal) -> None:
    key = arrive(mint(SECRET, ALICE))
    with reading() as session:
        assert form_keys.find_result(session, key) is None
    consume(key, "/there")
    with reading() as session:
        assert form_keys.find_result(session, key) == "/there"


def test_same_key_with_other_content_is_refused(ctx: Portal) -> None:
    value = mint(SECRET, ALICE)
    consume(arrive(value, amount="1"), "/there")
    with reading() as session, pytest.raises(KeyReused):
        form_keys.find_result(session, arrive(value, amount="2"))


def test_fifty_arrivals_at_once_consume_one_key(portal: Portal) -> None:
    key = arrive(mint(SECRET, ALICE))

    def one(number: int) -> str | None:
        def work(session: Session) -> str | None:
            found = form_keys.find_result(session, key)
            if found is None:
                form_keys.consume(session, key, f"/{number}")
                return f"/{number}"
            return found

        with portal.app.app_context():
            return unit_of_work(work)

    results = together(20, one)
    assert len(set(results)) == 1
    assert portal.one("SELECT count(*) FROM form_keys") == 1


def test_rows_are_kept_longer_than_keys_are_valid(ctx: Portal) -> None:
    consume(arrive(mint(SECRET, ALICE)), "/there")
    later = clock.now() + form_keys.KEPT
    assert form_keys.KEPT > form_keys.VALID
    assert unit_of_work(lambda session: form_keys.delete_old(session, later)) == 0
    later += timedelta(seconds=1)
    assert unit_of_work(lambda session: form_keys.delete_old(session, later)) == 1
