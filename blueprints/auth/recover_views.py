"""The pages of choosing a new password."""

from __future__ import annotations

from flask import Response, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import asking, bp, flow_pages, judging, recovering
from blueprints.auth.errors import PasswordWeak, RecoveryLinkDead, ResetOverdone
from blueprints.auth.forms import NewPasswordForm, WhichForm, WhoOrIdForm
from blueprints.auth.proving import Step
from core import flows, form_guard
from core.htmx import go_to, render
from core.throttle import TooManyAttempts
from models import Channel, FlowKind

PATHS = recovering.PATHS


def _ways() -> list[Channel]:
    return flow_pages.list_ways(has_post=False)


@bp.get("/recover")
def recover() -> Response:
    return flow_pages.first_page("auth/recover.html", WhoOrIdForm(formdata=None))


@bp.post("/recover")
def recover_post() -> Response | BaseResponse:
    return flow_pages.begin(
        FlowKind.RECOVER, "auth/recover.html", WhoOrIdForm(), recovering.begin, PATHS
    )


@bp.get("/recover/way")
def recover_way() -> Response | BaseResponse:
    return flow_pages.way_page(PATHS, _ways())


@bp.post("/recover/way")
def recover_way_post() -> Response | BaseResponse:
    return flow_pages.send(PATHS, _ways(), recovering.send)


@bp.get("/recover/code")
def recover_code() -> Response | BaseResponse:
    return flow_pages.code_page(PATHS)


@bp.post("/recover/code")
def recover_code_post() -> Response | BaseResponse:
    return flow_pages.enter_code(PATHS, recovering.enter_code)


@bp.get("/recover/sent")
def recover_sent() -> Response | BaseResponse:
    return flow_pages.sent_page(PATHS, "auth/recover_sent.html")


@bp.get("/recover/which")
def recover_which() -> Response | BaseResponse:
    stray = flow_pages.elsewhere(PATHS, [Step.CHOOSE])
    return stray or _which_page(WhichForm([], formdata=None))


@bp.post("/recover/which")
def recover_which_post() -> Response | BaseResponse:
    stray = flow_pages.elsewhere(PATHS, [Step.CHOOSE])
    if stray is not None:
        return stray
    flow = flows.in_hand()
    form = WhichForm([public_id for public_id, *_about in recovering.list_proven(flow)])
    if not form.validate():
        return _which_page(form, 422)
    return go_to(recovering.choose(flow, form_guard.arrived_key(), form.which.data))


def _which_page(form: WhichForm, status: int = 200) -> Response:
    choices = recovering.list_proven(flows.in_hand())
    return render(
        "auth/which.html", None, status, form=form, choices=choices, action=PATHS[Step.CHOOSE]
    )


@bp.get("/recover/password")
def recover_password() -> Response | BaseResponse:
    stray = flow_pages.elsewhere(PATHS, [Step.LAST])
    return stray or _password_of_flow(NewPasswordForm(formdata=None))


@bp.post("/recover/password")
def recover_password_post() -> Response | BaseResponse:
    stray = flow_pages.elsewhere(PATHS, [Step.LAST, Step.DONE])
    if stray is not None:
        return stray
    form = NewPasswordForm()
    key = form_guard.arrived_key()
    if not form.validate():
        stray = flow_pages.elsewhere(PATHS, [Step.LAST])
        return stray or _password_of_flow(form, 422)
    try:
        path = recovering.reset_by_code(
            flows.in_hand(), key, form.password.data or "", asking.rules()
        )
    except PasswordWeak as refusal:
        form.password.errors = [refusal.customer_message]
        return _password_of_flow(form, 422)
    except ResetOverdone:
        return go_to("/recover?done=overdone")
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, url_for("auth.sign_in"))
    return go_to(path)


def _password_of_flow(form: NewPasswordForm, status: int = 200) -> Response:
    customer_id = flows.in_hand().customer_id or 0
    return _password_page(
        form,
        status,
        customer_id=customer_id,
        action=PATHS[Step.LAST],
        strength_path=url_for("auth.recover_strength"),
        is_flow=True,
    )


def _password_page(
    form: NewPasswordForm, status: int, customer_id: int, **more: object
) -> Response:
    sign_in_id = recovering.find_id(customer_id)
    page = render("auth/new_password.html", None, status, form=form, sign_in_id=sign_in_id, **more)
    return asking.set_pre_cookie(page)


@bp.post("/recover/strength")
def recover_strength() -> Response | BaseResponse:
    """What there is to say of the password that is being typed."""
    stray = flow_pages.elsewhere(PATHS, [Step.LAST])
    if stray is not None:
        return stray
    return asking.strength(judging.words_of_customer(flows.in_hand().customer_id or 0))


# By the link of an e-mail -----------------------------------------------------------------------


@bp.get("/recover/link/<token>")
def recover_link(token: str) -> Response:
    return _link_page(NewPasswordForm(formdata=None), token, 200)


@bp.post("/recover/link/<token>")
def recover_link_post(token: str) -> Response | BaseResponse:
    form = NewPasswordForm()
    if not form.validate():
        return _link_page(form, token, 422)
    try:
        path = recovering.reset_by_link(token, form.password.data or "", asking.rules())
    except PasswordWeak as refusal:
        form.password.errors = [refusal.customer_message]
        return _link_page(form, token, 422)
    except RecoveryLinkDead as dead:
        return _dead_page(dead)
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, request.path)
    return go_to(path)


@bp.post("/recover/link/<token>/strength")
def recover_link_strength(token: str) -> Response:
    """The same as `recover_strength` for whoever came by a link."""
    try:
        customer_id = recovering.find_link(token)
    except RecoveryLinkDead:
        return asking.say("")
    return asking.strength(judging.words_of_customer(customer_id))


def _link_page(form: NewPasswordForm, token: str, status: int) -> Response:
    try:
        customer_id = recovering.find_link(token)
    except RecoveryLinkDead as dead:
        return _dead_page(dead)
    return _password_page(
        form,
        status,
        customer_id=customer_id,
        action=url_for("auth.recover_link", token=token),
        strength_path=url_for("auth.recover_link_strength", token=token),
        is_flow=False,
    )


def _dead_page(dead: RecoveryLinkDead) -> Response:
    return render("auth/recover_dead.html", None, 410, why=dead.why)
