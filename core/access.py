"""The gate in front of every view: it holds each request against the table in core/policy.py."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterable
from urllib.parse import urlencode

from flask import Flask, Response, g, request, session
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from werkzeug.exceptions import BadRequest, LengthRequired, RequestEntityTooLarge
from werkzeug.wrappers import Response as BaseResponse

from core import cache, csrf, flows, htmx, isp, kept_forms, maintenance
from core.db import DatabaseBusy, db
from core.errors import NotFound
from core.isp import current_isp
from core.paths import own_path
from core.policy import (
    ENROL_PAGE,
    FIRST_PAGES,
    NOT_SIGNED_IN,
    POLICY,
    SAFE_METHODS,
    STAFF_FIRST_PAGE,
    Proof,
    Rule,
    Who,
)
from core.sessions import (
    PRE_COOKIE,
    PortalSession,
    SignedIn,
    cookie_name,
    find_signed_in,
    find_viewer,
    note_use,
)
from core.settings import Settings
from core.words import language
from models import Role, StaffMember, StaffRole

log = logging.getLogger("lastmile.access")

MAX_PARAMETERS = 100


class RoleForbids(Exception):
    """The customer may use the account, but not for this."""


class ViewersOnlyRead(Exception):
    """Staff who see the portal as a customer does have sent a form."""


def greet() -> bool:
    """Whether somebody is signed in, and let the page being made show so, with the way out."""
    g.is_personal = find_signed_in() is not None
    return bool(g.is_personal)


def install(app: Flask, settings: Settings, build: str) -> None:
    """Put the gate in front of every view of `app`."""
    pre_cookie = cookie_name(PRE_COOKIE, is_https=settings.is_https)
    folder = str(settings.data)

    @app.url_value_preprocessor
    def take_account(_endpoint: str | None, values: dict[str, object] | None) -> None:
        # The account is settled here; views work with `g.account_id`.
        g.account_path = values.pop("account_public_id", None) if values else None

    @app.before_request
    def gate() -> Response | BaseResponse | None:
        _check_size()
        maintenance.heed_file(folder)
        rule = POLICY.get(request.endpoint or "")
        if rule is None:
            return None  # no such page: Flask answers 404 or 405
        if "\0" in request.path:
            raise NotFound  # no database takes it, so nothing has such a name
        given = request.headers.get("Authorization", "")
        if rule.who is Who.OPERATOR and not is_operator(settings, given):
            raise NotFound
        if rule.serves_staff:
            isp.unpin()
        answer = None if rule.stays_open else _answer_closed(rule, settings)
        if answer is None and request.method not in SAFE_METHODS:
            answer = _check_proof(rule, settings, pre_cookie)
        if answer is not None:
            return answer
        if rule.who is Who.FLOW:
            return _take_flow(rule, settings)
        return _take_person(rule, build)


def _take_person(rule: Rule, build: str) -> Response | BaseResponse | None:
    """Settle who asks, and whether they may; an answer when they may not, or hold the page."""
    if rule.who in NOT_SIGNED_IN and not rule.greets:
        return None
    person = find_signed_in() if rule.who is not Who.EVERYONE else _find_greeted()
    if person is None:
        return None if rule.who is Who.EVERYONE else _ask_to_sign_in(rule)
    if _lacks_second_factor(rule, person):
        return htmx.go_to(ENROL_PAGE)
    _check_role(rule, person)
    if not _check_viewer(rule, person):
        return _ask_to_sign_in(rule)
    g.is_personal = True
    if not request.query_string or "since" not in request.args:
        _note_use(person)
    return _answer_unchanged(rule, person, build)


def _find_greeted() -> SignedIn | None:
    """Who is signed in, on a page that is shown to everyone also while sessions cannot be read."""
    try:
        return find_signed_in()
    except DBAPIError:
        log.warning("a page open to everyone is shown without its session", exc_info=True)
        return None


def is_operator(settings: Settings, authorization: str) -> bool:
    """Whether the header brings the token of the metrics; never where there is none (bar 80)."""
    wanted = f"Bearer {settings.metrics_token}".encode()
    return bool(settings.metrics_token) and hmac.compare_digest(wanted, authorization.encode())


def _answer_closed(rule: Rule, settings: Settings) -> Response | BaseResponse | None:
    """What is answered during maintenance; None when there is none, or staff ask."""
    if not _is_closed(rule):
        return None
    if _has_run_out(rule, settings):
        return _begin_again(rule)
    if _is_for_staff(rule, settings):
        return None
    return maintenance.answer(is_for_people=rule.proof is not Proof.OWN)


def _is_closed(rule: Rule) -> bool:
    # The session's query, where there is one, brings the ISP's revision along.
    try:
        if "HTTP_COOKIE" in request.environ:
            find_signed_in()
    except SQLAlchemyError:
        if rule.who is not Who.EVERYONE or request.method not in SAFE_METHODS:
            raise  # not signed out: it cannot be told who this is
    return current_isp().is_closed


def _is_for_staff(rule: Rule, settings: Settings) -> bool:
    """Whether staff ask for what stays open to them alone. Whose second step it is, a half-finished
    sign-in noted when the password was right."""
    if not rule.open_to_staff:
        return False
    if rule.who is Who.FLOW:
        flow = _find_flow(rule, settings)
        return flow is not None and bool(flow.facts.get("is_staff"))
    person = find_signed_in()
    if person is None:
        return False
    # A view stands for the customer; whoever holds it is one of staff, and must be able to stop.
    return person.is_staff or (rule.viewers_too and person.viewer_id is not None)


def _check_role(rule: Rule, person: SignedIn) -> None:
    """Settle which account is meant. Raises NotFound for one that is not the customer's,
    RoleForbids for one that is, but not for this."""
    if rule.who is Who.STAFF:
        _check_staff(rule, person)
    if rule.who is not Who.ACCOUNT:
        return
    if person.account is None:
        raise NotFound
    if Role(person.account.role) not in rule.roles:
        raise RoleForbids
    g.account_id = person.account.account_id


def _check_staff(rule: Rule, person: SignedIn) -> None:
    """Settle in which role a staff member asks. For everyone else there are no staff pages."""
    role = None
    if person.is_staff and person.viewer_id is None:
        role = db.session.scalar(
            select(StaffMember.role).where(
                StaffMember.customer_id == person.customer_id, StaffMember.is_disabled.is_(False)
            )
        )
    if role is None:
        raise NotFound
    if StaffRole(role) not in rule.staff:
        raise RoleForbids
    g.staff_role = role


def _lacks_second_factor(rule: Rule, person: SignedIn) -> bool:
    """Whether somebody has to set up a second step before anything else."""
    if rule.who in NOT_SIGNED_IN or rule.before_second_factor or person.viewer_id is not None:
        return False
    return not person.has_second_factor and current_isp().requires_second_factor


def _check_viewer(rule: Rule, person: SignedIn) -> bool:
    """Whether a view of the portal as a customer sees it may go on; true for everyone else.

    Raises ViewersOnlyRead for staff who see it so and send a form.
    """
    if person.viewer_id is None:
        return True
    g.viewer = find_viewer(person)
    if g.viewer is None:
        return False
    if not rule.viewers_too and request.method not in SAFE_METHODS:
        raise ViewersOnlyRead
    return True


def _take_flow(rule: Rule, settings: Settings) -> BaseResponse | None:
    """Put the flow of the cookie into `g.flow`; without one, lead to where it begins."""
    flow = _find_flow(rule, settings)
    if flow is None:
        return _begin_again(rule)
    if request.method not in SAFE_METHODS and not csrf.is_token_of(
        flow.csrf_secret, request.form.get("csrf_token", "")
    ):
        raise csrf.NotFromOurPage
    g.flow = flow
    g.is_private = True
    return None


def _has_run_out(rule: Rule, settings: Settings) -> bool:
    """Whether a half-finished sign-in is asked for that there is not, or no more. Whose it was does
    not matter: the way in of staff, to which that leads, says that the portal is closed."""
    is_half = rule.who is Who.FLOW and rule.open_to_staff
    return is_half and _find_flow(rule, settings) is None


def _begin_again(rule: Rule) -> Response | BaseResponse:
    """To where a flow begins that is not there any more."""
    is_closed = rule.open_to_staff and current_isp().is_closed
    first = STAFF_FIRST_PAGE if is_closed else FIRST_PAGES[rule.flow_kind]
    path = f"{first}?done=ended"
    return htmx.sign_in_again(path) if htmx.wants_fragment() else htmx.go_to(path)


def _find_flow(rule: Rule, settings: Settings) -> flows.FlowInHand | None:
    kind = rule.flow_kind.value
    token = request.cookies.get(flows.flow_cookie(kind, is_https=settings.is_https))
    return flows.find(kind, token)


def _answer_unchanged(rule: Rule, person: SignedIn, build: str) -> Response | None:
    """A 304 when the customer's own device holds the page as it still is."""
    if not (rule.is_kept and person.is_own_device and request.method in ("GET", "HEAD")):
        return None
    state = cache.page_state(build, request.environ, current_isp(), person, language())
    g.page_tag = cache.page_tag(state, person)
    return cache.not_modified(g.page_tag) if cache.is_held(request.environ, g.page_tag) else None


