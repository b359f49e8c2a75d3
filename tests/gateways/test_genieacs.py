"""Routers by GenieACS, against its NBI as it is documented and as its source answers."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from core import clock
from core.findings import Level
from core.genieacs_settings import USUAL_FIND_BY, GenieacsSettings, ModelMap, WifiPaths
from gateways.network.equipment import Outcome, WifiChange
from gateways.network.errors import (
    GatewayAway,
    GatewayRefused,
    GatewayTimeout,
    NoEquipment,
    SeveralEquipment,
)
from gateways.network.genieacs import nbi
from gateways.network.genieacs.gateway import GenieacsEquipment
from tests.gateways.fake_genieacs import FakeGenieacs, fake_genieacs, put, tr098, tr181, value
from tests.world import NOW

HOME = WifiChange(("0", "1"), "Casa Ñ", 'pass "word" {$ne}')
PSK = "InternetGatewayDevice.LANDevice.1.WLANConfiguration.{}.PreSharedKey.1.PreSharedKey"
SSID = "InternetGatewayDevice.LANDevice.1.WLANConfiguration.{}.SSID"


@pytest.fixture(autouse=True)
def now() -> Iterator[None]:
    with clock.set_to(NOW):
        yield


@pytest.fixture
def acs() -> Iterator[FakeGenieacs]:
    with fake_genieacs() as acs:
        acs.devices = [tr098("ppp-alice", 1), tr098("ppp-mallory", 2)]
        yield acs


def equipment(acs: FakeGenieacs, **settings: Any) -> GenieacsEquipment:
    return GenieacsEquipment(GenieacsSettings(acs.url, **settings))


# It works.


def test_router_by_tr098_is_read(acs: FakeGenieacs) -> None:
    router = equipment(acs).read("ppp-alice")
    assert (router.model, router.is_online) == ("Acme BM632w", True)
    assert router.heard_at == datetime(2026, 6, 20, 18, 58, tzinfo=UTC)
    assert [(each.key, each.name, each.band) for each in router.networks] == [
        ("0", "Home 1", "2.4"),
        ("1", "Home 1", "5"),
    ]
    assert all(each.has_password for each in router.networks)
    assert router.devices_at == datetime(2026, 6, 20, 18, 55, tzinfo=UTC)
    assert [(each.name, each.mac) for each in router.devices or ()] == [
        ("Tablet", "02:00:5e:00:53:01")
    ]


def test_router_by_tr181_is_read(acs: FakeGenieacs) -> None:
    acs.devices.append(tr181("ppp-rich", 3))
    router = equipment(acs).read("ppp-rich")
    assert router.model == "OpenWrt One"
    assert [each.name for each in router.networks] == ["Casa", "Guests"]
    assert [each.mac for each in router.devices or ()] == ["02:00:5e:00:53:0a"]


def test_password_that_the_router_has_is_not_asked_for(acs: FakeGenieacs) -> None:
    equipment(acs).read("ppp-alice")
    [(_method, path)] = acs.calls
    assert "PreSharedKey.1.PreSharedKey._writable" in path
    found = acs.search("devices", {"_id": acs.devices[0]["_id"]}, "", 1)
    assert "what it was before" not in str(found)


def test_restart_is_a_task_for_this_device_alone(acs: FakeGenieacs) -> None:
    assert equipment(acs).restart("ppp-alice") is Outcome.DONE
    [task] = acs.done
    assert (task["name"], task["device"]) == ("reboot", acs.devices[0]["_id"])
    assert acs.calls[-1][1].endswith("/tasks?timeout=3000&connection_request")


def test_wifi_is_changed_in_one_task(acs: FakeGenieacs) -> None:
    assert equipment(acs).change_wifi("ppp-alice", HOME) is Outcome.DONE
    [task] = acs.done
    assert task["parameterValues"] == [
        [path.format(number), text, "xsd:string"]
        for number in (1, 5)
        for path, text in ((SSID, HOME.name), (PSK, HOME.password))
    ]


def test_name_alone_leaves_the_password(acs: FakeGenieacs) -> None:
    equipment(acs).change_wifi("ppp-alice", WifiChange(("1",), "Attic"))
    [task] = acs.done
    assert task["parameterValues"] == [[SSID.format(5), "Attic", "xsd:string"]]


def test_refresh_asks_for_what_is_connected(acs: FakeGenieacs) -> None:
    assert equipment(acs).refresh("ppp-alice") is Outcome.DONE
    assert acs.done[0]["objectName"] == "InternetGatewayDevice.LANDevice.1.Hosts.Host"


def test_model_of_which_nothing_is_known_is_not_asked_for_everything(acs: FakeGenieacs) -> None:
    unknown = equipment(acs, models={"BM632w": ModelMap()})
    assert equipment(acs).read("ppp-alice").can_refresh
    assert not unknown.read("ppp-alice").can_refresh
    with pytest.raises(GatewayRefused):
        unknown.refresh("ppp-alice")
    assert acs.done == []


def test_router_that_is_offline_does_it_later_and_once(acs: FakeGenieacs) -> None:
    acs.routers = "offline"
    for _ in range(3):
        assert equipment(acs).restart("ppp-alice") is Outcome.QUEUED
    for name in ("First", "Second"):
        change = WifiChange(("0",), name, "long enough")
        assert equipment(acs).change_wifi("ppp-alice", change) is Outcome.QUEUED
    assert [task["name"] for task in acs.tasks] == ["reboot", "setParameterValues"]
    assert acs.tasks[1]["parameterValues"][0][1] == "Second"
    assert all(task["expiry"] == 86_400 for task in acs.tasks)


def test_password_that_is_queued_outlives_a_later_name(acs: FakeGenieacs) -> None:
    acs.routers = "offline"
    for change in (
        WifiChange(("0",), "First", "long enough"),
        WifiChange(("0",), "Second"),
        WifiChange(("0",), "Third"),
    ):
        assert equipment(acs).change_wifi("ppp-alice", change) is Outcome.QUEUED
    values = [[each[1] for each in task["parameterValues"]] for task in acs.tasks]
    assert values == [["First", "long enough"], ["Third"]]


def test_line_is_found_by_what_the_settings_name(acs: FakeGenieacs) -> None:
    acs.devices[1]["_tags"] = ["vip", "circuit 7"]
    found = equipment(acs, find_by=("_tags",))
    assert found.restart("circuit 7") is Outcome.DONE
    assert acs.done[0]["device"] == acs.devices[1]["_id"]
    by_serial = equipment(acs, find_by=("_deviceId._SerialNumber",))
    assert by_serial.read("000001").networks[0].name == "Home 1"


def test_model_of_its_own_is_read_by_its_map(acs: FakeGenieacs) -> None:
    put(acs.devices[0], "InternetGatewayDevice.X_ACME.Name", value("Shed"))
    put(acs.devices[0], "InternetGatewayDevice.X_ACME.Key", value(""))
    paths = WifiPaths("InternetGatewayDevice.X_ACME.Name", ("InternetGatewayDevice.X_ACME.Key",))
    found = equipment(acs, models={"BM*": ModelMap((paths,))})
    router = found.read("ppp-alice")
    assert ([each.name for each in router.networks], router.devices) == (["Shed"], None)
    found.change_wifi("ppp-alice", WifiChange(("0",), "Barn", "long enough"))
    assert [each[0] for each in acs.done[0]["parameterValues"]] == [paths.name, *paths.passwords]


def test_key_is_brought_along(acs: FakeGenieacs) -> None:
    acs.authorization = "Bearer key"
    with pytest.raises(GatewayAway, match="401"):
        equipment(acs).read("ppp-alice")
    assert equipment(acs, headers={"Authorization": "Bearer key"}).read("ppp-alice").is_online


@pytest.mark.parametrize(
    ("heard", "is_online"),
    [("2026-06-20T18:46:00.000Z", True), ("2026-06-20T18:44:00.000Z", False), ("soon", False)],
)
def test_router_is_online_while_it_misses_few_reports(
    acs: FakeGenieacs, heard: str, is_online: bool
) -> None:
    acs.devices[0]["_lastInform"] = heard
    assert equipment(acs).read("ppp-alice").is_online is is_online


# Nobody reaches another's router.


@pytest.mark.parametrize(
    "username",
    [
        "*",
        "ppp-*",
        "ppp-al*",
        "/.*/",
        "/ppp-alice/i",
        "PPP-ALICE",
        "ppp-alice ",
        "",
        "\0",
        "ppp-ali",
    ],
)
def test_no_name_finds_the_router_of_another(acs: FakeGenieacs, username: str) -> None:
    for act in (
        lambda: equipment(acs).read(username),
        lambda: equipment(acs).restart(username),
        lambda: equipment(acs).change_wifi(username, HOME),
    ):
        with pytest.raises(NoEquipment):
            act()
    assert acs.done == acs.tasks == []


def test_what_finds_too_much_is_looked_at_letter_by_letter(
    acs: FakeGenieacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    everything = FakeGenieacs.search
    monkeypatch.setattr(
        FakeGenieacs,
        "search",
        lambda self, which, _query, *more: everything(self, which, {}, *more),
    )
    equipment(acs).restart("ppp-mallory")
    assert [task["device"] for task in acs.done] == [acs.devices[1]["_id"]]
    with pytest.raises(NoEquipment):
        equipment(acs).restart("ppp-nobody")


def test_name_with_signs_of_queries_is_just_a_name(acs: FakeGenieacs) -> None:
    name = '"}],"$where":"1'
    with pytest.raises(NoEquipment):
        equipment(acs).read(name)
    acs.devices.append(tr098(name, 4))
    equipment(acs).restart(name)
    assert [task["device"] for task in acs.done] == [acs.devices[2]["_id"]]


def test_two_routers_of_a_line_are_both_left_alone(acs: FakeGenieacs) -> None:
    acs.devices[1] = tr098("ppp-alice", 2)
    for act in (equipment(acs).read, equipment(acs).restart):
        with pytest.raises(SeveralEquipment):
            act("ppp-alice")
    assert acs.done == []


TAGS = ("_tags", USUAL_FIND_BY[0])


@pytest.mark.parametrize("find_by", [TAGS, TAGS[::-1], ("_tags",)])
def test_router_that_claims_the_line_of_a_tagged_one_is_not_touched(
    acs: FakeGenieacs, find_by: tuple[str, ...]
) -> None:
    acs.devices[1] = tr098("ppp-alice", 2)
    acs.devices[0]["_tags"] = ["vip", "ppp-alice"]
    acs.devices[1]["_tags"] = ["ppp-mallory"]
    gateway = equipment(acs, find_by=find_by)
    gateway.restart("ppp-alice")
    assert [task["device"] for task in acs.done] == [acs.devices[0]["_id"]]
    acs.devices[0]["_tags"].append("ppp-mallory")
    with pytest.raises(SeveralEquipment):
        gateway.restart("ppp-mallory")


def test_by_tags_alone_no_router_is_believed(acs: FakeGenieacs) -> None:
    acs.devices[:] = [tr098("ppp-alice", 2)]
    with pytest.raises(NoEquipment):
        equipment(acs, find_by=("_tags",)).change_wifi("ppp-alice", HOME)
    assert acs.done == acs.tasks == []


def test_router_that_was_replaced_is_not_asked(acs: FakeGenieacs) -> None:
    acs.devices.append(tr098("ppp-alice", 3, heard="2026-04-01T00:00:00.000Z"))
    equipment(acs).restart("ppp-alice")
    assert [task["device"] for task in acs.done] == [acs.devices[0]["_id"]]


def test_router_that_is_handed_on_is_the_new_lines(acs: FakeGenieacs) -> None:
    acs.devices[:] = [tr098("ppp-mallory", 1)]
    with pytest.raises(NoEquipment):
        equipment(acs).restart("ppp-alice")


# It refuses.


def test_task_that_the_router_refused_is_taken_back(acs: FakeGenieacs) -> None:
    acs.routers = "refuse"
    with pytest.raises(GatewayRefused, match=r"cwmp\.9007"):
        equipment(acs).change_wifi("ppp-alice", HOME)
    assert acs.tasks == []


def test_network_that_is_not_there_is_refused(acs: FakeGenieacs) -> None:
    with pytest.raises(GatewayRefused, match="no such network"):
        equipment(acs).change_wifi("ppp-alice", WifiChange(("7", "x", ""), "Home"))
    assert acs.done == []


def test_password_without_a_parameter_is_refused_whole(acs: FakeGenieacs) -> None:
    put(acs.devices[0], PSK.format(5), value("", can_write=False))
    with pytest.raises(GatewayRefused, match="no parameter"):
        equipment(acs).change_wifi("ppp-alice", HOME)
    assert acs.done == []


def test_network_that_is_off_is_not_shown(acs: FakeGenieacs) -> None:
    put(acs.devices[0], "InternetGatewayDevice.LANDevice.1.WLANConfiguration.5.Enable", value("0"))
    assert [each.key for each in equipment(acs).read("ppp-alice").networks] == ["0"]


# It survives.


@pytest.mark.parametrize("what", [401, 500, 503, "die", "garbage", "wrong", "deep", 301])
def test_question_without_a_good_answer_changes_nothing(acs: FakeGenieacs, what: int | str) -> None:
    acs.fault = ("GET", what)
    for act in (equipment(acs).read, equipment(acs).restart, equipment(acs).refresh):
        with pytest.raises(GatewayAway):
            act("ppp-alice")
    assert acs.done == acs.tasks == []


@pytest.mark.parametrize(
    ("what", "raised"),
    [
        (503, GatewayAway),
        (429, GatewayAway),
        (401, GatewayAway),
        (400, GatewayRefused),
        (404, NoEquipment),
        (500, GatewayTimeout),
        (504, GatewayTimeout),
        (302, GatewayTimeout),
        ("die", GatewayTimeout),
    ],
)
def test_each_answer_to_a_task_means_what_it_says(
    acs: FakeGenieacs, what: int | str, raised: type[Exception]
) -> None:
    acs.fault = ("POST", what)
    with pytest.raises(raised) as caught:
        equipment(acs).restart("ppp-alice")
    assert type(caught.value) is raised


def test_no_page_waits_for_a_genieacs_that_hangs(
    acs: FakeGenieacs, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nbi.READ_SECONDS + nbi.TASK_SECONDS + nbi.CHECK_SECONDS <= 9
    monkeypatch.setattr(nbi, "READ_SECONDS", 0.3)
    monkeypatch.setattr(nbi, "TASK_SECONDS", 0.3)
    acs.fault = ("GET", "hang")
    with pytest.raises(GatewayAway):
        equipment(acs).read("ppp-alice")
    acs.fault = ("POST", "hang")
    with pytest.raises(GatewayTimeout):
        equipment(acs).restart("ppp-alice")


def test_whole_press_has_one_deadline(acs: FakeGenieacs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A router that refused takes two calls more, which end with it."""
    for name, seconds in (("READ_SECONDS", 0.9), ("TASK_SECONDS", 0.9), ("CHECK_SECONDS", 0.1)):
        monkeypatch.setattr(nbi, name, seconds)
    acs.routers = "refuse"
    decide = FakeGenieacs.decide

    def slowly(self: FakeGenieacs, *call: str) -> tuple[int, Any]:
        time.sleep(0.8)
        return decide(self, *call)

    monkeypatch.setattr(FakeGenieacs, "decide", slowly)
    began = time.monotonic()
    assert equipment(acs).restart("ppp-alice") is Outcome.QUEUED
    assert time.monotonic() - began < 2.4, "three calls that each have their time take as long"


