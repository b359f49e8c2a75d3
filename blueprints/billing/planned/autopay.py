"""Autopay: letting a saved method pay each bill by itself, and changing or ending that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.orm import Session

from blueprints.billing import payments
from blueprints.billing.planned import amounts, days, ending, noticing, saved
from blueprints.billing.planned.errors import (
    AutopayOfAnother,
    NotChangeable,
    PlannedNotFound,
)
from blueprints.billing.planned.telling import tell, tell_of
from core import activity, clock, form_keys, ids
from core.form_keys import ArrivedKey
from core.isp import current_isp
from models import (
    AutopayMandate,
    Invoice,
    InvoiceBalance,
    InvoiceKind,
    PaymentMethod,
    PlannedKind,
    PlannedPayment,
    PlannedState,
)

MOST_DAYS_BEFORE = 10


@dataclass(frozen=True, slots=True)
class Wish:
    """What a customer allows; `consent` is the sentence as the page showed it to them."""

    account_id: int
    customer_id: int
    method_public_id: str
    days_before: int
    ceiling_minor: int | None
    range_from_minor: int | None
    range_to_minor: int | None
    consent: str
    language: str
    address: str


def switch_on(wish: Wish, key: ArrivedKey, path: str) -> str:
    """Let the method pay this account's bills from now on, instead of what held before; `path`.

    Raises MethodUnusable, AutopayOfAnother.
    """
    current_isp()

    def work(session: Session) -> str:
        now = clock.now()
        method = saved.get_usable(
            session, wish.account_id, wish.customer_id, wish.method_public_id, days.today()
        )
        before = find_standing(session, wish.account_id)
        if before is not None and before.customer_id != wish.customer_id:
            raise AutopayOfAnother
        if before is not None:
            ending.end_mandate(session, before, ending.CHANGED)
        _make_room(session, wish.account_id)
        mandate = AutopayMandate(
            public_id=ids.public_id(),
            account_id=wish.account_id,
            customer_id=wish.customer_id,
            method_id=method.id,
            days_before=wish.days_before,
            ceiling_minor=wish.ceiling_minor,
            range_from_minor=wish.range_from_minor if method.is_bank else None,
            range_to_minor=wish.range_to_minor if method.is_bank else None,
            consent=wish.consent,
            consent_language=wish.language,
            consent_address=wish.address[:45],
            consented_at=now,
        )
        session.add(mandate)
        session.flush()
        plan_open(session, mandate)
        what = "autopay_on" if before is None else "autopay_changed"
        event = activity.Event(what, now, account_id=wish.account_id, customer_id=wish.customer_id)
        activity.record(session, [event])
        facts = {"consent": wish.consent, "method": method.title, "days": wish.days_before}
        tell(session, wish.account_id, wish.customer_id, what, facts)
        payments.touch(session, [wish.account_id])
        return path

    return form_keys.once(key, work, wish.account_id)


def _make_room(session: Session, account_id: int) -> None:
    """Let what failed, or was not answered, be planned anew for bills that are still open."""
    session.flush()
    session.execute(
        update(PlannedPayment)
        .where(
            PlannedPayment.account_id == account_id,
            PlannedPayment.kind == PlannedKind.AUTOPAY.value,
            PlannedPayment.state == PlannedState.FAILED.value,
        )
        .values(state=PlannedState.CANCELLED.value)
    )


def switch_off(
    account_id: int, customer_id: int, key: ArrivedKey, path: str, *, is_owner: bool
) -> str:
    """Switch autopay off at once, one's own or as an owner of the account; `path`. It stays off
    where it was off already. Raises AutopayOfAnother."""
    current_isp()

    def work(session: Session) -> str:
        mandate = find_standing(session, account_id)
        if mandate is not None:
            if mandate.customer_id != customer_id and not is_owner:
                raise AutopayOfAnother
            ending.end_mandate(session, mandate, ending.OFF)
        return path

    return form_keys.once(key, work, account_id)


def find_standing(session: Session, account_id: int) -> AutopayMandate | None:
    """The permission by which the account's bills are paid now."""
    return session.scalar(
        select(AutopayMandate).where(
            AutopayMandate.account_id == account_id, AutopayMandate.ended_at.is_(None)
        )
    )


# Planning ---------------------------------------------------------------------------------------


def is_planned_by(mandate_id: Any) -> ColumnElement[bool]:
    """Of an autopay of a bill: whether another by this permission (an id, or a column) is out of
    the question, because it is planned or over, or was cancelled for good."""
    return or_(
        PlannedPayment.state != PlannedState.CANCELLED.value,
        and_(
            PlannedPayment.mandate_id == mandate_id,
            PlannedPayment.failure.not_in(ending.MAY_COME_BACK),
        ),
    )


def plan_open(session: Session, mandate: AutopayMandate) -> int:
    """Plan a payment for each open bill of the account that has none under this permission; how
    many were planned."""
    planned = select(PlannedPayment.invoice_id).where(
        PlannedPayment.account_id == mandate.account_id,
        PlannedPayment.kind == PlannedKind.AUTOPAY.value,
        is_planned_by(mandate.id),
    )
    rows = session.execute(
        select(Invoice.id, Invoice.due_on)
        .join(InvoiceBalance, InvoiceBalance.invoice_id == Invoice.id)
        .where(
            InvoiceBalance.account_id == mandate.account_id,
            InvoiceBalance.settled_at.is_(None),
            Invoice.kind != InvoiceKind.CREDIT_NOTE.value,
            Invoice.id.not_in(planned),
        )
        .order_by(Invoice.due_on, Invoice.id)
    ).all()
    method = session.get_one(PaymentMethod, mandate.method_id)
    count = 0
    for row in rows:
        amount_minor = amounts.autopay_minor(session, mandate.account_id, row.id)
        if amount_minor >= payments.MINIMUM_MINOR:
            _plan(session, mandate, method.kind, row.id, row.due_on, amount_minor)
            count += 1
    return count