def _check_size() -> None:
    """Refuse a body or more parameters than any form of ours has, before either is used (bar 46),
    and a NUL in the query.

    A body without its length is refused too. No browser sends one, proxies pass bodies on with
    their length, and the server hands us a chunked body that broke off as if it were whole.
    """
    if "HTTP_TRANSFER_ENCODING" in request.environ:
        raise LengthRequired
    if (request.content_length or 0) > (request.max_content_length or 0):
        raise RequestEntityTooLarge
    if not request.query_string:
        return
    if request.query_string.count(b"&") >= MAX_PARAMETERS:
        raise RequestEntityTooLarge
    _check_values(request.args.values())


def _check_form() -> None:
    # Counted before half a million names are taken apart.
    is_plain = request.mimetype == "application/x-www-form-urlencoded"
    if is_plain and request.get_data().count(b"&") >= MAX_PARAMETERS:
        raise RequestEntityTooLarge
    values = [value for _name, value in request.form.items(multi=True)]
    if len(values) + len(request.files) > MAX_PARAMETERS:
        raise RequestEntityTooLarge
    _check_values(values)


def _check_values(values: Iterable[str]) -> None:
    if any("\0" in value for value in values):
        raise BadRequest


def _note_use(person: SignedIn) -> None:
    """A page can be read also while nobody can write."""
    try:
        note_use(person)
    except (DatabaseBusy, DBAPIError):
        log.warning("the time of last use was not written", exc_info=True)


