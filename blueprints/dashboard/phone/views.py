"""The pages of telephone numbers: what is on, switching it, and the calls."""

from __future__ import annotations

from datetime import date
from typing import Any

from flask import Response, current_app, g, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from blueprints.dashboard.phone import bp, call_pages, showing
from blueprints.dashboard.phone.forms import NumberForm
from blueprints.lines.phone import choosing
from blueprints.lines.phone.choosing import Having, effective
from blueprints.lines.phone.errors import ChosenMeanwhile, ForwardingRefused, NumberNotFound
from core import kept_forms
from core.db import db
from core.downloads import csv_answer
from core.form_guard import arrived_key
from core.htmx import go_to, render
from core.policy import OWNS
from core.sessions import signed_in
from core.step_up import recent_password
from core.words import format_hour, format_month
from gateways.voice.base import NumberSettings
from models import Role

DONE = ("saved",)


def _may_change() -> bool:
    account = signed_in().account
    is_owner = account is not None and Role(account.role) in OWNS
    # Staff who see the portal as its owner does are not shown where calls go.
    return is_owner and signed_in().viewer_id is None


@bp.get("/", endpoint="list")
def phone_page() -> Response:
    """The number that is asked for, or the first, which is mostly the only one."""
    all_of_it = choosing.list_having(db.session(), g.account_id)
    if not all_of_it:
        has_calls = _may_change() and bool(call_pages.list_months(g.account_id))
        return render("phone/none.html", has_calls=has_calls)
    asked = request.args.get("number")
    chosen = (each for each in all_of_it if each.number.public_id == asked)
    return _page(next(chosen, all_of_it[0]), all_of_it)


@bp.get("/numbers/<public_id>", endpoint="number")
def number_page(public_id: str) -> Response:
    all_of_it = choosing.list_having(db.session(), g.account_id)
    return _page(_of(all_of_it, public_id), all_of_it)


@bp.post("/numbers/<public_id>", endpoint="number_post")
def number_post(public_id: str) -> Response | BaseResponse:
    all_of_it = choosing.list_having(db.session(), g.account_id)
    having, form = _of(all_of_it, public_id), NumberForm()
    form.keep(having.included)
    if not form.validate():
        return _page(having, all_of_it, form, 422)
    account = signed_in().account
    path = url_for(
        "phone.number",
        account_public_id=account.public_id if account is not None else "",
        public_id=public_id,
        done="saved",
    )
    chosen, stamp = form.settings(), (form.stamp.data or "")[:40]
    customer_id, key = signed_in().customer_id, arrived_key()
    try:
        return go_to(
            choosing.choose(g.account_id, public_id, chosen, stamp, customer_id, path, key)
        )
    except ChosenMeanwhile as refusal:
        all_of_it = choosing.list_having(db.session(), g.account_id)
        having = _of(all_of_it, public_id)
        form.stamp.data = _stamp_of(having)
        return _page(having, all_of_it, form, 409, refusal.customer_message)
    except ForwardingRefused as refusal:
        form.forward_to.errors = [refusal.customer_message]
        return _page(having, all_of_it, form, 422)


def _of(all_of_it: list[Having], public_id: str) -> Having:
    for having in all_of_it:
        if having.number.public_id == public_id:
            return having
    raise NumberNotFound


def _page(
    having: Having,
    all_of_it: list[Having],
    form: NumberForm | None = None,
    status: int = 200,
    refusal: str = "",
) -> Response:
    if form is None:
        form = _form_of(having)
    return render(
        "phone/number.html",
        None,
        status,
        number=showing.view(having),
        numbers=[showing.view(each) for each in all_of_it] if len(all_of_it) > 1 else [],
        form=form,
        refusal=refusal,
        stands=effective(NumberSettings.of(having.number.wanted), having.included),
        may_change=_may_change(),
        has_gateway=current_app.extensions["voice_gateway"] is not None,
        done=request.args.get("done") if request.args.get("done") in DONE else None,
    )


def _form_of(having: Having) -> NumberForm:
    """What was chosen at last, or typed before the session ran out: of that, a box that was not
    ticked is not there, so that the two are never mixed."""
    secret = current_app.config["PORTAL"].secret
    kept = kept_forms.find(secret, signed_in(), request.path)
    form = NumberForm(formdata=None, data=_fields(having) if kept is None else kept)
    form.keep(having.included)
    return form


def _stamp_of(having: Having) -> str:
    return choosing.stamp_of(NumberSettings.of(having.number.wanted))


def _fields(having: Having) -> dict[str, Any]:
    chosen = NumberSettings.of(having.number.wanted)
    return {
        **{feature.value: True for feature in chosen.on},
        "stamp": _stamp_of(having),
        "forward_to": chosen.forward_to,
        "forward_when": chosen.forward_when.value,
        "quiet_from": chosen.quiet_from,
        "quiet_until": chosen.quiet_until,
    }


# Calls ------------------------------------------------------------------------------------------


@bp.get("/calls")
@recent_password
def calls() -> Response:
    months = call_pages.list_months(g.account_id)
    if not months:
        return render("phone/no_calls.html")
    page = request.args.get("page", 1, type=int)
    found = call_pages.find_calls(g.account_id, months, _asked_month(months), page)
    return render(
        "phone/calls.html",
        "call_rows",
        found=found,
        months=[(f"{month:%Y-%m}", format_month(month), month == found.month) for month in months],
        title_month=format_month(found.month),
        calls=[(format_hour(call.started_at), call) for call in found.calls],
        has_several=len({call.number for call in found.calls}) > 1,
    )


@bp.get("/calls/csv")
@recent_password
def calls_csv() -> Response | BaseResponse:
    """A row for each call of the month, for a spreadsheet."""
    months = call_pages.list_months(g.account_id)
    if not months:
        return render("phone/no_calls.html")
    month = _asked_month(months)
    return csv_answer(
        f"calls_{month:%Y-%m}.csv", call_pages.HEADER, call_pages.rows_of(g.account_id, month)
    )


def _asked_month(months: list[date]) -> date:
    """The month that is asked for, if there were calls in it, otherwise the newest."""
    asked = request.args.get("month", "")
    return next((month for month in months if f"{month:%Y-%m}" == asked), months[0])
