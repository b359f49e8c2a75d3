"""Beginning anew with a bill that was settled and is open again, as after a chargeback."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import String, cast, update
from sqlalchemy.orm import Session

from models import DunningStep

PAST = ":was:"
"""Stands in the names of steps that were taken before the bill was settled."""


def begin(session: Session, invoice_ids: Collection[int]) -> None:
    """Let the steps taken so far count no more, within the running unit of work: whoever had paid
    is reminded first."""
    if invoice_ids:
        session.execute(
            update(DunningStep)
            .where(DunningStep.invoice_id.in_(invoice_ids), DunningStep.step.not_like(f"%{PAST}%"))
            .values(step=DunningStep.step + PAST + cast(DunningStep.id, String))
            .execution_options(synchronize_session=False)
        )
