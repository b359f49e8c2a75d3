"""Reading a file of calls: pure, so without a database."""

from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprints.staff.errors import ImportImpossible
from blueprints.staff.import_reader import Refusal
from blueprints.staff.phone.call_reader import CallFile, CallLine, CallRow, Rules
from tests.conftest import Portal

HEADER = "number,direction,other,started_at,seconds,amount,id"
RULES = Rules(
    "US",
    "USD",
    "America/Los_Angeles",
    datetime(2025, 1, 1, tzinfo=UTC),
    datetime(2026, 6, 21, tzinfo=UTC),
    100_000,
)
GOOD = "+15415550171,out,+44 20 7946 0958,2026-06-18T10:00:00-07:00,60,1.25,a1"


def read(text: str | bytes) -> list[CallLine]:
    content = text if isinstance(text, bytes) else text.encode()
    return list(CallFile(io.BytesIO(content), RULES))


def one(row: str) -> CallRow | Refusal:
    [line] = read(f"{HEADER}\n{row}\n")
    return line.outcome


def test_row_is_read_into_its_final_form(ctx: Portal) -> None:
    assert one(GOOD) == CallRow(
        "+15415550171",
        True,
        "+442079460958",
        datetime(2026, 6, 18, 17, tzinfo=UTC),
        60,
        125,
        "a1",
    )
    row = one("(541) 555-0171,Incoming,Anonymous,2026-06-18 10:00:00,0,,")
    assert row == CallRow(
        "+15415550171", False, "", datetime(2026, 6, 18, 17, tzinfo=UTC), 0, 0, ""
    )
    row = one("'+15415550171,in,911,2026-06-18T17:00:00.75Z,5,0,")
    assert isinstance(row, CallRow)
    assert (row.other, row.started_at.microsecond) == ("911", 0)


def test_columns_come_in_any_order_and_some_may_be_missing(ctx: Portal) -> None:
    [line] = read(
        "seconds,Started_At,other,direction,number\n"
        "60,2026-06-18T10:00:00-07:00,+442079460958,out,+15415550171\n"
    )
    assert isinstance(line.outcome, CallRow)
    assert (line.line, line.outcome.amount_minor) == (2, 0)


@pytest.mark.parametrize(
    ("place", "cell", "column"),
    [
        (0, "", "number"),
        (0, "sip:alice", "number"),
        (1, "sideways", "direction"),
        (2, "", "other"),
        (2, "anonymous", "other"),
        (2, "sip:bob@example.net", "other"),
        (2, "9" * 41, "other"),
        (3, "yesterday", "started_at"),
        (3, "2026-06-18", "started_at"),
        (3, "20260618", "started_at"),
        (3, "2026-06-18T10", "started_at"),
        (3, "2026-06-25T10:00:00Z", "started_at"),
        (3, "2024-06-25T10:00:00Z", "started_at"),
        (3, "9999-12-31T23:59:59-23:00", "started_at"),
        (3, "0001-01-01T00:00:00+23:00", "started_at"),
        (3, "2025-11-02T01:30:00", "started_at"),
        (3, "2026-03-08T02:30:00", "started_at"),
        (4, "", "seconds"),
        (4, "-5", "seconds"),
        (4, "1.5", "seconds"),
        (4, "٣", "seconds"),
        (4, "999999", "seconds"),
        (5, "-1.00", "amount"),
        (5, "1.255", "amount"),
        (5, "2000.00", "amount"),
        (5, "much", "amount"),
        (6, "x" * 201, "id"),
    ],
)
def test_cell_that_makes_no_sense_is_refused_with_its_column(
    ctx: Portal, place: int, cell: str, column: str
) -> None:
    cells = GOOD.split(",")
    cells[place] = cell
    refusal = one(",".join(cells))
    assert isinstance(refusal, Refusal)
    assert refusal.column == column
    assert refusal.sentence


def test_rows_that_are_no_rows_are_refused_and_the_next_ones_read(ctx: Portal) -> None:
    lines = read(f'{HEADER}\n"{GOOD}\n{GOOD},extra\n\n{GOOD}\n\xff{GOOD}\n'.encode("latin-1"))
    outcomes = [(line.line, isinstance(line.outcome, Refusal)) for line in lines]
    assert outcomes == [(2, True), (3, True), (5, False), (6, True)]
    assert lines[0].cells == (f'"{GOOD}',)


def test_refused_rows_are_read_back_without_the_reasons(ctx: Portal) -> None:
    [line] = read(f"line,column,reason,{HEADER}\n7,amount,no amount,{GOOD}\n")
    assert isinstance(line.outcome, CallRow)
    assert line.cells == tuple(GOOD.split(","))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "number, direction, other, started_at, seconds"),
        ("number;direction\n", "Missing"),
        (f"{HEADER},mood\n", "mood"),
        (f"{HEADER},id\n", "id"),
    ],
)
def test_file_without_its_columns_is_refused_whole(ctx: Portal, text: str, says: str) -> None:
    with pytest.raises(ImportImpossible, match=says):
        read(text)


def test_call_is_known_by_its_id_or_by_all_of_it(ctx: Portal) -> None:
    by_id, same_id = one(GOOD), one(GOOD.replace(",60,", ",61,"))
    assert isinstance(by_id, CallRow)
    assert isinstance(same_id, CallRow)
    assert by_id.key == same_id.key
    bare, other, zoned = (
        one(GOOD.replace(",a1", ",")),
        one(GOOD.replace(",60,", ",61,").replace(",a1", ",")),
        one(GOOD.replace("T10:00:00-07:00", "T17:00:00Z").replace(",a1", ",")),
    )
    assert isinstance(bare, CallRow)
    assert isinstance(other, CallRow)
    assert isinstance(zoned, CallRow)
    assert bare.key == zoned.key
    assert len({by_id.key, bare.key, other.key}) == 3
    assert by_id.content_key == bare.content_key == bare.key != other.content_key


def test_both_ends_of_a_call_may_have_its_id(ctx: Portal) -> None:
    there, here = one(GOOD), one("+15415550172,in,+15415550171" + GOOD[GOOD.index(",2026") :])
    assert isinstance(there, CallRow)
    assert isinstance(here, CallRow)
    assert there.key != here.key


def test_no_bytes_break_the_reader(ctx: Portal) -> None:
    @given(st.binary(max_size=300))
    def check(content: bytes) -> None:
        try:
            lines = read(HEADER.encode() + b"\n" + content)
        except ImportImpossible:
            return
        assert all(isinstance(line.outcome, CallRow | Refusal) for line in lines)

    check()
