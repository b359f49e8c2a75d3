"""Money of a payment that goes back: refunds by staff, chargebacks, returned debits.

A refund is committed under its own key before the gateway hears of it, like a payment. What came
without a gateway staff hand back themselves, and it is booked at once. What a bank takes back by
itself is learnt from the gateway and booked once for each reference of it. Either way the customer
owes again what the payment had settled. A refund that had arrived and that a bank sends back later
is booked by an entry of its own, the other way.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask import current_app
from sqlalchemy import ColumnElement, case, select
from sqlalchemy.orm import Session

from blueprints.billing import booking, ledger, payments, telling
from blueprints.billing.dunning import releasing
from blueprints.billing.errors import (
    NoGateway,
    PaymentNotFound,
    RefundRefused,
    ReversalNotFound,
    SamePerson,
    TooMuchBack,
)
from core import activity, clock, due_work, ids, revisions
from core.db import db, total, unit_of_work
from core.form_keys import KeyReused
from core.isp import current_isp
from core.money import Money, format_money
from gateways.payments.base import GatewayState, PaymentGateway, RefundTruth, ReversalTruth
from gateways.payments.errors import (
    GatewayError,
    GatewayRefused,
    GatewayUnknownKey,
)
from models import (
    COMES_AGAIN,
    EntryKind,
    GatewayNotice,
    Payment,
    PaymentReversal,
    PaymentState,
    ReversalKind,
    ReversalState,
)

log = logging.getLogger("lastmile.payments")

# Gateways keep idempotency keys for a day; after that a refund is reconciled, not sent again.
_RESEND_WITHIN = timedelta(hours=23)
_ALONE_WITHIN = timedelta(days=1)
"""What one member of staff gives back to an account within this counts together."""
_NEVER_ARRIVED = "The payment service never received it."
BY_HAND = frozenset({booking.COUNTER, booking.BANK})
"""What stands in the place of a gateway's name where staff hand the money back."""
UNDER_WAY = (ReversalState.CREATED, ReversalState.UNKNOWN, ReversalState.PROCESSING)
_CAME_TO_NOTHING = (ReversalState.DECLINED.value, ReversalState.REFUSED.value)
_ENTRY_KINDS = {
    ReversalKind.REFUND: EntryKind.REFUND,
    ReversalKind.CHARGEBACK: EntryKind.CHARGEBACK,
    ReversalKind.CHARGEBACK_WON: EntryKind.CHARGEBACK,
    ReversalKind.RETURN: EntryKind.RETURN,
    ReversalKind.REFUND_FAILED: EntryKind.REFUND,
}
_WORDS = {
    ReversalKind.REFUND: "Refund",
    ReversalKind.CHARGEBACK: "Chargeback",
    ReversalKind.CHARGEBACK_WON: "Chargeback won",
    ReversalKind.RETURN: "Returned debit",
    ReversalKind.REFUND_FAILED: "Refund sent back",
}
EVENTS = {
    ReversalKind.REFUND: "payment_refunded",
    ReversalKind.CHARGEBACK: "payment_charged_back",
    ReversalKind.CHARGEBACK_WON: "chargeback_won",
    ReversalKind.RETURN: "payment_returned",
    ReversalKind.REFUND_FAILED: "refund_failed",
}


_COMES_AGAIN = PaymentReversal.kind.in_([kind.value for kind in COMES_AGAIN])
_GONE_MINOR = case(
    (_COMES_AGAIN, -PaymentReversal.amount_minor), else_=PaymentReversal.amount_minor
)
LEFT_MINOR: ColumnElement[int] = Payment.amount_minor - (
    select(total(_GONE_MINOR))
    .where(
        PaymentReversal.payment_id == Payment.id,
        PaymentReversal.state.not_in(_CAME_TO_NOTHING),
    )
    .scalar_subquery()
)
"""What of a payment has not gone back and is not about to, in minor units."""


def left_minor(session: Session, payment_id: int) -> int:
    """The same of one payment."""
    return int(session.execute(select(LEFT_MINOR).where(Payment.id == payment_id)).scalar_one())


