"""Sign-in sessions as rows, reached through a SessionInterface, so that Flask-Login works as
documented.

The cookie holds a random id whose hash is stored. The row is loaded at first use, after the URL
has been matched, so that session, customer, account, membership and revisions come in one query
and a page open to everyone costs none. Nothing is written but by `open_session_row`, `end` and
the last-use note.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask import Flask, Request, Response, g, has_request_context
from flask import session as current
from flask.sessions import SessionInterface, SessionMixin
from flask_login import UserMixin
from sqlalchemy import Select, and_, bindparam, delete, func, or_, select, update
from sqlalchemy.orm import Session, aliased
from werkzeug.datastructures import ImmutableMultiDict
from werkzeug.sansio.http import parse_cookie

from core import clock, ids
from core.db import count_changed, unit_of_work
from core.isp import is_pinned
from core.prepared import Prepared
from models import Account, Customer, Device, Isp, Membership, SignInSession, StaffMember

IDLE = timedelta(hours=1)
ABSOLUTE = timedelta(hours=24)
IDLE_OWN_DEVICE = timedelta(days=14)
ABSOLUTE_OWN_DEVICE = timedelta(days=30)
IDLE_STAFF = timedelta(minutes=30)
ABSOLUTE_STAFF = timedelta(hours=12)
RECENT = timedelta(minutes=10)
"""How long a password or passkey counts as just given (bar 28)."""
NOTE_EVERY = timedelta(minutes=5)
NOTE_PATIENCE_SECONDS = 0.1
"""How long a page that is only read waits to note that it was: it can be noted the next time."""
DEVICE_KEPT = timedelta(days=400)
FORM_KEPT = timedelta(hours=1)

SESSION_COOKIE = "session"
DEVICE_COOKIE = "device"
PRE_COOKIE = "here"


@dataclass(frozen=True, slots=True)
class SignedInAccount:
    """The account that the URL names, as the signed-in customer may use it."""

    account_id: int
    public_id: str
    number: str
    name: str
    status: str
    revision: int
    role: str


@dataclass(frozen=True, slots=True)
class SignedIn(UserMixin):
    """Who is signed in, from the session's query."""

    session_id: int
    customer_id: int
    public_id: str
    name: str
    sign_in_id: str
    language: str
    customer_revision: int
    account_count: int
    isp_revision: int
    csrf_secret: bytes
    generation: int
    is_own_device: bool
    last_used_at: datetime
    kept_until_at: datetime | None
    timezone: str | None
    password_at: datetime
    is_staff: bool
    viewer_id: int | None
    has_second_factor: bool
    account: SignedInAccount | None

    def get_id(self) -> str:
        return self.public_id

    @property
    def subject(self) -> str:
        """Whom a form key is minted for."""
        return f"customer:{self.customer_id}"

    @property
    def is_use_due(self) -> bool:
        """Whether the time of last use is to be written, which happens every five minutes."""
        return clock.now() - self.last_used_at >= NOTE_EVERY

    @property
    def is_recent(self) -> bool:
        """Whether password or passkey were given just now (bar 28)."""
        return clock.now() - self.password_at < RECENT

    @property
    def has_kept_form(self) -> bool:
        """Whether a form posted after an earlier session had run out waits to be shown again."""
        return self.kept_until_at is not None and self.kept_until_at > clock.now()


@dataclass(frozen=True, slots=True)
class ExpiredSession:
    """A session that ran out by itself: its form may be kept and offered again (bar 39)."""

    session_id: int
    customer_id: int
    csrf_secret: bytes


def cookie_name(name: str, *, is_https: bool) -> str:
    """`__Host-` binds a cookie to this host over TLS; a plain loopback address cannot have it."""
    return f"__Host-{name}" if is_https else name


def cookies_of(environ: Mapping[str, Any]) -> ImmutableMultiDict[str, str]:
    """The cookies of a request. Another program on this host may have set any bytes, of which
    Werkzeug's own reading fails; ours are ASCII."""
    return ImmutableMultiDict(parse_cookie(environ.get("HTTP_COOKIE")))


