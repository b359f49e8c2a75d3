"""Booking money that has arrived: its entry, the invoices it settles, the holds it lifts, the
receipt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ScalarSelect, Select, bindparam, case, func, null, select
from sqlalchemy.orm import Session

from blueprints.billing import ledger
from blueprints.billing.dunning import releasing
from core import activity, clock, ids, outbox, topics
from core.isp import current_isp
from core.topics import Topic
from gateways.payments.base import Truth
from models import (
    Account,
    Channel,
    Contact,
    ContactKind,
    Customer,
    EntryKind,
    Membership,
    Payment,
    PaymentState,
    Role,
)

COUNTER, BANK, VOUCHER = "counter", "bank", "voucher"
"""What stands in the place of a gateway's name where money came without one."""
WITHOUT_GATEWAY = frozenset({COUNTER, BANK, VOUCHER})
CASH, CHEQUE = "cash", "cheque"
"""The kinds of money at the counter, each a ledger account of its own."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Money that has arrived without a gateway; `gateway` says how. `key` is unique for good."""

    key: str
    account_id: int
    gateway: str
    amount_minor: int
    method: str = ""
    reference: str | None = None
    customer_id: int | None = None
    taken_by_id: int | None = None
    note: str = ""


def book_arrival(session: Session, arrival: Arrival, arrived_at: datetime | None = None) -> Payment:
    """Write a payment that has arrived without a gateway and book it, in the running unit of work
    over its account. A key used before raises IntegrityError."""
    payment = Payment(
        public_id=ids.public_id(),
        key=arrival.key,
        account_id=arrival.account_id,
        customer_id=arrival.customer_id,
        amount_minor=arrival.amount_minor,
        currency=current_isp().currency,
        # Another payment of the account may be under way meanwhile; this state is in nobody's way.
        state=PaymentState.PROCESSING.value,
        gateway=arrival.gateway,
        gateway_reference=arrival.reference,
        method=arrival.method,
        taken_by_id=arrival.taken_by_id,
        note=arrival.note,
        created_at=clock.now(),
    )
    session.add(payment)
    session.flush()
    book(session, [(payment, None)], {payment.id: arrived_at} if arrived_at is not None else {})
    return payment


def ledger_of(payment: Payment) -> str:
    """The account of the books that the money went to."""
    if payment.gateway == COUNTER:
        return payment.method
    return payment.gateway if payment.gateway in WITHOUT_GATEWAY else f"gateway:{payment.gateway}"


def book(
    session: Session,
    received: Sequence[tuple[Payment, Truth | None]],
    paid_at: Mapping[int, datetime],
) -> None:
    """Post the entries of payments that have arrived, settle invoices, lift holds, tell people.

    The truth of each is its gateway's; there is none where money came without a gateway.
    """
    now = clock.now()
    isp = current_isp()
    today = clock.today(isp.timezone)
    arrived_at = {payment.id: paid_at.get(payment.id, now) for payment, _ in received}
    entry_ids = ledger.post(
        session,
        [
            ledger.Posting(
                key=f"payment:{payment.public_id}",
                kind=EntryKind.PAYMENT,
                account_id=payment.account_id,
                booked_on=clock.day_of(arrived_at[payment.id], isp.timezone),
                description="Payment",
                lines=(
                    (ledger_of(payment), payment.amount_minor),
                    (ledger.RECEIVABLE, -payment.amount_minor),
                ),
            )
            for payment, _ in received
        ],
        isp.currency,
    )
    for (payment, truth), entry_id in zip(received, entry_ids, strict=True):
        payment.state = PaymentState.SUCCEEDED.value
        payment.entry_id = entry_id
        payment.revision += 1
        if truth is not None:
            payment.gateway_reference = truth.reference or payment.gateway_reference
            payment.method = truth.method[:120]
        payment.decline_reason = ""
        payment.ended_at = arrived_at[payment.id]
        payment.ask_at = None
        payment.claimed_until_at = None
    session.flush()
    ledger.allocate(
        session,
        [
            ledger.Credit(payment.account_id, entry_id, payment.amount_minor, payment.invoice_id)
            for (payment, _), entry_id in zip(received, entry_ids, strict=True)
        ],
        now,
    )
    account_ids = sorted({payment.account_id for payment, _ in received})
    releasing.lift_unpaid(session, account_ids, today)
    activity.record(
        session,
        [
            activity.Event(
                "payment_received",
                arrived_at[payment.id],
                account_id=payment.account_id,
                customer_id=payment.customer_id,
                facts={
                    "amount_minor": payment.amount_minor,
                    "currency": payment.currency,
                    "payment": payment.public_id,
                },
            )
            for payment, _ in received
        ],
    )
    _queue_receipts(session, [payment for payment, _ in received])


def _oldest(kind: ContactKind) -> ScalarSelect[str]:
    return (
        select(Contact.value)
        .where(
            Contact.account_id == Payment.account_id,
            Contact.kind == kind.value,
            Contact.ended_on.is_(None),
        )
        .order_by(Contact.since_on, Contact.id)
        .limit(1)
        .scalar_subquery()
    )


def _finding_addressees() -> Select[*tuple[Any, ...]]:
    owner = (
        select(func.min(Membership.customer_id))
        .where(Membership.account_id == Payment.account_id, Membership.role == Role.OWNER.value)
        .scalar_subquery()
    )
    email = func.coalesce(_oldest(ContactKind.EMAIL), Customer.email_key)
    by_email = topics.wants(Customer.id, Topic.PAYMENTS, Channel.EMAIL)
    by_text = topics.wants(Customer.id, Topic.PAYMENTS, Channel.TEXT)
    return (
        select(
            Payment.id,
            case((by_email, email), else_=null()).label(Channel.EMAIL.value),
            case((by_text, _oldest(ContactKind.PHONE)), else_=null()).label(Channel.TEXT.value),
            Customer.id.label("customer_id"),
            func.coalesce(Customer.language, Account.language).label("language"),
            Account.number,
        )
        .select_from(Payment)
        .join(Account, Account.id == Payment.account_id)
        .outerjoin(Customer, Customer.id == func.coalesce(Payment.customer_id, owner))
        .where(Payment.id.in_(bindparam("payments", expanding=True)))
    )


_FIND_ADDRESSEES = _finding_addressees()


def _queue_receipts(session: Session, payments: Sequence[Payment]) -> None:
    """A receipt by the channels that are wanted: to whoever paid while signed in, and of money that
    came without a gateway, to the account's owner."""
    told = [
        payment
        for payment in payments
        if payment.customer_id is not None or payment.gateway in WITHOUT_GATEWAY
    ]
    if not told:
        return
    addressees = {
        row.id: row
        for row in session.connection().execute(
            _FIND_ADDRESSEES, {"payments": [payment.id for payment in told]}
        )
    }
    outbox.queue(
        session,
        [
            outbox.Letter(
                "receipt",
                recipient,
                addressees[payment.id].language,
                account_id=payment.account_id,
                customer_id=addressees[payment.id].customer_id,
                channel=channel.value,
                facts={
                    "amount_minor": payment.amount_minor,
                    "currency": payment.currency,
                    "payment": payment.public_id,
                    "account_number": addressees[payment.id].number,
                },
            )
            for payment in told
            for channel in topics.CHANNELS
            if (recipient := getattr(addressees[payment.id], channel.value))
        ],
    )
