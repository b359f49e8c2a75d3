"""The pages of getting in and out."""

from __future__ import annotations

from flask import Response, current_app, request, session, url_for
from flask_login import login_user, logout_user
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import bp, service
from blueprints.auth.asking import browser, rules, set_pre_cookie, wait_page
from blueprints.auth.errors import LinkDead, PasswordWeak, SignInIdTaken, SignInRefused
from blueprints.auth.forms import SignInForm, WelcomeForm
from core import constant_pages, htmx
from core.htmx import go_to, render
from core.paths import own_path
from core.sessions import (
    DEVICE_COOKIE,
    DEVICE_KEPT,
    PortalSession,
    cookie_name,
    find_signed_in,
)
from core.throttle import TooManyAttempts
from demo import DEMO_CUSTOMERS

DONE_WORDS = ("signed-out", "registered", "expired")


def _sign_in_page(form: SignInForm, status: int = 200, **more: object) -> Response:
    context = {
        "refusal": None,
        "done": None,
        "demo_customers": DEMO_CUSTOMERS if current_app.config["PORTAL"].is_demo else (),
    } | more
    return set_pre_cookie(render("auth/sign_in.html", None, status, form=form, **context))


@bp.get("/sign-in")
def sign_in() -> Response | BaseResponse:
    """Constant bytes on the first visit; with `next` or `done` it is made for the visit."""
    if not request.args and not htmx.is_htmx():
        return set_pre_cookie(
            constant_pages.answer("sign-in", lambda: _sign_in_page(SignInForm(formdata=None)))
        )
    form = SignInForm(formdata=None)
    form.next.data = own_path(request.args.get("next")) or ""
    done = request.args.get("done")
    return _sign_in_page(form, done=done if done in DONE_WORDS else None)


@bp.post("/sign-in")
def sign_in_post() -> Response | BaseResponse:
    form = SignInForm()
    if not form.validate():
        return _sign_in_page(form, 422)
    try:
        opened = service.sign_in(
            form.sign_in_id.data or "",
            form.password.data or "",
            is_own_device=bool(form.own_device.data),
            browser=browser(),
            rules=rules(),
        )
    except SignInRefused as refusal:
        return _sign_in_page(form, 422, refusal=refusal.customer_message)
    except TooManyAttempts as refusal:
        back = url_for("auth.sign_in", next=own_path(form.next.data))
        return wait_page(refusal.retry_after_seconds, back)
    return _let_in(opened, form)


def _let_in(opened: service.Opened, form: SignInForm) -> BaseResponse:
    is_https = current_app.config["PORTAL"].is_https
    person = service.find_person(opened.session_token)
    if isinstance(session, PortalSession):
        session.begin(opened.session_token, person)
    login_user(person)
    wanted = own_path(opened.kept_form_path) or own_path(form.next.data)
    response = go_to(wanted or service.home_of(person))
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


@bp.post("/sign-out")
def sign_out() -> BaseResponse:
    person = find_signed_in()
    if person is not None:
        service.sign_out(person.session_id)
    logout_user()
    if isinstance(session, PortalSession):
        expired = session.find_expired()
        if expired is not None:
            service.sign_out(expired.session_id)
        session.finish()
    response = go_to("/sign-in?done=signed-out")
    response.headers["Clear-Site-Data"] = '"cache", "storage"'
    return response


@bp.get("/welcome/<token>")
def welcome(token: str) -> Response:
    try:
        return _welcome_page(WelcomeForm(formdata=None), token)
    except LinkDead:
        return render("auth/welcome_dead.html", None, 410)


@bp.post("/welcome/<token>")
def welcome_post(token: str) -> Response | BaseResponse:
    form = WelcomeForm()
    try:
        if not form.validate() or not _register(form, token):
            return _welcome_page(form, token, 422)
    except LinkDead:
        return render("auth/welcome_dead.html", None, 410)
    except TooManyAttempts as refusal:
        return wait_page(refusal.retry_after_seconds, url_for("auth.sign_in"))
    return go_to("/sign-in?done=registered")


def _register(form: WelcomeForm, token: str) -> bool:
    """Whether the customer was made; if not, the form says why."""
    try:
        service.register(token, form.sign_in_id.data or "", form.password.data or "", rules())
    except SignInIdTaken as refusal:
        form.sign_in_id.errors = [refusal.customer_message]
    except PasswordWeak as refusal:
        form.password.errors = [refusal.customer_message]
    return not form.errors


def _welcome_page(form: WelcomeForm, token: str, status: int = 200) -> Response:
    _, name, _number = service.find_invited_account(token)
    page = render("auth/welcome.html", None, status, form=form, account_name=name, token=token)
    return set_pre_cookie(page)
