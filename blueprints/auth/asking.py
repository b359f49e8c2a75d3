"""What the views of getting in read from a request and from the settings, and put into answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from flask import Response, current_app, request, session
from flask_login import login_user
from markupsafe import escape
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import choosing, passkeys, service
from blueprints.auth.errors import PasswordWeak, SignInIdTaken
from blueprints.auth.forms import LONGEST_ID, SignInForm, WelcomeForm
from blueprints.auth.service import Browser, Opened, SignInRules
from core import flows, passwords
from core.htmx import go_to, render
from core.isp import current_isp
from core.paths import own_path
from core.policy import STAFF_FIRST_PAGE
from core.sessions import (
    DEVICE_COOKIE,
    DEVICE_KEPT,
    PRE_COOKIE,
    SESSION_COOKIE,
    PortalSession,
    cookie_name,
)
from demo import DEMO_CUSTOMERS, DEMO_STAFF
from models import FlowKind


def browser() -> Browser:
    """Who is asking, by address and cookies."""
    is_https = current_app.config["PORTAL"].is_https
    return Browser(
        address=request.remote_addr or "",
        user_agent=request.user_agent.string,
        session_token=request.cookies.get(cookie_name(SESSION_COOKIE, is_https=is_https)),
        device_token=request.cookies.get(cookie_name(DEVICE_COOKIE, is_https=is_https)),
    )


def rules() -> SignInRules:
    """The parts of the settings that getting in needs."""
    portal = current_app.config["PORTAL"]
    return SignInRules(portal.secret, portal.data, portal.shared_networks)


def set_pre_cookie(response: Response) -> Response:
    """The cookie that a form posted before sign-in has to bring along (bar 39)."""
    is_https = current_app.config["PORTAL"].is_https
    response.set_cookie(
        cookie_name(PRE_COOKIE, is_https=is_https),
        "1",
        path="/",
        secure=is_https,
        httponly=True,
        samesite="Strict",
    )
    return response


def sign_in_page(form: SignInForm, status: int = 200, **more: object) -> Response:
    """The page where everybody begins."""
    context = {
        "refusal": None,
        "done": None,
        "has_passkeys": passkeys.are_possible(),
        "demo_customers": (
            (*DEMO_CUSTOMERS, *DEMO_STAFF) if current_app.config["PORTAL"].is_demo else ()
        ),
    } | more
    return set_pre_cookie(render("auth/sign_in.html", None, status, form=form, **context))


def begin_anew(done: str) -> BaseResponse:
    """To where signing in begins, with a word about what is `done`: while the portal is closed, to
    the way in of staff, as nobody else gets there."""
    first = STAFF_FIRST_PAGE if current_isp().is_closed else "/sign-in"
    return go_to(f"{first}?done={done}")


def wait_page(seconds: int, back: str) -> Response:
    """Too many tries: when to try again, and what else helps."""
    page = render("auth/wait.html", None, 429, retry_after=seconds, back=back)
    page.headers["Retry-After"] = str(seconds)
    return set_pre_cookie(page)


def let_in(opened: Opened, wanted: str | None) -> BaseResponse:
    """Hand the browser the session that was opened, and lead on: to the form that waits, to the
    page that was `wanted`, or home."""
    is_https = current_app.config["PORTAL"].is_https
    person = service.find_person(opened.session_token)
    if isinstance(session, PortalSession):
        session.begin(opened.session_token, person)
    login_user(person)
    target = own_path(opened.kept_form_path) or own_path(wanted)
    response = go_to(target or service.home_of(person))
    response.set_cookie(
        cookie_name(DEVICE_COOKIE, is_https=is_https),
        opened.device_token,
        max_age=DEVICE_KEPT,
        path="/",
        secure=is_https,
        httponly=True,
        samesite="Lax",
    )
    return response


def begin_flow(kind: FlowKind, token: str, lasts: timedelta, path: str) -> BaseResponse:
    """Hand the browser a flow that has begun, and lead to its page."""
    response = go_to(path)
    is_https = current_app.config["PORTAL"].is_https
    flows.set_cookie(response, kind, token, lasts, is_https=is_https)
    return response


class RefusalsAt:
    """Within the block, what is refused of a chosen ID or password is put at its field."""

    def __init__(self, form: WelcomeForm) -> None:
        self._form = form

    def __enter__(self) -> None:
        """Nothing is to be done beforehand."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, PasswordWeak):
            self._form.password.errors = [error.customer_message]
            if error.is_id_taken:
                self._form.sign_in_id.errors = [SignInIdTaken().customer_message]
        elif isinstance(error, SignInIdTaken):
            self._form.sign_in_id.errors = [error.customer_message]
        return isinstance(error, SignInIdTaken | PasswordWeak)


def is_well_formed(form: WelcomeForm, words: Callable[[], Sequence[str]]) -> bool:
    """Whether each field has its form. Where one has not, what is wrong with the password is said
    in the same answer; `words` are guessed first."""
    if form.validate():
        return True
    if not form.password.errors:
        typed_id = (form.sign_in_id.data or "")[:LONGEST_ID]
        with RefusalsAt(form):
            choosing.check_password(form.password.data or "", [*words(), typed_id])
    return False


def say(text: str) -> Response:
    """One line of words that is swapped into a page."""
    return Response(escape(text), mimetype="text/html")


def strength(context: Sequence[str]) -> Response:
    """What there is to say of the password in this request's form; `context` are words that are
    guessed first."""
    typed = request.form.get("password", "")[: passwords.MAX_LENGTH + 1]
    return say(choosing.strength_line(typed, context))
