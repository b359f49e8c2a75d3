"""`flask doctor`: each thing that can be wrong with a deployment is said, with what to do."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import update

from app import create_app
from blueprints.lines import accounting
from core import backup, clock, doctor, erasures, isp, maintenance, nightly, worker
from core.db import unit_of_work
from core.findings import Finding, Level
from core.isp import MaintenanceWindow
from core.outbox import Letter, queue
from gateways.messages.smtp import SmtpGateway
from gateways.network.base import Report, ReportKind
from gateways.network.simulated import SimulatedNetwork
from gateways.voice.simulated import SimulatedVoice
from models import Nas, UsageSource
from tests import crawl
from tests.conftest import Portal, _settings
from tests.core.test_postman import FACTS, running_mail_server
from tests.operation.conftest import Operator

HTTPS = "https://my.pinecrest.example"

on_sqlite = pytest.mark.parametrize("engine_kind", ["sqlite"], indirect=True)
"""For what has nothing to do with the engine."""


@pytest.fixture
def healthy(operator: Operator) -> Iterator[Portal]:
    """A portal at which nothing is wrong, now: the doctor compares the clocks of the machine."""
    portal = operator.portal
    data = portal.settings.data
    data.chmod(0o700)
    os.utime(data)
    with clock.set_to(datetime.now(UTC)), portal.app.app_context():
        worker.beat()
        portal.execute("DELETE FROM messages")
        yield portal


def look(portal: Portal, check: str, **changes: Any) -> Finding:
    """What the doctor says of one thing, with other settings."""
    settings = replace(portal.settings, **changes)
    with portal.app.app_context():
        [found] = [each for each in doctor.examine(settings) if each.check == check]
    return found


def is_wrong(found: Finding, words: str) -> bool:
    """Whether it is wrong in these words, and something to do is named."""
    assert found.level is Level.WRONG, found
    assert found.remedy
    assert words in found.words, found
    return True


def test_healthy_portal_has_nothing_wrong(healthy: Portal) -> None:
    done = healthy.app.test_cli_runner().invoke(args=["doctor"])
    assert done.exit_code == 0, done.output
    assert done.output.endswith("Nothing is wrong.\n")
    checks = [line.split()[1] for line in done.output.splitlines() if line[:1].strip()][:-1]
    assert checks == [
        *("mode", "secret", "permissions", "disk", "clock", "database", "schema", "worker"),
        *("backup", "erasures", "bills", "dunning", "prices", "proxy", "mail", "texts"),
        *("payments", "lines", "usage", "overage", "phone"),
    ]


@on_sqlite
def test_json_is_for_programs(healthy: Portal) -> None:
    healthy.execute("DELETE FROM worker_beats")
    done = healthy.app.test_cli_runner().invoke(args=["doctor", "--json"])
    assert done.exit_code == 1
    found = json.loads(done.output)
    assert not found["ok"]
    [wrong] = [check for check in found["checks"] if check["level"] == "wrong"]
    assert wrong["check"] == "worker"


@on_sqlite
def test_secret_that_others_can_read(healthy: Portal) -> None:
    path = healthy.settings.data / "secret"
    path.write_text("k" * 64)
    path.chmod(0o644)
    try:
        assert is_wrong(look(healthy, "secret"), "can be read by others (mode 644)")
        path.chmod(0o600)
        assert look(healthy, "secret").level is Level.OK
    finally:
        path.unlink()


@on_sqlite
def test_data_folder_that_is_open_to_others(healthy: Portal) -> None:
    healthy.settings.data.chmod(0o750)
    assert is_wrong(look(healthy, "permissions"), "open to others (mode 750)")


@on_sqlite
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_file_that_root_left_behind(healthy: Portal) -> None:
    path = healthy.settings.data / "left.db"
    path.touch()
    os.chown(path, 65534, 65534)
    try:
        assert is_wrong(look(healthy, "permissions"), "left.db does not belong to root")
    finally:
        path.unlink()


@on_sqlite
def test_full_disk(healthy: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_MIN_FREE_BYTES", 10**18)
    assert is_wrong(look(healthy, "disk"), "are free")


def test_clock_that_is_wrong(healthy: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    for offset in (timedelta(minutes=-5), timedelta(minutes=5)):
        with clock.set_to(clock.now() + offset):
            assert is_wrong(look(healthy, "clock"), "The clock of the file system differs by")
    for is_so, level in ((True, Level.NOTE), (False, Level.OK)):
        monkeypatch.setattr(doctor, "_is_unsynchronised", lambda is_so=is_so: is_so)
        assert look(healthy, "clock").level is level


@on_sqlite
def test_books_from_the_future(healthy: Portal, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the machine came up with a clock that is years behind."""
    monkeypatch.setattr(doctor, "_other_clocks", lambda _settings: [])
    with clock.set_to(datetime(2026, 5, 1, tzinfo=UTC)):
        assert is_wrong(look(healthy, "clock"), "The latest entry of the books is from 2026-06")


