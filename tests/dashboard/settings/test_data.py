"""Taking one's data along and closing the online account (bars 28, 29 and 79)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from sqlalchemy import LargeBinary, func, insert, select
from sqlalchemy.orm import Session

from blueprints.auth import choosing
from blueprints.dashboard.settings import closing
from core import activity, erasures, outbox, postman, throttle, worker
from core.db import db, reading, unit_of_work
from core.outbox import Letter
from core.privacy import Privacy, class_of
from gateways.messages.base import MessageGateway, OutgoingMessage
from models import Base, Channel, UtcDateTime
from tests import crawl
from tests.conftest import Portal
from tests.dashboard.told import announced
from tests.page import Page, Visitor
from tests.world import PASSWORD

Tick = Callable[..., None]
CANARY = "canary-of-alice"


def download(visitor: Visitor) -> dict[str, list[dict[str, Any]]]:
    done = visitor.submit(visitor.get("/settings/data"), "/data")
    assert done.location == "/settings/data/everything"
    file = visitor.get(done.location)
    assert file.response.headers["Content-Disposition"].startswith("attachment")
    tables: dict[str, list[dict[str, Any]]] = json.loads(file.response.text)["tables"]
    return tables


def fill_every_table(portal: Portal) -> None:
    """A row of alice's in each table that holds personal data and has none of hers yet."""
    world = portal.world
    known = {"customer_id": world.customers["alice"], "account_id": world.accounts["alice"]}
    with portal.app.app_context():
        have = {
            name
            for name, table in Base.metadata.tables.items()
            for column in ("customer_id", "account_id")
            if column in table.columns
            and portal.one(f"SELECT count(*) FROM {name} WHERE {column} = {known[column]}")
        } | {"customers", "accounts"}

        def work(session: Any) -> None:
            for table in Base.metadata.sorted_tables:
                personal = [c.name for c in table.columns if "privacy" in c.info]
                if personal and table.name not in have:
                    _insert(session, table, known, portal)

        unit_of_work(work)


def _insert(session: Any, table: Any, known: dict[str, int], portal: Portal) -> Any:
    """Insert a row of alice's; returns the first part of its primary key."""
    row = _row(session, table, known, portal)
    return session.execute(insert(table), [row]).inserted_primary_key[0]


def _row(session: Any, table: Any, known: dict[str, int], portal: Portal) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column in table.columns:
        if (table.name, column.name) in _CHOSEN:
            row[column.name] = _CHOSEN[table.name, column.name]
        elif column.name == "subject" and table.name == "sign_in_attempts":
            row[column.name] = throttle.subject_of(portal.settings.secret, "alice")
        elif column.name == "account_id" and "customer_id" in table.columns:
            row[column.name] = None if column.nullable else known["account_id"]
        elif column.name in known:
            row[column.name] = known[column.name]
        elif column.name == "invited_by_id":
            row[column.name] = known["customer_id"]
        elif column.foreign_keys and not column.nullable:
            row[column.name] = _referred(session, column, known, portal)
        elif not column.nullable and column.default is None and not column.primary_key:
            row[column.name] = _value(table, column)
        elif column.primary_key and isinstance(column.type, LargeBinary):
            row[column.name] = bytes(32)
        elif column.primary_key and column.type.python_type is str:
            row[column.name] = CANARY[: column.type.length or 20]
    return row


def _referred(session: Any, column: Any, known: dict[str, int], portal: Portal) -> Any:
    """What a row of hers refers to: hers where accounts have such, otherwise the first there is,
    made where there is none."""
    [target] = [key.column for key in column.foreign_keys]
    found = select(func.min(target))
    if "account_id" in target.table.columns:
        found = found.where(target.table.columns.account_id == known["account_id"])
    return session.scalar(found) or _insert(session, target.table, known, portal)


def _value(table: Any, column: Any) -> Any:
    kind = datetime if isinstance(column.type, UtcDateTime) else column.type.python_type
    words = {
        "role": "viewer",
        "purpose": "recover" if table.name == "one_time_codes" else "x",
        "channel": "email",
        "public_id": f"{table.name}-alice"[:24],
    }
    allowed = _allowed(table, column.name)
    if allowed and column.name not in words:
        return allowed[0]
    known = {
        int: 1,
        bool: False,
        datetime: datetime(2026, 6, 20, tzinfo=UTC),
        date: date(2026, 6, 20),
        bytes: table.name.encode().ljust(32)[:32],
        dict: {"note": CANARY},
        list: [],
        object: {"note": CANARY},
        str: words.get(column.name, CANARY[: getattr(column.type, "length", None) or 20]),
    }
    return known[kind]


