"""Rows of `radacct` as reports: those that changed, once, wherever the cursor stands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateways.network.base import Report, ReportKind
from gateways.network.errors import GatewayRefused, GatewayTimeout
from gateways.network.freeradius import accounting
from gateways.network.freeradius.database import Database
from gateways.network.freeradius.gateway import FreeradiusNetwork
from tests.gateways.freeradius.conftest import Connect, Radius

MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounting, "REST", 0)


def began(days: float = 0) -> datetime:
    """Some time ago by the clock of the database, which tests do not set."""
    return datetime.now(UTC).replace(microsecond=0) - timedelta(days=days)


def scan(network: FreeradiusNetwork, cursor: str = "") -> tuple[list[Report], str]:
    """Everything until there is no more, and the cursor then."""
    found: list[Report] = []
    while True:
        part = network.read_accounting(cursor)
        found += part.reports
        cursor = part.cursor
        if not part.has_more:
            return found, cursor


def test_session_is_reported_as_it_goes_on(radius: Radius, connect: Connect) -> None:
    network, start = connect(), began(0.1)
    radius.session("s1", acctstarttime=start, acctupdatetime=start)
    [report], cursor = scan(network)
    assert report == Report(
        ReportKind.START, "10.0.0.1", start, "s1", "ppp-alice", 0, 0, 0, has_gigawords=False
    )
    assert scan(network, cursor)[0] == []
    radius.session(
        "s1",
        acctupdatetime=start + 10 * MINUTE,
        acctsessiontime=600,
        acctinputoctets=7,
        acctoutputoctets=2**32 + 1,
        framedipaddress="100.64.0.9",
        callingstationid="02:00:5e:00:00:01",
    )
    [report], cursor = scan(network, cursor)
    assert report == Report(
        ReportKind.INTERIM,
        "10.0.0.1",
        start + 10 * MINUTE,
        "s1",
        "ppp-alice",
        600,
        7,
        2**32 + 1,
        has_gigawords=True,
        address="100.64.0.9",
        device="02:00:5e:00:00:01",
    )
    radius.session(
        "s1",
        acctstoptime=start + 20 * MINUTE,
        acctsessiontime=1200,
        acctinputoctets=8,
        acctterminatecause="Lost-Carrier",
    )
    [report], cursor = scan(network, cursor)
    assert (report.kind, report.at) == (ReportKind.STOP, start + 20 * MINUTE)
    assert (report.session_seconds, report.up_octets, report.cause) == (1200, 8, "Lost-Carrier")
    assert scan(network, cursor)[0] == []


def test_what_was_read_but_not_taken_in_is_read_again(radius: Radius, connect: Connect) -> None:
    network = connect()
    radius.session("s1", acctstarttime=began(0.1), acctsessiontime=9, acctinputoctets=1)
    first = network.read_accounting("")
    assert len(first.reports) == 1
    again, cursor = scan(network)  # from the same cursor: the worker could not write
    assert again == list(first.reports)
    assert scan(network, cursor)[0] == []


def test_another_process_goes_on_at_the_cursor(radius: Radius, connect: Connect) -> None:
    radius.session("old", acctstarttime=began(3), acctstoptime=began(2), acctsessiontime=86_400)
    radius.session("new", acctstarttime=began(0.2), acctstoptime=began(0.1), acctsessiontime=8_640)
    found, cursor = scan(connect())
    assert {each.session for each in found} == {"old", "new"}
    found, _cursor = scan(connect(), cursor)
    # What ended within 25 hours may have come late, so it is told again, and counts once.
    assert [each.session for each in found] == ["new"]


def test_late_stop_of_a_day_ago_is_found(radius: Radius, connect: Connect) -> None:
    network = connect()
    _found, cursor = scan(network)
    radius.session("s1", acctstarttime=began(1.03), acctstoptime=began(1), acctsessiontime=2592)
    assert [each.session for each in scan(network, cursor)[0]] == ["s1"]


def test_long_scan_comes_in_parts(
    radius: Radius, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "ROWS", 3)
    start = began(0.5)
    for number in range(7):
        radius.session(f"r{number}", acctstarttime=start, acctsessiontime=5)
        # Several end in the same second.
        radius.session(
            f"e{number}",
            acctstarttime=start,
            acctstoptime=start + (number // 4) * MINUTE,
            acctsessiontime=5,
        )
    network, cursor, parts = connect(), "", 0
    found: list[str] = []
    has_more = True
    while has_more:
        part = network.read_accounting(cursor)
        found += [each.session for each in part.reports]
        cursor, has_more = part.cursor, part.has_more
        parts += 1
        if parts == 2:
            network = connect()  # a worker that began anew
    assert sorted(found) == sorted(f"{kind}{number}" for kind in "re" for number in range(7))
    assert parts >= 6


def test_cursor_of_another_gateway_is_none(radius: Radius, connect: Connect) -> None:
    radius.session("s1", acctstarttime=began(0.1))
    for cursor in ("", "1234", "nonsense", "[1]", '{"a": 1}', "null"):
        assert len(scan(connect(), cursor)[0]) == 1


def test_nas_that_calls_upload_output_is_swapped(radius: Radius, connect: Connect) -> None:
    radius.session(
        "s1", acctstarttime=began(0.1), acctsessiontime=60, acctinputoctets=5, acctoutputoctets=9
    )
    [[report], _cursor] = scan(connect(is_swapped=True))
    assert (report.up_octets, report.down_octets) == (9, 5)


def test_counters_that_a_stop_lacked_are_not_taken_for_none(
    radius: Radius, connect: Connect
) -> None:
    radius.session("s1", acctstarttime=began(0.2), acctstoptime=began(0.1), acctsessiontime=8640)
    [[report], _cursor] = scan(connect())
    assert (report.kind, report.up_octets, report.down_octets) == (ReportKind.STOP, None, None)


@pytest.mark.parametrize("former", [{"acctinterval": 300}, {"acctstoptime": began(1)}])
def test_session_that_took_over_a_row_has_not_counted_yet(
    radius: Radius, connect: Connect, former: dict[str, Any]
) -> None:
    start = began(0.1)
    counters = {"acctsessiontime": 90_000, "acctinputoctets": 5, "acctoutputoctets": 6}
    radius.session("s1", acctstarttime=start, acctupdatetime=start, **counters, **former)
    [[report], _cursor] = scan(connect())
    assert (report.kind, report.at, report.session_seconds) == (ReportKind.START, start, 0)
    assert report.up_octets is None


def test_session_whose_start_was_lost_counts_from_its_second_report(
    radius: Radius, connect: Connect
) -> None:
    """Of the first one FreeRADIUS writes the same row as of a start that came late."""
    at, network = began(0.1), connect()
    counters = {"acctsessiontime": 90_000, "acctinputoctets": 5, "acctoutputoctets": 6}
    radius.session("s1", acctstarttime=at, acctupdatetime=at, **counters)
    found, cursor = scan(network)
    assert found == []
    later = {"acctupdatetime": at + 5 * MINUTE, "acctsessiontime": 90_300, "acctinterval": 300}
    radius.session("s1", **later)
    [[report], _cursor] = scan(network, cursor)
    assert (report.kind, report.at) == (ReportKind.INTERIM, at + 5 * MINUTE)
    assert (report.session_seconds, report.up_octets, report.down_octets) == (90_300, 5, 6)


def test_age_that_no_session_reaches_is_not_believed(radius: Radius, connect: Connect) -> None:
    radius.session(
        "s1",
        acctstarttime=datetime(1970, 1, 1, tzinfo=UTC),
        acctupdatetime=began(0.1),
        acctsessiontime=None,
        acctinputoctets=5,
    )
    [[report], _cursor] = scan(connect())
    assert report.session_seconds is None


def test_row_that_makes_no_sense_holds_up_no_other(radius: Radius, connect: Connect) -> None:
    for name in ("s1", "s2", "s3"):
        radius.session(name, acctstarttime=began(0.1), acctsessiontime=60, acctinputoctets=-5)
    wrong = "acctinputoctets = 'many'" if radius.is_sqlite else "acctupdatetime = 'infinity'"
    radius.execute(f"UPDATE radacct SET {wrong} WHERE acctuniqueid = 's2'")
    found, _cursor = scan(connect())
    assert [(each.session, each.up_octets) for each in found] == [("s1", -5), ("s3", -5)]


@pytest.mark.parametrize(
    "lacking",
    [
        ("acctupdatetime",),
        ("framedipv6address", "callingstationid", "acctterminatecause", "framedipaddress"),
    ],
)
def test_old_schema_is_read_too(bare: Radius, connect: Connect, lacking: tuple[str, ...]) -> None:
    bare.make(without=lacking)
    start = began(0.1)
    bare.session("s1", acctstarttime=start, acctsessiontime=600, acctinputoctets=5)
    [[report], _cursor] = scan(connect())
    assert (report.session, report.up_octets) == ("s1", 5)
    assert report.at == start + 10 * MINUTE or "acctupdatetime" not in lacking


def test_nas_that_began_anew_is_told_of_where_freeradius_notes_it(
    radius: Radius, connect: Connect
) -> None:
    kind, address = ("datetime", "text") if radius.is_sqlite else ("timestamptz", "inet")
    radius.execute(f"CREATE TABLE nasreload (nasipaddress {address}, reloadtime {kind})")
    at = began(0.1)
    value = int(at.timestamp()) if radius.is_sqlite else at
    radius.execute("INSERT INTO nasreload VALUES ('10.0.0.1', :at)", at=value)
    network = connect()
    found, cursor = scan(network)
    assert found == [Report(ReportKind.REBOOT, "10.0.0.1", at)]
    assert scan(network, cursor)[0] == []


def test_next_scan_waits_the_longer_the_last_one_took(
    radius: Radius, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "REST", 1e9)
    network = connect()
    _found, cursor = scan(network)
    radius.session("s1", acctstarttime=began(0.1))
    assert scan(network, cursor) == ([], cursor)
    network._reader._rest_until = 0.0
    assert len(scan(network, cursor)[0]) == 1


def test_what_is_wrong_with_the_source_is_said(bare: Radius, connect: Connect) -> None:
    with pytest.raises(GatewayRefused, match="there is no table radacct"):
        connect().read_accounting("")
    bare.make(without=("acctsessiontime",))
    with pytest.raises(GatewayRefused, match="radacct lacks acctsessiontime"):
        connect().read_accounting("")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://reader:hidden-word@127.0.0.1:1/radius",
        "mysql+pymysql://reader:hidden-word@127.0.0.1:1/radius",
        "sqlite:////nowhere/at/all.db",
    ],
)
def test_source_that_is_away_is_said_without_its_password(url: str) -> None:
    database = Database(url, "the database to read from", is_written=False)
    with pytest.raises(GatewayTimeout) as failure, database.reading():
        pass
    assert str(failure.value).startswith("the database to read from: ")
    assert "hidden-word" not in str(failure.value)
