"""Files of call records that were given, as staff see them. Refused rows name people: who reads
them is noted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from core import data_access
from core.data_access import Reader
from core.db import db, unit_of_work
from core.errors import NotFound
from models import CallImport, Customer

LISTED = 30
ROWS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class FileRow:
    public_id: str
    name: str
    by: str | None
    imported_at: datetime
    ended_at: datetime | None
    kept: int
    known: int
    refused: int


@dataclass(frozen=True, slots=True)
class RefusedRow:
    line: str
    column: str
    why: str


@dataclass(frozen=True, slots=True)
class FileView:
    """`rows` are the first of the refused ones."""

    file: FileRow
    rows: list[RefusedRow]
    has_rows: bool


_FILES = select(
    CallImport.public_id,
    CallImport.file_name,
    Customer.name,
    CallImport.imported_at,
    CallImport.ended_at,
    CallImport.kept_count,
    CallImport.known_count,
    CallImport.refused_count,
).outerjoin(Customer, Customer.id == CallImport.imported_by_id)


def list_files() -> list[FileRow]:
    """The latest, newest first."""
    rows = db.session.execute(
        _FILES.order_by(CallImport.imported_at.desc(), CallImport.id.desc()).limit(LISTED)
    )
    return [FileRow(*row) for row in rows]


def get_file(public_id: str, reader: Reader) -> FileView:
    """One file, with why rows of it were refused. Raises NotFound."""
    row = db.session.execute(
        _FILES.add_columns(CallImport.refused).where(CallImport.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise NotFound
    *facts, refused = row
    if refused:
        _note(reader)
    shown = [RefusedRow(*cells[:3]) for cells in refused[:ROWS_SHOWN]]
    return FileView(FileRow(*facts), shown, bool(refused))


def get_refused(public_id: str, reader: Reader) -> tuple[list[str], list[list[str]]]:
    """The names of the columns, and the refused rows as they stood. Raises NotFound."""
    row = db.session.execute(
        select(CallImport.columns, CallImport.refused).where(CallImport.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise NotFound
    _note(reader)
    return row.columns, row.refused


def _note(reader: Reader) -> None:
    unit_of_work(
        lambda session: data_access.note(session, reader, ("calls",), "refused call records")
    )
