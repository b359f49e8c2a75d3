"""Taking what was planned, on its day, once.

The payment is committed under a key made of the planned payment and the number of the try, in the
unit that finds out how much is due; only then the gateway hears of it. What became of it is read
from the payment, so that a worker that dies in between forgets nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import accumulate

from sqlalchemy import select
from sqlalchemy.orm import Session

from blueprints.billing import charging, payments
from blueprints.billing.errors import NothingToPay, PaymentUnderWay
from blueprints.billing.methods import keeping
from blueprints.billing.planned import amounts, autopay, days, ending, saved
from blueprints.billing.planned.errors import MethodUnusable, NotChangeable, PlannedNotFound
from blueprints.billing.planned.telling import tell_of
from core import clock, due_work, form_keys
from core.db import db, unit_of_work
from core.form_keys import ArrivedKey
from core.isp import current_isp
from gateways.payments.base import PaymentGateway
from models import (
    UNDER_WAY,
    Arrangement,
    ArrangementState,
    AutopayMandate,
    MethodKind,
    MethodState,
    Payment,
    PaymentMethod,
    PaymentState,
    PlannedKind,
    PlannedPayment,
    PlannedState,
)

AFTER_UNDER_WAY = timedelta(minutes=10)
"""How long a payment that the customer makes just now is left alone."""
AFTER_UNHEARD = timedelta(hours=1)
MOST_TRIES = 12
"""Beyond so many tries none is made that the gateway never heard of."""
LOOK_AGAIN = timedelta(minutes=2)
BANK_RETRIES = 2
"""The rules of the banks' network allow a returned debit to be presented twice more."""
NOT_ANSWERED = "not_answered"
NOT_CONFIRMED = "not_confirmed"
TO_CONFIRM = "to_confirm"
UNHEARD = "unheard"


# The worker's part ------------------------------------------------------------------------------


def take_due(gateway: PaymentGateway | None) -> int:
    """Do what is due of planned payments: say beforehand, take, see what became of it; how many."""
    if gateway is None:
        return 0

    return due_work.do(
        PlannedPayment, PlannedPayment.try_at, lambda planned_id: take(planned_id, gateway)
    )


def take(planned_id: int, gateway: PaymentGateway) -> None:
    """Take one step of a planned payment whose time has come."""
    account_id = db.session.execute(
        select(PlannedPayment.account_id).where(PlannedPayment.id == planned_id)
    ).scalar_one()
    current_isp()  # read now: asking within the unit would take a second connection meanwhile
    payment_id = unit_of_work(
        lambda session: _step(session, _get(session, planned_id), gateway.name), account_id
    )
    if payment_id is not None:
        _charge(payment_id, planned_id, account_id, gateway)


def _get(session: Session, planned_id: int) -> PlannedPayment:
    return session.get_one(PlannedPayment, planned_id, populate_existing=True)


def _charge(payment_id: int, planned_id: int, account_id: int, gateway: PaymentGateway) -> None:
    charging.charge(payment_id, gateway)
    unit_of_work(lambda session: follow(session, _get(session, planned_id)), account_id)


def _step(session: Session, planned: PlannedPayment, gateway_name: str) -> int | None:
    """Do what is to be done now; the payment to charge, if there is one."""
    if planned.try_at is None or planned.try_at > clock.now():
        planned.claimed_until_at = None  # somebody was faster
        return None
    match PlannedState(planned.state):
        case PlannedState.WAITING:
            if planned.kind == PlannedKind.AUTOPAY and planned.told_at is None:
                autopay.announce(session, planned)
                return None
            return _begin_due(session, planned, gateway_name)
        case PlannedState.ASKING:
            ending.end(session, planned, PlannedState.FAILED, NOT_ANSWERED)
            tell_of(session, planned, "failed")
        case PlannedState.TAKING:
            return follow(session, planned)
        case _:
            ending.rest(planned)
    return None


# Beginning --------------------------------------------------------------------------------------


def _begin_due(session: Session, planned: PlannedPayment, gateway_name: str) -> int | None:
    """Begin the payment, or say why nothing is taken."""
    try:
        return begin(session, planned, gateway_name).payment_id
    except PaymentUnderWay:
        planned.try_at = clock.now() + AFTER_UNDER_WAY
        planned.claimed_until_at = None
    except NothingToPay:
        if planned.kind == PlannedKind.INSTALMENT:
            ending.rest(planned)  # paid by hand: the arrangement is judged on its own
        else:
            ending.end(session, planned, PlannedState.CANCELLED, ending.NOTHING_DUE)
            tell_of(session, planned, "nothing_due")
    except MethodUnusable:
        lose_method(session, planned)
    return None


