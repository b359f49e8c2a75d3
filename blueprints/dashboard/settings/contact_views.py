"""The pages of e-mail addresses, phone numbers and the postal address."""

from __future__ import annotations

from flask import Response, current_app, request
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import asking
from blueprints.dashboard.settings import bp, contacting
from blueprints.dashboard.settings.contacting import ContactView, Owner
from blueprints.dashboard.settings.errors import (
    ContactGone,
    ContactInUse,
    ContactOnFile,
    ContactUnreadable,
    LastContact,
    WrongCode,
)
from blueprints.dashboard.settings.forms import AddressForm, CodeForm, EmailForm, PhoneForm
from core.db import db
from core.errors import NotFound
from core.form_guard import arrived_key
from core.forms import shown
from core.htmx import go_to, render
from core.sessions import signed_in
from core.step_up import recent_password
from core.throttle import TooManyAttempts

DONE_WORDS = ("added", "replaced", "removed", "withdrawn", "address")
FORMS: dict[str, type[EmailForm | PhoneForm]] = {"email": EmailForm, "phone": PhoneForm}


def _secret() -> bytes:
    secret: bytes = current_app.config["PORTAL"].secret
    return secret


def _owner(public_id: str) -> Owner:
    """Whose contacts are meant: of those that the customer may change, the only ones or by name."""
    owners = contacting.list_owners(db.session(), signed_in().customer_id)
    for owner in owners:
        if owner.public_id == public_id or (not public_id and len(owners) == 1):
            return owner
    raise NotFound


@bp.get("/contacts")
def contacts() -> Response:
    done = request.args.get("done")
    return render(
        "settings/contacts.html",
        books=contacting.list_books(signed_in().customer_id, _secret()),
        done=done if done in DONE_WORDS else None,
    )


# Adding and replacing ---------------------------------------------------------------------------


@bp.get("/contacts/add/<kind>")
@recent_password
def contact_add(kind: str) -> Response:
    if kind not in FORMS:
        raise NotFound
    form = shown(FORMS[kind], account=request.args.get("account", ""))
    return _add_page(form, kind)


@bp.post("/contacts/add/<kind>")
@recent_password
def contact_add_post(kind: str) -> Response | BaseResponse:
    if kind not in FORMS:
        raise NotFound
    form = FORMS[kind]()
    if not form.validate():
        return _add_page(form, kind, 422)
    return _ask(form, kind, _owner(form.account.data or ""), None)


def _add_page(form: EmailForm | PhoneForm, kind: str, status: int = 200) -> Response:
    owner = _owner(form.account.data or "")
    form.account.data = owner.public_id
    return render(
        "settings/contact_form.html",
        None,
        status,
        form=form,
        kind=kind,
        number=owner.number,
        replaced=None,
    )


@bp.get("/contacts/<name>/replace")
@recent_password
def contact_replace(name: str) -> Response:
    _, contact = contacting.get_contact(signed_in().customer_id, name, _secret())
    return _replace_page(shown(FORMS[contact.kind]), contact)


@bp.post("/contacts/<name>/replace")
@recent_password
def contact_replace_post(name: str) -> Response | BaseResponse:
    try:
        book, contact = contacting.get_contact(signed_in().customer_id, name, _secret())
    except ContactGone:
        return _where_it_stands()
    form = FORMS[contact.kind]()
    if not form.validate():
        return _replace_page(form, contact, 422)
    return _ask(form, contact.kind, book.owner, contact)


def _ask(
    form: EmailForm | PhoneForm, kind: str, owner: Owner, replaced: ContactView | None
) -> Response | BaseResponse:
    try:
        path = contacting.ask(
            signed_in().customer_id,
            owner,
            kind,
            form.value.data or "",
            arrived_key(),
            _secret(),
            replaces_id=replaced.contact_id if replaced is not None else None,
        )
    except (ContactUnreadable, ContactOnFile, ContactInUse) as refusal:
        form.value.errors = [refusal.customer_message]
        if replaced is None:
            return _add_page(form, kind, 422)
        return _replace_page(form, replaced, 422)
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, contacting.PAGE)
    return go_to(path)


