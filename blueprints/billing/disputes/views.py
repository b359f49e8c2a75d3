"""A customer's pages about what is wrong with a bill."""

from __future__ import annotations

from flask import Response, current_app, g, request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing.disputes import bp, service
from blueprints.billing.disputes.errors import DisputedBefore, DisputeOver, LineNotDisputable
from blueprints.billing.disputes.forms import DisputeForm, TextForm
from core import form_guard
from core.forms import shown
from core.htmx import go_to, render
from core.sessions import signed_in
from core.throttle import TooManyAttempts

_NEW = "/invoices/<public_id>/dispute"
_ONE = "/disputes/<public_id>"
DONE = ("opened", "written", "withdrawn")


def _path(public_id: str, done: str | None = None) -> str:
    """The page of a dispute, which says what was done."""
    account = signed_in().account
    return url_for(
        "billing.disputes.dispute",
        account_public_id=account.public_id if account is not None else "",
        public_id=public_id,
        done=done,
    )


def _secret() -> bytes:
    secret: bytes = current_app.config["PORTAL"].secret
    return secret


@bp.get(_NEW)
def dispute_new(public_id: str) -> Response:
    return _new_page(public_id, shown(DisputeForm))


@bp.post(_NEW)
def dispute_open(public_id: str) -> Response | BaseResponse:
    form = DisputeForm()
    form.offer(service.find_lines(g.account_id, public_id).lines)
    if not form.validate():
        return _new_page(public_id, form, 422)
    try:
        return go_to(
            service.open_dispute(
                g.account_id,
                public_id,
                int(form.line.data),
                form.text.data or "",
                signed_in().customer_id,
                form_guard.arrived_key(),
                _path("ID", "opened").replace("ID", "{id}"),
                _secret(),
            )
        )
    except DisputedBefore as before:
        return go_to(_path(before.public_id))
    except LineNotDisputable as refusal:
        form.line.errors = [refusal.customer_message]
    except TooManyAttempts:
        form.text.errors = [_too_much()]
        return _new_page(public_id, form, 429)
    return _new_page(public_id, form, 422)


def _too_much() -> str:
    return _("You have written a lot today. Call us instead, or write again tomorrow.")


def _new_page(public_id: str, form: DisputeForm, status: int = 200) -> Response:
    page = service.find_lines(g.account_id, public_id)
    form.offer(page.lines)
    return render("disputes/new.html", None, status, form=form, page=page)


@bp.get("/disputes/")
def dispute_list() -> Response:
    return render("disputes/list.html", disputes=service.list_of_account(g.account_id))


@bp.get(_ONE)
def dispute(public_id: str) -> Response:
    return _page(public_id, shown(TextForm))


@bp.post(_ONE)
def dispute_write(public_id: str) -> Response | BaseResponse:
    form = TextForm()
    if not form.validate():
        return _page(public_id, form, 422)
    try:
        return go_to(
            service.write(
                g.account_id,
                public_id,
                form.text.data or "",
                service.Writer(signed_in().customer_id),
                form_guard.arrived_key(),
                _path(public_id, "written"),
                _secret(),
            )
        )
    except DisputeOver as refusal:
        form.text.errors = [refusal.customer_message]
    except TooManyAttempts:
        form.text.errors = [_too_much()]
        return _page(public_id, form, 429)
    return _page(public_id, form, 422)


@bp.post(f"{_ONE}/withdraw")
def dispute_withdraw(public_id: str) -> BaseResponse:
    path = _path(public_id, "withdrawn")
    return go_to(service.withdraw(g.account_id, public_id, form_guard.arrived_key(), path))


def _page(public_id: str, form: TextForm, status: int = 200) -> Response:
    thread = service.get(public_id, g.account_id)
    done = request.args.get("done")
    return render(
        "disputes/thread.html",
        None,
        status,
        thread=thread,
        form=form,
        done=done if done in DONE else None,
    )