# Refunds --------------------------------------------------------------------------------------


def can_go_back(state: str, came_by: str) -> bool:
    """Whether a payment in `state` that came by this gateway, or without one, can be given back:
    by the gateway of today, or by hand. A voucher cannot; it was never money of the customer's."""
    gateway = _gateway()
    ways = BY_HAND if gateway is None else BY_HAND | {gateway.name}
    return state == PaymentState.SUCCEEDED and came_by in ways


def ask_refund(
    account_id: int, payment_public_id: str, amount_minor: int, reason: str, staff_id: int, key: str
) -> str:
    """Give back `amount_minor` of a payment, at once or, over the ISP's limit, when a second member
    of staff approves; the refund's public id.

    `key` is that of the form (`ArrivedKey.intent`): the same again finds the same refund. Raises
    PaymentNotFound, NoGateway, RefundRefused, TooMuchBack, KeyReused before anything is stored.
    """
    reason = reason[:300]
    gateway = _gateway()

    def work(session: Session) -> tuple[int | None, str]:
        payment = session.scalar(
            select(Payment).where(
                Payment.account_id == account_id, Payment.public_id == payment_public_id
            )
        )
        if payment is None:
            raise PaymentNotFound
        known = session.scalar(select(PaymentReversal).where(PaymentReversal.key == key))
        if known is not None:
            asked = (known.payment_id, known.amount_minor, known.reason)
            if asked != (payment.id, amount_minor, reason):
                raise KeyReused
            return None, known.public_id
        if gateway is None and payment.gateway not in booking.WITHOUT_GATEWAY:
            raise NoGateway
        if not can_go_back(payment.state, payment.gateway):
            raise RefundRefused
        left = left_minor(session, payment.id)
        if not 0 < amount_minor <= left:
            raise TooMuchBack(
                format_money(Money(max(left, 0), payment.currency), current_isp().language)
            )
        alone_minor = _given_alone_minor(session, account_id, staff_id)
        limit_minor = current_isp().billing_rules.refund_limit_minor
        needs_two = alone_minor + amount_minor > limit_minor
        reversal = PaymentReversal(
            public_id=ids.public_id(),
            key=key,
            kind=ReversalKind.REFUND.value,
            payment_id=payment.id,
            account_id=account_id,
            amount_minor=amount_minor,
            currency=payment.currency,
            state=(ReversalState.ASKED if needs_two else ReversalState.CREATED).value,
            reason=reason,
            asked_by_id=staff_id,
            created_at=clock.now(),
        )
        session.add(reversal)
        session.flush()
        if not needs_two:
            _begin(session, reversal, payment)
        revisions.raise_account(session, account_id)
        return reversal.id, reversal.public_id

    current_isp()  # read now: asking within the unit would take a second connection meanwhile
    new_id, public_id = unit_of_work(work, account_id)
    if new_id is not None:
        _carry_out_now(new_id)
    return public_id


def _given_alone_minor(session: Session, account_id: int, staff_id: int) -> int:
    """What this member of staff gave back to the account within a day without a second one."""
    not_given = (ReversalState.ASKED.value, *_CAME_TO_NOTHING)
    return int(
        session.execute(
            select(total(PaymentReversal.amount_minor)).where(
                PaymentReversal.account_id == account_id,
                PaymentReversal.created_at > clock.now() - _ALONE_WITHIN,
                PaymentReversal.kind == ReversalKind.REFUND.value,
                PaymentReversal.asked_by_id == staff_id,
                PaymentReversal.approved_by_id.is_(None),
                PaymentReversal.state.not_in(not_given),
            )
        ).scalar_one()
    )


def _begin(session: Session, reversal: PaymentReversal, payment: Payment) -> None:
    """Nothing stands in the way of a refund any more: staff hand the money over now, or the
    gateway is asked next."""
    reversal.state = ReversalState.CREATED.value
    if payment.gateway in BY_HAND:
        book(session, [reversal])
    else:
        reversal.ask_at = clock.now()


