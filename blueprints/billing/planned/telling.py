"""Telling a customer what was planned for them and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import telling
from models import Account, PaymentMethod, PlannedPayment


def tell(
    session: Session,
    account_id: int,
    customer_id: int,
    what: str,
    facts: Mapping[str, Any],
    *,
    is_required: bool = False,
) -> None:
    """Queue the message `what`, a word that templates/email/_planned.txt knows, within the running
    unit of work. Notices that the law asks for (`is_required`) reach whoever wants none, too."""
    account = session.execute(
        select(Account.public_id, Account.currency).where(Account.id == account_id)
    ).one()
    known = {
        name: value.isoformat() if isinstance(value, date) else value
        for name, value in facts.items()
    }
    known |= {"what": what, "account": account.public_id, "currency": account.currency}
    telling.tell(session, "planned", account_id, customer_id, known, is_required=is_required)


def tell_of(
    session: Session,
    planned: PlannedPayment,
    what: str,
    *,
    is_required: bool = False,
    amount_minor: int | None = None,
    next_on: date | None = None,
) -> None:
    """Tell the customer whose payment it is of a planned payment, within the running unit."""
    if planned.customer_id is None:
        return
    method = (
        session.get(PaymentMethod, planned.method_id) if planned.method_id is not None else None
    )
    facts: dict[str, Any] = {
        "kind": planned.kind,
        "amount_minor": planned.amount_minor if amount_minor is None else amount_minor,
        "due_on": planned.due_on,
        "method": "" if method is None else method.title,
        "planned": planned.public_id,
        "reason": planned.failure,
    }
    if next_on is not None:
        facts["next_on"] = next_on
    tell(session, planned.account_id, planned.customer_id, what, facts, is_required=is_required)
