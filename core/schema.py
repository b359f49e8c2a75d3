# ruff: noqa: S608, ISC004 - statements are made from the constants below, in several pieces
"""The triggers that no table definition can hold, one list for both engines.

They make postings and issued invoices append-only and complete: each line's position must lie
within its header's `line_count`, and with the last line the whole must add up. Lines are therefore
inserted in the order of their positions. Migrations create the triggers again from this list,
since rebuilding a table on SQLite drops them.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, inspect

# Each with what is unique in it: SQLite's INSERT OR REPLACE deletes rows without telling a trigger,
# unless its connection has recursive triggers on, which not every tool has.
APPEND_ONLY = {
    "journal_entries": ("id = NEW.id", "key = NEW.key"),
    "journal_lines": ("entry_id = NEW.entry_id AND position = NEW.position",),
    "invoices": (
        "id = NEW.id",
        "public_id = NEW.public_id",
        "number = NEW.number",
        "entry_id = NEW.entry_id",
        "account_id = NEW.account_id AND period_from = NEW.period_from"
        " AND kind = 'invoice' AND NEW.kind = 'invoice'",
    ),
    "invoice_lines": ("invoice_id = NEW.invoice_id AND position = NEW.position",),
    "allocations": ("id = NEW.id",),
    "gateway_notices": ("gateway = NEW.gateway AND event_id = NEW.event_id",),
    "activity_seals": ("id = NEW.id", "first_id = NEW.first_id"),
}

# Events stay as they are, but for what erasing does: facts and salt go, and nothing else changes.
_EVENT_COLUMNS = ("id", "account_id", "customer_id", "kind", "happened_at", "digest")

# header table, line table, the header's column in the line table, what the lines must sum to
_COUNTED = (
    ("journal_entries", "journal_lines", "entry_id", "0"),
    (
        "invoices",
        "invoice_lines",
        "invoice_id",
        "(SELECT total_minor FROM invoices WHERE id = NEW.invoice_id)",
    ),
)


def _sqlite_triggers(append_only: Sequence[str]) -> dict[str, str]:
    triggers = {}
    for table in append_only:
        unique = APPEND_ONLY[table]
        found = " OR ".join(f"EXISTS (SELECT 1 FROM {table} WHERE {match})" for match in unique)
        triggers[f"{table}_no_replace"] = (
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {found} "
            f"BEGIN SELECT RAISE(ABORT, '{table} is append-only: this row is there'); END"
        )
        for action in ("update", "delete"):
            name = f"{table}_no_{action}"
            triggers[name] = (
                f"CREATE TRIGGER {name} BEFORE {action.upper()} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
            )
    same = " AND ".join(f"NEW.{column} IS OLD.{column}" for column in _EVENT_COLUMNS)
    triggers |= {
        "activity_no_replace": "CREATE TRIGGER activity_no_replace BEFORE INSERT ON activity "
        "WHEN EXISTS (SELECT 1 FROM activity WHERE id = NEW.id) "
        "BEGIN SELECT RAISE(ABORT, 'activity is append-only: this row is there'); END",
        "activity_no_delete": "CREATE TRIGGER activity_no_delete BEFORE DELETE ON activity "
        "BEGIN SELECT RAISE(ABORT, 'activity is append-only'); END",
        "activity_no_update": "CREATE TRIGGER activity_no_update BEFORE UPDATE ON activity "
        f"WHEN NOT (NEW.facts IS NULL AND length(NEW.salt) = 0 AND {same}) "
        "BEGIN SELECT RAISE(ABORT, 'activity is append-only: facts can only be erased'); END",
    }
    for header, lines, column, total in _COUNTED:
        count = f"(SELECT line_count FROM {header} WHERE id = NEW.{column})"
        triggers[f"{lines}_within"] = (
            f"CREATE TRIGGER {lines}_within BEFORE INSERT ON {lines} "
            f"WHEN NEW.position < 1 OR NEW.position > {count} "
            f"BEGIN SELECT RAISE(ABORT, '{lines}: position outside the header''s line_count'); END"
        )
        triggers[f"{lines}_complete"] = (
            f"CREATE TRIGGER {lines}_complete AFTER INSERT ON {lines} "
            f"WHEN NEW.position = {count} AND ("
            f"(SELECT count(*) FROM {lines} WHERE {column} = NEW.{column}) <> NEW.position OR "
            f"(SELECT sum(amount_minor) FROM {lines} WHERE {column} = NEW.{column}) <> {total}) "
            f"BEGIN SELECT RAISE(ABORT, '{lines} do not add up'); END"
        )
    return triggers


def _postgresql_statements(append_only: Sequence[str]) -> list[str]:
    statements = [
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'check_violation'; "
        "END $$"
    ]
    same = " AND ".join(
        f"NEW.{column} IS NOT DISTINCT FROM OLD.{column}" for column in _EVENT_COLUMNS
    )
    statements += [
        "CREATE OR REPLACE FUNCTION activity_check() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NEW.facts IS NULL AND length(NEW.salt) = 0 AND {same} THEN RETURN NEW; END IF; "
        "RAISE EXCEPTION 'activity is append-only: facts can only be erased' "
        "USING ERRCODE = 'check_violation'; END $$",
        "CREATE OR REPLACE TRIGGER activity_no_update BEFORE UPDATE ON activity "
        "FOR EACH ROW EXECUTE FUNCTION activity_check()",
        "CREATE OR REPLACE TRIGGER activity_no_delete BEFORE DELETE ON activity "
        "FOR EACH ROW EXECUTE FUNCTION refuse_change()",
        "CREATE OR REPLACE TRIGGER activity_no_truncate BEFORE TRUNCATE ON activity "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()",
    ]
    for table in append_only:
        statements += [
            f"CREATE OR REPLACE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()",
            f"CREATE OR REPLACE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()",
        ]
    for header, lines, column, total in _COUNTED:
        statements += [
            f"CREATE OR REPLACE FUNCTION {lines}_check() RETURNS trigger LANGUAGE plpgsql AS $$ "
            "DECLARE wanted integer; found integer; total bigint; BEGIN "
            f"SELECT line_count INTO wanted FROM {header} WHERE id = NEW.{column}; "
            "IF NEW.position < 1 OR NEW.position > wanted THEN "
            f"RAISE EXCEPTION '{lines}: position outside the header''s line_count' "
            "USING ERRCODE = 'check_violation'; END IF; "
            "IF NEW.position = wanted THEN "
            f"SELECT count(*), sum(amount_minor) INTO found, total FROM {lines} "
            f"WHERE {column} = NEW.{column}; "
            f"IF found <> wanted OR total <> {total} THEN "
            f"RAISE EXCEPTION '{lines} do not add up' USING ERRCODE = 'check_violation'; "
            "END IF; END IF; RETURN NULL; END $$",
            f"CREATE OR REPLACE TRIGGER {lines}_complete AFTER INSERT ON {lines} "
            f"FOR EACH ROW EXECUTE FUNCTION {lines}_check()",
        ]
    return statements


def drop_triggers(connection: Connection) -> None:
    """Drop the triggers of an SQLite database for the time of a migration.

    SQLite refuses to rename a table, which is how a table is rebuilt, while a trigger of another
    one names a table that is not there at that moment.
    """
    if connection.dialect.name == "sqlite":
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for name in names.scalars().all():
            connection.exec_driver_sql(f'DROP TRIGGER "{name}"')


def create_triggers(connection: Connection) -> None:
    """Create every trigger, replacing those that exist. A table that comes with a later migration
    gets its own with that one."""
    there = inspect(connection).get_table_names()
    append_only = [table for table in APPEND_ONLY if table in there]
    if connection.dialect.name == "sqlite":
        for name, statement in _sqlite_triggers(append_only).items():
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
            connection.exec_driver_sql(statement)
    else:
        for statement in _postgresql_statements(append_only):
            connection.exec_driver_sql(statement.replace("%", "%%"))
