"""Scheduled payments: an amount and a day, and the saved method that pays then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from blueprints.billing import payments
from blueprints.billing.errors import AmountChanged, AmountOutOfBounds, NothingToPay
from blueprints.billing.planned import amounts, autopay, days, ending, saved
from blueprints.billing.planned.errors import DayOutOfBounds, NotChangeable, TooMuchPlanned
from blueprints.billing.starting import Choice
from core import activity, clock, form_keys, ids
from core.form_keys import ArrivedKey
from core.isp import current_isp
from core.money import Money, format_money
from core.words import format_day, language
from models import PlannedKind, PlannedPayment, PlannedState

MOST_WAITING = 12


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be paid when. `amount_minor` counts for `Choice.OTHER`; `shown_minor` is what the
    page said is due, and is compared with what is due now for `Choice.BALANCE`."""

    account_id: int
    customer_id: int
    method_public_id: str
    choice: Choice
    amount_minor: int | None
    shown_minor: int | None
    due_on: date


def first_day() -> date:
    """The first day a payment can be scheduled for."""
    return days.today() + timedelta(days=1)


def last_day() -> date:
    """The last one, as the ISP rules."""
    return days.today() + timedelta(days=current_isp().billing_rules.scheduled_days)


def schedule(wish: Wish, key: ArrivedKey, path: str) -> str:
    """Plan the payment; the path that shows it, which is `path` with its public id for `{id}`.

    Raises DayOutOfBounds, MethodUnusable, NothingToPay, AmountChanged, AmountOutOfBounds and
    TooMuchPlanned.
    """
    current_isp()
    language()

    def work(session: Session) -> str:
        method_id, amount_minor = _check(session, wish, None)
        waiting = session.execute(
            select(func.count())
            .select_from(PlannedPayment)
            .where(
                PlannedPayment.account_id == wish.account_id,
                PlannedPayment.kind == PlannedKind.SCHEDULED.value,
                PlannedPayment.state == PlannedState.WAITING.value,
            )
        ).scalar_one()
        if waiting >= MOST_WAITING:
            raise TooMuchPlanned
        planned = PlannedPayment(
            public_id=ids.public_id(),
            kind=PlannedKind.SCHEDULED.value,
            account_id=wish.account_id,
            customer_id=wish.customer_id,
            method_id=method_id,
            amount_minor=amount_minor,
            due_on=wish.due_on,
            state=PlannedState.WAITING.value,
            failure="",
            created_at=clock.now(),
            try_at=days.taken_at(wish.due_on),
            try_count=0,
        )
        session.add(planned)
        _note(session, planned, "payment_scheduled")
        return path.format(id=planned.public_id)

    return form_keys.once(key, work, wish.account_id)


def change(public_id: str, wish: Wish, key: ArrivedKey, path: str) -> str:
    """Give a payment that waits for its day another amount, day or method; `path`.

    Raises PlannedNotFound, NotChangeable and what `schedule` raises.
    """
    current_isp()
    language()

    def work(session: Session) -> str:
        planned = autopay.get_own(session, wish.account_id, wish.customer_id, public_id)
        if not can_change(planned):
            raise NotChangeable
        planned.method_id, planned.amount_minor = _check(session, wish, planned.public_id)
        planned.due_on = wish.due_on
        planned.try_at = days.taken_at(wish.due_on)
        _note(session, planned, "scheduled_changed")
        return path

    return form_keys.once(key, work, wish.account_id)


def cancel(account_id: int, customer_id: int, public_id: str, key: ArrivedKey, path: str) -> str:
    """Let a scheduled payment not be taken; `path`. Raises PlannedNotFound, NotChangeable."""
    current_isp()

    def work(session: Session) -> str:
        planned = autopay.get_own(session, account_id, customer_id, public_id)
        if not can_cancel(planned):
            raise NotChangeable
        ending.end(session, planned, PlannedState.CANCELLED, "cancelled")
        _note(session, planned, "scheduled_cancelled")
        return path

    return form_keys.once(key, work, account_id)


def can_change(planned: PlannedPayment) -> bool:
    """Whether it is scheduled and its day has not come."""
    return can_cancel(planned) and planned.due_on > days.today()


def can_cancel(planned: PlannedPayment) -> bool:
    """Whether it is scheduled and nothing has been taken yet."""
    return planned.kind == PlannedKind.SCHEDULED and planned.state == PlannedState.WAITING


def _check(session: Session, wish: Wish, public_id: str | None) -> tuple[int, int]:
    """The method's id and the amount, if all of it is possible."""
    if not first_day() <= wish.due_on <= last_day():
        raise DayOutOfBounds(format_day(first_day()), format_day(last_day()))
    method = saved.get_usable(
        session, wish.account_id, wish.customer_id, wish.method_public_id, wish.due_on
    )
    currency = current_isp().currency
    if wish.choice is Choice.BALANCE:
        due_minor = amounts.to_plan_minor(session, wish.account_id, but=public_id)
        if due_minor < payments.MINIMUM_MINOR:
            raise NothingToPay
        if wish.shown_minor not in (None, due_minor):
            raise AmountChanged(format_money(Money(due_minor, currency), language()))
        return method.id, due_minor
    amount_minor = wish.amount_minor or 0
    if not payments.MINIMUM_MINOR <= amount_minor <= payments.MAXIMUM_MINOR:
        raise AmountOutOfBounds(
            format_money(Money(payments.MINIMUM_MINOR, currency), language()),
            format_money(Money(payments.MAXIMUM_MINOR, currency), language()),
        )
    return method.id, amount_minor


def _note(session: Session, planned: PlannedPayment, what: str) -> None:
    """Write down what the customer did; what autopay takes depends on it."""
    event = activity.Event(
        what, clock.now(), account_id=planned.account_id, customer_id=planned.customer_id
    )
    activity.record(session, [event])
    payments.touch(session, [planned.account_id])
    autopay.refresh(session, planned.account_id)
