"""The page of autopay."""

from __future__ import annotations

import hashlib

from flask import Response, g, request
from flask_babel import gettext as _
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing.planned import addresses, autopay, bp, showing
from blueprints.billing.planned.errors import AutopayOfAnother, ConsentOutdated, MethodUnusable
from blueprints.billing.planned.forms import AutopayForm
from blueprints.billing.views import can_pay
from core.form_guard import arrived_key
from core.forms import shown
from core.htmx import go_to, render
from core.isp import current_isp
from core.money import Money, format_plain
from core.sessions import signed_in
from core.words import language
from models import Role

DONE_WORDS = ("on", "off")


def consent() -> str:
    """The sentence that a customer agrees to, in the language of the page."""
    return _(
        "I allow %(isp)s to take what each bill of this account asks from the card or bank account"
        " chosen here, on the day chosen here, until I switch this off. Above my limit I am asked"
        " first. I am told amount and day beforehand.",
        isp=current_isp().name,
    )


def _name_of(words: str) -> str:
    return hashlib.sha256(words.encode()).hexdigest()[:16]


@bp.get("/autopay", endpoint="autopay")
def autopay_page() -> Response:
    page = showing.find_autopay_page(g.account_id, signed_in().customer_id)
    now: dict[str, object] = {"days_before": "0"}
    standing = page.standing
    if standing is not None and standing.customer_id == signed_in().customer_id:
        now = {
            "method": standing.method_public_id,
            "days_before": str(standing.days_before),
            "ceiling": _typed(standing.ceiling),
            "range_from": _typed(standing.range_from),
            "range_to": _typed(standing.range_to),
        }
    return _page(shown(AutopayForm, **now), page)


def _typed(amount: Money | None) -> str:
    return "" if amount is None else format_plain(amount)


def _page(form: AutopayForm, page: showing.AutopayPage, status: int = 200) -> Response:
    person, words = signed_in(), consent()
    done = request.args.get("done")
    account = person.account
    return render(
        "billing/planned/autopay.html",
        None,
        status,
        form=form,
        page=page,
        consent=words,
        words=_name_of(words),
        rules=current_isp().billing_rules,
        is_own=page.standing is None or page.standing.customer_id == person.customer_id,
        is_owner=account is not None and account.role == Role.OWNER,
        has_bank=any(method.is_bank for method in page.methods),
        can_pay=can_pay(),
        done=done if done in DONE_WORDS else None,
    )


@bp.post("/autopay")
def autopay_post() -> Response | BaseResponse:
    form, words = AutopayForm(), consent()
    person = signed_in()
    if form.validate() and form.words.data != _name_of(words):
        form.agreed.errors = [ConsentOutdated().customer_message]
    if form.errors:
        return _again(form)
    wish = autopay.Wish(
        account_id=g.account_id,
        customer_id=person.customer_id,
        method_public_id=form.method.data or "",
        days_before=int(form.days_before.data),
        ceiling_minor=form.ceiling_minor,
        range_from_minor=form.from_minor,
        range_to_minor=form.to_minor,
        consent=words,
        language=language(),
        address=request.remote_addr or "",
    )
    path = addresses.of_account("billing.planned.autopay") + "?done=on"
    try:
        return go_to(autopay.switch_on(wish, arrived_key(), path))
    except (MethodUnusable, AutopayOfAnother) as refusal:
        form.method.errors = [refusal.customer_message]
        return _again(form)


def _again(form: AutopayForm) -> Response:
    return _page(form, showing.find_autopay_page(g.account_id, signed_in().customer_id), 422)


@bp.post("/autopay/off")
def autopay_off() -> BaseResponse:
    person = signed_in()
    is_owner = person.account is not None and person.account.role == Role.OWNER
    path = addresses.of_account("billing.planned.autopay") + "?done=off"
    return go_to(
        autopay.switch_off(g.account_id, person.customer_id, arrived_key(), path, is_owner=is_owner)
    )
