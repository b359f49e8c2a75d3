"""The pages of saved payment methods."""

from __future__ import annotations

from typing import Any

from flask import Response, current_app, g, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing.errors import NoGateway
from blueprints.billing.methods import adding, bp, choosing, listing, removing, settling
from blueprints.billing.methods.errors import SavingDenied, SavingSilent, TooManyMethods
from blueprints.billing.methods.forms import NameForm
from core.access import greet
from core.form_guard import arrived_key
from core.forms import shown
from core.htmx import go_out, go_to, render
from core.isp import current_isp
from core.sessions import find_signed_in, signed_in
from core.step_up import recent_password
from gateways.payments.base import PaymentGateway
from models import MethodState

DONE_WORDS = ("added", "failed", "unknown", "renamed", "preferred", "removed")
_ENDS = {
    MethodState.USABLE: "added",
    MethodState.FAILED: "failed",
    MethodState.REMOVED: "removed",
    MethodState.ADDING: "unknown",
}


def _gateway() -> PaymentGateway | None:
    gateway: PaymentGateway | None = current_app.extensions["payment_gateway"]
    return gateway


def _path(endpoint: str, **values: Any) -> str:
    account = signed_in().account
    public_id = account.public_id if account is not None else ""
    return url_for(f"billing.methods.{endpoint}", account_public_id=public_id, **values)


@bp.get("/")
def method_list() -> Response:
    done = request.args.get("done")
    gateway = _gateway()
    return render(
        "billing/methods/method_list.html",
        methods=listing.list_methods(g.account_id, signed_in().customer_id),
        gateway_title=gateway.title if gateway is not None else "",
        done=done if done in DONE_WORDS else None,
    )


# Adding -----------------------------------------------------------------------------------------


@bp.get("/add")
@recent_password
def method_add_page() -> Response:
    return _add_page()


def _add_page(refusal: str = "", status: int = 200) -> Response:
    gateway = _gateway()
    return render(
        "billing/methods/method_add.html",
        None,
        status,
        gateway_title=gateway.title if gateway is not None else "",
        refusal=refusal,
    )


@bp.post("/add")
@recent_password
def method_add() -> Response | BaseResponse:
    gateway = _gateway()
    if gateway is None:
        raise NoGateway
    public_url: str = current_app.config["PORTAL"].public_url
    try:
        saving = adding.add(
            g.account_id,
            signed_in().customer_id,
            arrived_key(),
            _path("method_list"),
            gateway,
            public_url + "/methods/{id}/return",
        )
    except (TooManyMethods, SavingDenied) as refusal:
        return _add_page(refusal.customer_message, 422)
    except SavingSilent as refusal:
        return _add_page(refusal.customer_message, 503)
    if saving.hosted_url is None:
        return go_to(_path("method_list"))
    return go_out(saving.hosted_url, gateway.origin)


def method_return(method_public_id: str) -> Response | BaseResponse:
    """Where the gateway sends the browser back to, by GET or by POST.

    As with payments it asks the gateway for the truth and works without a session, so it shows
    nothing but whether something is saved. Who saved it goes on to their list.
    """
    found = adding.find_for_return(method_public_id)
    gateway = _gateway()
    if current_isp().is_closed or gateway is None:
        return render("billing/methods/method_return.html", state=found.state)
    state = settling.settle(found.method_id, gateway)
    person = find_signed_in()
    if person is not None and person.customer_id == found.customer_id:
        path = url_for("billing.methods.method_list", account_public_id=found.account_public_id)
        return go_to(f"{path}?done={_ENDS[state]}")
    greet()
    return render("billing/methods/method_return.html", state=state, next_url="/")


# One method -------------------------------------------------------------------------------------


@bp.get("/<public_id>")
def method_detail(public_id: str) -> Response:
    method = listing.get_method(g.account_id, signed_in().customer_id, public_id)
    return _detail_page(shown(NameForm, name=method.name), public_id)


@bp.post("/<public_id>")
def method_rename(public_id: str) -> Response | BaseResponse:
    form = NameForm()
    if not form.validate():
        return _detail_page(form, public_id, 422)
    path = choosing.rename(
        g.account_id,
        signed_in().customer_id,
        public_id,
        form.name.data or "",
        arrived_key(),
        f"{_path('method_list')}?done=renamed",
    )
    return go_to(path)


def _detail_page(form: NameForm, public_id: str, status: int = 200) -> Response:
    method = listing.get_method(g.account_id, signed_in().customer_id, public_id)
    return render("billing/methods/method_detail.html", None, status, form=form, method=method)


@bp.post("/<public_id>/default")
def method_prefer(public_id: str) -> BaseResponse:
    path = choosing.make_default(
        g.account_id,
        signed_in().customer_id,
        public_id,
        arrived_key(),
        f"{_path('method_list')}?done=preferred",
    )
    return go_to(path)


@bp.get("/<public_id>/remove")
@recent_password
def method_remove_page(public_id: str) -> Response:
    return render(
        "billing/methods/method_remove.html",
        method=listing.get_method(g.account_id, signed_in().customer_id, public_id),
        used=listing.find_use(g.account_id, public_id),
    )


@bp.post("/<public_id>/remove")
@recent_password
def method_remove(public_id: str) -> BaseResponse:
    path = removing.remove(
        g.account_id,
        signed_in().customer_id,
        public_id,
        arrived_key(),
        f"{_path('method_list')}?done=removed",
    )
    return go_to(path)