def _plan(
    session: Session,
    mandate: AutopayMandate,
    method_kind: str,
    invoice_id: int,
    due_on: date,
    amount_minor: int,
) -> None:
    """Plan one payment: its day, and when its notice goes out; above the ceiling, ask."""
    notice = timedelta(days=noticing.days_before(session, mandate, method_kind, amount_minor))
    day = max(due_on - timedelta(days=mandate.days_before), days.today() + notice)
    planned = PlannedPayment(
        public_id=ids.public_id(),
        kind=PlannedKind.AUTOPAY.value,
        account_id=mandate.account_id,
        customer_id=mandate.customer_id,
        method_id=mandate.method_id,
        mandate_id=mandate.id,
        invoice_id=invoice_id,
        amount_minor=amount_minor,
        due_on=day,
        state=PlannedState.WAITING.value,
        failure="",
        created_at=clock.now(),
        try_at=days.taken_at(day - notice),
        try_count=0,
    )
    session.add(planned)
    session.flush()
    ask_if_above(session, planned, mandate)
    payments.touch(session, [mandate.account_id])


def ask_if_above(session: Session, planned: PlannedPayment, mandate: AutopayMandate) -> bool:
    """Ask the customer first where the amount is above their ceiling; whether it is."""
    if mandate.ceiling_minor is None or planned.amount_minor <= mandate.ceiling_minor:
        return False
    planned.state = PlannedState.ASKING.value
    planned.told_at = clock.now()
    planned.try_at = days.taken_at(planned.due_on)
    planned.claimed_until_at = None
    tell_of(session, planned, "ask", is_required=True)
    return True


def refresh(session: Session, account_id: int) -> None:
    """Compute anew what autopay will take, where that has not been said yet: after something was
    scheduled, arranged or cancelled."""
    session.flush()
    untold = session.scalars(
        select(PlannedPayment).where(
            PlannedPayment.account_id == account_id,
            PlannedPayment.kind == PlannedKind.AUTOPAY.value,
            PlannedPayment.state == PlannedState.WAITING.value,
            PlannedPayment.told_at.is_(None),
        )
    )
    for planned in untold:
        amount_minor = amounts.autopay_minor(session, account_id, planned.invoice_id or 0)
        planned.amount_minor = amount_minor or planned.amount_minor


# Saying it beforehand ---------------------------------------------------------------------------


def announce(session: Session, planned: PlannedPayment) -> None:
    """Say what autopay will take and when: on its day, or later where that would be too soon; or
    ask, above the ceiling."""
    mandate = session.get_one(AutopayMandate, planned.mandate_id)
    method = session.get_one(PaymentMethod, planned.method_id)
    amount_minor = amounts.autopay_minor(session, planned.account_id, planned.invoice_id or 0)
    planned.amount_minor = amount_minor or planned.amount_minor
    notice_days = noticing.days_before(session, mandate, method.kind, planned.amount_minor)
    planned.due_on = max(planned.due_on, days.today() + timedelta(days=notice_days))
    payments.touch(session, [planned.account_id])
    if amount_minor < payments.MINIMUM_MINOR:
        ending.end(session, planned, PlannedState.CANCELLED, ending.NOTHING_DUE)
        return
    if ask_if_above(session, planned, mandate):
        return
    planned.told_at = clock.now()
    planned.try_at = days.taken_at(planned.due_on)
    planned.claimed_until_at = None
    tell_of(session, planned, "notice", is_required=True)


# Above the ceiling ------------------------------------------------------------------------------


def answer(
    account_id: int, customer_id: int, public_id: str, key: ArrivedKey, path: str, *, is_yes: bool
) -> str:
    """Let autopay pay the bill above the ceiling, or not this time; `path`.

    Raises PlannedNotFound, NotChangeable.
    """
    current_isp()

    def work(session: Session) -> str:
        planned = get_own(session, account_id, customer_id, public_id)
        if planned.state != PlannedState.ASKING:
            raise NotChangeable
        if is_yes:
            planned.state = PlannedState.WAITING.value
            planned.due_on = max(planned.due_on, days.today())
            planned.try_at = days.taken_at(planned.due_on)
            planned.claimed_until_at = None
            payments.touch(session, [account_id])
        else:
            ending.end(session, planned, PlannedState.CANCELLED, "not_this_time")
        return path

    return form_keys.once(key, work, account_id)


def get_own(session: Session, account_id: int, customer_id: int, public_id: str) -> PlannedPayment:
    """A planned payment of the customer's own. Raises PlannedNotFound."""
    planned = session.scalar(
        select(PlannedPayment).where(
            PlannedPayment.account_id == account_id,
            PlannedPayment.customer_id == customer_id,
            PlannedPayment.public_id == public_id,
        )
    )
    if planned is None:
        raise PlannedNotFound
    return planned
