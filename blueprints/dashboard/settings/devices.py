"""Where a customer is signed in, and which devices are trusted; ending both."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from blueprints.auth.service import is_this_device
from blueprints.dashboard.settings import user_agents
from blueprints.dashboard.settings.errors import SessionGone
from core import activity, clock, form_keys, revisions, row_names, sessions
from core.db import db
from core.form_keys import ArrivedKey
from core.sessions import SignedIn
from models import Device, SignInSession

PAGE = "/settings/sessions"
SHOWN = 20


@dataclass(frozen=True, slots=True)
class SessionView:
    name: str
    browser: str
    system: str
    address: str
    created_at: datetime
    last_used_at: datetime
    is_this: bool
    is_own_device: bool
    is_staff_looking: bool


@dataclass(frozen=True, slots=True)
class DeviceView:
    name: str
    last_seen_at: datetime
    trusted_until_at: datetime
    is_this: bool


@dataclass(frozen=True, slots=True)
class DevicesPage:
    """The sessions used last, this one first; `more_count` are not shown."""

    sessions: list[SessionView]
    more_count: int
    devices: list[DeviceView]

    @property
    def has_others(self) -> bool:
        return len(self.sessions) > 1 or self.more_count > 0


def find_page(person: SignedIn, secret: bytes, device_token: str | None) -> DevicesPage:
    """Everything the page of sessions and devices shows, in two queries."""
    living = [row for row in _list_sessions(db.session(), person) if sessions.is_living(row)]
    living.sort(key=lambda row: (row.id == person.session_id, row.last_used_at), reverse=True)
    return DevicesPage(
        [_view(row, person, secret) for row in living[:SHOWN]],
        max(len(living) - SHOWN, 0),
        [
            DeviceView(
                row_names.of(secret, "device", row.id),
                row.last_seen_at,
                row.trusted_until_at,
                is_this_device(person.customer_id, device_token, row.token_hash),
            )
            for row in _list_devices(db.session(), person.customer_id)
        ],
    )


def _list_sessions(session: Session, person: SignedIn) -> list[Any]:
    return list(
        session.execute(
            select(
                SignInSession.id,
                SignInSession.user_agent,
                SignInSession.address,
                SignInSession.created_at,
                SignInSession.last_used_at,
                SignInSession.expires_at,
                SignInSession.is_own_device,
                SignInSession.is_staff,
                SignInSession.viewer_id,
            ).where(
                SignInSession.customer_id == person.customer_id,
                SignInSession.ended_at.is_(None),
                SignInSession.generation == person.generation,
            )
        )
    )


def _list_devices(session: Session, customer_id: int) -> list[Any]:
    return list(
        session.execute(
            select(Device.id, Device.token_hash, Device.last_seen_at, Device.trusted_until_at)
            .where(Device.customer_id == customer_id, Device.trusted_until_at > clock.now())
            .order_by(Device.last_seen_at.desc(), Device.id)
            .limit(SHOWN)
        )
    )


def _view(row: Any, person: SignedIn, secret: bytes) -> SessionView:
    browser, system = user_agents.read(row.user_agent)
    return SessionView(
        row_names.of(secret, "session", row.id),
        browser,
        system,
        row.address,
        row.created_at,
        row.last_used_at,
        is_this=row.id == person.session_id,
        is_own_device=row.is_own_device,
        is_staff_looking=row.viewer_id is not None,
    )


def end_one(person: SignedIn, name: str, key: ArrivedKey, secret: bytes) -> str:
    """End one of the customer's sessions; the path that shows the others. Raises SessionGone."""

    def work(session: Session) -> str:
        found = [
            row.id
            for row in _list_sessions(session, person)
            if row_names.is_name(name, secret, "session", row.id)
        ]
        if not found:
            raise SessionGone
        session.execute(
            update(SignInSession)
            .where(SignInSession.id == found[0])
            .values(ended_at=clock.now(), kept_form=None, kept_until_at=None)
        )
        return _noted(session, person, "session_ended", "ended")

    return form_keys.once(key, work)


def end_others(person: SignedIn, key: ArrivedKey) -> str:
    """End every session but this one; no device is trusted any more."""

    def work(session: Session) -> str:
        sessions.end_all_of(session, person.customer_id, but=person.session_id)
        return _noted(session, person, "other_sessions_ended", "all-ended")

    return form_keys.once(key, work)


def distrust(person: SignedIn, name: str, key: ArrivedKey, secret: bytes) -> str:
    """Ask a device for the second step again. Raises SessionGone."""

    def work(session: Session) -> str:
        found = [
            row.id
            for row in _list_devices(session, person.customer_id)
            if row_names.is_name(name, secret, "device", row.id)
        ]
        if not found:
            raise SessionGone
        session.execute(update(Device).where(Device.id == found[0]).values(trusted_until_at=None))
        return _noted(session, person, "device_distrusted", "distrusted")

    return form_keys.once(key, work)


def _noted(session: Session, person: SignedIn, kind: str, done: str) -> str:
    event = activity.Event(kind, clock.now(), customer_id=person.customer_id)
    activity.record(session, [event])
    revisions.raise_customer(session, person.customer_id)
    return f"{PAGE}?done={done}"
