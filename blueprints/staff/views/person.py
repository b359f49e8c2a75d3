"""One who uses an account: how they sign in, and what helps when they cannot."""

from __future__ import annotations

from flask import Response
from werkzeug.wrappers import Response as BaseResponse

from blueprints.staff import bp, helping, looking
from blueprints.staff.errors import NoWayToReset
from blueprints.staff.views import asking
from core import form_guard
from core.htmx import go_to, render
from core.throttle import TooManyAttempts

DONE = ("unlocked", "ended", "reset")
_PATH = "/accounts/<account_id>/people/<public_id>"


@bp.get(_PATH)
def person(account_id: str, public_id: str) -> Response:
    return _page(account_id, public_id)


def _page(account_id: str, public_id: str, no_reset: str = "", status: int = 200) -> Response:
    page = looking.look_at_person(account_id, public_id, asking.role(), asking.reader())
    return render(
        "staff/person.html",
        None,
        status,
        page=page,
        done=asking.done(DONE),
        no_reset=no_reset,
    )


@bp.post(f"{_PATH}/reset")
def reset(account_id: str, public_id: str) -> Response | BaseResponse:
    key = form_guard.arrived_key()
    try:
        return go_to(
            helping.start_reset(account_id, public_id, asking.reader(), asking.secret(), key)
        )
    except NoWayToReset as refusal:
        return _page(account_id, public_id, refusal.customer_message, 422)
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, account_id)


@bp.post(f"{_PATH}/unlock")
def unlock(account_id: str, public_id: str) -> BaseResponse:
    key = form_guard.arrived_key()
    return go_to(helping.unlock(account_id, public_id, asking.reader(), asking.secret(), key))


@bp.post(f"{_PATH}/end-sessions")
def end_sessions(account_id: str, public_id: str) -> BaseResponse:
    key = form_guard.arrived_key()
    return go_to(helping.end_sessions(account_id, public_id, asking.reader(), key))