@on_sqlite
def test_database_of_the_other_mode(healthy: Portal) -> None:
    assert is_wrong(look(healthy, "mode", is_demo=False), "belongs to the demo")


def test_database_that_is_away(tmp_path: Path) -> None:
    url = "postgresql+psycopg://nobody@127.0.0.1:9/none"
    app = create_app(_settings(tmp_path, url))
    done = app.test_cli_runner().invoke(args=["doctor"])
    assert done.exit_code == 1
    assert "wrong  database    The database does not answer" in done.output
    assert done.output.count("wrong  ") == 1  # the rest follows from it
    assert re.search("^ok     disk .* are free for", done.output, re.MULTILINE)
    assert "Traceback" not in done.output


@on_sqlite
@pytest.mark.parametrize("is_there", [True, False])
def test_database_that_is_empty_wants_to_be_set_up(
    healthy: Portal, tmp_path: Path, is_there: bool
) -> None:
    empty = replace(healthy.settings, database_url=f"sqlite:///{tmp_path}/empty.db")
    if is_there:
        (tmp_path / "empty.db").touch()
    with create_app(empty).app_context():
        found = {each.check: each for each in doctor.examine(empty)}
    assert is_wrong(found["schema"], "no tables")
    assert "flask setup" in found["schema"].remedy
    assert found["worker"].level is Level.NOTE
    assert not any("no such table" in each.words for each in found.values())


@pytest.mark.parametrize(
    "command", ["doctor", "ledger verify", "activity verify", "maintenance status"]
)
def test_looking_before_the_setup_leaves_nothing_behind(tmp_path: Path, command: str) -> None:
    app = create_app(_settings(tmp_path, f"sqlite:///{tmp_path / 'lastmile.db'}"))
    before = set(tmp_path.iterdir())
    done = app.test_cli_runner().invoke(args=command.split())
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert isinstance(done.exception, SystemExit)
    assert set(tmp_path.iterdir()) == before


def test_maintenance_that_was_forgotten(healthy: Portal, operator: Operator) -> None:
    del operator
    now = clock.now()
    window = MaintenanceWindow(True, now, now + timedelta(hours=1), ())
    try:
        maintenance.set_window(window, healthy.settings.data)
        found = look(healthy, "mode")
        assert found.level is Level.NOTE
        local = window.until_at.astimezone(ZoneInfo("America/Los_Angeles"))
        said = f"closed for maintenance until {local:%Y-%m-%d %H:%M} (America/Los_Angeles)"
        assert said in found.words
        with clock.set_to(now + timedelta(hours=2)):
            assert is_wrong(look(healthy, "mode"), "said it would open")
    finally:
        maintenance.clear_window(healthy.settings.data)
    assert look(healthy, "mode").level is Level.OK


@on_sqlite
def test_schema_of_an_earlier_version(healthy: Portal) -> None:
    healthy.execute("UPDATE alembic_version SET version_num = '0001'")
    assert is_wrong(look(healthy, "schema"), "The schema is at 0001")
    healthy.execute("UPDATE alembic_version SET version_num = '9999'")
    assert look(healthy, "schema").level is Level.NOTE


@on_sqlite
def test_worker_that_is_not_there(healthy: Portal) -> None:
    with clock.set_to(clock.now() + timedelta(hours=3)):
        assert is_wrong(look(healthy, "worker"), "No worker has been alive for 3 hours")
    healthy.execute("DELETE FROM worker_beats")
    assert is_wrong(look(healthy, "worker"), "No worker has been alive yet")


def test_bill_run_that_stopped(healthy: Portal) -> None:
    assert "by hand" in look(healthy, "bills").words
    healthy.execute("UPDATE isp SET billing_hour = 3, revision = revision + 1")
    isp.forget()
    assert "each night at 3; none was yet" in look(healthy, "bills").words
    nightly.note_failed(nightly.BILL_RUN, "Stopped, nothing of this was issued.")
    assert is_wrong(look(healthy, "bills"), "Stopped, nothing of this was issued")
    nightly.note_done(nightly.BILL_RUN)
    assert look(healthy, "bills").level is Level.OK


