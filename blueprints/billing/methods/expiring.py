"""Saying once of each card that it expires soon."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import telling
from blueprints.billing.methods import keeping, noting
from core import clock
from core.db import db, unit_of_work
from core.isp import current_isp
from models import MethodState, PaymentMethod

_WATCH_EVERY = timedelta(hours=1)


class ExpiryWatch:
    """A duty of the worker: says once of each card that it expires soon."""

    def __init__(self) -> None:
        self._next_at: datetime | None = None

    def __call__(self) -> int:
        now = clock.now()
        if self._next_at is not None and now < self._next_at:
            return 0
        self._next_at = now + _WATCH_EVERY
        return tell_expiring()


def tell_expiring() -> int:
    """Tell the customers whose cards expire soon or have just expired; returns how many."""
    isp = current_isp()
    today = clock.today(isp.timezone)
    soon_on = today + timedelta(days=isp.billing_rules.expiring_days)
    which = (
        PaymentMethod.state == MethodState.USABLE.value,
        PaymentMethod.told_on.is_(None),
        PaymentMethod.expires_on <= soon_on,
        keeping.is_kept(),
    )
    rows = db.session.execute(
        select(PaymentMethod.id, PaymentMethod.account_id).where(*which)
    ).all()
    return sum(unit_of_work(_telling(row.id, today), row.account_id) for row in rows)


def _telling(method_id: int, today: date) -> Callable[[Session], int]:
    def work(session: Session) -> int:
        method = session.get_one(PaymentMethod, method_id)
        if method.told_on is not None or method.state != MethodState.USABLE:
            return 0
        method.told_on = today
        telling.tell(
            session,
            "method_expiring",
            method.account_id,
            method.customer_id,
            {
                "title": method.title,
                "expires_on": method.expires_on.isoformat() if method.expires_on else "",
                "account": noting.account_reference(session, method) or "",
            },
        )
        return 1

    return work