def approve(public_id: str, staff_id: int) -> None:
    """Let a refund be made that waits for a second member of staff; one that is approved already
    stays so. Raises ReversalNotFound, SamePerson."""
    _decide(public_id, staff_id, ReversalState.CREATED)


def refuse(public_id: str, staff_id: int) -> None:
    """Let a refund not be made that waits for a second member of staff; whoever asked for it may
    take it back so. Raises ReversalNotFound."""
    _decide(public_id, staff_id, ReversalState.REFUSED)


def _decide(public_id: str, staff_id: int, wanted: ReversalState) -> None:
    row = db.session.execute(
        select(PaymentReversal.id, PaymentReversal.account_id).where(
            PaymentReversal.public_id == public_id,
            PaymentReversal.kind == ReversalKind.REFUND.value,
        )
    ).one_or_none()
    if row is None:
        raise ReversalNotFound

    def work(session: Session) -> bool:
        reversal = session.get_one(PaymentReversal, row.id)
        if reversal.state != ReversalState.ASKED:
            return False
        if wanted is ReversalState.CREATED:
            if reversal.asked_by_id == staff_id:
                raise SamePerson
            reversal.approved_by_id = staff_id
            _begin(session, reversal, session.get_one(Payment, reversal.payment_id))
        else:
            if reversal.asked_by_id != staff_id:
                reversal.approved_by_id = staff_id
            reversal.ended_at = clock.now()
            reversal.state = wanted.value
        revisions.raise_account(session, row.account_id)
        return True

    current_isp()
    if unit_of_work(work, row.account_id):
        _carry_out_now(row.id)


def _gateway() -> PaymentGateway | None:
    gateway: PaymentGateway | None = current_app.extensions["payment_gateway"]
    return gateway


def _carry_out_now(reversal_id: int) -> None:
    """Send what was just committed; what fails is left to the worker."""
    gateway = _gateway()
    if gateway is None:
        return
    try:
        carry_out(reversal_id, gateway)
    except Exception:
        log.exception("a refund is left to the worker", extra={"reversal_id": reversal_id})


def carry_out(reversal_id: int, gateway: PaymentGateway) -> ReversalState:
    """Send a refund that was committed, or ask about one that may have been sent; the state
    afterwards. Safe to repeat."""
    row = db.session.execute(
        select(
            PaymentReversal.key,
            PaymentReversal.state,
            PaymentReversal.amount_minor,
            PaymentReversal.account_id,
            PaymentReversal.created_at,
            PaymentReversal.ask_count,
            Payment.key.label("payment_key"),
        )
        .join(Payment, Payment.id == PaymentReversal.payment_id)
        .where(PaymentReversal.id == reversal_id)
    ).one()
    state = ReversalState(row.state)
    if state not in UNDER_WAY:
        return state
    is_stale = clock.now() - row.created_at >= _RESEND_WITHIN
    try:
        if row.ask_count == 0:
            truth = gateway.refund(row.payment_key, row.key, row.amount_minor)
        else:
            truth = _asked_or_sent(gateway, row, is_stale=is_stale)
    except GatewayRefused as refusal:
        return _end(reversal_id, row.account_id, refusal.customer_message)
    except GatewayUnknownKey:
        if is_stale:
            return _end(reversal_id, row.account_id, _NEVER_ARRIVED)
        return _ask_later(reversal_id, row.account_id)
    except GatewayError:
        return _ask_later(reversal_id, row.account_id)
    return _apply(reversal_id, row.account_id, truth)


def _asked_or_sent(gateway: PaymentGateway, row: Any, *, is_stale: bool) -> RefundTruth:
    try:
        return gateway.ask_refund(row.payment_key, row.key)
    except GatewayUnknownKey:
        if is_stale:
            raise
        return gateway.refund(row.payment_key, row.key, row.amount_minor)


def _end(reversal_id: int, account_id: int, reason: str) -> ReversalState:
    def work(session: Session) -> ReversalState:
        reversal = session.get_one(PaymentReversal, reversal_id)
        if reversal.state in UNDER_WAY:
            _decline(reversal, reason)
            revisions.raise_account(session, account_id)
        return ReversalState(reversal.state)

    return unit_of_work(work, account_id)