def test_backups_from_none_to_good(healthy: Portal, operator: Operator) -> None:
    folder = operator.folder / "backups"
    assert is_wrong(look(healthy, "backup", is_demo=False), "LASTMILE_BACKUPS=off")
    assert is_wrong(look(healthy, "backup", backups=folder), "There is no backup yet")
    settings = replace(healthy.settings, backups=folder)
    made = backup.make_nightly(settings, lambda _session: [])
    found = look(healthy, "backup", backups=folder)
    assert found.level is (Level.NOTE if settings.is_sqlite else Level.OK)
    assert f"{made.path}, read again just now" in found.words
    nightly.note_failed(nightly.BACKUP, "the disk is full")
    assert is_wrong(look(healthy, "backup", backups=folder), "failed: the disk is full")
    nightly.note_done(nightly.BACKUP)
    with clock.set_to(clock.now() + timedelta(hours=27)):
        assert is_wrong(look(healthy, "backup", backups=folder), "27 hours old")
    content = made.path.read_bytes()
    middle = len(content) // 2
    made.path.write_bytes(content[:middle] + bytes(64) + content[middle + 64 :])
    assert is_wrong(look(healthy, "backup", backups=folder), "damaged")


@on_sqlite
def test_list_of_erasures_that_cannot_be_written(healthy: Portal, tmp_path: Path) -> None:
    data, backups = healthy.settings.data, tmp_path / "backups"
    before = set(data.iterdir()) | set(tmp_path.iterdir())
    found = look(healthy, "erasures", backups=backups)
    assert (found.level, str(backups / erasures.NAME) in found.words) == (Level.OK, True)
    assert set(data.iterdir()) | set(tmp_path.iterdir()) == before  # it has only looked
    backups.write_text("a mount that is not there")
    found = look(healthy, "erasures", backups=backups)
    assert found.level is Level.NOTE
    assert f"{backups / erasures.NAME} cannot be written" in found.words
    assert f"is listed in {data} meanwhile" in found.words
    assert "can write there" in found.remedy
    (data / erasures.NAME).mkdir()
    found = look(healthy, "erasures", backups=backups)
    assert is_wrong(found, "Nobody can close an online account")
    assert str(data / erasures.NAME) in found.words
    (data / erasures.NAME).rmdir()
    (data / erasures.NAME).write_text("as it was\n")
    assert look(healthy, "erasures").level is Level.OK
    assert (data / erasures.NAME).read_text() == "as it was\n"
    (data / erasures.NAME).unlink()


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"public_url": HTTPS, "proxy_count": 1}, Level.OK, "1 proxy in front"),
        ({"public_url": HTTPS, "proxy_count": 2}, Level.OK, "2 proxies in front"),
        ({"public_url": HTTPS}, Level.WRONG, "LASTMILE_PROXY_COUNT is 0"),
        ({"host": "0.0.0.0"}, Level.WRONG, "listens at 0.0.0.0 without TLS"),
        (
            {"public_url": HTTPS, "proxy_count": 1, "host": "0.0.0.0"},
            Level.NOTE,
            "pretend to have any address",
        ),
        ({}, Level.OK, "Only this machine"),
        ({"is_demo": False}, Level.NOTE, "Only this machine"),
    ],
)
def test_proxies(changes: dict[str, Any], level: Level, words: str) -> None:
    found = doctor._proxy(replace(_settings(Path("/"), "sqlite:////x"), **changes))
    assert (found.level, words in found.words) == (level, True), found


def test_proxy_count_that_is_too_high_shows_in_requests(tmp_path: Path) -> None:
    settings = replace(_settings(tmp_path, "sqlite:////x"), public_url=HTTPS, proxy_count=2)

    def after(*addresses: str) -> Finding:
        client = create_app(settings).test_client()
        for value in addresses:
            client.get("/static/none", base_url=HTTPS, headers={"X-Forwarded-For": value})
        found = doctor._proxy(settings)
        return Finding("proxy", found.level, found.words, found.remedy)

    assert after("", "198.51.100.7, 10.0.0.1", "1, 2, 3").level is Level.OK
    found = after("198.51.100.7, 10.0.0.1", "10.0.0.1")
    assert is_wrong(found, "came through 1 proxy")
    assert "LASTMILE_PROXY_COUNT=1" in found.remedy
    assert doctor._proxy(replace(settings, proxy_count=1)).level is Level.OK
    with clock.set_to(clock.now() + timedelta(hours=25)):
        assert doctor._proxy(settings).level is Level.OK


