"""Bank transfers: whose they are, booked once whatever file they come in, and by hand."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from blueprints.billing import bank_files, bank_import
from blueprints.billing.bank_files import BankFile, Incoming
from blueprints.billing.bank_import import Finding, Known, candidates, invoice_numbers
from blueprints.billing.errors import AccountUnknown, DecidedBefore
from core.errors import NotFound
from tests.billing.conftest import Till
from tests.conftest import Portal, together
from tests.page import Page

DATA = Path(__file__).parent.parent / "data" / "bank"


def line(reference: str, minor: int = 5_000, payer: str = "", key: str = "") -> Incoming:
    return Incoming(
        key or f"bank:{reference}:{minor}:{payer}",
        date(2026, 6, 18),
        minor,
        "USD",
        payer,
        reference,
    )


def take(*lines: Incoming, content: bytes | None = None) -> list[tuple[Finding, str]]:
    """Import these lines as one file; what became of each."""
    found: list[tuple[Finding, str]] = []
    bank_import.import_file(
        content or repr(lines).encode(),
        BankFile(list(lines), 0),
        "june.csv",
        on_line=lambda done: found.append((done.finding, done.account_number)),
    )
    return found


def read(name: str) -> list[tuple[Finding, str]]:
    content = (DATA / name).read_bytes()
    return take(*bank_files.read(content, "USD", {}).incoming, content=content)


def balance(ctx: Portal, name: str = "alice") -> int:
    return int(
        ctx.one("SELECT balance_minor FROM accounts WHERE id = :id", id=ctx.world.accounts[name])
    )


# Whose it is ----------------------------------------------------------------------------------


@pytest.fixture
def known() -> Known:
    found = Known()
    found.add(1, "1001", "Alice Example", 4_200)
    found.add(2, "2002", "Mallory", 0)
    found.add(3, "0010300000", "Zoë Öl & Co", 4_300)
    found.add(4, "7", "Tiny", 0)
    found.add(5, "2026", "Year", 0)
    found.add(6, "A-77/12", "Twin", 9_900)
    found.add(7, "8008", "Twin", 9_900)
    return found


INVOICES = {"2026-000123": 2, "2026-000001": 1}


@pytest.mark.parametrize(
    ("reference", "account_id"),
    [
        ("1001", 1),
        ("Kd.-Nr. 1001, danke", 1),
        ("10300000", 3),
        ("001030 0000", 3),
        ("acct 00 1030 0000 june", 3),
        ("a77 12", 6),
        ("A-77/12 rent", 6),
        ("7", 4),
        ("2026", 5),
        ("invoice 2026-000123", 2),
        ("2026-123", 2),
        ("2026000123", 2),
        ("2026 000123", 2),
        ("2026/0123 and thanks", 2),
        ("inv 2026-000001 acct 1001", 1),
    ],
)
def test_reference_finds_the_account(known: Known, reference: str, account_id: int) -> None:
    assert known.find(line(reference), INVOICES) == (Finding.MATCHED, account_id)


@pytest.mark.parametrize(
    "reference",
    [
        "", "thanks", "rent 7", "June 2026", "2026-06-20", "20.06.2026", "2026-06", "2026-0",
        "1001 and 2002", "invoice 2026-000123 account 1001", "2026-000999", "11001", "1 0 0 1",
        "phone 541 555 0100",
    ],
)  # fmt: skip
def test_no_date_or_other_number_is_taken_for_one(known: Known, reference: str) -> None:
    assert known.find(line(reference, 77), INVOICES) == (Finding.UNMATCHED, None)


@pytest.mark.parametrize(
    ("payer", "minor", "account_id"),
    [
        ("EXAMPLE, ALICE", 1, 1),
        ("oel zoe co", 4_300, 3),
        ("zoe ol co", 1, 3),
        ("", 4_200, 1),
        ("Twin", 4_200, 1),
    ],
)
def test_name_or_amount_of_one_account_is_proposed(
    known: Known, payer: str, minor: int, account_id: int
) -> None:
    assert known.find(line("", minor, payer), {}) == (Finding.PROPOSED, account_id)


def test_what_fits_two_is_not_proposed(known: Known) -> None:
    assert known.find(line("", 9_900, "Twin"), {}) == (Finding.UNMATCHED, None)


def test_numbers_are_read_from_a_reference() -> None:
    assert candidates("Acct. 00-1001") == {"ACCT", "1001", "ACCT00", "ACCT001001"}
    assert invoice_numbers("2026-123, 2026/000124") == {
        "2026-000123": "2026-123",
        "2026-000124": "2026/000124",
    }


# Booking --------------------------------------------------------------------------------------


def test_file_is_booked_and_read_again_changes_nothing(ctx: Portal) -> None:
    alice, mallory = balance(ctx), balance(ctx, "mallory")
    assert read("june.camt053.xml") == [
        (Finding.MATCHED, "1001"),
        (Finding.MATCHED, "2002"),
        (Finding.UNMATCHED, ""),
        (Finding.OTHER_CURRENCY, ""),
    ]
    assert (balance(ctx), balance(ctx, "mallory")) == (alice - 5_000, mallory - 1_000)
    [payment] = ctx.rows(
        "SELECT gateway, state, e.booked_on, l.ledger FROM payments p"
        " JOIN journal_entries e ON e.id = p.entry_id JOIN journal_lines l ON l.entry_id = e.id"
        " WHERE l.account_id IS NULL AND p.amount_minor = 5000"
    )
    assert (payment[0], payment[1], str(payment[2]), payment[3]) == (
        "bank", "succeeded", "2026-06-18", "bank",
    )  # fmt: skip
    assert {finding for finding, _number in read("june.camt053.xml")} == {
        Finding.KNOWN,
        Finding.OTHER_CURRENCY,
    }
    assert read("june-version-8.camt053.xml") == [(Finding.KNOWN, ""), (Finding.MATCHED, "2002")]
    assert balance(ctx) == alice - 5_000
    assert ctx.one("SELECT count(*) FROM bank_imports") == 2


def test_same_file_imported_by_many_at_once_is_booked_once(portal: Portal, ctx: Portal) -> None:
    alice = balance(ctx)

    def work(_number: int) -> Any:
        with portal.app.app_context():
            return read("june.camt053.xml")

    outcomes = together(5, work)
    assert all(isinstance(outcome, list) for outcome in outcomes), outcomes
    assert balance(ctx) == alice - 5_000
    assert ctx.one("SELECT count(*) FROM bank_lines") == 3
    assert ctx.one("SELECT count(*) FROM bank_imports") == 1


def test_import_that_broke_off_goes_on(ctx: Portal) -> None:
    lines = [line("1001", minor) for minor in (100, 200, 300)]

    def break_off(_done: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bank_import.import_file(b"x", BankFile(lines, 0), "x", on_line=break_off)
    assert [finding for finding, _number in take(*lines, content=b"x")] == [
        Finding.KNOWN,
        Finding.MATCHED,
        Finding.MATCHED,
    ]


def read_csv(*rows: str) -> list[tuple[Finding, str]]:
    content = "\n".join(("date,amount,key,reference", *rows)).encode()
    return take(*bank_files.read(content, "USD", {}).incoming, content=content)


def test_reference_that_one_file_uses_twice_loses_no_money(ctx: Portal) -> None:
    owed = balance(ctx)
    rows = ("2026-06-18,10,T1,1001", "2026-06-18,20,T1,1001")
    assert read_csv(*rows) == [(Finding.MATCHED, "1001")] * 2
    assert balance(ctx) == owed - 3_000
    assert read_csv(*rows) == [(Finding.KNOWN, "")] * 2
    assert read_csv(rows[1]) == [(Finding.KNOWN, "")]
    assert read_csv(*reversed(rows)) == [(Finding.KNOWN, "")] * 2
    assert balance(ctx) == owed - 3_000


@pytest.mark.parametrize(
    "row",
    [
        "2026-06-19,10,T1,1001",
        "2026-06-18,11,T1,1001",
        "2026-06-18,10,T1,account 1001",
    ],
)
def test_reference_used_before_for_other_money_is_left_to_staff(
    portal: Portal, ctx: Portal, row: str
) -> None:
    owed = balance(ctx)
    read_csv("2026-06-18,10,T1,1001")
    assert read_csv(row) == [(Finding.USED_BEFORE, "1001")]
    assert balance(ctx) == owed - 1_000
    assert read_csv(row) == [(Finding.KNOWN, "")]
    ben = portal.visitor("ben")
    [link] = ben.get("/staff/bank-lines").select("main .rows a")
    assert "same money" in ben.get(link.get("href")).text
    assert "Booked on the account" in decide(portal, link.get("href"), what="confirm").text
    assert balance(ctx) < owed - 1_900


def test_line_that_stands_twice_in_a_file_is_left_to_staff(ctx: Portal) -> None:
    owed, row = balance(ctx), "2026-06-18,10,T1,1001"
    assert read_csv(row, row) == [(Finding.MATCHED, "1001"), (Finding.USED_BEFORE, "1001")]
    assert balance(ctx) == owed - 1_000
    assert read_csv(row, row) == [(Finding.KNOWN, "")] * 2


def test_owner_gets_a_receipt(ctx: Portal) -> None:
    take(line("1001"))
    assert ctx.one("SELECT recipient FROM messages ORDER BY id DESC LIMIT 1") == "alice@example.net"


# By hand --------------------------------------------------------------------------------------


def waiting(ctx: Portal) -> str:
    take(line("thanks", 4_321, "Nobody"))
    return str(ctx.one("SELECT public_id FROM bank_lines WHERE state = 'unmatched'"))


def test_staff_book_a_line_once(portal: Portal, ctx: Portal, till: Till) -> None:
    public_id, owed = waiting(ctx), balance(ctx)
    ben = ctx.world.customers["ben"]
    with pytest.raises(AccountUnknown):
        bank_import.assign(public_id, "999", ben, till.key("ben"), "/there")
    with pytest.raises(NotFound):
        bank_import.assign("nothing", "1001", ben, till.key("ben"), "/there")
    keys = [till.key("ben") for _ in range(6)]

    def press(number: int) -> str:
        with portal.app.app_context():
            return bank_import.assign(public_id, "1001", ben, keys[number], "/there")

    outcomes = together(6, press)
    assert sum(outcome == "/there" for outcome in outcomes) == 1
    assert balance(ctx) == owed - 4_321
    with pytest.raises(DecidedBefore):
        bank_import.ignore(public_id, ben, till.key("ben"), "/there")


def test_line_that_was_put_aside_by_mistake_can_be_booked(
    portal: Portal, ctx: Portal, till: Till
) -> None:
    public_id, ben, owed = waiting(ctx), ctx.world.customers["ben"], balance(ctx)
    assert bank_import.ignore(public_id, ben, till.key("ben"), "/there") == "/there"
    page = portal.visitor("ben").get("/staff/bank-lines")
    assert "All payments are matched" in page.text
    assert "Put aside" in page.text
    [link] = page.select("main .rows a")
    booked = decide(portal, link.get("href"), what="other", number="1001")
    assert "Booked on the account" in booked.text
    assert "Put aside" not in booked.text
    assert balance(ctx) == owed - 4_321
    with pytest.raises(DecidedBefore):
        bank_import.assign(public_id, "1001", ben, till.key("ben"), "/there")


@pytest.mark.parametrize("typed", ["10 01", "1001", " 1-001 ", "001001"])
def test_number_may_be_typed_with_gaps_signs_and_zeros(ctx: Portal, till: Till, typed: str) -> None:
    public_id, owed = waiting(ctx), balance(ctx)
    bank_import.assign(public_id, typed, ctx.world.customers["ben"], till.key("ben"), "/there")
    assert balance(ctx) == owed - 4_321


def decide(portal: Portal, href: str, **values: str) -> Page:
    ben = portal.visitor("ben")
    out = ben.submit(ben.get(href), href, **values)
    return ben.get(out.location) if out.location else out


def test_page_lists_confirms_chooses_and_ignores(portal: Portal, ctx: Portal) -> None:
    owed = balance(ctx)
    take(line("a", owed, "Somebody"), line("b", 10, "Nobody"), line("c", 20, "No <b>one"))
    ben = portal.visitor("ben")
    listed = ben.get("/staff/bank-lines")
    hrefs = [link.get("href") for link in listed.select("main .rows a")]
    assert len(hrefs) == 3
    assert "Proposed: 1001" in listed.text
    assert decide(portal, hrefs[0]).status == 422
    assert "Booked on the account" in decide(portal, hrefs[0], what="confirm").text
    assert balance(ctx) == 0
    assert "Enter the account number" in decide(portal, hrefs[1], what="other").text
    assert "No account has" in decide(portal, hrefs[1], what="other", number="9").text
    assert "Booked on the account" in decide(portal, hrefs[1], what="other", number="1001").text
    assert balance(ctx) == -10
    assert "no payment of a customer" in decide(portal, hrefs[2], what="ignore").text
    assert "All payments are matched" in ben.get("/staff/bank-lines").text
    assert ben.get(hrefs[0]).status == 404


def test_customer_reads_which_reference_to_give(portal: Portal) -> None:
    page = portal.visitor("vera").get(portal.path("billing/how-to-pay"))
    assert "1001" in page.text
    assert not page.select("a[href$='/voucher']")
    assert (
        portal.visitor("alice").get(portal.path("billing/how-to-pay")).select("a[href$='/voucher']")
    )


# The command ----------------------------------------------------------------------------------


def test_command_books_and_says_so(portal: Portal) -> None:
    runner = portal.app.test_cli_runner()
    done = runner.invoke(
        args=[
            "payments", "import-bank", str(DATA / "june.csv"), "--days", "dmy", "--map",
            "date=Buchungstag,amount=Betrag,payer=Auftraggeber", "--map",
            "reference=Verwendungszweck,currency=Waehrung",
        ]
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "2 booked, 0 proposed, 1 unmatched, 0 known before, 1 passed over." in done.output
    euro = runner.invoke(args=["payments", "import-bank", str(DATA / "june.camt053.xml")])
    assert euro.exit_code == 1
    assert "In another currency, left out: 1." in euro.output


def test_command_says_which_references_were_used_before(portal: Portal, tmp_path: Path) -> None:
    file = tmp_path / "twice.csv"
    file.write_text("date,amount,key\n" + "2026-06-18,10,T1\n" * 2)
    done = portal.app.test_cli_runner().invoke(args=["payments", "import-bank", str(file)])
    assert done.exit_code == 0, done.output
    assert "used for other money before: 1." in done.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([str(DATA / "june.csv")], "no column 'date'"),
        ([str(DATA / "june.csv"), "--map", "colour=x"], "write NAME=COLUMN"),
        ([str(DATA / "nothing.csv")], "does not exist"),
    ],
)
def test_command_says_what_is_wrong(portal: Portal, arguments: list[str], words: str) -> None:
    done = portal.app.test_cli_runner().invoke(args=["payments", "import-bank", *arguments])
    assert done.exit_code
    assert words in done.output
