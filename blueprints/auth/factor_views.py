"""The pages on which customers look after their second steps, and passkeys where they stand in for
a password."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from flask import Response, current_app, request, session, url_for
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import (
    asking,
    bp,
    factors,
    message_factors,
    passkeys,
    recovery_codes,
    second_step,
    service,
    totp,
)
from blueprints.auth.errors import (
    CodeWrong,
    LastFactor,
    NothingPending,
    PasskeyRefused,
)
from blueprints.auth.forms import CodeForm, ContactForm, PasskeyForm, SignInForm
from blueprints.auth.service import SignInRules
from core import form_guard, kept_forms
from core.db import db
from core.htmx import go_to, render
from core.isp import current_isp
from core.paths import own_path
from core.sessions import PortalSession, signed_in
from core.step_up import recent_password
from core.throttle import TooManyAttempts
from models import FactorKind

DONE_WORDS = ("added", "removed", "codes", "check")


class Confirming(Protocol):
    """What lets a factor count once its code was typed.

    Raises NothingPending, CodeWrong, TooManyAttempts.
    """

    def __call__(
        self, customer_id: int, typed: str, rules: SignInRules, *, session_id: int
    ) -> None: ...


@bp.get("/settings/second-step")
def factor_list() -> Response:
    person = signed_in()
    held = factors.list_held(db.session(), person.customer_id)
    done = request.args.get("done")
    return render(
        "auth/factor_list.html",
        None,
        held=[(factor, factors.word(factor.kind)) for factor in held],
        codes_left=recovery_codes.count_left(db.session(), person.customer_id),
        # For staff a message is no second step.
        can_have_message=not factors.is_staff(db.session(), person.customer_id)
        and bool(message_factors.list_contacts(person.customer_id)),
        has_passkeys=passkeys.are_possible(),
        has_app=any(factor.kind is FactorKind.TOTP for factor in held),
        is_required=current_isp().requires_second_factor,
        done=done if done in DONE_WORDS else None,
    )


def _secret() -> bytes:
    secret: bytes = current_app.config["PORTAL"].secret
    return secret


def _added() -> BaseResponse:
    """After the first factor come the recovery codes, which are for when it is lost."""
    if recovery_codes.count_left(db.session(), signed_in().customer_id):
        return go_to(url_for("auth.factor_list", done="added"))
    return go_to(url_for("auth.recovery_codes_page", done="added"))


def _confirm(
    confirm: Confirming, page: Callable[[CodeForm, int], Response | BaseResponse]
) -> Response | BaseResponse:
    """Let the code that was typed confirm a factor; `page` shows its form again."""
    form, person = CodeForm(), signed_in()
    if not form.validate():
        return page(form, 422)
    try:
        confirm(
            person.customer_id,
            form.code.data or "",
            asking.rules(),
            session_id=person.session_id,
        )
    except CodeWrong as refusal:
        form.code.errors = [refusal.customer_message]
        return page(form, 422)
    except NothingPending:
        return go_to(url_for("auth.factor_list"))
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, request.path)
    return _added()


# An authenticator app -------------------------------------------------------------------------


@bp.get("/settings/second-step/app")
@recent_password
def app_page() -> Response:
    return render("auth/app_intro.html", None)


@bp.post("/settings/second-step/app")
@recent_password
def app_start() -> BaseResponse:
    totp.start(signed_in().customer_id, _secret())
    return go_to(url_for("auth.app_check"))


@bp.get("/settings/second-step/app/check")
@recent_password
def app_check() -> Response | BaseResponse:
    return _app_check_page(CodeForm(formdata=None))


def _app_check_page(form: CodeForm, status: int = 200) -> Response | BaseResponse:
    person = signed_in()
    pending = totp.find_pending(person.customer_id, _secret())
    if pending is None:
        return go_to(url_for("auth.factor_list"))
    qr = totp.qr_code(pending.seed, person.sign_in_id)
    return render("auth/app_check.html", None, status, form=form, pending=pending, qr=qr)


@bp.post("/settings/second-step/app/check")
@recent_password
def app_check_post() -> Response | BaseResponse:
    return _confirm(totp.confirm, _app_check_page)


# Codes by e-mail or text ----------------------------------------------------------------------


def _contact_form(kept: bool) -> ContactForm:
    person = signed_in()
    data = kept_forms.find(_secret(), person, request.path) if kept else None
    form = ContactForm(formdata=None, data=data) if kept else ContactForm()
    form.contact.choices = [
        (found.value, found.value) for found in message_factors.list_contacts(person.customer_id)
    ]
    return form


@bp.get("/settings/second-step/message")
@recent_password
def message_page() -> Response:
    return render("auth/message_factor.html", None, form=_contact_form(kept=True))


@bp.post("/settings/second-step/message")
@recent_password
def message_start() -> Response | BaseResponse:
    form = _contact_form(kept=False)
    if not form.validate():
        return render("auth/message_factor.html", None, 422, form=form)
    try:
        return go_to(
            message_factors.start(
                signed_in().customer_id,
                form.contact.data,
                form_guard.arrived_key(),
                asking.rules(),
                url_for("auth.message_check"),
            )
        )
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, url_for("auth.message_page"))


@bp.get("/settings/second-step/message/check")
@recent_password
def message_check() -> Response | BaseResponse:
    return _message_check_page(CodeForm(formdata=None))


def _message_check_page(form: CodeForm, status: int = 200) -> Response | BaseResponse:
    pending = message_factors.find_pending(signed_in().customer_id)
    if pending is None:
        return go_to(url_for("auth.factor_list"))
    return render("auth/message_check.html", None, status, form=form, pending=pending)


@bp.post("/settings/second-step/message/check")
@recent_password
def message_check_post() -> Response | BaseResponse:
    return _confirm(message_factors.confirm, _message_check_page)


@bp.post("/settings/second-step/message/send")
@recent_password
def message_send() -> Response | BaseResponse:
    path = url_for("auth.message_check")
    try:
        return go_to(
            message_factors.send_again(
                signed_in().customer_id, form_guard.arrived_key(), asking.rules(), path
            )
        )
    except NothingPending:
        return go_to(url_for("auth.factor_list"))
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, path)


@bp.get("/settings/second-step/message/send")
def message_send_page() -> BaseResponse:
    """Where the password leads back to that was asked for before sending."""
    return go_to(url_for("auth.message_check"))


# Passkeys -------------------------------------------------------------------------------------


@bp.get("/settings/second-step/passkey")
@recent_password
def passkey_page() -> Response:
    kept = kept_forms.find(_secret(), signed_in(), request.path)
    return _passkey_page(PasskeyForm(formdata=None, data=kept))


def _passkey_page(form: PasskeyForm, status: int = 200) -> Response:
    person = signed_in()
    is_staff = factors.is_staff(db.session(), person.customer_id)
    options = passkeys.options_to_add(person.customer_id, is_staff=is_staff)
    return render("auth/passkey_add.html", None, status, form=form, options=options)


@bp.post("/settings/second-step/passkey")
@recent_password
def passkey_add() -> Response | BaseResponse:
    form, person = PasskeyForm(), signed_in()
    try:
        passkeys.add(
            person.customer_id,
            (form.name.data or "").strip()[:80],
            form.credential.data or "",
            is_staff=factors.is_staff(db.session(), person.customer_id),
            session_id=person.session_id,
        )
    except PasskeyRefused as refusal:
        form.name.errors = [refusal.customer_message]
        return _passkey_page(form, 422)
    return _added()


@bp.get("/sign-in/passkey")
def passkey_options() -> Response:
    """What the sign-in page's script calls the browser with; it stores nothing."""
    options = passkeys.options_to_give(passkeys.ANYBODY, None, must_verify=True)
    return Response(options, mimetype="application/json")


