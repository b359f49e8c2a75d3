"""The address that a RADIUS server posts accounting to."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask

from core import clock
from tests import crawl
from tests.conftest import Portal
from tests.page import BASE
from tests.world import NOW

PATH = "/accounting/radius"
TOKEN = "0123456789abcdefghij"
BASIC = {"Authorization": "Basic " + base64.b64encode(f"radius:{TOKEN}".encode()).decode()}


@pytest.fixture
def app(portal: Portal) -> Iterator[Flask]:
    with crawl.another_app(portal, accounting_token=TOKEN) as app, clock.set_to(NOW):
        yield app


def report(kind: str, seconds: int = 0, **more: Any) -> dict[str, Any]:
    """As rlm_rest writes it."""
    values = {
        "Acct-Status-Type": kind,
        "User-Name": "ppp-alice",
        "Acct-Session-Id": "S1",
        "Acct-Unique-Session-Id": "0f" * 16,
        "NAS-IP-Address": "10.0.0.1",
        "Event-Timestamp": (NOW + timedelta(seconds=seconds)).strftime("%b %e %Y %H:%M:%S UTC"),
        "Acct-Session-Time": seconds,
    }
    values |= {name.replace("_", "-"): value for name, value in more.items()}
    return {name: {"type": "string", "value": [value]} for name, value in values.items()}


def send(app: Flask, body: Any, headers: dict[str, str] | None = None) -> tuple[int, str]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = app.test_client().post(
        PATH,
        base_url=BASE,
        data=data,
        headers=BASIC if headers is None else headers,
        content_type="application/json",
    )
    return answer.status_code, answer.text


def carried(portal: Portal) -> tuple[int, int]:
    [(up, down)] = portal.rows(
        "SELECT coalesce(sum(up_bytes), 0), coalesce(sum(down_bytes), 0) FROM usage_days"
    )
    return int(up), int(down)


def test_session_is_counted_once_however_often_it_is_told(portal: Portal, app: Flask) -> None:
    counters = {"Acct_Input_Octets": 5, "Acct_Output_Octets": 7}
    stop = report("Stop", 900, Acct_Output_Gigawords=2, **counters)
    for body in (report("Start"), report("Interim-Update", 300, **counters), stop, stop):
        with clock.set_to(NOW + timedelta(seconds=900)):
            assert send(app, body) == (204, "")
    assert carried(portal) == (5, 7 + 2 * 2**32)
    [(name, session, ended)] = portal.rows(
        "SELECT nases.name, session, ended_at IS NOT NULL FROM usage_sessions"
        " JOIN nases ON nases.id = nas_id"
    )
    assert (name, session, bool(ended)) == ("10.0.0.1", "0f" * 16, True)
    [(source, has_read)] = portal.rows("SELECT name, read_at IS NOT NULL FROM usage_sources")
    assert (source, bool(has_read)) == ("posted", True)


def test_report_that_is_replayed_without_a_readable_time_doubles_nothing(
    portal: Portal, app: Flask
) -> None:
    """FreeRADIUS runs in a zone of its own and kept one report for forty minutes."""
    for arrives, seconds, down in ((0, 3600, 10), (5, 3900, 11), (51, 6600, 13), (52, 4200, 12)):
        body = report(
            "Interim-Update",
            Event_Timestamp="Jun 20 2026 12:00:00 PDT",
            Acct_Session_Time=seconds,
            Acct_Input_Octets=0,
            Acct_Output_Octets=down * 10**8,
        )
        with clock.set_to(NOW + timedelta(minutes=arrives)):
            assert send(app, body)[0] == 204
    assert carried(portal) == (0, 13 * 10**8)
    assert portal.rows("SELECT count(*) FROM usage_sessions") == [(1,)]


def test_access_server_that_begins_anew_ends_its_sessions(portal: Portal, app: Flask) -> None:
    assert send(app, report("Start"))[0] == 204
    assert send(app, report("Start", NAS_IP_Address="10.0.0.2"))[0] == 204
    on = {"Acct-Status-Type": "Accounting-On", "NAS-IP-Address": "10.0.0.1"}
    assert send(app, on) == (204, "")
    rows = portal.rows(
        "SELECT nases.name FROM usage_sessions JOIN nases ON nases.id = nas_id"
        " WHERE ended_at IS NULL"
    )
    assert rows == [("10.0.0.2",)]


def test_bearer_is_let_in_too(portal: Portal, app: Flask) -> None:
    assert send(app, report("Start"), {"Authorization": f"Bearer {TOKEN}"})[0] == 204


@pytest.mark.parametrize(
    "given", ["", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", "Digest a=b", f"Bearer x{TOKEN}"]
)
def test_who_lacks_the_token_writes_nothing(portal: Portal, app: Flask, given: str) -> None:
    headers = {"Authorization": given} if given else {}
    assert send(app, report("Start"), headers) == (401, "wrong token\n")
    assert portal.rows("SELECT * FROM nases") == []


def test_without_a_token_nobody_may_post(portal: Portal) -> None:
    empty = {"Authorization": "Basic " + base64.b64encode(b"radius:").decode()}
    for headers in (BASIC, empty, {"Authorization": "Bearer "}):
        assert send(portal.app, report("Start"), headers)[0] == 401


def test_line_that_nobody_has_is_taken_and_forgotten(portal: Portal, app: Flask) -> None:
    assert send(app, report("Start", User_Name="ppp-nobody")) == (204, "")
    assert portal.rows("SELECT * FROM usage_sessions") == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "the body is no JSON"),
        (b"\xff\xfe", "the body is no JSON"),
        (b"[" * 100_000, "413"),
        (b"[" * 60_000, "the body is no JSON"),
        ([], "the body must be a JSON object of attributes"),
        ({}, "Acct-Status-Type is missing"),
        ({"Acct-Status-Type": None}, "Acct-Status-Type is missing"),
        ({"Acct-Status-Type": "Start"}, "NAS-IP-Address is missing"),
        ({"Acct-Status-Type": "Start", "NAS-IP-Address": "10.0.0.1"}, "User-Name or"),
        (report("Stop", Acct_Input_Octets="-1"), "Acct-Input-Octets must be a whole number"),
        (report("Stop", Acct_Input_Octets=2**63), "Acct-Input-Octets cannot be so many"),
        (
            report("Stop", Acct_Input_Octets=1, Acct_Input_Gigawords=2**40),
            "Acct-Input-Octets cannot be so many",
        ),
        (report("Stop", Acct_Input_Octets=10**30), "Acct-Input-Octets must be a whole number"),
        (report("Stop", User_Name="a\x00b"), "User-Name cannot be so"),
        (report("Stop", User_Name="\ud800"), "User-Name cannot be so"),
        (report("Stop", User_Name="x" * 300), "User-Name cannot be so"),
    ],
)
def test_what_is_no_report_is_refused_with_the_reason(
    portal: Portal, app: Flask, body: Any, said: str
) -> None:
    status, words = send(app, body)
    assert (status, True) == (413 if said == "413" else 400, said == "413" or said in words)
    assert portal.rows("SELECT * FROM usage_sessions") == []


def test_kinds_that_say_nothing_of_a_session_are_taken(portal: Portal, app: Flask) -> None:
    assert send(app, report("Tunnel-Start")) == (204, "")
    assert portal.rows("SELECT * FROM nases") == []


@pytest.mark.parametrize(
    "more",
    [
        {"Event_Timestamp": "Jan  1 1970 00:00:00 UTC"},
        {"Event_Timestamp": "Jun 20 2026 21:00:00 CEST"},
        {"Event_Timestamp": 10**11 - 1},
        {"Event_Timestamp": "nonsense UTC"},
        {"Acct_Session_Time": 2**32 - 1},
        {"Acct_Delay_Time": 2**62},
        {"Framed_IP_Address": "x" * 200},
    ],
)
def test_odd_clocks_and_ages_are_not_believed(
    portal: Portal, app: Flask, more: dict[str, Any]
) -> None:
    counters = {"Acct_Input_Octets": 5, "Acct_Output_Octets": 7}
    assert send(app, report("Interim-Update", 60, **{**counters, **more}))[0] == 204
    [(days,)] = portal.rows("SELECT count(*) FROM usage_days")
    assert days <= 2
