"""Everything that is on file about a customer and the accounts they own, for a program to read.

Found by the columns that name a customer or an account, table by table, so that a new table is in
it from its first day. Secrets (hashes, seeds) are left out: they open things and tell nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Table, or_, select
from sqlalchemy.orm import Session

from blueprints.auth import reach
from core import activity, clock, data_access, form_keys, revisions, throttle
from core.data_access import Reader
from core.db import db, reading
from core.form_keys import ArrivedKey
from core.privacy import Privacy, class_of
from core.sessions import SignedIn
from models import Base, Customer, DataAccess, Dispute, Invoice, Line, Membership, Role, TopUp

FILE = "/settings/data/everything"
PURPOSE = "export by the customer"
FETCHED_WITHIN = timedelta(minutes=10)
OF_EVERYBODY = ("memberships", "payments", "activity", "data_accesses")
"""What belongs to an account whoever of its people it was; otherwise another's rows stay theirs."""


def begin(person: SignedIn, key: ArrivedKey) -> str:
    """Note that everything is read; the path of the file, which can be fetched for a while."""

    def work(session: Session) -> str:
        reader = Reader(person.customer_id, person.sign_in_id)
        fields = ["everything"]
        data_access.note(session, reader, fields, PURPOSE, customer_id=person.customer_id)
        event = activity.Event("data_downloaded", clock.now(), customer_id=person.customer_id)
        activity.record(session, [event])
        reach.announce(session, person.customer_id, "data_downloaded")
        revisions.raise_customer(session, person.customer_id)
        return FILE

    return form_keys.once(key, work)


def may_fetch(customer_id: int) -> bool:
    """Whether the note has just been made."""
    noted = db.session.scalar(
        select(DataAccess.id).where(
            DataAccess.customer_id == customer_id,
            DataAccess.reader_id == customer_id,
            DataAccess.purpose == PURPOSE,
            DataAccess.read_at > clock.now() - FETCHED_WITHIN,
        )
    )
    return noted is not None


def everything(customer_id: int, secret: bytes) -> str:
    """The file: JSON, one list of rows for each table, as of one moment."""
    with reading() as session:
        tables = {
            table.name: [_row(table, row) for row in session.execute(select(table).where(which))]
            for table, which in _tables_of(session, customer_id, secret)
        }
    made = {"made_at": clock.now().isoformat(), "tables": {k: v for k, v in tables.items() if v}}
    return json.dumps(made, ensure_ascii=False, indent=1)


def _tables_of(
    session: Session, customer_id: int, secret: bytes
) -> Iterator[tuple[Table, ColumnElement[bool]]]:
    owned = list(
        session.scalars(
            select(Membership.account_id).where(
                Membership.customer_id == customer_id, Membership.role == Role.OWNER.value
            )
        )
    )
    lines = select(Line.id).where(Line.account_id.in_(owned))
    parts = {
        "line_id": lines,
        "invoice_id": select(Invoice.id).where(Invoice.account_id.in_(owned)),
        "top_up_id": select(TopUp.id).where(TopUp.line_id.in_(lines)),
        "dispute_id": select(Dispute.id).where(Dispute.account_id.in_(owned)),
    }
    names = session.execute(
        select(Customer.sign_in_key, Customer.email_key).where(Customer.id == customer_id)
    ).one()
    subjects = [throttle.subject_of(secret, name) for name in names if name is not None]
    for table in Base.metadata.sorted_tables:
        columns = table.columns
        tests: list[ColumnElement[bool]] = []
        if table.name == "customers":
            tests.append(columns.id == customer_id)
        if table.name == "accounts":
            tests.append(columns.id.in_(owned))
        if table.name == "sign_in_attempts":
            tests.append(columns.subject.in_(subjects))
        if "customer_id" in columns:
            tests.append(columns.customer_id == customer_id)
        if "invited_by_id" in columns:
            tests.append(columns.invited_by_id == customer_id)
        if "account_id" in columns:
            tests.append(_of_accounts(table, owned))
        elif name := next((name for name in parts if name in columns), None):
            tests.append(columns[name].in_(parts[name]))
        if tests:
            yield table, or_(*tests)


def _of_accounts(table: Table, owned: list[int]) -> ColumnElement[bool]:
    is_owned = table.columns.account_id.in_(owned)
    if "customer_id" not in table.columns or table.name in OF_EVERYBODY:
        return is_owned
    return is_owned & table.columns.customer_id.is_(None)


def _row(table: Table, row: Any) -> dict[str, Any]:
    return {
        name: _value(value)
        for name, value in row._mapping.items()
        if class_of(table.name, name) is not Privacy.SECRET
    }


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, datetime | date) else value
