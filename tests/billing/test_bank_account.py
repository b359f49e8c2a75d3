"""The ISP's bank account: where it stands, and the code that the app of a bank reads."""

from __future__ import annotations

from dataclasses import replace

import pytest
import segno
from sqlalchemy import select, update

from blueprints.billing import invoice_pages, statements
from blueprints.billing.statements import transfer_code
from core.bank_account import BankAccount, is_iban, is_routing_number
from core.db import db, unit_of_work
from core.money import Money
from models import Invoice, Isp
from tests.billing.test_statements import fetch
from tests.conftest import Portal

GERMAN = {
    "holder": "Pine Nétworks",
    "bank": "Example Bank",
    "iban": "DE89370400440532013000",
    "bic": "EXMPDEFFXXX",
}
AMERICAN = {"holder": "Pine Networks", "routing": "123456780", "account": "0001234567"}


def name_account(portal: Portal, bank: dict[str, str]) -> None:
    with portal.app.app_context():
        unit_of_work(
            lambda session: session.execute(
                update(Isp).values(bank_account=bank, revision=Isp.revision + 1)
            )
        )


@pytest.mark.parametrize(
    "iban", ["DE89370400440532013000", "GB29NWBK60161331926819", "NO9386011117947"]
)
def test_iban_with_its_check_digits_is_taken(iban: str) -> None:
    assert is_iban(iban)
    assert not is_iban(iban[:-1] + str((int(iban[-1]) + 1) % 10))
    assert not is_iban(iban.lower())
    assert not is_iban(iban[:10])


def test_routing_number_has_nine_digits_that_fit() -> None:
    assert is_routing_number("123456780")
    for wrong in ("123456789", "12345678", "1234567800", "12345678a", ""):
        assert not is_routing_number(wrong)


def test_customer_reads_where_to_transfer_to(portal: Portal) -> None:
    path = portal.path("billing/how-to-pay")
    assert "Ask us for our bank account" in portal.visitor("alice").get(path).text
    name_account(portal, GERMAN)
    page = portal.visitor("alice").get(path)
    for value in ("Pine Nétworks", "DE89 3704 0044 0532 0130 00", "EXMPDEFFXXX", "1001"):
        assert value in page.text
    for gone in ("Ask us for our bank account", "Routing number"):
        assert gone not in page.text
    name_account(portal, AMERICAN)
    page = portal.visitor("alice").get(path)
    assert "123456780" in page.text
    assert "0001234567" in page.text
    assert "IBAN" not in page.text


def test_bill_as_pdf_names_it_in_the_same_bytes_each_time(portal: Portal) -> None:
    without = fetch(portal).data
    name_account(portal, GERMAN | {"routing": "123456780", "account": "0001234567"})
    answer = fetch(portal)
    assert answer.status_code == 200
    assert answer.data != without
    assert len(answer.data) <= 60_000
    assert fetch(portal).data == answer.data


def test_code_in_euro_is_what_apps_of_banks_read() -> None:
    read = "\n".join(
        [
            *("BCD", "002", "2", "SCT", "EXMPDEFFXXX", "Pine Nétworks", "DE89370400440532013000"),
            *("EUR105.5", "", "", "2026-000007"),
        ]
    ).encode("latin-1")
    code = transfer_code(BankAccount(**GERMAN), Money(10550, "EUR"), "2026-000007")
    assert code == segno.make_qr(read, error="m", boost_error=False)


def test_bill_has_that_code_in_euro_with_an_iban_alone(portal: Portal) -> None:
    def code_of(currency: str) -> str:
        with portal.app.test_request_context(base_url="http://127.0.0.1:8000"):
            row = invoice_of_alice(portal)
            return statements.code_of(replace(row, total=Money(10550, currency)), "abc")["alt"]

    assert "page" in code_of("EUR")
    name_account(portal, AMERICAN)
    assert "page" in code_of("EUR")
    name_account(portal, GERMAN)
    assert "app of your bank" in code_of("EUR")
    assert "page" in code_of("USD")


def invoice_of_alice(portal: Portal) -> invoice_pages.InvoiceDetail:
    account_id = portal.world.accounts["alice"]
    public_id = db.session.scalar(
        select(Invoice.public_id).where(Invoice.account_id == account_id).limit(1)
    )
    return invoice_pages.get_invoice(account_id, str(public_id))
