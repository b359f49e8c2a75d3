"""The portal: `create_app()` puts it together, `python app.py` serves it with its worker."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Before anything else: what watches over the processes needs none of what they answer with.
    from core.serve import main

    main(sys.argv[1:])
    sys.exit()

import hashlib
import io
import json
import os
from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any

from flask import Flask, Request, Response, current_app, g, session
from flask_babel import Babel
from flask_login import LoginManager
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.exceptions import NotFound
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import MapAdapter

from blueprints import api, auth, billing, dashboard, demo, staff, support
from blueprints.billing.methods.views import method_return
from blueprints.billing.views import payment_return
from blueprints.dashboard import activity as activity_pages
from blueprints.dashboard import equipment as equipment_pages
from blueprints.dashboard import people as people_pages
from blueprints.dashboard import phone as phone_pages
from blueprints.dashboard import plans as plan_pages
from blueprints.dashboard import settings as settings_pages
from blueprints.dashboard import usage as usage_pages
from core import (
    access,
    assets,
    cache,
    clock,
    error_pages,
    form_guard,
    front,
    headers,
    leaving,
    log,
    maintenance,
    metrics,
    nightly,
    proxies,
    supervisor,
    templates,
    vital_signs,
    words,
    worker,
)
from core.commands import CommandsByPlace
from core.compression import compress
from core.db import check_engine, configure, db, forget_reader
from core.isp import NotSetUp, current_isp, is_pinned
from core.observed import Observed
from core.passwords import check_cost
from core.policy import check_policy
from core.sessions import (
    PortalSession,
    RowSessions,
    SignedIn,
    cookies_of,
    find_signed_in,
    find_viewer,
)
from core.settings import ROOT, Settings, SettingsError, read_settings
from gateways.messages.base import MessageGateway
from gateways.network.base import NetworkGateway
from gateways.network.equipment import EquipmentGateway
from gateways.payments.base import PaymentGateway
from gateways.voice.base import VoiceGateway
from models import Channel, Isp

MAX_BODY_BYTES = 1_000_000
MAX_FORM_PARTS = 100
METRICS_PATH = "/metrics"


class PortalRequest(Request):
    """Keeps what is uploaded in memory, as no body is larger than MAX_BODY_BYTES: nothing that a
    stranger sends reaches the disk (bar 46)."""

    @cached_property
    def cookies(self) -> ImmutableMultiDict[str, str]:
        return cookies_of(self.environ)

    def _get_file_stream(self, *_sizes: object, **_more: object) -> io.BytesIO:
        return io.BytesIO()


class PortalFlask(Flask):
    """Flask without its question, before each function it calls, whether that is a coroutine: none
    is."""

    request_class = PortalRequest

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Prometheus asks each node at its own address and cannot name another host: with the token
        of the metrics it need not."""
        if request is not None and request.path == METRICS_PATH:
            settings: Settings = self.config["PORTAL"]
            if access.is_operator(settings, request.headers.get("Authorization", "")):
                request.environ["HTTP_HOST"] = settings.public_host
        return super().create_url_adapter(request)


class WrongDatabase(RuntimeError):
    """Demo mode found a database that it did not make, or the other way round (bar 12)."""


