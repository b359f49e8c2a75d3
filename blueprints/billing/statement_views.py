"""The pages that sum up: the statement of account, what was spent, and invoices as CSV."""

from __future__ import annotations

from datetime import date

from flask import Response, g, request

from blueprints.billing import account_statement, bp, invoice_pages, spending, statements
from blueprints.billing.account_statement import AccountStatement
from core import charts, clock
from core.downloads import csv_answer, pdf_answer
from core.forms import SpanForm
from core.htmx import render
from core.isp import current_isp
from core.money import Money, format_short, unit_minor
from core.words import format_month, language, month_letter

PER_PAGE = 30


def _today() -> date:
    return clock.today(current_isp().timezone)


@bp.get("/statement", endpoint="account_statement")
def account_statement_page() -> Response:
    form = SpanForm(_today())
    return _page(form, _statement_of(form) if form.validate() else None)


@bp.get("/statement/pdf")
def account_statement_pdf() -> Response:
    form = SpanForm(_today())
    if not form.validate():
        return _page(form, None)
    found = _statement_of(form)
    return pdf_answer(f"{_file_name(found)}.pdf", account_statement.make_pdf(found))


@bp.get("/statement/csv")
def account_statement_csv() -> Response:
    form = SpanForm(_today())
    if not form.validate():
        return _page(form, None)
    found = _statement_of(form)
    return csv_answer(
        f"{_file_name(found)}.csv", account_statement.header(), account_statement.rows_of(found)
    )


def _statement_of(form: SpanForm) -> AccountStatement:
    return account_statement.find_statement(g.account_id, *form.days())


def _file_name(found: AccountStatement) -> str:
    number = "".join(sign if sign.isalnum() else "-" for sign in found.account_number)
    return f"{number}_{found.from_on}_{found.to_on}"


def _page(form: SpanForm, found: AccountStatement | None) -> Response:
    """The newest entries first, a page of them; without a statement the form says what is wrong."""
    entries = found.entries[::-1] if found is not None else ()
    page_count = max(1, -(-len(entries) // PER_PAGE))
    page = min(max(request.args.get("page", 1, type=int), 1), page_count)
    return render(
        "billing/account_statement.html",
        "statement_rows",
        200 if found is not None else 422,
        form=form,
        statement=found,
        entries=entries[(page - 1) * PER_PAGE : page * PER_PAGE],
        page=page,
        page_count=page_count,
    )


@bp.get("/spending", endpoint="spending")
def spending_page() -> Response:
    found = spending.find_spending(g.account_id, _today())
    words = spending.kind_words()
    currency = found.total.currency
    names = [words[kind] for kind in found.kinds]
    chart = charts.columns(
        names,
        [month_letter(month.first_on) for month in found.months],
        [[part.amount_minor for part in month.parts] for month in found.months],
        lambda minor: format_short(Money(minor, currency), language()),
        unit_minor(currency),
    )
    return render(
        "billing/spending.html",
        spending=found,
        names=names,
        chart=chart,
        months=[(format_month(month.first_on), month) for month in reversed(found.months)],
    )


@bp.get("/invoices/<public_id>/csv")
def invoice_csv(public_id: str) -> Response:
    """The lines of an invoice, for a spreadsheet."""
    invoice = invoice_pages.get_invoice(g.account_id, public_id)
    return csv_answer(f"{invoice.number}.csv", statements.header(), statements.rows_of(invoice))