@bp.post("/sign-in/passkey")
def passkey_sign_in() -> Response | BaseResponse:
    form = PasskeyForm()
    try:
        opened = second_step.sign_in_by_passkey(
            form.credential.data or "",
            is_own_device=bool(form.own_device.data),
            browser=asking.browser(),
            rules=asking.rules(),
        )
    except PasskeyRefused as refusal:
        shown = SignInForm(formdata=None)
        shown.own_device.data, shown.next.data = form.own_device.data, own_path(form.next.data)
        return asking.sign_in_page(shown, 422, refusal=refusal.customer_message)
    return asking.let_in(opened, form.next.data)


@bp.post("/confirm/passkey")
def confirm_passkey() -> BaseResponse:
    form = PasskeyForm()
    back = own_path(form.next.data) or "/"
    try:
        token = second_step.confirm_by_passkey(signed_in(), form.credential.data or "")
    except PasskeyRefused:
        return go_to(url_for("auth.confirm", next=back, done="refused"))
    if isinstance(session, PortalSession):
        session.begin(token, service.find_person(token))
    return go_to(back)


# Recovery codes -------------------------------------------------------------------------------


@bp.get("/settings/second-step/recovery-codes")
@recent_password
def recovery_codes_page() -> Response:
    left = recovery_codes.count_left(db.session(), signed_in().customer_id)
    done = request.args.get("done")
    return render("auth/recovery_codes.html", None, left=left, is_added=done == "added")


@bp.post("/settings/second-step/recovery-codes")
@recent_password
def recovery_codes_make() -> Response | BaseResponse:
    """Answers with the codes, which cannot be shown by another page: they are stored hashed."""
    person = signed_in()
    if not factors.list_held(db.session(), person.customer_id):
        return go_to(url_for("auth.factor_list"))
    shown = recovery_codes.make(person.customer_id, _secret())
    return render("auth/recovery_codes_shown.html", None, shown=shown)


@bp.post("/settings/second-step/recovery-codes/kept")
def recovery_codes_kept() -> BaseResponse:
    """Writing codes down takes longer than a password stays recent; showing them asked for it."""
    person = signed_in()
    try:
        recovery_codes.confirm(person.customer_id, request.form.get("batch", ""), person.session_id)
    except NothingPending:
        return go_to(url_for("auth.recovery_codes_page"))
    return go_to(url_for("auth.factor_list", done="codes"))


# Taking away ----------------------------------------------------------------------------------


@bp.get("/settings/second-step/remove")
@recent_password
def factor_remove_page() -> Response | BaseResponse:
    kept = kept_forms.find(_secret(), signed_in(), request.path) or {}
    public_id = request.args.get("factor", kept.get("factor"))
    if public_id is None:
        return go_to(url_for("auth.factor_list"))
    return _remove_page(public_id)


def _remove_page(public_id: str, refusal: str = "", status: int = 200) -> Response:
    person = signed_in()
    factor = factors.find_own(person.customer_id, public_id)
    return render(
        "auth/factor_remove.html",
        None,
        status,
        factor=factor,
        word=factors.word(factor.kind),
        is_last=len(factors.list_held(db.session(), person.customer_id)) == 1,
        may_remove=factors.may_remove(db.session(), person.customer_id, factor),
        refusal=refusal,
    )


@bp.post("/settings/second-step/remove")
@recent_password
def factor_remove() -> Response | BaseResponse:
    person, public_id = signed_in(), request.form.get("factor", "")
    try:
        factors.remove(person.customer_id, public_id, person.session_id)
    except LastFactor as refusal:
        return _remove_page(public_id, refusal.customer_message, 422)
    return go_to(url_for("auth.factor_list", done="removed"))
