"""What the worker looks for by itself: bills that autopay is to pay, methods that are gone,
arrangements that are kept or broken."""

from __future__ import annotations

from datetime import timedelta
from functools import partial

from sqlalchemy import Select, and_, not_, or_, select, true
from sqlalchemy.orm import Session

from blueprints.billing.methods import keeping
from blueprints.billing.planned import arrangements, autopay, days, ending, saved, taking
from core import clock
from core.db import reading, unit_of_work
from core.isp import NotSetUp, current_isp
from models import (
    Account,
    AccountStatus,
    AutopayMandate,
    Invoice,
    InvoiceBalance,
    InvoiceKind,
    PaymentMethod,
    PlannedKind,
    PlannedPayment,
    PlannedState,
)

LOOK_EVERY = timedelta(minutes=1)
SURE_AFTER = timedelta(hours=1)
"""So long a worker has to have paid through a gateway before autopay with the methods of another
ends for good: a slip in the configuration is noticed and mended until then."""
AT_ONCE = 100


class Foreseeing:
    """A duty of the worker: once a minute it looks for what is to be planned or has ended, some
    accounts with each round."""

    __name__ = "foresee_payments"  # as the log names a duty

    def __init__(self) -> None:
        self._look_at = self._began_at = clock.now()
        self._after = 0

    def __call__(self) -> int:
        """Returns how many accounts were looked at; not 0 while there are more."""
        if clock.now() < self._look_at:
            return 0
        try:
            if not self._after:
                is_sure = clock.now() - self._began_at >= SURE_AFTER
                look_after_ends(has_moved=is_sure)
            account_ids = plan_bills(self._after)
        except NotSetUp:
            account_ids = []
        is_last = len(account_ids) < AT_ONCE
        self._after = 0 if is_last else account_ids[-1]
        if is_last:
            self._look_at = clock.now() + LOOK_EVERY
        return 0 if is_last else len(account_ids)


def look_after_ends(*, has_moved: bool = True) -> None:
    """End what cannot go on, judge arrangements, and remind of their instalments. `has_moved`: also
    what rests on methods that only a former gateway knows."""
    which = true() if has_moved else keeping.is_kept()
    current_isp()
    with reading() as session:
        ended = session.execute(_ended_mandates().where(which)).all()
        lost = session.execute(_lost_methods().where(which)).all()
    for mandate_id, account_id in ended:
        unit_of_work(partial(_end, mandate_id=mandate_id), account_id)
    for planned_id, account_id in lost:
        unit_of_work(partial(_lose, planned_id=planned_id), account_id)
    arrangements.judge_standing()
    arrangements.remind_due()


def plan_bills(after: int = 0) -> list[int]:
    """Plan payments for bills that autopay is to pay, of some accounts beyond the id `after`; the
    ids of those that were looked at."""
    current_isp()
    with reading() as session:
        account_ids = list(session.scalars(_unplanned(after).limit(AT_ONCE)))
    for account_id in account_ids:
        unit_of_work(partial(_plan, account_id=account_id), account_id)
    return account_ids


def end_uses(session: Session, method_id: int, account_id: int) -> None:
    """What follows when a method is removed, in the same unit: autopay with it ends, and what was
    to be paid with it is not taken."""
    mandate = autopay.find_standing(session, account_id)
    if mandate is not None and mandate.method_id == method_id:
        ending.end_mandate(session, mandate, ending.METHOD_REMOVED)
    waiting = session.scalars(
        select(PlannedPayment).where(
            PlannedPayment.account_id == account_id,
            PlannedPayment.method_id == method_id,
            PlannedPayment.state == PlannedState.WAITING.value,
            PlannedPayment.try_at.is_not(None),
        )
    )
    for planned in waiting:
        if planned.state == PlannedState.WAITING:
            taking.lose_method(session, planned)


def _ended_mandates() -> Select[int, int]:
    """Permissions whose method cannot be used any more, or whose account is closed and settled."""
    return (
        select(AutopayMandate.id, AutopayMandate.account_id)
        .join(PaymentMethod, PaymentMethod.id == AutopayMandate.method_id)
        .join(Account, Account.id == AutopayMandate.account_id)
        .where(
            AutopayMandate.ended_at.is_(None),
            or_(
                not_(saved.is_usable_on(days.today())),
                and_(Account.status == AccountStatus.CLOSED.value, Account.balance_minor <= 0),
            ),
        )
        .order_by(AutopayMandate.id)
    )


def _end(session: Session, mandate_id: int) -> None:
    mandate = session.get_one(AutopayMandate, mandate_id)
    if mandate.ended_at is not None:
        return
    is_usable = session.scalar(
        select(PaymentMethod.id).where(
            PaymentMethod.id == mandate.method_id, saved.is_usable_on(days.today())
        )
    )
    because = ending.ACCOUNT_CLOSED
    if is_usable is None:
        because = taking.why_unusable(session, mandate.method_id)
    ending.end_mandate(session, mandate, because)


def _lost_methods() -> Select[int, int]:
    """Payments that wait for their day while their method is gone already."""
    return (
        select(PlannedPayment.id, PlannedPayment.account_id)
        .join(PaymentMethod, PaymentMethod.id == PlannedPayment.method_id)
        .where(
            PlannedPayment.try_at.is_not(None),
            PlannedPayment.state == PlannedState.WAITING.value,
            PlannedPayment.kind != PlannedKind.AUTOPAY.value,
            not_(saved.is_usable_on(days.today())),
        )
        .order_by(PlannedPayment.id)
    )


def _lose(session: Session, planned_id: int) -> None:
    planned = session.get_one(PlannedPayment, planned_id)
    if planned.state == PlannedState.WAITING and planned.try_at is not None:
        taking.lose_method(session, planned)


def _unplanned(after: int) -> Select[int]:
    """Accounts with autopay and an open bill that no payment was planned for."""
    known = (
        select(PlannedPayment.id)
        .where(
            PlannedPayment.account_id == AutopayMandate.account_id,
            PlannedPayment.invoice_id == Invoice.id,
            PlannedPayment.kind == PlannedKind.AUTOPAY.value,
            autopay.is_planned_by(AutopayMandate.id),
        )
        .exists()
    )
    return (
        select(AutopayMandate.account_id)
        .join(InvoiceBalance, InvoiceBalance.account_id == AutopayMandate.account_id)
        .join(Invoice, Invoice.id == InvoiceBalance.invoice_id)
        .where(
            AutopayMandate.ended_at.is_(None),
            AutopayMandate.account_id > after,
            InvoiceBalance.settled_at.is_(None),
            Invoice.kind != InvoiceKind.CREDIT_NOTE.value,
            not_(known),
        )
        .distinct()
        .order_by(AutopayMandate.account_id)
    )


def _plan(session: Session, account_id: int) -> None:
    mandate = autopay.find_standing(session, account_id)
    if mandate is not None:
        autopay.plan_open(session, mandate)
