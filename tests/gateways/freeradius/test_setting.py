"""Lines brought to what is wanted: tables first, then the sessions that run, and nothing twice."""

from __future__ import annotations

from typing import Any

import pytest

from core.radius_settings import HoldSettings, Means, NasType
from gateways.network.base import NetworkState, Setting
from gateways.network.errors import GatewayRefused, GatewayTimeout
from gateways.network.freeradius import coa, gateway
from tests.gateways.freeradius.conftest import Connect, FakeNas, Radius

OPEN = Setting(NetworkState.OPEN, 100_000, 20_000)
FASTER = Setting(NetworkState.OPEN, 300_000, 50_000)
HELD = Setting(NetworkState.HELD, 100_000, 20_000)
CLOSED = Setting(NetworkState.CLOSED, 100_000, 20_000)
LINE = "ppp-alice"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coa, "ANSWER_SECONDS", 0.2)


def reply(radius: Radius) -> dict[str, str]:
    rows = radius.rows("SELECT attribute, op, value FROM radreply WHERE username = :u", u=LINE)
    assert {op for _name, op, _value in rows} <= {":="}
    assert len({name for name, _op, _value in rows}) == len(rows)
    return {name: value for name, _op, value in rows}


def everything(radius: Radius) -> list[list[tuple[Any, ...]]]:
    return [
        radius.rows(f"SELECT * FROM {name} ORDER BY id")
        for name in ("radreply", "radcheck", "radusergroup")
    ]


def test_upload_comes_first_in_what_routeros_reads(radius: Radius, connect: Connect) -> None:
    connect().set_line(LINE, OPEN, None)
    assert reply(radius) == {
        "Mikrotik-Rate-Limit": "20000k/100000k",
        "Mikrotik-Address-List": "lastmile-open",
    }


def test_wispr_is_told_bits(radius: Radius, connect: Connect) -> None:
    connect("wispr").set_line(LINE, Setting(NetworkState.OPEN, 10_000_000, 20_000), None)
    assert reply(radius) == {
        "WISPr-Bandwidth-Max-Up": "20000000",
        "WISPr-Bandwidth-Max-Down": str(2**32 - 1),
    }


def test_line_without_speeds_is_told_none(radius: Radius, connect: Connect) -> None:
    connect().set_line(LINE, Setting(NetworkState.OPEN), None)
    assert reply(radius) == {"Mikrotik-Address-List": "lastmile-open"}


def test_held_line_gets_group_list_and_a_slow_line_no_more_than_it_had(
    radius: Radius, connect: Connect
) -> None:
    network = connect(hold=HoldSettings("garden", "held", "open", 512))
    network.set_line(LINE, Setting(NetworkState.HELD, 100_000, 256), None)
    assert reply(radius) == {"Mikrotik-Rate-Limit": "256k/512k", "Mikrotik-Address-List": "held"}
    assert radius.rows("SELECT username, groupname, priority FROM radusergroup") == [
        (LINE, "garden", 0)
    ]
    assert network.read_state(LINE) is NetworkState.HELD
    network.set_line(LINE, OPEN, None)
    assert radius.rows("SELECT * FROM radusergroup") == []
    assert network.read_state(LINE) is NetworkState.OPEN


def test_what_the_isp_keeps_there_stays(radius: Radius, connect: Connect) -> None:
    radius.execute(
        "INSERT INTO radcheck (username, attribute, op, value) VALUES"
        " ('ppp-alice', 'Cleartext-Password', ':=', 'pw'), ('ppp-bob', 'Auth-Type', ':=', 'Reject')"
    )
    radius.execute(
        "INSERT INTO radreply (username, attribute, op, value) VALUES"
        " ('ppp-alice', 'Framed-IP-Address', ':=', '203.0.113.9'),"
        " ('ppp-alice', 'Mikrotik-Rate-Limit', '=', '1M/1M'),"
        " ('ppp-alice', 'Mikrotik-Rate-Limit', '=', '2M/2M')"
    )
    radius.execute(
        "INSERT INTO radusergroup (username, groupname, priority) VALUES ('ppp-alice', 'home', 1)"
    )
    network = connect()
    for wanted in (HELD, CLOSED, OPEN):
        network.set_line(LINE, wanted, None)
    assert reply(radius) == {
        "Framed-IP-Address": "203.0.113.9",
        "Mikrotik-Rate-Limit": "20000k/100000k",
        "Mikrotik-Address-List": "lastmile-open",
    }
    assert radius.rows("SELECT username, attribute FROM radcheck ORDER BY id") == [
        (LINE, "Cleartext-Password"),
        ("ppp-bob", "Auth-Type"),
    ]
    assert radius.rows("SELECT groupname FROM radusergroup") == [("home",)]


