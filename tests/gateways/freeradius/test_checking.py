"""`flask network check`: each thing that can be wrong is said, with what to do; nothing changes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core import clock
from core.findings import Finding, Level
from core.radius_settings import NasType
from gateways.network.freeradius import coa
from gateways.network.freeradius.gateway import FreeradiusNetwork
from gateways.network.simulated import SimulatedNetwork
from tests.conftest import Portal
from tests.gateways.freeradius.conftest import Connect, FakeNas, Radius


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coa, "ANSWER_SECONDS", 0.2)


def all_known(usernames: Collection[str]) -> set[str]:
    return set(usernames)


def look(network: FreeradiusNetwork, known: Any = all_known) -> list[Finding]:
    return list(network.check(known))


def wrong(found: list[Finding]) -> list[tuple[str, str]]:
    assert all(each.remedy for each in found if each.level is Level.WRONG)
    return [(each.check, each.words) for each in found if each.level is Level.WRONG]


def running(radius: Radius, minutes: float = 1, name: str = "s1", **more: Any) -> None:
    at = datetime.now(UTC) - timedelta(minutes=minutes)
    radius.session(name, acctstarttime=at, acctupdatetime=at, **more)


def test_nothing_is_wrong_and_nothing_changes(
    radius: Radius, connect: Connect, nas: FakeNas
) -> None:
    nas.answer = lambda _kind, _told: 503
    running(radius)
    radius.execute(
        "INSERT INTO radgroupreply (groupname, attribute, op, value)"
        " VALUES ('walled-garden', 'Framed-Pool', ':=', 'garden')"
    )
    tables = ("radacct", "radcheck", "radreply", "radusergroup", "radgroupreply")
    before = [radius.rows(f"SELECT * FROM {name}") for name in tables]
    found = look(connect())
    assert {each.level for each in found} == {Level.OK}
    assert [each.check for each in found] == [
        *("read", "clock", "sessions", "write", "hold", "servers")
    ]
    assert found[-1].words == "10.0.0.1 answers CoA (Session-Context-Not-Found)."
    [(kind, told)] = nas.got
    assert (kind, told["User-Name"]) == ("coa", ["lastmile-check"])
    assert [radius.rows(f"SELECT * FROM {name}") for name in tables] == before


def test_missing_tables_and_columns_are_named(bare: Radius, connect: Connect) -> None:
    said = wrong(look(connect()))
    assert ("read", said[0][1]) == said[0]
    assert "there is no table radacct" in said[0][1]
    assert any(check == "write" and "no table radreply" in words for check, words in said)
    bare.make(without=("acctinputoctets",))
    said = wrong(look(connect()))
    assert said[0] == ("read", "the database to read from: radacct lacks acctinputoctets.")


def test_old_schema_is_noted(bare: Radius, connect: Connect) -> None:
    bare.make(without=("acctupdatetime", "framedipaddress"))
    notes = [each.words for each in look(connect()) if each.check == "read"]
    assert notes[1:] == [
        (
            "radacct has no acctupdatetime, as in old schemas: when an interim report was made is "
            "taken from acctsessiontime."
        ),
        "radacct has no framedipaddress, as in old schemas: addresses are not shown.",
    ]


def test_reports_from_the_future_are_a_matter_of_time_zones(
    radius: Radius, connect: Connect
) -> None:
    running(radius, minutes=-120)
    said = dict(wrong(look(connect())))
    assert said["clock"] == "radacct has reports of 120 minutes from now."


def test_access_servers_that_report_nothing_in_between_are_noted(
    radius: Radius, connect: Connect
) -> None:
    running(radius, minutes=600)
    [note] = [
        each for each in look(connect()) if each.level is Level.NOTE and each.check == "clock"
    ]
    assert note.words.startswith("1 sessions run, and the newest report is of ")
    assert "Acct-Interim-Interval" in note.remedy


def test_usernames_that_nobody_has_are_named(radius: Radius, connect: Connect) -> None:
    running(radius)
    running(radius, name="s2", username="ppp-stranger")
    [(check, words)] = wrong(look(connect(), lambda _names: set()))
    assert (check, words[:13]) == ("sessions", "None of the 2")
    found = look(connect(), lambda _names: {"ppp-alice"})
    [note] = [each for each in found if each.check == "sessions"]
    assert (note.level, note.words[:44]) == (
        Level.NOTE,
        "1 of 2 usernames that are connected are of n",
    )
    assert "ppp-stranger" in note.words


def test_server_that_is_silent_or_unknown_is_named(
    radius: Radius, connect: Connect, nas: FakeNas
) -> None:
    nas.answer = lambda _kind, _told: None
    running(radius)
    running(radius, name="s2", nasipaddress="192.0.2.1")
    said = [words for check, words in wrong(look(connect())) if check == "servers"]
    assert said[0].startswith("10.0.0.1 did not answer the CoA at 127.0.0.1 port ")
    assert said[1] == "Sessions run on 192.0.2.1, of which the settings know no secret."


def test_attribute_of_no_dictionary_is_named(radius: Radius, connect: Connect) -> None:
    kind = NasType({"Cisco-AVPair": "x"}, {})
    said = dict(wrong(look(connect("cisco", types={"cisco": kind}))))
    assert said["attributes"] == "No dictionary has Cisco-AVPair: running sessions cannot be told."


def test_table_that_may_not_be_written_is_said(radius: Radius, connect: Connect) -> None:
    if radius.is_sqlite:
        radius.execute(
            "CREATE TRIGGER no BEFORE INSERT ON radcheck BEGIN SELECT raise(ABORT, 'not you'); END"
        )
        network, reason = connect(), "not you"
    else:
        radius.execute(
            "DROP OWNED BY reader" if _has_reader(radius) else "CREATE ROLE reader LOGIN"
        )
        radius.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader")
        url = radius.engine.url.set(username="reader").render_as_string(hide_password=False)
        network, reason = connect(write_url=url), "permission denied for table radreply"
    [said] = [each for each in look(network) if each.check == "write"]
    assert said.level is Level.WRONG
    assert said.words == f"the database to write to: {reason}."
    assert radius.is_sqlite or "grant the user of LASTMILE_RADIUS_WRITE_URL" in said.remedy


def _has_reader(radius: Radius) -> bool:
    return bool(radius.rows("SELECT 1 FROM pg_roles WHERE rolname = 'reader'"))


def test_command_prints_findings_and_fails_when_something_is_wrong(
    portal: Portal, connect: Connect, bare: Radius
) -> None:
    def run() -> Any:
        with clock.set_to(datetime.now(UTC)):  # as the database has it
            return portal.app.test_cli_runner().invoke(args=["network", "check"])

    simulated = SimulatedNetwork(portal.settings.data / "network.db")
    portal.app.extensions["network_gateway"] = simulated
    assert "Nothing is wrong." in run().stdout
    bare.make()
    portal.app.extensions["network_gateway"] = connect()
    running(bare, username="ppp-alice")
    done = run()
    assert (done.exit_code, "Nothing is wrong." in done.stdout) == (0, True), done.stdout
    bare.execute("DROP TABLE radcheck")
    portal.app.extensions["network_gateway"] = connect()
    done = run()
    assert done.exit_code == 1
    assert "1 of 6 checks found something wrong." in done.stdout
    portal.app.extensions["network_gateway"] = None
    done = run()
    assert (done.exit_code, "docs/freeradius.md" in done.stderr) == (1, True)