@contextmanager
def with_mail(portal: Portal, url: str) -> Iterator[None]:
    before = portal.app.extensions["message_gateways"]
    gateways = {"email": SmtpGateway(url, "a@b.example")} if url else {}
    portal.app.extensions["message_gateways"] = gateways
    try:
        yield
    finally:
        portal.app.extensions["message_gateways"] = before


def wait_for_sending(*letters: Letter) -> None:
    unit_of_work(lambda session: queue(session, letters))


@on_sqlite
def test_messages_that_were_given_up_are_told_with_the_reason(healthy: Portal) -> None:
    wait_for_sending(
        Letter("receipt", "a@example.net", "en"), Letter("security", "+1555", "en", channel="text")
    )
    facts = json.dumps({"failure": "refused: 550"})
    healthy.execute("UPDATE messages SET state = 'failed', facts = :facts", facts=facts)
    assert is_wrong(look(healthy, "mail"), "1 message was given up since yesterday: refused: 550")
    assert is_wrong(look(healthy, "texts"), "refused: 550")


@on_sqlite
def test_texts_without_a_provider_are_a_note_until_one_waits(healthy: Portal) -> None:
    with with_mail(healthy, ""):
        assert look(healthy, "texts").level is Level.NOTE
        wait_for_sending(Letter("security", "+1555", "en", channel="text"))
        assert is_wrong(look(healthy, "texts"), "1 message waits")


@on_sqlite
def test_mail_server_is_greeted_and_given_nothing(healthy: Portal) -> None:
    with running_mail_server() as server:
        with with_mail(healthy, server.url):
            assert look(healthy, "mail", mail_from="a@b.example").level is Level.OK
            assert look(healthy, "mail", is_demo=False).level is Level.NOTE
        with with_mail(healthy, server.url.replace("//", "//ann:wrong@")):
            assert is_wrong(look(healthy, "mail"), "does not answer as it should")
        assert server.received == []


@on_sqlite
def test_mail_server_that_is_away_or_missing(healthy: Portal) -> None:
    unit_of_work(
        lambda session: queue(session, [Letter("receipt", "a@b.example", "en", facts=FACTS)])
    )
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))  # nobody listens
        with with_mail(healthy, f"smtp://127.0.0.1:{taken.getsockname()[1]}"):
            found = look(healthy, "mail")
            assert is_wrong(found, "Connection refused")
            assert "waits" in found.words or "wait." in found.words
    with with_mail(healthy, ""):
        assert is_wrong(look(healthy, "mail"), "There is no mail server.")


@on_sqlite
def test_messages_that_wait_too_long(healthy: Portal) -> None:
    unit_of_work(
        lambda session: queue(session, [Letter("receipt", "a@b.example", "en", facts=FACTS)])
    )
    with clock.set_to(clock.now() + timedelta(hours=5)):
        assert is_wrong(look(healthy, "mail"), "the oldest message waits for")


@on_sqlite
def test_gateway_that_is_missing_is_a_note(healthy: Portal) -> None:
    assert look(healthy, "payments").level is Level.OK
    healthy.app.extensions["payment_gateway"] = None
    assert look(healthy, "payments").level is Level.NOTE


