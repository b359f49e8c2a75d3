"""Releasing the lines of whoever has paid enough, in the transaction of the payment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from blueprints.billing.dunning import reading
from blueprints.billing.dunning.steps import is_enough
from blueprints.lines import holding
from models import HoldReason, Line, LineHold

# Paying is a hot path: building a statement costs more than running it.
_LIST_HELD = (
    select(Line.id, Line.account_id)
    .join(LineHold, LineHold.line_id == Line.id)
    .where(
        Line.account_id.in_(bindparam("accounts", expanding=True)),
        LineHold.reason == HoldReason.UNPAID.value,
        LineHold.released_at.is_(None),
    )
)


def lift_unpaid(session: Session, account_ids: Sequence[int], today: date) -> None:
    """Release holds for `unpaid` of accounts of which nothing is overdue any more that the policy
    would mind, or that are left alone for now (DESIGN §3)."""
    held = session.connection().execute(_LIST_HELD, {"accounts": list(account_ids)}).all()
    if not held:
        return
    frame = reading.read_frame(session, today)
    found = reading.read(session, sorted({row.account_id for row in held}), frame)
    owing = {
        known.debtor.account_id
        for known in found
        if not known.debtor.is_resting(today)
        and is_enough(known.debtor.overdue_minor(today), known.policy)
    }
    line_ids = [row.id for row in held if row.account_id not in owing]
    holding.release(session, line_ids, HoldReason.UNPAID)
