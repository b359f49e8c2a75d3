"""The pages between the right password and the session."""

from __future__ import annotations

from flask import Response, current_app, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import asking, bp, factors, passkeys, second_step, service, totp
from blueprints.auth.errors import CodeWrong, NothingPending, PasskeyRefused, SignInRefused
from blueprints.auth.factors import Step
from blueprints.auth.forms import CodeForm, PasskeyForm, SecondStepForm
from core import flows, form_guard
from core.htmx import go_to, render
from core.sessions import find_signed_in
from core.throttle import TooManyAttempts
from models import FactorKind


@bp.get("/sign-in/second-step")
def second_step_page() -> Response | BaseResponse:
    flow = flows.in_hand()
    person = find_signed_in()
    if flow.step == Step.PASSED and person is not None:
        return go_to(flow.facts["wanted"] or service.home_of(person))
    if flow.step == Step.ENROL:
        return go_to(url_for("auth.enrol"))
    return _page(SecondStepForm(formdata=None))


def _page(form: SecondStepForm, status: int = 200) -> Response | BaseResponse:
    flow = flows.in_hand()
    choice = second_step.find_choice(flow)
    if not choice.ways:
        return asking.begin_anew("ended")
    way = choice.best(form.by.data or request.args.get("by"))
    form.by.data = way
    options = None
    if way == FactorKind.PASSKEY:
        options = passkeys.options_to_give(
            flow.subject, flow.customer_id, must_verify=choice.is_staff
        )
    return render(
        "auth/second_step.html",
        None,
        status,
        form=form,
        way=way,
        others=[other for other in choice.ways if other != way],
        may_trust=choice.may_trust,
        is_sent="sent" in request.args or status != 200,
        options=options,
    )


@bp.post("/sign-in/second-step")
def second_step_post() -> Response | BaseResponse:
    form = SecondStepForm()
    if not form.validate():
        return _page(form, 422)
    given = second_step.Typed(form.by.data or "", form.code.data or "", bool(form.trust.data))
    try:
        return _finish(given)
    except (CodeWrong, PasskeyRefused) as refusal:
        form.code.errors = [refusal.customer_message]
        return _page(form, 422)


@bp.post("/sign-in/second-step/passkey")
def second_step_passkey() -> Response | BaseResponse:
    form = PasskeyForm()
    given = second_step.Typed(
        FactorKind.PASSKEY.value, form.credential.data or "", bool(form.trust.data)
    )
    try:
        return _finish(given)
    except (CodeWrong, PasskeyRefused) as refusal:
        shown = SecondStepForm(formdata=None)
        shown.by.data = FactorKind.PASSKEY.value
        shown.code.errors = [refusal.customer_message]
        return _page(shown, 422)


def _finish(given: second_step.Typed) -> BaseResponse:
    flow = flows.in_hand()
    try:
        opened = second_step.finish(flow, given, asking.browser(), asking.rules())
    except SignInRefused:
        return asking.begin_anew("ended")
    except TooManyAttempts as refusal:
        return _wait(refusal, given.way)
    return asking.let_in(opened, flow.facts["wanted"])


def _wait(refusal: TooManyAttempts, way: str) -> Response:
    back = url_for("auth.second_step_page", by=way)
    return asking.wait_page(refusal.retry_after_seconds, back)


@bp.post("/sign-in/second-step/send")
def second_step_send() -> Response | BaseResponse:
    way = request.form.get("by", "")
    path = url_for("auth.second_step_page", by=way, sent=1)
    try:
        return go_to(
            second_step.send_code(
                flows.in_hand(), way, form_guard.arrived_key(), asking.rules(), path
            )
        )
    except TooManyAttempts as refusal:
        return _wait(refusal, way)


# Staff who have none yet ----------------------------------------------------------------------


@bp.get("/sign-in/second-step/new")
def enrol() -> Response | BaseResponse:
    if flows.in_hand().step != Step.ENROL:
        return go_to(url_for("auth.second_step_page"))
    return _enrol_page(CodeForm(formdata=None))


def _enrol_page(form: CodeForm, status: int = 200) -> Response:
    flow = flows.in_hand()
    customer_id = flow.customer_id or 0
    pending = totp.find_pending(customer_id, current_app.config["PORTAL"].secret)
    return render(
        "auth/enrol.html",
        None,
        status,
        form=form,
        pending=pending,
        qr=totp.qr_code(pending.seed, factors.sign_in_id(customer_id)) if pending else None,
        options=passkeys.options_to_add(customer_id, is_staff=True),
    )


@bp.post("/sign-in/second-step/new/app")
def enrol_app() -> BaseResponse:
    flow = flows.in_hand()
    if flow.step == Step.ENROL:
        totp.start(flow.customer_id or 0, current_app.config["PORTAL"].secret)
    return go_to(url_for("auth.enrol"))


@bp.post("/sign-in/second-step/new")
def enrol_post() -> Response | BaseResponse:
    form, flow = CodeForm(), flows.in_hand()
    if not form.validate():
        return _enrol_page(form, 422)
    try:
        opened = second_step.enrol_app(flow, form.code.data or "", asking.browser(), asking.rules())
    except CodeWrong as refusal:
        form.code.errors = [refusal.customer_message]
        return _enrol_page(form, 422)
    except NothingPending:
        return go_to(url_for("auth.enrol"))
    except SignInRefused:
        return asking.begin_anew("ended")
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, url_for("auth.enrol"))
    return asking.let_in(opened, flow.facts["wanted"])


@bp.post("/sign-in/second-step/new/passkey")
def enrol_passkey() -> Response | BaseResponse:
    form, flow = PasskeyForm(), flows.in_hand()
    try:
        opened = second_step.enrol_passkey(
            flow,
            (form.name.data or "").strip()[:80],
            form.credential.data or "",
            asking.browser(),
            asking.rules(),
        )
    except (CodeWrong, PasskeyRefused) as refusal:
        shown = CodeForm(formdata=None)
        shown.code.errors = [refusal.customer_message]
        return _enrol_page(shown, 422)
    except SignInRefused:
        return asking.begin_anew("ended")
    return asking.let_in(opened, flow.facts["wanted"])
