"""Taking cash and cheques at the counter, and the receipt on paper."""

from __future__ import annotations

from flask import Response
from flask_babel import gettext as _
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing import counter
from blueprints.billing.errors import AmountOutOfBounds, AmountUnusual
from blueprints.billing.owed import find_due
from blueprints.staff.money import bp, statement
from blueprints.staff.money.forms import TakeForm
from blueprints.staff.views import asking
from core import form_guard
from core.forms import shown
from core.htmx import go_to, render
from core.money import format_plain
from core.sessions import signed_in
from core.step_up import recent_password
from core.words import language, speaking

_TAKE = "/accounts/<public_id>/payments/new"


@bp.get(_TAKE)
def take(public_id: str) -> Response:
    return _page(public_id, shown(TakeForm))


@bp.post(_TAKE)
@recent_password
def take_post(public_id: str) -> Response | BaseResponse:
    form = TakeForm()
    if not form.validate():
        return _page(public_id, form, 422)
    try:
        return go_to(
            counter.take(
                statement.find_id(public_id),
                form.amount.minor,
                form.kind.data,
                form.note.data or "",
                signed_in().customer_id,
                form_guard.arrived_key(),
                f"/staff/accounts/{public_id}/payments/{{id}}/receipt",
                is_sure=form.is_sure.data,
            )
        )
    except AmountUnusual as refusal:
        form.is_sure.errors = [refusal.customer_message]
    except AmountOutOfBounds as refusal:
        form.amount.errors = [refusal.customer_message]
    return _page(public_id, form, 422)


def _page(public_id: str, form: TakeForm, status: int = 200) -> Response:
    head = statement.open_account(public_id, asking.reader())
    due = find_due(head.account_id)
    if form.amount.data is None and due.due:
        form.amount.data = format_plain(due.due)
    return render("staff/money/take.html", None, status, head=head, due=due, form=form)


@bp.get("/accounts/<public_id>/payments/<payment_id>/receipt")
def receipt(public_id: str, payment_id: str) -> Response:
    found = statement.find_receipt(public_id, payment_id, asking.reader())
    # What stands above the receipt is for the member of staff, in their own language.
    above = {
        "lang": language(),
        "back": _("Back to the account"),
        "hint": _("Booked. Print the receipt (Ctrl+P)."),
        "leave": _("Sign out"),
    }
    with speaking(found.head.language):
        return render("staff/money/receipt.html", receipt=found, above=above)
