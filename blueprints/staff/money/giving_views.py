"""What staff give and charge: a credit, a one-off charge, a credit note; a bill sent again."""

from __future__ import annotations

from flask import Response
from flask_babel import gettext as _
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing import adjusting
from blueprints.billing.errors import CreditRefused
from blueprints.staff.money import bp, giving, statement
from blueprints.staff.money.forms import EVERYTHING, ChargeForm, CreditForm, CreditNoteForm
from blueprints.staff.views import asking
from core import form_guard, form_keys
from core.forms import shown
from core.htmx import go_to, render
from core.money import format_money
from core.sessions import signed_in
from core.step_up import recent_password
from core.words import language

_CREDIT = "/accounts/<public_id>/credit"
_CHARGE = "/accounts/<public_id>/charge"
_INVOICE = "/accounts/<public_id>/invoices/<invoice_id>"
SENT = ("sent", "nobody")


# A credit at once -----------------------------------------------------------------------------


@bp.get(_CREDIT)
def credit(public_id: str) -> Response:
    return _credit_page(public_id, shown(CreditForm))


@bp.post(_CREDIT)
@recent_password
def credit_post(public_id: str) -> Response | BaseResponse:
    form = CreditForm()
    if not form.validate():
        return _credit_page(public_id, form, 422)
    key = form_guard.arrived_key()
    wish = adjusting.Wish(
        statement.find_id(public_id),
        form.reason.data or "",
        signed_in().customer_id,
        key.intent,
        form.amount.minor,
    )
    try:
        return go_to(giving.give(public_id, wish, key))
    except CreditRefused:
        form.amount.errors = [_("So much cannot be given at once.")]
    return _credit_page(public_id, form, 422)


def _credit_page(public_id: str, form: CreditForm, status: int = 200) -> Response:
    head = statement.open_account(public_id, asking.reader())
    limit = giving.limit()
    return render("staff/money/credit.html", None, status, head=head, form=form, limit=limit)


# A one-off charge -----------------------------------------------------------------------------


@bp.get(_CHARGE)
def charge(public_id: str) -> Response:
    return _charge_page(public_id, shown(ChargeForm))


@bp.post(_CHARGE)
@recent_password
def charge_post(public_id: str) -> Response | BaseResponse:
    form = ChargeForm()
    if not form.validate():
        return _charge_page(public_id, form, 422)
    account_id = statement.find_id(public_id)
    new = adjusting.NewCharge(
        account_id,
        form.amount.minor,
        form.description.data or "",
        form.reason.data or "",
        form.kind.data or "",
        signed_in().customer_id,
    )

    def work(session: Session) -> str:
        adjusting.add_charge(session, new)
        return giving.path_of(public_id, "charged")

    try:
        return go_to(form_keys.once(form_guard.arrived_key(), work, account_id))
    except CreditRefused:
        form.amount.errors = [_("So much cannot be charged at once.")]
    return _charge_page(public_id, form, 422)


def _charge_page(public_id: str, form: ChargeForm, status: int = 200) -> Response:
    head = statement.open_account(public_id, asking.reader())
    return render("staff/money/charge.html", None, status, head=head, form=form)


@bp.post("/accounts/<public_id>/charges/<charge_id>/cancel")
def charge_cancel(public_id: str, charge_id: str) -> BaseResponse:
    account_id = statement.find_id(public_id)

    def work(session: Session) -> str:
        adjusting.cancel_charge(session, account_id, charge_id)
        return giving.path_of(public_id, "uncharged")

    return go_to(form_keys.once(form_guard.arrived_key(), work, account_id))


# A credit note --------------------------------------------------------------------------------


@bp.get(_INVOICE)
def invoice(public_id: str, invoice_id: str) -> Response:
    return _invoice_page(public_id, invoice_id, shown(CreditNoteForm))


@bp.post(_INVOICE)
@recent_password
def invoice_credit(public_id: str, invoice_id: str) -> Response | BaseResponse:
    form = CreditNoteForm()
    account_id = statement.find_id(public_id)
    row_id, lines = giving.list_lines(account_id, invoice_id)
    form.offer(_choices(lines))
    if not form.validate():
        return _invoice_page(public_id, invoice_id, form, 422)
    key = form_guard.arrived_key()
    wish = adjusting.Wish(
        account_id,
        form.reason.data or "",
        signed_in().customer_id,
        key.intent,
        invoice_id=row_id,
        amounts=giving.amounts_of(lines, form.position, form.amount.minor),
    )
    try:
        return go_to(giving.give(public_id, wish, key))
    except CreditRefused as refusal:
        form.amount.errors = [refusal.customer_message]
    return _invoice_page(public_id, invoice_id, form, 422)


def _choices(lines: list[giving.Line]) -> list[tuple[str, str]]:
    words = [
        (
            str(line.position),
            f"{line.description}: {format_money(line.left, language())}",
        )
        for line in lines
        if line.can_be_credited
    ]
    return [(EVERYTHING, _("All that is left of this invoice")), *words] if words else []


def _invoice_page(
    public_id: str, invoice_id: str, form: CreditNoteForm, status: int = 200
) -> Response:
    page = giving.find_invoice(public_id, invoice_id, asking.reader(), asking.role())
    form.offer(_choices(page.lines))
    done = asking.done(SENT)
    return render("staff/money/invoice.html", None, status, page=page, form=form, done=done)


# Sending a bill again -------------------------------------------------------------------------


@bp.post(f"{_INVOICE}/send")
def invoice_send(public_id: str, invoice_id: str) -> BaseResponse:
    return go_to(giving.send_again(public_id, invoice_id, form_guard.arrived_key()))
