"""The pages of billing: balance, invoices, payments, paying."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Response, current_app, g, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing import (
    bp,
    invoice_pages,
    owed,
    payment_pages,
    payments,
    settling,
    starting,
    statements,
)
from blueprints.billing.dunning.outlook import Outlook, find_outlook
from blueprints.billing.errors import (
    AmountChanged,
    AmountOutOfBounds,
    GatewaySaysNo,
    GatewaySilent,
    MethodGone,
    NoGateway,
    NothingToPay,
    PaymentUnderWay,
)
from blueprints.billing.forms import PayForm
from blueprints.billing.invoice_pages import InvoiceRow
from blueprints.billing.methods import listing as methods
from blueprints.billing.owed import Due, Part
from blueprints.billing.payment_pages import PaymentRow
from blueprints.billing.planned import showing
from blueprints.billing.planned.showing import PlannedRow
from blueprints.billing.starting import Choice
from core import form_guard, kept_forms
from core.access import greet
from core.downloads import pdf_answer
from core.htmx import go_out, go_to, nothing_new, render
from core.isp import current_isp
from core.policy import PAYS
from core.sessions import find_signed_in, signed_in
from gateways.payments.base import PaymentGateway
from models import Role

HIGHEST_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class OverviewPage(Due):
    outlook: Outlook | None
    can_pay: bool
    parts: list[Part]
    invoices: list[InvoiceRow]
    payments: list[PaymentRow]
    planned: list[PlannedRow]


@dataclass(frozen=True, slots=True)
class PaymentListPage:
    payments: list[PaymentRow]
    page: int
    page_count: int


def payment_gateway() -> PaymentGateway | None:
    """The deployment's payment gateway; None when nobody can pay online."""
    gateway: PaymentGateway | None = current_app.extensions["payment_gateway"]
    return gateway


def can_pay() -> bool:
    account = signed_in().account
    return payment_gateway() is not None and account is not None and Role(account.role) in PAYS


def _page_number() -> int:
    number = request.args.get("page", 1, type=int)
    return min(max(number, 1), HIGHEST_PAGE)


def _account_path(endpoint: str, **values: Any) -> str:
    account = signed_in().account
    public_id = account.public_id if account is not None else ""
    return url_for(endpoint, account_public_id=public_id, **values)


@bp.get("/", endpoint="overview")
def overview_page() -> Response:
    due = owed.find_due(g.account_id)
    page = OverviewPage(
        **due.as_fields(),
        outlook=find_outlook(g.account_id) if due.is_overdue else None,
        can_pay=can_pay(),
        parts=owed.list_parts(g.account_id, due.balance),
        invoices=invoice_pages.list_latest_invoices(g.account_id),
        payments=payment_pages.list_some_payments(g.account_id, invoice_pages.LATEST),
        planned=showing.list_planned(g.account_id),
    )
    return render("billing/overview.html", page=page)


@bp.get("/invoices/")
def invoice_list() -> Response:
    year = request.args.get("year", type=int)
    state = request.args.get("state", "all")
    page = invoice_pages.list_invoices(
        g.account_id,
        year if year is not None and 1 <= year <= 9999 else None,
        state if state in ("all", "open", "paid") else "all",
        _page_number(),
    )
    return render("billing/invoice_list.html", "invoice_rows", page=page)


@bp.get("/invoices/<public_id>")
def invoice_detail(public_id: str) -> Response:
    invoice = invoice_pages.get_invoice(g.account_id, public_id)
    return render("billing/invoice_detail.html", invoice=invoice, can_pay=can_pay())


@bp.get("/invoices/<public_id>/pdf")
def invoice_pdf(public_id: str) -> Response:
    """The invoice to keep or print, as PDF."""
    invoice = invoice_pages.get_invoice(g.account_id, public_id)
    account = signed_in().account
    made = statements.make_pdf(invoice, account.public_id if account is not None else "")
    return pdf_answer(f"{invoice.number}.pdf", made)


@bp.get("/payments/")
def payment_list() -> Response:
    page = PaymentListPage(*payment_pages.list_payments(g.account_id, _page_number()))
    return render("billing/payment_list.html", "payment_rows", page=page, can_pay=can_pay())


@bp.get("/payments/<public_id>")
def payment_detail(public_id: str) -> Response:
    payment = payment_pages.get_payment(g.account_id, public_id, can_pay=can_pay())
    if request.args.get("since", type=int) == payment.revision:
        return nothing_new()
    return render("billing/payment_detail.html", "payment", payment=payment)


