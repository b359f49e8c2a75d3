"""What the pages of registering, recovering and finding an ID have in common."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from flask import Response, current_app, request
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import asking, proving
from blueprints.auth.errors import CodeRefused
from blueprints.auth.forms import SentCodeForm, WayForm, WhoForm
from blueprints.auth.service import Browser, SignInRules
from core import constant_pages, flows, form_guard, htmx, outbox
from core.flows import FlowInHand
from core.form_keys import ArrivedKey, KeyReused
from core.htmx import go_to, render
from core.throttle import TooManyAttempts
from demo import REGISTERS
from models import Channel, FlowKind

Begin = Callable[[str, Browser, SignInRules, FlowInHand | None], tuple[str | None, str]]
Send = Callable[[FlowInHand, ArrivedKey, Channel, SignInRules], str]
Enter = Callable[[FlowInHand, ArrivedKey, str, SignInRules], str]


def first_page(template: str, form: WhoForm) -> Response:
    """Constant bytes; where a flow has ended, made for the visit."""
    if not request.args and not htmx.is_htmx():
        return asking.set_pre_cookie(
            constant_pages.answer(template, lambda: show_first(template, form))
        )
    return show_first(template, form, done=request.args.get("done"))


def show_first(
    template: str, form: WhoForm, status: int = 200, done: str | None = None
) -> Response:
    is_demo = current_app.config["PORTAL"].is_demo
    page = render(
        template, None, status, form=form, done=done, demo_account=REGISTERS if is_demo else ""
    )
    return asking.set_pre_cookie(page)


def begin(
    kind: FlowKind, template: str, form: WhoForm, work: Begin, paths: Mapping[str, str]
) -> Response | BaseResponse:
    """Begin the flow, or go on with the one that this browser has begun for the same."""
    if not form.validate():
        return show_first(template, form, 422)
    cookie = flows.flow_cookie(kind.value, is_https=current_app.config["PORTAL"].is_https)
    held = flows.find(kind.value, request.cookies.get(cookie))
    try:
        token, step = work(form.who.data or "", asking.browser(), asking.rules(), held)
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, request.path)
    if token is None:
        return go_to(paths[step])
    # The row says when it ends: the same cookie for everyone.
    return asking.begin_flow(kind, token, proving.LASTS_BY_POST, paths[step])


def elsewhere(paths: Mapping[str, str], steps: Collection[str]) -> BaseResponse | None:
    """Where the flow stands, when that is none of `steps`."""
    step = flows.in_hand().step
    return None if step in steps else go_to(paths[step])


def list_ways(*, has_post: bool) -> list[Channel]:
    """The ways that are offered: what this portal can send by, whoever asks."""
    ways = [way for way in (Channel.EMAIL, Channel.TEXT) if way.value in outbox.channels()]
    return [*ways, Channel.POST] if has_post else ways


def way_page(paths: Mapping[str, str], ways: Sequence[Channel]) -> Response | BaseResponse:
    form = WayForm(ways, formdata=None)
    form.way.data = flows.in_hand().facts.get("channel")
    return elsewhere(paths, proving.SENDING) or _show_way(form, ways, paths)


def _show_way(
    form: WayForm,
    ways: Sequence[Channel],
    paths: Mapping[str, str],
    status: int = 200,
) -> Response:
    return render("auth/way.html", None, status, form=form, ways=ways, paths=paths)


def send(paths: Mapping[str, str], ways: Sequence[Channel], work: Send) -> Response | BaseResponse:
    """Send by the way that was chosen."""
    form = WayForm(ways)
    if not form.validate():
        return elsewhere(paths, proving.SENDING) or _show_way(form, ways, paths, 422)
    try:
        key = form_guard.arrived_key()
        return go_to(work(flows.in_hand(), key, Channel(form.way.data), asking.rules()))
    except KeyReused:
        return go_to(paths[proving.Step.WAY])  # another way on a page gone back to: asked anew
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, request.path)


def code_page(paths: Mapping[str, str]) -> Response | BaseResponse:
    return elsewhere(paths, [proving.Step.CODE]) or _show_code(SentCodeForm(formdata=None), paths)


def _show_code(form: SentCodeForm, paths: Mapping[str, str], status: int = 200) -> Response:
    flow = flows.in_hand()
    return render(
        "auth/code.html",
        None,
        status,
        form=form,
        paths=paths,
        channel=flow.facts["channel"],
    )


def enter_code(paths: Mapping[str, str], work: Enter) -> Response | BaseResponse:
    """Use the code that was typed."""
    stray = elsewhere(paths, [proving.Step.CODE])
    if stray is not None:
        return stray
    form = SentCodeForm()
    if not form.validate():
        return _show_code(form, paths, 422)
    try:
        key = form_guard.arrived_key()
        return go_to(work(flows.in_hand(), key, form.code.data or "", asking.rules()))
    except CodeRefused as refusal:
        form.code.errors = [refusal.customer_message]
        form.code.data = ""
        return _show_code(form, paths, 422)
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, request.path)


def sent_page(paths: Mapping[str, str], template: str) -> Response | BaseResponse:
    """That a message is on its way, to whoever it concerns."""
    stray = elsewhere(paths, [proving.Step.SENT])
    return stray or render(template, paths=paths, channel=flows.in_hand().facts["channel"])
