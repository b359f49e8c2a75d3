"""Whoever was erased since a backup is erased again when it is restored; nobody else (bar 73)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from blueprints.dashboard.settings import closing
from core import clock, erasures
from core.db import DatabaseBusy, db, reading
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