def _replace_page(form: EmailForm | PhoneForm, contact: ContactView, status: int = 200) -> Response:
    return render(
        "settings/contact_form.html",
        None,
        status,
        form=form,
        kind=contact.kind,
        number="",
        replaced=contact,
    )


def _where_it_stands() -> BaseResponse:
    """Where a form leads whose contact is gone: it may be this very form that took it off.
    Raises ContactGone."""
    result = contacting.find_result(arrived_key())
    if result is None:
        raise ContactGone
    return go_to(result)


# The code -----------------------------------------------------------------------------------------


@bp.get("/contacts/changes/<public_id>")
@recent_password
def contact_code(public_id: str) -> Response:
    return _code_page(CodeForm(formdata=None), public_id)


@bp.post("/contacts/changes/<public_id>")
@recent_password
def contact_code_post(public_id: str) -> Response | BaseResponse:
    form = CodeForm()
    if not form.validate():
        return _code_page(form, public_id, 422)
    try:
        path = contacting.enter_code(
            signed_in().customer_id, public_id, form.code.data or "", arrived_key(), _secret()
        )
    except WrongCode as refusal:
        form.code.errors = [refusal.customer_message]
        return _code_page(form, public_id, 422)
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, request.path)
    return go_to(path)


def _code_page(form: CodeForm, public_id: str, status: int = 200) -> Response:
    # A code is never shown again (bar 77).
    form.code.data = ""
    return render(
        "settings/contact_code.html",
        None,
        status,
        form=form,
        pending=contacting.get_pending(signed_in().customer_id, public_id),
        done=request.args.get("done") == "sent",
    )


@bp.post("/contacts/changes/<public_id>/again")
def contact_send_again(public_id: str) -> Response | BaseResponse:
    try:
        path = contacting.send_again(signed_in().customer_id, public_id, arrived_key(), _secret())
    except TooManyAttempts as refusal:
        return asking.wait_page(refusal.retry_after_seconds, contacting.PAGE)
    return go_to(path)


@bp.post("/contacts/changes/<public_id>/withdraw")
def contact_withdraw(public_id: str) -> BaseResponse:
    return go_to(contacting.withdraw(signed_in().customer_id, public_id, arrived_key()))


# Removing ---------------------------------------------------------------------------------------


@bp.get("/contacts/<name>/remove")
@recent_password
def contact_remove(name: str) -> Response:
    book, contact = contacting.get_contact(signed_in().customer_id, name, _secret())
    return _remove_page(contact, LastContact().customer_message if book.has_one_left else "")


@bp.post("/contacts/<name>/remove")
@recent_password
def contact_remove_post(name: str) -> Response | BaseResponse:
    customer_id = signed_in().customer_id
    try:
        book, contact = contacting.get_contact(customer_id, name, _secret())
    except ContactGone:
        return _where_it_stands()
    try:
        path = contacting.remove(customer_id, book.owner, contact.contact_id, arrived_key())
    except (LastContact, ContactInUse) as refusal:
        return _remove_page(contact, refusal.customer_message, 422)
    return go_to(path)


def _remove_page(contact: ContactView, refusal: str = "", status: int = 200) -> Response:
    return render("settings/contact_remove.html", None, status, contact=contact, refusal=refusal)


# The postal address -----------------------------------------------------------------------------


@bp.get("/address")
@recent_password
def address() -> Response:
    return _address_page(shown(AddressForm, account=request.args.get("account", "")))


@bp.post("/address")
@recent_password
def address_post() -> Response | BaseResponse:
    form = AddressForm()
    if not form.validate():
        return _address_page(form, 422)
    owner = _owner(form.account.data or "")
    path = contacting.ask_for_address(
        signed_in().customer_id, owner.account_id, form.address.data or "", arrived_key()
    )
    return go_to(path)


def _address_page(form: AddressForm, status: int = 200) -> Response:
    owner = _owner(form.account.data or "")
    form.account.data = owner.public_id
    return render("settings/address.html", None, status, form=form, number=owner.number)