def test_closed_line_is_refused(radius: Radius, connect: Connect, nas: FakeNas) -> None:
    network = connect()
    assert network.read_state(LINE) is None
    network.set_line(LINE, OPEN, None)
    radius.session("s1")
    network.set_line(LINE, CLOSED, OPEN)
    assert radius.rows("SELECT attribute, op, value FROM radcheck") == [
        ("Auth-Type", ":=", "Reject")
    ]
    assert reply(radius) == {}
    assert network.read_state(LINE) is NetworkState.CLOSED
    assert nas.kinds() == ["disconnect"]


def test_first_time_disturbs_no_open_line(radius: Radius, connect: Connect, nas: FakeNas) -> None:
    radius.session("s1")
    connect().set_line(LINE, OPEN, None)
    assert nas.got == []
    connect().set_line(LINE, HELD, None)
    assert nas.kinds() == ["coa"]


def test_first_time_lets_a_session_out_of_the_garden(
    radius: Radius, connect: Connect, nas: FakeNas
) -> None:
    """Of a line that was released while the portal was not connected: nobody knows its speeds."""
    radius.session("s1")
    network = connect()
    network.set_line(LINE, HELD, None)
    nas.got.clear()
    network.set_line(LINE, OPEN, Setting(NetworkState.HELD))
    assert [told["Mikrotik-Address-List"] for _kind, told in nas.got] == [["lastmile-open"]]


def test_change_is_told_to_each_session_that_runs(
    radius: Radius, connect: Connect, nas: FakeNas
) -> None:
    radius.session("s1", framedipaddress="100.64.0.9")
    radius.session("s2", nasipaddress="10.0.0.2")
    radius.session("s3", username="ppp-bob")
    network = connect()
    network.set_line(LINE, FASTER, OPEN)
    told = {each["Acct-Session-Id"][0]: each for _kind, each in nas.got}
    assert set(told) == {"s1", "s2"}
    assert told["s1"]["Mikrotik-Rate-Limit"] == ["50000k/300000k"]
    assert told["s1"]["Framed-IP-Address"] == ["100.64.0.9"]
    assert told["s1"]["User-Name"] == [LINE]
    assert told["s2"]["NAS-IP-Address"] == ["10.0.0.2"]
    assert all(each["Event-Timestamp"] for each in told.values())


def test_same_again_changes_and_sends_nothing(
    radius: Radius, connect: Connect, nas: FakeNas
) -> None:
    radius.session("s1")
    network = connect()
    network.set_line(LINE, HELD, OPEN)
    before, sent = everything(radius), len(nas.got)
    network.set_line(LINE, HELD, HELD)
    assert everything(radius) == before
    assert len(nas.got) == sent == 1


def test_crash_between_tables_and_session_is_made_good(
    radius: Radius, connect: Connect, nas: FakeNas
) -> None:
    radius.session("s1")
    network = connect()
    network.set_line(LINE, FASTER, OPEN)
    network.set_line(LINE, FASTER, OPEN)  # nothing of the first one was noted
    assert nas.kinds() == ["coa", "coa"]


def test_tables_are_written_before_anybody_is_told(
    radius: Radius, connect: Connect, nas: FakeNas
) -> None:
    seen: list[str] = []

    def look(_kind: str, _told: dict[str, list[Any]]) -> str:
        seen.append(reply(radius)["Mikrotik-Address-List"])
        return "ack"

    nas.answer = look
    radius.session("s1")
    connect().set_line(LINE, HELD, OPEN)
    assert seen == ["lastmile-held"]


@pytest.mark.parametrize("cause", [401, "nak"])
def test_refused_change_ends_the_session(
    radius: Radius, connect: Connect, nas: FakeNas, cause: int | str
) -> None:
    nas.answer = lambda kind, _told: cause if kind == "coa" else "ack"
    radius.session("s1")
    connect().set_line(LINE, HELD, OPEN)
    assert nas.kinds() == ["coa", "disconnect"]


def test_session_that_the_nas_does_not_know_is_none(
    radius: Radius, connect: Connect, nas: FakeNas
) -> None:
    nas.answer = lambda _kind, _told: 503
    radius.session("s1")
    connect().set_line(LINE, HELD, OPEN)
    connect().set_line(LINE, CLOSED, HELD)
    assert nas.kinds() == ["coa", "disconnect"]


def test_why_both_were_refused_is_said(radius: Radius, connect: Connect, nas: FakeNas) -> None:
    nas.answer = lambda kind, _told: 401 if kind == "coa" else 501
    radius.session("s1")
    with pytest.raises(GatewayRefused) as refusal:
        connect().set_line(LINE, HELD, OPEN)
    assert str(refusal.value) == (
        "10.0.0.1 refused the CoA: Unsupported-Attribute; "
        "10.0.0.1 refused the Disconnect: Administratively-Prohibited"
    )


