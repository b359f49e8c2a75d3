"""Reading an export: pure, so without a database."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from datetime import date

import pytest

from blueprints.staff.errors import ImportImpossible
from blueprints.staff.import_reader import (
    COLUMNS,
    MAX_LINE_BYTES,
    AccountRow,
    Export,
    PlanRule,
    Record,
    Refusal,
    Rules,
    Unreadable,
    read_amount,
    read_bill_day,
    read_day,
    read_email,
    read_phone,
)
from core.phones import default_country
from tests.staff.conftest import as_csv, row

RULES = Rules(
    plans={
        "AIR-25": PlanRule("AIR-25", "internet"),
        "FIBER-100": PlanRule("FIBER-100", "internet"),
        "TV-BASIC": PlanRule("TV-BASIC", "tv"),
        "TV-KIDS": PlanRule("TV-KIDS", "tv", requires=("TV-BASIC",)),
        "VOICE-HOME": PlanRule("VOICE-HOME", "phone"),
        "STATIC-IP": PlanRule("STATIC-IP", "option", requires_kind="internet"),
    },
    areas=frozenset({"COLD"}),
    languages=("en", "es"),
    currency="USD",
    country="US",
)
HEADER = ",".join(COLUMNS).encode() + b"\r\n"


def read(content: bytes) -> list[Record]:
    return list(Export(io.BytesIO(content), RULES))


def read_one(**changes: str) -> AccountRow | Refusal:
    [record] = read(as_csv(row(**changes)))
    return record.outcome


def good(**changes: str) -> AccountRow:
    outcome = read_one(**changes)
    assert isinstance(outcome, AccountRow)
    return outcome


def reasons(content: bytes) -> list[tuple[int, str]]:
    return [
        (record.line, record.outcome.reason)
        for record in read(content)
        if isinstance(record.outcome, Refusal)
    ]


def test_a_good_row_comes_out_in_its_final_form() -> None:
    assert good() == AccountRow(
        number="7001",
        name="Zoë Kim",
        email="zoe@example.net",
        phone="+15415215901",
        address={
            "street": "591 Mill St",
            "city": "Cold Spring",
            "region": "OR",
            "postcode": "97040",
            "country": "US",
        },
        language="es",
        plan_codes=("AIR-25", "TV-BASIC", "VOICE-HOME"),
        username="ppp7001",
        status="active",
        activated_on=date(2022, 9, 4),
        bill_day=26,
        opening_minor=6567,
        area_code="COLD",
        warnings=(),
    )


@pytest.mark.parametrize(
    "text",
    [
        "541-521-5901",
        "(541) 521-5901",
        "541.521.5901",
        "1 541 521 5901",
        "+15415215901",
        "5415215901",
    ],
)
def test_six_ways_to_write_a_phone_number_are_one(text: str) -> None:
    assert read_phone(text, "US") == "+15415215901"


@pytest.mark.parametrize(
    "text", ["12345", "n/a", "555-CALL-NOW-PLEASE", "+1 000 000 0000", "541-521-5901 x4", "٥٤١"]
)
def test_what_cannot_be_called_is_no_phone_number(text: str) -> None:
    with pytest.raises(Unreadable, match="invalid phone"):
        read_phone(text, "US")


def test_phone_is_read_as_dialled_in_the_rows_country() -> None:
    assert good(country="FR", phone="01 42 68 53 00").phone == "+33142685300"
    assert good(country="", phone="541-521-5901").phone == "+15415215901"


@pytest.mark.parametrize(
    ("text", "is_month_first", "day"),
    [
        ("2022-09-04", True, date(2022, 9, 4)),
        ("2022-09-04 00:00:00", True, date(2022, 9, 4)),
        ("2022-09-04T23:59", True, date(2022, 9, 4)),
        ("09/04/2022", True, date(2022, 9, 4)),
        ("9/4/2022", True, date(2022, 9, 4)),
        ("09/04/2022", False, date(2022, 4, 9)),
        ("2024-02-29", True, date(2024, 2, 29)),
    ],
)
def test_days_are_read(text: str, is_month_first: bool, day: date) -> None:
    assert read_day(text, is_month_first) == day


@pytest.mark.parametrize(
    "text",
    ["", "2023-02-29", "13/13/2020", "0000-00-00", "9999-12-31", "04.09.2022", "2022-9-4", "soon"],
)
def test_impossible_days_are_refused(text: str) -> None:
    with pytest.raises(Unreadable, match="impossible date"):
        read_day(text, True)


@pytest.mark.parametrize(
    ("text", "minor"),
    [
        ("", 0),
        ("0", 0),
        ("$0.00", 0),
        ("65.67", 6567),
        ("$1,204.00", 120400),
        ("1,349.35", 134935),
        ("(12.50)", -1250),
        ("-20.66", -2066),
        ("-$1,000.05", -100005),
        ("($12.50)", -1250),
        ("7.5", 750),
    ],
)
def test_amounts_are_read_exactly(text: str, minor: int) -> None:
    assert read_amount(text, "USD", "en") == minor


@pytest.mark.parametrize(
    "text", ["12.345", "--5.00", "1.2.3", "12,5O", "ten", "(-5.00)", "1,20,000.00", "1e3", "9" * 20]
)
def test_malformed_amounts_are_refused(text: str) -> None:
    with pytest.raises(Unreadable, match="malformed amount"):
        read_amount(text, "USD", "en")


@pytest.mark.parametrize("text", ["0", "32", "-1", "1.0", "", "²", "one"])
def test_a_bill_day_is_a_day_of_a_month(text: str) -> None:
    assert [read_bill_day(str(day)) for day in (1, 31)] == [1, 31]
    with pytest.raises(Unreadable, match="bill day out of range"):
        read_bill_day(text)


@pytest.mark.parametrize(
    "text", ["none", "@example.com", "user@", "a@b@c.example", "user name@example.com", "a@b"]
)
def test_what_is_no_address_is_an_invalid_email(text: str) -> None:
    assert read_email("User@EXAMPLE.org") == "user@example.org"
    with pytest.raises(Unreadable, match="invalid email"):
        read_email(text)


@pytest.mark.parametrize(
    ("changes", "column", "reason"),
    [
        ({"account_number": "  "}, "account_number", "missing account number"),
        ({"account_number": "7" * 41}, "account_number", "too long"),
        ({"account_number": "7\n1"}, "account_number", "unreadable character"),
        ({"name": " "}, "name", "missing name"),
        ({"name": "a\x00b"}, "name", "unreadable character"),
        ({"plan_code": ""}, "plan_code", "unknown plan"),
        ({"plan_code": "air-25"}, "plan_code", "unknown plan"),
        ({"add_on_codes": "TV-BASIC;TV-OPERA"}, "add_on_codes", "unknown add-on"),
        ({"add_on_codes": "FIBER-100"}, "add_on_codes", "unknown add-on"),
        ({"add_on_codes": "TV-BASIC; TV-BASIC"}, "add_on_codes", "repeated add-on"),
        ({"line_username": ""}, "line_username", "missing line username"),
        ({"status": "Cancelled?"}, "status", "unknown status"),
        ({"country": "Oregon"}, "country", "unknown country"),
        ({"area": "NOWHERE"}, "area", "unknown area"),
    ],
)
def test_a_row_is_refused_whole_for_one_cell(
    changes: dict[str, str], column: str, reason: str
) -> None:
    outcome = read_one(**changes)
    assert isinstance(outcome, Refusal)
    assert (outcome.column, outcome.reason) == (column, reason)
    assert outcome.sentence.endswith(".")


@pytest.mark.parametrize(
    "name", ["=1+1 Ltd", "+1-Services LLC", "-Dash & Sons", "@home", "明 McAllister", "عمر Tanaka"]
)
def test_names_are_kept_as_they_are(name: str) -> None:
    assert good(name=f" {name} ").name == name


def test_texts_are_composed_and_line_breaks_in_a_street_kept() -> None:
    account = good(name="Zoe\u0308", street="5648 Ridge Ave\r\n Unit 18")
    assert account.name == "Zoë"
    assert account.address is not None
    assert account.address["street"] == "5648 Ridge Ave\nUnit 18"


def test_an_account_may_have_no_contact_and_no_area() -> None:
    blank = dict.fromkeys(("email", "phone", "street", "city", "region", "postcode", "area"), "")
    account = good(**blank)
    assert (account.email, account.phone, account.address, account.area_code) == (None,) * 4


def test_broken_requirements_and_other_languages_are_warnings() -> None:
    assert good(add_on_codes="TV-KIDS").warnings == ("TV-KIDS without TV-BASIC",)
    assert good(plan_code="VOICE-HOME", add_on_codes="STATIC-IP").warnings == (
        "STATIC-IP without a plan of kind internet",
    )
    account = good(language="de")
    assert account.language == "en"
    assert account.warnings == ("language de is not offered, en is used",)


def test_lines_are_counted_where_rows_begin() -> None:
    bad = row(bill_day="0")
    two_lines = as_csv(row(street="1 A St\n2nd floor"), bad)
    assert reasons(two_lines) == [(4, "bill day out of range")]
    blank = as_csv(row()) + b"\r\n   \r\n" + b"," * 17 + b"\r\n" + as_csv(bad).split(b"\n", 1)[1]
    assert reasons(blank) == [(6, "bill day out of range")]


def test_byte_order_mark_and_unix_line_ends_are_fine() -> None:
    content = b"\xef\xbb\xbf" + as_csv(row(), row(account_number="7002")).replace(b"\r\n", b"\n")
    assert [type(record.outcome) for record in read(content)] == [AccountRow, AccountRow]


def test_short_and_long_rows_have_the_wrong_number_of_columns() -> None:
    content = HEADER + b"7001,Zoe\r\n" + as_csv(row()).split(b"\n", 1)[1].strip() + b",more\r\n"
    assert reasons(content) == [(2, "wrong number of columns"), (3, "wrong number of columns")]


def test_an_unclosed_quote_costs_one_row_only() -> None:
    line = as_csv(row()).split(b"\n", 1)[1]
    content = HEADER + b'7000,"Zoe\r\n' + line * 30 + b'7999,"end'
    assert reasons(content) == [(2, "malformed quotes"), (33, "malformed quotes")]
    assert len(read(content)) == 32


def test_bytes_that_are_not_utf8_refuse_their_row_and_are_kept() -> None:
    content = as_csv(row(name="Zo#")).replace(b"#", b"\xeb")
    [record] = read(content)
    assert isinstance(record.outcome, Refusal)
    assert record.outcome.reason == "not UTF-8"
    assert record.cells[1].encode("utf-8", "surrogateescape") == b"Zo\xeb"


def test_columns_may_stand_in_any_order_and_refusal_columns_are_passed_over() -> None:
    names = ["reason", *reversed(COLUMNS), "line", "column"]
    values = row() | {"reason": "old", "line": "9", "column": "x"}
    content = ",".join(names) + "\n" + ",".join(values[name] for name in names) + "\n"
    [record] = read(content.encode())
    assert record.outcome == good()
    assert record.cells == tuple(values[name] for name in reversed(COLUMNS))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must name the columns"),
        (b"a;b;c\n", "separated by commas"),
        (HEADER.replace(b",area", b""), "missing: area$"),
        (HEADER.replace(b",area", b",area,zone"), "not known.*: zone$"),
        (HEADER.replace(b",area", b",area,area"), "twice: area$"),
        (HEADER.decode().encode("utf-16"), "UTF-16"),
        (HEADER + b"x" * (MAX_LINE_BYTES + 1), "line 2 is longer"),
    ],
)
def test_a_file_that_is_no_export_is_one_clear_error(content: bytes, message: str) -> None:
    with pytest.raises(ImportImpossible, match=message):
        read(content)


def test_memory_stays_flat() -> None:
    line = as_csv(row()).split(b"\n", 1)[1]

    class Endless(io.RawIOBase):
        """Rows without end, so that holding them would be seen."""

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            taken = next(self.chunks)[: len(buffer)]
            buffer[: len(taken)] = taken
            return len(taken)

        def __init__(self) -> None:
            super().__init__()
            self.chunks = self._chunks()

        def _chunks(self) -> Iterator[bytes]:
            yield HEADER
            for _ in range(4_000):
                yield line
            yield b""

    export = iter(Export(io.BufferedReader(Endless()), RULES))
    next(export)
    tracemalloc.start()
    count = sum(1 for _ in export)
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 3_999
    assert peak < 300_000


def test_country_follows_from_the_time_zone() -> None:
    assert default_country("America/Los_Angeles") == "US"
    assert default_country("Europe/Paris") == "FR"
    assert default_country("UTC") == ""
