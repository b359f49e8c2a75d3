"""Whoever was erased since a backup is erased again when it is restored; nobody else (bar 73)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from blueprints.dashboard.settings import closing
from blueprints.staff import members
from blueprints.staff.errors import LastAdministrator
from core import clock, erasures, postman, restore
from core.db import DatabaseBusy, db, reading, unit_of_work
from core.erasures import Listed
from core.outbox import Letter, queue
from gateways.messages.base import MessageGateway, OutgoingMessage
from models import Base
from tests.conftest import Portal
from tests.operation.conftest import Operator
from tests.page import Page

Rows = dict[str, set[tuple[object, ...]]]
SAID = "Erased again: 1 person whose online account was closed since."

on_sqlite = pytest.mark.parametrize("engine_kind", ["sqlite"], indirect=True)


def close(portal: Portal, name: str = "bob") -> Page:
    visitor = portal.visitor(name)
    return visitor.submit(visitor.get("/settings/close"), "/close")


def listed(portal: Portal) -> Path:
    return portal.settings.data / erasures.NAME


def is_gone(portal: Portal, name: str = "bob") -> bool:
    who = portal.world.customers[name]
    row = portal.rows("SELECT public_id, sign_in_id, name FROM customers WHERE id = :who", who=who)
    public_id, sign_in_id, shown = row[0]
    return bool(sign_in_id == shown == f"closed-{public_id}")


def everything(portal: Portal) -> Rows:
    with portal.app.app_context(), reading():
        return {
            table.name: {tuple(map(repr, row)) for row in db.session.execute(table.select())}
            for table in Base.metadata.sorted_tables
        }


def changed(before: Rows, after: Rows) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def test_whoever_closed_is_gone_again_and_nothing_else_has_changed(operator: Operator) -> None:
    portal = operator.portal
    bob = portal.world.customers["bob"]
    portal.execute(
        "INSERT INTO contacts (customer_id, kind, value, since_on)"
        f" VALUES ({bob}, 'email', 'bobs.own@example.net', '2025-01-01')"
    )
    file = operator.backup()
    operator.does("restore", "--yes", file)
    before = everything(portal)
    assert close(portal).status == 303
    assert SAID in operator.does("restore", "--yes", file)
    after = everything(portal)
    assert is_gone(portal)
    assert portal.one(f"SELECT count(*) FROM memberships WHERE customer_id = {bob}") == 0
    assert changed(before, after) == {
        *("customers", "memberships", "contacts", "activity", "search_terms"),
        "accounts",  # its revision: pages that browsers keep are outdated
    }
    for table in ("customers", "memberships", "contacts"):
        columns = list(Base.metadata.tables[table].columns.keys())
        place = columns.index("id" if table == "customers" else "customer_id")
        touched = {row[place] for row in before[table] ^ after[table]}
        assert touched == {repr(bob)}, table
    texts = {str(text).replace("bobcustomer", "") for row in after["customers"] for text in row}
    assert not [text for text in texts if "bob" in text.lower()]
    assert before["activity"] - after["activity"] == set()
    kinds = portal.rows("SELECT kind FROM activity ORDER BY id DESC LIMIT 2")
    assert kinds == [(closing.EVENT,)] * 2  # his, and the account's
    operator.does("ledger", "verify")
    operator.does("activity", "verify")


def test_nothing_that_waited_in_the_backup_is_sent_to_whoever_is_gone(operator: Operator) -> None:
    portal = operator.portal
    facts = {"amount_minor": 100, "currency": "USD", "payment": "p1", "account_number": "1001"}
    about: dict[str, Any] = {"account_id": portal.world.accounts["alice"], "facts": facts}
    letters = [
        Letter("receipt", f"{name}@example.net", "en", customer_id=who, **about)
        for name, who in portal.world.customers.items()
        if name in ("alice", "bob")
        for _ in range(2)
    ]
    portal.execute("DELETE FROM messages")
    with portal.app.app_context():
        unit_of_work(lambda session: queue(session, letters))
    bob = portal.world.customers["bob"]
    portal.execute(  # one of them may have left already, and would be repeated
        "UPDATE messages SET state = 'uncertain', claimed_until_at = try_at WHERE id ="
        f" (SELECT max(id) FROM messages WHERE customer_id = {bob})"
    )
    file = operator.backup()
    close(portal)
    assert SAID in operator.does("restore", "--yes", file)
    postbox = Postbox()
    with portal.app.app_context():
        postman.send_due({"email": postbox}, portal.settings.public_url)
        db.session.remove()
    assert postbox.recipients == ["alice@example.net"] * 2
    assert (
        portal.rows(
            "SELECT state, recipient, CAST(facts AS varchar(20)), try_at, claimed_until_at"
            f" FROM messages WHERE customer_id = {bob}"
        )
        == [("failed", "", "{}", None, None)] * 2
    )


class Postbox(MessageGateway):
    """Takes every message."""

    def __init__(self) -> None:
        self.recipients: list[str] = []

    def send(self, message: OutgoingMessage) -> None:
        self.recipients.append(message.recipient)


def test_member_of_staff_then_is_none_any_more(operator: Operator) -> None:
    """Else the last administrator could leave, because one who is gone seems to stay."""
    portal = operator.portal
    ada, bob = portal.world.customers["ada"], portal.world.customers["bob"]
    portal.execute(
        f"INSERT INTO staff_members (customer_id, role, added_at, is_disabled) SELECT {bob},"
        f" role, added_at, is_disabled FROM staff_members WHERE customer_id = {ada}"
    )
    file = operator.backup()
    portal.execute(
        "UPDATE staff_members SET is_disabled = NOT is_disabled WHERE customer_id = :bob", bob=bob
    )
    close(portal)
    assert SAID in operator.does("restore", "--yes", file)
    left = portal.rows("SELECT customer_id FROM staff_members WHERE NOT is_disabled ORDER BY 1")
    assert (ada,) in left
    assert (bob,) not in left
    public_id = str(portal.one(f"SELECT public_id FROM customers WHERE id = {ada}"))
    with portal.app.app_context(), pytest.raises(LastAdministrator):
        unit_of_work(lambda session: members.set_disabled(session, public_id, is_disabled=True))


def test_list_names_nobody_and_is_for_its_owner_alone(operator: Operator) -> None:
    close(operator.portal)
    text = listed(operator.portal).read_text()
    public_id = operator.portal.one(
        f"SELECT public_id FROM customers WHERE id = {operator.portal.world.customers['bob']}"
    )
    lines = [line for line in text.splitlines() if line]
    now = f"{clock.now():%Y-%m-%dT%H:%M:%SZ}"
    assert lines == [f"{now} begun {public_id}", f"{now} done {public_id}"]
    assert listed(operator.portal).stat().st_mode & 0o777 == 0o600


def test_account_that_is_closed_as_the_restore_begins_is_closed_again(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list is read when nobody else is at the database any more."""
    file = operator.backup()
    name = "_restore_sqlite" if operator.portal.settings.is_sqlite else "_restore_postgresql"
    put_back = getattr(restore, name)

    def after_closing(*known: object) -> object:
        close(operator.portal)
        operator.leave()
        return put_back(*known)

    monkeypatch.setattr(restore, name, after_closing)
    assert SAID in operator.does("restore", "--yes", file)
    assert is_gone(operator.portal)


