"""Invoices and credit notes as PDF and CSV, in the reader's language."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from flask import current_app, url_for
from flask_babel import gettext as _

from blueprints.billing.invoice_pages import InvoiceDetail
from core import pdf
from core.bank_account import BankAccount
from core.downloads import Cell
from core.isp import IspView, current_isp
from core.money import Money, format_money
from core.phones import format_phone
from core.words import format_day, language, text_direction

if TYPE_CHECKING:
    import segno

LETTER_COUNTRIES = ("USD", "CAD", "MXN", "PHP", "COP", "CLP")
"""Currencies of countries that print on Letter; elsewhere paper is A4."""


def make_pdf(invoice: InvoiceDetail, account_public_id: str) -> bytes:
    """The invoice as PDF/UA-1, the same bytes each time: what was paid on it since stands on its
    page, not here. Raises PdfFailed."""
    day = invoice.issued_on
    return pdf.make(
        "invoice.typ",
        _facts(invoice, account_public_id),
        datetime(day.year, day.month, day.day, tzinfo=UTC),
    )


def header() -> tuple[str, ...]:
    """The columns of an invoice as CSV."""
    return (
        _("Number"),
        _("Issued"),
        _("Due"),
        _("What"),
        _("Quantity"),
        _("From"),
        _("To"),
        _("Amount"),
        _("Currency"),
    )


def rows_of(invoice: InvoiceDetail) -> list[tuple[Cell, ...]]:
    """The invoice as rows of a CSV file, one for each line; the amounts sum to what it asks for,
    those of a credit note to what it gives back, as a negative amount."""
    due_on = None if invoice.state == "credit" else invoice.due_on
    return [
        (
            invoice.number,
            invoice.issued_on,
            due_on,
            line.description,
            line.quantity,
            line.period_from,
            line.period_to,
            line.amount,
            line.amount.currency,
        )
        for line in invoice.lines
    ]


def _title(invoice: InvoiceDetail) -> str:
    if invoice.kind == "opening":
        return str(_("Carried-over item %(number)s", number=invoice.number))
    if invoice.state == "credit":
        return str(_("Credit note %(number)s", number=invoice.number))
    return str(_("Invoice %(number)s", number=invoice.number))


def money_words(amount: Money) -> str:
    """An amount in the reader's language."""
    return format_money(amount, language())


def frame(currency: str) -> dict[str, Any]:
    """What every statement is given: language, paper, the ISP's name, address and colour."""
    isp = current_isp()
    return {
        "lang": language().split("-", maxsplit=1)[0],
        "rtl": text_direction(language()) == "rtl",
        "paper": "us-letter" if currency in LETTER_COUNTRIES else "a4",
        "accent": isp.accent,
        "fonts": list(pdf.FONTS),
        "isp": {"name": isp.name, "lines": _sender(isp)},
    }


def _facts(invoice: InvoiceDetail, account_public_id: str) -> dict[str, Any]:
    is_credit = invoice.state == "credit"
    sign = -1 if is_credit else 1
    lines = [line for line in invoice.lines if line.kind != "tax"]
    taxes = [line for line in invoice.lines if line.kind == "tax"]
    sums = []
    if taxes:
        sums.append([_("Before tax"), _signed(invoice.subtotal, sign)])
        sums += [[line.description, _signed(line.amount, sign)] for line in taxes]
    facts = [
        [_("Issued"), format_day(invoice.issued_on)],
        *([] if is_credit else [[_("Due"), format_day(invoice.due_on)]]),
        [_("Period"), f"{format_day(invoice.period_from)} – {format_day(invoice.period_to)}"],
    ]
    note = ""
    if is_credit and invoice.corrects_number:
        note = f"{_('It corrects an earlier bill:')} {invoice.corrects_number}"
    elif is_credit:
        note = str(_("It gives back what was billed and not used."))
    return frame(invoice.total.currency) | {
        "title": _title(invoice),
        "number": invoice.number,
        "date": [invoice.issued_on.year, invoice.issued_on.month, invoice.issued_on.day],
        "facts": [[str(word), value] for word, value in facts],
        "billed_to": [invoice.bill_name, *invoice.bill_address],
        "note": note,
        "columns": [str(_("What")), str(_("Period")), str(_("Amount"))],
        "lines": [
            [
                line.description + (f" × {line.quantity}" if line.quantity != 1 else ""),
                f"{format_day(line.period_from)} – {format_day(line.period_to)}"
                if line.period_from and line.period_to
                else "",
                _signed(line.amount, sign),
            ]
            for line in lines
        ],
        "sums": [[str(word), value] for word, value in sums],
        "total": [
            str(_("Credited to you") if is_credit else _("Total")),
            _signed(invoice.total, sign),
        ],
        "after": [],
        "pay": None if is_credit or not invoice.total else _pay(invoice, account_public_id),
    }


def _signed(amount: Money, sign: int) -> str:
    """What a credit note gives back is shown as a positive amount."""
    return money_words(Money(sign * amount.amount_minor, amount.currency))


def _sender(isp: IspView) -> list[str]:
    parts = [isp.postal_address, format_phone(isp.support_phone), isp.support_email]
    return [part for part in parts if part]


def _pay(invoice: InvoiceDetail, account_public_id: str) -> dict[str, Any]:
    """The part at the foot that says how to pay, on the portal and by transfer, with a code."""
    bank = current_isp().bank
    first = [
        [str(_("Amount")), money_words(invoice.total)],
        [str(_("Due")), format_day(invoice.due_on)],
        [str(_("Number")), invoice.number],
        [str(_("On the portal")), current_app.config["PORTAL"].public_url],
    ]
    rows = [first]
    if bank is not None:
        reference = (str(_("Reference")), invoice.number)
        rows.append([list(row) for row in (*bank.rows(), reference)])
    return {"heading": str(_("How to pay")), "rows": rows, **code_of(invoice, account_public_id)}


def code_of(invoice: InvoiceDetail, account_public_id: str) -> dict[str, str]:
    """A code to pay by, as SVG with its words: for the app of a bank in euro, else to the page."""
    bank = current_isp().bank
    if bank is not None and bank.iban and invoice.total.currency == "EUR":
        code = transfer_code(bank, invoice.total, invoice.number)
        alt = str(_("A code with which the app of your bank fills in the transfer"))
    else:
        path = url_for(
            "billing.pay", account_public_id=account_public_id, invoice=invoice.public_id
        )
        import segno

        code = segno.make(current_app.config["PORTAL"].public_url + path, error="m")
        alt = str(_("A code that opens the page on which this invoice is paid"))
    return {"qr": code.svg_inline(scale=4), "alt": alt}


def transfer_code(bank: BankAccount, amount: Money, reference: str) -> segno.QRCode:
    """The code of a transfer in euro to an account with an IBAN, as EPC069-12 defines it."""
    from segno.helpers import make_epc_qr

    return make_epc_qr(
        bank.holder,
        bank.iban,
        Decimal(amount.amount_minor).scaleb(-2),
        text=reference,
        bic=bank.bic or None,
    )
