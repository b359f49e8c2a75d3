"""The pages of creating an online account."""

from __future__ import annotations

from flask import Response, request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import asking, bp, choosing, flow_pages, registering
from blueprints.auth.errors import AlreadyRegistered
from blueprints.auth.forms import WelcomeForm, WhichForm, WhoForm
from blueprints.auth.proving import Step
from blueprints.auth.service import Opened
from core import flows, form_guard
from core.htmx import go_to, render
from core.sessions import find_signed_in
from core.throttle import TooManyAttempts
from models import Channel, FlowKind

PATHS = registering.PATHS


def _ways() -> list[Channel]:
    return flow_pages.list_ways(has_post=True)


@bp.get("/register")
def register() -> Response:
    return flow_pages.first_page("auth/register.html", WhoForm(formdata=None))


@bp.post("/register")
def register_post() -> Response | BaseResponse:
    return flow_pages.begin(
        FlowKind.REGISTER, "auth/register.html", WhoForm(), registering.begin, PATHS
    )


@bp.get("/register/way")
def register_way() -> Response | BaseResponse:
    return flow_pages.way_page(PATHS, _ways())


@bp.post("/register/way")
def register_way_post() -> Response | BaseResponse:
    return flow_pages.send(PATHS, _ways(), registering.send)


@bp.get("/register/code")
def register_code() -> Response | BaseResponse:
    return flow_pages.code_page(PATHS)


@bp.post("/register/code")
def register_code_post() -> Response | BaseResponse:
    return flow_pages.enter_code(PATHS, registering.enter_code)


@bp.get("/register/account")
def register_account() -> Response | BaseResponse:
    return _stray([Step.CHOOSE]) or _which_page(WhichForm([], formdata=None))


@bp.post("/register/account")
def register_account_post() -> Response | BaseResponse:
    stray = _stray([Step.CHOOSE])
    if stray is not None:
        return stray
    flow = flows.in_hand()
    form = WhichForm([public_id for public_id, *_about in registering.list_proven(flow)])
    if not form.validate():
        return _which_page(form, 422)
    return go_to(registering.choose(flow, form_guard.arrived_key(), form.which.data))


def _which_page(form: WhichForm, status: int = 200) -> Response:
    choices = [
        (public_id, _("Account %(number)s", number=number), name)
        for public_id, number, name in registering.list_proven(flows.in_hand())
    ]
    return render(
        "auth/which.html", None, status, form=form, choices=choices, action=PATHS[Step.CHOOSE]
    )


@bp.get("/register/id")
def register_id() -> Response | BaseResponse:
    form = WelcomeForm(formdata=None)
    return _stray([Step.LAST]) or _id_page(form)


@bp.post("/register/id")
def register_id_post() -> Response | BaseResponse:
    stray = _stray([Step.LAST, Step.DONE])
    if stray is not None:
        return stray
    form = WelcomeForm()
    form_guard.arrived_key()
    try:
        opened = _finish(form)
    except AlreadyRegistered:
        return go_to("/register?done=taken")
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, url_for("auth.sign_in"))
    if form.errors:
        return _stray([Step.LAST]) or _id_page(form, 422)
    return asking.let_in(opened, None) if opened is not None else go_to(PATHS[Step.DONE])


def _finish(form: WelcomeForm) -> Opened | None:
    """The session of the new customer; otherwise the form says why not, or the flow is over."""
    flow = flows.in_hand()
    if not asking.is_well_formed(form, lambda: registering.words_of(flow)):
        return None
    with asking.RefusalsAt(form):
        return registering.finish(
            flow,
            form.sign_in_id.data or "",
            form.password.data or "",
            asking.browser(),
            asking.rules(),
        )
    return None


def _id_page(form: WelcomeForm, status: int = 200) -> Response:
    name = registering.find_name(flows.in_hand())
    return render(
        "auth/choose_id.html",
        None,
        status,
        form=form,
        account_name=name,
        free_ids=choosing.list_free_ids(name),
        action=PATHS[Step.LAST],
        strength_path=url_for("auth.register_strength"),
        free_path=url_for("auth.register_free"),
        is_flow=True,
    )


@bp.post("/register/strength")
def register_strength() -> Response | BaseResponse:
    """What there is to say of the password that is being typed."""
    stray = _stray([Step.LAST])
    if stray is not None:
        return stray
    context = [request.form.get("sign_in_id", ""), *registering.words_of(flows.in_hand())]
    return asking.strength(context)


@bp.post("/register/free")
def register_free() -> Response | BaseResponse:
    """Whether the ID that is being typed is free."""
    stray = _stray([Step.LAST])
    if stray is not None:
        return stray
    form = WelcomeForm()
    form.validate()
    if form.sign_in_id.errors:
        return asking.say(form.sign_in_id.errors[0])
    try:
        is_free = registering.is_free(flows.in_hand(), form.sign_in_id.data or "", asking.rules())
    except TooManyAttempts:
        return asking.say("")
    if is_free:
        return asking.say(_("This ID is free."))
    free_ids = choosing.list_free_ids(registering.find_name(flows.in_hand()))
    return asking.say(_("Somebody already has this ID. Free: %(ids)s", ids=", ".join(free_ids)))


def _stray(steps: list[Step]) -> BaseResponse | None:
    """Where the flow stands, when that is none of `steps`; whoever is signed in by now is home."""
    if flows.in_hand().step == Step.DONE and Step.DONE not in steps and find_signed_in():
        return go_to("/")
    return flow_pages.elsewhere(PATHS, steps)