# Where the first that is allowed would need more beside it.
_CHOSEN = {
    ("bank_lines", "state"): "unmatched",
    ("call_records", "amount_minor"): 0,
    ("plan_changes", "is_end"): True,
    ("usage_days", "day_on"): date(2026, 1, 1),
    ("top_up_uses", "period_on"): date(2026, 1, 1),
    ("usage_marks", "period_on"): date(2026, 1, 1),
}


_NOBODYS = {"call_imports"}
"""What rows hold that were refused since nobody's number is in them, or one that makes no sense."""


def _allowed(table: Any, column: str) -> list[str]:
    """The values that a check of the table allows for a column; empty where there is none."""
    for check in table.constraints:
        text = str(getattr(check, "sqltext", ""))
        if text.startswith(f"{column} IN ("):
            return re.findall(r"'([^']*)'", text)
    return []


# Download -----------------------------------------------------------------------------------------


def test_file_holds_every_personal_column_of_every_table(portal: Portal) -> None:
    fill_every_table(portal)
    tables = download(portal.visitor("alice"))
    for table in Base.metadata.sorted_tables:
        wanted = {
            column.name
            for column in table.columns
            if class_of(table.name, column.name) in (Privacy.PERSON, Privacy.CONTACT)
        }
        if wanted and table.name not in _NOBODYS:
            assert tables.get(table.name), table.name
            assert wanted <= set(tables[table.name][0]), table.name


def test_file_holds_no_secret_and_nothing_of_others(portal: Portal) -> None:
    crawl.prepare(portal)
    fill_every_table(portal)
    alice = portal.visitor("alice")
    tables = download(alice)
    text = json.dumps(tables)
    for table, rows in tables.items():
        for name in rows[0]:
            assert class_of(table, name) is not Privacy.SECRET
    assert "mallory" not in text.lower()
    assert "bob@example.net" not in text
    assert "1001" in text
    assert len(tables["invoices"]) == 4
    assert tables["invoice_lines"]


def test_who_only_shares_an_account_gets_own_rows_alone(portal: Portal) -> None:
    tables = download(portal.visitor("vera"))
    assert [row["sign_in_id"] for row in tables["customers"]] == ["vera"]
    assert "invoices" not in tables
    assert "alice@example.net" not in json.dumps(tables)


def test_download_is_noted_and_announced(portal: Portal) -> None:
    alice = portal.visitor("alice")
    download(alice)
    assert portal.rows("SELECT reader, customer_id, fields, purpose FROM data_accesses") == [
        ("alice", 1, "everything", "export by the customer")
    ]
    assert announced(portal, "data_downloaded") == ["alice@example.net"]
    assert "All data downloaded" in alice.get("/activity").text


def test_file_is_there_for_a_while_and_only_after_the_note(portal: Portal, tick: Tick) -> None:
    alice = portal.visitor("alice")
    file = "/settings/data/everything"
    assert alice.get(file).location == "/settings/data"
    download(alice)
    assert alice.get(file).status == 200
    assert portal.visitor("mallory").get(file).location == "/settings/data"
    tick(minutes=11)
    assert alice.get(file).location.startswith("/confirm")


# Closing ------------------------------------------------------------------------------------------


def close(visitor: Visitor) -> Page:
    return visitor.submit(visitor.get("/settings/close"), "/close")


def test_closed_account_is_signed_out_and_cannot_sign_in(portal: Portal) -> None:
    alice, other = portal.visitor("alice"), portal.visitor("alice")
    assert close(alice).location == "/sign-in?done=closed"
    assert other.get("/settings/").location.startswith("/sign-in")
    for name in ("alice", "alice@example.net"):
        assert portal.visitor().sign_in(name).status == 422
    assert sorted(announced(portal, "online_account_closed")) == ["alice@example.net"]


def test_message_of_closing_sends_nobody_to_the_sign_in_page(portal: Portal) -> None:
    close(portal.visitor("alice"))
    with portal.app.app_context():
        gateways = portal.app.extensions["message_gateways"]
        postman.send_due(gateways, portal.settings.public_url)
        [told] = [
            mail.text
            for mail in gateways[Channel.EMAIL].list_latest()
            if "Online account closed" in mail.subject
        ]
    assert "call us at once: +1 541-555-0100" in told
    assert "/activity" not in told


