"""Codes of an authenticator app: time-based one-time passwords (RFC 6238)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from datetime import timedelta

from markupsafe import Markup
from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from blueprints.auth import factors
from blueprints.auth.errors import AppCodeWrong, NothingPending
from blueprints.auth.service import SignInRules
from core import clock, codes, ids, sealing, throttle
from core.db import db, unit_of_work
from core.isp import current_isp
from models import Factor, FactorKind

SEED_CHARACTERS = 32
"""Of base 32: 160 bits (RFC 4226, 4 R6)."""
STEP_SECONDS = 30
WINDOW = 1
PENDING = timedelta(hours=1)
"""How long a key that was shown may be confirmed."""
_PURPOSE = "totp seeds"


@dataclass(frozen=True, slots=True)
class Pending:
    """A key that is shown and does not count yet."""

    factor_id: int
    seed: str = field(repr=False)

    @property
    def grouped(self) -> str:
        return codes.grouped(self.seed, 4)


def start(customer_id: int, secret: bytes) -> None:
    """Make a key that counts once confirmed; an earlier one that was not is forgotten."""
    from pyotp import random_base32

    sealed = sealing.seal(secret, _PURPOSE, random_base32(SEED_CHARACTERS))

    def work(session: Session) -> None:
        factors.drop_pending(session, customer_id, [FactorKind.TOTP])
        session.add(
            Factor(
                public_id=ids.public_id(),
                customer_id=customer_id,
                kind=FactorKind.TOTP.value,
                secret=sealed,
                created_at=clock.now(),
            )
        )

    unit_of_work(work)


def give(session: Session, customer_id: int, seed: str, secret: bytes) -> None:
    """Let an app with the key `seed` count at once, within the running unit of work: for the demo,
    whose visitors are told its codes."""
    now = clock.now()
    session.add(
        Factor(
            public_id=ids.public_id(),
            customer_id=customer_id,
            kind=FactorKind.TOTP.value,
            secret=sealing.seal(secret, _PURPOSE, seed),
            created_at=now,
            confirmed_at=now,
        )
    )


def find_pending(customer_id: int, secret: bytes) -> Pending | None:
    """The key that waits to be confirmed."""
    row = db.session.execute(
        select(Factor.id, Factor.secret)
        .where(
            Factor.customer_id == customer_id,
            Factor.kind == FactorKind.TOTP.value,
            Factor.confirmed_at.is_(None),
            Factor.created_at > clock.now() - PENDING,
        )
        .order_by(Factor.id.desc())
        .limit(1)
    ).one_or_none()
    seed = sealing.find_sealed(secret, _PURPOSE, row.secret) if row is not None else None
    return Pending(row.id, seed) if row is not None and seed is not None else None


def qr_code(seed: str, sign_in_id: str) -> Markup:
    """The key as a QR code that an app reads, as SVG in black on white whatever the page's
    colours."""
    import segno
    from pyotp import TOTP

    address = TOTP(seed).provisioning_uri(name=sign_in_id, issuer_name=current_isp().name)
    code = segno.make(address, error="m", micro=False)
    svg = code.svg_inline(
        light="#fff", border=4, omitsize=True, svgclass="qr", lineclass=None, title=None
    )
    return Markup(svg)  # noqa: S704 - drawn by segno from squares alone


def confirm(
    customer_id: int, typed: str, rules: SignInRules, *, session_id: int | None = None
) -> None:
    """Let the key count from now on, since its app shows the right code.

    Raises NothingPending, AppCodeWrong, TooManyAttempts.
    """
    pending = find_pending(customer_id, rules.secret)
    if pending is None:
        raise NothingPending
    step = _step_of(pending.seed, typed)

    def work(session: Session) -> bool:
        subject = factors.code_subject(rules.secret, customer_id)
        attempt = throttle.count_within(session, subject, throttle.CODES)
        if step is None:
            return False
        now = clock.now()
        confirmed = session.scalar(
            update(Factor)
            .where(Factor.id == pending.factor_id, Factor.confirmed_at.is_(None))
            .values(confirmed_at=now, last_step=step, last_used_at=now)
            .returning(Factor.id)
        )
        if confirmed is None:
            raise NothingPending
        throttle.note_passed(session, attempt)
        if session_id is not None:
            factors.mark_proven(session, session_id)
        factors.note_change(session, customer_id, "factor_added", but_session=session_id)
        return True

    with throttle.noted():
        is_right = unit_of_work(work)
    if not is_right:
        raise AppCodeWrong


@dataclass(frozen=True, slots=True)
class Match:
    """That a typed code belongs to `step` of a factor."""

    factor_id: int
    step: int


def find_match(customer_id: int, typed: str, secret: bytes) -> Match | None:
    """Which of the customer's apps shows `typed` now, a step before or a step after. It counts only
    once it was used (`use`)."""
    rows = db.session.execute(
        select(Factor.id, Factor.secret).where(
            Factor.customer_id == customer_id,
            Factor.kind == FactorKind.TOTP.value,
            Factor.confirmed_at.is_not(None),
        )
    ).all()
    for row in rows:
        seed = sealing.find_sealed(secret, _PURPOSE, row.secret)
        step = _step_of(seed, typed) if seed is not None else None
        if step is not None:
            return Match(row.id, step)
    return None


def use(session: Session, match: Match) -> bool:
    """Use a code up, within the running unit of work: only a later one counts after it (bar 8)."""
    used = session.scalar(
        update(Factor)
        .where(
            Factor.id == match.factor_id,
            Factor.confirmed_at.is_not(None),
            or_(Factor.last_step.is_(None), Factor.last_step < match.step),
        )
        .values(last_step=match.step, last_used_at=clock.now())
        .returning(Factor.id)
    )
    return used is not None


def _step_of(seed: str, typed: str) -> int | None:
    """The time step, of those that are taken now, whose code was typed."""
    from pyotp import HOTP

    app = HOTP(seed)
    now_step = int(clock.now().timestamp()) // STEP_SECONDS
    clean = codes.clean(typed)
    found = None
    for step in range(now_step - WINDOW, now_step + WINDOW + 1):
        if hmac.compare_digest(app.at(step).encode(), clean.encode()):
            found = step
    return found