@lru_cache(maxsize=1)
def build_id() -> str:
    """Changes with every change of code, templates or styles: kept pages are then made anew."""
    digest = hashlib.sha256()
    for folder in ("blueprints", "core", "templates", "static"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in (".py", ".html", ".css", ".js"):
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


COMMANDS = {
    "accounts": "blueprints.staff.cli:accounts_cli",
    "activity": "blueprints.staff.operation_cli:activity_cli",
    "backup": "blueprints.staff.backup_cli:backup_command",
    "billing": "blueprints.billing.cli:billing_cli",
    "calls": "blueprints.staff.phone.cli:calls_cli",
    "catalog": "blueprints.staff.cli:catalog_cli",
    "customers": "blueprints.staff.helping_cli:customers_cli",
    "data": "blueprints.staff.data_cli:data_cli",
    "db": "core.migrate_cli:migrations_cli",
    "doctor": "blueprints.staff.doctor_cli:doctor_command",
    "equipment": "blueprints.staff.equipment_cli:equipment_cli",
    "ledger": "blueprints.billing.cli:ledger_cli",
    "lost-factors": "blueprints.staff.helping_cli:lost_factors_cli",
    "maintenance": "blueprints.staff.operation_cli:maintenance_cli",
    "network": "blueprints.staff.network_cli:network_cli",
    "payments": "blueprints.billing.cli:payments_cli",
    "phone": "blueprints.lines.phone.cli:phone_cli",
    "restore": "blueprints.staff.backup_cli:restore_command",
    "search": "blueprints.staff.search_cli:search_cli",
    "setup": "blueprints.staff.setup_cli:setup_command",
    "staff": "blueprints.staff.members_cli:staff_cli",
}
"""Where each command of `flask` is; it is imported when it is called, so never where we serve."""


def create_app(settings: Settings | None = None) -> Flask:
    """The application for `settings` (default: from the environment).

    Raises SettingsError, UnlistedRoute or RuntimeError when it could not keep its promises.
    """
    settings = settings or read_settings()
    check_cost()
    app = PortalFlask("lastmile", root_path=str(ROOT), static_folder=None)
    app.config.update(
        PORTAL=settings,
        SECRET_KEY=settings.secret,
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        MAX_FORM_PARTS=MAX_FORM_PARTS,
        MAX_FORM_MEMORY_SIZE=MAX_BODY_BYTES,
        TRUSTED_HOSTS=[settings.public_host],
        BABEL_TRANSLATION_DIRECTORIES=str(ROOT / "translations"),
        WTF_CSRF_ENABLED=False,
    )
    configure(app.config, settings)
    # A kept page offers paying or not, and says what the network does: it must not outlive a change
    # of the gateways.
    gateways = (settings.payment_gateway, settings.network_gateway, settings.equipment_gateway)
    build = f"{build_id()} {' '.join(gateways)}"
    app.wsgi_app = front.Front(app, settings, build)  # type: ignore[method-assign]
    _observe(app, settings)
    if settings.proxy_count:
        count = settings.proxy_count
        fixed = ProxyFix(app.wsgi_app, x_for=count, x_proto=count)
        app.wsgi_app = proxies.Watched(fixed, count, settings.data)  # type: ignore[method-assign]
    templates.install(app, _page_context)
    _install_extensions(app, settings)
    _register(app)
    app.cli = CommandsByPlace(COMMANDS, name=app.name)
    check_policy(app)
    access.install(app, settings, build)
    error_pages.install(app)
    return app


def _observe(app: Flask, settings: Settings) -> None:
    """Note each request, where the address is the client's already: inside of ProxyFix."""
    if settings.metrics_token:
        metrics.enable()
        metrics.list_also(vital_signs.collect)
    app.wsgi_app = Observed(  # type: ignore[method-assign]
        app.wsgi_app,
        log.write if settings.log is log.LogWhat.REQUESTS else None,
        trusts_reference=settings.proxy_count > 0,
    )


def create_served_app() -> Flask:
    """The application of one web process under `python app.py`, which ends with its parent."""
    settings = read_settings()
    log.configure(settings.log)
    parent = os.environ.get(supervisor.SUPERVISOR)
    supervisor.end_with_parent(int(parent) if parent else None)
    app = create_app(settings)
    leaving.when_asked(app, supervisor.handed_over())
    supervisor.say_ready()
    return app


def _install_extensions(app: Flask, settings: Settings) -> None:
    db.init_app(app)
    app.teardown_appcontext(lambda _error: forget_reader())
    Babel(app, locale_selector=words.select_locale)
    app.session_interface = RowSessions(is_https=settings.is_https)
    login = LoginManager(app)
    login.session_protection = None
    login.user_loader(_load_user)
    app.extensions["payment_gateway"] = _payment_gateway(settings)
    app.extensions["message_gateways"] = _message_gateways(settings)
    app.extensions["network_gateway"] = _network_gateway(settings)
    app.extensions["equipment_gateway"] = _equipment_gateway(settings)
    app.extensions["voice_gateway"] = _voice_gateway(settings)
    app.after_request(lambda response: _finish(response, settings))


def _load_user(public_id: str) -> SignedIn | None:
    person = session.signed_in if isinstance(session, PortalSession) else None
    return person if person is not None and person.public_id == public_id else None


def _payment_gateway(settings: Settings) -> PaymentGateway | None:
    if settings.payment_gateway == "sandbox":
        from gateways.payments.sandbox.client import SandboxGateway
        from gateways.payments.sandbox.secrets import SandboxSecrets

        secrets = SandboxSecrets.read_or_create(settings.data / "sandbox-secret")
        return SandboxGateway(settings.sandbox_origin, secrets)
    if settings.stripe is not None:
        from blueprints.billing.gateway_memory import GatewayMemory
        from gateways.payments.stripe.gateway import StripeGateway

        return StripeGateway(
            settings.stripe.api_key,
            settings.stripe.webhook_secrets,
            GatewayMemory(),
            method_types=settings.stripe.method_types,
        )
    return None


def _network_gateway(settings: Settings) -> NetworkGateway | None:
    if settings.network_gateway == "simulated":
        from gateways.network.simulated import SimulatedNetwork

        return SimulatedNetwork(settings.data / "network.db", clock.now)
    if settings.radius is not None:
        from gateways.network.freeradius.gateway import FreeradiusNetwork

        return FreeradiusNetwork(settings.radius)
    return None


def _equipment_gateway(settings: Settings) -> EquipmentGateway | None:
    if settings.equipment_gateway == "simulated":
        from gateways.network.simulated_equipment import SimulatedEquipment

        return SimulatedEquipment(settings.data / "equipment.db", clock.now)
    if settings.genieacs is not None:
        from gateways.network.genieacs.gateway import GenieacsEquipment

        return GenieacsEquipment(settings.genieacs)
    return None


def _voice_gateway(settings: Settings) -> VoiceGateway | None:
    if settings.voice_gateway == "simulated":
        from gateways.voice.simulated import SimulatedVoice

        return SimulatedVoice(settings.data / "voice.db")
    return None


def _message_gateways(settings: Settings) -> dict[str, MessageGateway]:
    """What delivers messages, by channel."""
    sender = settings.mail_from or f"no-reply@{settings.public_host}"
    if settings.is_demo:
        from gateways.messages.mailbox import Mailbox

        mailbox = Mailbox(settings.data / "mailbox", sender)
        return {Channel.EMAIL: mailbox, Channel.TEXT: mailbox}
    gateways: dict[str, MessageGateway] = {}
    if settings.smtp_url:
        from gateways.messages.smtp import SmtpGateway

        gateways[Channel.EMAIL] = SmtpGateway(settings.smtp_url, sender)
    if settings.sms is not None:
        from gateways.messages.sms import SmsGateway

        try:
            gateways[Channel.TEXT] = SmsGateway(settings.sms)
        except ValueError as error:
            raise SettingsError(f"LASTMILE_SMS_URL and its companions: {error}") from None
    return gateways


def _register(app: Flask) -> None:
    app.register_blueprint(auth.bp)
    app.register_blueprint(dashboard.bp)
    app.register_blueprint(settings_pages.bp)
    app.register_blueprint(people_pages.bp)
    app.register_blueprint(activity_pages.bp)
    app.register_blueprint(usage_pages.bp)
    app.register_blueprint(equipment_pages.bp)
    app.register_blueprint(plan_pages.bp)
    app.register_blueprint(phone_pages.bp)
    app.register_blueprint(billing.bp, url_prefix="/a/<account_public_id>/billing")
    app.register_blueprint(support.bp)
    app.register_blueprint(api.bp)
    app.register_blueprint(staff.bp)
    if app.config["PORTAL"].is_demo:
        app.register_blueprint(demo.bp)
    app.add_url_rule(
        "/pay/<payment_public_id>/return",
        "billing.payment_return",
        payment_return,
        methods=["GET", "POST"],
    )
    app.add_url_rule(
        "/methods/<method_public_id>/return",
        "billing.method_return",
        method_return,
        methods=["GET", "POST"],
    )
    app.add_url_rule("/static/<path:name>", "static", _static)
    app.add_url_rule("/health", "health", _health)
    app.add_url_rule(METRICS_PATH, "metrics", _metrics)


def _static(name: str) -> Response:
    response = assets.serve(name)
    if response is None:
        raise NotFound
    return response


def _metrics() -> Response:
    """For Prometheus; core/access.py asks for the token."""
    return Response(metrics.exposition(), content_type="text/plain; version=0.0.4; charset=utf-8")


def _health() -> Response:
    """Answers 200 once pages can be served; says whether a worker is alive, and how old the last
    backup is.

    Maintenance is 200 too: whoever balances the load must not take away the page that tells of it.
    """
    body: dict[str, object]
    try:
        body, code = maintenance.health(worker.is_alive), 200
        last = None if is_pinned() else nightly.last_time(nightly.BACKUP)
        body["backup_age_hours"] = last.age_hours if last is not None else None
    except NotSetUp:
        body, code = {"status": "not set up", "worker": worker.is_alive()}, 503
    except SQLAlchemyError:
        body, code = {"status": "database away", "worker": False, "backup_age_hours": None}, 503
    response = Response(f"{json.dumps(body)}\n", code, mimetype="application/json")
    response.headers["Cache-Control"] = "no-store"
    if code == 503:
        response.headers["Retry-After"] = str(error_pages.RETRY_SECONDS)
    return response


def _page_context(language: str) -> dict[str, Any]:
    """What every page knows besides its own matter."""
    isp = current_isp()
    guard = {"csrf_token": form_guard.csrf_token, "form_key": form_guard.form_key}
    person = find_signed_in() if g.get("is_personal") else None
    return {
        "ui": templates.macros(language, **guard),
        "isp": isp,
        "asset": lambda path: assets.address(path, isp),
        "current": _current(person),
        **guard,
        "lang": language,
        "text_direction": words.text_direction(language),
        "inline_css": assets.inline_css(isp),
        "announced": isp.find_announcement(clock.now()),
    }


def _current(person: SignedIn | None) -> dict[str, Any] | None:
    if person is None:
        return None
    return {
        "customer_name": person.name,
        "sign_in_id": person.sign_in_id,
        "account": person.account,
        "has_several_accounts": person.account_count > 1,
        "is_staff": person.is_staff,
        "staff_role": g.get("staff_role", ""),
        "viewer": _viewer_of(person),
    }


def _viewer_of(person: SignedIn) -> str | None:
    """The staff member who sees the page as its customer does."""
    return None if person.viewer_id is None else g.get("viewer") or find_viewer(person)


def _finish(response: Response, settings: Settings) -> Response:
    """Compression and headers of every answer: what may be kept, and what protects."""
    parts = front.compress_to_remember(response)
    compress(response)
    if g.get("is_personal") or g.get("is_private") or g.get("page_tag"):
        headers.vary(response, "Cookie")
        if g.get("page_tag") and response.status_code in (200, 304):
            cache.mark_kept(response, g.page_tag)
        else:
            cache.mark_personal(response)
    gateway: PaymentGateway | None = current_app.extensions["payment_gateway"]
    try:
        style_hash = assets.inline_style_hash(current_isp())
    except (NotSetUp, SQLAlchemyError):
        style_hash = "sha256-none"
    policy = headers.content_security_policy(style_hash, gateway.origin if gateway else None)
    headers.protect(response, policy, is_https=settings.is_https)
    front.remember(response, parts)
    return response


def check_database(settings: Settings) -> None:
    """Refuse a database that is not of this mode (bar 12) or not as promised (bar 67).

    Raises WrongDatabase, RuntimeError. Needs an application context.
    """
    check_engine()
    is_demo = db.session.scalar(select(Isp.is_demo))
    if is_demo is not None and is_demo != settings.is_demo:
        raise WrongDatabase(
            "this database was not made by the demo: unset LASTMILE_DEMO or set LASTMILE_DATA"
            if settings.is_demo
            else "this database belongs to the demo: set LASTMILE_DATA to another folder"
        )