def test_nothing_personal_of_the_customer_is_left(portal: Portal) -> None:
    bob = portal.visitor("bob")
    bob.submit(bob.get("/settings/name"), "/name", name="Robert Canary")
    write_to_bob(portal)
    assert "bob@example.net" in str(crawl.dump(portal.app)["messages"])
    close(bob)
    send_all(portal)  # what waited then, the news of closing among it
    rows = crawl.dump(portal.app)
    for word in ("Robert Canary", "'bob'", "bob@example.net", CANARY):
        assert [table for table in rows if word in str(rows[table])] == []
    with portal.app.app_context(), reading() as session:
        assert activity.verify(session).faults == ()


def write_to_bob(portal: Portal) -> None:
    """A message of each sort that has an account and tells of bob, or went to him."""
    world = portal.world
    about: dict[str, Any] = {
        "account_id": world.accounts["alice"],
        "customer_id": world.customers["bob"],
    }
    portal.execute(
        "INSERT INTO contacts (customer_id, kind, value, since_on)"
        f" VALUES ({world.customers['bob']}, 'email', 'bob@example.net', '2025-01-01')"
    )
    portal.execute(
        "INSERT INTO invitations (public_id, account_id, invited_by_id, role, kind, value,"
        " token_hash, created_at, expires_at, accepted_by_id) VALUES ('inv', :account, :alice,"
        " 'payer', 'email', 'bob@example.net', :hash, :now, :now, :bob)",
        account=world.accounts["alice"],
        alice=world.customers["alice"],
        bob=world.customers["bob"],
        hash=bytes(32),
        now=datetime(2026, 6, 1, tzinfo=UTC).replace(tzinfo=None),
    )
    of_alice: dict[str, Any] = about | {"customer_id": world.customers["alice"]}
    kinds = ("receipt", "contact_code", "invitation", "address_change")
    with portal.app.app_context():
        letters = [
            Letter(kind, "bob@example.net", "en", facts={"note": CANARY}, **about) for kind in kinds
        ]
        letters.append(Letter("invitation", "bob@example.net", "en", **of_alice))
        unit_of_work(lambda session: outbox.queue(session, letters))
    portal.execute("UPDATE messages SET state = 'sent', try_at = NULL")
    with portal.app.app_context():
        facts = {"amount_minor": 1, "currency": "USD", "payment": "p", "account_number": "1001"}
        late = Letter("receipt", "bob@example.net", "en", facts=facts | {"note": CANARY}, **about)
        unit_of_work(lambda session: outbox.queue(session, [late]))


def send_all(portal: Portal) -> None:
    """The worker sends what waits, and cleans up."""
    with portal.app.app_context():
        gateways = portal.app.extensions["message_gateways"]
        assert postman.send_due(gateways, portal.settings.public_url) > 1
        worker.clean_up()
    assert portal.one("SELECT count(*) FROM messages WHERE try_at IS NOT NULL") == 0


def test_messages_of_others_and_of_the_account_stay(portal: Portal) -> None:
    portal.execute("DELETE FROM messages")
    write_to_bob(portal)
    portal.execute("UPDATE messages SET customer_id = NULL WHERE kind = 'contact_code'")
    with portal.app.app_context():
        theirs = Letter("receipt", "alice@example.net", "en", customer_id=1, facts={"note": "hers"})
        unit_of_work(lambda session: outbox.queue(session, [theirs]))
    portal.execute("UPDATE messages SET state = 'sent', try_at = NULL")
    close(portal.visitor("bob"))
    with portal.app.app_context():
        worker.clean_up()
    kept = portal.rows(
        "SELECT kind, recipient FROM messages WHERE recipient <> '' AND try_at IS NULL ORDER BY id"
    )
    assert kept == [("contact_code", "bob@example.net"), ("receipt", "alice@example.net")]


def test_message_that_waits_when_its_reader_closes_is_still_sent(portal: Portal) -> None:
    """A receipt tells of money that has moved; also where it may have left already."""
    write_to_bob(portal)
    portal.execute("UPDATE messages SET state = 'uncertain' WHERE try_at IS NOT NULL")
    close(portal.visitor("bob"))
    with portal.app.app_context():
        worker.clean_up()
    waiting = portal.rows(
        "SELECT recipient FROM messages WHERE kind = 'receipt' AND sent_at IS NULL"
    )
    assert ("bob@example.net",) in waiting