def _check_proof(rule: Rule, settings: Settings, pre_cookie: str) -> Response | BaseResponse | None:
    """Check what an unsafe request must carry; an answer when the session has run out."""
    if rule.proof is Proof.OWN:
        return None
    csrf.check_origin(request, settings.public_url)
    if rule.proof is Proof.STRICT_COOKIE:
        if pre_cookie not in request.cookies:
            raise csrf.NotFromOurPage
        _check_form()
        return None
    _check_form()
    if rule.who is Who.FLOW:
        return None  # held against the flow, once that is found
    token = request.form.get("csrf_token", "")
    person = find_signed_in()
    if person is not None:
        if not csrf.is_token_of(person.csrf_secret, token):
            raise csrf.NotFromOurPage
        if rule.keeps_form:
            kept_forms.drop(person)
        return None
    expired = session.find_expired() if isinstance(session, PortalSession) else None
    if expired is not None and rule.keeps_form and csrf.is_token_of(expired.csrf_secret, token):
        kept_forms.keep(settings.secret, expired.session_id, request.path, request.form)
    # Signing out once more, or of a session that has run out, says the same as the first time.
    return None if rule.who is Who.EVERYONE else _ask_to_sign_in(rule)


def _page_address() -> str:
    """Path and query of the page asked for; of a poll, those of the page that polls."""
    wanted = [pair for pair in request.args.items(multi=True) if pair[0] != "since"]
    return request.path + ("?" + urlencode(wanted) if wanted else "")


def _ask_to_sign_in(rule: Rule) -> Response | BaseResponse:
    """To sign-in, and afterwards back to what was wanted."""
    query = {}
    if request.method in SAFE_METHODS:
        back = own_path(_page_address())
    else:
        back = own_path(request.path) if rule.keeps_form else None
    if back is not None and back != "/":
        query["next"] = back
    if isinstance(session, PortalSession) and session.find_expired() is not None:
        query["done"] = "expired"
    # Whoever asks for a page of staff while the portal is closed finds their way in open.
    first = STAFF_FIRST_PAGE if rule.serves_staff and current_isp().is_closed else "/sign-in"
    path = first + ("?" + urlencode(query) if query else "")
    if htmx.wants_fragment():
        return htmx.sign_in_again(path)
    return htmx.go_to(path)
