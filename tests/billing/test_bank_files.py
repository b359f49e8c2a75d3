"""Reading a bank's statement: CSV with a column map, camt.053, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprints.billing import bank_files
from blueprints.billing.bank_files import FileUnreadable, Incoming, read

DATA = Path(__file__).parent.parent / "data" / "bank"
MAP = {
    "date": "Buchungstag",
    "amount": "betrag",
    "payer": "Auftraggeber",
    "reference": "Verwendungszweck",
    "currency": "Waehrung",
}


def lines(name: str, **more: str) -> list[Incoming]:
    columns = MAP if name.endswith("csv") else {}
    return read((DATA / name).read_bytes(), "USD", columns, more.get("days", "dmy")).incoming


def test_camt_gives_what_arrived_and_no_more() -> None:
    found = read((DATA / "june.camt053.xml").read_bytes(), "USD", {})
    assert found.passed_over == 2
    assert [(each.amount_minor, each.currency, each.payer) for each in found.incoming] == [
        (5_000, "USD", "A. Example"),
        (1_000, "USD", "Mallory"),
        (2_000, "USD", "Somebody"),
        (1_200, "EUR", ""),
    ]
    first, second, third, _euro = found.incoming
    assert first.reference == "Internet account 1001"
    assert first.key == "bank:DE02120300000000202051:A-1"
    assert first.booked_on.isoformat() == "2026-06-18"
    assert second.reference == "2026-000002"
    assert second.key != third.key


def test_same_transfer_has_the_same_key_in_another_version_and_file() -> None:
    old, new = lines("june.camt053.xml"), lines("june-version-8.camt053.xml")
    assert old[0] == new[0]
    assert new[1].booked_on.isoformat() == "2026-06-20"


def test_csv_is_read_by_its_map() -> None:
    found = lines("june.csv")
    assert [(each.amount_minor, each.payer) for each in found] == [
        (5_000, "A. Example"),
        (5_000, "A. Example"),
        (120_400, "Zoë Ölmann"),
    ]
    assert found[0].booked_on.isoformat() == "2026-06-18"
    assert len({each.key for each in found}) == 3
    assert lines("june.csv") == found


def test_csv_of_an_old_program_and_with_its_own_names() -> None:
    content = 'date,amount,key,reference\n06/18/2026,"$1,204.00",T-1,caf\u00e9\n'.encode("cp1252")
    [found] = read(content, "USD", {}, "mdy").incoming
    assert (found.key, found.amount_minor, found.reference) == ("bank:T-1", 120_400, "café")


ENTRY = (
    "<Ntry><Amt Ccy='USD'>{amount}</Amt><CdtDbtInd>CRDT</CdtDbtInd><BookgDt><Dt>2026-06-18</Dt>"
    "</BookgDt><AcctSvcrRef>{own}</AcctSvcrRef></Ntry>"
)


def statement(*entries: tuple[str, str], iban: str = "DE1") -> bytes:
    inside = "".join(ENTRY.format(amount=amount, own=own) for amount, own in entries)
    account = f"<Acct><Id><IBAN>{iban}</IBAN></Id></Acct>"
    return f"<D><Stmt>{account}{inside}</Stmt></D>".encode()


@pytest.mark.parametrize("own", ["NONREF", "NOTPROVIDED", "nonref", "Not provided", "0000", "-"])
def test_what_says_that_there_is_no_reference_is_none(own: str) -> None:
    entries = [("79.56", own), ("54.94", own), ("54.94", own)]
    found = read(statement(*entries), "USD", {}).incoming
    assert len({each.key for each in found}) == 3
    assert all(each.key.startswith("content:") and not each.other_key for each in found)
    assert read(statement(*entries), "USD", {}).incoming == found
    elsewhere = read(statement(*entries, iban="DE2"), "USD", {}).incoming
    assert not {each.key for each in found} & {each.key for each in elsewhere}


def test_csv_of_two_bank_accounts_that_number_alike() -> None:
    rows = b"date,amount,key,account\n2026-06-18,5,1,A\n2026-06-18,5,1,B\n"
    first, second = read(rows, "USD", {}).incoming
    assert (first.key, second.key) == ("bank:A:1", "bank:B:1")
    assert not first.is_shared


def test_longest_names_fit_into_a_key() -> None:
    rows = f"date,amount,key,account\n2026-06-18,5,{'k' * 300},{'a' * 300}\n".encode()
    [found] = read(rows, "USD", {}).incoming
    assert len(found.key) <= 120


BOMB = b"""<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;">]>
<Document><BkToCstmrStmt><Stmt><Id>&b;</Id></Stmt></BkToCstmrStmt></Document>"""
REACHES_OUT = b"""<?xml version="1.0"?><!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<Document><BkToCstmrStmt><Stmt><Id>&x;</Id></Stmt></BkToCstmrStmt></Document>"""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (BOMB, "no XML that can be read"),
        (REACHES_OUT, "no XML that can be read"),
        (b"<Document><Stmt>", "no XML that can be read"),
        (b"<html></html>", "no statement"),
        (b"<D><Stmt><Ntry><CdtDbtInd>CRDT</CdtDbtInd></Ntry></Stmt></D>", "no amount"),
        (b"<D><Stmt><Ntry><CdtDbtInd>CRDT</CdtDbtInd><Amt Ccy='USD'>x</Amt></Ntry></Stmt></D>",
         "no amount"),
        (b"<D><Stmt><Ntry><CdtDbtInd>CRDT</CdtDbtInd><Amt Ccy='USD'>1</Amt></Ntry></Stmt></D>",
         "no day"),
        (b"", "it is empty"),
        (b"a,b\n1,2\n", "no column 'date'"),
        (b"date,amount\n2026-06-18,x\n", "line 2: 'x' is no amount"),
        (b"date,amount\nsoon,5\n", "line 2: 'soon' is no day"),
        (b"date,amount,currency\n2026-06-18,5,QQQ\n", None),
        (b"date,amount\n\x00,5\n", "line"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_why(content: bytes, words: str | None) -> None:
    if words is None:
        assert read(content, "USD", {}).incoming[0].currency == "QQQ"
        return
    with pytest.raises(FileUnreadable, match=words):
        read(content, "USD", {})


def test_too_large_a_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bank_files, "MAX_BYTES", 10)
    with pytest.raises(FileUnreadable, match="larger"):
        read(b"date,amount\n", "USD", {})


@given(st.binary(max_size=300))
def test_nothing_but_a_refusal_comes_of_noise(content: bytes) -> None:
    try:
        found = read(content, "USD", {})
    except FileUnreadable:
        return
    assert all(line.amount_minor > 0 for line in found.incoming)


@given(st.text(max_size=200))
def test_nothing_but_a_refusal_comes_of_text_in_a_statement(text: str) -> None:
    start = "<D><Stmt><Ntry><CdtDbtInd>CRDT</CdtDbtInd><Amt Ccy='USD'>1.00</Amt>"
    content = f"{start}<BookgDt><Dt>2026-06-18</Dt></BookgDt>{text}</Ntry></Stmt></D>"
    try:
        found = read(content.encode("utf-8", "replace"), "USD", {})
    except FileUnreadable:
        return
    assert all(line.amount_minor > 0 for line in found.incoming)