@pytest.mark.parametrize("engine_kind", ["postgresql"], indirect=True)
def test_account_cannot_be_closed_between_the_look_for_others_and_the_list(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = operator.backup()
    read = restore._listed
    locked: list[object] = []

    def look(*known: Any) -> Listed:
        locked.append(
            operator.portal.one(
                "SELECT count(*) FROM pg_locks WHERE relation = 'public.customers'::regclass"
                " AND mode = 'AccessExclusiveLock' AND granted"
            )
        )
        operator.leave()
        return read(*known)

    monkeypatch.setattr(restore, "_listed", look)
    operator.does("restore", "--yes", file)
    assert locked == [1]


def test_backup_that_knows_of_the_erasure_is_left_as_it_is(operator: Operator) -> None:
    close(operator.portal)
    file = operator.backup()
    assert "Erased again" not in operator.does("restore", "--yes", file)
    assert is_gone(operator.portal)


@pytest.mark.parametrize("failure", [DatabaseBusy(), RuntimeError()])
def test_erasure_that_was_rolled_back_is_not_applied(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    file = operator.backup()

    def fail(*_arguments: object) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(closing, "_pseudonymise", fail)
        assert close(operator.portal).status >= 500
    assert "begun" in listed(operator.portal).read_text()
    said = operator.does("restore", "--yes", file)
    assert "Erased again" not in said
    assert "nothing tells" not in said
    assert not is_gone(operator.portal)


def test_erasure_whose_process_died_before_it_was_listed_as_done_is_applied(
    operator: Operator,
) -> None:
    file = operator.backup()
    close(operator.portal)
    forget_done(operator.portal)
    assert SAID in operator.does("restore", "--yes", file)
    assert is_gone(operator.portal)


@on_sqlite
def test_what_nothing_can_tell_is_left_to_the_operator(operator: Operator) -> None:
    portal = operator.portal
    file = operator.backup()
    close(portal)
    forget_done(portal)
    operator.leave()
    for path in portal.settings.data.glob("lastmile.db*"):
        path.unlink()
    said = operator.does("restore", "--yes", file)
    assert "Erased again" not in said
    public_id = portal.one(
        f"SELECT public_id FROM customers WHERE id = {portal.world.customers['bob']}"
    )
    assert f"nothing tells whether it was done: {public_id}." in said
    assert not is_gone(portal)


def forget_done(portal: Portal) -> None:
    path = listed(portal)
    path.write_text(re.sub(r".* done .*", "", path.read_text()))


@on_sqlite
def test_list_of_another_node_is_read_beside_the_backup(operator: Operator) -> None:
    file = operator.backup()
    close(operator.portal)
    listed(operator.portal).rename(operator.folder / "erased-node-2.list")
    assert SAID in operator.does("restore", "--yes", file)
    assert is_gone(operator.portal)


@on_sqlite
def test_line_that_power_cut_off_hides_none_of_the_others(operator: Operator) -> None:
    file = operator.backup()
    listed(operator.portal).write_text("2026-06-20T18:59")
    close(operator.portal)
    text = listed(operator.portal).read_text()
    listed(operator.portal).write_text(text.replace("18:59\n", "18:59") + "2026-06-")
    assert SAID in operator.does("restore", "--yes", file)


@on_sqlite
def test_nobody_is_erased_who_cannot_be_listed(operator: Operator) -> None:
    portal = operator.portal
    listed(portal).mkdir()
    refused = close(portal)
    assert refused.status == 422
    assert "cannot be closed at the moment" in refused.text
    assert not is_gone(portal)
    listed(portal).rmdir()
    assert close(portal).status == 303


def test_list_is_kept_with_the_data_while_the_backups_are_away(tmp_path: Path) -> None:
    away, data = tmp_path / "away", tmp_path / "data"
    away.write_text("a mount that is not there")
    with erasures.noted([away, data], "abc"):
        assert erasures.read([data]).doubtful == {"abc"}
    assert erasures.read([data]).done == {"abc"}
    away.unlink()
    with erasures.noted([away, data], "def"):
        pass
    assert erasures.read([away, data]).done == {"abc", "def"}