class PortalSession(SessionMixin, MutableMapping[str, Any]):
    """What Flask-Login reads and writes, backed by the session row. Loads at first use."""

    def __init__(self, token: str | None, path_account: str | None) -> None:
        self._token = token
        self._path_account = path_account
        self._values: dict[str, Any] | None = None
        self.signed_in: SignedIn | None = None
        self.expired: ExpiredSession | None = None
        self.new_token: str | None = None
        self.is_new_on_own_device = False
        self.has_ended = False

    def _load(self) -> dict[str, Any]:
        if self._values is None:
            self._values = {}
            if self._token is not None and not is_pinned():
                self.signed_in, self.expired = find_session(self._token, self._path_account)
            if self.signed_in is not None:
                g.isp_revision = self.signed_in.isp_revision
                self._values = {"_user_id": self.signed_in.public_id, "_fresh": True}
        return self._values

    def begin(self, token: str, person: SignedIn) -> None:
        """Let the answer set the cookie of a session row that has just been opened for `person`.

        Whoever was signed in before is forgotten.
        """
        self._values = {}
        self.signed_in, self.expired = person, None
        self.new_token, self.is_new_on_own_device = token, person.is_own_device

    def finish(self) -> None:
        """Let the answer clear the cookie."""
        self._values = {}
        self.signed_in, self.expired, self.has_ended = None, None, True

    def find_signed_in(self) -> SignedIn | None:
        """Who is signed in, or None."""
        self._load()
        return self.signed_in

    def find_expired(self) -> ExpiredSession | None:
        """The session of the cookie when it ran out by itself."""
        self._load()
        return self.expired

    def __getitem__(self, key: str) -> Any:
        return self._load()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._load()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._load()[key]

    def __contains__(self, key: object) -> bool:
        # After each answer Flask-Login looks for its "remember me", which is not used here: that
        # must not load the session of a page that did not need it.
        return key != "_remember" and key in self._load()

    def __iter__(self) -> Iterator[str]:
        return iter(self._load())

    def __len__(self) -> int:
        return len(self._load())


def find_signed_in() -> SignedIn | None:
    """Who is signed in, or None. Loads the session."""
    if has_request_context() and isinstance(current, PortalSession):
        return current.find_signed_in()
    return None


def signed_in() -> SignedIn:
    """Who is signed in, on a route whose rule asks for it."""
    found = find_signed_in()
    if found is None:
        raise LookupError("no one is signed in: the route's rule does not ask for it")
    return found


class RowSessions(SessionInterface):
    """Flask's way in: opens a PortalSession without a query, and sets or clears its cookie."""

    def __init__(self, *, is_https: bool) -> None:
        self._cookie = cookie_name(SESSION_COOKIE, is_https=is_https)
        self._is_https = is_https
        # As browsers send it; whatever looks otherwise is read by Werkzeug.
        name = self._cookie
        self._plain = re.compile(
            rf"(?:(?!{name}=)[\w-]+=[\w-]*; )*{name}=([\w-]+)(?:;|$)", re.ASCII
        )

    def open_session(self, _app: Flask, request: Request) -> PortalSession:
        held: PortalSession | None = g.pop("portal_session", None)  # core/front.py opened it
        return self.open(request.environ) if held is None else held

    def open(self, environ: Mapping[str, Any]) -> PortalSession:
        """The session of a request, not loaded yet."""
        # Flask opens the session before it matches the URL, so the account is read from the path.
        parts = environ["PATH_INFO"].split("/", 3)
        account = parts[2] if len(parts) > 2 and parts[1] == "a" and parts[2].isalnum() else None
        return PortalSession(self._token(environ), account)

    def has_cookie(self, environ: Mapping[str, Any]) -> bool:
        """Whether the request names a session, be it one that there is or not."""
        return self._token(environ) is not None

    def _token(self, environ: Mapping[str, Any]) -> str | None:
        cookies = environ.get("HTTP_COOKIE", "")
        if self._cookie not in cookies:
            return None
        plain = self._plain.match(cookies)
        return plain.group(1) if plain else cookies_of(environ).get(self._cookie)

    def save_session(
        self,
        _app: Flask,
        session: SessionMixin,
        response: Response,
    ) -> None:
        if not isinstance(session, PortalSession):
            return
        if session.new_token is not None:
            response.set_cookie(
                self._cookie,
                session.new_token,
                max_age=ABSOLUTE_OWN_DEVICE if session.is_new_on_own_device else None,
                path="/",
                secure=self._is_https,
                httponly=True,
                samesite="Lax",
            )
        elif session.has_ended:
            response.delete_cookie(
                self._cookie, path="/", secure=self._is_https, httponly=True, samesite="Lax"
            )


