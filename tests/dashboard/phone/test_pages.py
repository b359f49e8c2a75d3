"""The page of a telephone number: who sees what, switching, and odd input."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from core.db import db, unit_of_work
from gateways.voice.base import Feature, ForwardWhen, NumberSettings
from models import PhoneNumber
from tests import crawl
from tests.conftest import Portal
from tests.page import Page


@pytest.fixture
def phones(portal: Portal) -> Portal:
    with portal.app.app_context():
        unit_of_work(lambda session: crawl.add_phones(session, portal.world))
    return portal


def wanted(portal: Portal) -> NumberSettings:
    with portal.app.app_context():
        number = db.session.query(PhoneNumber).filter_by(public_id="alicephone").one()
        return NumberSettings.of(number.wanted)


def errors(page: Page) -> list[str]:
    return [error.text_content() for error in page.select(".field__error")]


def test_first_page_leads_to_the_phone(phones: Portal) -> None:
    for name in ("alice", "theo"):
        page = phones.visitor(name).get(phones.path())
        assert page.select(f"main a[href='{phones.path('phone/')}']")


def test_page_says_what_is_on_and_what_is_on_its_way(phones: Portal) -> None:
    page = phones.visitor("alice").get(phones.path("phone/"))
    assert "+1 541-555-0171" in page.text
    assert "Voicemail On" in page.text
    assert "Do not disturb Being switched on since Jun 20, 2026" in page.text
    assert "Block calls abroad Off" in page.text
    _action, values = page.form("/phone/numbers/alicephone")
    assert (values["quiet_from"], values["quiet_until"]) == ("22:00", "07:00")
    assert "caller_id" not in values


def test_owner_switches_and_comes_back_to_the_page(phones: Portal) -> None:
    alice = phones.visitor("alice")
    page = alice.get(phones.path("phone/"))
    done = alice.submit(
        page, "/alicephone", call_forwarding="y", forward_to="541 416 6117", forward_when="busy"
    )
    assert (done.status, done.location) == (303, phones.path("phone/numbers/alicephone?done=saved"))
    assert wanted(phones) == NumberSettings(
        frozenset({Feature.VOICEMAIL, Feature.CALL_FORWARDING, Feature.DO_NOT_DISTURB}),
        "+15414166117",
        ForwardWhen.BUSY,
        "22:00",
        "07:00",
    )
    page = alice.get(done.location)
    assert "Forward calls Being switched on" in page.text
    assert page.form("/alicephone")[1]["forward_to"] == "+15414166117"


def test_others_see_what_is_on_and_change_nothing(phones: Portal) -> None:
    for name in ("bob", "vera", "theo"):
        visitor = phones.visitor(name)
        page = visitor.get(phones.path("phone/"))
        assert "Voicemail On" in page.text
        assert not page.select("main form[method=post]")
        guard = crawl.token_of(visitor)
        assert visitor.post(phones.path("phone/numbers/alicephone"), guard).status == 403


def test_mallory_finds_no_number_of_alice(phones: Portal) -> None:
    mallory = phones.visitor("mallory")
    assert mallory.get(phones.path("phone/numbers/alicephone")).status == 404
    assert mallory.get(phones.path("phone/numbers/alicephone", "mallory")).status == 404
    guard = crawl.token_of(mallory)
    path = phones.path("phone/numbers/alicephone", "mallory")
    assert mallory.post(path, guard | {"forward_when": "always"}).status == 404


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"call_forwarding": "y"}, "Enter the number with its area code"),
        ({"call_forwarding": "y", "forward_to": "+15415550171"}, "the number itself"),
        ({"forward_to": "somewhere"}, "Enter the number with its area code"),
        ({"forward_when": "never"}, "Choose which calls are forwarded."),
        ({"quiet_from": "late"}, "Enter a time of day like 22:00."),
        ({"quiet_from": "25:00"}, "Enter a time of day like 22:00."),
        ({"quiet_until": ""}, "Enter a time of day like 22:00."),
        ({"quiet_until": "22:00"}, "Enter another time than the one it begins at."),
        (
            {"call_forwarding": "y", "international_block": "y", "forward_to": "+442079460958"},
            "calls abroad are blocked",
        ),
    ],
)
def test_wrong_input_is_explained_and_nothing_is_lost(
    phones: Portal, typed: dict[str, str], message: str
) -> None:
    alice, before = phones.visitor("alice"), wanted(phones)
    page = alice.submit(
        alice.get(phones.path("phone/")), "/alicephone", **{"caller_id": "y"} | typed
    )
    assert page.status == 422
    assert any(message in error for error in errors(page))
    values = page.form("/alicephone")[1]
    assert values["caller_id"] == "y"
    for name, value in typed.items():
        if name != "forward_when":
            assert values[name] == value
    assert wanted(phones) == before


def test_times_are_read_as_people_write_them(phones: Portal) -> None:
    alice = phones.visitor("alice")
    page = alice.get(phones.path("phone/"))
    assert (
        alice.submit(page, "/alicephone", quiet_from="9.05", quiet_until="23:00:00").status == 303
    )
    assert (wanted(phones).quiet_from, wanted(phones).quiet_until) == ("09:05", "23:00")


def test_form_sent_twice_counts_once(phones: Portal) -> None:
    alice = phones.visitor("alice")
    action, values = alice.get(phones.path("phone/")).form("/alicephone")
    values |= {"caller_id": "y"}
    first, second = alice.post(action, values), alice.post(action, values)
    assert first.location == second.location
    assert phones.one("SELECT count(*) FROM activity WHERE kind = 'phone_changed'") == 1


def test_form_of_a_session_that_ran_out_comes_back_with_its_boxes(
    phones: Portal, tick: Callable[..., None]
) -> None:
    alice = phones.visitor("alice")
    action, values = alice.get(phones.path("phone/")).form("/alicephone")
    del values["voicemail"]
    values |= {"caller_id": "y", "forward_to": "541 416 6117"}
    tick(hours=2)
    assert alice.post(action, values).location.startswith("/sign-in")
    back = alice.sign_in("alice")
    assert back.location.endswith("/phone/numbers/alicephone")
    kept = alice.get(back.location).form("/alicephone")[1]
    assert kept["caller_id"] == "y"
    assert kept["forward_to"] == "541 416 6117"
    assert "voicemail" not in kept


def test_plan_without_features_and_account_without_a_number_say_so(phones: Portal) -> None:
    phones.execute("UPDATE plans SET features = '[]' WHERE kind = 'phone'")
    alice = phones.visitor("alice")
    assert "includes nothing" in alice.get(phones.path("phone/")).text
    rich = phones.visitor("rich")
    assert "No phone number is set up yet" in rich.get(phones.path("phone/", "rich")).text


def test_without_a_way_to_the_switch_staff_are_named(phones: Portal) -> None:
    known = phones.app.extensions["voice_gateway"]
    phones.app.extensions["voice_gateway"] = None
    try:
        assert "Our staff make it" in phones.visitor("alice").get(phones.path("phone/")).text
    finally:
        phones.app.extensions["voice_gateway"] = known


def test_several_numbers_are_a_press_apart(phones: Portal) -> None:
    phones.execute(
        "UPDATE phone_numbers SET account_id = :id WHERE public_id = 'malloryphone'",
        id=phones.world.accounts["alice"],
    )
    page = phones.visitor("alice").get(phones.path("phone/numbers/malloryphone"))
    assert [link.text_content() for link in page.select("nav.filters a")] == [
        "+1 541-555-0171",
        "+1 541-555-0172",
    ]
    assert page.form("/phone/numbers/malloryphone")
    page = phones.visitor("bob").get(phones.path("phone/?number=malloryphone"))
    assert page.select("h2")[0].text_content().startswith("+1 541-555-0172")


def test_what_another_owner_chose_is_shown_and_not_undone(phones: Portal) -> None:
    alice, other = phones.visitor("alice"), phones.visitor("alice")
    old = alice.get(phones.path("phone/"))
    other.submit(
        other.get(phones.path("phone/")),
        "/alicephone",
        call_forwarding="y",
        forward_to="541 416 6117",
        forward_when="busy",
    )
    stale = alice.submit(old, "/alicephone", caller_id="y", forward_to="541 416 6118")
    assert stale.status == 409
    assert "Somebody else has changed this meanwhile" in stale.text
    assert "Now: +1 541-416-6117" in stale.text
    assert wanted(phones).forward_to == "+15414166117"
    values = stale.form("/alicephone")[1]
    assert (values["caller_id"], values["forward_to"]) == ("y", "541 416 6118")
    assert alice.submit(stale, "/alicephone").status == 303
    assert wanted(phones).forward_to == "+15414166118"
    assert Feature.CALL_FORWARDING not in wanted(phones).on


def test_staff_who_see_the_portal_do_not_see_where_calls_go(phones: Portal) -> None:
    alice = phones.visitor("alice")
    alice.submit(
        alice.get(phones.path("phone/")),
        "/alicephone",
        call_forwarding="y",
        forward_to="541 416 6117",
    )
    sue = phones.visitor("sue")
    path = f"/staff/accounts/{phones.world.public_ids['alice']}/people/alicecustomer/view"
    assert sue.submit(sue.get(path), "/view", reason="a call").status == 303
    page = sue.get(phones.path("phone/"))
    assert "Forward calls Being switched on" in page.text
    assert "6117" not in page.source
