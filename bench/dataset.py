"""Many accounts with a year of history: the demo's, copied in bulk under new ids.

The demo is built once for each state of the code and each day, into `build/bench/`; copies of it
are made beside it. Every row that hangs on an account or a customer is copied, as the tables'
foreign keys tell; a table that has no rule here is refused, so that none is forgotten.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    create_engine,
    func,
    literal,
    select,
    text,
)
from sqlalchemy.orm import Session

from core import activity, clock, schema, search_terms
from core.settings import ROOT, Settings, read_settings
from models import Account, AccountStatus, Base, Customer, Invoice, Membership, Role

FOLDER = ROOT / "build" / "bench"
PASSWORD = "quarry-lantern-biscuit-58"  # of every customer that the bench adds
OWNER_COLUMNS = (
    "public_id",
    "sign_in_id",
    "sign_in_key",
    "name",
    "language",
    "password_hash",
    "created_at",
)
TOOK = "seconds"  # a file with how long making the folder took
KEPT_SECONDS = 2 * 86_400
_BUILD = (
    "import core.serve as s; from core.settings import read_settings; s.prepare(read_settings())"
)
# What a data folder holds beside the database; the sandbox's books know the demo's payments.
FILES = ("secret", "sandbox-secret", "sandbox.db")
# What decides how the demo turns out.
SOURCES = (
    "models.py",
    "migrations",
    "demo",
    "blueprints/staff",
    "blueprints/lines/accounting.py",
    "gateways/network",
    "gateways/voice",
    "blueprints/lines/phone",
    *(
        f"blueprints/billing/{name}.py"
        for name in ("booking", "bill_run", "drafting", "invoicing", "ledger", "opening")
    ),
    *(f"blueprints/billing/{name}.py" for name in ("payments", "settling")),
    *(f"core/{name}.py" for name in ("activity", "clock", "ids", "money", "outbox", "schema")),
    "core/search_terms.py",
    "bench/dataset.py",
)

# For each table its columns that must differ from copy to copy, beside ids and references: an SQL
# expression over the row's columns and `:k`, the number of the copy.
RULES: dict[str, dict[str, str]] = {
    "accounts": {"public_id": "anew(public_id, :k)", "number": "account_number(number, :k)"},
    "contacts": {},
    "lines": {
        "public_id": "anew(public_id, :k)",
        "username": "username || '.' || :k",
        "sync_at": "NULL",
        "look_at": "NULL",
    },
    "line_holds": {},
    "line_openings": {},
    "usage_alerts": {},
    "usage_blocks": {},
    "usage_marks": {},
    "top_ups": {"public_id": "anew(public_id, :k)", "key": "'copy-' || anew(key, :k)"},
    "top_up_uses": {},
    "usage_days": {},
    "usage_sessions": {"session": "session || '.' || :k"},
    "tax_exemptions": {},
    "subscriptions": {"public_id": "anew(public_id, :k)"},
    "customers": {
        "public_id": "anew(public_id, :k)",
        "sign_in_id": "sign_in_id || '.' || :k",
        "sign_in_key": "sign_in_key || '.' || :k",
        "email_key": ":k || '.' || email_key",
    },
    "memberships": {},
    "journal_entries": {"key": "journal_key(key, :k)"},
    "journal_lines": {},
    "invoices": {
        "public_id": "anew(public_id, :k)",
        "number": "invoice_number(number, :k)",
    },
    "invoice_lines": {},
    "allocations": {},
    "invoice_balances": {},
    # The bank knows nothing of the copies, so nobody is to ask it about them.
    "payments": {
        "public_id": "anew(public_id, :k)",
        "key": "'copy-' || anew(key, :k)",
        "ask_at": "NULL",
    },
    "payment_methods": {
        "public_id": "anew(public_id, :k)",
        "key": "'copy-' || anew(key, :k)",
        "ask_at": "NULL",
    },
    "gateway_customers": {},
    "autopay_mandates": {"public_id": "anew(public_id, :k)"},
    "arrangements": {"public_id": "anew(public_id, :k)"},
    "planned_payments": {"public_id": "anew(public_id, :k)", "try_at": "NULL"},
    "payment_reversals": {
        "public_id": "anew(public_id, :k)",
        "key": "'copy-' || anew(key, :k)",
        "ask_at": "NULL",
    },
    "charges": {"public_id": "anew(public_id, :k)"},
    "call_records": {
        "key": "'copy-' || anew(key, :k)",
        "content_key": "'copy-' || anew(content_key, :k)",
    },
    "phone_numbers": {
        "public_id": "anew(public_id, :k)",
        "number": "substr(number, 1, 8) || :k || substr(number, -4)",
        "sync_at": "NULL",
    },
    "plan_changes": {
        "public_id": "anew(public_id, :k)",
        "ended": "'[]'",
        "charges": "'[]'",
    },
    "moves": {"public_id": "anew(public_id, :k)", "due_at": "NULL"},
    "pauses": {"public_id": "anew(public_id, :k)", "prolonged": "'[]'", "due_at": "NULL"},
    "adjustments": {"public_id": "anew(public_id, :k)", "key": "'copy-' || anew(key, :k)"},
    "disputes": {"public_id": "anew(public_id, :k)"},
    "dispute_posts": {},
    "dunning_steps": {},
    "dunning_rests": {"public_id": "anew(public_id, :k)"},
    "messages": {
        "public_id": "anew(public_id, :k)",
        "facts": "copied_facts(facts, :k)",
        "try_at": "NULL",
    },
    "activity": {
        "facts": "copied_facts(facts, :k)",
        "digest": "copied_digest(digest, salt, facts, :k)",
    },
}
# What is not history: it lasts for hours, or is made by whoever signs in; what the ISP's own people
# do; and what is made anew from the copies.
LEFT_OUT = {
    "sessions", "devices", "one_time_links", "flows", "one_time_codes", "postal_letters", "factors",
    "recovery_codes", "factor_resets", "contact_changes", "invitations", "message_choices",
    "staff_members", "data_accesses", "search_terms", "bill_runs", "voucher_batches", "vouchers",
    "bank_imports", "bank_lines", "call_imports", "price_changes",
}  # fmt: skip


class NoRule(Exception):
    """A table hangs on accounts or customers, and this module does not say how to copy it."""


# What is copied ------------------------------------------------------------------------------


def _hanging(metadata: MetaData) -> set[str]:
    """The tables that refer to an account or a customer, through others or not."""
    found = {Account.__tablename__, Customer.__tablename__}
    while True:
        more = {
            table.name
            for table in metadata.tables.values()
            if any(key.column.table.name in found for key in table.foreign_keys)
        } - found
        if not more:
            return found
        found |= more


def _shifted(table: Table, copied: set[str]) -> dict[str, str]:
    """Columns that hold ids of copied rows, and in which table those rows are."""
    shifted = {}
    for column in table.columns:
        targets = {key.column.table.name for key in column.foreign_keys} & copied
        if targets:
            shifted[column.name] = targets.pop()
        elif (
            column.primary_key
            and not column.foreign_keys
            and isinstance(column.type, Integer)
            and len(table.primary_key.columns) == 1
        ):
            shifted[column.name] = table.name
    return shifted


def _unique_groups(table: Table) -> Iterator[list[str]]:
    yield [column.name for column in table.primary_key.columns]
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            yield [column.name for column in constraint.columns]
    for index in table.indexes:
        if index.unique:
            yield [column.name for column in index.columns]


def plan(metadata: MetaData = Base.metadata) -> dict[str, dict[str, str]]:
    """For each table to copy, in an order that keeps references true, its shifted columns.

    Raises NoRule for a table without a rule, and for a unique column that copies would share.
    """
    hanging = _hanging(metadata)
    if unknown := hanging - RULES.keys() - LEFT_OUT:
        raise NoRule(f"bench/dataset.py has no rule for {', '.join(sorted(unknown))}")
    copied = hanging - LEFT_OUT
    planned = {}
    for table in metadata.sorted_tables:
        if table.name not in copied:
            continue
        shifted = _shifted(table, copied)
        different = shifted.keys() | RULES[table.name].keys()
        for group in _unique_groups(table):
            if not different & set(group):
                raise NoRule(f"copies of {table.name} would share {', '.join(group)}")
        planned[table.name] = shifted
    return planned


# How it is copied ----------------------------------------------------------------------------


def _anew(value: str, copy: int) -> str:
    """Another public id, random to look at and the same each time: 64 bits of a hash."""
    return hashlib.sha256(f"{copy} {value}".encode()).hexdigest()[:16]


def _account_number(number: str, copy: int) -> str:
    return f"{copy:02}{number}"


def _copied_facts(facts: str | None, copy: int) -> str | None:
    if facts is None or ('"payment"' not in facts and '"account_number"' not in facts):
        return facts
    values = json.loads(facts)
    for name in ("payment", "account", "invoice"):
        if name in values:
            values[name] = _anew(values[name], copy)
    if "account_number" in values:
        values["account_number"] = _account_number(values["account_number"], copy)
    return json.dumps(values)


def _copied_digest(digest: bytes, salt: bytes, facts: str | None, copy: int) -> bytes:
    changed = _copied_facts(facts, copy)
    if changed == facts or changed is None:
        return digest
    return activity.digest_of(salt, json.loads(changed))


class _Numbers:
    """Numbers of invoices and credit notes run on through the copies, year by year, as if one year
    had issued all."""

    def __init__(self, connection: Connection) -> None:
        rows = connection.execute(
            text(
                "SELECT name, next_value FROM counters"
                " WHERE name LIKE 'invoice:%' OR name LIKE 'credit_note:%'"
            )
        )
        self._given = {name: value - 1 for name, value in rows}

    def invoice(self, number: str, copy: int) -> str:
        if number.startswith("BF-"):
            return f"BF-{_account_number(number.removeprefix('BF-'), copy)}"
        series, prefix = ("credit_note", "CN-") if number.startswith("CN-") else ("invoice", "")
        year, _, tail = number.removeprefix(prefix).partition("-")
        return f"{prefix}{year}-{int(tail) + copy * self._given[f'{series}:{year}']:06}"

    def key(self, key: str, copy: int) -> str:
        kind, _, rest = key.partition(":")
        if kind in ("payment", "reversal"):
            return f"{kind}:{_anew(rest, copy)}"
        if kind in ("invoice", "opening", "credit_note"):
            return f"{kind}:{self.invoice(rest, copy)}"
        raise NoRule(f"bench/dataset.py does not know journal keys like {key}")

    def move_counters(self, connection: Connection, copies: int) -> None:
        for name, given in self._given.items():
            connection.execute(
                text("UPDATE counters SET next_value = :next WHERE name = :name"),
                {"next": given * copies + 1, "name": name},
            )


def _open(path: Path) -> Engine:
    return create_engine(f"sqlite:///{path}", isolation_level="AUTOCOMMIT")


def copy_accounts(path: Path, copies: int) -> None:
    """Multiply the accounts of the SQLite database at `path`, which nobody else may use meanwhile.

    Afterwards there are `copies` times as many. Triggers are away only in here; what they and the
    foreign keys promise is true again at the end (`flask ledger verify` and a check of keys).
    Raises NoRule before anything is written, RuntimeError when a reference leads nowhere.
    """
    planned = plan()
    engine = _open(path)
    try:
        with engine.connect() as connection:
            for pragma in (
                "foreign_keys = OFF",
                "journal_mode = OFF",
                "synchronous = OFF",
                "cache_size = -1000000",
                "temp_store = MEMORY",
            ):
                connection.exec_driver_sql(f"PRAGMA {pragma}")
            numbers = _Numbers(connection)
            _add_functions(connection, numbers)
            schema.drop_triggers(connection)
            connection.exec_driver_sql("BEGIN")
            _copy_rows(connection, planned, copies)
            numbers.move_counters(connection, copies)
            connection.exec_driver_sql("COMMIT")
            schema.create_triggers(connection)
            if connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                raise RuntimeError("a copied row refers to one that is not there")
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
    finally:
        engine.dispose()


def _add_functions(connection: Connection, numbers: _Numbers) -> None:
    driver: Any = connection.connection.driver_connection
    for name, count, function in (
        ("anew", 2, _anew),
        ("account_number", 2, _account_number),
        ("invoice_number", 2, numbers.invoice),
        ("journal_key", 2, numbers.key),
        ("copied_facts", 2, _copied_facts),
        ("copied_digest", 4, _copied_digest),
    ):
        driver.create_function(name, count, function, deterministic=True)


def _copy_rows(connection: Connection, planned: Mapping[str, dict[str, str]], copies: int) -> None:
    spans = {
        table: connection.execute(text(f"SELECT coalesce(max(id), 0) FROM {table}")).scalar_one()
        for table, shifted in planned.items()
        if shifted.get("id") == table
    }
    for name, shifted in planned.items():
        columns = [column.name for column in Base.metadata.tables[name].columns]
        values = []
        for column in columns:
            if column in shifted:
                values.append(f"{column} + :k * {spans[shifted[column]]}")
            else:
                values.append(RULES[name].get(column, column))
        key = next(iter(shifted))
        statement = text(
            f"INSERT INTO {name} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {name} "
            f"WHERE {key} <= {spans[shifted[key]]} ORDER BY {_order(name)}"
        )
        for copy in range(1, copies):
            connection.execute(statement, {"k": copy})


def _order(name: str) -> str:
    """As the rows lie in the file."""
    table = Base.metadata.tables[name]
    if table.dialect_options["sqlite"]["with_rowid"]:
        return "rowid"
    return ", ".join(column.name for column in table.primary_key.columns)


def add_owners(path: Path, password_hash: str) -> None:
    """Give each account without an owner one who can sign in as `owner-<number>` by PASSWORD."""
    engine = _open(path)
    accounts, customers, memberships = (
        Base.metadata.tables[model.__tablename__] for model in (Account, Customer, Membership)
    )
    owned = select(memberships.c.account_id).where(memberships.c.role == Role.OWNER.value)
    sign_in_id = literal("owner-").concat(accounts.c.number)
    with engine.begin() as connection:
        connection.execute(
            customers.insert().from_select(
                OWNER_COLUMNS,
                select(
                    func.lower(func.hex(func.randomblob(8))),
                    sign_in_id,
                    sign_in_id,
                    accounts.c.name,
                    accounts.c.language,
                    literal(password_hash),
                    literal(clock.now(), customers.c.created_at.type),
                ).where(accounts.c.id.not_in(owned)),
            )
        )
        connection.execute(
            memberships.insert().from_select(
                ["customer_id", "account_id", "role"],
                select(customers.c.id, accounts.c.id, literal(Role.OWNER.value))
                .join(accounts, customers.c.sign_in_key == sign_in_id)
                .where(accounts.c.id.not_in(owned)),
            )
        )
    engine.dispose()


def index_terms(path: Path) -> None:
    """Make the words by which staff find accounts, of all of them."""
    engine = _open(path)
    with engine.connect() as connection, Session(connection) as session:
        connection.exec_driver_sql("BEGIN")
        search_terms.refresh(session, session.scalars(select(Account.id)).all())
        connection.exec_driver_sql("COMMIT")
    engine.dispose()


# The cache -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data folder of the portal in demo mode; `seconds` is what making it took, 0 if copied."""

    data: Path
    accounts: int
    seconds: float

    def environment(self, port: int = 8000, processes: int = 1) -> dict[str, str]:
        """What a portal over this data is started with."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("LASTMILE_") and name not in ("DATABASE_URL", "PORT")
        }
        return inherited | {
            "LASTMILE_DEMO": "1",
            "LASTMILE_DATA": str(self.data),
            "LASTMILE_PROCESSES": str(processes),
            "PORT": str(port),
        }

    def settings(self) -> Settings:
        return read_settings(self.environment())

    @property
    def database(self) -> Path:
        return self.data / "lastmile.db"


def _key() -> str:
    digest = hashlib.sha256(datetime.now().astimezone().date().isoformat().encode())
    for source in SOURCES:
        path = ROOT / source
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.suffix in (".py", ".toml", ".csv"):
                digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


@contextmanager
def _once(folder: Path) -> Iterator[bool]:
    """Hold the right to make `folder`; yields whether it has to be made. Made whole or not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not folder.exists()


