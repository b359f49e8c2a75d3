"""How planned payments and the permission for autopay end. Everything here runs inside a unit of
work over the account."""

from __future__ import annotations

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from blueprints.billing import payments
from blueprints.billing.planned import telling
from core import activity, clock
from models import AutopayMandate, PaymentMethod, PlannedKind, PlannedPayment, PlannedState

OFF = "off"
CHANGED = "changed"
METHOD_REMOVED = "method_removed"
METHOD_EXPIRED = "method_expired"
METHOD_MOVED = "method_moved"
ACCOUNT_CLOSED = "account_closed"
FAILED = "failed"
NOTHING_DUE = "nothing_due"
ARRANGED = "arranged"
MAY_COME_BACK = (NOTHING_DUE, ARRANGED)
"""Why autopay leaves a bill alone until something of it is due after all."""


def end(session: Session, planned: PlannedPayment, state: PlannedState, failure: str = "") -> None:
    """Put a planned payment into a state from which nothing happens by itself."""
    planned.state = state.value
    planned.failure = failure[:300]
    planned.ended_at = clock.now()
    rest(planned)
    payments.touch(session, [planned.account_id])


def rest(planned: PlannedPayment) -> None:
    """Let the worker do nothing about it any more."""
    planned.try_at = planned.claimed_until_at = None


def planned_of(mandate: AutopayMandate) -> Select[PlannedPayment]:
    """What autopay has planned and not begun."""
    return select(PlannedPayment).where(
        PlannedPayment.account_id == mandate.account_id,
        PlannedPayment.mandate_id == mandate.id,
        PlannedPayment.kind == PlannedKind.AUTOPAY.value,
        PlannedPayment.state.in_((PlannedState.WAITING.value, PlannedState.ASKING.value)),
    )


def end_mandate(session: Session, mandate: AutopayMandate, because: str) -> None:
    """Switch autopay off and what it planned with it; a payment under way goes on. Tells the
    customer, unless it is about to stand again as another one (`CHANGED`)."""
    mandate.ended_at = clock.now()
    mandate.ended_because = because
    session.flush()  # one of them may just have ended
    for planned in session.scalars(planned_of(mandate)):
        end(session, planned, PlannedState.CANCELLED, because)
    payments.touch(session, [mandate.account_id])
    if because == CHANGED:
        return
    event = activity.Event(
        "autopay_off",
        clock.now(),
        account_id=mandate.account_id,
        customer_id=mandate.customer_id,
        facts={"because": because},
    )
    activity.record(session, [event])
    method = session.get_one(PaymentMethod, mandate.method_id)
    telling.tell(
        session,
        mandate.account_id,
        mandate.customer_id,
        "autopay_off",
        {"reason": because, "method": method.title},
    )