def test_code_that_leaves_while_its_reader_closes_is_emptied_too(portal: Portal) -> None:
    """Its end is noted afterwards, with what it was about."""
    bob = portal.visitor("bob")

    class Closes(MessageGateway):
        def send(self, message: OutgoingMessage) -> None:
            if not taken:
                taken.append(message.recipient)
                close(bob)

    taken: list[str] = []
    portal.execute("DELETE FROM messages")
    about: dict[str, Any] = {"customer_id": portal.world.customers["bob"]}
    facts = {"amount_minor": 1, "currency": "USD", "payment": "p", "account_number": CANARY}
    code = Letter("receipt", "bob@example.net", "en", facts=facts, secrets={"code": "1"}, **about)
    with portal.app.app_context():
        unit_of_work(lambda session: outbox.queue(session, [code]))
        postman.send_due({"email": Closes()}, portal.settings.public_url)
        assert CANARY in str(crawl.dump(portal.app)["messages"])
        worker.clean_up()
    assert taken == ["bob@example.net"]
    messages = str(crawl.dump(portal.app)["messages"])
    assert CANARY not in messages
    assert taken[0] not in messages


def test_books_are_untouched_and_the_account_can_be_registered_again(portal: Portal) -> None:
    kept = ("journal_entries", "journal_lines", "invoices", "invoice_lines", "payments", "contacts")
    before = crawl.dump(portal.app)
    close(portal.visitor("alice"))
    after = crawl.dump(portal.app)
    for table in kept:
        assert after[table] == before[table], table
    with portal.app.app_context():
        assert not choosing.has_owner(db.session(), portal.world.accounts["alice"])
    assert portal.visitor("bob").get(portal.path()).status == 200


def test_own_contacts_go_and_their_owner_is_told_first(portal: Portal) -> None:
    portal.execute(
        "INSERT INTO contacts (customer_id, kind, value, since_on)"
        " VALUES (2, 'email', 'bobs.own@example.net', '2025-01-01')"
    )
    close(portal.visitor("bob"))
    assert portal.one("SELECT value FROM contacts WHERE customer_id = 2").startswith("erased-")
    assert "bobs.own@example.net" in announced(portal, "online_account_closed")


def make_staff(portal: Portal) -> None:
    """Of bob."""
    portal.execute(
        "INSERT INTO staff_members (customer_id, role, added_at, is_disabled)"
        " VALUES (2, 'support', :now, :no)",
        now=datetime(2026, 6, 1, tzinfo=UTC).replace(tzinfo=None),
        no=False,
    )


def test_staff_do_not_close_themselves_and_are_not_listed(portal: Portal) -> None:
    bob = portal.visitor("bob")
    make_staff(portal)
    assert close(bob).status == 422
    assert portal.one("SELECT sign_in_id FROM customers WHERE id = 2") == "bob"
    listed = erasures.read(erasures.folders(portal.settings))
    assert (listed.done, listed.doubtful) == (frozenset(), frozenset())


def test_member_who_is_made_while_the_form_arrives_is_refused_too(
    portal: Portal, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = portal.visitor("bob")
    refuse = closing._refuse_staff

    def look_before_it_is_so(session: Session, customer_id: int) -> None:
        refuse(session, customer_id)
        monkeypatch.setattr(closing, "_refuse_staff", refuse)
        session.rollback()
        make_staff(portal)

    monkeypatch.setattr(closing, "_refuse_staff", look_before_it_is_so)
    assert close(bob).status == 422
    assert portal.one("SELECT sign_in_id FROM customers WHERE id = 2") == "bob"


def test_data_and_closing_ask_for_the_password_first(portal: Portal, tick: Tick) -> None:
    alice = portal.visitor("alice")
    tick(minutes=11)
    for path in ("/settings/data", "/settings/close"):
        asked = alice.get(path)
        assert asked.location.startswith("/confirm?next=")
        assert alice.post(path, crawl.token_of(alice)).location.startswith("/confirm?next=")
    page = alice.submit(alice.get(asked.location), "/confirm", password=PASSWORD)
    assert page.location == "/settings/close"