def _session_query() -> Select[*tuple[Any, ...]]:
    """Session, customer, account, membership and revisions by the cookie's hash and the path."""
    any_membership = aliased(Membership)
    account_count = (
        select(func.count(any_membership.account_id))
        .where(any_membership.customer_id == Customer.id)
        .scalar_subquery()
    )
    return (
        select(
            SignInSession.id,
            SignInSession.customer_id,
            SignInSession.csrf_secret,
            SignInSession.generation,
            SignInSession.is_own_device,
            SignInSession.last_used_at,
            SignInSession.expires_at,
            SignInSession.ended_at,
            SignInSession.kept_until_at,
            SignInSession.password_at,
            SignInSession.is_staff,
            SignInSession.viewer_id,
            SignInSession.has_second_factor,
            Customer.public_id,
            Customer.name,
            Customer.sign_in_id,
            Customer.language,
            Customer.revision,
            Customer.session_generation,
            Customer.is_disabled,
            Customer.timezone,
            account_count.label("account_count"),
            Isp.revision.label("isp_revision"),
            Membership.role,
            Account.id.label("account_id"),
            Account.public_id.label("account_public_id"),
            Account.number,
            Account.name.label("account_name"),
            Account.status,
            Account.revision.label("account_revision"),
        )
        .join(Customer, Customer.id == SignInSession.customer_id)
        .join(Isp, Isp.id == 1)
        .outerjoin(Account, Account.public_id == bindparam("account"))
        .outerjoin(
            Membership,
            and_(
                Membership.account_id == Account.id,
                Membership.customer_id == SignInSession.customer_id,
            ),
        )
        .where(SignInSession.token_hash == bindparam("token_hash"))
    )


_SESSION = Prepared(_session_query())


def _viewer_query() -> Select[*tuple[Any, ...]]:
    own = aliased(SignInSession)
    return (
        select(Customer.name)
        .join(SignInSession, SignInSession.viewer_id == Customer.id)
        .join(own, own.id == SignInSession.viewer_session_id)
        .join(StaffMember, StaffMember.customer_id == Customer.id)
        .where(
            SignInSession.id == bindparam("session_id"),
            own.ended_at.is_(None),
            own.generation == Customer.session_generation,
            StaffMember.is_disabled.is_(False),
            Customer.is_disabled.is_(False),
        )
    )


_VIEWER = Prepared(_viewer_query())


def find_session(
    token: str, account_public_id: str | None
) -> tuple[SignedIn | None, ExpiredSession | None]:
    """Who the cookie's token belongs to, in one query; an expired session is told apart."""
    row = _SESSION.find(token_hash=ids.hash_token(token), account=account_public_id or "")
    if row is None or row.ended_at is not None or row.is_disabled:
        return None, None
    if row.generation != row.session_generation:
        return None, None
    if not is_living(row):
        return None, ExpiredSession(row.id, row.customer_id, row.csrf_secret)
    account = None
    if row.role is not None:
        account = SignedInAccount(
            row.account_id,
            row.account_public_id,
            row.number,
            row.account_name,
            row.status,
            row.account_revision,
            row.role,
        )
    return (
        SignedIn(
            row.id,
            row.customer_id,
            row.public_id,
            row.name,
            row.sign_in_id,
            row.language,
            row.revision,
            row.account_count,
            row.isp_revision,
            row.csrf_secret,
            row.generation,
            row.is_own_device,
            row.last_used_at,
            row.kept_until_at,
            row.timezone,
            row.password_at,
            row.is_staff,
            row.viewer_id,
            row.has_second_factor,
            account,
        ),
        None,
    )


def is_living(row: Any) -> bool:
    """Whether a session's row that has not been ended still counts."""
    now = clock.now()
    return bool(now < row.expires_at and now - row.last_used_at < _idle(row))


def _idle(row: Any) -> timedelta:
    if row.is_staff or row.viewer_id is not None:
        return IDLE_STAFF
    return IDLE_OWN_DEVICE if row.is_own_device else IDLE


def _absolute(*, is_own_device: bool, is_staff: bool) -> timedelta:
    if is_staff:
        return ABSOLUTE_STAFF
    return ABSOLUTE_OWN_DEVICE if is_own_device else ABSOLUTE


def open_session_row(
    session: Session,
    customer: Customer,
    *,
    is_own_device: bool,
    address: str,
    user_agent: str,
    replaces_token: str | None,
    is_staff: bool = False,
    has_second_factor: bool = False,
) -> str:
    """Write a new session within the running unit of work and return the cookie's token.

    A session that the same browser still had is ended (bar 26). `is_staff`: one of the ISP's own
    people who has given the second factor.
    """
    now = clock.now()
    is_own_device = is_own_device and not is_staff
    if replaces_token is not None:
        session.execute(
            update(SignInSession)
            .where(
                SignInSession.token_hash == ids.hash_token(replaces_token),
                SignInSession.ended_at.is_(None),
            )
            .values(ended_at=now)
        )
    token = ids.secret_token()
    session.add(
        SignInSession(
            token_hash=ids.hash_token(token),
            customer_id=customer.id,
            csrf_secret=secrets.token_bytes(16),
            generation=customer.session_generation,
            is_own_device=is_own_device,
            address=address[:45],
            user_agent=user_agent[:200],
            created_at=now,
            last_used_at=now,
            expires_at=now + _absolute(is_own_device=is_own_device, is_staff=is_staff),
            password_at=now,
            is_staff=is_staff,
            has_second_factor=has_second_factor,
        )
    )
    return token