def _forget_old() -> None:
    for folder in FOLDER.glob("*/demo"):
        if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(folder.parent, ignore_errors=True)


def build_demo(data: Path) -> float:
    """Build the demo in the empty folder `data`, in a process of its own; returns the seconds."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    began = time.monotonic()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _BUILD,
        ],
        cwd=ROOT,
        env=Dataset(data, 0, 0).environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the demo could not be built:\n{done.stderr[-2000:]}")
    return time.monotonic() - began


def demo() -> Dataset:
    """The demo, with an owner for each account; built when this code and day have none yet."""
    folder = FOLDER / _key() / "demo"
    seconds = 0.0
    with _once(folder) as is_missing:
        if is_missing:
            _forget_old()
            draft = Path(tempfile.mkdtemp(dir=folder.parent))
            seconds = build_demo(draft)
            settings = Dataset(draft, 0, 0).settings()
            from core.passwords import hash_password

            add_owners(draft / "lastmile.db", hash_password(settings.data, PASSWORD))
            index_terms(draft / "lastmile.db")
            (draft / TOOK).write_text(f"{seconds}")
            draft.rename(folder)
    seconds = float((folder / TOOK).read_text())
    return Dataset(folder, count_accounts(folder / "lastmile.db"), seconds)


def count_accounts(path: Path) -> int:
    engine = _open(path)
    with engine.connect() as connection:
        count = connection.execute(select(func.count()).select_from(Account)).scalar_one()
    engine.dispose()
    return int(count)


def make(accounts: int) -> Dataset:
    """At least `accounts` accounts with history, in whole copies of the demo; kept for the day."""
    source = demo()
    copies = max(1, -(-accounts // source.accounts))
    folder = source.data.with_name(f"copies-{copies}")
    seconds = 0.0
    with _once(folder) as is_missing:
        if is_missing:
            began = time.monotonic()
            draft = duplicate(source, folder.parent)
            copy_accounts(draft.database, copies)
            index_terms(draft.database)
            seconds = time.monotonic() - began
            (draft.data / TOOK).write_text(f"{seconds}")
            draft.data.rename(folder)
    return Dataset(folder, source.accounts * copies, float((folder / TOOK).read_text()))


def duplicate(source: Dataset, parent: Path | None = None) -> Dataset:
    """A copy of the data folder to use up, in `parent`; the caller removes it."""
    draft = Path(tempfile.mkdtemp(prefix="used-", dir=parent or FOLDER))
    _copy_database(source.database, draft / "lastmile.db")
    for name in FILES:
        if (source.data / name).exists():
            shutil.copy2(source.data / name, draft / name)
    return Dataset(draft, source.accounts, 0.0)


def _copy_database(source: Path, target: Path) -> None:
    engine = _open(source)
    with engine.connect() as connection:  # what still lies in the log beside it comes too
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine.dispose()
    shutil.copy2(source, target)


@contextmanager
def used(source: Dataset) -> Iterator[Dataset]:
    """A copy of `source` that may be written to, removed at the end."""
    copy = duplicate(source)
    try:
        yield copy
    finally:
        shutil.rmtree(copy.data, ignore_errors=True)


# Whoever is signed in ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SignedInOwner:
    """A session that stands open: the cookie's token, and whose dashboard to ask for."""

    token: str
    account: str
    number: str
    latest_invoice: str

    @property
    def home(self) -> str:
        return f"/a/{self.account}/"


