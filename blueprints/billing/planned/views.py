"""The pages of scheduled payments, and of anything that is planned."""

from __future__ import annotations

from flask import Response, g, request
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing import payment_pages
from blueprints.billing.errors import (
    AmountChanged,
    AmountOutOfBounds,
    NoGateway,
    NothingToPay,
    PaymentUnderWay,
)
from blueprints.billing.planned import addresses, autopay, bp, scheduling, showing, taking
from blueprints.billing.planned.errors import (
    DayOutOfBounds,
    MethodUnusable,
    NotChangeable,
    PlannedNotFound,
    TooMuchPlanned,
)
from blueprints.billing.planned.forms import ScheduleForm
from blueprints.billing.starting import Choice
from blueprints.billing.views import can_pay, payment_gateway
from core.errors import Refusal
from core.form_guard import arrived_key
from core.forms import shown
from core.htmx import go_to, render
from core.money import format_plain
from core.sessions import signed_in

_OF_FIELDS: dict[type[Refusal], str] = {
    AmountChanged: "amount",
    AmountOutOfBounds: "amount",
    NothingToPay: "amount",
    DayOutOfBounds: "day",
    MethodUnusable: "method",
    TooMuchPlanned: "day",
}


# Scheduling -------------------------------------------------------------------------------------


@bp.get("/schedule")
def schedule() -> Response:
    return _schedule_page(shown(ScheduleForm))


@bp.post("/schedule")
def schedule_post() -> Response | BaseResponse:
    form = ScheduleForm()
    if not form.validate():
        return _schedule_page(form, status=422)
    path = addresses.to_fill("billing.planned.planned_detail")
    try:
        return go_to(scheduling.schedule(_wish(form), arrived_key(), path))
    except tuple(_OF_FIELDS) as refusal:
        form[_OF_FIELDS[type(refusal)]].errors = [refusal.customer_message]
        return _schedule_page(form, status=422)


@bp.get("/planned/<public_id>/change")
def change(public_id: str) -> Response | BaseResponse:
    planned = _get_own(public_id)
    if not planned.can_change:
        return go_to(addresses.of_planned(public_id))
    now = {
        "method": planned.method_public_id,
        "choice": Choice.OTHER.value,
        "amount": format_plain(planned.amount),
        "day": planned.due_on.isoformat(),
    }
    return _schedule_page(shown(ScheduleForm, **now), public_id)


@bp.post("/planned/<public_id>/change")
def change_post(public_id: str) -> Response | BaseResponse:
    _get_own(public_id)
    form = ScheduleForm()
    if not form.validate():
        return _schedule_page(form, public_id, 422)
    path = addresses.of_planned(public_id)
    try:
        return go_to(scheduling.change(public_id, _wish(form), arrived_key(), path))
    except NotChangeable:
        return go_to(path)
    except tuple(_OF_FIELDS) as refusal:
        form[_OF_FIELDS[type(refusal)]].errors = [refusal.customer_message]
        return _schedule_page(form, public_id, 422)


def _get_own(public_id: str) -> showing.PlannedDetail:
    planned = showing.get_planned(g.account_id, signed_in().customer_id, public_id)
    if not planned.is_own:
        raise PlannedNotFound
    return planned


def _wish(form: ScheduleForm) -> scheduling.Wish:
    return scheduling.Wish(
        account_id=g.account_id,
        customer_id=signed_in().customer_id,
        method_public_id=form.method.data or "",
        choice=Choice(form.choice.data),
        amount_minor=form.amount_minor,
        shown_minor=request.form.get("shown_balance", type=int),
        due_on=form.due_on,
    )


def _schedule_page(form: ScheduleForm, public_id: str | None = None, status: int = 200) -> Response:
    page = showing.find_schedule_page(g.account_id, signed_in().customer_id, public_id)
    return render(
        "billing/planned/schedule.html",
        None,
        status,
        form=form,
        page=page,
        public_id=public_id,
        can_pay=can_pay(),
    )


# One planned payment ----------------------------------------------------------------------------


@bp.get("/planned/<public_id>")
def planned_detail(public_id: str) -> Response:
    planned = showing.get_planned(g.account_id, signed_in().customer_id, public_id)
    return render("billing/planned/planned_detail.html", planned=planned, refusal="")


@bp.post("/planned/<public_id>/cancel")
def planned_cancel(public_id: str) -> BaseResponse:
    path = addresses.of_planned(public_id)
    try:
        customer_id = signed_in().customer_id
        path = scheduling.cancel(g.account_id, customer_id, public_id, arrived_key(), path)
    except NotChangeable:
        pass  # the page says where it stands now
    return go_to(path)


@bp.post("/planned/<public_id>/try")
def planned_try(public_id: str) -> Response | BaseResponse:
    gateway = payment_gateway()
    if gateway is None:
        raise NoGateway
    customer_id = signed_in().customer_id
    path = addresses.to_fill("billing.payment_detail")
    try:
        return go_to(
            taking.try_now(g.account_id, customer_id, public_id, arrived_key(), path, gateway)
        )
    except PaymentUnderWay as under_way:
        payment = payment_pages.get_payment(g.account_id, under_way.public_id, can_pay=can_pay())
        return render("billing/payment_under_way.html", None, 409, payment=payment)
    except (NothingToPay, MethodUnusable, NotChangeable) as refusal:
        planned = showing.get_planned(g.account_id, customer_id, public_id)
        words = refusal.customer_message
        return render(
            "billing/planned/planned_detail.html", None, 409, planned=planned, refusal=words
        )


@bp.post("/planned/<public_id>/pay")
def planned_pay(public_id: str) -> BaseResponse:
    """Let autopay pay the bill that is above the limit."""
    return _answer(public_id, is_yes=True)


@bp.post("/planned/<public_id>/skip")
def planned_skip(public_id: str) -> BaseResponse:
    """Let autopay leave it alone."""
    return _answer(public_id, is_yes=False)


def _answer(public_id: str, *, is_yes: bool) -> BaseResponse:
    path = addresses.of_planned(public_id)
    try:
        customer_id = signed_in().customer_id
        autopay.answer(g.account_id, customer_id, public_id, arrived_key(), path, is_yes=is_yes)
    except NotChangeable:
        pass  # the page says where it stands now
    return go_to(path)
