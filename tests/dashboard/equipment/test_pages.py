"""The pages about the router, from the button to the router and back."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta

import pytest

from blueprints.dashboard.equipment import service
from core import clock, form_keys
from core.genieacs_settings import GenieacsSettings, ModelMap
from gateways.network.genieacs.gateway import GenieacsEquipment
from tests import crawl
from tests.conftest import Portal
from tests.dashboard.equipment.conftest import PASSWORD, Home, follow
from tests.gateways.fake_genieacs import put, tr098, value
from tests.world import CANARY, NOW
from tests.world import PASSWORD as ACCOUNT_PASSWORD

HOSTS = "InternetGatewayDevice.LANDevice.1.Hosts.Host"
SSID = "InternetGatewayDevice.LANDevice.1.WLANConfiguration.{}.SSID"
QUEUED = "Queued: it will happen when the router next reports"


# It works.


@pytest.mark.parametrize("name", ["alice", "theo"])
def test_router_is_shown_with_what_is_connected(home: Home, name: str) -> None:
    page = home.visitor(name).get(home.path())
    for words in ("Acme BM632w", "Online", "Jun 20, 2026, 11:58 AM", "Home 1 2.4 GHz, 5 GHz"):
        assert words in page.text
    assert "Tablet …53:01" in page.text
    assert "02:00" not in page.source, "only the end of an address is shown"
    assert "Printer" not in page.text, "it is not connected any more"


def test_pages_of_the_line_lead_to_it(home: Home) -> None:
    for name, is_offered in (("alice", True), ("theo", True), ("bob", False), ("vera", False)):
        for rest in ("", "usage/"):
            page = home.visitor(name).get(home.portal.path(rest))
            assert bool(page.select(f"main a[href='{home.path()}']")) is is_offered


def test_restart_is_asked_once_more_and_done(home: Home) -> None:
    alice = home.visitor()
    [link] = [each for each in alice.get(home.path()).select("main a") if "Restart" in each.text]
    asked = alice.get(link.get("href"))
    assert home.names() == []
    page = follow(alice, alice.submit(asked, "/restart"))
    assert (home.names(), page.select("h2")[0].text) == (["reboot"], "Done")
    assert home.acs.done[0]["device"] == home.acs.devices[0]["_id"]


def test_wifi_is_changed_on_both_bands(home: Home) -> None:
    page = home.change(home.visitor(), "Attic Ñ")
    assert page.select("h2")[0].text == "Done"
    values = {path: text for path, text, _type in home.acs.done[0]["parameterValues"]}
    assert values[SSID.format(1)] == values[SSID.format(5)] == "Attic Ñ"
    assert list(values.values()).count(PASSWORD) == 2


def test_networks_of_different_names_are_changed_alone(home: Home) -> None:
    put(home.acs.devices[0], SSID.format(5), value("Upstairs"))
    alice = home.visitor()
    links = [each.get("href") for each in alice.get(home.path()).select("main a[href*='/wifi']")]
    assert len(links) == 2
    page = alice.get(links[1])
    assert page.select("#wifi_name")[0].get("value") == "Upstairs"
    alice.submit(page, "/wifi", wifi_name="Attic")
    assert home.acs.done[0]["parameterValues"] == [[SSID.format(5), "Attic", "xsd:string"]]


def test_router_is_asked_again_for_what_is_connected(home: Home) -> None:
    alice = home.visitor()
    page = follow(alice, alice.submit(alice.get(home.path()), "/refresh"))
    assert (home.names(), page.select("h2")[0].text) == (["refreshObject"], "Done")


def test_model_of_which_nothing_is_known_is_not_offered_to_be_asked(home: Home) -> None:
    settings = GenieacsSettings(home.acs.url, models={"BM632w": ModelMap()})
    home.portal.app.extensions["equipment_gateway"] = GenieacsEquipment(settings)
    alice = home.visitor()
    assert not alice.get(home.path()).select("main form")
    sent = alice.post(home.path("refresh"), crawl.token_of(alice))
    assert "does not do this" in follow(alice, sent).text
    assert home.acs.done == []


def test_what_was_asked_for_is_in_the_activity(home: Home) -> None:
    alice = home.visitor()
    home.restart(alice)
    home.change(alice)
    alice.submit(alice.get(home.path()), "/refresh")
    for path in (home.portal.path(), "/activity"):
        text = alice.get(path).text
        assert text.count("Restart of the router asked for") == 1
        assert text.count("Change of the Wi-Fi asked for") == 1
    assert "Restart of the router" in home.visitor("vera").get(home.portal.path()).text


def test_page_at_home_that_is_kept_is_made_anew_after_it(home: Home) -> None:
    alice = home.portal.visitor("alice", own_device="y")
    tag = crawl.send(alice, "GET", home.portal.path()).headers["ETag"]
    home.restart(alice)
    held = {"If-None-Match": tag}
    assert crawl.send(alice, "GET", home.portal.path(), headers=held).status_code == 200


def test_router_that_is_offline_does_it_when_it_reports(home: Home) -> None:
    home.acs.routers = "offline"
    alice = home.visitor()
    for page in (home.restart(alice), home.change(alice)):
        assert page.select("h2")[0].text == QUEUED
    assert [task["name"] for task in home.acs.tasks] == ["reboot", "setParameterValues"]


def test_of_many_devices_the_first_are_shown(home: Home) -> None:
    for number in range(3, 60):
        put(home.acs.devices[0], f"{HOSTS}.{number}.HostName", value(f"Thing {number} {CANARY}"))
        put(home.acs.devices[0], f"{HOSTS}.{number}.MACAddress", value("02:00:5E:00:53:FF"))
    page = home.visitor().get(home.path())
    assert "Thing 41" in page.text
    assert "Thing 42" not in page.text
    assert "And 18 more." in page.text
    assert CANARY not in page.source


# Only once.


def test_form_sent_again_finds_how_it_ended_and_asks_for_nothing(home: Home) -> None:
    alice = home.visitor()
    page = alice.get(home.path("restart"))
    paths = {alice.submit(page, "/restart").location for _ in range(5)}
    assert len(paths) == 1
    assert paths.pop().endswith("outcome?done=restart-done")
    assert home.names() == ["reboot"]


def test_form_sent_again_meanwhile_is_told_that_it_is_on_its_way(home: Home) -> None:
    """The second press arrives while the first one waits for the router."""
    alice, again = home.visitor(), home.visitor()
    page = alice.get(home.path("restart"))
    gateway, seen = home.portal.app.extensions["equipment_gateway"], []
    again.client._cookies = alice.client._cookies
    restart = gateway.restart

    def slowly(username: str) -> object:
        sent = again.submit(page, "/restart")
        seen.append((sent.location, again.get(sent.location).text))
        return restart(username)

    gateway.restart = slowly
    assert alice.submit(page, "/restart").location.endswith("done=restart-done")
    [(path, text)] = seen
    assert "It is on its way" in text
    assert "Done" in follow(again, again.get(path)).text
    assert home.names() == ["reboot"]


def test_press_that_died_is_unclear_after_a_while(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = home.visitor()
    page = alice.get(home.path("restart"))
    monkeypatch.setattr(form_keys, "change_result", lambda *_given: None)
    alice.submit(page, "/restart")
    path = alice.submit(page, "/restart").location
    assert "It is on its way" in alice.get(path).text
    with clock.set_to(NOW + timedelta(minutes=2)):
        assert "Not known" in follow(alice, alice.get(path)).text


def test_press_of_another_is_not_found(home: Home) -> None:
    alice, theo = home.visitor(), home.visitor("theo")
    key = home.portal.rows
    home.restart(alice)
    [(key_hash,)] = key("SELECT key_hash FROM form_keys")
    path = home.path(f"outcome?done=restart-sent&press={bytes(key_hash).hex()}")
    assert alice.get(path).status == 303
    assert "It is on its way" in theo.get(path).text


def test_nobody_restarts_in_a_loop(home: Home) -> None:
    alice, theo = home.visitor(), home.visitor("theo")
    home.restart(alice)
    home.restart(theo)
    page = home.restart(alice)
    assert (page.status, page.response.headers["Retry-After"]) == (429, "300")
    assert "Try again in 5 minutes." in page.text
    assert home.names() == ["reboot"] * 2
    with clock.set_to(NOW + timedelta(minutes=6)):
        assert home.restart(alice).status == 200


@pytest.mark.parametrize("fault", [("GET", 503), ("POST", 503), ("POST", 404), ("POST", 400)])
def test_press_that_changed_nothing_does_not_count(home: Home, fault: tuple[str, int]) -> None:
    alice = home.visitor()
    home.acs.fault = fault
    assert [home.restart(alice).status for _ in range(4)] == [200] * 4
    home.acs.fault = None
    assert [home.restart(alice).status for _ in range(3)] == [200, 200, 429]
    assert home.names() == ["reboot"] * 2


def test_press_of_which_is_not_known_what_came_counts(home: Home) -> None:
    home.acs.fault = ("POST", 500)
    alice = home.visitor()
    assert [home.restart(alice).status for _ in range(3)] == [200, 200, 429]


def test_nobody_tries_without_end(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PRESSES", ((timedelta(hours=1), 3),))
    home.acs.devices.clear()
    alice = home.visitor()
    assert [home.restart(alice).status for _ in range(4)] == [200, 200, 200, 429]


def test_wifi_and_questions_have_their_limits(home: Home) -> None:
    alice = home.visitor()
    statuses = [home.change(alice, f"Attic {number}").status for number in range(5)]
    assert statuses == [200, 200, 200, 200, 429]
    refused = home.change(alice, "Typed")
    assert refused.select("#wifi_name")[0].get("value") == "Typed"
    asked = [alice.submit(alice.get(home.path()), "/refresh").status for _ in range(3)]
    assert asked == [303, 303, 429]


# It refuses.


@pytest.mark.parametrize("name", ["bob", "vera"])
def test_those_who_only_see_money_are_refused(home: Home, name: str) -> None:
    visitor = home.visitor(name)
    for rest in ("", "restart", "wifi", "outcome"):
        assert visitor.get(home.path(rest)).status == 403
    guard = crawl.token_of(visitor)
    for rest in ("restart", "wifi", "refresh"):
        assert visitor.post(home.path(rest), guard).status == 403
    assert home.acs.calls == []


def test_nobody_reaches_the_router_of_another(home: Home) -> None:
    mallory = home.visitor("mallory")
    guard = crawl.token_of(mallory)
    own = home.portal.path("equipment/", "mallory")
    for rest in ("", "restart", "wifi", "outcome"):
        assert mallory.get(home.path(rest)).status == 404
        assert mallory.get(f"{own}{rest}", line="aliceline00").status == 404
    for rest in ("restart", "wifi", "refresh"):
        typed = guard | {"wifi_name": "Mine", "wifi_password": PASSWORD, "networks": "0"}
        assert mallory.post(home.path(rest), typed).status == 404
        assert mallory.post(f"{own}{rest}", typed | {"line": "aliceline00"}).status == 404
    assert home.acs.done == home.acs.tasks == []


def test_of_several_lines_the_one_that_was_shown_is_meant(home: Home) -> None:
    home.acs.devices.append(tr098("ppp-second", 7))
    home.portal.execute(
        "INSERT INTO lines (public_id, account_id, username, is_closed, wanted_state, sync_count,"
        " sync_failure) VALUES ('second', :id, 'ppp-second', false, 'open', 0, '')",
        id=home.portal.world.accounts["alice"],
    )
    alice = home.visitor()
    page = alice.get(home.path("restart"), line="second")
    assert alice.submit(page, "/restart").location.endswith("line=second&done=restart-done")
    assert home.acs.done[0]["device"] == home.acs.devices[-1]["_id"]
    guard = crawl.token_of(alice)
    assert alice.post(home.path("restart"), guard).status == 404
    home.portal.execute("UPDATE lines SET is_closed = true WHERE public_id = 'second'")
    assert alice.get(home.path(), line="second").status == 404


def test_wifi_needs_the_password_of_the_account_again(home: Home) -> None:
    alice = home.visitor()
    page = alice.get(home.path("wifi"))
    with clock.set_to(NOW + timedelta(minutes=11)):
        sent = alice.submit(page, "/wifi", wifi_name="Typed", wifi_password=PASSWORD)
        assert sent.location.startswith("/confirm")
        assert home.acs.done == []
        assert "/confirm" in alice.get(home.path("wifi")).location


def test_password_of_a_form_that_waited_is_asked_for_again(home: Home) -> None:
    alice = home.visitor()
    assert "If you typed a new password" not in alice.get(home.path("wifi")).text
    page = alice.get(home.path("wifi"))
    with clock.set_to(NOW + timedelta(minutes=11)):
        sent = alice.submit(page, "/wifi", wifi_name="Typed", wifi_password=PASSWORD)
        confirmed = alice.submit(alice.get(sent.location), "/confirm", password=ACCOUNT_PASSWORD)
        form = follow(alice, confirmed)
        [error] = form.select("#wifi_password-error")
        assert "type it again: it was not kept" in error.text_content()
        ended = follow(alice, alice.submit(form, "/wifi"))
    assert "Asked for: a new name. The password stays as it is." in ended.text
    assert [each[1] for each in home.acs.done[0]["parameterValues"]] == ["Typed"] * 2


def test_refused_form_says_that_its_password_was_not_kept(home: Home) -> None:
    alice = home.visitor()
    page = home.change(alice, "", PASSWORD)
    assert page.select("#wifi_password-error")[0].text_content().startswith("Type the new password")
    assert not home.change(alice, "", "").select("#wifi_password-error")
    pages = [home.change(alice, f"Attic {number}") for number in range(5)]
    assert pages[-1].status == 429
    assert pages[-1].select("#wifi_password-error")


@pytest.mark.parametrize(
    ("password", "words"),
    [
        (PASSWORD, "Asked for: a new name and a new password."),
        ("", "Asked for: a new name. The password stays as it is."),
    ],
)
@pytest.mark.parametrize("routers", ["answer", "offline"])
def test_outcome_says_what_was_asked_for(
    home: Home, routers: str, password: str, words: str
) -> None:
    home.acs.routers = routers
    assert words in home.change(home.visitor(), "Attic", password).text


@pytest.mark.parametrize(
    ("name", "password", "words"),
    [
        ("", PASSWORD, "Enter a name for the Wi-Fi."),
        ("   ", PASSWORD, "Enter a name for the Wi-Fi."),
        ("x" * 33, PASSWORD, "at most 32 characters"),
        ("é" * 17, PASSWORD, "at most 32 characters"),
        ("a\nb", PASSWORD, "on one line"),
        ("Attic", "7 signs", "Use 8 to 63 characters"),
        ("Attic", "x" * 64, "Use 8 to 63 characters"),
        ("Attic", "pässword", "Use 8 to 63 characters"),
        ("Attic", "long\tenough", "Use 8 to 63 characters"),
    ],
)
def test_what_no_wifi_can_be_is_refused(home: Home, name: str, password: str, words: str) -> None:
    page = home.change(home.visitor(), name, password)
    assert page.status == 422
    assert words in page.text
    assert page.select("#wifi_password")[0].get("value") in (None, "")
    assert home.acs.done == []


@pytest.mark.parametrize("password", ["8 signs ", "x" * 63, " !\"#$%&'()*+,-./~"])
def test_what_a_wifi_can_be_is_taken_as_it_is(home: Home, password: str) -> None:
    home.change(home.visitor(), "é" * 16, password)
    assert home.acs.done[0]["parameterValues"][1][1] == password


def test_networks_that_are_not_there_are_refused(home: Home) -> None:
    alice = home.visitor()
    page = alice.get(home.path("wifi"))
    for networks in ("7", "", "x", "0-0-0-0-0-0-0-0-0-0", "-", "_id"):
        sent = alice.submit(page, "/wifi", networks=networks, wifi_name="Attic")
        assert sent.status in (303, 409, 429)
    assert [task["parameterValues"][0][0] for task in home.acs.done] in ([], [SSID.format(1)])
    assert "does not do this" in alice.get(home.path("wifi"), networks="7").text


def test_without_a_gateway_no_page_offers_it(portal: Portal, monkeypatch) -> None:
    monkeypatch.setitem(portal.app.extensions, "equipment_gateway", None)
    alice = portal.visitor("alice")
    for rest in ("", "usage/"):
        assert not alice.get(portal.path(rest)).select("main a[href*='/equipment/']")
    guard = crawl.token_of(alice)
    for rest in ("", "restart", "wifi", "outcome"):
        assert alice.get(portal.path(f"equipment/{rest}")).status == 404
    for rest in ("restart", "wifi", "refresh"):
        assert alice.post(portal.path(f"equipment/{rest}"), guard).status == 404


# It survives.


@pytest.mark.parametrize(
    ("fault", "heading", "words"),
    [
        (("GET", 503), "It did not work", "cannot be reached right now"),
        (("POST", 503), "It did not work", "cannot be reached right now"),
        (("POST", 404), "It did not work", "no router of this line is known"),
        (("POST", 400), "It did not work", "the router does not do this"),
        (("POST", 500), "Not known", "It may have happened"),
        (("POST", "hang"), "Not known", "It may have happened"),
        (("POST", "die"), "Not known", "It may have happened"),
    ],
)
def test_page_says_what_failed_and_what_to_do(
    home: Home, fault: tuple[str, int | str], heading: str, words: str
) -> None:
    alice = home.visitor()
    page = alice.get(home.path("restart"))
    home.acs.fault = fault
    ended = follow(alice, alice.submit(page, "/restart"))
    assert ended.select("h2")[0].text == heading
    assert words in ended.text


def test_router_that_refuses_is_said(home: Home) -> None:
    home.acs.routers = "refuse"
    assert "the router does not do this" in home.change(home.visitor()).text
    assert home.acs.tasks == []


def test_two_routers_of_a_line_are_both_left_alone(home: Home) -> None:
    home.acs.devices[1] = tr098("ppp-alice", 2)
    alice = home.visitor()
    assert "more than one router" in alice.get(home.path()).text
    assert "more than one router" in home.restart(alice).text
    assert home.acs.done == []


@pytest.mark.parametrize("what", [503, "hang", "die", "garbage", "wrong"])
def test_overview_without_an_answer_says_so(home: Home, what: int | str) -> None:
    home.acs.fault = ("GET", what)
    alice = home.visitor()
    for rest in ("", "wifi"):
        page = alice.get(home.path(rest))
        assert page.status == 200
        assert "cannot be reached right now" in page.text
        assert not page.select("main form")


def test_fault_of_the_gateway_is_unclear_and_not_repeated(home: Home) -> None:
    alice = home.visitor()
    page = alice.get(home.path("restart"))
    gateway = home.portal.app.extensions["equipment_gateway"]
    gateway.restart = lambda _username: 1 / 0
    path = alice.submit(page, "/restart").location
    assert path.endswith("done=restart-unclear")
    assert alice.submit(page, "/restart").location == path


def test_pages_go_on_while_others_wait_for_a_router(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_calls", threading.BoundedSemaphore(1))
    alice = home.visitor()
    with service._calls:
        assert "cannot be reached right now" in alice.get(home.path()).text
        assert "cannot be reached right now" in home.restart(alice).text
    assert home.acs.calls == []
    assert "Acme" in alice.get(home.path()).text


def test_router_with_nothing_to_say_is_shown(home: Home) -> None:
    device = home.acs.devices[0]
    device["_deviceId"] = device["_lastInform"] = None
    put(device, "InternetGatewayDevice.LANDevice", {})
    page = home.visitor().get(home.path())
    for words in ("Does not report", "never", "says nothing of its Wi-Fi", "does not tell"):
        assert words in page.text
    assert "does not do this" in home.visitor().get(home.path("wifi")).text


def test_account_without_a_line_is_told_so(home: Home) -> None:
    home.portal.execute("UPDATE lines SET is_closed = true WHERE username = 'ppp-alice'")
    alice = home.visitor()
    assert "No line runs on this account" in alice.get(home.path()).text
    assert alice.get(home.path("restart")).status == 404
    assert home.acs.calls == []


def test_password_is_stored_and_logged_nowhere(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    alice = home.visitor()
    pages = [home.change(alice)]
    home.acs.fault = ("POST", 500)
    pages.append(home.change(alice))
    pages.append(home.change(alice, "", PASSWORD))
    form = alice.get(home.path("wifi"))
    with clock.set_to(NOW + timedelta(minutes=11)):
        sent = alice.submit(form, "/wifi", wifi_name="Typed", wifi_password=PASSWORD)
        assert sent.location.startswith("/confirm")
        confirmed = alice.submit(alice.get(sent.location), "/confirm", password=ACCOUNT_PASSWORD)
        pages.append(alice.get(confirmed.location))
    assert pages[-1].select("#wifi_name")[0].get("value") == "Typed"
    kept = str(crawl.dump(home.portal.app))
    logged = "".join(str(vars(record)) for record in caplog.records)
    assert "router_restart_asked" not in kept
    assert "wifi_change_asked" in kept
    for text in (kept, logged, *(page.source for page in pages)):
        assert PASSWORD not in text
        assert "amber violin" not in text


@pytest.mark.parametrize("done", ["", "x", "restart", "restart-", "wifi-done-x", "done-wifi"])
def test_odd_words_of_an_outcome_say_nothing(home: Home, done: str) -> None:
    assert "Nothing is known of this." in home.visitor().get(home.path("outcome"), done=done).text