def open_view(
    session: Session,
    customer: Customer,
    *,
    viewer_id: int,
    viewer_session_id: int,
    address: str,
    user_agent: str,
    lasts: timedelta,
) -> str:
    """Write a session in which staff see the portal as `customer` does, within the running unit of
    work; the cookie's token. The staff member's own session stays."""
    now = clock.now()
    token = ids.secret_token()
    session.add(
        SignInSession(
            token_hash=ids.hash_token(token),
            customer_id=customer.id,
            csrf_secret=secrets.token_bytes(16),
            generation=customer.session_generation,
            address=address[:45],
            user_agent=user_agent[:200],
            created_at=now,
            last_used_at=now,
            expires_at=now + lasts,
            password_at=now - RECENT,
            viewer_id=viewer_id,
            viewer_session_id=viewer_session_id,
        )
    )
    return token


def find_viewer(person: SignedIn) -> str | None:
    """The name of the staff member who sees the portal as `person` does; None once they or their
    own session are shut out (bar 33)."""
    row = _VIEWER.find(session_id=person.session_id)
    return row.name if row is not None else None


def note_use(signed_in: SignedIn) -> None:
    """Write the time of last use, at most every five minutes. Never called for a poll.

    Raises DatabaseBusy soon when others are writing.
    """
    if not signed_in.is_use_due:
        return
    now = clock.now()

    def work(session: Session) -> None:
        session.execute(
            update(SignInSession)
            .where(SignInSession.id == signed_in.session_id)
            .values(last_used_at=now)
        )

    unit_of_work(work, patience_seconds=NOTE_PATIENCE_SECONDS)


def end(session_id: int) -> None:
    """End a session, and with a view of staff their own: the cookie is anonymous from the next
    request on."""

    def work(session: Session) -> None:
        viewers = select(SignInSession.viewer_session_id).where(SignInSession.id == session_id)
        session.execute(
            update(SignInSession)
            .where(
                or_(SignInSession.id == session_id, SignInSession.id.in_(viewers)),
                SignInSession.ended_at.is_(None),
            )
            .values(ended_at=clock.now(), kept_form=None, kept_until_at=None)
        )

    unit_of_work(work)


def end_all_of(session: Session, customer_id: int, *, but: int | None = None) -> None:
    """End every session of a customer within the running unit of work, except the one with the id
    `but`; devices are asked for the second factor again."""
    ending = update(SignInSession).where(
        SignInSession.customer_id == customer_id, SignInSession.ended_at.is_(None)
    )
    if but is not None:
        ending = ending.where(SignInSession.id != but)
    session.execute(ending.values(ended_at=clock.now(), kept_form=None, kept_until_at=None))
    session.execute(
        update(Device).where(Device.customer_id == customer_id).values(trusted_until_at=None)
    )


def renew(session: Session, session_id: int, *, has_password: bool) -> str:
    """Let a session go on as another row, with another id and secret, within the running unit of
    work; the old id is dead (bar 26). Returns the cookie's token; with `has_password` it counts as
    just signed in.

    A form that waits stays with the old row too: when the answer is lost, the sign-in that then
    comes with the old cookie finds it (core/kept_forms.py).
    """
    token = ids.secret_token()
    old = session.get_one(SignInSession, session_id)
    if old.ended_at is not None:
        return token  # ended meanwhile: it opens nothing
    goes_on = {
        column.key: getattr(old, column.key)
        for column in SignInSession.__mapper__.column_attrs
        if column.key != "id"
    }
    goes_on |= {"token_hash": ids.hash_token(token), "csrf_secret": secrets.token_bytes(16)}
    if has_password:
        goes_on["password_at"] = clock.now()
    session.add(SignInSession(**goes_on))
    old.ended_at = clock.now()
    session.flush()
    return token


def delete_old(session: Session, now: datetime) -> int:
    """Delete sessions a day after they ran out or ended, devices not seen for over a year, and
    kept forms after their hour; returns how many sessions."""
    gone = now - timedelta(days=1)
    old = or_(SignInSession.expires_at < gone, SignInSession.ended_at < gone)
    count = count_changed(session, delete(SignInSession).where(old))
    session.execute(delete(Device).where(Device.last_seen_at < now - DEVICE_KEPT))
    session.execute(
        update(SignInSession)
        .where(SignInSession.kept_until_at <= now)
        .values(kept_form=None, kept_until_at=None)
    )
    return int(count)