@dataclass(frozen=True, slots=True)
class Begun:
    payment_id: int
    public_id: str


def begin(session: Session, planned: PlannedPayment, gateway_name: str) -> Begun:
    """Commit the payment that is to be charged now. Raises PaymentUnderWay, NothingToPay and
    MethodUnusable, with nothing changed."""
    usable = session.scalar(
        select(PaymentMethod.id).where(
            PaymentMethod.id == planned.method_id,
            PaymentMethod.gateway == gateway_name,
            saved.is_usable_on(days.today()),
        )
    )
    if usable is None:
        raise MethodUnusable
    under_way = session.scalar(
        select(Payment.public_id).where(
            Payment.account_id == planned.account_id, Payment.state.in_(UNDER_WAY)
        )
    )
    if under_way is not None:
        raise PaymentUnderWay(under_way)
    amount_minor = min(planned.amount_minor, _due_minor(session, planned))
    if amount_minor < payments.MINIMUM_MINOR:
        raise NothingToPay
    planned.try_count += 1
    new = payments.NewPayment(
        f"planned:{planned.public_id}:{planned.try_count}",
        planned.account_id,
        planned.customer_id,
        planned.invoice_id,
        amount_minor,
        method_id=planned.method_id,
        planned_id=planned.id,
    )
    [(payment_id, public_id)] = payments.create(session, [new], gateway_name)
    planned.state = PlannedState.TAKING.value
    planned.failure = ""
    planned.ended_at = None
    planned.try_at = clock.now() + LOOK_AGAIN
    return Begun(payment_id, public_id)


def _due_minor(session: Session, planned: PlannedPayment) -> int:
    if planned.kind == PlannedKind.AUTOPAY and planned.invoice_id is not None:
        return amounts.autopay_minor(session, planned.account_id, planned.invoice_id)
    if planned.kind == PlannedKind.INSTALMENT and planned.arrangement_id is not None:
        return amounts.instalment_minor(session, planned)
    return amounts.due_minor(session, planned.account_id)


# What became of it ------------------------------------------------------------------------------


def follow(session: Session, planned: PlannedPayment) -> int | None:
    """Make a planned payment say what its latest payment says; that one, if it was never sent."""
    if planned.state != PlannedState.TAKING:
        return None
    payment = session.scalars(
        select(Payment).where(Payment.planned_id == planned.id).order_by(Payment.id.desc()).limit(1)
    ).one()
    planned.claimed_until_at = None
    match PaymentState(payment.state):
        case PaymentState.CREATED:
            planned.try_at = clock.now() + LOOK_AGAIN
            return payment.id
        case PaymentState.SUCCEEDED:
            ending.end(session, planned, PlannedState.DONE)
            if payment.amount_minor < planned.amount_minor:
                tell_of(session, planned, "less", amount_minor=payment.amount_minor)
        case PaymentState.DECLINED:
            _decline(session, planned, payment.decline_reason)
        case PaymentState.EXPIRED if _may_be_sent_again(session, planned, payment):
            planned.state = PlannedState.WAITING.value
            planned.try_at = clock.now() + AFTER_UNHEARD
        case PaymentState.EXPIRED | PaymentState.CANCELLED:
            is_heard = payment.hosted_url is not None
            _decline(session, planned, NOT_CONFIRMED if is_heard else UNHEARD)
        case state:
            if state is PaymentState.SENT and payment.hosted_url and not planned.failure:
                planned.failure = TO_CONFIRM
                tell_of(session, planned, TO_CONFIRM)
            asked_at = payment.ask_at or clock.now()
            planned.try_at = max(asked_at, clock.now()) + LOOK_AGAIN
    return None


def _may_be_sent_again(session: Session, planned: PlannedPayment, payment: Payment) -> bool:
    """Whether a payment that the gateway never heard of is made once more."""
    is_unheard = payment.hosted_url is None and planned.try_count < MOST_TRIES
    return is_unheard and _is_wanted(session, planned)


def _is_wanted(session: Session, planned: PlannedPayment) -> bool:
    """Whether the permission or the arrangement that it belongs to still stands: it may have ended
    while a payment was under way."""
    if planned.mandate_id is not None:
        return session.get_one(AutopayMandate, planned.mandate_id).ended_at is None
    if planned.arrangement_id is not None:
        arrangement = session.get_one(Arrangement, planned.arrangement_id)
        return arrangement.state == ArrangementState.STANDING
    return True