def test_silent_nas_is_asked_twice_each_and_then_left_alone_for_a_while(
    radius: Radius, connect: Connect, nas: FakeNas
) -> None:
    nas.answer = lambda _kind, _told: None
    radius.session("s1")
    network = connect()
    with pytest.raises(GatewayTimeout, match=r"10\.0\.0\.1 did not answer the CoA at 127"):
        network.set_line(LINE, HELD, OPEN)
    assert nas.kinds() == ["coa", "coa", "disconnect", "disconnect"]
    with pytest.raises(GatewayTimeout, match="did not answer a moment ago"):
        network.set_line(LINE, HELD, OPEN)
    assert len(nas.got) == 4
    nas.answer = lambda _kind, _told: "ack"
    network.caller._monotonic = lambda: 1e12
    network.set_line(LINE, HELD, OPEN)
    assert nas.kinds()[4:] == ["coa"]


def test_change_that_is_not_answered_ends_the_session(
    radius: Radius, connect: Connect, nas: FakeNas
) -> None:
    nas.answer = lambda kind, _told: "ack" if kind == "disconnect" else None
    radius.session("s1")
    connect().set_line(LINE, HELD, OPEN)
    assert nas.kinds() == ["coa", "coa", "disconnect"]


def test_one_session_that_fails_keeps_no_other_from_being_told(
    radius: Radius, connect: Connect, nas: FakeNas
) -> None:
    radius.session("s1", nasipaddress="192.0.2.1")
    radius.session("s2")
    with pytest.raises(GatewayRefused, match=r"runs on 192\.0\.2\.1, of which .* no secret"):
        connect().set_line(LINE, HELD, OPEN)
    assert [told["Acct-Session-Id"] for _kind, told in nas.got] == [["s2"]]


def test_silent_servers_of_one_line_do_not_hold_up_the_worker(
    radius: Radius, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def say_nothing(_nas: object, session: coa.Running, _attributes: object) -> None:
        asked.append(session.session_id)
        raise GatewayTimeout("no answer")

    monkeypatch.setattr(gateway, "MOST_SECONDS", 0)
    for number in range(4):
        radius.session(f"s{number}")
    network = connect()
    monkeypatch.setattr(network.caller, "change", say_nothing)
    with pytest.raises(GatewayTimeout, match="no answer"):
        network.set_line(LINE, HELD, OPEN)
    assert asked == ["s3"]


def test_walled_garden_by_group_alone_needs_a_new_session(
    radius: Radius, connect: Connect, nas: FakeNas
) -> None:
    radius.session("s1")
    network = connect("wispr")
    network.set_line(LINE, FASTER, OPEN)
    network.set_line(LINE, HELD, FASTER)
    assert nas.kinds() == ["coa", "disconnect"]
    assert nas.got[0][1]["WISPr-Bandwidth-Max-Up"] == [50_000_000]


def test_kind_that_takes_no_coa_is_left_alone(
    radius: Radius, connect: Connect, nas: FakeNas
) -> None:
    silent = NasType({"Filter-Id": "plan"}, {"Filter-Id": "held"}, Means.NOTHING, Means.NOTHING)
    radius.session("s1")
    connect("olt", types={"olt": silent}).set_line(LINE, HELD, OPEN)
    assert reply(radius) == {"Filter-Id": "held"}
    assert nas.got == []


def test_attribute_that_no_dictionary_has_is_named(radius: Radius, connect: Connect) -> None:
    radius.session("s1")
    kind = NasType({"Cisco-AVPair": "x"}, {"Cisco-AVPair": "y"})
    with pytest.raises(GatewayRefused, match="no dictionary knows Cisco-AVPair"):
        connect("cisco", types={"cisco": kind}).set_line(LINE, HELD, OPEN)


def test_attributes_of_a_further_dictionary_are_sent(
    radius: Radius, connect: Connect, nas: FakeNas, tmp_path: Any
) -> None:
    path = tmp_path / "dictionary"
    path.write_text(
        "VENDOR\tAcme\t9999\nBEGIN-VENDOR\tAcme\nATTRIBUTE\tAcme-Plan\t1\tstring\nEND-VENDOR\tAcme\n"
    )
    radius.session("s1")
    kind = NasType({"Acme-Plan": "{down_kbps}"}, {"Acme-Plan": "held"})
    connect("acme", types={"acme": kind}, dictionary=path).set_line(LINE, FASTER, OPEN)
    [(_kind, told)] = nas.got
    assert [value for value in told.values() if value == [b"300000"]]
