"""Who may use which route, in one table, and the gate in front of every view.

A route that is missing from POLICY fails the start of the portal. Roles say what a customer may do
on an account; anybody else's account looks exactly like one that does not exist.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from urllib.parse import urlencode

from flask import Flask, Response, g, request, session
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from werkzeug.exceptions import BadRequest, LengthRequired, RequestEntityTooLarge
from werkzeug.wrappers import Response as BaseResponse

from core import cache, csrf, flows, htmx, kept_forms, maintenance
from core.db import DatabaseBusy, db
from core.errors import NotFound
from core.isp import current_isp
from core.paths import own_path
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
from models import FlowKind, Role, StaffMember, StaffRole

log = logging.getLogger("lastmile.access")

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
MAX_PARAMETERS = 100


class Who(StrEnum):
    EVERYONE = "everyone"
    CUSTOMER = "customer"
    ACCOUNT = "account"
    FLOW = "flow"  # a way in that is half gone, by its own cookie
    STAFF = "staff"  # the ISP's own people, after their second factor
    OPERATOR = "operator"  # the programs of whoever runs the portal, by a token of its own


_NOT_SIGNED_IN = frozenset({Who.EVERYONE, Who.OPERATOR})


class Proof(StrEnum):
    """What an unsafe request must carry to show that our own page sent it."""

    TOKEN = "token"  # noqa: S105 - the session's CSRF token, not a password
    STRICT_COOKIE = "strict cookie"  # before sign-in: the cookie every such page sets
    OWN = "own"  # its own proof: a gateway's signature, or asking the gateway


@dataclass(frozen=True, slots=True)
class Rule:
    """Who may use a route. `roles` count for `Who.ACCOUNT`, `staff` for `Who.STAFF`, `flow` for
    `Who.FLOW`.

    `is_kept`: an own device may keep the page, which depends on nothing but the revisions of
    account, customer and ISP. `stays_open` during maintenance: what writes nothing, and the pages
    of staff. `keeps_form`: the page that shows the form again when the session had expired.
    `get_writes`: what a GET changes, which is otherwise nothing. `greets`: a page open to everyone
    that whoever is signed in sees in the signed-in frame, with the way out (bar 29).
    `before_second_factor`: also for whoever has none where the ISP asks everyone for one.
    `viewers_too`: staff who see the portal as a customer does may send it; otherwise they write
    nothing (bar 35).
    """

    who: Who
    roles: frozenset[Role] = frozenset()
    proof: Proof = Proof.TOKEN
    is_kept: bool = False
    stays_open: bool = False
    keeps_form: str = ""
    get_writes: str = ""
    greets: bool = False
    flow: FlowKind | None = None
    staff: frozenset[StaffRole] = frozenset()
    viewers_too: bool = False
    before_second_factor: bool = False


EVERY_ROLE = frozenset(Role)
SEES_MONEY = frozenset({Role.OWNER, Role.PAYER, Role.VIEWER})
OWNS = frozenset({Role.OWNER})
PAYS = frozenset({Role.OWNER, Role.PAYER})

EVERY_STAFF = frozenset(StaffRole)
ADMINISTRATORS = frozenset({StaffRole.ADMINISTRATOR})
HELPERS = frozenset({StaffRole.SUPPORT, StaffRole.ADMINISTRATOR})
"""Who helps people with signing in, and prints their letters."""
CALL_TAKERS = HELPERS | {StaffRole.BILLING}

_NOTED = "that it was read: data_accesses, activity"


def _staff(who: frozenset[StaffRole], get_writes: str = "", keeps_form: str = "") -> Rule:
    """A page of staff, who also answer during maintenance."""
    return Rule(Who.STAFF, staff=who, stays_open=True, get_writes=get_writes, keeps_form=keeps_form)


_PUBLIC = Rule(Who.EVERYONE, proof=Proof.STRICT_COOKIE)
_OPEN = Rule(Who.EVERYONE, proof=Proof.STRICT_COOKIE, stays_open=True)
_READS_MONEY = Rule(Who.ACCOUNT, SEES_MONEY, is_kept=True)
_CHANGES_PAYMENT = Rule(Who.ACCOUNT, PAYS)
_OWN = Rule(Who.CUSTOMER)
_OWNS = Rule(Who.ACCOUNT, OWNS)


def _sets(page: str) -> Rule:
    """What a customer changes about themselves, on `page`, which shows the form again."""
    return Rule(Who.CUSTOMER, keeps_form=page)


_SECOND_STEP = Rule(Who.FLOW, flow=FlowKind.SIGN_IN)
_LOST_FACTORS = Rule(Who.FLOW, flow=FlowKind.LOST_FACTORS)
_ENROLS = Rule(Who.CUSTOMER, before_second_factor=True)
_REGISTERS = Rule(Who.FLOW, flow=FlowKind.REGISTER)
_RECOVERS = Rule(Who.FLOW, flow=FlowKind.RECOVER)
_FINDS_ID = Rule(Who.FLOW, flow=FlowKind.FIND_ID)

FIRST_PAGES = {
    FlowKind.REGISTER: "/register",
    FlowKind.RECOVER: "/recover",
    FlowKind.FIND_ID: "/forgot-id",
    FlowKind.SIGN_IN: "/sign-in",
    FlowKind.LOST_FACTORS: "/sign-in",
}
"""Where each flow begins, and begins again when it has ended."""
ENROL_PAGE = "/settings/second-step"

POLICY: dict[str, Rule] = {
    "static": _OPEN,
    "health": _OPEN,
    "metrics": Rule(Who.OPERATOR, stays_open=True),
    "support.help": Rule(Who.EVERYONE, proof=Proof.STRICT_COOKIE, is_kept=True, greets=True),
    "auth.sign_in": _PUBLIC,
    "auth.sign_in_post": _PUBLIC,
    "auth.welcome": _PUBLIC,
    "auth.welcome_post": _PUBLIC,
    "auth.sign_out": Rule(Who.EVERYONE, proof=Proof.TOKEN, viewers_too=True),
    "auth.confirm": _ENROLS,
    "auth.confirm_post": _ENROLS,
    "auth.confirm_passkey": _ENROLS,
    "auth.passkey_options": _PUBLIC,
    "auth.passkey_sign_in": _PUBLIC,
    "auth.second_step_page": _SECOND_STEP,
    "auth.second_step_post": _SECOND_STEP,
    "auth.second_step_passkey": _SECOND_STEP,
    "auth.second_step_send": _SECOND_STEP,
    "auth.enrol": _SECOND_STEP,
    "auth.enrol_post": _SECOND_STEP,
    "auth.enrol_app": _SECOND_STEP,
    "auth.enrol_passkey": _SECOND_STEP,
    "auth.lost_begin": _SECOND_STEP,
    "auth.lost": _LOST_FACTORS,
    "auth.lost_post": _LOST_FACTORS,
    "auth.lost_send": _LOST_FACTORS,
    "auth.lost_ask": _LOST_FACTORS,
    "auth.factor_list": _ENROLS,
    "auth.factor_remove_page": _ENROLS,
    "auth.factor_remove": replace(_ENROLS, keeps_form="auth.factor_remove_page"),
    "auth.app_page": _ENROLS,
    "auth.app_start": _ENROLS,
    "auth.app_check": _ENROLS,
    "auth.app_check_post": _ENROLS,
    "auth.message_page": _ENROLS,
    "auth.message_start": replace(_ENROLS, keeps_form="auth.message_page"),
    "auth.message_check": _ENROLS,
    "auth.message_check_post": _ENROLS,
    "auth.message_send_page": _ENROLS,
    "auth.message_send": _ENROLS,
    "auth.passkey_page": _ENROLS,
    "auth.passkey_add": _ENROLS,
    "auth.recovery_codes_page": _ENROLS,
    "auth.recovery_codes_make": _ENROLS,
    "auth.recovery_codes_kept": _ENROLS,
    "auth.register": _PUBLIC,
    "auth.register_post": _PUBLIC,
    "auth.register_way": _REGISTERS,
    "auth.register_way_post": _REGISTERS,
    "auth.register_code": _REGISTERS,
    "auth.register_code_post": _REGISTERS,
    "auth.register_account": _REGISTERS,
    "auth.register_account_post": _REGISTERS,
    "auth.register_id": _REGISTERS,
    "auth.register_id_post": _REGISTERS,
    "auth.register_strength": _REGISTERS,
    "auth.register_free": _REGISTERS,
    "auth.recover": _PUBLIC,
    "auth.recover_post": _PUBLIC,
    "auth.recover_way": _RECOVERS,
    "auth.recover_way_post": _RECOVERS,
    "auth.recover_code": _RECOVERS,
    "auth.recover_code_post": _RECOVERS,
    "auth.recover_sent": _RECOVERS,
    "auth.recover_which": _RECOVERS,
    "auth.recover_which_post": _RECOVERS,
    "auth.recover_password": _RECOVERS,
    "auth.recover_password_post": _RECOVERS,
    "auth.recover_strength": _RECOVERS,
    "auth.recover_link": _PUBLIC,
    "auth.recover_link_post": _PUBLIC,
    "auth.recover_link_strength": _PUBLIC,
    "auth.find_id": _PUBLIC,
    "auth.find_id_post": _PUBLIC,
    "auth.find_id_way": _FINDS_ID,
    "auth.find_id_way_post": _FINDS_ID,
    "auth.find_id_sent": _FINDS_ID,
    "auth.welcome_strength": _PUBLIC,
    "demo.mailbox": _PUBLIC,
    "demo.mailbox_message": _PUBLIC,
    "dashboard.index": _PUBLIC,
    "dashboard.choose_account": Rule(Who.CUSTOMER),
    "dashboard.home": Rule(Who.ACCOUNT, EVERY_ROLE, is_kept=True),
    "activity.event_list": _OWN,
    "activity.not_me": _OWN,
    "activity.not_me_post": _OWN,
    "people.person_list": _OWNS,
    "people.invite": _OWNS,
    "people.invite_post": Rule(Who.ACCOUNT, OWNS, keeps_form="people.invite"),
    "people.invitation_withdraw": _OWNS,
    "people.person": _OWNS,
    "people.person_post": Rule(Who.ACCOUNT, OWNS, keeps_form="people.person"),
    "people.person_remove_page": _OWNS,
    "people.person_remove": _OWNS,
    "people.leave": _OWN,
    "people.leave_post": _OWN,
    "people.invitation": Rule(Who.EVERYONE, proof=Proof.STRICT_COOKIE, greets=True),
    "people.invitation_post": _PUBLIC,
    "people.invitation_strength": _PUBLIC,
    "people.invitation_accept": _OWN,
    "settings.index": _OWN,
    "settings.name": _OWN,
    "settings.name_post": _sets("settings.name"),
    "settings.language": _OWN,
    "settings.language_post": _sets("settings.language"),
    "settings.time_zone": _OWN,
    "settings.time_zone_post": _sets("settings.time_zone"),
    "settings.messages": _OWN,
    "settings.messages_post": _sets("settings.messages"),
    "settings.password": _OWN,
    "settings.password_post": _sets("settings.password"),
    "settings.password_strength": _OWN,
    "settings.contacts": _OWN,
    "settings.contact_add": _OWN,
    "settings.contact_add_post": _sets("settings.contact_add"),
    "settings.contact_replace": _OWN,
    "settings.contact_replace_post": _sets("settings.contact_replace"),
    "settings.contact_remove": _OWN,
    "settings.contact_remove_post": _sets("settings.contact_remove"),
    "settings.contact_code": _OWN,
    "settings.contact_code_post": _sets("settings.contact_code"),
    "settings.contact_send_again": _OWN,
    "settings.contact_withdraw": _OWN,
    "settings.sessions": _OWN,
    "settings.session_end": _OWN,
    "settings.sessions_end_others": _OWN,
    "settings.device_distrust": _OWN,
    "settings.data": _OWN,
    "settings.data_post": _sets("settings.data"),
    "settings.data_file": _OWN,
    "settings.close": _OWN,
    "settings.close_post": _sets("settings.close"),
    "settings.address": _OWN,
    "settings.address_post": _sets("settings.address"),
    "billing.overview": _READS_MONEY,
    "billing.invoice_list": _READS_MONEY,
    "billing.invoice_detail": _READS_MONEY,
    "billing.payment_list": _READS_MONEY,
    "billing.payment_detail": Rule(Who.ACCOUNT, SEES_MONEY),
    "billing.pay": Rule(Who.ACCOUNT, PAYS),
    "billing.pay_start": Rule(Who.ACCOUNT, PAYS, keeps_form="billing.pay"),
    "billing.payment_continue": _CHANGES_PAYMENT,
    "billing.payment_cancel": _CHANGES_PAYMENT,
    "billing.payment_return": Rule(
        Who.EVERYONE,
        proof=Proof.OWN,
        # It then shows what is known and does not ask.
        stays_open=True,
        get_writes="the payment's state, as the gateway tells it",
    ),
    "api.payment_notice": Rule(Who.EVERYONE, proof=Proof.OWN),
    "staff.join": _PUBLIC,
    "staff.join_post": _PUBLIC,
    "staff.join_strength": _PUBLIC,
    "staff.search": _staff(EVERY_STAFF, _NOTED),
    "staff.account": _staff(EVERY_STAFF, _NOTED),
    "staff.call": _staff(CALL_TAKERS, _NOTED),
    "staff.call_send": _staff(CALL_TAKERS),
    "staff.call_check": _staff(CALL_TAKERS),
    "staff.person": _staff(HELPERS, _NOTED),
    "staff.unlock": _staff(HELPERS),
    "staff.end_sessions": _staff(HELPERS),
    "staff.view": _staff(HELPERS, _NOTED),
    "staff.view_begin": _staff(HELPERS, keeps_form="staff.view"),
    "staff.view_end": Rule(Who.CUSTOMER, viewers_too=True, stays_open=True),
    "staff.reset": _staff(HELPERS),
    "staff.resets": _staff(HELPERS, _NOTED),
    "staff.reset_proof": _staff(HELPERS, _NOTED),
    "staff.reset_proof_post": _staff(HELPERS, keeps_form="staff.reset_proof"),
    "staff.reset_approve": _staff(HELPERS),
    "staff.reset_refuse": _staff(HELPERS),
    "staff.letters": _staff(HELPERS, _NOTED),
    "staff.letter_print": _staff(HELPERS),
    "staff.members": _staff(ADMINISTRATORS),
    "staff.member_add": _staff(ADMINISTRATORS, keeps_form="staff.members"),
    "staff.member": _staff(ADMINISTRATORS),
    "staff.member_change": _staff(ADMINISTRATORS, keeps_form="staff.member"),
}
# What any signed-in GET may write (bar 40).
EVERY_GET_WRITES = "sessions.last_used_at"


class UnlistedRoute(RuntimeError):
    """A route has no rule in POLICY."""


class RoleForbids(Exception):
    """The customer may use the account, but not for this."""


class ViewersOnlyRead(Exception):
    """Staff who see the portal as a customer does have sent a form."""


def check_policy(app: Flask) -> None:
    """Refuse to start with a route that POLICY does not name (bar 30)."""
    missing = {rule.endpoint for rule in app.url_map.iter_rules()} - set(POLICY)
    if missing:
        raise UnlistedRoute(f"core/access.py has no rule for {', '.join(sorted(missing))}")


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
        if not rule.stays_open and _is_closed(rule):
            return maintenance.answer(is_for_people=rule.proof is not Proof.OWN)
        if request.method not in SAFE_METHODS:
            answer = _check_proof(rule, settings, pre_cookie)
            if answer is not None:
                return answer
        if rule.who is Who.FLOW:
            return _take_flow(rule, settings)
        return _take_person(rule, build)


def _take_person(rule: Rule, build: str) -> Response | BaseResponse | None:
    """Settle who asks, and whether they may; an answer when they may not, or hold the page."""
    if rule.who in _NOT_SIGNED_IN and not rule.greets:
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


def _is_closed(rule: Rule) -> bool:
    # The session's query, where there is one, brings the ISP's revision along.
    try:
        if "HTTP_COOKIE" in request.environ:
            find_signed_in()
    except SQLAlchemyError:
        if rule.who is not Who.EVERYONE or request.method not in SAFE_METHODS:
            raise  # not signed out: it cannot be told who this is
    return current_isp().is_closed


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
    if rule.who in _NOT_SIGNED_IN or rule.before_second_factor or person.viewer_id is not None:
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
    kind = rule.flow
    assert kind is not None  # noqa: S101 - tests/test_routes.py looks at every rule
    token = request.cookies.get(flows.flow_cookie(kind.value, is_https=settings.is_https))
    flow = flows.find(kind.value, token)
    if flow is None:
        path = f"{FIRST_PAGES[kind]}?done=ended"
        return htmx.sign_in_again(path) if htmx.wants_fragment() else htmx.go_to(path)
    if request.method not in SAFE_METHODS and not csrf.is_token_of(
        flow.csrf_secret, request.form.get("csrf_token", "")
    ):
        raise csrf.NotFromOurPage
    g.flow = flow
    g.is_private = True
    return None


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
    path = "/sign-in" + ("?" + urlencode(query) if query else "")
    if htmx.wants_fragment():
        return htmx.sign_in_again(path)
    return htmx.go_to(path)
