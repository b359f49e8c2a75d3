"""How to pay without a card, and moving credit."""

from __future__ import annotations

from flask import Response, g, request
from werkzeug.wrappers import Response as BaseResponse

from blueprints.billing import owed, transfers
from blueprints.billing.errors import MoreThanCredit
from blueprints.billing.ways import bp
from blueprints.billing.ways.forms import MoveForm
from core import form_guard
from core.db import db
from core.forms import shown
from core.htmx import go_to, render
from core.money import format_plain
from core.sessions import signed_in


@bp.get("/how-to-pay")
def how_to_pay() -> Response:
    return render("ways/how_to_pay.html", page=owed.find_due(g.account_id))


@bp.get("/credit")
def credit_move() -> Response:
    return _page(shown(MoveForm))


@bp.post("/credit")
def credit_move_post() -> Response | BaseResponse:
    form = MoveForm()
    form.offer(transfers.list_others(db.session(), signed_in().customer_id, g.account_id))
    if not form.validate():
        return _page(form, 422)
    account = signed_in().account
    try:
        return go_to(
            transfers.move(
                signed_in().customer_id,
                g.account_id,
                form.to.data,
                form.amount.minor,
                form_guard.arrived_key(),
                f"/a/{account.public_id if account is not None else ''}/billing/credit?done=moved",
            )
        )
    except MoreThanCredit as refusal:
        form.amount.errors = [refusal.customer_message]
    return _page(form, 422)


def _page(form: MoveForm, status: int = 200) -> Response:
    due = owed.find_due(g.account_id)
    others = transfers.list_others(db.session(), signed_in().customer_id, g.account_id)
    form.offer(others)
    if form.amount.data is None and due.credit is not None:
        form.amount.data = format_plain(due.credit)
    is_done = request.args.get("done") == "moved"
    return render(
        "ways/credit_move.html", None, status, form=form, due=due, others=others, is_done=is_done
    )
