"""Payments as rows: how one is made, moves from state to state, and when it is asked about.

`starting.py` brings a customer to the gateway, `settling.py` learns there how it ended,
`booking.py` writes what has arrived into the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, bindparam, insert, select, update
from sqlalchemy.orm import Session

from blueprints.billing.errors import (
    PaymentNotFound,
)
from core import clock, ids
from core.db import db, total, unit_of_work
from core.isp import current_isp
from core.money import Money
from models import (
    ENDED,
    UNDER_WAY,
    Account,
    Membership,
    Payment,
    PaymentState,
    PlannedPayment,
    PlannedState,
    Role,
)

MINIMUM_MINOR = 100
MAXIMUM_MINOR = 1_000_000

# How long the worker waits before each question about a payment that has not ended (bar 54): soon
# while somebody may be looking, at 5 minutes and 1 hour, three hours apart so that the end is known
# within a day although the gateway is away for hours again and again, then daily. One whose
# customer is at the gateway's page is left alone for the first seconds.
_ASK_UNKNOWN = tuple(
    timedelta(seconds=seconds) for seconds in (5, 15, 60, 220, 3300, *[10_800] * 7, 3600)
)
ASK_SENT = tuple(
    timedelta(seconds=seconds) for seconds in (20, 40, 240, 1500, 3600, 21_600, 39_600)
)
_ASK_PROCESSING = tuple(timedelta(seconds=seconds) for seconds in (15, 60, 300, 3600))
_DAILY = timedelta(days=1)
# A gateway that never saw the key may still get it from a start of ours that is on its way.
START_GRACE = timedelta(seconds=60)
# One that has answered a start and later denies it is not believed for half a day.
DENIAL_GRACE = timedelta(hours=12)


@dataclass(frozen=True, slots=True)
class NewPayment:
    """A payment row to create; `key` is unique for good and is the gateway's key too.

    With `method_id` it is taken from that saved method; `planned_id`: as it was planned.
    """

    key: str
    account_id: int
    customer_id: int | None
    invoice_id: int | None
    amount_minor: int
    method_id: int | None = None
    planned_id: int | None = None


def ask_after(state: PaymentState, ask_count: int) -> timedelta | None:
    """How long to wait before the question after `ask_count`; None when there is nothing to ask."""
    if state in ENDED:
        return None
    steps = {PaymentState.SENT: ASK_SENT, PaymentState.PROCESSING: _ASK_PROCESSING}.get(
        state, _ASK_UNKNOWN
    )
    return steps[ask_count] if ask_count < len(steps) else _DAILY


def processing_minor(session: Session, account_id: int) -> int:
    """What bank debits of the account have under way, in minor units."""
    return session.execute(
        select(total(Payment.amount_minor)).where(
            Payment.account_id == account_id, Payment.state == PaymentState.PROCESSING
        )
    ).scalar_one()


def create(
    session: Session, payments: Sequence[NewPayment], gateway_name: str
) -> list[tuple[int, str]]:
    """Write payments in state `created`; returns (id, public id) in order.

    A second payment under way on an account, or a key used before, raises IntegrityError.
    """
    now = clock.now()
    currency = current_isp().currency
    rows = session.execute(
        insert(Payment).returning(Payment.id, Payment.public_id, sort_by_parameter_order=True),
        [
            {
                "public_id": ids.public_id(),
                "key": payment.key,
                "account_id": payment.account_id,
                "customer_id": payment.customer_id,
                "invoice_id": payment.invoice_id,
                "amount_minor": payment.amount_minor,
                "method_id": payment.method_id,
                "planned_id": payment.planned_id,
                "currency": currency,
                "state": PaymentState.CREATED.value,
                "gateway": gateway_name,
                "created_at": now,
                "ask_at": now + START_GRACE,
                "ask_count": 0,
            }
            for payment in payments
        ],
    )
    touch(session, [payment.account_id for payment in payments])
    return [(row.id, row.public_id) for row in rows]


# Statements that every posting runs are built once: building one costs more than running it, and
# on SQLite all other writers wait meanwhile.
_TOUCH = (
    update(Account)
    .where(Account.id.in_(bindparam("touched", expanding=True)))
    .values(revision=Account.revision + 1)
)


def touch(session: Session, account_ids: Sequence[int]) -> None:
    """Every change of a payment changes its account's pages: kept copies of them are outdated."""
    if account_ids:
        session.connection().execute(_TOUCH, {"touched": account_ids})