@on_sqlite
def test_damaged_database_file(healthy: Portal, operator: Operator) -> None:
    path = backup.database_file(healthy.settings)
    operator.leave()
    whole = path.read_bytes()
    try:
        with path.open("r+b") as file:
            file.seek(len(whole) // 2)
            file.write(b"\xff" * 8192)
        assert look(healthy, "database").level is Level.WRONG
    finally:
        operator.leave()
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(whole)


@on_sqlite
def test_lines_that_lag_behind_what_is_wanted(healthy: Portal) -> None:
    assert look(healthy, "lines").level is Level.NOTE
    network = SimulatedNetwork(healthy.settings.data / "network.db")
    healthy.app.extensions["network_gateway"] = network
    assert look(healthy, "lines").level is Level.OK
    healthy.execute("UPDATE lines SET sync_at = :at", at=str(clock.now() - timedelta(hours=1))[:26])
    assert is_wrong(look(healthy, "lines"), "3 lines lag behind what is wanted.")
    healthy.execute("UPDATE lines SET sync_count = 2, sync_failure = 'no answer' WHERE id = 1")
    assert is_wrong(look(healthy, "lines"), "no answer")
    healthy.app.extensions["network_gateway"] = None


@on_sqlite
def test_phone_numbers_that_the_switch_is_behind_with(healthy: Portal) -> None:
    known = healthy.app.extensions["voice_gateway"]
    healthy.app.extensions["voice_gateway"] = None
    assert look(healthy, "phone").level is Level.OK
    unit_of_work(lambda session: crawl.add_phones(session, healthy.world))
    healthy.execute("UPDATE phone_numbers SET sync_count = 0, sync_failure = ''")
    assert look(healthy, "phone").level is Level.OK  # staff have a day
    healthy.execute(
        "UPDATE phone_numbers SET pending_at = :at", at=str(clock.now() - timedelta(hours=30))[:26]
    )
    assert is_wrong(look(healthy, "phone"), "2 phone numbers lag behind what is wanted.")
    healthy.app.extensions["voice_gateway"] = SimulatedVoice(healthy.settings.data / "voice.db")
    healthy.execute("UPDATE phone_numbers SET pending_at = NULL")
    assert look(healthy, "phone").level is Level.OK
    healthy.execute(
        "UPDATE phone_numbers SET sync_count = 2, sync_failure = 'no answer' WHERE id = 1"
    )
    assert is_wrong(look(healthy, "phone"), "1 phone number lags behind what is wanted: no answer.")
    healthy.app.extensions["voice_gateway"] = known


@on_sqlite
def test_usage_that_is_not_read_and_servers_that_send_no_gigawords(healthy: Portal) -> None:
    def told(**values: Any) -> None:
        unit_of_work(lambda session: session.execute(update(UsageSource).values(**values)))

    assert "docs/freeradius.md" in look(healthy, "usage").remedy
    healthy.app.extensions["network_gateway"] = SimulatedNetwork(
        healthy.settings.data / "network.db"
    )
    assert "start the worker" in look(healthy, "usage").remedy
    healthy.app.extensions["network_gateway"] = None
    unit_of_work(lambda session: session.add(UsageSource(name="network", read_at=clock.now())))
    assert look(healthy, "usage").level is Level.OK
    told(failure="no answer", read_at=clock.now() - timedelta(hours=3))
    assert is_wrong(look(healthy, "usage"), "could not be read for 3 hours: no answer.")
    told(failure="")
    assert is_wrong(look(healthy, "usage"), "No accounting was read for 3 hours.")
    told(read_at=clock.now())
    unit_of_work(lambda session: session.add(Nas(name="10.0.0.1", lacks_gigawords=True)))
    found = look(healthy, "usage")
    assert (found.level, "10.0.0.1" in found.words) == (Level.NOTE, True)


@on_sqlite
def test_servers_that_reported_what_cannot_be(healthy: Portal) -> None:
    unit_of_work(lambda session: session.add(UsageSource(name="posted", read_at=clock.now())))

    def report(seconds: int, down: int) -> None:
        at = clock.now() - timedelta(hours=1) + timedelta(seconds=seconds)
        accounting.take(
            [Report(ReportKind.INTERIM, "10.0.0.1", at, "s", "ppp-alice", seconds, 0, down)]
        )

    report(60, -5)
    found = look(healthy, "usage")
    assert found.level is Level.NOTE
    assert "reported by 10.0.0.1" in found.words
    assert "(lines such as ppp-alice)" in found.words
    report(120, 1000)
    found = look(healthy, "usage")
    assert found.level is Level.NOTE
    assert "lines such as" not in found.words
    unit_of_work(
        lambda session: session.execute(
            update(Nas).values(doubted_at=clock.now() - timedelta(days=8))
        )
    )
    assert look(healthy, "usage").level is Level.OK


@on_sqlite
def test_who_used_more_than_is_charged_is_named(healthy: Portal) -> None:
    assert look(healthy, "overage").level is Level.OK
    healthy.execute(
        "INSERT INTO usage_blocks (line_id, period_on, number, count, data_bytes)"
        " SELECT id, :day, 21, 3, 150 FROM lines WHERE username = 'ppp-alice'",
        day=clock.now().date().isoformat(),
    )
    found = look(healthy, "overage")
    assert (found.level, "used by ppp-alice." in found.words) == (Level.NOTE, True)
    healthy.execute("UPDATE usage_blocks SET period_on = '2020-01-01'")
    assert look(healthy, "overage").level is Level.OK


@on_sqlite
def test_steps_about_unpaid_bills_that_were_not_taken(healthy: Portal) -> None:
    assert "by hand" in look(healthy, "dunning").words
    nightly.note_failed(nightly.DUNNING, "the database was away")
    assert is_wrong(look(healthy, "dunning"), "the database was away")
    nightly.note_done(nightly.DUNNING)
    assert look(healthy, "dunning").level is Level.OK
