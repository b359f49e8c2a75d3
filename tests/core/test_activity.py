"""The trail of events: what is edited or removed is found, erasing leaves the proof (bar 76)."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core import activity, clock, worker
from core.activity import Event, Trail
from core.db import db, reading, unit_of_work
from core.schema import create_triggers
from tests.conftest import Portal, together

DROP = {
    "sqlite": "DROP TRIGGER {name}",
    "postgresql": "DROP TRIGGER {name} ON {table}",
}


@pytest.fixture
def sealed(portal: Portal, monkeypatch: pytest.MonkeyPatch) -> Portal:
    """Seven sign-ins beside the world's events, under seals of three events each."""
    monkeypatch.setattr(activity, "SEALED_AT_ONCE", 3)
    who = portal.world.customers["alice"]
    events = [Event("signed_in", clock.now(), customer_id=who, facts={"n": n}) for n in range(7)]
    with portal.app.app_context():
        unit_of_work(lambda session: activity.record(session, events))
        while activity.seal():
            pass
    return portal


def verify(portal: Portal) -> Trail:
    with portal.app.app_context(), reading() as session:
        return activity.verify(session)


@contextmanager
def without_triggers(portal: Portal, table: str) -> Iterator[None]:
    """As somebody who may do everything in the database would work."""
    with portal.app.app_context(), db.engine.connect() as connection:
        kind = connection.dialect.name
        for action in (
            ("update", "delete") if table == "activity" or kind == "sqlite" else ("change",)
        ):
            connection.execute(text(DROP[kind].format(name=f"{table}_no_{action}", table=table)))
        yield
        create_triggers(connection)


def test_worker_seals_everything_and_the_trail_is_whole(sealed: Portal) -> None:
    trail = verify(sealed)
    events = sealed.one("SELECT count(*) FROM activity")
    assert (trail.faults, trail.events, trail.unsealed, trail.erased) == ((), events, 0, 0)
    assert trail.seal == sealed.one("SELECT count(*) FROM activity_seals") >= 3
    assert (
        trail.hash == sealed.one("SELECT hash FROM activity_seals ORDER BY id DESC LIMIT 1").hex()
    )


def test_new_events_wait_for_the_next_seal(sealed: Portal) -> None:
    with sealed.app.app_context():
        unit_of_work(lambda session: activity.record(session, [Event("line_held", clock.now())]))
    assert verify(sealed).unsealed == 1
    with sealed.app.app_context():
        assert activity.seal() == 1
    assert verify(sealed).unsealed == 0


def test_newest_seal_is_said_in_the_log(portal: Portal, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "lastmile.activity")
    with portal.app.app_context():
        activity.seal()
    [record] = [record for record in caplog.records if record.message == "activity sealed"]
    trail = verify(portal)
    assert (record.seal, record.hash) == (trail.seal, trail.hash)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("sql", "finds"),
    [
        (
            "UPDATE activity SET facts = '{{\"amount_minor\": 1}}' WHERE id = {id}",
            "facts were edited",
        ),
        ("UPDATE activity SET kind = 'registered' WHERE id = {id}", "was edited"),
        ("UPDATE activity SET customer_id = NULL WHERE id = {id}", "was edited"),
        ("UPDATE activity SET happened_at = '2020-01-01 00:00:00' WHERE id = {id}", "was edited"),
        ("DELETE FROM activity WHERE id = {id}", "were sealed"),
    ],
)
def test_event_that_was_edited_or_removed_is_found(sealed: Portal, sql: str, finds: str) -> None:
    event = sealed.one("SELECT min(id) FROM activity WHERE kind = 'signed_in'")
    with without_triggers(sealed, "activity"):
        sealed.execute(sql.format(id=event).replace(":", "\\:"))
    assert any(finds in fault for fault in verify(sealed).faults)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM activity_seals WHERE id = 1",
        "UPDATE activity_seals SET row_count = row_count - 1 WHERE id = 1",
        (
            "UPDATE activity_seals SET hash = (SELECT hash FROM activity_seals WHERE id = 1)"
            " WHERE id = 2"
        ),
    ],
)
def test_seal_that_was_edited_or_removed_is_found(sealed: Portal, sql: str) -> None:
    with without_triggers(sealed, "activity_seals"):
        sealed.execute(sql)
    assert verify(sealed).faults