def _decline(reversal: PaymentReversal, reason: str) -> None:
    reversal.state = ReversalState.DECLINED.value
    reversal.decline_reason = reason[:300]
    reversal.ended_at = clock.now()
    reversal.ask_at = reversal.claimed_until_at = None


def _ask_later(reversal_id: int, account_id: int) -> ReversalState:
    def work(session: Session) -> ReversalState:
        reversal = session.get_one(PaymentReversal, reversal_id)
        if reversal.state == ReversalState.CREATED:
            reversal.state = ReversalState.UNKNOWN.value
        if reversal.state in UNDER_WAY:
            _schedule(reversal)
        return ReversalState(reversal.state)

    return unit_of_work(work, account_id)


def _schedule(reversal: PaymentReversal) -> None:
    wait = payments.ask_after(PaymentState.UNKNOWN, reversal.ask_count)
    reversal.ask_at = clock.now() + (wait or timedelta(days=1))
    reversal.ask_count += 1
    reversal.claimed_until_at = None


def _apply(reversal_id: int, account_id: int, truth: RefundTruth) -> ReversalState:
    current_isp()

    def work(session: Session) -> ReversalState:
        reversal = session.get_one(PaymentReversal, reversal_id)
        if reversal.state not in UNDER_WAY:
            return ReversalState(reversal.state)
        if (truth.amount_minor, truth.currency) != (reversal.amount_minor, reversal.currency):
            log.critical("a refund differs from our intent", extra={"refund": reversal.public_id})
            _schedule(reversal)
            return ReversalState(reversal.state)
        reversal.gateway_reference = truth.reference or reversal.gateway_reference
        if truth.state is GatewayState.SUCCEEDED:
            book(session, [reversal])
        elif truth.state.is_final:
            _decline(reversal, truth.decline_reason)
            revisions.raise_account(session, account_id)
        else:
            reversal.state = ReversalState.PROCESSING.value
            _schedule(reversal)
        return ReversalState(reversal.state)

    return unit_of_work(work, account_id)


# What banks take back -------------------------------------------------------------------------


def learn(payment_id: int, gateway: PaymentGateway, notice_id: str | None = None) -> int:
    """Book what the payment's bank has moved since, once each; how many were new.

    `notice_id` is stored in the same transaction as its effect. When the gateway does not answer it
    is asked again later. Refunds that are under way are asked about too, and first: what failed of
    those that had arrived is told from what the books have.
    """
    row = db.session.execute(
        select(Payment.key, Payment.account_id).where(Payment.id == payment_id)
    ).one()
    finish_refunds(payment_id, gateway)
    try:
        reversals = gateway.list_reversals(row.key)
        refunds = gateway.list_refunds(row.key)
    except GatewayError as failure:
        log.warning("what a bank took back is not known yet", extra={"reason": str(failure)})
        _look_again(payment_id, row.account_id)
        return 0
    current_isp()

    def work(session: Session) -> int:
        if notice_id is not None and session.get(GatewayNotice, (gateway.name, notice_id)) is None:
            session.add(
                GatewayNotice(gateway=gateway.name, event_id=notice_id, received_at=clock.now())
            )
            session.flush()
        payment = session.get_one(Payment, payment_id)
        payment.ask_at = payment.claimed_until_at = None
        return _take_over(session, payment, gateway.name, reversals, refunds)

    return unit_of_work(work, row.account_id)


def _look_again(payment_id: int, account_id: int) -> None:
    def work(session: Session) -> None:
        payment = session.get_one(Payment, payment_id)
        wait = payments.ask_after(PaymentState.UNKNOWN, payment.ask_count)
        payment.ask_at = clock.now() + (wait or timedelta(days=1))
        payment.ask_count += 1
        payment.claimed_until_at = None

    unit_of_work(work, account_id)


def _list_under_way(payment_id: int) -> Sequence[int]:
    return db.session.scalars(
        select(PaymentReversal.id).where(
            PaymentReversal.payment_id == payment_id,
            PaymentReversal.state.in_([state.value for state in UNDER_WAY]),
        )
    ).all()


