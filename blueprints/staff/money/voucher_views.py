"""Batches of vouchers."""

from __future__ import annotations

from flask import Response
from flask_babel import gettext as _
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing.vouchers import batches
from blueprints.billing.vouchers.forms import CSV, BatchForm
from blueprints.staff.money import bp
from blueprints.staff.views import asking
from core import form_guard
from core.downloads import csv_answer
from core.forms import shown
from core.htmx import go_to, render
from core.sessions import signed_in
from core.step_up import recent_password

DONE = ("cancelled",)
COLUMNS = ("serial", "code", "amount", "currency", "expires_on")


@bp.get("/vouchers")
def vouchers() -> Response:
    return _page(shown(BatchForm))


@bp.post("/vouchers")
@recent_password
def voucher_make() -> Response | BaseResponse:
    """The one answer with the codes: they are shown once and never again."""
    form = BatchForm()
    if not form.validate():
        return _page(form, 422)
    if form.amount.minor > batches.MAXIMUM_MINOR:
        form.amount.errors = [_("No voucher is worth so much.")]
        return _page(form, 422)
    new = batches.NewBatch(
        form.name.data or "",
        form.amount.minor,
        form.count.data or 0,
        form.expires_on.data,
        signed_in().customer_id,
    )
    made = batches.make(new, form_guard.arrived_key(), asking.secret())
    if isinstance(made, str):
        return go_to(made)
    if form.form.data == CSV:
        return _file(made)
    return render("staff/money/voucher_print.html", printed=made)


def _file(made: batches.Printed) -> Response:
    batch = made.batch
    rows = (
        (serial, code, batch.amount, batch.amount.currency, batch.expires_on)
        for serial, code in enumerate(made.codes, start=1)
    )
    return csv_answer(f"vouchers-{batch.public_id}.csv", COLUMNS, rows)


@bp.get("/vouchers/<public_id>")
def voucher_batch(public_id: str) -> Response:
    batch = batches.get(public_id)
    return render("staff/money/voucher_batch.html", batch=batch, done=asking.done(DONE))


@bp.post("/vouchers/<public_id>")
@recent_password
def voucher_cancel(public_id: str) -> BaseResponse:
    batches.cancel(public_id)
    return go_to(f"{batches.path_of(public_id)}?done=cancelled")


def _page(form: BatchForm, status: int = 200) -> Response:
    found = batches.list_batches()
    return render("staff/money/vouchers.html", None, status, batches=found, form=form)