def test_event_that_was_put_in_between_is_found(sealed: Portal) -> None:
    with without_triggers(sealed, "activity"):
        sealed.execute("DELETE FROM activity WHERE id = 2")
        sealed.execute(
            "INSERT INTO activity (id, account_id, customer_id, kind, facts, happened_at, salt,"
            " digest) SELECT 2, account_id, customer_id, kind, facts, happened_at, salt, digest"
            " FROM activity WHERE id = 3"
        )
    assert verify(sealed).faults


def test_erased_facts_are_gone_and_the_proof_stays(sealed: Portal) -> None:
    event = sealed.one("SELECT min(id) FROM activity WHERE kind = 'signed_in'")
    with sealed.app.app_context():
        unit_of_work(lambda session: activity.erase(session, [event]))
    trail = verify(sealed)
    assert (trail.faults, trail.erased) == ((), 1)
    [(facts, salt)] = sealed.rows("SELECT facts, length(salt) FROM activity WHERE id = :e", e=event)
    assert (facts, salt) == (None, 0)
    assert "Signed in" in sealed.visitor("alice").get(sealed.path()).text


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM activity",
        "UPDATE activity SET kind = 'signed_in'",
        "UPDATE activity SET facts = '[]'",
        "UPDATE activity SET facts = NULL",
        "UPDATE activity SET facts = NULL, salt = digest",
        (
            "UPDATE activity SET happened_at = '2020-01-01 00:00:00', facts = NULL,"
            " salt = substr(salt, 1, 0)"
        ),
    ],
)
def test_database_refuses_to_change_an_event(portal: Portal, sql: str) -> None:
    with pytest.raises(DBAPIError, match="append-only"):
        portal.execute(sql)


@pytest.mark.parametrize("engine_kind", ["postgresql"])
def test_postgresql_refuses_to_truncate_the_trail(portal: Portal) -> None:
    with pytest.raises(DBAPIError, match="append-only"):
        portal.execute("TRUNCATE activity CASCADE")


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_no_tool_replaces_an_event(portal: Portal) -> None:
    connection = sqlite3.connect(portal.settings.database_url.removeprefix("sqlite:///"))
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        connection.execute("INSERT OR REPLACE INTO activity SELECT * FROM activity")
    connection.close()


def test_two_workers_and_those_who_write_make_one_chain(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(activity, "SEALED_AT_ONCE", 4)

    event = Event("line_held", clock.now())

    def work(number: int) -> None:
        with portal.app.app_context():
            for _ in range(5):
                if number < 2:
                    activity.seal()
                else:
                    unit_of_work(lambda session: activity.record(session, [event]))

    assert together(6, work) == [None] * 6
    with portal.app.app_context():
        while activity.seal():
            pass
    trail = verify(portal)
    assert (trail.faults, trail.unsealed) == ((), 0)
    assert trail.events >= 20


def test_worker_seals_by_itself(portal: Portal) -> None:
    stop = threading.Event()

    def last() -> int:
        stop.set()
        return 0

    worker.run(portal.app, (last,), stop)
    assert verify(portal).unsealed == 0


def test_command_names_what_was_tampered_with(sealed: Portal) -> None:
    runner = sealed.app.test_cli_runner()
    result = runner.invoke(args=["activity", "verify"])
    assert result.exit_code == 0
    assert f"Last seal: {verify(sealed).seal} " in result.output
    with without_triggers(sealed, "activity"):
        sealed.execute("DELETE FROM activity WHERE id = 3")
    result = runner.invoke(args=["activity", "verify"])
    assert result.exit_code == 1
    assert "were sealed" in result.output
