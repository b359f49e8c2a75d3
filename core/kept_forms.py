"""What was typed into a form whose session had expired, kept encrypted for an hour (bar 39).

The values wait in the expired session's row. When the same customer signs in again from the same
browser they move to the new session, sign-in leads to the form's page, and that shows them again,
not submitted, until the form is sent. Another customer's sign-in drops them. Passwords and codes
are never kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from core import clock, ids, sealing
from core.db import db, unit_of_work
from core.sessions import FORM_KEPT, SignedIn
from models import SignInSession

_PURPOSE = "kept forms"
_NEVER_KEPT = ("csrf_token", "form_key", "password", "code")
_MAX_CHARACTERS = 20_000


class _Kept(NamedTuple):
    path: str
    values: dict[str, str]


def keep(secret: bytes, session_id: int, path: str, values: Mapping[str, str]) -> None:
    """Keep the form posted to `path` with the expired session. Too long a form is not kept."""
    kept = {name: value for name, value in values.items() if not is_never_kept(name)}
    plain = json.dumps({"path": path, "values": kept})
    if len(plain) > _MAX_CHARACTERS:
        return
    sealed = sealing.seal(secret, _PURPOSE, plain)

    def work(session: Session) -> None:
        session.execute(
            update(SignInSession)
            .where(SignInSession.id == session_id, SignInSession.ended_at.is_(None))
            .values(kept_form=sealed, kept_until_at=clock.now() + FORM_KEPT)
        )

    unit_of_work(work)


def is_never_kept(name: str) -> bool:
    """Whether a field of this name may hold a secret."""
    return any(word in name for word in _NEVER_KEPT)


def move(
    session: Session, secret: bytes, old_token: str, customer_id: int, new_token: str
) -> str | None:
    """Hand the kept form of the browser's old session to the new one of the same customer, and
    return the path of its page; another customer's is dropped."""
    row = session.execute(
        select(
            SignInSession.kept_form, SignInSession.kept_until_at, SignInSession.customer_id
        ).where(
            SignInSession.token_hash == ids.hash_token(old_token),
            SignInSession.kept_form.is_not(None),
        )
    ).one_or_none()
    if row is None:
        return None
    _drop(session, SignInSession.token_hash == ids.hash_token(old_token))
    kept = _open(secret, row.kept_form)
    if row.customer_id != customer_id or row.kept_until_at <= clock.now() or kept is None:
        return None
    session.flush()
    session.execute(
        update(SignInSession)
        .where(SignInSession.token_hash == ids.hash_token(new_token))
        .values(kept_form=row.kept_form, kept_until_at=row.kept_until_at)
    )
    return kept.path


def find(secret: bytes, person: SignedIn, path: str) -> dict[str, str] | None:
    """The values kept for the form that posts to `path`, or None."""
    if not person.has_kept_form:
        return None
    sealed = db.session.scalar(
        select(SignInSession.kept_form).where(SignInSession.id == person.session_id)
    )
    kept = _open(secret, sealed)
    return kept.values if kept is not None and kept.path == path else None


def drop(person: SignedIn) -> None:
    """Forget the kept form: it has been sent."""
    if person.has_kept_form:
        unit_of_work(lambda session: _drop(session, SignInSession.id == person.session_id))


def _drop(session: Session, which: ColumnElement[bool]) -> None:
    session.execute(update(SignInSession).where(which).values(kept_form=None, kept_until_at=None))


def _open(secret: bytes, sealed: bytes | None) -> _Kept | None:
    opened = sealing.find_sealed(secret, _PURPOSE, sealed)
    if opened is None:
        return None
    plain = json.loads(opened)
    return _Kept(plain["path"], plain["values"])
