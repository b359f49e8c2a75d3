"""A payment as staff see it, and giving it back."""

from __future__ import annotations

from flask import Response
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing import refunding
from blueprints.billing.errors import NoGateway, RefundRefused, TooMuchBack
from blueprints.staff.money import bp, refunds, statement
from blueprints.staff.money.forms import RefundForm
from blueprints.staff.views import asking
from core import form_guard
from core.forms import shown
from core.htmx import go_to, render
from core.money import format_plain
from core.sessions import signed_in
from core.step_up import recent_password

_PAYMENT = "/accounts/<public_id>/payments/<payment_id>"


@bp.get("/accounts/<public_id>/refund")
def refund(public_id: str) -> Response:
    page = refunds.list_refundable(public_id, asking.reader())
    return render("staff/money/refund.html", page=page)


@bp.get(_PAYMENT)
def payment(public_id: str, payment_id: str) -> Response:
    return _page(public_id, payment_id, shown(RefundForm))


@bp.post(_PAYMENT)
@recent_password
def payment_refund(public_id: str, payment_id: str) -> Response | BaseResponse:
    form = RefundForm()
    if not form.validate():
        return _page(public_id, payment_id, form, 422)
    try:
        refunding.ask_refund(
            statement.find_id(public_id),
            payment_id,
            form.amount.minor,
            form.reason.data or "",
            signed_in().customer_id,
            form_guard.arrived_key().intent,
        )
    except (NoGateway, RefundRefused, TooMuchBack) as refusal:
        form.amount.errors = [refusal.customer_message]
        return _page(public_id, payment_id, form, 422)
    return go_to(f"/staff/accounts/{public_id}/payments/{payment_id}")


def _page(public_id: str, payment_id: str, form: RefundForm, status: int = 200) -> Response:
    page = refunds.get_payment(public_id, payment_id, asking.reader())
    if form.amount.data is None:
        form.amount.data = format_plain(page.owed_again or page.left)
    return render("staff/money/payment.html", None, status, page=page, form=form)
