"""The pages on which a customer sets things about themselves."""

from __future__ import annotations

from babel import Locale
from flask import Response, request
from flask_babel import gettext as _
from werkzeug.wrappers import Response as BaseResponse

from blueprints.auth import asking, judging, reach
from blueprints.auth.errors import PasswordWeak
from blueprints.dashboard.settings import bp, service, zones
from blueprints.dashboard.settings.errors import SecurityOff
from blueprints.dashboard.settings.forms import (
    LanguageForm,
    MessagesForm,
    NameForm,
    PasswordForm,
    TimeZoneForm,
)
from core import clock, topics
from core.db import db
from core.form_guard import arrived_key
from core.forms import shown
from core.htmx import go_to, render
from core.isp import current_isp
from core.sessions import signed_in
from core.step_up import recent_password
from core.words import language
from models import Channel

DONE_WORDS = ("name", "language", "time-zone", "password", "messages")


@bp.get("/")
def index() -> Response:
    person = signed_in()
    done = request.args.get("done")
    return render(
        "settings/index.html",
        page=service.find_index(person.customer_id),
        person=person,
        language_name=_own_name(language()),
        done=done if done in DONE_WORDS else None,
    )


# Name -----------------------------------------------------------------------------------------


@bp.get("/name")
def name() -> Response:
    return _name_page(shown(NameForm, name=signed_in().name))


@bp.post("/name")
def name_post() -> Response | BaseResponse:
    form = NameForm()
    if not form.validate():
        return _name_page(form, 422)
    return go_to(service.set_name(signed_in().customer_id, form.name.data or "", arrived_key()))


def _name_page(form: NameForm, status: int = 200) -> Response:
    return render("settings/name.html", None, status, form=form)


# Language and time zone -----------------------------------------------------------------------


@bp.get("/language", endpoint="language")
def language_page() -> Response:
    return _language_page(_offering(shown(LanguageForm, language=language())))


@bp.post("/language")
def language_post() -> Response | BaseResponse:
    form = _offering(LanguageForm())
    if not form.validate():
        return _language_page(form, 422)
    path = service.set_language(signed_in().customer_id, form.language.data or "", arrived_key())
    return go_to(path)


def _offering(form: LanguageForm) -> LanguageForm:
    form.language.choices = [(code, _own_name(code)) for code in current_isp().languages]
    return form


def _own_name(of_language: str) -> str:
    """What a language is called by those who speak it."""
    called = Locale.parse(of_language, sep="-").display_name or of_language
    return called[:1].upper() + called[1:]


def _language_page(form: LanguageForm, status: int = 200) -> Response:
    return render("settings/language.html", None, status, form=form)


@bp.get("/time-zone")
def time_zone() -> Response:
    form = shown(TimeZoneForm, time_zone=signed_in().timezone or current_isp().timezone)
    region = request.args.get("region", "")
    known = form.time_zone.data or current_isp().timezone
    return _time_zone_page(form, region if region in zones.regions() else zones.region_of(known))


@bp.post("/time-zone")
def time_zone_post() -> Response | BaseResponse:
    form = TimeZoneForm()
    zone = form.time_zone.data or ""
    if zone and not zones.is_zone(zone):
        form.time_zone.errors = [_("Choose one of the cities.")]
        return _time_zone_page(form, zones.region_of(zone), 422)
    path = service.set_time_zone(signed_in().customer_id, zone or None, arrived_key())
    return go_to(path)


def _time_zone_page(form: TimeZoneForm, region: str, status: int = 200) -> Response:
    spoken = language()
    named = [(zone, zones.city(zone, spoken)) for zone in zones.list_zones(region)]
    form.time_zone.choices = sorted(named, key=lambda pair: pair[1])
    return render(
        "settings/time_zone.html",
        None,
        status,
        form=form,
        region=region,
        isp_city=zones.city(current_isp().timezone, spoken),
        own_zone=signed_in().timezone,
        now=clock.now(),
    )


# Messages -------------------------------------------------------------------------------------


@bp.get("/messages")
def messages() -> Response:
    chosen = topics.choices_of(db.session(), signed_in().customer_id)
    now = {f"{topic}_{channel}": is_on for (topic, channel), is_on in chosen.items()}
    return _messages_page(shown(MessagesForm, **now))


@bp.post("/messages")
def messages_post() -> Response | BaseResponse:
    form = MessagesForm()
    wanted = {
        (topic, channel): bool(form[f"{topic}_{channel}"].data) for topic, channel in topics.USUAL
    }
    try:
        path = service.choose_messages(signed_in().customer_id, wanted, arrived_key())
    except SecurityOff as refusal:
        form["security_email"].errors = [refusal.customer_message]
        return _messages_page(form, 422)
    return go_to(path)


def _messages_page(form: MessagesForm, status: int = 200) -> Response:
    found = reach.of_customer(db.session(), signed_in().customer_id)
    has_phone = any(each.channel is Channel.TEXT and each.is_current for each in found)
    return render("settings/messages.html", None, status, form=form, has_phone=has_phone)


# Password -------------------------------------------------------------------------------------


@bp.get("/password")
@recent_password
def password() -> Response:
    return _password_page(PasswordForm(formdata=None))


@bp.post("/password")
@recent_password
def password_post() -> Response | BaseResponse:
    form = PasswordForm()
    if not form.validate():
        return _password_page(form, 422)
    person, key = signed_in(), arrived_key()
    try:
        path = service.change_password(person, form.password.data or "", key, asking.rules())
    except PasswordWeak as refusal:
        form.password.errors = [refusal.customer_message]
        return _password_page(form, 422)
    return go_to(path)


def _password_page(form: PasswordForm, status: int = 200) -> Response:
    return render(
        "settings/password.html",
        None,
        status,
        form=form,
        person=signed_in(),
        strength_path="/settings/password/strength",
    )


@bp.post("/password/strength")
def password_strength() -> Response:
    """What there is to say of the password that is being typed."""
    return asking.strength(judging.words_of_customer(signed_in().customer_id))