def _take_over(
    session: Session,
    payment: Payment,
    gateway_name: str,
    reversals: Sequence[ReversalTruth],
    refunds: Sequence[RefundTruth],
) -> int:
    """Write and book what has moved money and is not known: what the bank took back or gave again,
    refunds that were not made here, and those in our books that were sent back."""
    ours = session.scalars(
        select(PaymentReversal).where(PaymentReversal.payment_id == payment.id)
    ).all()
    known = {reversal.key for reversal in ours}
    moved = [
        _Moved(
            f"{gateway_name}:{truth.reference}",
            ReversalKind(truth.kind),
            truth,
            truth.reason,
            min(truth.happened_at, clock.now()),
        )
        for truth in reversals
        if truth.state is GatewayState.SUCCEEDED
    ]
    moved += _moves_of_refunds(gateway_name, ours, refunds)
    new: list[PaymentReversal] = []
    for each in moved:
        truth = each.truth
        if each.key in known:
            continue
        if truth.currency != payment.currency or truth.amount_minor <= 0:
            log.critical("a reversal is not of our payment", extra={"payment": payment.public_id})
            continue
        new.append(
            PaymentReversal(
                public_id=ids.public_id(),
                key=each.key,
                kind=each.kind.value,
                payment_id=payment.id,
                account_id=payment.account_id,
                amount_minor=truth.amount_minor,
                currency=truth.currency,
                # It is booked within this unit of work; a row that succeeded has its entry.
                state=ReversalState.PROCESSING.value,
                reason=each.reason[:300],
                gateway_reference=str(truth.reference)[:120],
                created_at=each.happened_at,
            )
        )
    session.add_all(new)
    session.flush()
    book(session, new)
    return len(new)


@dataclass(frozen=True, slots=True)
class _Moved:
    """Something that has moved money at the gateway, and the key under which it is booked."""

    key: str
    kind: ReversalKind
    truth: ReversalTruth | RefundTruth
    reason: str
    happened_at: datetime


def _moves_of_refunds(
    gateway_name: str, ours: Sequence[PaymentReversal], refunds: Sequence[RefundTruth]
) -> list[_Moved]:
    """What of the gateway's refunds our books do not have: one made at its own desk, or by us
    before a restore, and a failure of one that they have as given back. While one of ours is under
    way it cannot be told from those that were made elsewhere."""
    made = {
        reversal.gateway_reference: reversal
        for reversal in ours
        if reversal.kind == ReversalKind.REFUND
    }
    is_under_way = any(
        reversal.kind == ReversalKind.REFUND and reversal.state in UNDER_WAY for reversal in ours
    )
    found: list[_Moved] = []
    for truth in refunds:
        key = f"{gateway_name}:{truth.reference}"
        known = made.get(truth.reference)
        if known is None:
            if truth.state is GatewayState.SUCCEEDED and not is_under_way:
                why = "Found at the payment service"
                found.append(_Moved(key, ReversalKind.REFUND, truth, why, clock.now()))
        elif known.state == ReversalState.SUCCEEDED and _has_failed(truth):
            kind, why = ReversalKind.REFUND_FAILED, truth.decline_reason
            found.append(_Moved(f"{key}/failed", kind, truth, why, clock.now()))
    return found


def _has_failed(refund: RefundTruth) -> bool:
    return refund.state.is_final and refund.state is not GatewayState.SUCCEEDED


# What went back in all ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WentBack:
    """What our books have given and lost of a payment, in minor units; `is_under_way`: a refund of
    ours has not ended."""

    refunded_minor: int
    reversed_minor: int
    is_under_way: bool


def went_back(session: Session, payment_id: int, before: datetime | None = None) -> WentBack:
    """What went back of a payment by our books, with `before` what had until then."""
    refunded = reversed_ = 0
    is_under_way = False
    rows = session.execute(
        select(
            PaymentReversal.kind,
            PaymentReversal.state,
            PaymentReversal.amount_minor,
            PaymentReversal.ended_at,
        ).where(PaymentReversal.payment_id == payment_id)
    )
    for row in rows:
        is_under_way = is_under_way or row.state in UNDER_WAY
        if row.state != ReversalState.SUCCEEDED or (before is not None and row.ended_at >= before):
            continue
        minor = -row.amount_minor if row.kind in COMES_AGAIN else row.amount_minor
        if row.kind in (ReversalKind.REFUND, ReversalKind.REFUND_FAILED):
            refunded += minor
        else:
            reversed_ += minor
    return WentBack(refunded, reversed_, is_under_way)