def open_sessions(
    source: Dataset, count: int, *, is_own_device: bool = True
) -> list[SignedInOwner]:
    """Sign owners in, without their passwords, spread evenly over all active accounts that have
    at least a year of invoices. Fewer than `count` when there are not so many."""
    from app import create_app
    from core.db import db, unit_of_work
    from core.sessions import open_session_row

    app = create_app(source.settings())
    with app.app_context():
        rows = db.session.execute(
            select(
                Account.public_id,
                Account.number,
                func.min(Membership.customer_id).label("customer_id"),
                select(Invoice.public_id)
                .where(Invoice.account_id == Account.id)
                .order_by(Invoice.issued_on.desc())
                .limit(1)
                .scalar_subquery()
                .label("latest"),
            )
            .join(Membership, Membership.account_id == Account.id)
            .where(
                Membership.role == Role.OWNER.value,
                Account.status == AccountStatus.ACTIVE.value,
                select(func.count())
                .select_from(Invoice)
                .where(Invoice.account_id == Account.id)
                .scalar_subquery()
                >= 12,
            )
            .group_by(Account.id)
            .order_by(Account.id)
        ).all()
        step = max(1, len(rows) // count)
        chosen = rows[::step][:count]

        def work(session: Session) -> list[str]:
            customers = {
                customer.id: customer
                for customer in session.scalars(
                    select(Customer).where(Customer.id.in_([row.customer_id for row in chosen]))
                )
            }
            return [
                open_session_row(
                    session,
                    customers[row.customer_id],
                    is_own_device=is_own_device,
                    address="127.0.0.1",
                    user_agent="bench",
                    replaces_token=None,
                )
                for row in chosen
            ]

        tokens = unit_of_work(work)
        db.session.remove()
        db.engine.dispose()
    return [
        SignedInOwner(token, row.public_id, row.number, row.latest)
        for token, row in zip(tokens, chosen, strict=True)
    ]