def test_refused_task_that_stays_queued_may_be_done_later(acs: FakeGenieacs) -> None:
    acs.routers, acs.fault = "refuse", ("DELETE", "die")
    with pytest.raises(GatewayTimeout, match="not taken back"):
        equipment(acs).restart("ppp-alice")


def test_nobody_listens(acs: FakeGenieacs) -> None:
    nowhere = GenieacsEquipment(GenieacsSettings("http://127.0.0.1:1"))
    with pytest.raises(GatewayAway):
        nowhere.restart("ppp-alice")


@pytest.mark.parametrize("oddly", [None, 7, [], "x", {"_value": {}}, {"_value": "\x00\u202e" * 90}])
def test_device_that_says_odd_things_is_shown_as_far_as_it_goes(
    acs: FakeGenieacs, oddly: object
) -> None:
    device = acs.devices[0]
    device["_deviceId"] = device["_lastInform"] = oddly
    put(device, "InternetGatewayDevice.ManagementServer", oddly)
    put(device, SSID.format(1), oddly)
    put(device, "InternetGatewayDevice.LANDevice.1.Hosts.Host", {"1": oddly, "x": oddly, "_y": 1})
    router = equipment(acs).read("ppp-alice")
    assert [each.name for each in router.networks][-1] == "Home 1"
    assert not router.is_online


