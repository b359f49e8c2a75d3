"""Files to keep: CSV whose cells no spreadsheet takes for a formula (bar 48), and their answers."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date

from flask import Response

from core.money import Money, format_plain

BYTE_ORDER_MARK = "\ufeff"
"""Without it a spreadsheet takes UTF-8 for something else."""
_BEGINS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")

Cell = str | int | date | Money | None


def cell_text(cell: Cell) -> str:
    """What stands in the file: days as 2026-03-31, money as digits with a point."""
    if cell is None:
        return ""
    text = format_plain(cell) if isinstance(cell, Money) else str(cell)
    if text.startswith(_BEGINS_A_FORMULA) and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def csv_lines(rows: Iterable[Sequence[Cell]]) -> Iterator[str]:
    """The lines of a CSV file without its mark, each with its end."""
    for row in rows:
        line = io.StringIO()
        csv.writer(line).writerow([cell_text(cell) for cell in row])
        yield line.getvalue()


def csv_answer(name: str, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Response:
    """A CSV file `name` with this header, to be kept."""
    text = BYTE_ORDER_MARK + "".join(csv_lines([header, *rows]))
    return _attached(text.encode(), "text/csv; charset=utf-8", name)


def text_answer(name: str, text: str) -> Response:
    """A plain text `name`, to be kept."""
    return _attached(text.encode(), "text/plain; charset=utf-8", name)


def pdf_answer(name: str, made: bytes) -> Response:
    """A PDF `name`, to be kept."""
    return _attached(made, "application/pdf", name)


def _attached(data: bytes, content_type: str, name: str) -> Response:
    response = Response(data, content_type=content_type)
    response.headers.set("Content-Disposition", "attachment", filename=name)
    return response