@bp.get("/pay")
def pay() -> Response:
    kept = None
    if not request.args:
        kept = kept_forms.find(current_app.config["PORTAL"].secret, signed_in(), request.path)
    form = PayForm(formdata=None, data=kept) if kept else PayForm(formdata=None)
    invoice = request.args.get("invoice") or form.invoice.data
    form.invoice.data = invoice or ""
    return _pay_page(form)


def _pay_page(form: PayForm, status: int = 200) -> Response:
    gateway = payment_gateway()
    page = payment_pages.find_pay_page(
        g.account_id, form.invoice.data, gateway.title if gateway is not None else ""
    )
    if gateway is None:
        return render("billing/pay_offline.html", None, status, form=form, page=page)
    saved = methods.list_chargeable(g.account_id, signed_in().customer_id, gateway.name)
    if form.method.data is None and saved:
        form.method.data = saved[0].public_id
    return render("billing/pay.html", None, status, form=form, page=page, methods=saved)


@bp.post("/pay")
def pay_start() -> Response | BaseResponse:
    form = PayForm()
    if not form.validate():
        return _pay_page(form, 422)
    order = starting.Order(
        account_id=g.account_id,
        customer_id=signed_in().customer_id,
        choice=Choice(form.choice.data),
        amount_minor=form.amount_minor,
        invoice_public_id=form.invoice.data or None,
        shown_minor=request.form.get(f"shown_{form.choice.data}", type=int),
        method_public_id=form.method.data or None,
    )
    try:
        started = starting.start(
            order,
            form_guard.arrived_key(),
            _account_path("billing.payment_detail", public_id="{id}").replace("%7Bid%7D", "{id}"),
            payment_gateway(),
            _return_url(),
        )
    except (AmountChanged, AmountOutOfBounds, NothingToPay, NoGateway) as refusal:
        form.amount.errors = [refusal.customer_message]
        return _pay_page(form, 422)
    except MethodGone as refusal:
        form.method.errors = [refusal.customer_message]
        form.method.data = ""
        return _pay_page(form, 422)
    except PaymentUnderWay as under_way:
        payment = payment_pages.get_payment(g.account_id, under_way.public_id, can_pay=can_pay())
        return render("billing/payment_under_way.html", None, 409, payment=payment)
    except (GatewaySilent, GatewaySaysNo) as refusal:
        return _to_payment(refusal.payment_public_id)
    return _on_its_way(started)


@bp.post("/payments/<public_id>/continue")
def payment_continue(public_id: str) -> BaseResponse:
    gateway = payment_gateway()
    if gateway is None:
        raise NoGateway
    try:
        started = starting.resume(g.account_id, public_id, gateway, _return_url())
    except (GatewaySilent, GatewaySaysNo):
        return _to_payment(public_id)
    return _on_its_way(started)


@bp.post("/payments/<public_id>/cancel")
def payment_cancel(public_id: str) -> BaseResponse:
    gateway = payment_gateway()
    if gateway is None:
        raise NoGateway
    settling.cancel(g.account_id, public_id, gateway)
    return _to_payment(public_id)


def _return_url() -> str:
    public_url: str = current_app.config["PORTAL"].public_url
    return public_url + "/pay/{id}/return"


def _to_payment(public_id: str) -> BaseResponse:
    return go_to(_account_path("billing.payment_detail", public_id=public_id))


def _on_its_way(started: starting.OnItsWay) -> BaseResponse:
    gateway = payment_gateway()
    if started.hosted_url is None or gateway is None:
        return _to_payment(started.public_id)
    return go_out(started.hosted_url, gateway.origin)


def payment_return(payment_public_id: str) -> Response | BaseResponse:
    """Where the gateway sends the browser back to, by GET or by POST.

    The one GET that writes: it asks the gateway for the truth. It works without a session, since a
    POST from another site comes without our Lax cookie, and so shows only amount and state.
    Whoever is signed in and may see the account goes on to the receipt.
    """
    found = payments.find_for_return(payment_public_id)
    gateway = payment_gateway()
    if current_isp().is_closed:
        # Nothing is written during maintenance. The worker asks as soon as it is over.
        return render("billing/payment_return.html", amount=found.amount, state=found.state)
    state = settling.settle(found.payment_id, gateway) if gateway is not None else found.state
    person = find_signed_in()
    if person is not None and payments.may_see(person.customer_id, found.account_id):
        return go_to(
            url_for(
                "billing.payment_detail",
                account_public_id=found.account_public_id,
                public_id=payment_public_id,
            )
        )
    greet()
    return render("billing/payment_return.html", amount=found.amount, state=state, next_url="/")