def finish_refunds(payment_id: int, gateway: PaymentGateway) -> None:
    """Ask about the payment's refunds that are under way."""
    for reversal_id in _list_under_way(payment_id):
        carry_out(reversal_id, gateway)


# Booking --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Paid:
    payment: Payment
    reversal: PaymentReversal

    @property
    def is_back(self) -> bool:
        """Whether the money comes to us again."""
        return self.reversal.kind in COMES_AGAIN


def book(session: Session, reversals: Sequence[PaymentReversal]) -> None:
    """Post the entries of `reversals`, open what the payments had settled, tell the customers;
    within the running unit of work over their accounts."""
    isp = current_isp()
    now = clock.now()
    for reversal in reversals:
        paid = _Paid(session.get_one(Payment, reversal.payment_id), reversal)
        sign = 1 if paid.is_back else -1
        kind = ReversalKind(reversal.kind)
        [entry_id] = ledger.post(
            session,
            [
                ledger.Posting(
                    key=f"reversal:{reversal.public_id}",
                    kind=_ENTRY_KINDS[kind],
                    account_id=reversal.account_id,
                    booked_on=clock.day_of(now, isp.timezone),
                    description=_WORDS[kind],
                    lines=(
                        (booking.ledger_of(paid.payment), sign * reversal.amount_minor),
                        (ledger.RECEIVABLE, -sign * reversal.amount_minor),
                    ),
                )
            ],
            isp.currency,
        )
        if paid.is_back:
            credit = ledger.Credit(
                reversal.account_id, entry_id, reversal.amount_minor, paid.payment.invoice_id
            )
            ledger.allocate(session, [credit], now)
        else:
            debit = ledger.Debit(
                reversal.account_id, entry_id, reversal.amount_minor, paid.payment.entry_id
            )
            ledger.reopen(session, debit, now)
        reversal.state = ReversalState.SUCCEEDED.value
        reversal.entry_id = entry_id
        reversal.ended_at = now
        reversal.ask_at = reversal.claimed_until_at = None
        paid.payment.revision += 1
        session.flush()
        _tell(session, paid, now)
        if paid.is_back:
            releasing.lift_unpaid(session, [reversal.account_id], clock.day_of(now, isp.timezone))


def _tell(session: Session, paid: _Paid, now: datetime) -> None:
    reversal = paid.reversal
    kind = EVENTS[ReversalKind(reversal.kind)]
    facts = {
        "amount_minor": reversal.amount_minor,
        "currency": reversal.currency,
        "payment": paid.payment.public_id,
    }
    activity.record(
        session,
        [
            activity.Event(
                kind,
                now,
                account_id=reversal.account_id,
                customer_id=paid.payment.customer_id,
                facts=facts,
            )
        ],
    )
    customer_id = paid.payment.customer_id or telling.find_owner(session, reversal.account_id)
    if customer_id is not None:
        by = booking.ledger_of(paid.payment) if paid.payment.gateway in BY_HAND else ""
        telling.tell(
            session,
            "payment_reversed",
            reversal.account_id,
            customer_id,
            {**facts, "how": reversal.kind, "by": by},
        )
    if reversal.kind == ReversalKind.REFUND_FAILED:
        telling.tell_of_failed_refund(session, reversal)


# The worker's part ----------------------------------------------------------------------------


def ask_due(gateway: PaymentGateway | None) -> int:
    """Send and ask about refunds whose time has come; returns how many."""
    if gateway is None:
        return 0

    return due_work.do(
        PaymentReversal,
        PaymentReversal.ask_at,
        lambda reversal_id: carry_out(reversal_id, gateway),
    )
