"""Telephone numbers, for staff."""

from __future__ import annotations

from flask import Response, current_app, request, url_for
from sqlalchemy import select
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response as BaseResponse

from blueprints.lines.phone import numbers, syncing
from blueprints.lines.phone.errors import NumberRefused, ShownOtherwise
from blueprints.staff.phone import bp, listing
from blueprints.staff.phone.forms import GiveForm
from blueprints.staff.views import asking
from core import form_guard, form_keys
from core.db import db
from core.forms import shown
from core.htmx import go_to, render
from models import Subscription

DONE = ("given", "taken-back", "confirmed", "again")
_OF_ACCOUNT = "/accounts/<public_id>/phone"
_ONE = "/phone/<public_id>"


@bp.get("/phone", endpoint="list")
def phone_desk() -> Response:
    return _desk()


def _desk(refusal: str = "", status: int = 200) -> Response:
    return render(
        "staff/phone/desk.html",
        None,
        status,
        desk=listing.find_desk(asking.role(), asking.reader()),
        shown=listing.SHOWN,
        refusal=refusal,
        has_gateway=current_app.extensions["voice_gateway"] is not None,
        done=asking.done(DONE),
    )


@bp.get(_OF_ACCOUNT)
def account(public_id: str) -> Response:
    return _page(public_id, shown(GiveForm))


@bp.post(_OF_ACCOUNT)
def give(public_id: str) -> Response | BaseResponse:
    form = GiveForm()
    if not form.validate():
        return _page(public_id, form, 422)
    account_id = listing.find_account(db.session(), public_id).id
    path = url_for("staff.phone.account", public_id=public_id, done="given")
    try:
        number = numbers.read(form.number.data or "")

        def work(session: Session) -> str:
            chosen = session.scalar(
                select(Subscription.id).where(
                    Subscription.account_id == account_id,
                    Subscription.public_id == (form.subscription.data or ""),
                )
            )
            numbers.give(session, account_id, chosen, number, since=form.since.data)
            return path

        return go_to(form_keys.once(form_guard.arrived_key(), work, account_id))
    except NumberRefused as refusal:
        form.number.errors = [refusal.customer_message]
    return _page(public_id, form, 422)


@bp.post(f"{_ONE}/take-back")
def take_back(public_id: str) -> BaseResponse:
    account_public_id = listing.find_account_path(public_id)
    account_id = listing.find_account(db.session(), account_public_id).id
    path = url_for("staff.phone.account", public_id=account_public_id, done="taken-back")

    def work(session: Session) -> str:
        numbers.take_back(session, account_id, public_id)
        return path

    return go_to(form_keys.once(form_guard.arrived_key(), work, account_id))


@bp.post(f"{_ONE}/done")
def confirm(public_id: str) -> Response | BaseResponse:
    path = url_for("staff.phone.list", done="confirmed")
    stamp, key = request.form.get("stamp", "")[:40], form_guard.arrived_key()
    try:
        return go_to(syncing.confirm(public_id, stamp, path, key))
    except ShownOtherwise as refusal:
        return _desk(refusal.customer_message, 409)


@bp.post(f"{_ONE}/again")
def try_again(public_id: str) -> BaseResponse:
    path = url_for("staff.phone.list", done="again")
    return go_to(syncing.try_again(public_id, path, form_guard.arrived_key()))


def _page(public_id: str, form: GiveForm, status: int = 200) -> Response:
    page = listing.look_at_account(public_id, asking.role(), asking.reader())
    form.offer(page.missing)
    return render(
        "staff/phone/account.html",
        None,
        status,
        page=page,
        form=form,
        has_gateway=current_app.extensions["voice_gateway"] is not None,
        done=asking.done(DONE),
    )
