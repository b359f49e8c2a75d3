"""What was typed into a form whose session had expired, kept encrypted for an hour (bar 39).

The values wait in the expired session's row. When the same customer signs in again from the same
browser they move to the new session, and the form's page shows them again, not submitted.
Passwords and codes are never kept.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping

from cryptography.fernet import Fernet, InvalidToken
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from core import clock, ids
from core.db import db, unit_of_work
from core.sessions import FORM_KEPT
from models import SignInSession

_NEVER_KEPT = ("csrf_token", "form_key", "password", "code")
_MAX_CHARACTERS = 20_000


def _cipher(secret: bytes) -> Fernet:
    key = hmac.digest(secret, b"kept forms", hashlib.sha256)
    return Fernet(base64.urlsafe_b64encode(key))


def keep(secret: bytes, session_id: int, path: str, values: Mapping[str, str]) -> None:
    """Keep the form posted to `path` with the expired session. Too long a form is not kept."""
    kept = {
        name: value
        for name, value in values.items()
        if not any(word in name for word in _NEVER_KEPT)
    }
    plain = json.dumps({"path": path, "values": kept})
    if len(plain) > _MAX_CHARACTERS:
        return
    sealed = _cipher(secret).encrypt(plain.encode())

    def work(session: Session) -> None:
        session.execute(
            update(SignInSession)
            .where(SignInSession.id == session_id, SignInSession.ended_at.is_(None))
            .values(kept_form=sealed, kept_until_at=clock.now() + FORM_KEPT)
        )

    unit_of_work(work)


def move(session: Session, old_token: str, customer_id: int, new_token: str) -> None:
    """Hand the kept form of the browser's old session to the new one of the same customer."""
    row = session.execute(
        select(SignInSession.kept_form, SignInSession.kept_until_at).where(
            SignInSession.token_hash == ids.hash_token(old_token),
            SignInSession.customer_id == customer_id,
            SignInSession.kept_until_at > clock.now(),
        )
    ).one_or_none()
    if row is not None:
        session.flush()
        session.execute(
            update(SignInSession)
            .where(SignInSession.token_hash == ids.hash_token(new_token))
            .values(kept_form=row.kept_form, kept_until_at=row.kept_until_at)
        )
        session.execute(
            update(SignInSession)
            .where(SignInSession.token_hash == ids.hash_token(old_token))
            .values(kept_form=None, kept_until_at=None)
        )


def find(secret: bytes, session_id: int, path: str) -> dict[str, str] | None:
    """The values kept for the form that posts to `path`, or None."""
    sealed = db.session.scalar(
        select(SignInSession.kept_form).where(
            SignInSession.id == session_id, SignInSession.kept_until_at > clock.now()
        )
    )
    if sealed is None:
        return None
    try:
        kept = json.loads(_cipher(secret).decrypt(sealed))
    except InvalidToken:
        return None
    return kept["values"] if kept["path"] == path else None
