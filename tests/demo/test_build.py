"""The demo: that it can be built on any day, is the same each time, and shows what it promises.

With a few hundred rows of the export and a shorter history; `make run` builds the whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import text
from zxcvbn import zxcvbn

from app import check_database, create_app
from blueprints.billing.verify import find_faults
from blueprints.staff import catalog
from core import clock, isp, passwords, search_terms
from core.db import db, reading
from core.migrate import upgrade
from core.settings import Settings, read_settings
from demo import DEMO_CUSTOMERS, DEMO_STAFF, REGISTERS, build, start
from tests import outside, pg
from tests.staff.conftest import DATA

NOON = datetime(2026, 11, 24, 20, tzinfo=UTC)
ROWS = 150


class Interrupted(Exception):
    """Somebody pressed Ctrl-C."""


@dataclass
class Demo:
    app: Flask
    settings: Settings
    export: Path

    def build(self, until_step: int | None = None) -> None:
        def progress(done: int, _total: int, _what: str) -> None:
            if until_step is not None and done >= until_step:
                raise Interrupted

        build.build(progress, self.export)

    def rows(self, sql: str, **values: Any) -> list[tuple[Any, ...]]:
        with db.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(sql), values)]

    def account(self, sign_in_id: str, role: str = "owner") -> tuple[Any, ...]:
        """Status, balance, invoices, overdue ones, holds, payments under way at the bank."""
        found = self.rows(
            "SELECT a.status, a.balance_minor,"
            " (SELECT count(*) FROM invoices i WHERE i.account_id = a.id),"
            " (SELECT count(*) FROM invoices i JOIN invoice_balances b ON b.invoice_id = i.id"
            "  WHERE i.account_id = a.id AND b.settled_at IS NULL AND i.due_on < '2026-11-24'),"
            " (SELECT count(*) FROM lines l JOIN line_holds h ON h.line_id = l.id"
            "  WHERE l.account_id = a.id AND h.reason = 'unpaid' AND h.released_at IS NULL),"
            " (SELECT count(*) FROM payments p WHERE p.account_id = a.id"
            "  AND p.state = 'processing')"
            " FROM accounts a JOIN memberships m ON m.account_id = a.id"
            " JOIN customers c ON c.id = m.customer_id"
            " WHERE c.sign_in_id = :name AND m.role = :role ORDER BY a.number LIMIT 1",
            name=sign_in_id,
            role=role,
        )
        return found[0]


def _make(folder: Path, url: str | None) -> Demo:
    environment = {"LASTMILE_DATA": str(folder), "LASTMILE_DEMO": "1"}
    settings = read_settings(environment | ({"DATABASE_URL": url} if url else {}))
    export = folder / "export.csv"
    lines = (DATA / "customers_export.csv").read_bytes().splitlines(keepends=True)
    export.write_bytes(b"".join(lines[:ROWS]))
    return Demo(create_app(settings), settings, export)


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Demo]:
    """An empty, migrated SQLite database in demo mode, and a short history to build in it."""
    monkeypatch.setattr(build, "MONTHS", 4)
    made = _make(tmp_path, None)
    yield from _inside(made)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The same, already built, to look at."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "MONTHS", 4)
        made = _make(tmp_path_factory.mktemp("built"), None)
        for demo in _inside(made):
            demo.build()
            yield demo


def _inside(made: Demo) -> Iterator[Demo]:
    isp._cached.clear()
    with made.app.app_context(), clock.set_to(NOON):
        upgrade(made.settings)
        yield made
        with reading() as session:
            assert list(find_faults(session)) == []
        db.session.remove()
        db.engine.dispose()
    isp._cached.clear()


def test_each_customer_shows_what_the_sign_in_page_promises(built: Demo) -> None:
    check_database(built.settings)
    status, balance, invoices, overdue, held, _ = built.account("maria.lopez")
    assert (status, overdue, held) == ("active", 0, 0)
    assert balance > 0
    assert built.account("luis.lopez", "payer") == built.account("maria.lopez")
    status, balance, _, overdue, held, _ = built.account("tom.becker")
    assert balance > 0
    assert overdue >= 1
    assert held == 1
    assert built.account("grace.kim")[1] < 0
    assert built.account("omar.haddad")[1] == 0
    status, balance, *_ = built.account("ed.walker")
    assert status == "closed"
    assert balance <= 0  # the days billed and not used came back
    assert built.account("sam.rivera")[:3] == ("active", 0, 0)
    assert built.account("nina.petrov", "viewer")[0] == "active"
    accounts = built.rows(
        "SELECT a.name, m.role FROM memberships m JOIN customers c ON c.id = m.customer_id"
        " JOIN accounts a ON a.id = m.account_id WHERE c.sign_in_id = 'nina.petrov'"
        " ORDER BY a.number"
    )
    assert accounts == [
        ("Nina Petrov", "owner"),
        ("Petrov Bicycles LLC", "owner"),
        ("Rosa Petrov", "viewer"),
    ]
    assert invoices >= 4


def test_some_pay_by_autopay_and_as_scheduled(built: Demo) -> None:
    [omar] = built.rows(
        "SELECT count(*) FROM payments p JOIN planned_payments l ON l.id = p.planned_id"
        " JOIN accounts a ON a.id = p.account_id WHERE a.number = '10200035'"
        " AND p.state = 'succeeded'"
    )
    assert omar[0] >= 1
    ahead = built.rows(
        "SELECT a.number, l.kind, l.state FROM planned_payments l"
        " JOIN accounts a ON a.id = l.account_id WHERE l.state = 'waiting' ORDER BY a.number"
    )
    assert ahead == [("10200014", "autopay", "waiting"), ("10200049", "scheduled", "waiting")]


def test_the_history_has_people_of_every_kind(built: Demo) -> None:
    states = dict(built.rows("SELECT state, count(*) FROM payments GROUP BY state"))
    assert states["succeeded"] > 300
    assert states["declined"] > 0
    assert states["processing"] > 0
    assert built.rows("SELECT count(*) FROM payments WHERE state IN ('created', 'sent')") == [(0,)]
    kinds = {kind for (kind,) in built.rows("SELECT DISTINCT kind FROM activity")}
    assert kinds >= {"invoice_issued", "payment_received", "registered", "signed_in", "line_held"}
    [(queued,)] = built.rows("SELECT count(*) FROM messages WHERE state = 'queued'")
    assert 0 < queued < 60


def test_sign_in_works_with_the_passwords_that_are_shown(built: Demo) -> None:
    found = built.rows("SELECT sign_in_id, password_hash FROM customers")
    hashes = dict(found)
    people = (*DEMO_CUSTOMERS, *DEMO_STAFF)
    assert set(hashes) == {customer.sign_in_id for customer in people}
    for customer in people:
        assert passwords.verify(
            built.settings.data,
            hashes[customer.sign_in_id],
            customer.password,
            is_known_device=True,
        )
        assert zxcvbn(customer.password)["score"] >= 3


def test_somebody_is_left_to_create_an_online_account(built: Demo) -> None:
    """Whom the first page of registering names: a code can reach them."""
    client = built.app.test_client()
    base = built.settings.public_url
    assert REGISTERS in client.get("/register", base_url=base).text
    client.post("/register", base_url=base, data={"who": REGISTERS})
    page = client.get("/register/way", base_url=base)
    guard = dict(re.findall(r'name="(csrf_token|form_key)" value="([^"]+)"', page.text))
    client.post("/register/way", base_url=base, data=guard | {"way": "email"})
    assert built.rows("SELECT recipient FROM messages WHERE kind = 'register_code'") == [
        ("ruth.adler@example.net",)
    ]


def test_second_step_of_the_demo_is_a_code_for_its_mailbox(built: Demo) -> None:
    found = built.rows(
        "SELECT sign_in_id, factors.kind, value FROM factors"
        " JOIN customers ON customers.id = factors.customer_id"
        " JOIN contacts ON contacts.id = contact_id WHERE ended_on IS NULL"
    )
    assert [(name, kind) for name, kind, _value in found] == [("ed.walker", "email")]
    assert "code by e-mail" in {name: note for name, _, note in DEMO_CUSTOMERS}["ed.walker"]


def test_second_step_of_the_demos_staff_is_shown_in_its_mailbox(built: Demo) -> None:
    found = built.rows(
        "SELECT sign_in_id, staff_members.role, factors.kind FROM staff_members"
        " JOIN customers ON customers.id = staff_members.customer_id"
        " JOIN factors ON factors.customer_id = customers.id WHERE confirmed_at IS NOT NULL"
    )
    assert sorted(found) == [
        ("dana.desk", "administrator", "totp"),
        ("rae.till", "billing", "totp"),
    ]


def test_words_of_the_demo_are_as_a_rebuild_makes_them(built: Demo) -> None:
    with reading() as session:
        assert list(search_terms.find_faults(session)) == []


def _everything(demo: Demo) -> list[list[tuple[Any, ...]]]:
    return [
        demo.rows(sql)
        for sql in (
            "SELECT id, public_id, number, balance_minor, revision FROM accounts ORDER BY id",
            "SELECT number, public_id, total_minor, issued_on FROM invoices ORDER BY id",
            "SELECT public_id, key, state, amount_minor, created_at FROM payments ORDER BY id",
            "SELECT kind, account_id, happened_at, facts FROM activity ORDER BY id",
            "SELECT line_id, reason, since_at, released_at FROM line_holds ORDER BY id",
        )
    ]


def test_a_build_that_was_interrupted_is_begun_anew_and_is_the_same_each_time(demo: Demo) -> None:
    with pytest.raises(Interrupted):
        demo.build(until_step=60)
    assert not build.is_complete()
    build.discard_unfinished(demo.settings)
    assert demo.rows("SELECT count(*) FROM accounts") == [(0,)]
    demo.build()
    assert build.is_complete()
    first = _everything(demo)
    with db.engine.connect() as connection:
        connection.execute(text("DELETE FROM counters WHERE name = 'demo:built'"))
    build.discard_unfinished(demo.settings)
    demo.build()
    assert _everything(demo) == first


def test_a_database_that_is_not_the_demos_is_left_alone(demo: Demo) -> None:
    catalog.load(DATA / "catalog.toml")
    with pytest.raises(RuntimeError, match="not made by the demo"):
        build.discard_unfinished(demo.settings)


def test_it_is_built_once_when_the_portal_starts(
    demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def counted(progress: build.Progress) -> None:
        calls.append(1)
        build.build(progress, demo.export)

    monkeypatch.setattr(start, "build", counted)
    start.ensure_built(demo.settings)
    start.ensure_built(demo.settings)
    assert calls == [1]


@pytest.mark.parametrize("day", ["2027-01-01", "2028-02-29", "2026-03-31"])
def test_it_can_be_built_on_any_day(demo: Demo, day: str) -> None:
    with clock.set_to(datetime.fromisoformat(f"{day}T12:00:00-08:00")):
        demo.build()
        assert demo.account("maria.lopez")[1] > 0
        assert demo.account("tom.becker")[4] == 1
        assert demo.account("sam.rivera")[2] == 0


def test_it_can_be_built_on_postgresql(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside.need("postgresql")
    monkeypatch.setattr(build, "MONTHS", 3)
    server = pg.server()
    server.create("demo")
    for made in _inside(_make(tmp_path, server.url("demo"))):
        made.build()
        assert made.account("maria.lopez")[1] > 0
    server.drop("demo")
