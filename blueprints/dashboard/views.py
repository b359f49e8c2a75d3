"""Home, and the choice between several accounts."""

from __future__ import annotations

from flask import Response, g
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth.service import home_of
from blueprints.billing.views import can_pay, payment_gateway
from blueprints.dashboard import bp, service
from blueprints.dashboard.equipment.offering import is_offered
from core.htmx import go_to, render
from core.policy import SEES_MONEY
from core.sessions import find_signed_in, signed_in
from models import Role


@bp.get("/")
def index() -> BaseResponse:
    person = find_signed_in()
    return go_to("/sign-in" if person is None else home_of(person))


@bp.get("/accounts")
def choose_account() -> Response:
    accounts = service.list_accounts(signed_in().customer_id)
    return render("dashboard/choose_account.html", accounts=accounts)


@bp.get("/a/<account_public_id>/")
def home() -> Response:
    person = signed_in()
    role = Role(person.account.role) if person.account is not None else Role.TECHNICAL
    gateway = payment_gateway() if can_pay() else None
    page = service.find_home(
        g.account_id,
        person.customer_id,
        can_see_money=role in SEES_MONEY,
        pays_by=gateway.name if gateway is not None else None,
        is_owner=role is Role.OWNER,
    )
    return render("dashboard/home.html", page=page, has_equipment=is_offered())