def _decline(session: Session, planned: PlannedPayment, reason: str) -> None:
    """Note that nothing was taken, plan the next try where there is one, and say so."""
    is_wanted = _is_wanted(session, planned)
    next_on = _next_try_on(session, planned) if is_wanted else None
    is_open = is_wanted and (planned.kind == PlannedKind.INSTALMENT or next_on is not None)
    ending.end(session, planned, PlannedState.WAITING if is_open else PlannedState.FAILED, reason)
    if is_open:
        planned.ended_at = None
        planned.try_at = days.taken_at(next_on) if next_on is not None else None
    tell_of(session, planned, "failed", next_on=next_on)
    if is_open or planned.mandate_id is None:
        return
    if is_wanted:
        mandate = session.get_one(AutopayMandate, planned.mandate_id)
        ending.end_mandate(session, mandate, ending.FAILED)
        return
    standing = autopay.find_standing(session, planned.account_id)
    if standing is not None:
        planned.state = PlannedState.CANCELLED.value  # the bill is the new permission's now
        session.flush()
        autopay.plan_open(session, standing)


def _next_try_on(session: Session, planned: PlannedPayment) -> date | None:
    """The next day on which autopay tries again by itself; None of the others, and after the last.

    The days count from the first one, so that a try by hand in between neither uses one up nor
    adds one.
    """
    if planned.kind != PlannedKind.AUTOPAY:
        return None
    method = session.get_one(PaymentMethod, planned.method_id)
    waits = current_isp().billing_rules.retry_days
    if method.kind == MethodKind.BANK:
        waits = waits[:BANK_RETRIES]
    today = days.today()
    tries = (planned.due_on + timedelta(days=wait) for wait in accumulate(waits))
    return next((day for day in tries if day > today), None)


def why_unusable(session: Session, method_id: int | None) -> str:
    """The word for why a method cannot be used today."""
    method = session.get_one(PaymentMethod, method_id)
    is_expired = method.expires_on is not None and method.expires_on < days.today()
    if method.state == MethodState.USABLE and is_expired:
        return ending.METHOD_EXPIRED
    is_moved = method.state == MethodState.USABLE and keeping.is_moved(method.gateway)
    return ending.METHOD_MOVED if is_moved else ending.METHOD_REMOVED


def lose_method(session: Session, planned: PlannedPayment) -> None:
    """Say that a planned payment will not be taken because its method is gone, and switch off the
    autopay that needs it."""
    because = why_unusable(session, planned.method_id)
    if planned.kind == PlannedKind.INSTALMENT:
        ending.rest(planned)  # it can still be paid by hand
        planned.failure = because
        payments.touch(session, [planned.account_id])
        tell_of(session, planned, "failed")
        return
    ending.end(session, planned, PlannedState.FAILED, because)
    if planned.mandate_id is None:
        tell_of(session, planned, "failed")
        return
    mandate = session.get_one(AutopayMandate, planned.mandate_id)
    if mandate.ended_at is None:
        ending.end_mandate(session, mandate, because)


# Trying again by hand ---------------------------------------------------------------------------


def try_now(
    account_id: int,
    customer_id: int,
    public_id: str,
    key: ArrivedKey,
    path_of_payment: str,
    gateway: PaymentGateway,
) -> str:
    """Try a planned payment that failed once more at once, as its customer wishes; the path of the
    payment, `path_of_payment` with its public id for `{id}`.

    Raises PlannedNotFound, NotChangeable, PaymentUnderWay, NothingToPay, MethodUnusable.
    """
    current_isp()

    def work(session: Session) -> tuple[str, int, int | None]:
        planned = session.scalar(
            select(PlannedPayment).where(
                PlannedPayment.account_id == account_id,
                PlannedPayment.customer_id == customer_id,
                PlannedPayment.public_id == public_id,
            )
        )
        if planned is None:
            raise PlannedNotFound
        found = form_keys.find_result(session, key)
        if found is not None:
            return found, planned.id, follow(session, planned)
        if not can_try(planned):
            raise NotChangeable
        begun = begin(session, planned, gateway.name)
        path = path_of_payment.format(id=begun.public_id)
        form_keys.consume(session, key, path)
        return path, planned.id, begun.payment_id

    path, planned_id, payment_id = unit_of_work(work, account_id)
    if payment_id is not None:
        _charge(payment_id, planned_id, account_id, gateway)
    return path


def can_try(planned: PlannedPayment) -> bool:
    """Whether it failed and could be tried at once."""
    is_failed = planned.state == PlannedState.FAILED
    is_waiting = planned.state == PlannedState.WAITING and planned.failure != ""
    return planned.method_id is not None and (is_failed or is_waiting)
