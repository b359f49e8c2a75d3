"""The pages about the router of a line. What it says is asked for with each page; a page of how
something ended asks nothing, so that it is there at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response, current_app, g, request, url_for
from flask_babel import gettext as _
from werkzeug.wrappers import Response as BaseResponse

from blueprints.dashboard.equipment import bp, service
from blueprints.dashboard.equipment.errors import EquipmentNotOffered
from blueprints.dashboard.equipment.forms import LineForm, WifiForm
from blueprints.dashboard.equipment.service import End, Kind, Press, Wifi
from blueprints.dashboard.usage.service import LineChoice, mask
from core.form_guard import arrived_key
from core.forms import shown
from core.htmx import go_to, render
from core.sessions import signed_in
from core.step_up import recent_password
from core.throttle import TooManyAttempts
from gateways.network.equipment import Equipment, EquipmentGateway, Outcome, WifiChange

DEVICES_SHOWN = 40
MOST_NETWORKS = 8
ENDINGS = {f"{kind}-{end}": (kind, end) for kind in Kind for end in End}


def _gateway() -> EquipmentGateway:
    gateway: EquipmentGateway | None = current_app.extensions["equipment_gateway"]
    if gateway is None:
        raise EquipmentNotOffered
    return gateway


def _shared(lines: list[LineChoice], line: LineChoice) -> dict[str, Any]:
    """What each page says of the lines there are; `more` goes into its addresses."""
    has_several = len(lines) > 1
    return {
        "line": line,
        "lines": lines if has_several else [],
        "more": {"line": line.public_id} if has_several else {},
    }


def _asked(kept_line: str | None = None) -> tuple[LineChoice, dict[str, Any]]:
    """The line that a page is asked for; `kept_line`: of a form that waited for the password."""
    lines = service.list_running(g.account_id)
    line = service.choose_line(lines, kept_line or request.args.get("line"))
    return line, _shared(lines, line)


def _posted(form: LineForm) -> tuple[LineChoice, dict[str, Any]]:
    lines = service.list_running(g.account_id)
    line = service.line_of_form(lines, form.line.data or "")
    return line, _shared(lines, line)


@bp.get("/", endpoint="overview")
def overview() -> Response:
    gateway = _gateway()
    lines = service.list_running(g.account_id)
    if not lines:
        return render("equipment/overview.html", line=None, lines=[])
    line = service.choose_line(lines, request.args.get("line"))
    shared, found = _shared(lines, line), service.find(gateway, line)
    if isinstance(found, End):
        return render("equipment/overview.html", **shared, end=found, router=None)
    connected = [(each.name, mask(each.mac)) for each in found.devices or ()]
    return render(
        "equipment/overview.html",
        **shared,
        end=None,
        router=found,
        networks=service.group(found.networks),
        devices=None if found.devices is None else connected[:DEVICES_SHOWN],
        more_devices=max(len(connected) - DEVICES_SHOWN, 0),
    )


# Asking for something -----------------------------------------------------------------------------


def _ask(line: LineChoice, query: dict[str, Any], kind: Kind, call: Callable[[], Outcome]) -> str:
    """The page that says how it ended, with `query` in its address. Raises TooManyAttempts."""
    person = signed_in()
    account_public_id = person.account.public_id if person.account else ""
    path = url_for("equipment.outcome", account_public_id=account_public_id, **query)
    return service.ask(
        Press(
            g.account_id,
            person.customer_id,
            line.line_id,
            kind,
            path + ("&" if query else "?"),
            arrived_key(),
            current_app.config["PORTAL"].secret,
        ),
        call,
    )


def _wait(page: Response, refusal: TooManyAttempts) -> Response:
    page.headers["Retry-After"] = str(refusal.retry_after_seconds)
    return page


@bp.get("/restart", endpoint="restart")
def restart_page() -> Response:
    _gateway()
    form = shown(LineForm)
    _line, shared = _asked(form.line.data)
    return render("equipment/restart.html", **shared, retry_after=None)


@bp.post("/restart", endpoint="restart_post")
def restart_post() -> Response | BaseResponse:
    gateway = _gateway()
    line, shared = _posted(LineForm())
    try:
        path = _ask(line, shared["more"], Kind.RESTART, lambda: gateway.restart(line.username))
    except TooManyAttempts as refusal:
        seconds = refusal.retry_after_seconds
        page = render("equipment/restart.html", None, 429, **shared, retry_after=seconds)
        return _wait(page, refusal)
    return go_to(path)


@bp.post("/refresh", endpoint="refresh")
def refresh() -> Response | BaseResponse:
    gateway = _gateway()
    line, shared = _posted(LineForm())
    try:
        path = _ask(line, shared["more"], Kind.REFRESH, lambda: gateway.refresh(line.username))
    except TooManyAttempts as refusal:
        seconds = refusal.retry_after_seconds
        page = render("equipment/wait.html", None, 429, **shared, retry_after=seconds)
        return _wait(page, refusal)
    return go_to(path)


@bp.get("/wifi", endpoint="wifi")
@recent_password
def wifi_page() -> Response:
    gateway, kept = _gateway(), shown(WifiForm)
    line, shared = _asked(kept.line.data)
    found = service.find(gateway, line)
    if isinstance(found, End):
        return render("equipment/wifi.html", **shared, end=found, form=None)
    wifi = _meant(found, kept.networks.data or request.args.get("networks"))
    if wifi is None:
        return render("equipment/wifi.html", **shared, end=End.REFUSED, form=None)
    form = shown(WifiForm, line=line.public_id, networks=wifi.form_value, wifi_name=wifi.name)
    if kept.networks.data is not None and wifi.has_password:
        form.wifi_password.errors = [
            _(
                "If you typed a new password, type it again: it was not kept. If this stays empty,"
                " the present one stays."
            )
        ]
    return _wifi_page(shared, form, has_password=wifi.has_password)


def _meant(found: Equipment, networks: str | None) -> Wifi | None:
    """The networks that a page is asked for; without a word, the first."""
    groups = service.group(found.networks)
    if networks is None:
        return groups[0] if groups else None
    return next((each for each in groups if each.form_value == networks), None)


@bp.post("/wifi", endpoint="wifi_post")
@recent_password
def wifi_post() -> Response | BaseResponse:
    gateway, form = _gateway(), WifiForm()
    is_good = form.validate()
    line, shared = _posted(form)
    has_password = "wifi_password" in request.form
    if not is_good:
        _ask_for_password_again(form)
        return _wifi_page(shared, form, 422, has_password=has_password)
    change = WifiChange(
        (form.networks.data or "").split("-", MOST_NETWORKS),
        form.wifi_name.data or "",
        form.wifi_password.data or None,
    )
    query = shared["more"] | {"new": "name" if change.password is None else "both"}
    try:
        path = _ask(line, query, Kind.WIFI, lambda: gateway.change_wifi(line.username, change))
    except TooManyAttempts as refusal:
        _ask_for_password_again(form)
        seconds = refusal.retry_after_seconds
        page = _wifi_page(shared, form, 429, has_password=has_password, retry_after=seconds)
        return _wait(page, refusal)
    return go_to(path)


def _ask_for_password_again(form: WifiForm) -> None:
    """A form comes back without its password: say so, or it would be sent without one."""
    if form.wifi_password.data and not form.wifi_password.errors:
        form.wifi_password.errors = [_("Type the new password again: it was not kept.")]


def _wifi_page(
    shared: dict[str, Any],
    form: WifiForm,
    status: int = 200,
    *,
    has_password: bool,
    retry_after: int | None = None,
) -> Response:
    return render(
        "equipment/wifi.html",
        None,
        status,
        **shared,
        end=None,
        form=form,
        has_password=has_password,
        retry_after=retry_after,
    )


@bp.get("/outcome", endpoint="outcome")
def outcome() -> Response | BaseResponse:
    """How something ended that a router was asked for."""
    _gateway()
    _line, shared = _asked()
    kind, end = ENDINGS.get(request.args.get("done", ""), (None, None))
    press = request.args.get("press")
    if end is End.SENT and press:
        path = service.find_press(press, signed_in().subject)
        if path is not None:
            return go_to(path)
    again = request.full_path
    new = request.args.get("new")
    return render("equipment/outcome.html", **shared, kind=kind, end=end, again=again, new=new)
