"""Redeeming a voucher."""

from __future__ import annotations

from flask import Response, current_app, g, request
from flask_babel import ngettext
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing.vouchers import bp, service
from blueprints.billing.vouchers.errors import VoucherRefused
from blueprints.billing.vouchers.forms import RedeemForm
from core import form_guard
from core.forms import shown
from core.htmx import go_to, render
from core.sessions import signed_in
from core.throttle import TooManyAttempts


@bp.get("/voucher")
def redeem() -> Response:
    return _page(shown(RedeemForm))


@bp.post("/voucher")
def redeem_post() -> Response | BaseResponse:
    form = RedeemForm()
    if not form.validate():
        return _page(form, 422)
    settings = current_app.config["PORTAL"]
    account = signed_in().account
    start = f"/a/{account.public_id}/billing" if account is not None else ""
    try:
        return go_to(
            service.redeem(
                g.account_id,
                signed_in().customer_id,
                form.voucher.data or "",
                form_guard.arrived_key(),
                f"{start}/payments/{{id}}",
                settings.secret,
                request.remote_addr or "",
                settings.shared_networks,
            )
        )
    except VoucherRefused as refusal:
        form.voucher.errors = [refusal.customer_message]
    except TooManyAttempts as refusal:
        minutes = -(-refusal.retry_after_seconds // 60)
        form.voucher.errors = [
            ngettext(
                "There were too many tries. Try again in %(num)s minute.",
                "There were too many tries. Try again in %(num)s minutes.",
                minutes,
            )
        ]
        page = _page(form, 429)
        page.headers["Retry-After"] = str(refusal.retry_after_seconds)
        return page
    return _page(form, 422)


def _page(form: RedeemForm, status: int = 200) -> Response:
    return render("vouchers/redeem.html", None, status, form=form)
