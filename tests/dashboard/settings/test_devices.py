"""Sessions and trusted devices (bars 25, 29 and 31)."""

from __future__ import annotations

from datetime import timedelta

import pytest

from blueprints.dashboard.settings import devices, user_agents
from core import clock
from tests import crawl
from tests.conftest import Portal
from tests.dashboard.told import events
from tests.page import Visitor
from tests.test_forms_at_random import sign_in

PHONE = "Mozilla/5.0 (Linux; Android 9; SM-J330F) AppleWebKit/537.36 Chrome/120 Mobile Safari/537"


def phone(portal: Portal, who: str = "alice") -> Visitor:
    visitor = Visitor(portal.app)
    visitor.client.environ_base |= {"HTTP_USER_AGENT": PHONE, "REMOTE_ADDR": "192.0.2.44"}
    assert visitor.sign_in(who).status == 303
    return visitor


def test_sessions_are_listed_in_words_and_this_one_is_marked(portal: Portal) -> None:
    alice = portal.visitor("alice", own_device="y")
    phone(portal)
    page = alice.get("/settings/sessions")
    here, other = page.select("main .rows li")
    assert "This one" in here.text_content()
    assert not here.cssselect("form")
    assert "Chrome on Android" in other.text_content()
    assert "192.0.2.44" in other.text_content()


def test_ended_session_is_anonymous_with_its_next_request(portal: Portal) -> None:
    alice, other = portal.visitor("alice"), phone(portal)
    page = alice.get("/settings/sessions")
    for _ in range(2):  # the first answer was lost
        assert alice.submit(page, "/end").location == "/settings/sessions?done=ended"
    assert other.get(portal.path()).location.startswith("/sign-in")
    assert alice.get(portal.path()).status == 200
    assert events(portal) == ["session_ended"]


def test_all_others_end_at_once_and_no_device_is_trusted(portal: Portal) -> None:
    alice, others = portal.visitor("alice"), [phone(portal), phone(portal)]
    portal.execute(
        "UPDATE devices SET trusted_until_at = :then",
        then=(clock.now() + timedelta(days=30)).replace(tzinfo=None),
    )
    done = alice.submit(alice.get("/settings/sessions"), "/end-others")
    assert done.location == "/settings/sessions?done=all-ended"
    for other in others:
        assert other.get(portal.path()).location.startswith("/sign-in")
    assert alice.get(portal.path()).status == 200
    assert portal.one("SELECT count(*) FROM devices WHERE trusted_until_at IS NOT NULL") == 0


def test_trusted_device_is_listed_and_trust_is_withdrawn(portal: Portal) -> None:
    alice = portal.visitor("alice")
    assert not alice.get("/settings/sessions").select("form[action$='/distrust']")
    portal.execute(
        "UPDATE devices SET trusted_until_at = :then",
        then=(clock.now() + timedelta(days=30)).replace(tzinfo=None),
    )
    page = alice.get("/settings/sessions")
    assert "This device" in page.text
    done = alice.submit(page, "/distrust")
    assert done.location == "/settings/sessions?done=distrusted"
    assert not alice.get("/settings/sessions").select("form[action$='/distrust']")


def test_mallory_ends_no_session_of_alice(portal: Portal) -> None:
    crawl.prepare(portal)
    mallory, alices = portal.visitor("mallory"), crawl.addresses(portal)
    guard = crawl.token_of(mallory)
    differs = crawl.watch(portal.app)
    for endpoint in ("settings.session_end", "settings.device_distrust"):
        assert mallory.post(alices[endpoint], guard).status == 404
    assert differs() == set()


def test_sessions_that_ran_out_are_not_listed(portal: Portal) -> None:
    phone(portal)
    with clock.set_to(clock.now() + timedelta(hours=2)):
        page = portal.visitor("alice").get("/settings/sessions")
    assert len(page.select("main .rows li")) == 1


def test_many_sessions_make_a_short_page(portal: Portal) -> None:
    alice = portal.visitor("alice")
    with portal.app.app_context():
        for _ in range(25):
            sign_in(portal, "alice")
    page = alice.get("/settings/sessions")
    assert len(page.select("main form[action$='/end']")) == devices.SHOWN - 1
    assert "6 more, used earlier" in page.text


@pytest.mark.parametrize(
    ("described", "words"),
    [
        (PHONE, ("Chrome", "Android")),
        ("Mozilla/5.0 (iPhone; CPU like Mac OS X) Safari/604.1", ("Safari", "iPhone")),
        ("Mozilla/5.0 (Windows NT 10.0) Gecko/20100101 Firefox/120.0", ("Firefox", "Windows")),
        ("Lynx/2.9.0dev", ("Lynx", "")),
        ("", ("", "")),
    ],
)  # fmt: skip
def test_browser_is_named_as_people_know_it(described: str, words: tuple[str, str]) -> None:
    assert user_agents.read(described) == words
