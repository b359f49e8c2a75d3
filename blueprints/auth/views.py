"""The pages of getting in and out."""

from __future__ import annotations

from flask import Response, g, request, session, url_for
from flask_login import logout_user
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import asking, bp, choosing, service
from blueprints.auth.asking import (
    begin_flow,
    browser,
    let_in,
    rules,
    set_pre_cookie,
    sign_in_page,
    wait_page,
)
from blueprints.auth.errors import LinkDead, SignInRefused
from blueprints.auth.forms import SignInForm, WelcomeForm
from core import constant_pages, htmx, maintenance
from core.htmx import go_to, render
from core.isp import current_isp
from core.paths import own_path
from core.sessions import PortalSession, find_signed_in, find_viewer
from core.throttle import TooManyAttempts
from models import FlowKind

DONE_WORDS = (
    *("signed-out", "registered", "expired", "ended"),
    *("factors-reset", "not-me", "not-me-unreached", "closed"),
    *("password-reset", "password-reset-check"),
)


@bp.get("/sign-in")
def sign_in() -> Response | BaseResponse:
    """Constant bytes on the first visit; with `next` or `done` it is made for the visit."""
    if not request.args and not htmx.is_htmx():
        return set_pre_cookie(
            constant_pages.answer("sign-in", lambda: sign_in_page(SignInForm(formdata=None)))
        )
    form = SignInForm(formdata=None)
    form.next.data = own_path(request.args.get("next")) or ""
    done = request.args.get("done")
    return sign_in_page(form, done=done if done in DONE_WORDS else None)


@bp.post("/sign-in")
def sign_in_post() -> Response | BaseResponse:
    form = SignInForm()
    if not form.validate():
        return sign_in_page(form, 422)
    try:
        return _sign_in(form)
    except SignInRefused as refusal:
        return sign_in_page(form, 422, refusal=refusal.customer_message)
    except TooManyAttempts as refusal:
        back = url_for("auth.sign_in", next=own_path(form.next.data))
        return wait_page(refusal.retry_after_seconds, back)


@bp.get("/staff/sign-in")
def staff_sign_in() -> Response | BaseResponse:
    """The way in of staff while the portal is closed."""
    if not current_isp().is_closed:
        return go_to(url_for("auth.sign_in", next=own_path(request.args.get("next"))))
    _look_for_view()
    form = SignInForm(formdata=None)
    form.next.data = own_path(request.args.get("next")) or ""
    return _staff_page(form)


@bp.post("/staff/sign-in")
def staff_sign_in_post() -> Response | BaseResponse:
    if not current_isp().is_closed:
        return sign_in_post()
    _look_for_view()
    form = SignInForm()
    if not form.validate():
        return _staff_page(form, 422)
    try:
        return _sign_in(form, only_staff=True)
    except SignInRefused:
        return maintenance.answer(is_for_people=True, is_refusal=True)
    except TooManyAttempts as refusal:
        back = url_for("auth.staff_sign_in", next=own_path(form.next.data))
        return wait_page(refusal.retry_after_seconds, back)


def _look_for_view() -> None:
    """Let the page offer the end of a view to whoever holds one: every other page is closed."""
    person = find_signed_in()
    if person is not None and person.viewer_id is not None:
        g.viewer = find_viewer(person)
        g.is_personal = g.viewer is not None


def _staff_page(form: SignInForm, status: int = 200) -> Response:
    done = request.args.get("done")
    return set_pre_cookie(render("auth/staff_sign_in.html", None, status, form=form, done=done))


def _sign_in(form: SignInForm, *, only_staff: bool = False) -> BaseResponse:
    """Let in whoever the form names, or lead on to the second step. Raises SignInRefused,
    TooManyAttempts."""
    wanted = own_path(form.next.data)
    opened = service.sign_in(
        form.sign_in_id.data or "",
        form.password.data or "",
        is_own_device=bool(form.own_device.data),
        browser=browser(),
        rules=rules(),
        wanted=wanted or "",
        only_staff=only_staff,
    )
    if isinstance(opened, service.HalfOpened):
        path = url_for("auth.second_step_page")
        return begin_flow(FlowKind.SIGN_IN, opened.flow_token, service.HALF_LASTS, path)
    return let_in(opened, wanted)


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
    response = asking.begin_anew("signed-out")
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
        if not asking.is_well_formed(form, lambda: _words_of(token)) or not _register(form, token):
            return _welcome_page(form, token, 422)
    except LinkDead:
        return render("auth/welcome_dead.html", None, 410)
    except TooManyAttempts as refusal:
        return wait_page(refusal.retry_after_seconds, url_for("auth.sign_in"))
    return go_to("/sign-in?done=registered")


def _register(form: WelcomeForm, token: str) -> bool:
    """Whether the customer was made; if not, the form says why."""
    with asking.RefusalsAt(form):
        service.register(token, form.sign_in_id.data or "", form.password.data or "", rules())
    return not form.errors


def _words_of(token: str) -> list[str]:
    """What is guessed first of the password of whoever has the link. Raises LinkDead."""
    account_id, _name, _number = service.find_invited_account(token)
    return choosing.words_of_account(account_id)


def _welcome_page(form: WelcomeForm, token: str, status: int = 200) -> Response:
    _, name, _number = service.find_invited_account(token)
    page = render(
        "auth/choose_id.html",
        None,
        status,
        form=form,
        account_name=name,
        free_ids=choosing.list_free_ids(name),
        action=url_for("auth.welcome", token=token),
        strength_path=url_for("auth.welcome_strength", token=token),
        free_path="",
        is_flow=False,
    )
    return set_pre_cookie(page)


@bp.post("/welcome/<token>/strength")
def welcome_strength(token: str) -> Response:
    """What there is to say of the password that is being typed."""
    try:
        words = _words_of(token)
    except LinkDead:
        return asking.say("")
    return asking.strength([request.form.get("sign_in_id", ""), *words])