def wake_planned(session: Session, ended: Sequence[Payment]) -> None:
    """Let the worker see at once what became of planned payments whose payments have ended."""
    planned_ids = [
        payment.planned_id
        for payment in ended
        if payment.planned_id is not None and payment.state in ENDED
    ]
    if planned_ids:
        session.execute(
            update(PlannedPayment)
            .where(
                PlannedPayment.id.in_(planned_ids),
                PlannedPayment.state == PlannedState.TAKING.value,
            )
            .values(try_at=clock.now())
        )


def change(
    session: Session, payment_id: int, conditions: Sequence[ColumnElement[bool]], **values: Any
) -> None:
    """Change a payment for which the conditions still hold."""
    account_id = session.scalar(
        update(Payment)
        .where(Payment.id == payment_id, *conditions)
        .values(revision=Payment.revision + 1, **values)
        .returning(Payment.account_id)
    )
    if account_id is not None:
        touch(session, [account_id])


def mark_unknown(payment_id: int, account_id: int) -> None:
    """Note that the gateway did not answer a start, or a wish to cancel."""

    def work(session: Session) -> None:
        change(
            session,
            payment_id,
            (Payment.state.in_((PaymentState.CREATED, PaymentState.SENT)),),
            state=PaymentState.UNKNOWN.value,
            ask_count=1,
            ask_at=clock.now() + _ASK_UNKNOWN[0],
        )

    unit_of_work(work, account_id)


def end(payment_id: int, account_id: int, state: PaymentState, reason: str = "") -> None:
    """End a payment that is known to have moved no money."""

    def work(session: Session) -> None:
        change(
            session,
            payment_id,
            (Payment.state.in_(UNDER_WAY),),
            state=state.value,
            decline_reason=reason[:300],
            ended_at=clock.now(),
            ask_at=None,
            claimed_until_at=None,
        )

    unit_of_work(work, account_id)


def move(payment: Payment, state: PaymentState) -> None:
    """Put the payment into another state, whose questions begin anew."""
    payment.state = state.value
    payment.revision += 1
    payment.ask_count = 0
    payment.ask_at = None
    payment.ended_at = clock.now() if state in ENDED else None
    schedule(payment)


def ask_once_more(payment: Payment) -> None:
    """Plan a question about a payment that has ended here, until the gateway answers one."""
    if payment.state != PaymentState.SUCCEEDED:
        wait = ask_after(PaymentState.UNKNOWN, payment.ask_count)
        payment.ask_at = clock.now() + (wait or _DAILY)
        payment.ask_count += 1
        payment.claimed_until_at = None


def schedule(payment: Payment) -> None:
    """Plan the next question, unless one is planned: somebody who asks in between moves nothing."""
    now = clock.now()
    if payment.state in ENDED:
        if payment.ask_at is not None:
            payment.ask_at = payment.claimed_until_at = None
        return
    if payment.ask_at is not None and payment.ask_at > now:
        return
    wait = ask_after(PaymentState(payment.state), payment.ask_count)
    payment.ask_at = None if wait is None else now + wait
    payment.ask_count += 1
    payment.claimed_until_at = None


# Coming back from the gateway ----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Returned:
    """A payment whose browser comes back from the gateway."""

    payment_id: int
    account_id: int
    account_public_id: str
    amount: Money
    state: PaymentState


def find_for_return(public_id: str) -> Returned:
    """The payment of a return address, whoever asks. Raises PaymentNotFound."""
    row = db.session.execute(
        select(
            Payment.id,
            Payment.account_id,
            Account.public_id,
            Payment.amount_minor,
            Payment.currency,
            Payment.state,
        )
        .join(Account, Account.id == Payment.account_id)
        .where(Payment.public_id == public_id)
    ).one_or_none()
    if row is None:
        raise PaymentNotFound
    return Returned(
        row.id,
        row.account_id,
        row.public_id,
        Money(row.amount_minor, row.currency),
        PaymentState(row.state),
    )


def may_see(customer_id: int, account_id: int) -> bool:
    """Whether the customer may see the account's money."""
    role = db.session.scalar(
        select(Membership.role).where(
            Membership.customer_id == customer_id, Membership.account_id == account_id
        )
    )
    return role is not None and role != Role.TECHNICAL
