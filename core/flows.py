"""Ways in that are half gone: rows reached by a cookie of their own, one for each kind of flow.

A flow is a state machine: `move` takes it from one step to the next and does nothing when it stands
elsewhere, so that no step is skipped, or counts twice. Its pages carry its own token and form keys,
as signed-in ones do.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask import g
from sqlalchemy import bindparam, delete, select, update
from sqlalchemy.orm import Session
from werkzeug.wrappers import Response

from core import clock, ids
from core.prepared import Prepared
from core.sessions import cookie_name
from models import Flow, FlowKind, OneTimeCode, PasskeyChallenge, PostalLetter

_COLUMNS = (
    Flow.id,
    Flow.kind,
    Flow.step,
    Flow.csrf_secret,
    Flow.subject,
    Flow.account_id,
    Flow.customer_id,
    Flow.facts,
    Flow.expires_at,
)
KEPT = timedelta(days=1)
"""How long after its end a flow still says what became of it."""
LETTERS_KEPT = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class FlowInHand:
    """A living flow, as the request's cookie names it."""

    flow_id: int
    kind: str
    step: str
    csrf_secret: bytes
    subject_hash: bytes
    account_id: int | None
    customer_id: int | None
    facts: Mapping[str, Any]
    expires_at: datetime

    @property
    def of_customer(self) -> int:
        """Whose it is, of a flow that begins with a right password. Raises LookupError of others,
        which may be nobody's."""
        if self.customer_id is None:
            raise LookupError(f"the flow {self.kind} is nobody's")
        return self.customer_id

    @property
    def subject(self) -> str:
        """Whom a form key is minted for, and what a code is bound to."""
        return f"flow:{self.flow_id}"


def flow_cookie(kind: str, *, is_https: bool) -> str:
    return cookie_name(f"flow-{kind.replace('_', '-')}", is_https=is_https)


def begin(
    session: Session,
    kind: FlowKind,
    step: str,
    *,
    subject: bytes,
    lasts: timedelta,
    account_id: int | None = None,
    customer_id: int | None = None,
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Write a new flow within the running unit of work; returns its cookie's token."""
    token, now = ids.secret_token(), clock.now()
    session.add(
        Flow(
            token_hash=ids.hash_token(token),
            kind=kind.value,
            step=step,
            csrf_secret=secrets.token_bytes(16),
            subject=subject,
            account_id=account_id,
            customer_id=customer_id,
            facts=dict(facts or {}),
            created_at=now,
            expires_at=now + lasts,
        )
    )
    session.flush()
    return token


# On the request's own reading connection: one that held two could starve others (core/db.py).
_LIVING = Prepared(
    select(*_COLUMNS).where(
        Flow.token_hash == bindparam("token_hash"),
        Flow.kind == bindparam("kind"),
        Flow.ended_at.is_(None),
    )
)


def find(kind: str, token: str | None) -> FlowInHand | None:
    """The living flow of `kind` that the cookie's token names."""
    if token is None:
        return None
    row = _LIVING.find(token_hash=ids.hash_token(token), kind=kind)
    return FlowInHand(*row) if row is not None and row.expires_at > clock.now() else None


def lock(session: Session, flow: FlowInHand) -> FlowInHand | None:
    """`flow` as it stands now, held until the running unit of work ends; None when it has ended."""
    row = session.execute(
        select(*_COLUMNS)
        .where(Flow.id == flow.flow_id, Flow.ended_at.is_(None), Flow.expires_at > clock.now())
        .with_for_update()
    ).one_or_none()
    return FlowInHand(*row) if row is not None else None


def in_hand() -> FlowInHand:
    """The flow of this request, on a route whose rule asks for one."""
    found: FlowInHand = g.flow
    return found


def move(session: Session, flow: FlowInHand, to_step: str, **changes: Any) -> bool:
    """Take `flow` on to `to_step`, within the running unit of work; `changes` are columns.

    False when it stands at another step by now, or has ended: nothing is written then.
    """
    moved = session.scalar(
        update(Flow)
        .where(Flow.id == flow.flow_id, Flow.step == flow.step, Flow.ended_at.is_(None))
        .values(step=to_step, **changes)
        .returning(Flow.id)
    )
    return moved is not None


def end(session: Session, flow: FlowInHand) -> bool:
    """End `flow` where it stands; False when it stands elsewhere by now."""
    return move(session, flow, flow.step, ended_at=clock.now())


def end_all_of(session: Session, customer_id: int, *kinds: FlowKind, but: int = 0) -> None:
    """End the living flows of a customer, except the one with the id `but`: after a password
    change, say."""
    session.execute(
        update(Flow)
        .where(
            Flow.customer_id == customer_id,
            Flow.kind.in_([kind.value for kind in kinds]),
            Flow.id != but,
            Flow.ended_at.is_(None),
        )
        .values(ended_at=clock.now())
    )


def set_cookie(
    response: Response, kind: FlowKind, token: str, lasts: timedelta, *, is_https: bool
) -> None:
    """Hand the browser its flow. Lax: a link in a message must find it again."""
    response.set_cookie(
        flow_cookie(kind.value, is_https=is_https),
        token,
        max_age=lasts,
        path="/",
        secure=is_https,
        httponly=True,
        samesite="Lax",
    )


def clear_cookie(response: Response, kind: FlowKind, *, is_https: bool) -> None:
    response.delete_cookie(
        flow_cookie(kind.value, is_https=is_https),
        path="/",
        secure=is_https,
        httponly=True,
        samesite="Lax",
    )


def delete_old(session: Session, now: datetime) -> None:
    """Delete flows, codes and challenges that nothing looks at any more, and letters long after."""
    session.execute(delete(PasskeyChallenge).where(PasskeyChallenge.expires_at < now))
    session.execute(delete(OneTimeCode).where(OneTimeCode.expires_at < now - KEPT))
    session.execute(delete(PostalLetter).where(PostalLetter.ended_at < now - LETTERS_KEPT))
    lettered = select(PostalLetter.flow_id)
    session.execute(delete(Flow).where(Flow.expires_at < now - KEPT, Flow.id.not_in(lettered)))