def test_password_is_in_no_line_of_the_log(
    acs: FakeGenieacs, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for acs.routers in ("answer", "offline"):
        equipment(acs).change_wifi("ppp-alice", HOME)
    acs.routers = "refuse"
    with pytest.raises(GatewayRefused) as caught:
        equipment(acs).change_wifi("ppp-alice", HOME)
    assert str(HOME.password) not in str(caught.value)
    logged = "".join(str(vars(record)) for record in caplog.records)
    assert "called" in logged
    assert str(HOME.password) not in logged + repr(HOME)


# The check.


def check(
    acs: FakeGenieacs, *lines: str, find_by: tuple[str, ...] = USUAL_FIND_BY
) -> dict[str, tuple[Level, str]]:
    gateway = equipment(acs, find_by=find_by)
    findings = gateway.check(lambda names: set(lines) & set(names))
    return {found.check: (found.level, found.words + found.remedy) for found in findings}


def test_check_finds_nothing_wrong(acs: FakeGenieacs) -> None:
    for number, name in enumerate(("ppp-alice", "ppp-mallory")):
        acs.devices[number]["_tags"] = [name]
    found = check(acs, "ppp-alice", "ppp-mallory", find_by=("_tags",))
    assert {level for level, _words in found.values()} == {Level.OK}
    assert "knows 2 devices" in found["reach"][1]


def test_check_notes_that_routers_are_believed(acs: FakeGenieacs) -> None:
    lines = ("ppp-alice", "ppp-mallory")
    for find_by in (USUAL_FIND_BY, TAGS, ("_deviceId._SerialNumber",)):
        level, words = check(acs, *lines, find_by=find_by)["trust"]
        assert (level, "_tags alone" in words) == (Level.NOTE, True)
    assert check(acs, *lines, find_by=("VirtualParameters.line",))["trust"][0] is Level.OK


def test_check_names_a_router_that_claims_the_line_of_a_tagged_one(acs: FakeGenieacs) -> None:
    acs.devices[1] = tr098("ppp-alice", 2)
    acs.devices[0]["_tags"] = ["ppp-alice"]
    level, words = check(acs, "ppp-alice", find_by=TAGS)["lines"]
    assert (level, "says that it is of the line ppp-alice" in words) == (Level.NOTE, True)


def test_check_says_what_is_wrong(acs: FakeGenieacs) -> None:
    assert check(acs)["lines"][0] is Level.WRONG
    assert check(acs, "ppp-alice")["lines"][0] is Level.NOTE
    put(acs.devices[0], "InternetGatewayDevice.LANDevice", {})
    assert "Acme BM632w (1)" in check(acs, "ppp-alice", "ppp-mallory")["wifi"][1]
    acs.devices.append(tr098("ppp-alice", 5))
    assert "More than one device" in check(acs, "ppp-alice", "ppp-mallory")["lines"][1]
    acs.devices.clear()
    assert check(acs)["reach"][0] is Level.NOTE
    acs.fault = ("GET", 503)
    assert "answered 503" in check(acs)["reach"][1]
    assert {method for method, _path in acs.calls} == {"GET"}
